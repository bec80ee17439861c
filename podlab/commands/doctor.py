"""`podlab doctor`: say what this machine lacks, and how to get it."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from podlab import doctor as diagnosis

app = typer.Typer()

_STYLES = {"ok": "green", "limited": "yellow", "missing": "red"}


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Say what this machine lacks, and how to get it. The exit status is 0 if the cluster can run, else 3."""
    findings = diagnosis.diagnose()
    runs = diagnosis.can_run(findings)
    if as_json:
        content = {"can_run": runs, "findings": [finding.as_dict() for finding in findings]}
        typer.echo(json.dumps(content, indent=1))
    else:
        _show(findings, runs)
    raise typer.Exit(0 if runs else 3)


def _show(findings: list[diagnosis.Finding], runs: bool) -> None:
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        lines = [part for part in (finding.found, finding.meaning, finding.remedy) if part]
        state = Text(finding.state, style=_STYLES[finding.state])
        table.add_row(finding.check, state, Text("\n".join(lines)))
    console.print(table)
    verdict = "The embedded cluster can run here." if runs else "The embedded cluster cannot run here yet."
    console.print(Text(verdict, style="green" if runs else "red"))
