"""When a container's probes are asked: by a clock that nobody sets."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from pods import container, made, records, run

from podlab.node import probing
from podlab.node.prober import Answer
from podlab.node.probing import Probing


class Clocks:
    """Stands for `time` and for pauses: both clocks go on with each pause, and one of them is set now and then."""

    def __init__(self, jump: float) -> None:
        self.wall, self.steady, self._jump = 1_800_000_000.0, 100.0, jump
        self.asked_at: list[float] = []

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.steady

    async def pause(self, seconds: float) -> None:
        self.steady += seconds
        self.wall += seconds + self._jump
        await asyncio.sleep(0)

    async def ask(self, *_: Any) -> Answer:
        self.asked_at.append(self.steady - 100.0)
        return Answer(False, "refused")


@pytest.mark.parametrize("jump", [0.0, -86400.0, 86400.0])
async def test_a_set_clock_moves_no_probe(jump: float, monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = Clocks(jump)
    monkeypatch.setattr(probing, "time", clocks)
    monkeypatch.setattr(probing, "pause_async", clocks.pause)
    monkeypatch.setattr(probing.prober, "ask", clocks.ask)
    pod = records(made(container(livenessProbe={"initialDelaySeconds": 30, "periodSeconds": 5})))
    main = pod.containers["main"]
    run(main)
    condemned: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    context = SimpleNamespace(runtime=None, recorder=SimpleNamespace(pod=lambda *_: None))
    target = lambda: None  # noqa: E731 - nobody is asked
    parts = SimpleNamespace(pod=pod, changed=lambda: None)
    probes = Probing(context, parts, main, target, condemned.set_result)  # type: ignore[arg-type]
    probes.start(clocks.wall)
    async with asyncio.timeout(60):
        await condemned
    await probes.stop()
    assert clocks.asked_at == [30.0, 35.0, 40.0]
