"""The learner's own copies of the notebooks, in work/: made once, never overwritten once they were changed."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from podlab.errors import EnvironmentUnsuitable

#: What a learner gets; the same paths under work/, so that links between notebooks hold.
SOURCES = ("notebooks", "release")
RECORD = ".copies.json"


@dataclass
class Copies:
    """What `prepare` did, as paths relative to the course: `kept` were changed by both sides."""

    made: list[Path] = field(default_factory=list)
    updated: list[Path] = field(default_factory=list)
    kept: list[Path] = field(default_factory=list)


def prepare(course: Path) -> Copies:
    """Bring work/ up to date with the course and say what was done.

    A copy that the learner has not changed follows the course; one that was changed stays as it is, and is
    named in `kept` if the course has changed too. EnvironmentUnsuitable if work/ cannot be written.
    """
    work = course / "work"
    try:
        work.mkdir(exist_ok=True)
        record = _record(work)
        copies = Copies()
        try:
            for path in _files(course):
                _copy(course / path, work / path, path, record, copies)
        finally:  # also of a part of them: a copy that is not recorded counts as changed once the course changes
            part = work / f"{RECORD}.part"
            part.write_text(json.dumps(record, indent=1, sort_keys=True))
            part.replace(work / RECORD)
    except OSError as error:
        raise EnvironmentUnsuitable(
            f"Your copies of the notebooks cannot be made in {work}: {error.strerror or error}.",
            hint="Free some space, or clone the course into a folder that you can write to.",
        ) from error
    return copies


def _files(course: Path) -> list[Path]:
    found = (path for source in SOURCES for path in (course / source).rglob("*"))
    return sorted(
        path.relative_to(course)
        for path in found
        if path.is_file() and not any(part.startswith((".", "__")) for part in path.relative_to(course).parts)
    )


def _copy(source: Path, target: Path, path: Path, record: dict[str, str], copies: Copies) -> None:
    new, old = _digest(source), record.get(str(path))
    mine = _digest(target) if target.exists() else None
    if mine is None:
        copies.made.append(path)
    elif mine == new:
        record[str(path)] = new
        return
    elif mine == old:
        copies.updated.append(path)
    else:
        if new != old:
            copies.kept.append(path)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    shutil.copyfile(source, part)
    part.replace(target)
    record[str(path)] = new


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _record(work: Path) -> dict[str, str]:
    try:
        content = json.loads((work / RECORD).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
