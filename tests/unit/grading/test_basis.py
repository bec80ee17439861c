"""What decides a verdict is part of a record's basis: a mended check grades again, hidden or not."""

from __future__ import annotations

from pathlib import Path

import pytest

from podlab.checks import registry
from podlab.grading.basis import basis, sources

ROOT = Path(__file__).parents[3]


def test_the_checks_of_a_chapter_are_all_they_import_and_start() -> None:
    hidden = ROOT / "autograder" / "hidden" / "chapter15.py"
    found = sources("15", hidden)
    assert found["chapter"] == ROOT / "podlab" / "course" / "chapter15.py" and found["hidden"] == hidden
    assert {"runner", "podlab.checks.world", "podlab.course.self_healing.node_loss", "checks/prober.py"} <= found.keys()
    assert not any("networking" in name or name.startswith("podlab.grading") for name in found)


def test_what_a_chapters_package_gives_to_other_processes_as_text_is_of_its_checks_too() -> None:
    names = ("asking", "desk", "harness")  # Spark's own process is given the latter two
    assert {f"podlab.course.inside_spark.{name}" for name in names} <= sources("06", None).keys()
    assert {"podlab.spark.local", "podlab.spark.measured"} <= sources("06", None).keys()
    assert "podlab.addons.logs" in sources("22", None)
    assert {"podlab.course.way", "course/stalls.py"} <= sources("11", None).keys()  # in the text of a driver


@pytest.mark.parametrize("touched", ["release.ipynb", "hidden.py", "chapter91.py", "helper"])
def test_whatever_changes_of_them_changes_the_basis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, touched: str
) -> None:
    monkeypatch.setenv(registry.OWN, str(tmp_path))
    monkeypatch.setattr("podlab.grading.basis._ROOT", tmp_path)
    files = {each: tmp_path / each for each in ("release.ipynb", "hidden.py", "chapter91.py")}
    for file in files.values():
        file.write_text("EXERCISES = ()\n")
    files["helper"] = tmp_path / "podlab" / "course" / "helper.py"
    files["helper"].parent.mkdir(parents=True)
    files["helper"].write_text("MOST = 1\n")
    files["chapter91.py"].write_text("def late():\n    from podlab.course.helper import MOST\nEXERCISES = ()\n")
    before = basis("91", files["release.ipynb"], files["hidden.py"])
    assert basis("91", files["release.ipynb"], files["hidden.py"]) == before
    files[touched].write_text(files[touched].read_text() + "# mended\n")
    assert basis("91", files["release.ipynb"], files["hidden.py"]) != before
