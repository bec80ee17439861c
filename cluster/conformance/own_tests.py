"""Our own cluster tests on several clusters, side by side: taken from pytest's JUnit reports of tests/cluster."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import place

from podlab.errors import UsageError

#: What was recorded: by cluster the commit, and the tests by "module: name".
FILE = place.HERE / "own-tests.json"
Column = Mapping[str, Any]
NOBODY_KNOWS = "a commit that was not noted"
_TITLE = "## Our own cluster tests"


def read() -> dict[str, Column]:
    """What is recorded, by cluster."""
    return json.loads(FILE.read_text()) if FILE.exists() else {}


def record(reports: Iterable[tuple[str, str]]) -> None:
    """Keep pairs of a cluster's name and the path of a report; several of one cluster are one."""
    found: dict[str, dict[str, str]] = {}
    commits: dict[str, list[str]] = {}
    for name, path in reports:
        if not (name and path):
            raise UsageError(
                "--own-tests wants the cluster and a report: --own-tests kind=build/tests/kind-cluster.xml"
            )
        commit, outcomes = taken(Path(path))
        found.setdefault(name, {}).update(outcomes)
        commits.setdefault(name, []).append(commit or NOBODY_KNOWS)
    kept = read() | {
        name: {"commit": ", ".join(dict.fromkeys(commits[name])), "tests": tests} for name, tests in found.items()
    }
    FILE.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


def taken(report: Path) -> tuple[str, dict[str, str]]:
    """What a JUnit report says: the commit that ran ("" if it says none), and of every test "passed", "failed", or
    "skipped: " and why.
    """
    try:
        root = ElementTree.parse(report).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise UsageError(f"{report} is no JUnit report: {error}.", hint="pytest --junitxml=FILE makes one.") from error
    found: dict[str, str] = {}
    for case in root.iter("testcase"):
        name = f"{case.get('classname', '').rpartition('.')[2]}: {case.get('name')}"
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            found[name] = "failed"
        elif skipped is not None:
            found.setdefault(name, f"skipped: {skipped.get('message', '')}")
        else:
            found.setdefault(name, "passed")
    said = {each.get("name"): each.get("value", "") for each in root.iter("property")}
    return said.get("commit", ""), found


def section(columns: Mapping[str, Column]) -> str:
    """The part of the page: a row for each module, then what failed, and why tests were passed over."""
    if not columns:
        return f"{_TITLE}\n\nNo run is recorded yet.\n"
    told = [f"- {name}: {column['commit']}" for name, column in columns.items()]
    names = sorted({name for column in columns.values() for name in column["tests"]})
    modules = dict.fromkeys(name.partition(":")[0] for name in names)
    rows = [f"| tests/cluster | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
    for module in modules:
        cells = [_count(column["tests"], f"{module}:") for column in columns.values()]
        rows.append(f"| {module} | {' | '.join(cells)} |")
    rows.append(f"| all | {' | '.join(_count(column['tests'], '') for column in columns.values())} |")
    parts = [_TITLE, "What passed, and on which commit:", "\n".join(told), "\n".join(rows)]
    parts += ["A dash: not run there. On the plain runtime `make test-plain` runs what it has a part in."]
    failed = [(name, where) for name in names for where, column in columns.items() if _state(column, name) == "failed"]
    if failed:
        parts += ["What failed:", "\n".join(f"- on {where}: {_cell(name)}" for name, where in failed)]
    if passed_over := _passed_over(columns, names):
        rows = ["| not on | why | tests |", "|---|---|---|"]
        rows += [f"| {where} | {_cell(why)} | {_cell(tests)} |" for (where, why), tests in passed_over.items()]
        parts += ["What was passed over, and why:", "\n".join(rows)]
    return "\n\n".join(parts) + "\n"


def _passed_over(columns: Mapping[str, Column], names: Iterable[str]) -> dict[tuple[str, str], str]:
    """By cluster and reason, how many tests of which modules; the test itself where it is the only one."""
    found: dict[tuple[str, str], list[str]] = {}
    for name in names:
        for where, column in columns.items():
            kind, _, why = _state(column, name).partition(": ")
            if kind == "skipped":
                found.setdefault((where, why.removeprefix(f"not on {where}: ")), []).append(name)
    told = {}
    for key, tests in sorted(found.items()):
        modules = Counter(name.partition(":")[0] for name in tests)
        told[key] = tests[0] if len(tests) == 1 else ", ".join(f"{count} of {name}" for name, count in modules.items())
    return told


def _state(column: Column, name: str) -> str:
    return column["tests"].get(name, "")


def _count(tests: Mapping[str, str], module: str) -> str:
    states = [state.partition(":")[0] for name, state in tests.items() if name.startswith(module)]
    counts = [f"{states.count(state)} {state}" for state in ("passed", "skipped", "failed") if state in states]
    return ", ".join(counts) or "-"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
