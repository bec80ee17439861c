"""`python -m movies` as whoever runs it sees it: the status, and words on standard error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from movies import bus as buses
from movies import runner
from movies.__main__ import main
from movies.background import patiently
from movies.bus.files import FileBus
from movies.errors import BrokerError, DataError, Unavailable
from podlab.waiting import until


def ended(*arguments: str, **settings: str) -> tuple[int, str]:
    """Status and standard error of a process with these settings and no others."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MOVIES_")}
    command = [sys.executable, "-m", "movies", *arguments]
    done = subprocess.run(command, env=clean | settings, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stderr


@pytest.mark.parametrize("command", [("serve", "serving"), ("serve", "monolith"), ("seed",), ("train",)])
def test_settings_that_cannot_be_used_end_it_with_status_2_and_all_are_named(command: tuple[str, ...]) -> None:
    status, told = ended(*command, MOVIES_PORT="http", MOVIES_CALL_SECONDS="soon")
    assert status == 2
    assert "MOVIES_PORT='http'" in told and "MOVIES_CALL_SECONDS='soon'" in told and "Traceback" not in told


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"MOVIES_FAULT": "sloow=1"}, "sloow"),
        ({"MOVIES_BROKER": "broker:4222"}, "nats://HOST:PORT"),
        ({"MOVIES_BROKR": "nats://broker:4222"}, "MOVIES_BROKR is not known"),
    ],
)
def test_a_setting_that_means_nothing_does_so_too(settings: dict[str, str], named: str) -> None:
    status, told = ended("serve", "serving", **settings)
    assert status == 2 and named in told and "Traceback" not in told


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("run", "monolith", "--port", "70000"), "70000 is not from 1 to 65,535"),
        (("run", "monolith", "--ratings", "many"), "'many' is no whole number"),
        (("seed", "--ratings", "999"), "999 is not from 1,000 to 10,000,000"),
        (("statistics", "--seed", "-1"), "-1 is not from 0"),
        (("serve", "kitchen"), "kitchen"),
    ],
)
def test_so_does_an_argument_that_cannot_be_used(arguments: tuple[str, ...], named: str) -> None:
    status, told = ended(*arguments)
    assert status == 2 and named in told and "Traceback" not in told


def test_what_goes_wrong_on_the_way_is_status_1(tmp_path: Path) -> None:
    bad = tmp_path / "ratings.csv"
    bad.write_text("userId,movieId,rating,timestamp\n1,1,eleven,0\n")
    status, told = ended("seed", "--from", str(bad), MOVIES_BROKER=f"file:{tmp_path / 'bus'}")
    assert status == 1 and "ratings.csv" in told and "Traceback" not in told


class Away(FileBus):
    """A bus that is away at first: it cannot be opened, and then it takes nothing."""

    left = ["open", "put"]  # noqa: RUF012

    def _well(self, what: str) -> None:
        if self.left[:1] == [what]:
            del self.left[0]
            raise BrokerError("The broker does not answer.")

    async def open(self) -> None:
        self._well("open")
        await super().open()

    async def put(self, name: str, data: bytes) -> None:
        self._well("put")
        await super().put(name, data)


def test_the_first_data_wait_for_the_broker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Away, "left", ["open", "put"])
    monkeypatch.setattr(buses, "connect", lambda *_, **__: Away(tmp_path))
    assert main(["seed", "--ratings", "1000"]) == 0 and Away.left == []
    assert "movies" in capsys.readouterr().out
    monkeypatch.setattr(Away, "left", ["open"])
    assert main(["seed", "--ratings", "1000", "--patience", "0"]) == 1
    assert "does not answer" in capsys.readouterr().err


async def test_only_what_time_can_heal_is_tried_again() -> None:
    tries: list[Exception | None] = [Unavailable("away"), DataError("line 1 is no rating"), None]

    async def work() -> str:
        if error := tries.pop(0):
            raise error
        return "done"

    with pytest.raises(DataError):
        await patiently(work, 60, 0)
    assert await patiently(work, 60, 0) == "done"
    tries = [Unavailable("away"), None]
    with pytest.raises(Unavailable):
        await patiently(work, 0)


def test_patience_is_for_the_ratings_and_not_for_what_else_is_in_their_folder(tmp_path: Path) -> None:
    short = runner.patience(1_000)
    assert runner.patience(1_000, tmp_path / "nothing") == runner.patience(1_000, tmp_path) == short
    for name, size in (("film.mkv", 18 << 30), ("ratings.csv", 1_000)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)  # takes no room
    assert runner.patience(1_000, tmp_path) == short
    with (tmp_path / "ratings.csv").open("wb") as file:
        file.truncate(1 << 30)
    assert short < runner.patience(1_000, tmp_path) < 86_400
    with (tmp_path / "ratings.csv").open("wb") as file:
        file.truncate(1 << 40)
    assert runner.patience(1_000, tmp_path) == 86_400, "as much as `movies seed` takes"


def test_who_starts_it_has_as_much_patience_with_the_first_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, stdout="")

    monkeypatch.setattr(runner.subprocess, "run", run)
    runner._seed({}, [], 300.0)
    (command,) = asked
    assert command[command.index("--patience") + 1] == "300"


def _children(mark: str) -> list[str]:
    """Commands of the processes that have a variable of the environment, whoever started them."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"MARK={mark}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_sigterm_ends_a_start_and_leaves_no_process(tmp_path: Path) -> None:
    log, mark = tmp_path / "logs" / "broker.log", str(tmp_path)
    # So many ratings that there is not a part but the broker for long.
    command = [sys.executable, "-m", "movies", "run", "processes", "--folder", str(tmp_path), "--ratings", "3000000"]
    with subprocess.Popen(
        command, env=os.environ | {"MARK": mark}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        try:
            until(lambda: log.exists() and log.stat().st_size, "the broker starts", timeout=300)
            process.send_signal(signal.SIGTERM)
            until(lambda: process.poll() is not None, "the start is given up", timeout=600)
        finally:
            process.kill()
        told = process.stdout.read()
    assert process.returncode == 1 and "The site is at" not in told and "Traceback" not in told
    until(lambda: not _children(mark), "no process is left", timeout=300, state=lambda: _children(mark))
