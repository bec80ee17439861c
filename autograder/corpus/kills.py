"""Kill the grader at any moment, start it again, and compare where it ends with where it ends undisturbed."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

from podlab import waiting
from podlab.grading import records

ROOT = Path(__file__).parents[2]
_PR_SET_CHILD_SUBREAPER = 36


class Trial:
    """A folder of submissions that is graded into one folder after another. `more` are options of `podlab grade`."""

    def __init__(
        self, course: Path, submissions: Path, assignment: str, *more: str, leaves_clusters: bool = False
    ) -> None:
        self.assignment = assignment
        self._leaves_clusters = leaves_clusters
        self._options = [str(submissions), "--course", str(course), "--assignment", assignment, *more]

    def command(self, out: Path) -> list[str]:
        """The command line that grades into `out`."""
        return [sys.executable, "-u", "-m", "podlab", "grade", *self._options, "--out", str(out)]

    def run(self, out: Path, *prefix: str) -> subprocess.CompletedProcess[str]:
        """Grade into `out` to the end."""
        line = [*prefix, *self.command(out)]
        return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=1800, check=False)

    def killed(self, out: Path, after: float) -> str | None:
        """Start the grader and kill it `after` seconds: the last line that it said, or None when it had ended before.

        Returns when everything that it had started has ended too (see `adopt_orphans`); clusters stay, which the next
        run ends.
        """
        before = set(children())
        said: list[str] = []
        with subprocess.Popen(
            self.command(out), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdout is not None
            reader = threading.Thread(target=said.extend, args=(iter(process.stdout.readline, ""),))
            reader.start()
            try:
                status = process.wait(after)
            except subprocess.TimeoutExpired:
                process.kill()
                status = process.wait()
            reader.join()
        if not self._leaves_clusters:
            waiting.until(lambda: set(children()) <= before, "the end of what the grader started", timeout=120)
        if status not in (0, -signal.SIGKILL):
            raise AssertionError(f"The grader ended with status {status}: {''.join(said)[-2000:]}")
        return None if status == 0 else (said[-1].strip() if said else "nothing")

    def result(self, out: Path) -> dict[str, Any]:
        """Everything that counts in the end: the whole gradebook, the records' scores, the files for people."""
        found = {each.learner: (each.outcome, each.scores) for each in records.read_all(out, self.assignment)}
        return {
            "gradebook": tables(out / "gradebook.db"),
            "records": found,
            "grades": (out / "grades.csv").read_text(),
            "autograded": sorted(file.parents[1].name for file in (out / "autograded").rglob("*.ipynb")),
            "feedback": sorted(page.parents[1].name for page in (out / "feedback").rglob("*.html")),
        }


class Step(Trial):
    """One command of a term, in whose folder it leaves what it makes."""

    def __init__(self, assignment: str, *words: str) -> None:
        self.assignment = assignment
        self.words = words
        self._leaves_clusters = False

    def command(self, out: Path) -> list[str]:
        """The command line, for the term in `out`."""
        return [sys.executable, "-u", "-m", "podlab", *self.words, "--term", str(out)]

    def result(self, out: Path) -> dict[str, Any]:
        """The gradebook, what the records say, and every other file that is not of that run alone."""
        found = {each.learner: (each.outcome, each.scores) for each in records.read_all(out, self.assignment)}
        files = {}
        for path in sorted(out.rglob("*")):
            name = path.relative_to(out)
            if path.is_file() and name.parts[0] not in OF_A_RUN and not path.name.startswith("."):
                files[str(name)] = content(path).replace(bytes(out), b"")
        return {"gradebook": tables(out / "gradebook.db"), "records": found, "files": files}


#: Compared otherwise, or of one run alone.
OF_A_RUN = ("backups", "gradebook.db", "grading.lock", "records", "reports", "term.toml")
#: How long something took, how often it was tried and why, and the word by which a run knows its own.
_TIMES = re.compile(
    rb'"(seconds|attempts)": [0-9.e-]+|"nonce": "[0-9a-f]+"|time="[0-9.e-]+"|It took [^;]+; seed [0-9]+, attempt [0-9]|'
    rb'"notes": \[(\s*"Attempt [0-9]: [^"]*",?)*\s*\]'
)


def content(path: Path) -> bytes:
    """What is in a file, or in the files of a zip, but for times."""
    if path.suffix != ".zip":
        return _TIMES.sub(b"", path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        return b"".join(name.encode() + _TIMES.sub(b"", archive.read(name)) for name in archive.namelist())


def tables(gradebook: Path) -> dict[str, list[str]]:
    """Every row of every table, without the numbers that nbgrader draws at random and the name of the folder."""
    found = {}
    with sqlite3.connect(gradebook) as book:
        names = [name for (name,) in book.execute("select name from sqlite_master where type = 'table'")]
        for name in names:
            found[name] = _rows(book, f"select * from {name}", gradebook)
        for name in ("grade", "comment"):
            question = (
                f"select s.student_id, b.name, t.* from {name} t join submitted_notebook n on t.notebook_id = n.id "
                "join submitted_assignment s on n.assignment_id = s.id join base_cell b on t.cell_id = b.id"
            )
            found[f"{name} by learner"] = _rows(book, question, gradebook)
    return found


def _rows(book: sqlite3.Connection, question: str, gradebook: Path) -> list[str]:
    texts = (repr(row).replace(repr(gradebook.parent.name), "folder") for row in book.execute(question))
    return sorted(re.sub(r"'[0-9a-f]{32}'", "#", text) for text in texts)


def adopt_orphans(yes: bool = True) -> None:
    """What outlives a grader comes to this process, which sees that it ends."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(yes), 0, 0, 0)


def children() -> list[int]:
    """This process's children that live."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid() and fields[0] not in "ZX":
            found.append(int(stat.parent.name))
    return found


def duration(trial: Trial, out: Path) -> float:
    """Seconds that the undisturbed grader takes for `out`."""
    began = time.monotonic()
    done = trial.run(out)
    if done.returncode != 0:
        raise AssertionError(done.stdout[-1000:] + done.stderr[-2000:])
    return time.monotonic() - began
