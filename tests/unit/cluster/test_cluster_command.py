"""`podlab cluster`: what it prints, what it refuses; the cluster itself is tested in tests/cluster."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from little_api import LittleApi
from rich.console import Console
from typer.testing import CliRunner

from podlab import cluster
from podlab.addons.catalogue import LABEL
from podlab.checks import lent
from podlab.checks.api import Api
from podlab.checks.world import World
from podlab.cluster import clusters
from podlab.cluster.embedded import binaries
from podlab.cluster.embedded.processes import cap_log
from podlab.cluster.provider import ClusterStatus, ComponentStatus, StepReport
from podlab.commands import cluster as command
from podlab.commands.cluster import Steps, app, drawn
from podlab.errors import ClusterNotFound, UsageError


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("PODLAB_HOME", str(tmp_path))
    monkeypatch.delenv("PODLAB_CLUSTER", raising=False)
    return tmp_path


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


@pytest.mark.parametrize("verb", ["down", "stop", "start", "status", "kubeconfig"])
def test_a_cluster_that_is_not_there(verb: str) -> None:
    with pytest.raises(ClusterNotFound, match="no cluster named ghost"):
        run(verb, "--name", "ghost")


def test_an_unknown_provider_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="embedded"):
        run("up", "--provider", "cloud")


@pytest.mark.parametrize(
    ("provider", "option", "value"),
    [
        *(("kind", option, "x") for option in ("--kubeconfig", "--context", "--confirm")),
        ("kind", "--runtime", "plain"),
        ("existing", "--nodes", "5"),
        ("existing", "--profile", "upstream"),
        ("existing", "--runtime", "plain"),
        ("embedded", "--context", "class"),
    ],
)
def test_an_option_that_means_nothing_to_the_provider_is_refused(
    home: Path, provider: str, option: str, value: str
) -> None:
    with pytest.raises(UsageError, match=f"{option} {value} means nothing to the provider {provider}"):
        run("up", "--provider", provider, option, value)
    assert not list((home / "data").rglob("cluster.json"))


def typed(line: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `podlab cluster` on a terminal at which somebody types a line."""
    typist, terminal = os.openpty()
    try:
        os.write(typist, f"{line}\n".encode())
        command = [sys.executable, "-m", "podlab", "cluster", *arguments]
        return subprocess.run(command, stdin=terminal, capture_output=True, text=True, timeout=100)
    finally:
        os.close(terminal)
        os.close(typist)


@pytest.fixture
def class_server(tmp_path: Path) -> Iterator[Path]:
    """The kubeconfig of a cluster that is there, in the context `class`."""
    with LittleApi() as api:
        yield api.kubeconfig(tmp_path / "theirs")


@pytest.mark.timeout(300)
def test_on_a_terminal_the_full_name_of_an_existing_cluster_is_asked_for(class_server: Path) -> None:
    arguments = ["up", "--name", "ours", "--provider", "existing", "--kubeconfig", str(class_server)]
    for wrong in ("y", ""):
        result = typed(wrong, *arguments)
        assert "Type its full name to go on (class)" in result.stdout
        assert result.returncode == UsageError.exit_status and "--confirm class" in result.stderr
        assert clusters.list_clusters() == []
    result = typed("class", *arguments)
    assert result.returncode == 0, result.stderr
    assert clusters.list_clusters() == ["ours"]


def test_where_nobody_can_type_an_existing_cluster_is_not_asked_about(class_server: Path) -> None:
    with pytest.raises(UsageError, match="the context class"):
        run("up", "--name", "ours", "--provider", "existing", "--kubeconfig", str(class_server))
    assert clusters.list_clusters() == []


def test_down_empties_what_somebody_elses_cluster_has_lent_and_names_the_add_ons_that_stay(
    class_server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("up", "--name", "ours", "--provider", "existing", "--kubeconfig", str(class_server), "--confirm", "class")
    api = Api.connect(class_server)
    monkeypatch.setenv(lent.VARIABLE, "ada-1")
    room = World(api, seed=1, namespaces=["ada-1"]).room("work")
    room.submit("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}")
    addon = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "monitoring", "labels": {LABEL: "monitoring"}},
    }
    api.apply(addon, "")
    said = CliRunner().invoke(app, ["down", "--name", "ours"]).stderr
    assert clusters.list_clusters() == [] and api.list("ConfigMap", "ada-1") == []
    assert "The add-on monitoring stays there" in said and "podlab addon disable monitoring --name ours" in said


def test_the_list_says_which_one_is_in_use(class_server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        run("up", "--name", name, "--provider", "existing", "--kubeconfig", str(class_server), "--confirm", "class")
    assert "in use" not in run("list")

    def in_use() -> list[str]:
        return [line.split("\t")[0] for line in run("list").splitlines() if line.endswith("\tin use")]

    run("use", "two")
    assert in_use() == ["two"]
    monkeypatch.setenv("PODLAB_CLUSTER", "one")
    assert in_use() == ["one"]


def test_nothing_to_list() -> None:
    assert run("list") == ""


def test_unknown_faults_are_answered_with_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "provider_of", lambda name: None)
    with pytest.raises(UsageError, match=r"isolate, kill, kill-agent, pause, rejoin, restart, resume"):
        run("fault", "node", "burn", "node-1")
    with pytest.raises(UsageError, match=r"kill, pause, resume"):
        run("fault", "component", "names", "etcd")


