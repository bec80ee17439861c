"""Who a container runs as: names and numbers of the image's own /etc/passwd and /etc/group."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from podlab.errors import ImageError, ImagePullError
from podlab.images.rooted import resolve

#: Largest account file that is read (bytes).
LARGEST = 4 << 20


@dataclass(frozen=True)
class Identity:
    """Numbers of a user: `groups` are the further ones that /etc/group gives to it; `home` is its folder."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    home: str = "/"
    name: str = ""


def identify(root: Path | None, user: str) -> Identity:
    """The identity that `USER` means in the image at `root` (None: an empty one).

    `user` is as in a Dockerfile: "", "1000", "nginx", "nginx:www", "1000:33".

    Raises ImagePullError (reason ErrImagePull) if a name is not in the image. A number need not be.
    """
    wanted, _, wanted_group = user.partition(":")
    wanted = wanted or "0"
    accounts = list(_lines(root, "etc/passwd", 6, slice(2, 4)))
    groups = list(_lines(root, "etc/group", 3, slice(2, 3)))
    number = _number(wanted)
    found = next((a for a in accounts if (a[2] == wanted if number is not None else a[0] == wanted)), None)
    if found is None:
        if number is None:
            raise _unknown("user", wanted)
        found = ["", "", str(number), "0", "", "/"]
    name, uid, gid, home = found[0], int(found[2]), int(found[3]), found[5]
    if wanted_group:
        gid = _group(groups, wanted_group)
        further: tuple[int, ...] = ()
    else:
        member = (int(g[2]) for g in groups if len(g) > 3 and name and name in g[3].split(","))
        further = tuple(sorted(set(member) - {gid}))
    return Identity(uid, gid, further, home or "/", name)


def _group(groups: list[list[str]], wanted: str) -> int:
    number = _number(wanted)
    if number is not None:
        return number
    for group in groups:
        if group[0] == wanted:
            return int(group[2])
    raise _unknown("group", wanted)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None


def _unknown(kind: str, name: str) -> ImagePullError:
    return ImagePullError(
        f"The image says that it runs as {kind} {name!r}, but its /etc has no such {kind}.",
        hint="Set a number, in the image's USER or the pod's securityContext.",
    )


def _lines(root: Path | None, path: str, fields: int, numbers: slice) -> Iterator[list[str]]:
    """The well-formed lines of an account file, split; nothing where there is no such file."""
    if root is None:
        return
    try:
        file = root / resolve(root, path)
        if not file.is_file():
            return
        with file.open("rb") as opened:
            text = opened.read(LARGEST).decode("utf-8", "surrogateescape")
    except (OSError, ImageError):
        return
    for line in text.splitlines():
        parts = line.split(":")
        if len(parts) >= fields and all(_number(part) is not None for part in parts[numbers]):
            yield parts
