"""A machine that refuses namespaces grades nothing, unless somebody says --unsafe; then it grades the same."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT))

from autograder.corpus import attacks, notebooks  # noqa: E402 - the corpus is no part of the package
from podlab.cluster.kind.runtime import Runtime  # noqa: E402
from podlab.doctor import facts  # noqa: E402
from podlab.errors import EnvironmentUnsuitable, GradingError  # noqa: E402
from podlab.grading import classes, contained  # noqa: E402

FEW = ("honest", "exit-hard", "loop", "file-words")
#: Numbers that cannot be compared, and text that cannot be written.
ODD = ("large-number", "json-nan", "error-half-character", "call-half-character")
REFUSED = {"user_namespace": "Operation not permitted"}


def settings(tmp_path: Path, names: tuple[str, ...] = FEW, **more: object) -> classes.Settings:
    course = notebooks.write_course(tmp_path / "course")
    attacks.write_all(tmp_path / "class", tuple(each for each in attacks.ATTACKS if each.name in names))
    return classes.Settings(
        tmp_path / "class", notebooks.NAME, tmp_path / "out", course, cell_limit=3, workers=2, **more
    )


@pytest.fixture(autouse=True)
def refusing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODLAB_EXERCISES", "")  # set by the grader for its workers; restored afterwards
    monkeypatch.setattr(facts, "try_kernel", lambda _folder: REFUSED)
    monkeypatch.setattr(contained, "find", no_runtime)


def no_runtime() -> Runtime:
    raise EnvironmentUnsuitable("docker cannot be used: it does not run.")


def test_it_refuses_and_says_what_would_help(tmp_path: Path) -> None:
    with pytest.raises(GradingError, match=r"cannot make a box.*user_namespace: Operation not permitted") as refused:
        classes.grade_class(settings(tmp_path), lambda _step: None)
    assert "--unsafe" in (refused.value.hint or "")
    assert not (tmp_path / "out" / "records").exists()


def test_a_box_without_a_system_call_filter_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "try_kernel", lambda _folder: {"user_namespace": None})
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(GradingError, match=r"cannot make a box.*no filter for the processor riscv64"):
        classes.without_boxes(settings(tmp_path), lambda _text: None)
    given = classes.Settings(tmp_path, "01-split-and-conquer", tmp_path / "out", ROOT, unsafe=True)
    assert classes.without_boxes(given, lambda _text: None)


def test_a_cluster_is_refused_even_then(tmp_path: Path) -> None:
    given = classes.Settings(tmp_path, "15-self-healing", tmp_path / "out", ROOT, unsafe=True)
    with pytest.raises(GradingError, match="needs a cluster"):
        classes.without_boxes(given, lambda _text: None)


@pytest.mark.slow
def test_with_unsafe_it_warns_and_gives_the_same_marks(tmp_path: Path) -> None:
    said: list[str] = []
    graded = classes.grade_class(settings(tmp_path, FEW + ODD, unsafe=True), lambda _step: None, said.append)
    assert any("NOT SAFE" in line for line in said)
    few = tuple(each for each in attacks.ATTACKS if each.name in FEW + ODD)
    assert attacks.differences({record.learner: record for record in graded.records}, few) == []
    assert all(each.name in graded.grades.read_text() for each in few)
