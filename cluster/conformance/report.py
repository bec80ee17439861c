"""From ginkgo's JSON reports to outcomes, to differences from what is expected, and to docs/conformance.md."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import own_tests
import place

#: Tests that one row of the report stands for: the class is what a test needs of a node (classes.toml).
UNKNOWN = "?"
_PASSED = "passed"
_FAILED = ("failed", "panicked", "timedout", "interrupted", "aborted")


@dataclass(frozen=True)
class Outcome:
    """One test: `where` is FILE:LINE below test/e2e, `state` passed, failed or not run, `said` the first line.

    `commit`: the state of this repository that it ran on, with a + if files had been changed; "" if nobody knows.
    """

    name: str
    where: str
    state: str
    seconds: float = 0.0
    said: str = ""
    commit: str = ""

    @property
    def kind(self) -> str:
        """The test's class, A to G."""
        return _classes().get(self.where, UNKNOWN)


@cache
def _classes() -> dict[str, str]:
    found: dict[str, str] = {}
    for kind, table in _table("classes.toml").items():
        for entry in table["tests"]:
            file, _, lines = entry.partition(":")
            found |= {f"{file}:{line}": kind for line in lines.split(",")}
    return found


def _table(name: str) -> dict[str, Any]:
    return tomllib.loads((place.HERE / name).read_text())


def classes() -> dict[str, str]:
    """What each class of tests needs, by letter."""
    return {kind: table["needs"] for kind, table in _table("classes.toml").items()}


def of_class(kind: str) -> list[str]:
    """The tests of a class as FILE:LINE."""
    return [where for where, found in _classes().items() if found == kind]


def short() -> list[str]:
    """The names of the tests of a short run."""
    return [line for line in (place.HERE / "short.txt").read_text().splitlines() if line and not line.startswith("#")]


def expected(where: str) -> dict[str, str]:
    """Why a test is expected to fail on a cluster ("kind", "embedded, plain, root"), by its name."""
    found = _table("expected.toml").get("failure", [])
    return {entry["test"]: entry["why"] for entry in found if any(_is_part(on, where) for on in entry["on"])}


def left_out(where: str) -> dict[str, str]:
    """Why a whole run on a cluster leaves out a class of tests, by the class's letter."""
    found = [
        entry for entry in _table("expected.toml").get("class", []) if any(_is_part(on, where) for on in entry["on"])
    ]
    return {letter: entry["why"] for entry in found for letter in entry["classes"]}


def _is_part(on: str, where: str) -> bool:
    """Whether a cluster is one of those that an entry means: "embedded" means all embedded ones."""
    return f"{where}, ".startswith(f"{on}, ")


def read(report: Path) -> list[Outcome]:
    """The conformance tests of one of ginkgo's JSON reports, each once, those that did not run too."""
    outcomes = []
    for suite in json.loads(report.read_text()):
        for spec in suite["SpecReports"] or ():
            name = " ".join([*(spec["ContainerHierarchyTexts"] or ()), spec["LeafNodeText"]])
            if spec["LeafNodeType"] == "It" and "[Conformance]" in name:
                outcomes.append(_outcome(name, spec))
    return outcomes


def _outcome(name: str, spec: Mapping[str, Any]) -> Outcome:
    place_ = spec["LeafNodeLocation"]
    where = f"{place_['FileName'].rpartition('test/e2e/')[2].removesuffix('.go')}:{place_['LineNumber']}"
    state, failure = spec["State"], spec.get("Failure") or {}
    said = " ".join(failure.get("Message", "").split())[:300]
    if state == _PASSED:
        return Outcome(name, where, _PASSED, round(spec["RunTime"] / 1e9, 1))
    if state in _FAILED or (state == "skipped" and said):
        return Outcome(name, where, "failed", round(spec["RunTime"] / 1e9, 1), said)
    return Outcome(name, where, "not run")


def merged(groups: Iterable[Iterable[Outcome]]) -> list[Outcome]:
    """Outcomes of several runs in one list: what ran last counts, and what ran at all before what did not."""
    found: dict[str, Outcome] = {}
    for group in groups:
        for outcome in group:
            if outcome.state != "not run" or outcome.name not in found:
                found[outcome.name] = outcome
    return sorted(found.values(), key=lambda outcome: outcome.name)


