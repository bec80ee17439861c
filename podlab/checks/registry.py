"""Find exercises: the visible part in the package, the hidden checks in a folder that only instructors have."""

from __future__ import annotations

import importlib
import importlib.util
import os
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType

from podlab.checks.contract import Exercise
from podlab.errors import GradingError, UsageError

#: The environment variable that names a folder with a course's own chapters.
OWN = "PODLAB_EXERCISES"


def chapter(number: str, hidden: Path | None = None) -> dict[str, Exercise]:
    """The exercises of a chapter ("15") by id, as fresh copies; with the hidden checks of `hidden`/chapter15.py.

    The hidden file has a function `add(exercises)` that adds its checks to them.
    """
    exercises = module(number).EXERCISES
    found = {exercise.id: replace(exercise, checks=list(exercise.checks)) for exercise in exercises}
    if hidden is not None:
        _hidden_module(hidden / f"chapter{number}.py").add(found)
    return found


def module(number: str) -> ModuleType:
    """The module of a chapter, with a list EXERCISES: `podlab.course.chapter15`, or a course's own.

    An instructor's own chapters are files chapterNN.py in the folder that PODLAB_EXERCISES names.
    """
    name = f"podlab.course.chapter{number}"
    own = Path(os.environ.get(OWN, "")) / f"chapter{number}.py"
    if OWN in os.environ and own.is_file():
        return _own_module(own)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise UsageError(f"There is no chapter {number!r} with exercises.", hint="Write it as two digits.") from error


def exercise(id: str, hidden: Path | None = None) -> Exercise:
    """The exercise with this id; UsageError names the ones there are."""
    if not isinstance(id, str):
        raise UsageError(f"{id!r} is no exercise's id.", hint='Write it in quotes, such as "15.1".')
    exercises = chapter(id.split(".")[0], hidden)
    if id not in exercises:
        raise UsageError(f"There is no exercise {id!r}.", hint=f"This chapter has {', '.join(exercises)}.")
    return exercises[id]


@cache
def _own_module(path: Path) -> ModuleType:
    return _load(path)


def _hidden_module(path: Path) -> ModuleType:
    if not path.is_file():
        raise GradingError(f"There are no hidden checks at {path}.", hint="Give the folder autograder/hidden.")
    return _load(path)


def _load(path: Path) -> ModuleType:
    """The module at `path`, loaded without entering sys.modules, so that nothing can import it by name."""
    spec = importlib.util.spec_from_file_location(f"_loaded_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
