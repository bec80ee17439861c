"""The node's heartbeat."""

from __future__ import annotations

import asyncio
import types

import pytest

from podlab.cluster.embedded.components import PROFILES
from podlab.node.lease import Heartbeat


@pytest.mark.parametrize("profile", PROFILES)
def test_a_renewal_has_as_long_as_it_can_still_count(profile: str) -> None:
    """A starved API server that answers late must not cost the cluster its nodes."""
    asked: list[float] = []

    async def patch(_path: str, _body: object, *, timeout: float, urgent: bool) -> None:
        asked.append(timeout)

    timers = PROFILES[profile]
    configuration = types.SimpleNamespace(
        name="node-1", lease_duration=timers.lease_duration, lease_period=timers.lease_period
    )
    heartbeat = Heartbeat(types.SimpleNamespace(patch=patch), configuration, lambda: "uid", lambda: None)  # type: ignore[arg-type]
    asyncio.run(heartbeat._renew())
    (timeout,) = asked
    assert timeout >= min(10, 3 * timers.lease_period)
    assert timeout + timers.lease_period <= timers.monitor_grace
