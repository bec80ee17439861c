"""`podlab spark run`: a Spark program whose driver and executors are pods of a cluster."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from podlab.addons import spark
from podlab.checks.api import Api
from podlab.cluster import clusters
from podlab.commands.cluster import InUse

app = typer.Typer(help="Run a Spark program in pods.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Run a Spark program in pods."""


@app.command()
def run(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A Python program that uses pyspark.")],
    arguments: Annotated[list[str] | None, typer.Argument(help="What the program finds in sys.argv.")] = None,
    executors: Annotated[int, typer.Option(help="Pods that compute.")] = 2,
    most: Annotated[int | None, typer.Option(help="Up to so many while tasks wait; idle ones go again.")] = None,
    memory: Annotated[str, typer.Option(help="Java's memory in each of them.")] = "512m",
    timeout: Annotated[float, typer.Option(min=0, help="End the program after so many seconds; 0: never.")] = 0,
    *,
    name: InUse,
) -> None:
    """Run a program and print what it prints; then nothing of it is left in the cluster. Ctrl-C ends it.

    In it SparkSession.builder.getOrCreate() is the session in pods.
    """
    api = Api.connect(clusters.get(name).kubeconfig)
    program, words = file.read_text(), arguments or ()
    made = spark.submit(api, program, executors=executors, most=most, memory=memory, arguments=words)
    typer.echo(f"driver: pod {made.name} in the namespace {spark.NAMESPACE}", err=True)
    try:
        made.wait(
            timeout or math.inf,
            tell=lambda line: typer.echo(line, err=True),
            show=lambda text: typer.echo(text, nl=False),
        )
    finally:
        made.delete()
