"""`podlab grade` once more: what has a record stays, what is asked for is graded, what was cut off goes on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT))

from autograder.corpus import attacks, notebooks  # noqa: E402 - the corpus is no part of the package
from podlab.cluster.kind.runtime import Runtime  # noqa: E402
from podlab.commands import grade_progress  # noqa: E402
from podlab.commands.grade import app  # noqa: E402
from podlab.doctor import facts  # noqa: E402
from podlab.errors import EnvironmentUnsuitable, GradingError  # noqa: E402
from podlab.grading import contained, records  # noqa: E402
from podlab.grading.queue import Progress  # noqa: E402

pytestmark = pytest.mark.slow

#: None of them is run, so that no box and no busy machine has a part in what comes of them.
CLASS = ("file-list", "file-words", "unanswered")


class CutOff(Exception):
    """Stands for whatever ends a grader."""


class Trial:
    """A class in a folder, graded by the command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.course = notebooks.write_course(folder / "course")
        attacks.write_all(folder / "class", tuple(each for each in attacks.ATTACKS if each.name in CLASS))

    def grade(self, *more: str) -> tuple[list[str], str]:
        """Who was graded, and all that was said."""
        folders = [str(self.folder / "class"), "--course", str(self.course), "--out", str(self.folder / "out")]
        done = CliRunner().invoke(
            app, [*folders, "--assignment", notebooks.NAME, "--unsafe", "--jobs", "1", *more], catch_exceptions=False
        )
        assert done.exit_code == 0
        graded = [line.split()[2] for line in done.output.splitlines() if " of 3" in line or " of 2" in line
                  or " of 1" in line]  # fmt: skip
        return graded, done.output

    def scores(self) -> dict[str, float | None]:
        found = records.read_all(self.folder / "out", notebooks.NAME)
        return {record.learner: record.score for record in found}


def no_runtime() -> Runtime:
    raise EnvironmentUnsuitable("docker cannot be used: it does not run.")


@pytest.fixture
def trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trial:
    monkeypatch.setenv("PODLAB_EXERCISES", "")  # set by the grader for its workers; restored afterwards
    monkeypatch.setattr(facts, "try_kernel", lambda _folder: {"user_namespace": "refused"})
    monkeypatch.setattr(contained, "find", no_runtime)
    return Trial(tmp_path)


def test_what_has_a_record_is_graded_again_only_when_it_is_asked_for(trial: Trial) -> None:
    assert trial.grade("--only", "file-list")[0] == ["file-list"]
    assert sorted(trial.grade()[0]) == ["file-words", "unanswered"]
    scores = trial.scores()
    assert trial.grade()[0] == []
    assert trial.grade("--only", "file-list", "--only", "unanswered", "--regrade")[0] == ["file-list", "unanswered"]
    assert sorted(trial.grade("--no-resume")[0]) == sorted(CLASS)
    assert trial.scores() == scores


def test_learners_who_have_handed_in_nothing_are_named_and_nobody_is_graded(trial: Trial) -> None:
    asked = ("--only", "zoe", "--only", "file-list", "--only", "ada")
    with pytest.raises(GradingError, match=r"^No submission of: ada, zoe\. --only takes learners' names\.$"):
        trial.grade(*asked)
    assert not (trial.folder / "out" / "records").exists()


def test_regrading_that_was_cut_off_keeps_the_old_records_and_goes_on(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial.grade()
    scores = trial.scores()
    with monkeypatch.context() as patched:

        def cut_off(_self: object, step: Progress) -> None:
            assert trial.scores() == scores, "the old record stays until there is a new one"
            if step.done == 1:
                raise CutOff

        patched.setattr(grade_progress.Lines, "__call__", cut_off)
        with pytest.raises(CutOff):
            trial.grade("--regrade")
    assert trial.grade()[0] == []
    graded, said = trial.grade("--regrade")
    assert len(graded) == 2 and "Going on with what --regrade began" in said
    assert sorted(trial.grade("--regrade")[0]) == sorted(CLASS), "it had come to its end"
    assert trial.scores() == scores


def test_regrading_a_few_leaves_alone_how_far_regrading_all_has_come(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial.grade()
    with monkeypatch.context() as patched:

        def cut_off(_self: object, step: Progress) -> None:
            if step.done == 1:
                raise CutOff

        patched.setattr(grade_progress.Lines, "__call__", cut_off)
        with pytest.raises(CutOff):
            trial.grade("--regrade")
    for _ in range(2):
        assert trial.grade("--only", "unanswered", "--regrade")[0] == ["unanswered"], "each time that it is asked for"
    graded, said = trial.grade("--regrade")
    assert graded == ["file-words"] and "Going on with what --regrade began" in said


def test_a_mended_visible_check_grades_everybody_again(trial: Trial) -> None:
    trial.grade()
    exercises = trial.course / "exercises" / f"chapter{notebooks.NAME[:2]}.py"
    exercises.write_text(exercises.read_text() + "\n# mended\n")
    graded, said = trial.grade()
    assert sorted(graded) == sorted(CLASS) and "3 records were made with other checks" in said
