"""Which assignments a course, or the folder of a term, has."""

from __future__ import annotations

from pathlib import Path

from podlab.grading import classes


def test_an_assignment_whose_release_was_being_made_anew_when_all_was_killed_is_still_one(tmp_path: Path) -> None:
    for step, name in (("release", "01-one"), ("source", "01-one"), ("source", "02-two")):
        (tmp_path / step / name).mkdir(parents=True)
    assert classes.assignments(tmp_path) == ["01-one", "02-two"]
