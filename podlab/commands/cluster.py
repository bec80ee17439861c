"""`podlab cluster`: create, stop, start, look at and harm clusters."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from podlab import cluster
from podlab.cluster.clusters import provider_of
from podlab.cluster.provider import ComponentStatus, Progress, StepReport
from podlab.errors import PodlabError, UsageError
from podlab.waiting import pause

app = typer.Typer(help="Start, stop and look at clusters.", no_args_is_help=True)
fault = typer.Typer(help="Harm a component or a node on purpose, and undo it.", no_args_is_help=True)
app.add_typer(fault, name="fault")

_told = Console(stderr=True, highlight=False, soft_wrap=True)

#: The option of every command that works on a cluster: the one that is named, else the one in use.
InUse = Annotated[
    str,
    typer.Option("--name", help="The cluster.", default_factory=cluster.current, show_default="the one in use"),
]
#: Seconds between two plain lines about a step that goes on, where there is no terminal.
PLAIN_PERIOD = 30.0
_MARKS = {"running": ("…", "cyan"), "done": ("✓", "green"), "failed": ("✗", "red")}


class Steps:
    """The steps so far, as a picture that is drawn again and again."""

    def __init__(self) -> None:
        self._steps: dict[str, tuple[StepReport, float]] = {}

    def report(self, step: StepReport) -> None:
        """Take note of a report."""
        self._steps[step.name] = (step, time.monotonic() - step.seconds)

    def __rich__(self) -> Table:
        table = Table.grid(padding=(0, 1))
        for step, began in self._steps.values():
            mark, style = _MARKS[step.state]
            seconds = time.monotonic() - began if step.state == "running" else step.seconds
            first = step.detail.splitlines()[0] if step.detail else ""
            table.add_row(Text(mark, style), Text(step.name), Text(f"{seconds:.1f} s", "dim"), Text(first[:80], "dim"))
        return table


@contextmanager
def drawn(console: Console) -> Iterator[Progress]:
    """A progress callback: a live list on a terminal, plain lines elsewhere; then the time of all."""
    steps = Steps()
    began = time.monotonic()
    if console.is_terminal:
        with Live(steps, console=console, refresh_per_second=12):
            yield steps.report
    else:
        yield _plain(console)
    console.print(Text(f"{time.monotonic() - began:.1f} s in all", "dim"))


def _plain(console: Console) -> Progress:
    due: dict[str, float] = {}

    def report(step: StepReport) -> None:
        if step.state != "running" or step.seconds >= due.get(step.name, PLAIN_PERIOD):
            due[step.name] = step.seconds + PLAIN_PERIOD
            first = step.detail.splitlines()[0] if step.detail else ""
            console.print(Text(f"{_MARKS[step.state][0]} {step.name} {step.seconds:.1f} s {first}".rstrip()))

    return report


@app.command()
def up(
    name: Annotated[str, typer.Option(help="The cluster.", envvar="PODLAB_CLUSTER")] = "default",
    nodes: Annotated[int, typer.Option(help="embedded, kind: how many nodes.")] = 3,
    provider: Annotated[str, typer.Option(help="Who runs it: embedded, kind, or existing.")] = "embedded",
    profile: Annotated[
        str, typer.Option(help="embedded, kind: timers, lab (short) or upstream (Kubernetes' defaults).")
    ] = "lab",
    runtime: Annotated[
        str, typer.Option(help="embedded: what runs containers, auto, sandbox, or plain (no namespaces).")
    ] = "auto",
    kubeconfig: Annotated[str, typer.Option(help="existing: its kubeconfig (default: your own).")] = "",
    context: Annotated[str, typer.Option(help="existing: the context in it (default: the current one).")] = "",
    confirm: Annotated[str, typer.Option(help="existing: the context's full name once more, if nobody can ask.")] = "",
) -> None:
    """Create a cluster, or take up an existing one, and return when a pod could run."""
    if provider == "existing" and not confirm:
        confirm = _ask_for_name(kubeconfig, context)
    from podlab.cluster.embedded import binaries

    kubectl = binaries.find("kubectl")
    options = {"runtime": runtime, "kubeconfig": kubeconfig, "context": context, "confirmed": confirm}
    with drawn(_told) as progress:
        made = cluster.up(name, nodes=nodes, profile=profile, provider_name=provider, progress=progress, **options)
    _told.print(Text(f"The cluster {name} is up. {kubectl or 'kubectl'} --kubeconfig {made.kubeconfig} get nodes"))
    if kubectl is None:
        _told.print(Text("There is no kubectl on this machine. To get it: podlab binaries ensure kubectl", "dim"))
    if name != cluster.current():
        _told.print(Text(f"Labs use {cluster.current()}; to work on this one: podlab cluster use {name}", "dim"))


def _ask_for_name(kubeconfig: str, context: str) -> str:
    """The full name of an existing cluster's context as its owner types it; nothing where nobody can type."""
    if not sys.stdin.isatty():
        return ""
    from podlab.cluster import existing, user_kubeconfig

    source = Path(kubeconfig) if kubeconfig else user_kubeconfig.user_file()
    found, parts = existing.pick(existing.read(source), context, source)
    _told.print(Text(existing.question(found, parts, source)))
    return typer.prompt(f"Type its full name to go on ({found})", default="", show_default=False)


