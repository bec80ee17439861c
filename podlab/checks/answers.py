"""Take answers out of a namespace as plain JSON values: what the notebook has bound to the exercise's names.

A function or a class travels as text: the definitions of its cell, and of what it uses from other cells.
"""

from __future__ import annotations

import ast
import inspect
import json
import linecache
import textwrap
import types
from collections.abc import Iterable, Mapping
from typing import Any

from podlab.checks import finite
from podlab.checks.contract import Exercise, HandIn, Json

#: Characters of JSON that one answer may take.
LARGEST = 256 * 1024


def collect(exercises: Iterable[Exercise], names: Mapping[str, Any]) -> dict[str, dict[str, Json]]:
    """The answers by exercise id and name; a name that is missing or cannot be JSON is left out."""
    return {
        exercise.id: {
            item.name: value
            for item in exercise.handed_in
            if item.name in names and (value := _plain(item, names[item.name], names)) is not None
        }
        for exercise in exercises
    }


def _plain(item: HandIn, value: Any, names: Mapping[str, Any]) -> Json:
    if item.kind in ("function", "program") and callable(value):
        value = source_of(value, names, item.name) or [f"{type(value).__name__} without a function in it"]
    elif item.kind == "function":
        # Text would be taken for source: what is no function is shown as what it is.
        return [type(value).__name__]
    try:
        text = json.dumps(value, default=finite.plain)
        return finite.read(text) if len(text) <= LARGEST else None
    except (TypeError, ValueError, RecursionError):
        return None


def source_of(thing: Any, names: Mapping[str, Any], name: str) -> str | None:
    """Text that defines the function or class bound to `name` by itself: its cell's imports, definitions and
    constants, and those that it uses from other cells in `names`; None where its source cannot be had."""
    qualname = getattr(thing, "__qualname__", "")
    if not qualname:
        return None  # an object of some class, functools.partial say: its module is not where it was made
    if "<locals>" in qualname:
        try:
            return textwrap.dedent(inspect.getsource(thing))
        except (OSError, TypeError):
            return None
    if (module := getattr(thing, "__module__", None)) and module not in ("__main__", "builtins"):
        return f"from {module} import {qualname} as {name}\n"
    texts: dict[str, str] = {}
    imports: dict[str, str] = {}
    _gather(thing, names, texts, imports)
    if not texts:
        return None
    head = "\n".join(sorted(imports.values()))
    # What is used comes before what uses it.
    return "\n\n".join(filter(None, [head, *reversed(texts.values())])) + "\n"


def _gather(thing: Any, names: Mapping[str, Any], texts: dict[str, str], imports: dict[str, str]) -> None:
    file = _file(thing)
    lines = linecache.getlines(file) if file else []
    if file in texts or not lines:
        return
    text = definitions("".join(lines))
    texts[file] = text
    used, defined = _names(text)
    for name in sorted(used - defined):
        value = names.get(name)
        if isinstance(value, types.ModuleType):
            imports[name] = f"import {value.__name__} as {name}"
        elif isinstance(value, types.FunctionType | type):
            module = value.__module__ or ""
            if module in ("__main__", "builtins", ""):
                _gather(value, names, texts, imports)
            else:
                imports[name] = f"from {module} import {value.__name__} as {name}"
        elif isinstance(value, int | float | str | bool) and name not in texts:
            imports[name] = f"{name} = {value!r}"


def _file(thing: Any) -> str:
    """The file (a cell's, in a notebook) that a function or class was made from; '' if there is none."""
    if isinstance(thing, type):
        found = (member for member in vars(thing).values() if isinstance(member, types.FunctionType))
        thing = next(found, None)
    elif isinstance(getattr(thing, "__wrapped__", None), types.FunctionType):
        thing = thing.__wrapped__  # a decorator such as functools.cache keeps the function there
    code = getattr(thing, "__code__", None)
    return code.co_filename if code is not None else ""


def definitions(text: str) -> str:
    """The imports, functions, classes and assignments of a cell without what it only runs; as it is if not Python."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return text
    kept = (
        ast.Import | ast.ImportFrom | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign
    )
    lines = text.splitlines()
    parts = []
    for node in tree.body:
        # What talks to the lab has no meaning elsewhere.
        talks = any(isinstance(part, ast.Name) and part.id == "lab" for part in ast.walk(node))
        if isinstance(node, kept) and not talks:
            first = min([node.lineno, *(entry.lineno for entry in getattr(node, "decorator_list", []))])
            parts.append("\n".join(lines[first - 1 : node.end_lineno]))
    return "\n".join(parts)


def _names(text: str) -> tuple[set[str], set[str]]:
    """The names that a text reads, and those that it binds at any depth."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return set(), set()
    used: set[str] = set()
    defined: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else defined).add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            defined |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.arg):
            defined.add(node.arg)
    return used, defined
