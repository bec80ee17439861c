"""What each instruction of a Dockerfile does to an image that is being built.

An action changes the state and returns the entries of its layer (none: it changes the configuration only).
"""

from __future__ import annotations

import posixpath
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from podlab.errors import ImageError
from podlab.images import catalogue, layers
from podlab.images.context import Context, Found
from podlab.images.dockerfile import Instruction
from podlab.images.image import variables
from podlab.images.layers import Entry
from podlab.images.layout import Descriptor
from podlab.images.rooted import look, resolve_by
from podlab.images.users import identify
from podlab.images.words import expand

_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE | re.ASCII)


@dataclass
class State:
    """The image as far as it is built.

    `root` is the base's unpacked tree (None: from scratch), `borrowed` what it borrows from the machine,
    `made` what our layers add to the tree: path -> kind, as podlab.images.unpack.look tells it.
    """

    config: dict[str, Any]
    layers: list[Descriptor]
    root: Path | None
    borrowed: tuple[str, ...]
    made: dict[str, str] = field(default_factory=dict)
    command_is_ours: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        return self.config["config"]

    @property
    def variables(self) -> dict[str, str]:
        return variables(self.settings)

    def kind_of(self, path: str) -> str | None:
        if path in self.made:
            return self.made[path]
        return look(self.root / path) if self.root else None

    def place(self, path: str) -> str:
        """`path` with the image's own links resolved, relative to its root."""
        return resolve_by(self.kind_of, path, shown="the image")


def _copy(state: State, instruction: Instruction, context: Context) -> list[Entry]:
    *words, to = (expand(word, state.variables) for word in instruction.words)
    sources = [found for word in words for found in context.sources(word)]
    directory = state.settings.get("WorkingDir") or "/"
    into = to.endswith("/") or to in (".", "..") or to.endswith(("/.", "/.."))
    target = state.place(posixpath.join(directory, to))
    if len(sources) > 1 and not (into or state.kind_of(target) == "folder"):
        raise ImageError(
            f"COPY has {len(sources)} sources, so the destination must be a folder and end with '/': {to}/"
        )
    into = into or state.kind_of(target) == "folder"
    owner = _owner(state, instruction.flags.get("chown", ""))
    mode = _mode(instruction.flags.get("chmod", ""))
    entries: dict[str, Entry] = {}
    for source in sources:
        if source.is_folder:
            _folder_entries(state, context, source, target, owner, mode, entries)
        else:
            place = state.place(posixpath.join(target, source.name)) if into else target
            _add(state, entries, _entry(context, source, place, owner, mode), owner)
    return list(entries.values())


def _folder_entries(
    state: State,
    context: Context,
    source: Found,
    target: str,
    owner: tuple[int, int],
    mode: int | None,
    entries: dict[str, Entry],
) -> None:
    """The contents of a folder (not the folder itself), into `target`."""
    if target:
        _add(state, entries, Entry(target, "folder", 0o755, uid=owner[0], gid=owner[1]), owner)
    for found in context.below(source.path):
        inside = posixpath.relpath(found.path, source.path)
        place = posixpath.join(target, inside)
        parent = state.place(posixpath.dirname(place))
        place = posixpath.join(parent, posixpath.basename(place))
        _add(state, entries, _entry(context, found, place, owner, mode), owner)


def _entry(context: Context, found: Found, place: str, owner: tuple[int, int], mode: int | None) -> Entry:
    bits = found.status.st_mode
    uid, gid = owner
    permissions = stat.S_IMODE(bits) if mode is None else mode
    if stat.S_ISDIR(bits):
        return Entry(place, "folder", permissions, uid=uid, gid=gid)
    if stat.S_ISLNK(bits):
        return Entry(place, "link", 0o777, target=str((context.folder / found.path).readlink()), uid=uid, gid=gid)
    if stat.S_ISREG(bits):
        return Entry(place, "file", permissions, source=context.folder / found.path, uid=uid, gid=gid)
    raise ImageError(
        f"{context.folder / found.path} is neither a file nor a folder nor a link.",
        hint="Remove it or name it in .dockerignore.",
    )


def _add(state: State, entries: dict[str, Entry], entry: Entry, owner: tuple[int, int]) -> None:
    """Add an entry with the folders above it that are not there yet."""
    _check_place(state, entry.path)
    parts = entry.path.split("/")
    for count in range(1, len(parts)):
        above = "/".join(parts[:count])
        kind = state.kind_of(above)
        if kind is None:
            entries[above] = Entry(above, "folder", 0o755, uid=owner[0], gid=owner[1])
            state.made[above] = "folder"
        elif kind == "file":
            raise ImageError(f"/{above} is a file in the image, so nothing can be copied below it.")
    there = state.kind_of(entry.path)
    if entry.kind == "folder" and there == "folder" and entry.path not in entries:
        return
    if entry.kind != "folder" and there == "folder":
        raise ImageError(f"/{entry.path} is a folder in the image; a file cannot replace it.")
    entries[entry.path] = entry
    state.made[entry.path] = f"link:{entry.target}" if entry.kind == "link" else entry.kind


