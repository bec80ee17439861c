"""`podlab addon`: bring an add-on into a cluster, look at it, and take it away."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from podlab import addons
from podlab.cluster import clusters
from podlab.commands.cluster import InUse, drawn

app = typer.Typer(help="Monitoring, logging, ingress, Spark and more in a cluster.", no_args_is_help=True)

_told = Console(stderr=True, highlight=False, soft_wrap=True)

_Addon = Annotated[str, typer.Argument(metavar="ADDON", help=", ".join(addons.TABLE), show_default=False)]


@app.command()
def enable(addon: _Addon, name: InUse) -> None:
    """Bring an add-on into a cluster and return when it is ready."""
    with drawn(_told) as progress:
        addons.enable(addon, name, progress=progress)
    found = addons.TABLE[addon]
    for line in (clusters.provider_of(name).name == "kind" and found.doors_of_kind) or found.doors:
        _told.print(Text(line))


@app.command()
def disable(addon: _Addon, name: InUse) -> None:
    """Take an add-on away, with all its data."""
    with drawn(_told) as progress:
        addons.disable(addon, name, progress=progress)


@app.command("list")
def list_(name: InUse) -> None:
    """List the add-ons and how they are in a cluster."""
    table = Table(box=None, pad_edge=False)
    for heading in ("NAME", "STATE", "READY", "WHAT"):
        table.add_column(heading, no_wrap=heading != "WHAT")
    for addon in addons.TABLE.values():
        found = addons.status(addon.name, name)
        ready = f"{found.ready}/{found.wanted}" if found.wanted else ""
        table.add_row(addon.name, found.state, ready, addon.title)
    Console(highlight=False, soft_wrap=True).print(table)


@app.command()
def status(addon: _Addon, name: InUse) -> None:
    """Say how an add-on is, and for what it waits. The exit status is 1 unless it is ready."""
    found = addons.status(addon, name)
    typer.echo(f"{addon}: {found.state}" + (f", {found.ready} of {found.wanted} pods" if found.wanted else ""))
    for line in found.waiting:
        typer.echo(f"  {line}")
    raise typer.Exit(0 if found.state == "ready" else 1)
