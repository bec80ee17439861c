"""The hostile corpus, graded in one go at full parallel load: nobody gets more than he deserves, nothing is lost."""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import pytest
from nbconvert.exporters import HTMLExporter
from nbgrader.server_extensions.formgrader import handlers

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from autograder.corpus import attacks, notebooks  # noqa: E402 - the corpus is no part of the package
from podlab.grading import classes  # noqa: E402
from podlab.grading.bookkeeping import Books  # noqa: E402
from podlab.grading.records import Outcome, Record  # noqa: E402

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

_PR_SET_CHILD_SUBREAPER = 36


@dataclass
class Graded:
    """The graded corpus, and what was around it before and after."""

    records: dict[str, Record]
    out: Path
    course: Path
    before: dict[str, str]
    after: dict[str, str]
    left: list[str]


def digests(*folders: Path) -> dict[str, str]:
    """What is in every file of these folders."""
    found = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if (
                path.is_file()
                and not path.is_symlink()
                and path.stat().st_size < 10_000_000
                and "__pycache__" not in path.parts
            ):
                found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def children() -> list[str]:
    """Living processes below this one; orphans come to it, since it has asked for them."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == os.getpid() and fields[0] not in "ZX":
                found.append((stat.parent / "cmdline").read_text().replace("\0", " ")[:200])
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graded]:
    folder = tmp_path_factory.mktemp("corpus")
    course = notebooks.write_course(folder / "course")
    attacks.write_all(folder / "class")
    around = (course, folder / "class", ROOT / "autograder", ROOT / "podlab" / "grading")
    # Others write to the home and to /tmp meanwhile: a file of each, open to everybody, stands for all.
    with _canary(Path.home()) as first, _canary(Path(tempfile.gettempdir())) as second:
        yield _graded(folder, course, (*around, first, second))


def _graded(folder: Path, course: Path, around: tuple[Path, ...]) -> Graded:
    present, before = set(children()), digests(*around)
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    settings = classes.Settings(
        folder=folder / "class",
        assignment=notebooks.NAME,
        out=folder / "out",
        course=course,
        cell_limit=6,
        notebook_limit=40,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PODLAB_EXERCISES", raising=False)
        try:
            result = classes.grade_class(settings, lambda _step: None)
        finally:
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
            os.environ.pop("PODLAB_EXERCISES", None)
    left = [command for command in children() if command not in present]
    after = digests(*around)
    return Graded({record.learner: record for record in result.records}, folder / "out", course, before, after, left)


@contextmanager
def _canary(place: Path) -> Iterator[Path]:
    """A new folder in `place` with a file that anybody may write to; removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="podlab-canary-", dir=place) as name:
        folder = Path(name)
        folder.chmod(0o777)
        (folder / "canary").write_text("sings")
        (folder / "canary").chmod(0o666)
        yield folder


def test_there_are_enough_attacks_and_their_names_are_unique() -> None:
    names = [attack.name for attack in attacks.ATTACKS]
    assert len(names) == len(set(names)) >= 60


def test_nobody_has_more_than_the_honest_score_and_nobody_less(graded: Graded) -> None:
    assert attacks.differences(graded.records) == []


def test_every_submission_has_one_record_and_the_gradebook_says_the_same(graded: Graded) -> None:
    assert set(graded.records) == {attack.name for attack in attacks.ATTACKS}
    books = Books(graded.out, notebooks.NAME, graded.course)
    booked = books.scores()
    assert {learner: record.score for learner, record in graded.records.items()} == booked


def test_no_file_outside_was_changed_and_none_was_added(graded: Graded) -> None:
    assert graded.after == graded.before
    top = (Path("/"), Path.home(), Path(tempfile.gettempdir()))
    assert not list(graded.out.rglob("HACKED")) and not [place for place in top if (place / "HACKED").exists()]


def test_no_process_is_left(graded: Graded) -> None:
    assert graded.left == []


def test_nothing_hidden_and_no_markup_of_the_learner_is_shown(graded: Graded) -> None:
    names = {attack.name for attack in attacks.ATTACKS}
    assert shows_nothing_hidden_and_no_markup(graded.out) == {"feedback": names, "autograded": names}


def shows_nothing_hidden_and_no_markup(out: Path) -> dict[str, set[str]]:
    """Looks at the pages of feedback, and at those of formgrader; returns whose they are, by folder."""
    seen: dict[str, set[str]] = {"feedback": set(), "autograded": set()}
    for page, text in (*pages_of_feedback(out), *pages_of_formgrader(out)):
        step, learner = page.relative_to(out).parts[:2]
        seen[step].add(learner)
        assert "HIDDEN-WORD" not in text, page
        assert "fetch('/api/contents')" not in text, page
        assert "onerror=alert" not in text, page
        live = Live()
        live.feed(text)
        assert not [what for what in live.found if "alert(1)" in what or "/api/contents" in what], page
    return seen


class Live(HTMLParser):
    """Collects what a browser would run, however it is quoted: scripts, and attributes that may hold some."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for _, value in attrs]

    def handle_data(self, data: str) -> None:
        if self.cdata_elem:  # within a script, or a style
            self.found.append(data)


def pages_of_feedback(out: Path) -> Iterator[tuple[Path, str]]:
    for page in out.glob("feedback/*/*/*.html"):
        yield page, page.read_text()


def pages_of_formgrader(out: Path) -> Iterator[tuple[Path, str]]:
    """Every autograded notebook, rendered as formgrader's SubmissionHandler does."""
    exporter = HTMLExporter(template_name="formgrade", extra_template_basedirs=[handlers.template_path])
    about = {"base_url": "/", "submission_id": "1", "index": 0, "total": 1, "notebook_path": "x"}
    about |= {"first_name": None, "last_name": None}
    for notebook in out.glob("autograded/*/*/*.ipynb"):
        names = {"student": notebook.parts[-3], "assignment_id": notebook.stem, "notebook_id": notebook.stem}
        text, _ = exporter.from_filename(str(notebook), resources={**about, **names})
        yield notebook, text


def test_none_was_the_machines_fault(graded: Graded) -> None:
    blamed = [name for name, record in graded.records.items() if record.outcome is Outcome.INFRASTRUCTURE]
    assert blamed == []
