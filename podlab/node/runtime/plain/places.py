"""Where the paths of a container are when it has no file tree of its own: what programs are told, and their commands.

A container's folder `root` holds a copy of its image's own files (the bundled bases borrow the rest from the machine).
Python programs have every path translated (inside/podlab_plain_files.py); for others the paths in the command itself
are replaced: an argument that is a path, and the known paths in the script of a shell. Standard library only.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

_HERE = os.path.dirname(os.path.abspath(__file__))
_INSIDE = os.path.join(_HERE, "inside")
_FICTION = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(_HERE))), "network", "fiction.py")
#: What every program finds on the machine itself.
_MACHINE = ("/proc", "/dev", "/sys", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/usr")
_SHELLS = ("sh", "bash", "dash", "ash", "busybox")
#: Python's flags that leave out the module that translates (-I, -E: no PYTHONPATH; -S: no sitecustomize).
_ISOLATED = re.compile(r"-[a-zA-Z]*[IES][a-zA-Z]*")
_ISOLATED_IN_SCRIPT = re.compile(r"(\bpython[0-9.]*\s+)(-[a-zA-Z]*[IES][a-zA-Z]*)(?=\s)")
_SCRIPT_LIMIT = 1 << 20
_BORROWED_ONLY = (
    "it brings a system of its own, which needs a file tree of its own: the plain runtime runs images that are built "
    "on podlab/python and podlab/toolbox"
)


class NotHere(ValueError):
    """The plain runtime cannot run this container truthfully."""


def refuse(spec: Mapping) -> None:
    """Raise NotHere if the plain runtime cannot run a container as it is asked for."""
    if not spec["root"]["host_paths"]:
        raise NotHere(f"the image cannot be used: {_BORROWED_ONLY}")
    if spec["privileged"]:
        raise NotHere("a privileged container needs namespaces, which the plain runtime has not")


class Places:
    """The paths of one container."""

    def __init__(self, spec: Mapping, node: Mapping) -> None:
        self.root = os.path.join(spec["folder"], "root")
        self._spec, self._node = spec, node
        self.table = sorted(self._table(), key=lambda place: len(place[0]), reverse=True)
        self._known = re.compile(
            r"(?<![\w./}-])(" + "|".join(re.escape(here) for here, _ in self.table) + r")(?=$|[^\w.-])"
        )

    def _table(self) -> list[tuple[str, str]]:
        found = {path: self.root + path for path in ("/tmp", *self._spec["files"])}
        for layer in self._spec["root"]["layers"]:
            for path in _own_folders(layer, "", self._borrowed()):
                found[path] = self.root + path
        for mount in self._spec["mounts"]:
            found[mount["target"].rstrip("/") or "/"] = _source(mount)
        found.pop("/", None)
        return list(found.items())

    def _borrowed(self) -> Sequence[str]:
        return self._spec["root"]["host_paths"]

    def make(self) -> None:
        """Copy the image's own files, write the node's, and link to the volumes."""
        os.makedirs(self.root, exist_ok=True)
        for layer in self._spec["root"]["layers"]:
            shutil.copytree(layer, self.root, symlinks=True, dirs_exist_ok=True)
        _make_writable(self.root)
        for path in ("/tmp", "/dev", "/proc"):
            os.makedirs(self.root + path, exist_ok=True)
        for path, text in self._spec["files"].items():
            _fresh(self.root + path)
            Path(self.root + path).write_text(text)
        self._lead_scripts_home()
        for mount in sorted(self._spec["mounts"], key=lambda one: one["target"]):
            place = self.root + mount["target"].rstrip("/")
            if place == self.root or os.path.lexists(place):
                continue
            try:
                os.makedirs(os.path.dirname(place), exist_ok=True)
                os.symlink(_source(mount), place)
            except OSError:
                pass  # inside of another volume: the table still knows it
        Path(self.description).write_text(json.dumps(self.describe()))

    @property
    def description(self) -> str:
        """The file that Python programs of the container read first."""
        return os.path.join(self._spec["folder"], "plain.json")

    def describe(self) -> dict:
        """What inside/sitecustomize.py is told."""
        node = self._node
        return {
            "fiction": _FICTION,
            "loopback": node["loopback"],
            "address": node["pod_address"],
            "hostname": node["hostname"],
            "fixed": node["fixed"],
            "kept": [node["api"]],
            "dns": node["dns"],
            "services": node["services"],
            "hosts": self.root + "/etc/hosts",
            "resolver": self.root + "/etc/resolv.conf",
            "root": self.root,
            "places": self.table,
            "real": [*node["real"], os.path.dirname(_FICTION), _INSIDE],
            "machine": [*_MACHINE, *self._borrowed()],
        }

    def environment(self, given: Mapping[str, str]) -> dict[str, str]:
        """The environment of a program of the container."""
        found = dict(given)
        found["PATH"] = ":".join(self.where(part) for part in found.get("PATH", os.defpath).split(":"))
        found["PYTHONPATH"] = ":".join(
            [_INSIDE, *filter(None, map(self.where, found.get("PYTHONPATH", "").split(":")))]
        )
        found["PODLAB_PLAIN"] = self.description
        found["PODLAB_ROOT"] = self.root
        found["PODLAB_NODE"] = self._node["folder"]
        found.setdefault("TMPDIR", self.root + "/tmp")
        if "KUBERNETES_SERVICE_HOST" in found:
            # Programs that are not Python reach the API server, too: its certificate holds for this address.
            host, port = self._node["api"]
            found |= {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": str(port)}
            found |= {"KUBERNETES_SERVICE_PORT_HTTPS": str(port)}
        return found

    def where(self, path: str) -> str:
        """The real place of an absolute path of the container."""
        if not path.startswith("/") or any(path.startswith(real + "/") for real in self._node["real"]):
            return path
        for here, there in self.table:
            if path == here or path.startswith(here + "/"):
                return there + path[len(here) :]
        return self.root + path if os.path.lexists(self.root + path) and not self._is_machines(path) else path

    def shown(self, text: str) -> str:
        """A message with the container's own paths in it."""
        for here, there in self.table:
            text = text.replace(there, here)
        return text.replace(self.root, "")

    def _is_machines(self, path: str) -> bool:
        return any(path == here or path.startswith(here + "/") for here in (*_MACHINE, *self._borrowed()))

    def folder(self, path: str) -> str:
        """The real working folder; made if it is not there."""
        if self._is_machines(path):
            return path
        place = self.where(path)
        place = place if place != path else self.root + path.rstrip("/")
        os.makedirs(place, exist_ok=True)
        return place

    def command(self, argv: Sequence[str]) -> list[str]:
        """A command line with the paths of the container replaced by real ones, and without what would escape."""
        if not argv:
            return []
        name = os.path.basename(argv[0])
        rest = _together(argv[1:]) if name.startswith("python") else argv[1:]
        return [self.where(argv[0]), *(self._argument(text, name in _SHELLS) for text in rest)]

    def _argument(self, text: str, script: bool) -> str:
        if script and not re.fullmatch(r"/\S*", text):
            text = _ISOLATED_IN_SCRIPT.sub(lambda found: found[1] + _flags(found[2]), text)
            return self._known.sub(lambda found: dict(self.table)[found[1]], text)
        return self.where(text)

    def _lead_scripts_home(self) -> None:
        """Programs of the image that name their interpreter by a path of the image: let them name the real one."""
        for folder, _, names in os.walk(self.root):
            for name in names:
                path = os.path.join(folder, name)
                kind = os.lstat(path)
                if stat.S_ISREG(kind.st_mode) and kind.st_mode & 0o111 and kind.st_size < _SCRIPT_LIMIT:
                    self._lead_home(path)

    def _lead_home(self, path: str) -> None:
        text = Path(path).read_bytes()
        if not text.startswith(b"#!/"):
            return
        first, _, rest = text.partition(b"\n")
        program, _, flags = os.fsdecode(first[2:]).strip().partition(" ")
        real = self.where(program)
        if real == program:
            return
        if os.path.basename(program).startswith("python"):
            flags = "" if _ISOLATED.fullmatch(flags) else flags
            if not os.path.exists(os.path.join(os.path.dirname(real), "..", "pyvenv.cfg")):
                real = os.path.realpath(real)
        _fresh(path)
        Path(path).write_bytes(os.fsencode(f"#!{real} {flags}".rstrip()) + b"\n" + rest)
        os.chmod(path, 0o755)


