"""`make conformance`: build the suite, run it on a cluster, judge the outcomes and write docs/conformance.md."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Annotated

import images
import place
import programs
import report
import running
import typer
from rich.console import Console
from rich.text import Text

from podlab.cluster.embedded import binaries
from podlab.commands.binaries import shown
from podlab.commands.cluster import drawn
from podlab.errors import ClusterError, PodlabError
from podlab.images.layout import ImageLayout

_told = Console(stderr=True, highlight=False, soft_wrap=True)
RESULTS = place.HERE / "results.json"
NOT_BUILT = 4


def tell(text: str) -> None:
    """Say one line."""
    _told.print(Text(text))


def prepare(suite: Path) -> dict[str, Path]:
    """Build what is missing of programs and images; the control plane's binaries."""
    with shown(_told) as progress:
        found = binaries.ensure(progress=progress)
        programs.build(suite, progress)
        images.build(suite, found["etcd"], ImageLayout(place.home(suite) / "cache" / "images"), progress)
    return found


def runtime(provider: str = "embedded") -> str:
    """The runtime under test, as the results name it."""
    if provider != "embedded":
        return provider
    return f"Sandbox runtime, {'root' if os.geteuid() == 0 else 'ordinary user'}"


def selection(short: bool, focus: list[str], kind: str, processes: int) -> running.Selection:
    """What the options ask for."""
    expressions = running.names(report.short()) if short else focus
    places = [where for letter in kind for where in report.of_class(letter)]
    return running.Selection(focus=expressions, places=places, processes=processes, alone=not short)


def main(
    short: Annotated[bool, typer.Option(help="About sixty short tests.")] = False,
    focus: Annotated[list[str] | None, typer.Option(help="Tests whose names fit a regular expression.")] = None,
    kind: Annotated[str, typer.Option(help="Classes of tests, such as AB (classes.toml).")] = "",
    kubeconfig: Annotated[Path | None, typer.Option(help="A cluster of your own, with the images in it.")] = None,
    provider: Annotated[
        str, typer.Option(help="The provider of the cluster that is made: embedded or kind.")
    ] = "embedded",
    nodes: Annotated[int, typer.Option(help="How many nodes that cluster has.")] = 2,
    procs: Annotated[int, typer.Option(help="Tests side by side.")] = running.PROCESSES,
    record: Annotated[bool, typer.Option(help="Keep the outcomes in results.json and write the page.")] = False,
    take: Annotated[
        list[Path] | None, typer.Option(help="Run nothing: take the outcomes of reports, oldest first.")
    ] = None,
    build_only: Annotated[bool, typer.Option(help="Build programs and images, run nothing.")] = False,
    is_built: Annotated[bool, typer.Option(help=f"Only say whether they are there: status 0 or {NOT_BUILT}.")] = False,
) -> None:
    """Run Kubernetes' own conformance tests on a cluster of our nodes."""
    suite = place.folder()
    if is_built:
        raise typer.Exit(NOT_BUILT if programs.missing(suite) or not images.ready(suite) else 0)
    if take:
        groups = [found for folder in take for found in report.results(folder / "outcomes.json").values()]
        raise typer.Exit(_judge(report.merged(groups), runtime(provider), record))
    found = prepare(suite)
    if build_only:
        return
    whole = not (short or focus or kind)
    chosen = selection(short, focus or [], kind, procs)
    out = suite / "reports" / f"{datetime.now():%Y%m%d-%H%M%S}"
    if kubeconfig:
        outcomes = _run(suite, running.Target(kubeconfig.resolve(), found["kubectl"], nodes), chosen, out)
    else:
        with running.own_cluster(place.home(suite), found, drawn(_told), provider) as target:
            outcomes = _run(suite, target, chosen, out)
    report.write_results(out / "outcomes.json", runtime(provider), outcomes)
    raise typer.Exit(_judge(outcomes, runtime(provider), record or (whole and not kubeconfig)))


def _run(suite: Path, target: running.Target, chosen: running.Selection, out: Path) -> list[report.Outcome]:
    found = []
    for number, part in enumerate(chosen.parts(), 1):
        tell(f"Running {part.labels}, {part.processes} at a time; reports in {out}")
        found.append(running.run(suite, target, part, out / str(number), tell))
    outcomes = report.merged(found)
    if all(outcome.state == "not run" for outcome in outcomes):
        raise ClusterError("No test was run, since none fits what was asked for.", hint=f"All output is in {out}.")
    return outcomes


def _judge(outcomes: list[report.Outcome], where: str, record: bool) -> int:
    if record:
        before = report.results(RESULTS).get(where, [])
        kept = outcomes if where == runtime() else [one for one in outcomes if one.state != "not run"]
        report.write_results(RESULTS, where, report.merged([before, kept]))
        place.PAGE.write_text(report.page(report.results(RESULTS), report.expected()))
    for kind, cells in report.counts(outcomes).items():
        tell(f"{kind:4} {cells['passed']:4} passed {cells['failed']:4} failed {cells['not run']:4} not run")
    # The list of expected failures is that of the embedded cluster.
    found = report.differences(outcomes, report.expected() if where == runtime() else {})
    for text in found:
        tell(text)
    if not found:
        tell("As expected.")
    return 1 if found else 0


def entry() -> None:
    """Run, and show an error for people as such."""
    try:
        typer.run(main)
    except PodlabError as error:
        tell(str(error))
        raise SystemExit(error.exit_status) from error


if __name__ == "__main__":
    entry()
