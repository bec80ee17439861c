"""`python -m movies`: the command line of the recommender.

Status 2: an argument or a setting cannot be used, and doing the same again will not help. Status 1: it went wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from movies import bus as buses
from movies import config
from movies.background import patiently
from movies.errors import MoviesError, NotEnoughData


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the status of the process."""
    given = _parser().parse_args(arguments)
    try:
        return int(given.run(given) or 0)
    except MoviesError as error:
        print(error, file=sys.stderr)
        return error.exit_status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m movies", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="one service in this process")
    serve.add_argument("name", choices=("ingestion", "features", "training", "serving", "ui", "monolith"))
    serve.set_defaults(run=_serve)

    run = commands.add_parser("run", help="the whole recommender as child processes, until Ctrl-C")
    run.add_argument("kind", choices=("monolith", "processes"))
    run.add_argument("--folder", type=Path, default=Path("movies-data"), help="where its files are")
    run.add_argument("--port", type=_whole(1, 65_535), help="port of the site (default: a free one)")
    _data(run)
    run.set_defaults(run=_run)

    seed = commands.add_parser("seed", help="put the first data on the bus, unless it has some")
    _data(seed)
    patience = "try again for so many seconds while the broker does not answer"
    seed.add_argument("--patience", type=_whole(0, 86_400), default=60, metavar="SECONDS", help=patience)
    seed.set_defaults(run=_seed)

    train = commands.add_parser("train", help="one training run, which publishes its model")
    train.set_defaults(run=_train)

    statistics = commands.add_parser("statistics", help="what a table of ratings looks like, as JSON")
    _data(statistics)
    statistics.set_defaults(run=_statistics)

    settings = commands.add_parser("settings", help="variables of the environment, their defaults and meaning")
    settings.set_defaults(run=_settings)
    return parser


def _data(command: argparse.ArgumentParser) -> None:
    ratings = _whole(1_000, 10_000_000)
    command.add_argument("--ratings", type=ratings, default=20_000, help="generate about so many (1,000 to 10,000,000)")
    command.add_argument("--seed", type=_whole(0, 2**63), default=0, help="another number gives other data")
    command.add_argument("--from", type=Path, dest="data", help="your own: a MovieLens folder, or a .csv or .tsv")
    scale = "the best rating of your own table, if it has others than 0.5 to 5 in halves"
    command.add_argument("--scale", type=_whole(1, 1_000), help=scale)


def _whole(least: int, most: int) -> Callable[[str], int]:
    """Reads a whole number in a range."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"{number} is not from {least:,} to {most:,}")
        return number

    return read


def _serve(given: argparse.Namespace) -> None:
    from movies.server import run

    run(given.name, config.read(os.environ))


def _run(given: argparse.Namespace) -> int:
    from movies.runner import patience, start

    ended, starting = threading.Event(), True

    def end(*_: object) -> None:
        """Give up a start that is under way: once, since it cleans up after itself."""
        nonlocal starting
        ended.set()
        if starting:
            starting = False
            raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    site = "monolith" if given.kind == "monolith" else "ui"
    ports = {site: given.port} if given.port else {}
    try:
        with start(
            given.kind, given.folder, ratings=given.ratings, seed=given.seed, data=given.data, scale=given.scale,
            ports=ports, seconds=patience(given.ratings, given.data),
        ) as running:  # fmt: skip
            starting = False
            for note in running.notes:
                print(note)
            print(f"The site is at {running.address} (Ctrl-C ends it). Logs: {running.folder / 'logs'}", flush=True)
            while not ended.wait(1):
                if gone := running.ended():
                    for name, code in gone.items():
                        print(f"{name} ended with status {code}. Full log: {running.log(name)}", file=sys.stderr)
                    return 1
    except KeyboardInterrupt:
        print("The recommender was told to end before it was ready; nothing is left running.", file=sys.stderr)
        return 1
    return 0


def _seed(given: argparse.Namespace) -> None:
    from movies import seed

    async def publish(bus: buses.Bus) -> str:
        if given.data:
            found = await seed.loaded(bus, given.data, given.scale, lambda note: print(f"Note: {note}"))
        else:
            found = await seed.generated(bus, given.ratings, given.seed)
        return f"data set {found.version}: {len(found.movies)} movies, {found.rows} rows"

    print(asyncio.run(patiently(lambda: _with_bus(publish), given.patience)))


def _train(given: argparse.Namespace) -> None:
    """For a Job or a CronJob: asks features for the rows, as the training service does."""
    import httpx

    from movies import dataset, models
    from movies.clients import remote
    from movies.services.training import train_on

    settings = config.read(os.environ)

    async def publish(bus: buses.Bus) -> str:
        found = await dataset.find(bus)
        if found is None:
            raise NotEnoughData("There are no movies yet: run `python -m movies seed`.")
        async with httpx.AsyncClient(timeout=None, trust_env=False) as http:
            rows, _ = await remote("train", settings, http, patience=120).features.snapshot()
        model = train_on(rows, [movie.id for movie in found.movies])
        state, version = await models.publish(bus, model)
        return json.dumps({"state": state, "version": version} | model.describe())

    print(asyncio.run(_with_bus(publish)))


async def _with_bus(action: Callable[[buses.Bus], Awaitable[str]]) -> str:
    settings = config.read(os.environ)
    bus = buses.connect(
        settings.broker, stream_bytes=settings.stream_bytes, duplicate_seconds=settings.duplicate_seconds
    )
    await bus.open()
    try:
        return await action(bus)
    finally:
        await bus.close()


def _statistics(given: argparse.Namespace) -> None:
    from movies.data import generate, load
    from movies.data.statistics import statistics

    if given.data:
        found = load.load(given.data, given.scale)
        for note in found.notes:
            print(f"Note: {note}", file=sys.stderr)
        table, movies = found.interactions, len(found.movies)
    else:
        size = generate.Size.of(given.ratings)
        table, movies = generate.interactions(size, given.seed), size.movies
    print(json.dumps(statistics(table, movies).write(), indent=2))


def _settings(given: argparse.Namespace) -> None:
    for name, default, meaning in config.describe():
        print(f"{name:26} {default:24} {meaning}")


if __name__ == "__main__":
    sys.exit(main())