@app.command()
def use(name: Annotated[str, typer.Argument(help="The cluster.")]) -> None:
    """Make a cluster the one that labs and commands mean when none is named."""
    cluster.use(name)
    _told.print(Text(f"Labs and commands now mean {name}, except where PODLAB_CLUSTER says otherwise."))
    _told.print(Text("A lab that is open moves with lab.reset(), or when its first cell is run again.", "dim"))


@app.command()
def down(
    name: InUse,
    forget: Annotated[
        bool, typer.Option("--forget", help="existing: do not ask it; what labs left in it stays.")
    ] = False,
) -> None:
    """End every process of a cluster and delete it with all its objects."""
    staying = [] if forget else _leave(name)
    with drawn(_told) as progress:
        (cluster.forget if forget else cluster.down)(name, progress=progress)
    for addon in staying:
        _told.print(Text(f"The add-on {addon} stays there, since others may use it. If it was you who brought it in:"))
        _told.print(Text(f"  take the cluster up again, then podlab addon disable {addon} --name {name}", "dim"))


def _leave(name: str) -> list[str]:
    """Empty the namespaces that somebody else's cluster has lent, and return the add-ons that stay there."""
    from podlab.addons.catalogue import LABEL
    from podlab.checks import lent
    from podlab.checks.api import Api, ApiAway, ApiError

    if provider_of(name).name != "existing":
        return []
    api = Api.connect(cluster.get(name).kubeconfig)
    with suppress(ApiAway, ApiError):  # that it is away `down` says; who may not see namespaces has made no add-on
        lent.give_all_back(api)
        return [item["metadata"]["name"] for item in api.list("Namespace", labelSelector=LABEL)]
    return []


@app.command()
def stop(name: InUse) -> None:
    """End every process of a cluster; its objects and volumes stay."""
    with drawn(_told) as progress:
        cluster.stop(name, progress=progress)


@app.command()
def start(name: InUse) -> None:
    """Start a stopped cluster with its objects."""
    with drawn(_told) as progress:
        cluster.start(name, progress=progress)


@app.command("list")
def list_() -> None:
    """List the clusters of this user, and say which one labs and commands mean when none is named."""
    chosen = cluster.current()
    for name in cluster.list_clusters():
        in_use = "\tin use" if name == chosen else ""
        try:
            found = cluster.status(name)
            typer.echo(f"{name}\t{found.provider}\t{found.state}\t{found.server}".rstrip() + in_use)
        except PodlabError as error:
            typer.echo(f"{name}\t{error.message}{in_use}")


@app.command()
def status(
    name: InUse,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, for programs.")] = False,
) -> None:
    """Show a cluster and each of its processes."""
    found = cluster.status(name)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(found), indent=1))
        return
    out = Console(highlight=False, soft_wrap=True)
    out.print(Text(f"{found.name}: {found.state}", "bold"), Text(f" {found.version} {found.server}".rstrip()))
    for key, value in found.details.items():
        out.print(Text(f"  {key}: {value}", "dim"))
    for note in found.notes:
        out.print(Text(f"  {note}", "yellow"))
    if found.components:
        out.print(_table(found.components))


