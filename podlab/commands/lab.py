"""`podlab lab`: JupyterLab on the start page, and the cluster coming up behind it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from podlab import paths
from podlab.cluster.embedded import binaries
from podlab.course import workspace
from podlab.course.build import root
from podlab.errors import UsageError
from podlab.lab.connection import chosen

app = typer.Typer()

START_PAGE = "00-start-here.ipynb"
#: JupyterLab's settings for the course: no news, widgets' messages over the main shell, whole notebooks rendered.
JUPYTER = Path(workspace.__file__).with_name("jupyter")

#: Run apart from JupyterLab, so that Ctrl-C there does not end a cluster half way up.
_BRING_UP = """
import sys
from podlab import cli, cluster
from podlab.errors import PodlabError
try:
    cluster.ensure(sys.argv[1])
except PodlabError as error:
    cli.complain(error)
    sys.exit(error.exit_status)
"""


#: JupyterLab as `python -m jupyterlab` runs it, but for its end. A thread that reads a file for a request (anyio's)
#: ends with that request, and a request that is under way when the server stops never ends: Python would wait for
#: the thread for ever. The server has ended its kernels and taken away its files when `main` returns.
_JUPYTERLAB = """
import logging, os, sys
from jupyterlab.labapp import main
main()
logging.shutdown()
sys.stdout.flush()
sys.stderr.flush()
os._exit(0)
"""


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def lab(
    context: typer.Context,
    course: Annotated[Path | None, typer.Option(help="Folder of the course; found from here upwards.")] = None,
    cluster: Annotated[bool, typer.Option(help="Start the cluster behind JupyterLab.")] = True,
) -> None:
    """Start JupyterLab on your own copy of the start page. Further arguments go to JupyterLab.

    It listens on 127.0.0.1 only and keeps its token.
    """
    folder = root(course)
    _tell(workspace.prepare(folder))
    page = start_page(folder / "work")
    environment = surroundings(os.environ, chosen(), binaries.find("kubectl"))
    if cluster and "PODLAB_KUBECONFIG" not in os.environ:
        _bring_up(chosen())
    status = _run(command(folder / "work", page, os.geteuid() == 0, context.args), environment)
    if cluster and "PODLAB_KUBECONFIG" not in os.environ:
        typer.echo(f"Cluster {chosen()!r} keeps running. To stop it and keep everything: podlab cluster stop")
    raise typer.Exit(status)


def start_page(work: Path) -> Path:
    """Return the notebook to open: the start page, or the first lesson if there is none."""
    lessons = sorted((work / "notebooks").glob("*.ipynb"))
    page = work / "notebooks" / START_PAGE
    if page in lessons:
        return page
    if not lessons:
        raise UsageError(f"There is no notebook in {work / 'notebooks'}.", hint="Make them with: podlab build")
    return lessons[0]


def command(work: Path, page: Path, as_root: bool, further: list[str]) -> list[str]:
    """Return the command that runs JupyterLab on `page`."""
    # By its address, not as a file argument, so that the addresses that are printed lead to it too.
    address = f"/lab/tree/{quote(str(page.relative_to(work)))}"
    options = ["--ServerApp.ip=127.0.0.1", f"--ServerApp.root_dir={work}", f"--LabApp.default_url={address}"]
    options.append(f"--LabApp.app_settings_dir={JUPYTER / 'settings'}")
    if as_root:
        options.append("--allow-root")
    return [sys.executable, "-c", _JUPYTERLAB, *options, *further]


def surroundings(environment: Mapping[str, str], name: str, kubectl: Path | None) -> dict[str, str]:
    """Return the environment of JupyterLab, in which `podlab` and `kubectl` are commands for the lab's cluster.

    KUBECONFIG is set even if it was before: a lesson must not touch another cluster by accident. The instructor's
    side panels of nbgrader are left out of a learner's JupyterLab; its Validate button stays.
    """
    first = [str(Path(sys.executable).parent), *([str(kubectl.parent)] if kubectl else [])]
    path = [entry for entry in environment.get("PATH", os.defpath).split(os.pathsep) if entry not in first]
    kubeconfig = environment.get("PODLAB_KUBECONFIG") or str(paths.clusters() / name / "kubeconfig")
    settings = os.pathsep.join(filter(None, (str(JUPYTER), environment.get("JUPYTER_CONFIG_PATH"))))
    return {
        **environment,
        "PATH": os.pathsep.join([*first, *path]),
        "KUBECONFIG": kubeconfig,
        "JUPYTER_CONFIG_PATH": settings,
    }


def _tell(copies: workspace.Copies) -> None:
    if copies.made:
        typer.echo(f"Your copies of {len(copies.made)} files are in work/.")
    for path in copies.updated:
        typer.echo(f"work/{path} follows the course, which has changed.")
    for path in copies.kept:
        typer.echo(f"work/{path} is yours and stays; the course has a newer {path}.")


def _bring_up(name: str) -> None:
    """Start or create the cluster in a process of its own, and say on the terminal how it ended."""
    log = paths.data() / f"lab-{name}.log"
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", _BRING_UP, name],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    typer.echo(f"Cluster {name!r} is coming up behind JupyterLab.")

    def report() -> None:
        if process.wait() == 0:
            typer.echo(f"Cluster {name!r} is up.")
            return
        said = log.read_text(errors="replace").strip()[-2000:] or "nothing was said"
        typer.echo(f"Cluster {name!r} did not come up. {said}\nThis is also in {log}.", err=True)

    threading.Thread(target=report, daemon=True).start()


def _run(arguments: list[str], environment: dict[str, str]) -> int:
    """Run JupyterLab in front: Ctrl-C is for it (it asks), and our end is its end."""
    process = subprocess.Popen(arguments, env=environment)
    # A terminal sends Ctrl-C to both of us.
    signal.signal(signal.SIGINT, lambda *_: None)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: process.send_signal(received))
    return process.wait()
