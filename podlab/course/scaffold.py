"""The beginnings of a new chapter: lesson, assignment, module, one exercise, hidden checks; checkable from the start.

What is written passes `make check` but for what only its author can say, and its one exercise obeys every rule of an
exercise, so that the tests of the course hold while the chapter grows.
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from string import Template

from podlab.errors import UsageError
from podlab.lab.chapters import PARTS

#: What is made from which template; NN, SLUG and PACKAGE stand for the chapter's.
FILES = {
    "manuscript/NN-SLUG/lesson.py": "lesson.template",
    "manuscript/NN-SLUG/assignment.py": "assignment.template",
    "podlab/course/chapterNN.py": "chapter.template",
    "podlab/course/PACKAGE/__init__.py": "package.template",
    "podlab/course/PACKAGE/first.py": "exercise.template",
    "autograder/hidden/chapterNN.py": "hidden.template",
}


def new_chapter(course: Path, number: str, slug: str) -> list[Path]:
    """Write the files of a new chapter and return their paths; UsageError, and nothing written, if one is there."""
    if not re.fullmatch(r"[a-z]+(-[a-z]+)*", slug):
        raise UsageError(f"{slug!r} is no name for a chapter.", hint="Small letters and hyphens, such as rolling-out.")
    chapter = next((each for part in PARTS.values() for each in part if each.number == number), None)
    if chapter is None or number == "00":
        raise UsageError(
            f"The course's plan has no chapter {number!r} to write.", hint="The plan is in podlab/lab/chapters.py."
        )
    package = slug.replace("-", "_")
    names = {"number": number, "slug": slug, "package": package, "title": chapter.title, "question": chapter.question}
    texts = {
        Path(path.replace("NN", number).replace("SLUG", slug).replace("PACKAGE", package)): _filled(template, names)
        for path, template in FILES.items()
    }
    others = [*course.glob(f"manuscript/{number}-*"), *(path for path in texts if (course / path).exists())]
    if others:
        raise UsageError(
            f"Chapter {number} is there already: {', '.join(str(path) for path in others)}.",
            hint="Edit it, or remove it first.",
        )
    for path, text in texts.items():
        (course / path).parent.mkdir(parents=True, exist_ok=True)
        (course / path).write_text(text)
    return list(texts)


def _filled(template: str, names: dict[str, str]) -> str:
    text = resources.files("podlab.course").joinpath(f"templates/{template}").read_text()
    return Template(text).substitute(names)
