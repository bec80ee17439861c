"""`podlab movies` with the real monolith, and what it says when there is nothing to do."""

from __future__ import annotations

import json
import os
import urllib.request

import pytest
from typer.testing import CliRunner

from podlab import cli, proxies, waiting
from podlab.commands import movies
from podlab.errors import PodlabError, UsageError, WaitTimeout


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("PODLAB_HOME", str(tmp_path))
    monkeypatch.delenv("PODLAB_CLUSTER", raising=False)


def run(*arguments):
    result = CliRunner().invoke(cli.app, ["movies", *arguments])
    if isinstance(result.exception, PodlabError):
        raise result.exception
    return result


@pytest.mark.parametrize("command", [["status"], ["open", "--no-browser"]])
def test_without_a_recommender_one_is_told_how_to_start_it(command):
    with pytest.raises(UsageError, match="podlab movies up"):
        run(*command)


def test_down_without_a_recommender_does_nothing():
    assert run("down").exit_code == 0


@pytest.mark.parametrize("own", [("--data", "mine.csv"), ("--scale", "10")])
def test_pods_take_no_data_of_ones_own(own):
    with pytest.raises(UsageError, match="generated data"):
        run("up", "--as", "pods", *own)


def test_a_scale_without_a_table_is_refused():
    with pytest.raises(UsageError, match="a table of your own"):
        run("up", "--as", "monolith", "--scale", "10")


def test_more_ratings_than_pods_hold_are_refused_at_once():
    with pytest.raises(UsageError, match=r"10,000,000 ratings are too many .* at most 1,500,000"):
        run("up", "--as", "pods", "--ratings", "10000000")


def test_a_number_left_over_from_another_process_is_not_taken_for_ours(tmp_path):
    folder = tmp_path / "data" / "movies"
    folder.mkdir(parents=True)
    left = {"form": "monolith", "address": "http://127.0.0.1:1", "pid": os.getpid(), "began": "1", "cluster": ""}
    (folder / "site.json").write_text(json.dumps(left))
    with pytest.raises(UsageError, match="does not run"):
        run("status")
    assert run("down").exit_code == 0  # and we are still here


def test_data_that_cannot_be_read_is_told_in_its_own_words(tmp_path):
    bad = tmp_path / "ratings.csv"
    bad.write_text("userId,movieId,rating,timestamp\n1,1,eleven,0\n")
    with pytest.raises(PodlabError, match=r"ratings\.csv"):
        run("up", "--as", "monolith", "--data", str(bad))
    with pytest.raises(UsageError):
        run("status")


def test_a_start_that_is_given_up_has_ended_when_that_is_told(monkeypatch):
    done = []

    class Process:
        def __init__(self, *_, **__): ...

        def poll(self):
            return None

        def terminate(self):
            done.append("told to end")

        def wait(self, timeout):
            done.append("ended")

    monkeypatch.setattr(movies.subprocess, "Popen", Process)
    monkeypatch.setattr("movies.runner.patience", lambda *_: 0.0)
    with pytest.raises(WaitTimeout):
        run("up", "--as", "monolith")
    assert done == ["told to end", "ended"]


@pytest.mark.slow
def test_the_monolith_starts_outlives_the_command_and_ends(tmp_path):
    up = run("up", "--as", "monolith", "--ratings", "1000")
    try:
        address = up.stdout.strip()
        with urllib.request.urlopen(f"{address}/?user=3", timeout=60) as page:
            assert "What should user 3 watch?" in page.read().decode()
        told = json.loads(run("status", "--json").stdout)
        assert {part["name"] for part in told["parts"]} == {"ingestion", "features", "training", "serving"}
        assert run("open", "--no-browser").stdout.strip() == address
        with pytest.raises(UsageError, match="runs already"):
            run("up", "--as", "monolith")
    finally:
        assert run("down").exit_code == 0
    with pytest.raises(OSError):
        urllib.request.urlopen(address, timeout=5)
    assert (tmp_path / "data" / "movies" / "monolith" / "bus").is_dir()
    run("down", "--data")
    assert not (tmp_path / "data" / "movies" / "monolith").exists()


@pytest.mark.slow
def test_the_processes_run_on_ones_own_table_and_past_the_proxy_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nobody is there
    # urllib keeps the proxies that it met first for the whole process.
    monkeypatch.setattr(urllib.request, "_opener", None)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")
    table = tmp_path / "mine.csv"
    rows = [f"Reader {user},Book {book},{6 + (user + book) % 5}" for user in range(12) for book in range(15)]
    table.write_text("\n".join(["user,title,rating", *rows]))
    up = run("up", "--as", "processes", "--data", str(table), "--scale", "10")
    try:
        proxies.exempt()  # as `podlab` does; the services do without
        assert "12 users are named by text" in up.stderr and "Ratings to 10 became stars" in up.stderr

        def ready():
            told = json.loads(run("status", "--json").stdout)
            return {part["name"]: part["state"] for part in told["parts"]} == dict.fromkeys(
                ("ingestion", "features", "training", "serving"), "ready"
            )

        waiting.until(ready, "all parts are ready, as the status page says", timeout=120)
        assert run("open", "--no-browser").stdout == up.stdout
    finally:
        assert run("down").exit_code == 0
    again = run("up", "--as", "processes", "--data", str(table), "--scale", "10")
    assert run("down", "--data").exit_code == 0
    assert f"{table} was not read" in again.stderr


@pytest.mark.parametrize(
    ("environment", "installed", "said"),
    [
        ({"JUPYTER_SERVER_URL": "http://127.0.0.1:8888/"}, True, "http://127.0.0.1:8888/proxy/8000/"),
        ({"JUPYTER_SERVER_URL": "http://127.0.0.1:8888/", "JUPYTERHUB_SERVICE_PREFIX": "/user/me/"}, True,
         " /user/me/proxy/8000/"),
        ({"JUPYTERHUB_SERVICE_PREFIX": "/user/me/"}, False, "pip install jupyter-server-proxy"),
        ({}, True, ""),
    ],
)  # fmt: skip
def test_in_jupyterlab_it_says_where_its_browser_finds_the_site(monkeypatch, environment, installed, said):
    for name in ("JUPYTER_SERVER_URL", "JUPYTERHUB_SERVICE_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if not installed:
        monkeypatch.setattr(movies.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(movies, "_running", lambda: movies.Site("monolith", "http://127.0.0.1:8000"))
    found = run("open", "--no-browser")
    assert found.stdout == "http://127.0.0.1:8000\n"
    assert said in found.stderr and bool(found.stderr) == bool(said)
    assert ("proxy/8000" in found.stderr) == bool(environment and installed)
