"""Following the log of a real container while its log is rotated: no line is lost."""

from __future__ import annotations

import asyncio
import signal

import pytest
from sandbox_room import Node

from podlab.node.streams.logs import LogOptions, read_log
from podlab.waiting import until_async

pytestmark = pytest.mark.sandbox

#: Prints the numbers from 1 on, in bursts of about 90 KB of log, until it is told to end.
LINES = 2000
SCRIPT = f'trap "over=1" TERM; n=0; until [ "$over" ]; do seq $((n + 1)) $((n += {LINES})); sleep 0.02; done'
ROTATIONS = 6


async def test_a_follower_sees_every_line_over_many_rotations(node: Node) -> None:
    container = await node.start(await node.pod(), "sh", "-c", SCRIPT)
    log = node.log(container)
    ended = asyncio.ensure_future(node.runtime.wait_container(container))
    seen: list[bytes] = []

    async def follow() -> None:
        async for chunk in read_log(str(log), LogOptions(follow=True), ended):
            seen.append(chunk)

    async def large() -> bool:
        return log.stat().st_size > 100_000

    following = asyncio.ensure_future(follow())
    for number in range(ROTATIONS):
        await until_async(large, "a log that is to be rotated", timeout=60, interval=0.005)
        log.rename(f"{log}.{number:04d}")
        await node.runtime.reopen_log(container)
    await node.runtime.signal_container(container, signal.SIGTERM)
    await following
    found = b"".join(seen)
    lines = found.count(b"\n")
    assert found == b"".join(b"%d\n" % number for number in range(1, lines + 1))
    assert lines >= ROTATIONS * LINES and lines % LINES == 0
