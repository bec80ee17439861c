"""Submissions where they arrive: a folder, a zip that an LMS exported, or nbgrader's exchange.

Nothing is unpacked. Names are only read to learn whose a file is; a path that leaves the archive, a link, and an
entry that unpacks to far more than it weighs are refused by name.
"""

from __future__ import annotations

import re
import stat
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from podlab.errors import GradingError
from podlab.grading.submissions import LARGEST_NOTEBOOK, Unreadable, read_bytes

#: Entries of one archive that are looked at, and how much larger than packed one may be.
MOST_ENTRIES = 20_000
MOST_RATIO = 200
#: Everybody may write into an exchange, and only for its own form of names is the owner looked at.
ANYBODYS = "It is not in the exchange's form LEARNER+ASSIGNMENT+TIME/ASSIGNMENT.ipynb: it may be anybody's."


@dataclass(frozen=True)
class Label:
    """What a file's path says: who, in which way of naming, and the LMS's number of him."""

    who: str
    way: str
    number: str = ""


@dataclass(frozen=True)
class Arrival:
    """One file. `refused` says why it has no `data`; `changed` is when the machine or the LMS last saw it change."""

    label: Label
    path: str
    changed: datetime
    data: bytes | None = None
    refused: str = ""


#: The usual ways in which files are named, tried in this order. ASSIGNMENT stands for the assignment's name.
WAYS = (
    ("moodle", r"(?P<who>[^/]+?)_(?P<number>\d+)_assignsubmission_file_?/?[^/]*\.ipynb"),
    ("canvas", r"(?P<who>[^/_]+)(?:_LATE)?_(?P<number>\d+)_\d+_[^/]+\.ipynb"),
    ("exchange", r"(?P<who>[^/]+?)\+ASSIGNMENT\+[^/+]+(?:\+[^/]*)?/ASSIGNMENT\.ipynb"),
    ("folder", r"(?P<who>[^/]+)/ASSIGNMENT/ASSIGNMENT\.ipynb"),
    ("folder", r"(?P<who>[^/]+)/[^/]+\.ipynb"),
    ("file", r"(?P<who>[^/]+)\.ipynb"),
)


def label(path: str, assignment: str) -> Label | None:
    """Whose the file at a relative path is; None for a file that is no submission."""
    for way, pattern in WAYS:
        if found := re.fullmatch(pattern.replace("ASSIGNMENT", re.escape(assignment)), path):
            return Label(found["who"], way, found.groupdict().get("number") or "")
    return None


def arrivals(source: Path, assignment: str, now: datetime) -> list[Arrival]:
    """Everything in `source` that can be a submission of this assignment."""
    if source.is_file():
        return _of_zip(source, assignment, now)
    if source.is_dir():
        return _of_folder(source, assignment)
    raise GradingError(f"{source} is neither a folder nor a zip file.", hint="Give what the LMS exported, as it is.")


def _of_folder(folder: Path, assignment: str) -> list[Arrival]:
    if (folder / "inbound").is_dir():
        folder = folder / "inbound"  # an exchange's course
    found = []
    for path, name in _named(_files(folder), folder, assignment):
        # The time of the last change of the file's inode: the machine's, which no learner can set back.
        changed = datetime.fromtimestamp(path.lstat().st_ctime, UTC)
        if folder.name == "inbound" and name.way != "exchange":
            if path.parent.name.split("+")[1:2] in ([], [assignment]):  # else of another assignment
                found.append(Arrival(Label("", name.way), str(path), changed, refused=ANYBODYS))
            continue
        try:
            found.append(Arrival(name, str(path), changed, read_bytes(path)))
        except Unreadable as reason:
            found.append(Arrival(name, str(path), changed, refused=str(reason)))
    return found