def differences(outcomes: Iterable[Outcome], reasons: Mapping[str, str]) -> list[str]:
    """What is not as expected, in either direction; tests that did not run are not judged."""
    said = []
    for outcome in outcomes:
        if outcome.state == "failed" and outcome.name not in reasons:
            said.append(f"failed: {outcome.name} ({outcome.where})\n    {outcome.said}")
        if outcome.state == _PASSED and outcome.name in reasons:
            said.append(f"passed, though expected.toml has it as a failure: {outcome.name}")
    return said


def write_results(path: Path, runtime: str, outcomes: list[Outcome]) -> None:
    """Put the outcomes of a runtime into the results file, beside those of the others."""
    everything = results(path)
    everything[runtime] = outcomes
    content = {name: [asdict(outcome) for outcome in found] for name, found in sorted(everything.items())}
    path.write_text(json.dumps(content, indent=0) + "\n")


def results(path: Path) -> dict[str, list[Outcome]]:
    """Outcomes by runtime from the results file; nothing if there is none."""
    if not path.exists():
        return {}
    return {name: [Outcome(**entry) for entry in found] for name, found in json.loads(path.read_text()).items()}


def counts(outcomes: Iterable[Outcome]) -> dict[str, dict[str, int]]:
    """Number of tests by class and state, with the class "all"."""
    table: dict[str, dict[str, int]] = {}
    for outcome in outcomes:
        for row in (outcome.kind, "all"):
            cells = table.setdefault(row, {_PASSED: 0, "failed": 0, "not run": 0})
            cells[outcome.state] += 1
    return {row: table[row] for row in sorted(table, key=lambda row: (row == "all", row))}


_HEAD = """\
# Kubernetes' own conformance suite on the embedded cluster and on kind

Written by `make conformance` from `results.json` and `own-tests.json` in `cluster/conformance`; do not edit. The suite
is the unmodified `e2e.test` of Kubernetes {version}, of which the tests marked `[Conformance]` are run. This is a
measurement and no certification. What differs from the list of expected failures
(`cluster/conformance/expected.toml`), in either direction, is a failure of the run. What ran last counts: a test that
failed was run again when its cause was mended, and one that no run has reached is said to be not run. A cluster that
is not below was not measured.

`make conformance` builds what it needs (some minutes the first time), starts a cluster of its own, runs and judges.
`make conformance ARGS=--short` runs about sixty short tests; `--focus TEXT`, `--kind A` (a class of the tables below),
`--procs N` and `--kubeconfig FILE` choose what runs where; `--runtime plain` and `--provider kind` take another
cluster, and `--called NAME --record` keeps the outcomes of `--kubeconfig` under that name. `make test-kind` runs the
short tests on kind. `--own-tests NAME=FILE` takes a JUnit report of `tests/cluster` into the last table: `make test`,
`make test-plain` and `make test-kind` leave theirs in `build/tests`.
"""


def page(everything: Mapping[str, list[Outcome]], own: Mapping[str, own_tests.Column]) -> str:
    """The text of docs/conformance.md."""
    parts = [_HEAD.format(version=place.VERSION)]
    if not everything:
        parts.append("No run is recorded yet.\n")
    if len(everything) > 1:
        parts.append(_side_by_side(everything))
    for runtime, outcomes in everything.items():
        reasons = expected(runtime)
        passed = sum(outcome.state == _PASSED for outcome in outcomes)
        heading = f"## {runtime}: {passed} of {len(outcomes)} passed\n\nRan on {_commits(outcomes)}."
        parts.append(f"{heading}\n\n{_class_table(outcomes)}")
        failed = [outcome for outcome in outcomes if outcome.state == "failed"]
        for title, found in (
            ("Failed", [one for one in failed if one.name not in reasons]),
            ("Not possible", [one for one in failed if one.name in reasons]),
        ):
            if found:
                parts.append(f"### {title}\n\n{_failure_table(found, reasons)}")
        if left := [outcome for outcome in outcomes if outcome.state == "not run"]:
            parts.append(f"### Not run\n\n{_not_run(left, left_out(runtime))}")
    parts.append(own_tests.section(own))
    return "\n".join(parts)


