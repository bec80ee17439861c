"""The manuscript, the builder and the inspection: one source, the same bytes, nothing given away."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from podlab.checks import registry
from podlab.course import build, inspection, manuscript, measured, release
from podlab.errors import UsageError

COURSE = Path(__file__).parents[3]
LESSON, TASKS = "manuscript/15-self-healing/lesson.py", "manuscript/15-self-healing/assignment.py"
OTHER_LESSON = "manuscript/16-networking/lesson.py"
CHAPTERS = [document for document in manuscript.documents(COURSE / "manuscript") if document.part == "assignment"]


@pytest.fixture
def course(tmp_path):
    """A copy of the course's texts that a test may spoil."""
    for folder in ("manuscript", "notebooks", "source", "release", "autograder", str(measured.FOLDER)):
        shutil.copytree(COURSE / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def problems(course):
    return [str(problem) for problem in inspection.inspect(course)]


def edit(course, path, old, new):
    file = course / path
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def rebuild(course):
    build.write(course, build.build(course))
    build.write(course, release.releases(course))


def test_the_course_has_no_problem():
    assert problems(COURSE) == []


def test_building_twice_gives_the_same_bytes_and_writes_nothing(course):
    shutil.rmtree(course / "notebooks")
    made = build.build(course)
    assert build.write(course, made) and build.write(course, build.build(course)) == []
    assert {path: (COURSE / path).read_text() for path in made} == made


def test_make_help_names_all_that_build_writes():
    said = re.search(r"^build:.*## (.*)$", (COURSE / "Makefile").read_text(), re.MULTILINE)[1]
    for path in (*build.build(COURSE), *release.releases(COURSE)):
        assert ("cards" if path.parent == build.CARDS else f"{path.parts[0]}/") in said


def test_a_release_is_the_same_every_time():
    source = COURSE / "source/15-self-healing/15-self-healing.ipynb"
    assert release.release(source) == release.release(source)


@pytest.mark.slow
def test_our_release_is_what_nbgrader_itself_makes(tmp_path):
    shutil.copytree(COURSE / "source", tmp_path / "source")
    (tmp_path / "nbgrader_config.py").write_text(
        'c = get_config()\nc.ClearSolutions.code_stub = {"python": "# YOUR CODE HERE"}\n'
    )
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        [sys.executable, "-m", "nbgrader", "generate_assignment", "15-self-healing"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        env={**os.environ, "PATH": path, "HOME": str(tmp_path)},
        timeout=120,
    )
    made = (tmp_path / "release/15-self-healing/15-self-healing.ipynb").read_text()
    assert made == (COURSE / "release/15-self-healing/15-self-healing.ipynb").read_text()


def test_inserting_a_cell_changes_no_other_cells_id(course):
    def ids():
        return [
            cell["id"] for cell in json.loads(build.build(course)[Path("notebooks/15-self-healing.ipynb")])["cells"]
        ]

    before = ids()
    edit(
        course,
        LESSON,
        "# %% [markdown]\n# ## A process",
        "# %%\nprint(1)\n\n# %% [markdown]\n# ## A process",
    )
    after = ids()
    assert [id for id in after if id in before] == before and len(after) == len(before) + 1


def test_every_grade_cell_ends_in_a_float_and_is_locked():
    for path in COURSE.glob("source/*/*.ipynb"):
        for cell in json.loads(path.read_text())["cells"]:
            entry = cell["metadata"].get("nbgrader", {})
            if entry.get("grade"):
                assert "".join(cell["source"]).splitlines()[-1].startswith("float(")
                assert (
                    entry["locked"] and not entry["solution"] and entry["schema_version"] == 3 and entry["points"] > 0
                )


def test_the_points_of_the_notebook_are_those_of_the_exercises():
    for document in CHAPTERS:
        exercises = registry.chapter(str(document.about["chapter"]))
        cells = json.loads(build.notebook_text(document))["cells"]
        points = [
            cell["metadata"]["nbgrader"]["points"] for cell in cells if "points" in cell["metadata"].get("nbgrader", {})
        ]
        assert points == [exercise.points for exercise in exercises.values()]


@pytest.mark.parametrize("exercise", [id for document in CHAPTERS for id in document.exercises])
def test_every_exercise_has_four_checks_one_hidden_and_each_has_an_answer_that_it_refuses(exercise):
    found = registry.exercise(exercise, COURSE / "autograder/hidden")
    assert len(found.checks) >= 4 and any(check.hidden for check in found.checks)
    assert found.hints and found.debrief and found.lesson
    assert any(hint.when.__code__ is not type(hint)("x").when.__code__ for hint in found.hints), (
        "a hint that depends on the state"
    )
    document = next(document for document in CHAPTERS if exercise in document.exercises)
    tripped = {check for case in manuscript.cases(document) if case.exercise == exercise for check in case.fails}
    assert tripped == {check.id for check in found.checks}


def test_the_start_state_is_the_release_and_differs_from_the_reference():
    for document in CHAPTERS:
        released = json.loads((COURSE / f"release/{document.name}/{document.name}.ipynb").read_text())
        texts = ["".join(cell["source"]) for cell in released["cells"]]
        for case in manuscript.cases(document):
            if case.kind == "start":
                cell = manuscript.without_solutions(document.answer(case.exercise).source)
                assert cell in texts and manuscript.STUB in cell


SPOILS = {
    "stale notebook": ("notebooks/15-self-healing.ipynb", "Self-healing", "Self-wounding", "Run `make build`"),
    "stale release": ("release/15-self-healing/15-self-healing.ipynb", "Self-healing", "X", "Run `make release`"),
    "shouting": (LESSON, "Nothing was healed.", "Nothing was healed!", "exclamation"),
    "an unseen answer": (LESSON, 'print(lab.predict("time to recovery", None, "s"))', 'lab.predict("x", 1)', "nobody"),
    "dead link": ("manuscript/00-start-here/lesson.py", "(15-self-healing.ipynb)", "(16.ipynb)", "does not exist"),
    "link to no heading": (
        "manuscript/00-start-here/lesson.py",
        "(15-self-healing.ipynb)",
        "(15-self-healing.ipynb#A-cure)",
        "links to 15-self-healing.ipynb#A-cure, and there is no such heading",
    ),
    "link to no heading here": (LESSON, "# Nothing was healed.", "# [Above](#A-cure) nothing.", "no such heading"),
    "a picture from elsewhere": (
        LESSON,
        "# Nothing was healed.",
        "# ![A pod](https://kubernetes.io/images/favicon.png) Nothing.",
        "not there without a network",
    ),
    "plain http": (LESSON, "(https://kubernetes.io/docs/tasks", "(http://kubernetes.io/docs/tasks", "not https"),
    "no alt text": (LESSON, "# Nothing was healed.", "# ![](x.svg) Nothing.", "alternative text"),
    "two headings": (LESSON, "# ## A slow start", "# # A slow start", "headings of the first level"),
    "missing section": (LESSON, "## What we have seen", "## What was", "no section"),
    "lost heading": (LESSON, "# ## A slow start", "# ## A late start", "no such heading"),
    "no checks": (TASKS, '# %% checks="15.1"', "# %% [markdown]", "checks for"),
    "a solution in the release": (
        "release/15-self-healing/15-self-healing.ipynb",
        "# YOUR CODE HERE",
        "nodeTaintsPolicy: Honor",
        "gives away 'nodeTaintsPolicy: Honor'",
    ),
    "another right answer in the release": (
        "release/15-self-healing/15-self-healing.ipynb",
        "# YOUR CODE HERE",
        "manifest_15_4 = (",
        "gives away 'manifest_15_4 = ('",
    ),
    "hidden title in the task": (
        TASKS,
        "# Change only the cells",
        "# A short pause is forgiven\n# Change only the cells",
        "gives away 'A short pause is forgiven'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", SPOILS)
def test_the_inspection_sees(what, course):
    path, old, new, words = SPOILS[what]
    edit(course, path, old, new)
    if path.startswith("manuscript"):
        rebuild(course)
    assert any(words in problem for problem in problems(course)), problems(course)


def without(mark):
    """The text of a manuscript without the cells of a mark."""
    return lambda text: re.sub(rf"^# %% {mark}.*?(?=^# %%|\Z)", "", text, flags=re.MULTILINE | re.DOTALL)


SAID, CODE = "Nothing was healed.", "\n# %%\n"
#: What is past a budget: the manuscript, how its text is spoilt, and what is said of it.
BUDGETS = {
    "words": (LESSON, lambda text: text.replace(SAID, SAID + " word" * 140), "words; 140 are the most"),
    "words of a task": (TASKS, lambda text: text + "\n# %% [markdown]\n#" + " word" * 151, "has 151 words; 150 are"),
    "lines": (LESSON, lambda text: text + "\n# %%\n" + "x = 1\n" * 46, "more than 45 lines of code"),
    "emoji": (LESSON, lambda text: text.replace(SAID, SAID + " \u2600"), "an emoji"),
    "median": (LESSON, lambda text: text.replace(CODE, CODE + "x = 1\n" * 5), "3 are the most"),
    "balance": (LESSON, lambda text: text.replace(CODE, CODE + "x = 1\n" + CODE, 3), "Say more between them"),
    "cells": (LESSON, lambda text: text + "\n# %%\nx = 1\n" * 46, "a lesson has 20 to 45"),
    "predictions": (LESSON, lambda text: text.replace("lab.predict(", "print("), "asks for 0 predictions"),
    "trials": (TASKS, lambda text: text + "\n# %%\nlab.wait_ready(3)\n", "Trials belong in the lesson"),
    "wrong": (TASKS, without('wrong="15.1"'), "exercise 15.1 has 0 wrong answers; 3 are the fewest"),
    "alternatives": (TASKS, without('alternative="15.1"'), "exercise 15.1 has 0 alternative answers; 2 are"),
    "unbound": (
        TASKS,
        lambda text: re.sub(r'(# %% alternative="15\.1"(.*\n)*?\n)', r"\1del manifest_15_1\nx = 1\n", text, count=1),
        "of 15.1 does not bind manifest_15_1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BUDGETS)
def test_the_inspection_knows_every_budget(what, tmp_path):
    path, spoil, words = BUDGETS[what]
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    look = inspection.lesson if path == LESSON else inspection.assignment

    def found(text):
        file.write_text(text)
        document = manuscript.read(file)
        return [str(problem) for problem in (*inspection.prose(document), *look(document))]

    text = (COURSE / path).read_text()
    assert found(text) == []
    assert any(words in problem for problem in found(spoil(text))), found(spoil(text))


def test_a_notebook_that_nothing_makes_is_seen(course):
    (course / "source/15-self-healing/notes.txt").write_text("the solutions are ...")
    (course / "release/15-self-healing/notes.txt").write_text("the solutions are ...")
    found = problems(course)
    assert any("source/15-self-healing/notes.txt" in line for line in found)
    assert any("release/15-self-healing/notes.txt" in line for line in found)


def test_times_that_are_missing_old_or_of_nothing_are_seen(course):
    times = course / measured.FOLDER
    (times / "16.json").rename(times / "99.json")
    was = json.loads((times / "15.json").read_text())["lesson"]["cells"]
    edit(course, times / "15.json", f'"cells": {was}', f'"cells": {was + 10}')
    found = [str(problem) for problem in inspection.times(course)]
    assert sum("16-networking.ipynb: has never been measured" in line for line in found) == 2
    (longer,) = [line for line in found if f"was measured with {was + 10} cells of code and has " in line]
    assert "Run `podlab execute --record notebooks/15-" in longer
    assert any("99.json: has the time of nothing" in line for line in found)


@pytest.mark.parametrize(
    ("path", "old", "new", "words"),
    [
        (LESSON, "# disruptive: true\n", "", "takes nodes away"),
        (OTHER_LESSON, "# needs:", "# disruptive: true\n# needs:", "Remove it"),
    ],
)
def test_a_lesson_says_whether_it_takes_nodes_away(path, old, new, words, course):
    edit(course, path, old, new)
    (problem,) = inspection.lesson(manuscript.read(course / path))
    assert words in str(problem)


def test_outputs_in_a_notebook_are_seen(course):
    path = course / "notebooks/15-self-healing.ipynb"
    data = json.loads(path.read_text())
    data["metadata"]["widgets"] = {}
    next(cell for cell in data["cells"] if cell["cell_type"] == "code")["execution_count"] = 3
    path.write_text(json.dumps(data))
    found = "\n".join(problems(course))
    assert "holds outputs" in found and "state of widgets" in found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("# %%\nprint(1)", "does not say its title"),
        (
            '# ---\n# title: t\n# chapter: "15"\n# minutes: 1\n# needs: n\n# ---\n'
            '# %% answer="15.1" wrong="15.1"\nx = 1',
            "marks",
        ),
    ],
)
def test_a_broken_manuscript_is_named(tmp_path, text, words):
    file = tmp_path / "lesson.py"
    file.write_text(text)
    with pytest.raises(UsageError, match=words):
        manuscript.read(file)


def test_an_answer_that_changes_nothing_and_a_wrong_one_without_words_are_refused(course):
    path = TASKS
    for old, new in (
        ('manifest_15_1 = manifest_15_1.replace("livenessProbe", "readinessProbe")', "manifest_15_1 = manifest_15_1"),
        ("# fails slow-is-not-dead", "# slow-is-not-dead"),
    ):
        shutil.copy(COURSE / path, course / path)
        edit(course, path, old, new)
        with pytest.raises(UsageError):
            manuscript.cases(manuscript.read(course / path))


def test_an_answer_may_say_only_what_it_changes(tmp_path):
    head = '# ---\n# title: t\n# chapter: "15"\n# minutes: 1\n# needs: n\n# ---\n# %% answer="15.1"\n'
    file = tmp_path / "assignment.py"

    def reference_and_alternative(changes):
        file.write_text(f'{head}x = 1\ny = 2\ny = 3\n\n# %% alternative="15.1" title="other"\n{changes}')
        return [case.names for case in manuscript.cases(manuscript.read(file))][1:]

    changes = "# - x = 1\n# - y = 2\n# + x = 5\n# + z = 6\n# - y = 3\n"
    assert reference_and_alternative(changes) == [{"x": 1, "y": 3}, {"x": 5, "y": 3, "z": 6}]
    for ambiguous in ("# - y = 4\n# + y = 5\n", "# - \n# + y = 5\n"):
        with pytest.raises(UsageError, match="times in the reference"):
            reference_and_alternative(ambiguous)


def test_the_course_is_found_from_inside_and_missed_outside(tmp_path):
    assert build.root(COURSE / "podlab" / "lab") == COURSE
    with pytest.raises(UsageError):
        build.root(tmp_path)