def _own_folders(layer: str, path: str, borrowed: Sequence[str]) -> list[str]:
    """The folders and files of an image that hold nothing borrowed, as few as possible."""
    found: list[str] = []
    for entry in os.scandir(layer + path):
        here = f"{path}/{entry.name}"
        if entry.is_symlink() or here in borrowed or here in _MACHINE:
            continue
        if entry.is_dir() and any(one.startswith(here + "/") for one in borrowed):
            found += _own_folders(layer, here, borrowed)
        else:
            found.append(here)
    return found


def _source(mount: Mapping) -> str:
    """Where a mount's files are; NotHere if a link leads out of the folder that it must stay in."""
    source, within = mount["source"], mount["within"]
    if within:
        real, top = os.path.realpath(source), os.path.realpath(within)
        if real != top and not real.startswith(top + "/"):
            raise NotHere(f"{mount['target']} cannot be had: a link leads out of its volume")
        return real
    return source


def _together(arguments: Sequence[str]) -> list[str]:
    """Python's arguments without the flags that leave out what gives a program its pod's address."""
    found = list(arguments)
    for place, text in enumerate(found):
        if not text.startswith("-") or text in ("-c", "-m", "-"):
            break
        if _ISOLATED.fullmatch(text):
            found[place] = _flags(text)
    return found


def _flags(text: str) -> str:
    """Flags without -S and -E, and with what else -I means; `-u`, which a container has anyway, if nothing is left."""
    kept = "".join("Ps" if letter == "I" else letter for letter in text if letter not in "SE")
    return kept if kept != "-" else "-u"


def _make_writable(top: str) -> None:
    """Give the owner the right to write to the folders of a copied layer."""
    for folder, names, _ in os.walk(top):
        os.chmod(folder, stat.S_IMODE(os.stat(folder).st_mode) | 0o700)
        names[:] = [name for name in names if not os.path.islink(os.path.join(folder, name))]


def _fresh(path: str) -> None:
    """Make room for a new file at `path`: what is there may be a link to somewhere else."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.lexists(path):
        os.unlink(path)
