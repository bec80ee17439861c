"""The demo's home is thrown away; what the user has is not touched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from podlab import paths
from podlab.commands import demo
from podlab.course.execute import ExecutionFailed
from podlab.errors import UsageError


def test_the_home_is_its_own_but_the_cache_is_the_usual_one(tmp_path, monkeypatch):
    monkeypatch.setenv("PODLAB_HOME", str(tmp_path))
    cache, data = paths.cache(), paths.data()
    (cache / "binary").write_text("kept")
    with pytest.raises(KeyboardInterrupt), demo.throw_away_home() as home:
        assert (paths.cache() / "binary").read_text() == "kept"
        assert paths.data() != data and paths.data().is_relative_to(home)
        (paths.data() / "progress").write_text("of the demo")
        raise KeyboardInterrupt
    assert not home.exists()
    assert (cache / "binary").read_text() == "kept"
    assert not list(data.iterdir())
    assert os.environ["PODLAB_HOME"] == str(tmp_path)


def test_a_lesson_that_does_not_run_is_no_success_of_the_demo(tmp_path):
    (tmp_path / "manuscript").mkdir()
    with pytest.raises(ExecutionFailed, match="did not run to its end"), demo._lesson(tmp_path, tmp_path):
        pass


def test_what_goes_wrong_meanwhile_is_what_is_said(tmp_path):
    (tmp_path / "manuscript").mkdir()
    with pytest.raises(KeyboardInterrupt), demo._lesson(tmp_path, tmp_path):
        raise KeyboardInterrupt


def test_outside_a_complete_clone_it_is_said_what_is_missing(tmp_path):
    (tmp_path / "manuscript").mkdir()
    with pytest.raises(UsageError, match="has no notebooks"):
        demo.demo(course=Path(tmp_path))
