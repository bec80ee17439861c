"""By what a submission is graded: one digest of the release and of all checks. With another one it is graded again."""

from __future__ import annotations

import ast
import hashlib
import re
from pathlib import Path

from podlab.checks import registry, runner

_ROOT = Path(__file__).resolve().parents[2]
#: Packages whose code can change a verdict: where checks are, and what they are made of.
_PACKAGES = ("podlab.addons", "podlab.checks", "podlab.course", "podlab.distributed", "podlab.spark")
#: An import in a text that is run in the learner's process: the module, as drivers write it.
_IN_A_TEXT = re.compile(r"^ *from (podlab[.\w]*) import ", re.MULTILINE)


def basis(chapter: str, release: Path, hidden: Path | None) -> str:
    """SHA-256 of the release notebook, the chapter's visible checks with all they import, and its hidden ones."""
    whole = hashlib.sha256(release.read_bytes())
    for name, file in sorted(sources(chapter, hidden).items()):
        whole.update(f"\n{name} {hashlib.sha256(file.read_bytes()).hexdigest()}".encode())
    return whole.hexdigest()


def sources(chapter: str, hidden: Path | None) -> dict[str, Path]:
    """The files of which a chapter's checks are made, and what runs them, by the modules' names.

    Imports are read, not made; programs that checks start lie in a folder programs/ beside the modules. All modules of
    a chapter's own package count: some are given as text to a process of their own.
    """
    own = registry.module(chapter).__file__
    assert own is not None and runner.__file__ is not None
    found = {"chapter": Path(own), "runner": Path(runner.__file__)} | ({"hidden": hidden} if hidden else {})
    waiting = list(found.values())
    while waiting:
        file = waiting.pop()
        for name in _imported(file) | _beside(file):
            if name not in found and (other := _file_of(name)):
                found[name] = other
                waiting.append(other)
                found |= {f"{other.parent.name}/{each.name}": each for each in (other.parent / "programs").glob("*.*")}
    return found


def _imported(file: Path) -> set[str]:
    """The names that may be modules of ours in the imports of a file, wherever they stand, in a driver's text too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{each.name}" for each in node.names}
        elif isinstance(node, ast.Import):
            names |= {each.name for each in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names |= set(_IN_A_TEXT.findall(node.value))
    return {name for name in names if name.startswith(_PACKAGES)}


def _beside(file: Path) -> set[str]:
    """The modules of the chapter's own package in which a file lies; none for other files."""
    course = _ROOT / "podlab" / "course"
    return {
        f"podlab.course.{file.parent.name}.{each.stem}"
        for each in file.parent.glob("*.py")
        if file.parent.parent == course
    }


def _file_of(name: str) -> Path | None:
    """The file of a module; None for a name that is none."""
    place = _ROOT / name.replace(".", "/")
    return next((each for each in (place / "__init__.py", place.with_name(f"{place.name}.py")) if each.is_file()), None)
