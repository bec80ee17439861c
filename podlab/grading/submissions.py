"""Submissions as they lie in a folder, and reading them without trusting them.

Two layouts are understood: nbgrader's `LEARNER/ASSIGNMENT/NOTEBOOK.ipynb`, and flat `LEARNER.ipynb`.
"""

from __future__ import annotations

import json
import os
import re
import stat
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from podlab.errors import GradingError

#: What may be a learner's name: it becomes the name of files, which nbgrader looks for by patterns.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


def usable(who: str) -> str:
    """A name for files made of what somebody is called: "Ada Lovelace" gives ada-lovelace; empty if nothing is left."""
    if NAME.fullmatch(who):
        return who
    text = unicodedata.normalize("NFKD", who).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9._@-]+", "-", text).strip("-._@")[:64]


LINKED = "The assignment's folder is a link: it may lead to anybody's work, and is not followed."
#: A submission larger than this is not read: an assignment with full answers is about 50 kB.
LARGEST_NOTEBOOK = 8 * 1024 * 1024


class Unreadable(Exception):
    """A submission that cannot be graded; the text is what the learner and the instructor are told."""


@dataclass(frozen=True)
class Submission:
    """One learner's file for one assignment. `path` is None when the learner's folder holds no notebook.

    `received` is when the collector got it, `refused` why the collector did not take the file; if it was collected.
    """

    learner: str
    assignment: str
    path: Path | None
    received: datetime | None = None
    refused: str = ""


def discover(folder: Path, assignment: str) -> list[Submission]:
    """Return the submissions in `folder`, by learner; GradingError when there is none or one learner has two."""
    if not folder.is_dir():
        raise GradingError(
            f"{folder} is not a folder.",
            hint=f"Give the folder that holds LEARNER/{assignment}/{assignment}.ipynb, or LEARNER.ipynb files.",
        )
    found: dict[str, Submission] = {}
    twice: list[str] = []
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(".") or entry.is_symlink():
            continue
        submission = _submission(entry, assignment)
        if submission is None:
            continue
        if submission.learner in found:
            twice.append(submission.learner)
        found[submission.learner] = submission
    if nameless := [name for name, submission in found.items() if not name]:
        raise GradingError(
            f"{folder} holds a submission under a name that cannot be a learner's: {found[nameless[0]].path}.",
            hint="Rename it: letters, digits, dot, dash, underscore and @.",
        )
    if twice:
        raise GradingError(
            f"{folder} holds two submissions of: {', '.join(sorted(set(twice)))}.",
            hint="Keep one of them: either the file LEARNER.ipynb or the folder LEARNER/.",
        )
    if not found:
        raise GradingError(
            f"{folder} holds no submission for {assignment}.",
            hint=f"Expected LEARNER/{assignment}/{assignment}.ipynb or LEARNER.ipynb.",
        )
    return list(found.values())


def _submission(entry: Path, assignment: str) -> Submission | None:
    if entry.is_dir():
        inside = entry / assignment
        if not inside.is_dir():
            return None
        if inside.is_symlink():
            return Submission(usable(entry.name), assignment, None, refused=LINKED)
        expected = inside / f"{assignment}.ipynb"
        return Submission(usable(entry.name), assignment, expected if expected.exists() else None)
    if entry.suffix == ".ipynb":
        return Submission(usable(entry.stem), assignment, entry)
    return None


def read_notebook(path: Path | None) -> dict[str, Any]:
    """Return the notebook's JSON as plain values; Unreadable says in plain words why it cannot be one.

    Links, devices and pipes are not followed, nothing larger than LARGEST_NOTEBOOK is read, and only what the
    transplant needs is looked at: a list of cells with a type and a source.
    """
    if path is None:
        raise Unreadable("The folder holds no notebook of this assignment's name.")
    text = _read(path)
    if not text.strip():
        raise Unreadable("The file is empty.")
    try:
        notebook = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"The file is not a notebook: it is not valid JSON ({_short(error)}).") from error
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells"), list):
        raise Unreadable("The file is JSON but not a notebook: it has no list of cells.")
    return notebook


def read_bytes(path: Path) -> bytes:
    """The bytes of an ordinary file of bearable size; Unreadable otherwise. Links are not followed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Unreadable(f"The file cannot be opened: {error.strerror}.") from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise Unreadable("The submission is not an ordinary file.")
        if status.st_size > LARGEST_NOTEBOOK:
            raise Unreadable(
                f"The file has {status.st_size / 1e6:.0f} MB; at most {LARGEST_NOTEBOOK / 1e6:.0f} MB are accepted. "
                "Clear the outputs (Kernel, Restart and Clear Outputs) and submit again."
            )
        return file.read(LARGEST_NOTEBOOK + 1)


def _read(path: Path) -> str:
    data = read_bytes(path)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable("The file is not a notebook: it is not text in UTF-8.") from error


def source_of(cell: Any) -> str | None:
    """Return a cell's source as one string, or None when the cell is not well formed."""
    if not isinstance(cell, dict):
        return None
    source = cell.get("source", "")
    if isinstance(source, str):
        return source
    if isinstance(source, Sequence) and all(isinstance(line, str) for line in source):
        return "".join(source)
    return None


def _short(error: BaseException) -> str:
    return str(error)[:120] or type(error).__name__
