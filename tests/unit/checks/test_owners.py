"""Namespaces that dead kernels left are removed, and nobody else's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from little_api import LittleApi

from podlab.checks import owners
from podlab.checks.api import Api


def test_only_what_the_dead_of_this_machine_left_is_removed(tmp_path: Path) -> None:
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
            little.add(f"/api/v1/namespaces/{name}", "Namespace", labels={owners.OWNER: label})
        little.add(
            "/api/v1/namespaces/going",
            "Namespace",
            labels={owners.OWNER: gone},
            deletionTimestamp="2026-01-01T00:00:00Z",
        )
        little.add("/api/v1/namespaces/default", "Namespace")
        assert sorted(owners.sweep(api)) == ["another-of-my-number", "dead"]
        left = {"alive", "of-another-machine", "unknown", "going", "default"}
        assert little.names("/api/v1/namespaces") == left
        assert owners.sweep(api) == []