def _files(folder: Path) -> Iterator[Path]:
    """Files at most three levels down, never through a link."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_symlink() or not path.is_dir():
            yield path
            continue
        for inner in sorted(path.iterdir()):
            if inner.is_symlink() or not inner.is_dir():
                yield inner
            else:
                yield from sorted(each for each in inner.iterdir() if each.is_symlink() or not each.is_dir())


def _named(files: Iterable[Path], folder: Path, assignment: str) -> Iterator[tuple[Path, Label]]:
    for path in files:
        if name := label(path.relative_to(folder).as_posix(), assignment):
            if name.way == "folder" and (inner := path.parent / assignment).is_dir() and path.parent != inner:
                continue  # a stray notebook beside the assignment's own folder
            yield path, name


def _of_zip(file: Path, assignment: str, now: datetime) -> list[Arrival]:
    try:
        with zipfile.ZipFile(file) as archive:
            entries = [each for each in archive.infolist() if not each.is_dir()]
            if len(entries) > MOST_ENTRIES:
                raise GradingError(f"{file} has {len(entries)} entries; at most {MOST_ENTRIES} are looked at.")
            root = _common(entries)
            found = []
            for entry in entries:
                path = entry.filename[len(root) :]
                name = label(path, assignment)
                if name is None or path.startswith("__MACOSX/") or PurePosixPath(path).name.startswith("."):
                    if reason := _unsafe(entry):
                        found.append(Arrival(Label("", "zip"), f"{file.name}:{entry.filename}", now, refused=reason))
                    continue
                found.append(_entry(archive, entry, name, f"{file.name}:{entry.filename}", now))
            return found
    except (zipfile.BadZipFile, NotImplementedError, OSError) as error:
        raise GradingError(f"{file} cannot be read as a zip file: {error}.", hint="Export it once more.") from error


def _common(entries: Sequence[zipfile.ZipInfo]) -> str:
    """The one folder that everything in an archive is in, with its slash; empty where there is none."""
    tops = {entry.filename.partition("/")[0] for entry in entries if not entry.filename.startswith("__MACOSX/")}
    learners = {entry.filename.split("/")[1] for entry in entries if entry.filename.count("/") >= 1}
    if len(tops) == 1 and len(learners) > 1 and all("/" in entry.filename for entry in entries):
        return tops.pop() + "/"
    return ""


def _unsafe(entry: zipfile.ZipInfo) -> str:
    """Why an entry is not looked at; empty for a harmless one."""
    parts = entry.filename.replace("\\", "/").split("/")
    if ".." in parts or entry.filename.startswith(("/", "\\")) or ":" in parts[0]:
        return "Its path leads out of the archive."
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        return "It is a link or another special file."
    if entry.flag_bits & 1:
        return "It is encrypted."
    if entry.file_size > LARGEST_NOTEBOOK:
        return (
            f"It has {entry.file_size / 1e6:.0f} MB; at most {LARGEST_NOTEBOOK / 1e6:.0f} MB are accepted. "
            "Clear the outputs and submit again."
        )
    if entry.file_size > 100_000 and entry.file_size > MOST_RATIO * max(1, entry.compress_size):
        return f"It unpacks to {entry.file_size // max(1, entry.compress_size)} times its size: a zip bomb."
    return ""


def _entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: Label, path: str, now: datetime) -> Arrival:
    # The archive was made by the LMS; a time that lies ahead is none.
    try:
        changed = min(now, datetime(*entry.date_time).astimezone(UTC))
    except ValueError:
        changed = now
    if reason := _unsafe(entry):
        return Arrival(name, path, changed, refused=reason)
    try:
        with archive.open(entry) as stream:
            data = stream.read(LARGEST_NOTEBOOK + 1)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, ValueError) as error:
        return Arrival(name, path, changed, refused=f"It cannot be unpacked: {error}.")
    except Exception as error:  # zlib.error and lzma.LZMAError share no ancestor
        return Arrival(name, path, changed, refused=f"It cannot be unpacked: {type(error).__name__}.")
    if len(data) > LARGEST_NOTEBOOK:
        return Arrival(name, path, changed, refused="It unpacks to more than it says: a zip bomb.")
    return Arrival(name, path, changed, data)
