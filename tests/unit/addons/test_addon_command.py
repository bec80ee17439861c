"""`podlab addon` on the command line, with a cluster that is a little API: what is there, and how it is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from little_api import LittleApi, Object
from typer.testing import CliRunner, Result

from podlab import addons, cli
from podlab.addons.catalogue import LABEL
from podlab.errors import UsageError

DONE = {"observedGeneration": 1, "replicas": 1, "readyReplicas": 1, "updatedReplicas": 1}
EACH_NODE = {"observedGeneration": 1, "desiredNumberScheduled": 2, "numberReady": 2, "updatedNumberScheduled": 2}


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LittleApi]:
    """That of the cluster `ours`, which is the one in use."""
    monkeypatch.setenv("PODLAB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PODLAB_CLUSTER", raising=False)
    with LittleApi() as little:
        found = ["--kubeconfig", str(little.kubeconfig(tmp_path / "theirs")), "--confirm", "class"]
        assert run("cluster", "up", "--name", "ours", "--provider", "existing", *found).exit_code == 0
        assert run("cluster", "use", "ours").exit_code == 0
        yield little


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, list(arguments))


def put(api: LittleApi, addon: str, kind: str, name: str, status: Object) -> None:
    """A part of an add-on, and its namespace."""
    api.objects[f"/api/v1/namespaces/{addon}"] = {
        "kind": "Namespace",
        "metadata": {"name": addon, "labels": {LABEL: addon}},
    }
    group = "api" if kind == "Pod" else "apis/apps"
    api.objects[f"/{group}/v1/namespaces/{addon}/{kind.lower()}s/{name}"] = {
        "kind": kind,
        "metadata": {"name": name, "namespace": addon, "generation": 1},
        "spec": {"replicas": 1},
        "status": status,
    }


def enable_logging(api: LittleApi, ready: int = 1) -> None:
    put(api, "logging", "StatefulSet", "victoria-logs", {**DONE, "readyReplicas": ready})
    put(api, "logging", "DaemonSet", "vlagent", EACH_NODE)


def test_the_list_has_every_add_on_how_it_is_and_how_many_of_its_pods_are_ready(api: LittleApi) -> None:
    enable_logging(api, ready=0)
    put(api, "ingress", "Deployment", "traefik", DONE)
    result = run("addon", "list")
    rows = [line.split() for line in result.stdout.splitlines() if line[0] != " "]  # the last column may go on
    assert result.exit_code == 0 and rows[0] == ["NAME", "STATE", "READY", "WHAT"]
    assert [row[0] for row in rows[1:]] == list(addons.TABLE)
    found = {row[0]: row[1:3] for row in rows[1:]}
    assert (found["logging"], found["ingress"]) == (["starting", "2/3"], ["ready", "1/1"])
    assert {found[name][0] for name in set(addons.TABLE) - {"logging", "ingress"}} == {"disabled"}


def test_the_status_is_told_and_the_exit_status_is_0_only_if_it_is_ready(api: LittleApi) -> None:
    result = run("addon", "status", "logging")
    assert (result.exit_code, result.stdout) == (1, "logging: disabled\n")
    enable_logging(api, ready=0)
    put(api, "logging", "Pod", "victoria-logs-0", {"phase": "Pending"})
    result = run("addon", "status", "logging")
    first, *waiting = result.stdout.splitlines()
    assert (result.exit_code, first) == (1, "logging: starting, 2 of 3 pods")
    assert len(waiting) == 1 and waiting[0].startswith("  pod victoria-logs-0 ")
    enable_logging(api)
    put(api, "logging", "Pod", "victoria-logs-0", {"conditions": [{"type": "Ready", "status": "True"}]})
    result = run("addon", "status", "logging")
    assert (result.exit_code, result.stdout) == (0, "logging: ready, 3 of 3 pods\n")


def test_disabled_is_an_add_on_of_which_nothing_is_left_and_what_is_not_there_need_not_be(api: LittleApi) -> None:
    put(api, "spark", "Pod", "driver", {"phase": "Running"})
    put(api, "ingress", "Deployment", "traefik", DONE)
    for _ in range(2):
        assert run("addon", "disable", "spark").exit_code == 0
        assert not [path for path in api.objects if "spark" in path]
    assert run("addon", "status", "ingress").exit_code == 0, "another one stays"


def test_the_cluster_that_is_named_is_meant_or_else_the_one_in_use(
    api: LittleApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in (["list"], ["status", "logging"], ["disable", "logging"]):
        assert "nowhere" in str(run("addon", *command, "--name", "nowhere").exception)
    monkeypatch.setenv("PODLAB_CLUSTER", "elsewhere")
    assert "elsewhere" in str(run("addon", "status", "logging").exception)
    assert "elsewhere" in str(run("spark", "run", __file__).exception)
    monkeypatch.delenv("PODLAB_CLUSTER")
    assert "nowhere" in str(run("spark", "run", "--name", "nowhere", __file__).exception)
    assert "spark is not enabled in this cluster" in str(run("spark", "run", __file__).exception)


def test_an_add_on_that_does_not_exist_is_refused_with_those_that_do(api: LittleApi) -> None:
    refused = run("addon", "status", "elk").exception
    assert isinstance(refused, UsageError) and "monitoring, logging, opensearch" in str(refused)
