"""The embedded provider before there is a supervisor: what it refuses, what it says, and who takes the name away."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from podlab import cluster
from podlab.cluster.embedded import binaries, bring_up, provider
from podlab.cluster.embedded.requests import FAILED, Requests
from podlab.cluster.kind import provider as kind
from podlab.cluster.provider import StepReport
from podlab.errors import BinaryError, ClusterNotFound, EnvironmentUnsuitable, StepFailed
from podlab.node.runtime.sandbox import kernel


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("PODLAB_HOME", str(tmp_path))
    return tmp_path


def test_an_old_kernel_is_told_with_the_version_that_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_pid: int) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), "pidfd_open")

    monkeypatch.setattr(kernel, "pidfd_open", refuse)
    with pytest.raises(EnvironmentUnsuitable, match=rf"Linux {os.uname().release} refuses.*Linux 5\.3.*kind"):
        cluster.up("old")
    assert cluster.list_clusters() == []


@pytest.mark.parametrize("moment", ["_binaries", "_need_space", "environment"])
def test_down_before_there_is_a_supervisor_is_told_by_up(monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    def take_down(*_: Any) -> dict[str, Any]:
        if "early" in cluster.list_clusters():
            cluster.down("early")
        return {}

    monkeypatch.setattr(provider, "_binaries", lambda progress: {})
    monkeypatch.setattr(provider, moment, take_down)
    with pytest.raises(StepFailed, match="early was taken down while it came up"):
        cluster.up("early", runtime="plain")
    with pytest.raises(ClusterNotFound):
        cluster.down("early")


def test_what_fails_before_there_is_a_supervisor_is_told_and_frees_the_name(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    def offline(*_: Any) -> Any:
        raise BinaryError("There is no network.")

    monkeypatch.setattr(provider, "_binaries", offline)
    with pytest.raises(BinaryError, match="no network"):
        cluster.up("lonely", runtime="plain")
    assert list((home / "data" / "clusters").iterdir()) == []


@pytest.mark.parametrize(
    "fetch",
    [
        lambda reports: provider._binaries(reports.append),
        lambda reports: kind._program(lambda detail: reports.append(StepReport("kind", "running", 0.0, detail))),
    ],
)
def test_the_sizes_of_what_is_fetched_are_said(monkeypatch: pytest.MonkeyPatch, fetch: Any) -> None:
    def ensure(names: Any, progress: binaries.Progress) -> dict[str, Path]:
        progress(binaries.Report("download etcd", "etcd.tar.gz", 12_000_000, 96_000_000))
        progress(binaries.Report("build kube-apiserver", "k8s.io/api", 30, 2077, "packages"))
        return {name: Path(name) for name in names}

    monkeypatch.setattr(binaries, "ensure", ensure)
    reports: list[StepReport] = []
    fetch(reports)
    said = [report.detail for report in reports]
    assert "download etcd: 12 of 96 MB" in said
    assert "build kube-apiserver: 30 of at most 2077 packages" in said


async def test_a_record_that_cannot_be_written_ends_the_bring_up(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    def full(_record: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(bring_up, "STEPS", ())
    requests = Requests(SimpleNamespace(folder=SimpleNamespace(path=home, write=full), record=None))  # type: ignore[arg-type]
    requests.begin()
    with pytest.raises(EnvironmentUnsuitable, match="No space left"):
        await requests.handle({"verb": "follow"}, lambda step: None)
    await requests.over.wait()
    assert (requests.state, requests.exit_status) == ("starting", FAILED)
