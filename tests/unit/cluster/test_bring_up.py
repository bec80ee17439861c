"""Steps of the bring-up against an API server that does not answer every request."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from podlab.cluster.embedded import bring_up, system
from podlab.cluster.embedded.nodes import Nodes
from podlab.cluster.embedded.system import System
from podlab.errors import ClusterError, PodlabError, UsageError
from podlab.node.api import ApiError, Invalid, NotFound, Unreachable


class Administrator:
    """Stands for the API server: keeps what it is asked, and fails as it is told."""

    def __init__(self, *failures: ApiError) -> None:
        self.failures = list(failures)
        self.done: list[str] = []

    def _answer(self, method: str, path: str) -> dict[str, Any]:
        if self.failures:
            raise self.failures.pop(0)
        self.done.append(f"{method} {path}")
        return {"gitVersion": "v1.37.2"}

    async def get(self, path: str) -> dict[str, Any]:
        return self._answer("GET", path)

    async def patch(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._answer("PATCH", path)

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._answer("POST", path)

    async def delete(self, path: str) -> dict[str, Any]:
        return self._answer("DELETE", path)


class Served:
    """What begins to serve, by name."""

    def __init__(self) -> None:
        self.begun: list[str] = []

    def begin(self, name: str) -> Any:
        return lambda *_: self.begun.append(name)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    found = Served()

    async def metrics(*_: Any) -> object:
        found.begun.append("metrics")
        return object()

    monkeypatch.setattr(system.addons, "serve_metrics", metrics)
    monkeypatch.setattr(system, "Provisioner", lambda *_: SimpleNamespace(start=found.begin("storage")))
    return found


def room(administrator: Administrator, served: Served, folder: Path) -> System:
    """A System that serves nothing and asks `administrator`."""
    (folder / "ca.crt").write_text("certificate")
    made = object.__new__(System)
    made.folder = SimpleNamespace(pki=folder)  # type: ignore[assignment]
    made.network = SimpleNamespace(  # type: ignore[assignment]
        backbone=None,
        open_node_ports=served.begin("node ports"),
        serve_load_balancers=served.begin("load balancers"),
    )
    made._api, made._metrics, made._storage = administrator, None, None  # type: ignore[assignment]
    made.record = SimpleNamespace(guarded=False)  # type: ignore[assignment]
    made._client = lambda identity: None  # type: ignore[assignment, return-value, method-assign]
    return made


@pytest.mark.parametrize(
    ("step", "begun"),
    [
        (bring_up.node_ports, ["node ports", "load balancers"]),
        (bring_up.storage, ["storage"]),
        (bring_up.metrics, ["metrics"]),
    ],
)
async def test_a_step_repeats_its_requests_and_serves_once(
    step: Any, begun: list[str], served: Served, tmp_path: Path
) -> None:
    administrator = Administrator(Unreachable("timed out"), ApiError("too many requests", status=429))
    await step(room(administrator, served, tmp_path))
    assert served.begun == begun
    assert administrator.done and not administrator.failures


async def test_what_the_api_server_does_not_accept_is_told_at_once(served: Served, tmp_path: Path) -> None:
    administrator = Administrator(Invalid("no such field", status=422))
    with pytest.raises(ClusterError, match="no such field"):
        await bring_up.storage(room(administrator, served, tmp_path))


@pytest.mark.parametrize(("taken", "needed"), [("kube-scheduler", False), ("kube-dns", True)])
async def test_a_service_of_somebodys_own_matters_if_the_cluster_needs_that_name(taken: str, needed: bool) -> None:
    class Administration(Administrator):
        def _answer(self, method: str, path: str) -> dict[str, Any]:
            if path.endswith(f"/services/{taken}"):
                raise Invalid("spec.clusterIPs[0]: may not change once set", status=422)
            return super()._answer(method, path)

    administrator = Administration()
    writing = bring_up.api_objects(SimpleNamespace(api=administrator))  # type: ignore[arg-type]
    if needed:
        with pytest.raises(ClusterError, match="may not change once set"):
            await writing
    else:
        await writing
        assert any(line.endswith("/services/kube-dns") for line in administrator.done)


async def test_the_version_is_asked_for_again() -> None:
    async def started(*_: Any) -> None:
        pass

    asked = SimpleNamespace(
        plane=SimpleNamespace(start=started),
        open_api=lambda: None,
        api=Administrator(Unreachable("timed out")),
        record=SimpleNamespace(version=""),
    )
    assert await bring_up.api_server(asked) == "v1.37.2"  # type: ignore[arg-type]
    assert asked.record.version == "v1.37.2"


@pytest.mark.parametrize("failure", [Unreachable("timed out"), NotFound("no such node", status=404)])
async def test_a_node_is_forgotten_when_its_object_is_gone(failure: ApiError, tmp_path: Path) -> None:
    record = SimpleNamespace(nodes=[1, 2])
    administrator = Administrator(failure)
    known_at_delete: list[list[int]] = []
    discarded: list[str] = []
    written: list[list[int]] = []

    async def off() -> None:
        known_at_delete.append(list(record.nodes))

    nodes = SimpleNamespace(
        get=lambda name: SimpleNamespace(index=2, pull_the_plug=off),
        discard=discarded.append,
        removing=asyncio.Lock(),
    )
    folder = SimpleNamespace(write=lambda record: written.append(list(record.nodes)), node=lambda name: tmp_path / name)
    asked = SimpleNamespace(nodes=nodes, record=record, folder=folder, api=administrator)
    await bring_up.remove_node(asked, "node-2")  # type: ignore[arg-type]
    assert administrator.done == ([] if isinstance(failure, NotFound) else ["DELETE /api/v1/nodes/node-2"])
    assert (known_at_delete, discarded, written) == ([[1, 2]], ["node-2"], [[1]])


async def test_a_node_that_cannot_be_deleted_stays_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bring_up, "PATIENCE", 0)

    async def off() -> None:
        pass

    record = SimpleNamespace(nodes=[1, 2])
    nodes = SimpleNamespace(get=lambda name: SimpleNamespace(index=2, pull_the_plug=off), removing=asyncio.Lock())
    asked = SimpleNamespace(nodes=nodes, record=record, api=Administrator(Unreachable("timed out")))
    with pytest.raises(PodlabError, match="node-2"):
        await bring_up.remove_node(asked, "node-2")  # type: ignore[arg-type]
    assert record.nodes == [1, 2]


async def test_two_who_remove_a_node_at_once_do_not_meet(tmp_path: Path) -> None:
    folder = SimpleNamespace(
        path=tmp_path, log=lambda name: tmp_path / name, node=lambda name: tmp_path / name, write=lambda record: None
    )
    record = SimpleNamespace(profile="lab", shares=0, nodes=[1, 2])
    detached: list[str] = []
    nodes = Nodes(folder, record, SimpleNamespace(detach=detached.append), {})  # type: ignore[arg-type]
    asked = SimpleNamespace(nodes=nodes, record=record, folder=folder, api=Administrator())
    removals = [bring_up.remove_node(asked, "node-2") for _ in range(2)]  # type: ignore[arg-type]
    first, second = await asyncio.gather(*removals, return_exceptions=True)
    assert first is None and isinstance(second, UsageError) and "no node node-2" in str(second)
    assert (record.nodes, detached) == ([1], ["node-2"])
