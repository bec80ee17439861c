"""Two graders never work in one folder of results; one that was killed is in nobody's way."""

from __future__ import annotations

import errno
import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT))

from autograder.corpus import attacks, notebooks  # noqa: E402 - the corpus is no part of the package
from podlab.errors import GradingError  # noqa: E402
from podlab.grading import classes  # noqa: E402
from podlab.grading.alone import alone_in  # noqa: E402

HOLDS = """
import pathlib, sys
from podlab.grading.alone import alone_in
with alone_in(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_second_is_told_who_grades_there_until_the_first_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PODLAB_EXERCISES", "")  # set by the grader for its workers; restored afterwards
    course = notebooks.write_course(tmp_path / "course")
    attacks.write_all(tmp_path / "class", attacks.ATTACKS[:1])
    out = tmp_path / "out"
    out.mkdir()
    settings = classes.Settings(tmp_path / "class", notebooks.NAME, out, course)
    command = [sys.executable, "-c", HOLDS, str(out)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as first:  # type: ignore[call-overload]
        try:
            assert first.stdout.readline() == "held\n"
            with pytest.raises(GradingError, match=rf"Another grader.*{first.pid}") as refused:
                classes.grade_class(settings, lambda _step: None)
            assert "--out" in (refused.value.hint or "")
            assert [file.name for file in out.iterdir()] == ["grading.lock"]  # nothing was touched
        finally:
            first.kill()
    with alone_in(out):
        pass


def test_where_a_file_system_has_no_locks_grading_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_file: object, _how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refused)
    with alone_in(tmp_path):
        assert "process" in (tmp_path / "grading.lock").read_text()
