"""Namespaces that dead kernels left are removed, and nobody else's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from little_api import LittleApi

from podlab import paths
from podlab.checks import owners
from podlab.checks.api import Api
from podlab.cluster.folder import HOME_LABEL


def test_only_what_ones_own_dead_of_this_machine_left_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PODLAB_HOME", str(tmp_path / "home"))
    home = {HOME_LABEL: paths.identity()}
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        gone = owners.own(other.pid) or ""
        assert owners.of_this_machine(gone) and not owners.dead(gone)
        other.kill()
    mine = owners.own() or ""
    labels = {
        "dead": gone,
        "another-of-my-number": f"{mine}0",
        "alive": mine,
        "of-another-machine": f"0123456789-{gone.partition('-')[2]}",
        "unknown": "unknown",
    }
    with LittleApi() as little:
        api = Api.connect(little.kubeconfig(tmp_path / "config"))
        for name, label in labels.items():
            little.add(f"/api/v1/namespaces/{name}", "Namespace", labels={owners.OWNER: label} | home)
        others = {owners.OWNER: gone, HOME_LABEL: "another"}
        little.add("/api/v1/namespaces/of-another-user-here", "Namespace", labels=others)
        little.add("/api/v1/namespaces/without-an-owner", "Namespace", labels=home)
        little.add(
            "/api/v1/namespaces/going",
            "Namespace",
            labels={owners.OWNER: gone} | home,
            deletionTimestamp="2026-01-01T00:00:00Z",
        )
        little.add("/api/v1/namespaces/default", "Namespace")
        assert sorted(owners.sweep(api)) == ["another-of-my-number", "dead"]
        left = {"alive", "of-another-machine", "unknown", "going", "default"}
        left |= {"of-another-user-here", "without-an-owner"}
        assert little.names("/api/v1/namespaces") == left
        assert owners.sweep(api) == []
