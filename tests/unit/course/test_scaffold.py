"""A new chapter: it builds, it releases, its answers differ, and nothing that is there is overwritten."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest
from little_api import LittleApi

from podlab.checks import answers, registry
from podlab.checks.api import Api
from podlab.checks.world import Room, World
from podlab.course import build, inspection, manuscript, release, scaffold
from podlab.errors import UsageError

COURSE = Path(__file__).parents[3]


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A course with the start page and chapter 27 as it is scaffolded, importable."""
    shutil.copytree(COURSE / "manuscript" / "00-start-here", tmp_path / "manuscript" / "00-start-here")
    (tmp_path / "notebooks").mkdir()
    scaffold.new_chapter(tmp_path, "27", "internet-scale")
    found = {}
    for name, file in (
        ("podlab.course.internet_scale", "internet_scale/__init__.py"),
        ("podlab.course.internet_scale.first", "internet_scale/first.py"),
        ("podlab.course.chapter27", "chapter27.py"),
    ):
        spec = importlib.util.spec_from_file_location(name, tmp_path / "podlab" / "course" / file)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        if "." in name.removeprefix("podlab.course."):
            monkeypatch.setattr(sys.modules["podlab.course.internet_scale"], "first", module, raising=False)
        spec.loader.exec_module(module)
        found[name] = module
    return tmp_path


def test_a_new_chapter_builds_and_only_its_author_is_missed(course):
    made = build.build(course)
    build.write(course, made)
    build.write(course, release.releases(course))
    assert Path("source/27-internet-scale/27-internet-scale.ipynb") in made
    found = [str(problem) for problem in inspection.inspect(course) if "27" in str(problem)]
    for words in ("cells; a lesson has", "predictions", "never been measured", "never been measured"):
        assert words in found.pop(0)
    assert not found


def test_its_exercise_has_the_answers_and_checks_that_the_rules_ask_for(course):
    document = manuscript.read(course / "manuscript/27-internet-scale/assignment.py")
    kinds = [case.kind for case in manuscript.cases(document)]
    assert kinds.count("wrong") == 3 and kinds.count("alternative") == 2
    exercise = registry.exercise("27.1", course / "autograder" / "hidden")
    assert [check.hidden for check in exercise.checks] == [False, False, False, True]
    compile((course / "podlab/course/internet_scale/first.py").read_text(), "first.py", "exec")


def test_each_of_its_checks_refuses_an_answer_and_none_a_right_one(course):
    document = manuscript.read(course / "manuscript/27-internet-scale/assignment.py")
    exercise = registry.exercise("27.1", course / "autograder" / "hidden")
    refused = set()
    for case in manuscript.cases(document):
        with LittleApi() as little:
            world = World(Api.connect(little.kubeconfig(course / "config")), seed=1)
            world.room = lambda name, world=world: Room(world, name, "given")
            scene = exercise.stage(answers.collect([exercise], case.names)["27.1"], world)
            results = {check.id: check.function(scene, world) for check in exercise.checks}
        for check, words in case.fails.items():
            assert not results[check].passed and words in results[check].observed
        refused |= set(case.fails)
        assert all(result.passed for result in results.values()) == (case.kind in ("reference", "alternative")), case
    assert refused == {check.id for check in exercise.checks}


@pytest.mark.parametrize(
    ("number", "slug", "words"),
    [
        ("99", "x", "no chapter '99'"),
        ("27", "Bad Name", "no name"),
        ("27", "other", "there already"),
        ("00", "x", "00"),
    ],
)
def test_what_cannot_be_a_new_chapter_is_refused_and_nothing_is_written(course, number, slug, words):
    before = sorted(course.rglob("*"))
    with pytest.raises(UsageError, match=words):
        scaffold.new_chapter(course, number, slug)
    assert sorted(course.rglob("*")) == before
