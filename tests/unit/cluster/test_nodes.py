"""Power of a node: what is kept running although its first start failed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from podlab.cluster.embedded import faults, nodes
from podlab.cluster.embedded.nodes import Node
from podlab.cluster.embedded.processes import Kept
from podlab.errors import ClusterError
from podlab.waiting import until_async


class Sleeper:
    """A process that runs until it is killed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    async def wait(self) -> str:
        await self._process.wait()
        return "ended"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    """A node whose machine does not start the first time."""
    folder = SimpleNamespace(path=tmp_path, log=lambda name: tmp_path / f"{name}.log")
    record = SimpleNamespace(profile="lab", shares=0, nodes=[1])
    backbone = SimpleNamespace(detach=lambda name: None)
    made = Node(1, folder, record, backbone, None)  # type: ignore[arg-type]
    failures = [OSError("no memory")]

    async def start() -> Sleeper:
        if failures:
            raise failures.pop()
        return Sleeper(await asyncio.create_subprocess_exec("sleep", "1000"))

    async def start_agent() -> Sleeper:
        await made.machine.up()
        return await start()

    made.machine = Kept("machine", start, tmp_path / "machine.log")
    made.agent = Kept("agent", start_agent, tmp_path / "agent.log")
    yield made
    await made.agent.stop(0)
    await made.machine.stop(0)


async def test_a_machine_that_starts_late_gets_its_agent(node: Node) -> None:
    with pytest.raises(ClusterError, match="no memory"):
        await faults._rejoin(node)
    async with asyncio.timeout(60):
        await node.agent.up()
    assert node.machine.state == "running"


async def test_an_earlier_failure_does_not_count_for_a_restart(node: Node) -> None:
    node.machine.begin()
    async with asyncio.timeout(60):
        first = await node.machine.up()
    await node.restart()
    assert node.machine.pid not in (None, first.pid)
    async with asyncio.timeout(60):
        await node.agent.up()


async def test_a_slowed_node_stands_still_and_goes_on_in_turn_until_it_is_fast(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STANDS", "RUNS"):
        monkeypatch.setattr(nodes, name, 0.05)
    still = await _begun(node)

    async def runs() -> bool:
        return not await still()

    await faults._slow(node)
    for _ in range(2):
        await until_async(still, "a node that stands still", timeout=60, interval=0.01)
        await until_async(runs, "a node that goes on", timeout=60, interval=0.01)
    assert node.slowed and node.machine.state == "running"
    await faults._pause(node)
    await until_async(still, "a node that stands still", timeout=60, interval=0.01)
    assert node.machine.state == "paused" and not node.slowed
    with pytest.raises(ClusterError, match="is paused"):
        await faults._slow(node)
    await faults._resume(node)
    await faults._slow(node)
    await until_async(still, "a node that stands still", timeout=60, interval=0.01)
    await faults._rejoin(node)
    assert await runs() and not node.slowed


async def test_all_who_bring_a_node_back_to_full_speed_wait_until_it_is(node: Node) -> None:
    still = await _begun(node)

    async def fast() -> bool:
        await node.fast()
        return not await still()

    await faults._slow(node)
    await until_async(still, "a node that stands still", timeout=60, interval=0.01)
    async with asyncio.timeout(60):
        assert await asyncio.gather(fast(), fast(), fast()) == [True] * 3
    assert not node.slowed


async def _begun(node: Node) -> Callable[[], Awaitable[bool]]:
    """Start the machine of a node; the answer says whether it stands still just now."""
    node.machine.begin()
    async with asyncio.timeout(60):
        process = await node.machine.up()

    async def still() -> bool:
        return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    return still


async def test_a_node_without_power_cannot_be_slowed(node: Node) -> None:
    with pytest.raises(ClusterError, match="does not run"):
        node.slow()
