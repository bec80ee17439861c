"""`python -m movies` as whoever runs it sees it: the status, and words on standard error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


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
