"""`podlab movies`: the recommender as one process, as five processes with a broker, or as pods."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
import webbrowser
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from podlab import cluster, paths
from podlab.errors import PodlabError, UsageError
from podlab.waiting import until

app = typer.Typer(help="The movie recommender: start it, look at it, end it.", no_args_is_help=True)

_told = Console(stderr=True, highlight=False, soft_wrap=True)
_ENDING = 90.0
_SHOWN = 12


class Form(StrEnum):
    """In what form the recommender runs."""

    monolith = "monolith"
    processes = "processes"
    pods = "pods"


@dataclass(frozen=True)
class Site:
    """What runs: its form and address; `pid` and `began` (of /proc) name its process, `cluster` where its pods are."""

    form: str
    address: str
    pid: int = 0
    began: str = ""
    cluster: str = ""


@app.command()
def up(
    form: Annotated[Form, typer.Option("--as", help="monolith, processes or pods.")] = Form.processes,
    ratings: Annotated[int, typer.Option(min=1_000, max=10_000_000, help="Generate about so many.")] = 20_000,
    data: Annotated[Path | None, typer.Option(help="Your own: a MovieLens folder, or a .csv or .tsv.")] = None,
    scale: Annotated[int | None, typer.Option(min=1, max=1_000, help="The best rating of your own table.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the site; 0: a free one.")] = 0,
    name: Annotated[str, typer.Option(help="pods: the cluster.", envvar="PODLAB_CLUSTER")] = "",
) -> None:
    """Start the recommender and return when its site answers. Its data stays until `down --data`."""
    if (site := _site()) and _alive(site):
        raise UsageError(
            f"The recommender runs already, as {site.form}, at {site.address}.", hint="End it first: podlab movies down"
        )
    if form is Form.pods:
        if data or port or scale:
            raise UsageError("--data, --scale and --port are for monolith and processes: pods have generated data.")
        site = _pods(name or cluster.current(), ratings)
    else:
        if scale and not data:
            raise UsageError("--scale says how to read a table of your own.", hint="Name it: --data FILE.csv")
        site = _processes(form, ratings, data, scale, port)
    _record().write_text(json.dumps(asdict(site)))
    _told.print(Text(f"The site is at {site.address}"))
    typer.echo(site.address)


@app.command()
def down(
    data: Annotated[bool, typer.Option("--data", help="Delete its data, too (pods: always).")] = False,
) -> None:
    """End the recommender."""
    site = _site()
    if site and site.form == Form.pods:
        from podlab.commands import movies_pods

        if _alive(site):  # with its cluster all of it is gone
            with _lines() as say:
                movies_pods.down(site.cluster, say)
    elif site and _alive(site):
        os.kill(site.pid, signal.SIGTERM)
        until(lambda: not _alive(site), "the end of the recommender", timeout=_ENDING)
    _record().unlink(missing_ok=True)
    if data:
        for form in (Form.monolith, Form.processes):
            shutil.rmtree(_folder() / form, ignore_errors=True)


@app.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="Everything, for programs.")] = False) -> None:
    """Show every part of the recommender. The exit status is 1 unless all are ready."""
    site = _running()
    parts = _parts(site)
    if as_json:
        typer.echo(json.dumps({"form": site.form, "address": site.address, "parts": parts}, indent=1))
    else:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for heading in ("PART", "STATE", "WHAT IT SAYS"):
            table.add_column(heading, no_wrap=heading != "WHAT IT SAYS")
        for part in parts:
            said = "; ".join([*part["troubles"], *(f"{name} {value}" for name, value in part["facts"])])
            table.add_row(part["name"], part["state"], said, style="" if part["state"] == "ready" else "yellow")
        out = Console(highlight=False, soft_wrap=True)
        out.print(Text(f"{site.form} at {site.address}"))
        out.print(table)
    raise typer.Exit(0 if all(part["state"] == "ready" for part in parts) else 1)


@app.command("open")
def open_(
    browser: Annotated[bool, typer.Option(help="Open it; otherwise only print its address.")] = True,
) -> None:
    """Open the site in a browser."""
    site = _running()
    typer.echo(site.address)
    # What a terminal of JupyterLab is told of its server; below JupyterHub only the path is of use.
    jupyter = os.environ.get("JUPYTERHUB_SERVICE_PREFIX") or os.environ.get("JUPYTER_SERVER_URL")
    port = site.address.partition(" ")[0].rpartition(":")[2]
    if jupyter and importlib.util.find_spec("jupyter_server_proxy"):
        _told.print(Text(f"In the browser that shows JupyterLab: {jupyter}proxy/{port}/"))
    elif jupyter:
        way = f"forward port {port}, or pip install jupyter-server-proxy and start JupyterLab anew."
        _told.print(Text(f"In a browser on another machine: {way}"))
    elif browser and not webbrowser.open(site.address):
        _told.print(Text("No browser could be started here: open the address yourself."))


def _processes(form: Form, ratings: int, data: Path | None, scale: int | None, port: int) -> Site:
    """The monolith or the processes, started in a session of their own, which outlives this command."""
    from movies.runner import free_ports, patience

    folder = paths.private(_folder() / form)
    chosen = port or free_ports(1)[0]
    command = [sys.executable, "-m", "movies", "run", form, "--folder", str(folder), "--port", str(chosen)]
    command += ["--from", str(data.absolute())] if data else ["--ratings", str(ratings)]
    command += ["--scale", str(scale)] if scale else []
    log = folder / "run.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    address = f"http://127.0.0.1:{chosen}"

    def ready() -> bool:
        if (code := process.poll()) is not None:
            last = "\n".join(log.read_text(errors="replace").splitlines()[-_SHOWN:])
            raise PodlabError(f"The recommender ended with status {code} at its start:\n{last}", hint=f"All: {log}")
        # The line is written when all parts are ready.
        return address in log.read_text(errors="replace")

    try:
        # For the first data, and then for the slowest part.
        until(ready, "the recommender becoming ready", timeout=2 * patience(ratings, data), interval=0.2)
    except BaseException:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_ENDING)  # it ends its children first
        raise
    for note in log.read_text(errors="replace").splitlines():
        if note.startswith("Note: "):
            _told.print(Text(note))
    return Site(form, address, process.pid, _began(process.pid))


def _pods(name: str, ratings: int) -> Site:
    from podlab.commands import movies_pods

    with _lines() as say:
        return Site(Form.pods, movies_pods.up(name, say, ratings=ratings), cluster=name)


@contextlib.contextmanager
def _lines() -> Any:
    """A function that shows what is being done: one line that changes on a terminal, a line each elsewhere."""
    if _told.is_terminal:
        with _told.status("") as shown:
            yield lambda text: shown.update(Text(text))
        return
    last = ""

    def say(text: str) -> None:
        nonlocal last
        if text != last:
            _told.print(Text(text))
        last = text

    yield say


def _folder() -> Path:
    return paths.private(paths.data() / "movies")


def _record() -> Path:
    return _folder() / "site.json"


def _site() -> Site | None:
    """What was started last and not ended; None if nothing was."""
    try:
        return Site(**json.loads(_record().read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _running() -> Site:
    site = _site()
    if site is None or not _alive(site):
        raise UsageError("The recommender does not run.", hint="Start it: podlab movies up --as processes")
    return site


def _alive(site: Site) -> bool:
    """Whether what was started is still there: the same process, or the cluster with its pods."""
    if site.form == Form.pods:
        return site.cluster in cluster.list_clusters()
    return bool(site.began) and _began(site.pid) == site.began


def _began(pid: int) -> str:
    """When a process began, as the kernel counts; empty if there is none (or only its remains)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def _parts(site: Site) -> list[dict[str, Any]]:
    """What the site says of its parts; of pods, the workloads first."""
    parts: list[dict[str, Any]] = []
    if site.form == Form.pods:
        from podlab.checks.api import Api
        from podlab.commands import movies_pods

        for one in movies_pods.state(Api.connect(cluster.get(site.cluster).kubeconfig)):
            facts = [("pods", f"{one.ready} of {one.wanted}")]
            troubles = [one.why] if one.why else []
            state = "ready" if one.well else "unready"
            parts.append({"name": f"{one.kind} {one.name}", "state": state, "facts": facts, "troubles": troubles})
    request = urllib.request.Request(f"{site.address.split()[0]}/status", headers={"Accept": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=15) as answer:
            return [*parts, *json.loads(answer.read())["parts"]]
    except (OSError, ValueError, KeyError) as error:
        return [*parts, {"name": "ui", "state": "silent", "facts": [], "troubles": [f"{site.address}: {error}"]}]