def test_status_for_people_and_for_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [
        ComponentStatus("etcd", "running", 42, 1, 0.0, 40 * 2**20, 1.5, "was killed by SIGKILL after 2.0 s"),
        ComponentStatus("node-1-machine", "stopped"),
    ]
    state = ClusterStatus("default", "embedded", "degraded", "v1.37.2", "https://127.0.0.1:1", parts, ["a note"])
    monkeypatch.setattr(cluster, "status", lambda name: state)
    shown = run("status")
    for part in ("default: degraded", "v1.37.2", "a note", "40 MiB", "1.5 s", "was killed by SIGKILL"):
        assert part in shown
    assert json.loads(run("status", "--json"))["components"][0]["restarts"] == 1


def test_plain_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with drawn(Console(force_terminal=False)) as progress:
        progress(StepReport("etcd", "running", 0.0))
        progress(StepReport("etcd", "done", 1.25, "first\nsecond"))
        progress(StepReport("API server", "failed", 2.0, "why"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["✓ etcd 1.2 s first", "✗ API server 2.0 s why"]
    assert lines[2].endswith("s in all")


def test_a_long_step_is_heard_of_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with drawn(Console(force_terminal=False)) as progress:
        for seconds in (0.0, 29.0, 31.0, 45.0, 62.0):
            progress(StepReport("Kubernetes binaries", "running", seconds, f"build: {seconds:g}"))
    lines = capsys.readouterr().out.splitlines()[:-1]
    assert lines == ["… Kubernetes binaries 31.0 s build: 31", "… Kubernetes binaries 62.0 s build: 62"]


def test_up_ends_with_a_kubectl_that_is_there(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = SimpleNamespace(kubeconfig=home / "kubeconfig")
    monkeypatch.setattr(cluster, "up", lambda *_, **options: made)
    monkeypatch.setattr(command, "_told", Console(force_terminal=False, soft_wrap=True))
    monkeypatch.setattr(binaries, "find", lambda name: home / "cache" / name)
    command.up("default")
    assert f"{home}/cache/kubectl --kubeconfig {home}/kubeconfig get nodes" in capsys.readouterr().out
    monkeypatch.setattr(binaries, "find", lambda name: None)
    command.up("default")
    assert "podlab binaries ensure kubectl" in capsys.readouterr().out


def test_the_picture_shows_each_step_once() -> None:
    steps = Steps()
    for state in ("running", "done"):
        steps.report(StepReport("etcd", state, 1.0))
    steps.report(StepReport("Nodes Ready", "running", 3.0, "detail"))
    console = Console(width=100, file=io.StringIO())
    console.print(steps)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.count("etcd") == 1
    assert "✓ etcd" in text
    assert "… Nodes Ready 3.0 s detail" in text


@pytest.fixture
def log(home: Path) -> Path:
    """etcd's log, one line long, of the cluster `one`."""
    folder = home / "data" / "clusters" / "one"
    (folder / "logs").mkdir(parents=True)
    record = {"name": "one", "provider": "embedded", "nodes": [], "profile": "lab"}
    (folder / "cluster.json").write_text(json.dumps(record))
    (folder / "logs" / "etcd.log").write_text("a line\n")
    return folder / "logs" / "etcd.log"


@pytest.mark.timeout(120)
def test_a_log_is_followed_also_when_it_is_cut_until_it_is_gone(log: Path) -> None:
    arguments = ["cluster", "logs", "etcd", "--name", "one", "--follow"]
    with (
        subprocess.Popen([sys.executable, "-m", "podlab", *arguments], stdout=subprocess.PIPE, text=True) as following,
        log.open("a") as writer,
    ):
        assert following.stdout
        assert following.stdout.readline() == "a line\n"
        writer.write("a longer line\n")
        writer.flush()
        assert following.stdout.readline() == "a longer line\n"
        assert cap_log(log, limit=1)
        writer.write("after\n")
        writer.flush()
        assert following.stdout.readline() == "after\n"
        log.unlink()
        assert following.stdout.read() == ""
        assert following.wait() == 0


@pytest.mark.timeout(120)
def test_a_log_that_goes_at_any_moment_ends_its_following(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exists = Path.exists

    def goes_then(path: Path) -> bool:
        there = exists(path)
        if path == log:
            path.unlink(missing_ok=True)
        return there

    monkeypatch.setattr(Path, "exists", goes_then)
    monkeypatch.setattr(command, "pause", lambda _seconds: log.unlink(missing_ok=True))
    assert run("logs", "etcd", "--name", "one", "--follow") == "a line\n"


def test_a_log_is_printed(log: Path) -> None:
    assert run("logs", "etcd", "--name", "one") == "a line\n"
    with pytest.raises(UsageError, match="There are etcd"):
        run("logs", "scheduler", "--name", "one")
