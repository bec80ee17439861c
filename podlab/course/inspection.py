"""Look over manuscript and generated notebooks: fresh, within the budgets of style, linked, described, not leaking."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podlab.checks import registry
from podlab.course import build as builder
from podlab.course import measured
from podlab.course.manuscript import Cell, Document, cases, documents, without_solutions
from podlab.course.release import releases

#: Budgets of a lesson. Words and lines are counted per cell; a manifest may be long, since it is read as a whole.
LESSON_CELLS = range(20, 46)
START_CELLS = range(6, 25)
#: An assignment may say more in a cell: a task is read as a whole, too.
MOST_WORDS = {"lesson": 140, "assignment": 150}
MOST_LINES = 45
MEDIAN_LINES = 3
#: The fewest cells of prose to ten cells of code.
PROSE_TO_TEN = 9
PREDICTIONS = 3
#: Sections that every lesson ends with.
SECTIONS = ("## What we have seen", "## Three questions", "## To read on")
WRONG_ANSWERS, ALTERNATIVES = 3, 2
#: The part of a notebook's cells that may come or go before its time has to be measured again.
TIMES_HOLD = 0.1


@dataclass(frozen=True)
class Problem:
    """Something that is wrong, where, and what to do."""

    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


def inspect(course: Path) -> list[Problem]:
    """Every problem of the course; an empty list when all is well."""
    found = documents(course / "manuscript")
    problems = list(stale(course))
    for document in found:
        problems += prose(document)
        problems += links(course, document)
        problems += lesson(document) if document.part == "lesson" else assignment(document)
    problems += times(course)
    for path in sorted(course.glob("notebooks/*.ipynb")) + sorted(course.glob("source/*/*.ipynb")):
        problems += notebook(course, path)
    for document in found:
        if document.part == "assignment":
            problems += leaks(course, document)
    return problems


def stale(course: Path) -> Iterator[Problem]:
    """Notebooks that are not what the manuscript makes, and notebooks that nothing makes."""
    made = builder.build(course)
    for path, text in made.items():
        if not (course / path).is_file() or (course / path).read_text() != text:
            yield Problem(str(path), "is stale. Run `make build`, then commit.")
    for path in [*course.glob("notebooks/*.ipynb"), *course.glob("source/*/*"), *course.glob(f"{builder.CARDS}/*")]:
        if path.relative_to(course) not in made:
            yield Problem(str(path.relative_to(course)), "is made by nothing in manuscript/. Remove it.")
    released = releases(course)
    for path, text in released.items():
        if not (course / path).is_file() or (course / path).read_text() != text:
            yield Problem(str(path), "is stale. Run `make release`, then commit.")
    for path in course.glob("release/*/*"):
        if path.relative_to(course) not in released:
            yield Problem(str(path.relative_to(course)), "is the release of nothing. Remove it.")


def times(course: Path) -> Iterator[Problem]:
    """Notebooks whose time was never measured, or when they were much shorter or longer; times of what is gone."""
    files = set()
    for document in documents(course / "manuscript"):
        path = builder.target(document)
        files.add(measured.place(path)[0])
        was = measured.read(course, path).get("cells", 0)
        cells = sum(cell.kind == "code" and cell.mark not in ("alternative", "wrong") for cell in document.cells)
        if abs(cells - was) > was * TIMES_HOLD:
            then = f"was measured with {was} cells of code and has {cells} now" if was else "has never been measured"
            how = f"Run `podlab execute --record {path}`, then commit {measured.FOLDER}."
            yield Problem(str(path), f"{then}. {how}")
    for file in course.glob(f"{measured.FOLDER}/*"):
        if file.relative_to(course) not in files:
            yield Problem(str(file.relative_to(course)), "has the time of nothing. Remove it.")


def prose(document: Document) -> Iterator[Problem]:
    """Prose that is too long for a cell, shouts, or has emoji; headings that are missing or doubled."""
    most = MOST_WORDS[document.part]
    for number, cell in _numbered(document):
        if cell.kind == "code" and not cell.mark and cell.source.count("\n") >= MOST_LINES:
            yield Problem(number, f"has more than {MOST_LINES} lines of code. Divide it.")
        if cell.kind != "markdown":
            continue
        words = len(re.sub(r"\(https?://[^)]*\)|[|#*`-]", " ", cell.source).split())
        if words > most:
            yield Problem(number, f"has {words} words; {most} are the most. Divide or shorten it.")
        text = re.sub(r"`[^`]*`|!\[", "", cell.source)
        if "!" in text:
            yield Problem(number, "has an exclamation mark. Say it plainly.")
        if re.search(r"[\U0001F300-\U0001FAFF\u2600-\u26FF\u2B50]", text):
            yield Problem(number, "has an emoji.")
        for alt in re.findall(r"!\[([^\]]*)\]", cell.source) + re.findall(r"<img(?![^>]*alt=\"[^\"]+\")", cell.source):
            if not alt.strip() or alt.startswith("<img"):
                yield Problem(number, "has a picture without alternative text.")
    firsts = sum(len(re.findall(r"^# ", cell.source, re.MULTILINE)) for _, cell in _numbered(document, "markdown"))
    if firsts != 1:
        yield Problem(str(document.path.name), f"has {firsts} headings of the first level; it must have one.")


def lesson(document: Document) -> Iterator[Problem]:
    """What makes a lesson: its size, balance, predictions and last sections."""
    where = f"{document.name}/{document.path.name}"
    start_page = document.about["chapter"] == "00"
    cells = document.cells
    budget = START_CELLS if start_page else LESSON_CELLS
    if len(cells) not in budget:
        yield Problem(where, f"has {len(cells)} cells; a lesson has {budget.start} to {budget.stop - 1}.")
    codes = [cell for cell in cells if cell.kind == "code"]
    median = statistics.median(len(cell.source.splitlines()) for cell in codes)
    if median > MEDIAN_LINES:
        yield Problem(where, f"the median code cell has {median:g} lines; {MEDIAN_LINES} are the most.")
    if start_page:
        return
    harms = any(re.search(r"\blab\.(kill|isolate)_node\(", cell.source) for cell in codes) or any(
        exercise.disruptive for exercise in registry.chapter(str(document.about["chapter"])).values()
    )
    if harms != bool(document.about.get("disruptive")):
        yield Problem(
            where,
            "takes nodes away, in the lesson or in an exercise: say `disruptive: true` in the header."
            if harms
            else "says `disruptive: true`, and neither lesson nor exercises take nodes away. Remove it.",
        )
    texts = len(cells) - len(codes)
    if texts * 10 < len(codes) * PROSE_TO_TEN:
        yield Problem(where, f"has {texts} cells of prose to {len(codes)} of code. Say more between them.")
    predictions = sum("lab.predict(" in cell.source for cell in codes)
    if predictions < PREDICTIONS:
        yield Problem(where, f"asks for {predictions} predictions; {PREDICTIONS} are the fewest.")
    for number, cell in _numbered(document, "code"):
        if re.search(r"^lab\.(predict|reconcile)\(.*\n(?=\S)", cell.source.rstrip() + "\n", re.MULTILINE):
            yield Problem(number, "has a prediction whose answer nobody sees. Put it last, or in print(...).")
    everything = "\n".join(cell.source for cell in cells if cell.kind == "markdown")
    for section in SECTIONS:
        if section not in everything:
            yield Problem(where, f"has no section {section!r}.")


def assignment(document: Document) -> Iterator[Problem]:
    """What makes an assignment: checks for every answer, wrong answers and alternatives for every exercise."""
    where = f"{document.name}/{document.path.name}"
    checks = [cell.exercise for cell in document.cells if cell.mark == "checks"]
    if checks != document.exercises:
        yield Problem(where, f"has answers for {document.exercises} and checks for {checks}.")
    for place, cell in _numbered(document, "code"):
        if not cell.mark and set(re.findall(r"\blab\.(\w+)\(", cell.source)) - {"progress"}:
            yield Problem(place, "uses the lab; grading runs it without a cluster. Trials belong in the lesson.")
    known = registry.chapter(str(document.about["chapter"]))
    found = cases(document)
    for id in sorted(set(known) | set(document.exercises)):
        if id not in known or id not in document.exercises:
            yield Problem(where, f"exercise {id} is only in the manuscript or only in the package.")
            continue
        names = {item.name for item in known[id].handed_in}
        for case in (case for case in found if case.exercise == id):
            if missing := names - set(case.names):
                yield Problem(where, f"{case.kind} {case.title!r} of {id} does not bind {', '.join(sorted(missing))}.")
        for kind, least in (("wrong", WRONG_ANSWERS), ("alternative", ALTERNATIVES)):
            number = sum(case.kind == kind and case.exercise == id for case in found)
            if number < least:
                yield Problem(where, f"exercise {id} has {number} {kind} answers; {least} are the fewest.")


def links(course: Path, document: Document) -> Iterator[Problem]:
    """Links to files and headings that are not there, links that are not https, and pictures from elsewhere."""
    here = course / builder.target(document)
    for number, cell in _numbered(document, "markdown"):
        for picture, address in re.findall(r"(!?)\[[^\]]*\]\(([^)\s]+)\)", cell.source):
            if "://" in address:
                if picture:
                    yield Problem(number, f"shows {address}, which is not there without a network. Keep it here.")
                elif not address.startswith("https://"):
                    yield Problem(number, f"links to {address}, which is not https.")
            else:
                path = address.partition("#")[0]
                yield from _anchor(here.parent / path if path else here, number, address)
    if document.part == "assignment":
        for exercise in registry.chapter(str(document.about["chapter"])).values():
            lesson = course / exercise.lesson.partition("#")[0]
            yield from _anchor(lesson, f"exercise {exercise.id}", exercise.lesson)


def _anchor(file: Path, where: str, address: str) -> Iterator[Problem]:
    """What is wrong with an address that leads to `file`: there is none, or no such heading in it."""
    anchor = address.partition("#")[2]
    if not file.exists():
        yield Problem(where, f"links to {address}, which does not exist.")
    elif anchor and file.suffix == ".ipynb":
        headings = {
            line.lstrip("#").strip().replace(" ", "-")
            for cell in json.loads(file.read_text())["cells"]
            if cell["cell_type"] == "markdown"
            for line in "".join(cell["source"]).splitlines()
            if line.startswith("#")
        }
        if anchor not in headings:
            yield Problem(where, f"links to {address}, and there is no such heading.")


def notebook(course: Path, path: Path) -> Iterator[Problem]:
    """Outputs, counts and widget state in a generated notebook; doubled cell ids."""
    where = str(path.relative_to(course))
    data = json.loads(path.read_text())
    if "widgets" in data["metadata"]:
        yield Problem(where, "holds the state of widgets.")
    ids = [cell["id"] for cell in data["cells"]]
    if len(ids) != len(set(ids)):
        yield Problem(where, "has two cells with one id.")
    for index, cell in enumerate(data["cells"], 1):
        if cell.get("outputs") or cell.get("execution_count"):
            yield Problem(where, f"cell {index} holds outputs.")


def leaks(course: Path, document: Document) -> Iterator[Problem]:
    """Solutions, other answers and hidden checks that have found their way into the release."""
    path = course / "release" / document.name / f"{document.name}.ipynb"
    if not path.is_file():
        return
    where = str(path.relative_to(course))
    text = "\n".join("".join(cell["source"]) for cell in json.loads(path.read_text())["cells"])
    for secret in secrets_of(course, document):
        if secret in text:
            yield Problem(where, f"gives away {secret!r}.")


def secrets_of(course: Path, document: Document) -> list[str]:
    """Every line of a right answer that the learner is not given elsewhere, markers, titles, and the hidden checks."""
    given = {
        line.strip()
        for cell in document.cells
        if cell.mark not in ("alternative", "wrong")
        for line in without_solutions(cell.source).splitlines()
    }
    secrets = ["BEGIN SOLUTION", "END SOLUTION", "BEGIN HIDDEN"]
    for cell in document.cells:
        if cell.mark in ("answer", "alternative"):
            shown = without_solutions(cell.source).splitlines() if cell.mark == "answer" else ()
            lines = [line for line in cell.source.splitlines() if line not in shown]
            hidden_lines = [line.removeprefix("# + ").strip() for line in lines]
            secrets += [line for line in hidden_lines if len(line) > 12 and line not in given]
        if cell.mark in ("alternative", "wrong"):
            secrets.append(cell.title)
    folder = course / "autograder" / "hidden"
    chapter = str(document.about["chapter"])
    if (folder / f"chapter{chapter}.py").is_file():
        for exercise in registry.chapter(chapter, folder).values():
            for check in exercise.checks:
                if check.hidden:
                    secrets += [check.title, f'"{check.id}"']
    return sorted(set(secrets))


def _numbered(document: Document, kind: str = "") -> Iterator[tuple[str, Cell]]:
    for number, cell in enumerate(document.cells, 1):
        if not kind or cell.kind == kind:
            yield f"{document.name}/{document.path.name}, cell {number}", cell


def facts(course: Path) -> Mapping[str, Any]:
    """Numbers about the course for people: lessons, exercises, answers."""
    found = documents(course / "manuscript")
    answers = [case for document in found if document.part == "assignment" for case in cases(document)]
    return {
        "lessons": sum(document.part == "lesson" for document in found),
        "exercises": sum(len(document.exercises) for document in found),
        "alternatives": sum(case.kind == "alternative" for case in answers),
        "wrong answers": sum(case.kind == "wrong" for case in answers),
    }