def _not_run(left: Sequence[Outcome], reasons: Mapping[str, str]) -> str:
    """A line for each test, or for all of the classes that are left out for one reason."""
    lines = []
    for why in dict.fromkeys(reasons.values()):
        found = [outcome for outcome in left if reasons.get(outcome.kind) == why]
        if found:
            lines.append(
                f"- {len(found)} tests of the classes {', '.join(sorted({one.kind for one in found}))}: {why}\n"
            )
    return "".join([*lines, *(f"- {_cell(outcome.name)}\n" for outcome in left if outcome.kind not in reasons)])


def _commits(outcomes: Iterable[Outcome]) -> str:
    """The commits that the tests ran on, with how many each where there are several."""
    count = Counter(outcome.commit or own_tests.NOBODY_KNOWS for outcome in outcomes if outcome.state != "not run")
    if len(count) < 2:
        return next(iter(count), own_tests.NOBODY_KNOWS)
    return ", ".join(f"{commit} ({number} tests)" for commit, number in count.most_common())


def _side_by_side(everything: Mapping[str, list[Outcome]]) -> str:
    """How many passed of those that ran on each cluster, by class, and every test whose outcomes differ."""
    by_name = {runtime: {one.name: one for one in outcomes} for runtime, outcomes in everything.items()}
    names = {one.name: one.kind for outcomes in everything.values() for one in outcomes}
    needs = {**classes(), "all": ""}
    rows = [
        "| class | needs | tests | " + " | ".join(everything) + " |",
        "|---|---|---|" + "---|" * len(everything),
    ]
    for kind in needs:
        asked = [name for name in names if kind in ("all", names[name])]
        cells = [_passed([found[name] for name in asked if name in found]) for found in by_name.values()]
        rows.append(f"| {kind} | {needs[kind]} | {len(asked)} | " + " | ".join(cells) + " |")
    states = {name: [found[name].state if name in found else "not run" for found in by_name.values()] for name in names}
    differ = [name for name in names if len({*states[name]} - {"not run"}) > 1]
    told = "How many passed, of those that ran; below, each test that passed on one and failed on another."
    start = f"## Side by side\n\n{told}\n\n"
    if not differ:
        return start + "\n".join(rows) + "\n\nOutcomes that differ: none.\n"
    rows += ["", "Outcomes that differ:", "", f"| test | {' | '.join(everything)} | why |"]
    rows.append("|---|---|" + "---|" * len(everything))
    for name in differ:
        why = {
            _reason(name, where): None for where, state in zip(by_name, states[name], strict=True) if state == "failed"
        }
        rows.append(f"| {_cell(name)} | {' | '.join(states[name])} | {_cell(' '.join(why))} |")
    return start + "\n".join(rows) + "\n"


def _passed(outcomes: Sequence[Outcome]) -> str:
    """How many passed, with how many ran where that is not all of them."""
    ran = [one for one in outcomes if one.state != "not run"]
    passed = sum(one.state == _PASSED for one in ran)
    return "not run" if not ran else str(passed) if passed == len(ran) else f"{passed} of {len(ran)}"


def _reason(name: str, runtime: str) -> str:
    return expected(runtime).get(name, f"Not explained on {runtime}.")


def _class_table(outcomes: list[Outcome]) -> str:
    rows = ["| class | needs | tests | passed | failed | not run |", "|---|---|---|---|---|---|"]
    needs = classes()
    for kind, cells in counts(outcomes).items():
        numbers = [sum(cells.values()), *cells.values()]
        rows.append(f"| {kind} | {needs.get(kind, '')} | " + " | ".join(map(str, numbers)) + " |")
    return "\n".join(rows) + "\n"


def _failure_table(failed: list[Outcome], reasons: Mapping[str, str]) -> str:
    rows = ["| test | class | why |", "|---|---|---|"]
    rows += [
        f"| {_cell(one.name)} | {one.kind} | {_cell(reasons.get(one.name, 'not explained: ' + one.said))} |"
        for one in failed
    ]
    return "\n".join(rows) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