def _table(components: object) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("PROCESS", "STATE", "PID", "MEMORY", "CPU", "RESTARTS", "LAST END"):
        right = title in ("PID", "MEMORY", "CPU", "RESTARTS")
        table.add_column(title, justify="right" if right else "left", no_wrap=title != "LAST END")
    total = 0
    for one in components:  # type: ignore[attr-defined]
        assert isinstance(one, ComponentStatus)
        total += one.rss
        memory = f"{one.rss / 2**20:.0f} MiB" if one.rss else ""
        style = "" if one.state == "running" else "yellow"
        cells = (one.name, one.state, str(one.pid or ""), memory, f"{one.cpu:.1f} s", str(one.restarts), one.message)
        table.add_row(*cells, style=style)
    if not total:
        return table
    table.add_row("all together", "", "", f"{total / 2**20:.0f} MiB", "", "", "", style="dim")
    return table


@app.command()
def kubeconfig(
    name: InUse,
    merge: Annotated[bool, typer.Option("--merge", help="Add it to your own kubeconfig; all else is kept.")] = False,
) -> None:
    """Print the path of the cluster's kubeconfig: export KUBECONFIG=$(podlab cluster kubeconfig)."""
    if not merge:
        typer.echo(str(cluster.get(name).kubeconfig))
        return
    target, backup = cluster.merge_kubeconfig(name)
    _told.print(Text(f"Added to {target}: kubectl config use-context podlab-{name}"))
    if backup:
        _told.print(Text(f"Its old state is in {backup}", "dim"))


@app.command()
def logs(
    component: Annotated[str, typer.Argument(help="etcd, kube-apiserver, ..., node-1-machine, node-1-agent.")],
    name: InUse,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what is written.")] = False,
) -> None:
    """Print the log of a component."""
    path = cluster.get(name).logs(component)
    with path.open("rb") as file:
        while True:
            if piece := file.read(65536):
                sys.stdout.buffer.write(piece)
                sys.stdout.buffer.flush()
                continue
            now = os.fstat(file.fileno())  # of the open file: its name may go at any moment
            if not follow or not now.st_nlink:
                return
            if file.tell() > now.st_size:
                file.seek(0)  # it was cut
            pause(0.2)


@app.command()
def load_image(
    reference: Annotated[str, typer.Argument(help="NAME:TAG, as `podlab image list` shows.")], name: InUse
) -> None:
    """Carry an image of the local store to the nodes of a cluster (those of an embedded one have it anyway)."""
    cluster.get(name).load_image(reference)
    _told.print(Text(f"The nodes of {name} have {reference}."))


@app.command()
def add_node(name: InUse) -> None:
    """Add a node and print its name when a pod could run on it."""
    typer.echo(cluster.get(name).nodes.add())


@app.command()
def remove_node(node: Annotated[str, typer.Argument(help="node-1, node-2, ...")], name: InUse) -> None:
    """Take a node away for good, with what runs on it (drain it first if that matters)."""
    cluster.get(name).nodes.remove(node)


def _verbs(verbs: object) -> list[str]:
    return [name for name in dir(verbs) if not name.startswith("_") and name not in ("names", "add", "remove")]


@fault.command("component")
def fault_component(
    action: Annotated[str, typer.Argument(help="kill, pause or resume.")],
    component: Annotated[str, typer.Argument(help="etcd, kube-apiserver, ...")],
    name: InUse,
) -> None:
    """Harm a part of the control plane."""
    _do(cluster.get(name).components, action, component)


@fault.command("node")
def fault_node(
    action: Annotated[str, typer.Argument(help="kill, restart, pause, resume, slow, fast, isolate, rejoin, ...")],
    node: Annotated[str, typer.Argument(help="node-1, node-2, ...")],
    name: InUse,
) -> None:
    """Harm a node, or bring it back."""
    _do(cluster.get(name).nodes, action, node)


def _do(verbs: object, action: str, target: str) -> None:
    known = _verbs(verbs)
    if action.replace("-", "_") not in known:
        hint = f"There are {', '.join(name.replace('_', '-') for name in known)}."
        raise UsageError(f"There is no fault {action}.", hint=hint)
    getattr(verbs, action.replace("-", "_"))(target)