def _check_place(state: State, path: str) -> None:
    if not path:
        raise ImageError("the destination of a file cannot be the root folder itself.")
    place = f"/{path}"
    for borrowed in state.borrowed:
        if place == borrowed or place.startswith(borrowed + "/"):
            raise ImageError(
                f"{place} is in {borrowed}, which images on this base borrow read-only from the machine.",
                hint="Copy to a folder of the image's own, such as /app or /opt.",
            )


def _owner(state: State, chown: str) -> tuple[int, int]:
    """The numbers of --chown; as in Docker, the group is the user's number unless it is given."""
    if not chown:
        return 0, 0
    user, _, group = expand(chown, state.variables).partition(":")
    named = identify(state.root, f"{user}:{group}" if group else user)
    return named.uid, named.gid if group else named.uid


def _mode(chmod: str) -> int | None:
    if not chmod:
        return None
    if not re.fullmatch(r"[0-7]{3,4}", chmod):
        raise ImageError(f"--chmod={chmod} is no octal mode, such as 755.")
    return int(chmod, 8)


def _environment(state: State, instruction: Instruction, _: Context) -> list[Entry]:
    variables = state.variables
    new = {name: expand(value, variables) for name, value in instruction.pairs}
    state.settings["Env"] = [f"{name}={value}" for name, value in {**variables, **new}.items()]
    return []


def _labels(state: State, instruction: Instruction, _: Context) -> list[Entry]:
    variables = state.variables
    new = {expand(name, variables): expand(value, variables) for name, value in instruction.pairs}
    own = [name for name in new if name.startswith(catalogue.LABEL_PREFIX)]
    if own:
        raise ImageError(f"the label {own[0]} is podlab's own and cannot be set.")
    state.settings["Labels"] = {**(state.settings.get("Labels") or {}), **new}
    return []


def _working_directory(state: State, instruction: Instruction, _: Context) -> list[Entry]:
    path = expand(instruction.words[0], state.variables)
    full = posixpath.normpath(posixpath.join(state.settings.get("WorkingDir") or "/", path))
    full = "/" + full.lstrip("/")
    state.settings["WorkingDir"] = full
    place = state.place(full)
    kind = state.kind_of(place) if place else "folder"
    if kind == "file":
        raise ImageError(f"WORKDIR {full}: there is a file of that name in the image.")
    if kind == "folder" or _is_borrowed(state, place):
        return []
    entries: dict[str, Entry] = {}
    _add(state, entries, layers.folder(place), (0, 0))
    return list(entries.values())


def _is_borrowed(state: State, place: str) -> bool:
    return any(f"/{place}/".startswith(f"{path}/") for path in state.borrowed)


def _entrypoint(state: State, instruction: Instruction, _: Context) -> list[Entry]:
    state.settings["Entrypoint"] = list(instruction.words)
    if not state.command_is_ours:
        state.settings.pop("Cmd", None)
    return []


def _command(state: State, instruction: Instruction, _: Context) -> list[Entry]:
    state.settings["Cmd"] = list(instruction.words)
    state.command_is_ours = True
    return []


def _expose(state: State, instruction: Instruction, _: Context) -> list[Entry]:
    ports = dict(state.settings.get("ExposedPorts") or {})
    for word in (expand(word, state.variables) for word in instruction.words):
        match = _PORT.fullmatch(word)
        first = int(match[1]) if match else 0
        last = int(match[2] or first) if match else 0
        if not match or not 1 <= first <= last <= 65535:
            raise ImageError(f"EXPOSE {word}: not a port such as 8080, 8080/udp or 8000-8010.")
        protocol = (match[3] or "tcp").lower()
        ports.update({f"{port}/{protocol}": {} for port in range(first, last + 1)})
    state.settings["ExposedPorts"] = dict(sorted(ports.items()))
    return []


def _user(state: State, instruction: Instruction, _: Context) -> list[Entry]:
    user = expand(instruction.words[0], state.variables)
    identify(state.root, user)
    state.settings["User"] = user
    return []


ACTIONS: dict[str, Callable[[State, Instruction, Context], list[Entry]]] = {
    "COPY": _copy,
    "ENV": _environment,
    "LABEL": _labels,
    "WORKDIR": _working_directory,
    "ENTRYPOINT": _entrypoint,
    "CMD": _command,
    "EXPOSE": _expose,
    "USER": _user,
}
