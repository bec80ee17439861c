"""docs/benchmarks.md, and the figures of docs/clusters.md, from the results that were kept.

`python benchmarks/kept.py` writes them anew.
"""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PAGE = HERE.parent / "docs" / "benchmarks.md"
#: The page that holds `clusters()` between two comments.
CLUSTERS = HERE.parent / "docs" / "clusters.md"
_BEGIN, _END = "<!-- measured: python benchmarks/kept.py -->\n", "<!-- end of what was measured -->"
_UNKNOWN = "not yet measured"
#: Rows of `clusters()` from kind-vs-embedded: what, its name there, unit.
_BOTH = (
    ("start, until a pod could run", "start", "s"),
    ("memory of three nodes without pods (proportional)", "proportional", "MiB"),
    ("a Deployment of 100, until all are Ready", "ready", "s"),
    ("the same, until all are gone", "gone", "s"),
    ("a new Service, until it answers", "service", "s"),
    ("a changed endpoint, until it answers", "endpoint", "s"),
    ("rolling update of three under load", "rollout", "s"),
    ("end", "end", "s"),
)
#: While that is not kept: what, the benchmark of the embedded cluster, unit.
_ALONE = (
    ("start, until a Deployment of three answers through its Service", "cluster-up", "s"),
    ("memory of a control plane, three nodes and ten pods (resident)", "cluster-memory", "MiB"),
    ("a Deployment of 100, until all are Ready", "pods-100", "s"),
)
UNSAID = "nobody has said it yet, in benchmarks/missed.toml."
HEAD = """# What was measured

Every figure comes from a program in `benchmarks/` (`make bench NAME=...`) with its default numbers, run by itself. It
has its floor, or the peer that it is held against, beside it in the same run; the ratio is that of the two. *Goal* is
what we set ourselves; a goal that is missed says no. `ARGS=--record` keeps the result of a run in `benchmarks/results/`
and writes this page anew, `ARGS=--small` only shows that a benchmark works.

| benchmark | what | goal | measured | beside | ratio | met | when, on |
|---|---|---|---|---|---|---|---|
"""


def record(line: Mapping[str, Any]) -> None:
    """Keep the last line of a benchmark, and write the page anew."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{line['name']}.json").write_text(json.dumps(line, indent=1) + "\n")
    write()


def write() -> None:
    """Write the page, and the figures of the other one."""
    PAGE.write_text(page())
    before, _, rest = CLUSTERS.read_text().partition(_BEGIN)
    CLUSTERS.write_text(before + _BEGIN + clusters() + _END + rest.partition(_END)[2])


def clusters() -> str:
    """Embedded cluster and kind side by side: figures of one run if there are any, and how much conformance passes."""
    both = _kept("kind-vs-embedded")
    rows = [("", "embedded", "kind")]
    if both:
        rows += [
            (what, *(_figure(both[name].get(key), unit) for name in ("embedded", "kind"))) for what, key, unit in _BOTH
        ]
    else:
        rows += [(what, _figure(_kept(name).get("value"), unit), _UNKNOWN) for what, name, unit in _ALONE]
    recorded = json.loads((HERE.parent / "cluster" / "conformance" / "results.json").read_text())
    passed = {
        name.partition(",")[0]: f"{sum(one['state'] == 'passed' for one in tests)} of {len(tests)} passed"
        for name, tests in sorted(recorded.items())  # of the embedded ones the last: that of the sandbox, run as root
    }
    rows.append(
        ("[conformance tests](conformance.md) of Kubernetes", *(passed.get(x, _UNKNOWN) for x in ("embedded", "kind")))
    )
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|---|---|---|", *lines[1:]]) + "\n"


def _kept(name: str) -> dict[str, Any]:
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _figure(value: float | None, unit: str) -> str:
    return _UNKNOWN if value is None else f"{value:.0f} {unit}" if value >= 10 else f"{value:.2g} {unit}"


def page() -> str:
    """The page, made of the results; benchmarks without one are named below the table."""
    found = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    about = benchmarks()
    machines = {json.dumps(_machine(line)): _machine(line) for line in found}
    letters = {key: chr(ord("A") + number) for number, key in enumerate(machines)}
    rows = [_row(line, about[line["name"]], letters[json.dumps(_machine(line))]) for line in found]
    kinds = [f"- **{letters[key]}**: {_told(kind)}" for key, kind in machines.items()]
    missing = [f"- {name}: {what}" for name, what in about.items() if not (RESULTS / f"{name}.json").exists()]
    parts = [HEAD + "\n".join(rows)]
    if kinds:
        parts.append("The number after a machine is its load when the benchmark began.\n\n" + "\n".join(kinds))
    if reasons := [f"- {line['name']}: {why(line['name'])}" for line in found if line["met"] is False]:
        parts.append("Why a goal is missed:\n\n" + "\n".join(reasons))
    if missing:
        parts.append("Not yet kept from a full run:\n\n" + "\n".join(missing))
    return "\n\n".join(parts) + "\n"


def why(name: str) -> str:
    """Why the goal of a benchmark is missed, as missed.toml says."""
    return " ".join(tomllib.loads((HERE / "missed.toml").read_text()).get(name, UNSAID).split())


def benchmarks() -> dict[str, str]:
    """Name of each benchmark -> what it measures, as its first line says."""
    found = {}
    for path in sorted(HERE.glob("*.py")):
        text = path.read_text()
        if re.search(r"^    finish\(", text, re.MULTILINE):
            name = path.stem.replace("_", "-")
            first = (ast.get_docstring(ast.parse(text)) or "").splitlines()[0]
            found[name] = first.removeprefix(f"{name}: ").strip()
    return found


def _row(line: Mapping[str, Any], what: str, letter: str) -> str:
    met = {True: "yes", False: "**no**", None: ""}[line["met"]]
    floor = "" if line["floor"] is None else f"{line['floor']:g}"
    ratio = "" if line["ratio"] is None else f"{line['ratio']:g}"
    measured = f"{line['value']:g} {line['unit']}"
    when = f"{line['measured']}, {letter} {line['machine']['load']:g}"
    cells = (line["name"], what, line["limit"], measured, floor, ratio, met, when)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _machine(line: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in line["machine"].items() if key != "load"}


def _told(here: Mapping[str, Any]) -> str:
    return (
        f"{here['cores']} cores ({here['processor']}), {here['memory']} MiB, Linux {here['kernel']}, "
        f"Python {here['python']}, {here['user']} user"
    )


if __name__ == "__main__":
    write()
