"""`make conformance`: build the suite, run it on a cluster, judge the outcomes and write docs/conformance.md."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import images
import own_tests as own
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
from podlab.errors import ClusterError, PodlabError, UsageError
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


def commit() -> str:
    """The commit that is tested, with a + if files differ from it; "" without git."""
    asked = [("rev-parse", "--short=10", "HEAD"), ("status", "--porcelain", "--untracked-files=no")]
    try:
        done = [subprocess.run(["git", "-C", place.HERE, *one], capture_output=True, text=True) for one in asked]
    except FileNotFoundError:
        return ""
    return done[0].stdout.strip() + ("+" if done[1].stdout else "")


def selection(short: bool, focus: list[str], kind: str, processes: int, where: str) -> running.Selection:
    """What the options ask for; all that can pass on the cluster `where` if they ask for nothing."""
    left_out = report.left_out(where)
    if left_out and not (short or focus or kind):
        kind = "".join(letter for letter in report.classes() if letter not in left_out)
        for why in dict.fromkeys(left_out.values()):
            tell(f"Left out: the classes {', '.join(letter for letter in left_out if left_out[letter] == why)}. {why}")
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
    runtime: Annotated[
        str, typer.Option(help="What embedded nodes run containers with: sandbox or plain.")
    ] = "sandbox",
    called: Annotated[str, typer.Option(help="What the results call the cluster of --kubeconfig.")] = "",
    nodes: Annotated[int, typer.Option(help="How many nodes that cluster has.")] = 2,
    procs: Annotated[int, typer.Option(help="Tests side by side.")] = running.PROCESSES,
    record: Annotated[bool, typer.Option(help="Keep the outcomes in results.json and write the page.")] = False,
    take: Annotated[
        list[Path] | None, typer.Option(help="Run nothing: take the outcomes of reports, oldest first.")
    ] = None,
    own_tests: Annotated[
        list[str] | None, typer.Option(help="Run nothing: NAME=FILE, a JUnit report of our own cluster tests there.")
    ] = None,
    build_only: Annotated[bool, typer.Option(help="Build programs and images, run nothing.")] = False,
    is_built: Annotated[bool, typer.Option(help=f"Only say whether they are there: status 0 or {NOT_BUILT}.")] = False,
) -> None:
    """Run Kubernetes' own conformance tests on a cluster of our nodes."""
    suite = place.folder()
    if is_built:
        raise typer.Exit(NOT_BUILT if programs.missing(suite) or not images.ready(suite) else 0)
    if own_tests:
        own.record([text.partition("=")[::2] for text in own_tests])
        write_page()
        return
    if take:
        raise typer.Exit(_judge(*_taken(take), record))
    if kubeconfig and record and not called:
        raise UsageError(f"Nobody knows which cluster {kubeconfig} leads to.", hint="Say it: --called NAME")
    found = prepare(suite)
    if build_only:
        return
    whole = not (short or focus or kind)
    chosen = partial(selection, short, focus or [], kind, procs)
    out = suite / "reports" / f"{datetime.now():%Y%m%d-%H%M%S}"
    tested = commit()
    if kubeconfig:
        where = called or "the cluster of a kubeconfig"
        target = running.Target(kubeconfig.resolve(), found["kubectl"], nodes, where)
        outcomes = _run(suite, target, chosen(where), out)
    else:
        with running.own_cluster(place.home(suite), found, drawn(_told), provider, runtime) as target:
            outcomes = _run(suite, target, chosen(target.name), out)
    outcomes = [replace(one, commit=tested) for one in outcomes]
    report.write_results(out / "outcomes.json", target.name, outcomes)
    if not whole:  # what was not asked for is no result
        outcomes = [one for one in outcomes if one.state != "not run"]
    raise typer.Exit(_judge(outcomes, target.name, record or (whole and not kubeconfig)))


def _taken(folders: list[Path]) -> tuple[list[report.Outcome], str]:
    """The outcomes of earlier runs on one cluster, and what it was called then."""
    runs = [report.results(folder / "outcomes.json") for folder in folders]
    called = {where for run in runs for where in run}
    if len(called) != 1:
        raise UsageError(
            f"These are reports of {', '.join(sorted(called)) or 'nothing'}.", hint="Take those of one cluster."
        )
    return report.merged(found for run in runs for found in run.values()), called.pop()


def write_page() -> None:
    """Write docs/conformance.md from what is recorded."""
    place.PAGE.write_text(report.page(report.results(RESULTS), own.read()))


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
        report.write_results(RESULTS, where, report.merged([before, outcomes]))
        write_page()
    for kind, cells in report.counts(outcomes).items():
        tell(f"{kind:4} {cells['passed']:4} passed {cells['failed']:4} failed {cells['not run']:4} not run")
    found = report.differences(outcomes, report.expected(where))
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
