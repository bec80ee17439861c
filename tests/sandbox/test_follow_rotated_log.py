"""Following the log of a real container while its log is rotated: no line is lost."""

from __future__ import annotations

import asyncio

import pytest
from sandbox_room import Node

from podlab.node.streams.logs import LogOptions, read_log
from podlab.waiting import pause_async

pytestmark = pytest.mark.sandbox

BURSTS, LINES = 50, 2000
#: Prints the numbers from 1 on, in bursts of about 90 KB of log.
SCRIPT = f"i=0; while [ $i -lt {BURSTS} ]; do seq $((i*{LINES}+1)) $((i*{LINES}+{LINES})); sleep 0.02; i=$((i+1)); done"


async def test_a_follower_sees_every_line_over_many_rotations(node: Node) -> None:
    container = await node.start(await node.pod(), "sh", "-c", SCRIPT)
    log, rotated = node.log(container), []
    ended = asyncio.ensure_future(node.runtime.wait_container(container))
    seen: list[bytes] = []

    async def follow() -> None:
        async for chunk in read_log(str(log), LogOptions(follow=True), ended):
            seen.append(chunk)

    following = asyncio.ensure_future(follow())
    while not ended.done():
        if log.stat().st_size > 100_000:
            rotated.append(log.rename(f"{log}.{len(rotated):04d}"))
            await node.runtime.reopen_log(container)
        await pause_async(0.005)
    await following
    assert b"".join(seen) == b"".join(b"%d\n" % number for number in range(1, BURSTS * LINES + 1))
    assert len(rotated) > 3
