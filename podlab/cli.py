"""The command `podlab`: a table of commands, each loaded from podlab/commands/ only when it is used."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import sys
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from podlab import proxies
from podlab.errors import PodlabError, UsageError, of_a_file


@dataclass(frozen=True)
class Lazy:
    """Where a command is: the Typer `app` of `module`, or the command of that name (or the only one) in it."""

    module: str
    help: str


COMMANDS: dict[str, Lazy] = {
    "lab": Lazy("podlab.commands.lab", "Start JupyterLab, and the cluster behind it."),
    "cluster": Lazy("podlab.commands.cluster", "Start, stop and look at clusters."),
    "addon": Lazy("podlab.commands.addon", "Monitoring, logging, ingress, Spark and more in a cluster."),
    "spark": Lazy("podlab.commands.spark", "Run a Spark program in pods."),
    "image": Lazy("podlab.commands.image", "Build, list and import container images."),
    "collect": Lazy("podlab.commands.term", "Take submissions into a term's folder, with receipts."),
    "movies": Lazy("podlab.commands.movies", "The movie recommender: as a monolith, as processes, as pods."),
    "grade": Lazy("podlab.commands.grade", "Grade a folder of submissions, or what a term has collected."),
    "feedback": Lazy("podlab.commands.term", "Give each learner's feedback out, a folder each."),
    "export": Lazy("podlab.commands.term", "Write grades for nbgrader, Canvas, Moodle, as JUnit XML and JSON."),
    "course": Lazy("podlab.commands.course_new", "Begin a term's folder, or a new chapter of the course."),
    "build": Lazy("podlab.commands.course", "Generate the notebooks from the manuscript."),
    "check": Lazy("podlab.commands.course", "Say what is stale or wrong in the generated notebooks."),
    "release": Lazy("podlab.commands.course", "Generate the learners' notebooks with nbgrader."),
    "execute": Lazy("podlab.commands.course", "Run every notebook unattended with papermill."),
    "demo": Lazy("podlab.commands.demo", "The main job without a browser: cluster, lesson, graded class."),
    "doctor": Lazy("podlab.commands.doctor", "Say what this machine lacks, and how to get it."),
    "binaries": Lazy("podlab.commands.binaries", "Find, fetch or build the Kubernetes binaries."),
}


class LazyGroup(TyperGroup):
    """A group that knows the names and one-line helps of its commands without importing them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands whose modules are installed."""
        return [*super().list_commands(ctx), *(name for name, lazy in COMMANDS.items() if _exists(lazy))]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a stand-in with the help of the command: enough to list it."""
        if cmd_name in COMMANDS:
            return TyperCommand(cmd_name, help=COMMANDS[cmd_name].help)
        return super().get_command(ctx, cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the command itself, loading its module."""
        if args and args[0] in COMMANDS:
            return args[0], load(args[0]), args[1:]
        return super().resolve_command(ctx, args)


def _exists(lazy: Lazy) -> bool:
    return importlib.util.find_spec(lazy.module) is not None


def load(name: str) -> Any:
    """Import the module of a command and return the command; UsageError if a part is not installed."""
    lazy = COMMANDS[name]
    try:
        app = importlib.import_module(lazy.module).app
    except ModuleNotFoundError as error:
        if error.name == lazy.module:
            raise UsageError(f"This installation has no `podlab {name}`.") from error
        raise UsageError(
            f"`podlab {name}` needs the Python package {error.name}, which is not installed.",
            hint="In the folder of the course: pip install --editable '.[course]'",
        ) from error
    outer = typer.Typer(add_completion=False)
    outer.callback()(_nothing)
    outer.add_typer(app, name=name)
    made: Any = typer.main.get_command(outer)
    group = made.commands[name]
    if len(group.commands) == 1 and not app.registered_callback:
        return next(iter(group.commands.values()))
    return group.commands.get(name, group)


def _nothing() -> None:
    """A callback makes a Typer app a group even if it has a single command."""


app = typer.Typer(
    cls=LazyGroup,
    name="podlab",
    help="Threads to Pods: a course on a real Kubernetes cluster that needs no Docker and no root.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if not value:
        return
    from podlab.cluster.embedded.binaries.programs import ETCD_VERSION, VERSION

    typer.echo(f"podlab {importlib.metadata.version('podlab')}, Kubernetes {VERSION}, etcd {ETCD_VERSION}")
    raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the versions and exit.")
    ] = False,
) -> None:
    pass


def complain(error: PodlabError) -> None:
    """Print the message of an error in red, and its hint, on standard error."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(Text(error.message, style="red"))
    if error.hint:
        console.print(Text(error.hint))


def main() -> None:
    """Run the command line; the exit status of a PodlabError is its own. PODLAB_DEBUG=1 shows tracebacks.

    A file that cannot be read or written, wherever that is, is said like any other error.
    """
    proxies.exempt()
    try:
        app(prog_name="podlab")
    except (PodlabError, OSError) as error:
        said = of_a_file(error) if isinstance(error, OSError) else error
        if said is None or os.environ.get("PODLAB_DEBUG"):
            raise
        complain(said)
        sys.exit(said.exit_status)
