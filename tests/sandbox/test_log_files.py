"""A container's log file: format, order, long and unfinished lines, rotation, much output, trouble on disk."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sandbox_room import Node, entries, text_of

from podlab import waiting
from podlab.errors import RuntimeRefused

pytestmark = pytest.mark.sandbox


async def _larger(path: Path, size: int) -> bool:
    return path.exists() and path.stat().st_size > size


async def _told_to_go(node: Node, container: str) -> socket.socket:
    """Its output, once a container that reads a line before it goes on has been given one."""
    given, output = await node.runtime.attach(container, stdin=True)
    assert given is not None
    given.setblocking(True)
    given.sendall(b"go\n")
    given.close()
    return output


async def test_every_line_has_time_stream_and_flag(node: Node) -> None:
    before = datetime.now(UTC)
    container = await node.start(await node.pod(), "sh", "-c", "echo out; echo err >&2; echo; echo 'a b  c '")
    await node.runtime.wait_container(container)
    found = entries(node.log(container))
    assert [(one.stream, one.flag, one.text) for one in found if one.stream == "stdout"] == [
        ("stdout", "F", "out"),
        ("stdout", "F", ""),
        ("stdout", "F", "a b  c "),
    ]
    assert [(one.flag, one.text) for one in found if one.stream == "stderr"] == [("F", "err")]
    for one in found:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", one.time)
        when = datetime.fromisoformat(one.time[:26] + "+00:00")
        assert (when - before).total_seconds() > -1
        assert (datetime.now(UTC) - when).total_seconds() < 60


async def test_a_last_line_without_newline_is_kept_and_whoever_ships_it_waits_for_no_more(node: Node) -> None:
    container = await node.start(await node.pod(), "printf", "one\\ntwo")
    await node.runtime.wait_container(container)
    assert [(one.flag, one.text) for one in entries(node.log(container))] == [("F", "one"), ("P", "two"), ("F", "")]
    assert text_of(node.log(container)) == "one\ntwo"


async def test_a_long_line_comes_in_pieces_that_join_to_it(node: Node) -> None:
    script = "head -c 40000 /dev/zero | tr '\\0' x; echo; echo short"
    container = await node.start(await node.pod(), "sh", "-c", script)
    await node.runtime.wait_container(container)
    found = entries(node.log(container))
    assert [(one.flag, len(one.text)) for one in found] == [("P", 16384), ("P", 16384), ("F", 7232), ("F", 5)]


async def test_bytes_that_are_no_text_pass_unchanged(node: Node) -> None:
    container = await node.start(await node.pod(), "printf", "\\377\\000\\r\\001\\r\\n")
    await node.runtime.wait_container(container)
    assert node.log(container).read_bytes().endswith(b" stdout F \xff\x00\r\x01\n"), "but for a terminal's line end"


async def test_much_output_is_whole_when_the_exit_is_told(node: Node) -> None:
    container = await node.start(await node.pod(), "seq", "1000000")
    await node.runtime.wait_container(container)
    lines = text_of(node.log(container)).splitlines()
    assert len(lines) == 1_000_000
    assert lines == [str(number) for number in range(1, 1_000_001)]


async def test_two_streams_at_once_are_both_whole(node: Node) -> None:
    script = "seq 50000 & seq 50001 100000 >&2; wait"
    container = await node.start(await node.pod(), "sh", "-c", script)
    await node.runtime.wait_container(container)
    assert len(text_of(node.log(container), "stdout").splitlines()) == 50_000
    assert len(text_of(node.log(container), "stderr").splitlines()) == 50_000


async def test_after_rotation_no_line_is_lost_or_doubled(node: Node) -> None:
    container = await node.start(
        await node.pod(), "sh", "-c", "i=0; while [ $i -lt 4000 ]; do echo $i; i=$((i+1)); done; read x", stdin=True
    )
    log, parts = node.log(container), []
    for number in range(3):
        parts.append(log.rename(log.with_suffix(f".{number}")))
        await node.runtime.reopen_log(container)

    async def lines() -> list[str]:
        return "".join(text_of(part) for part in (*parts, log)).splitlines()

    async def complete() -> bool:
        return len(await lines()) >= 4000

    await waiting.until_async(complete, "4000 lines", timeout=60)
    await node.runtime.signal_container(container, signal.SIGKILL)
    await node.runtime.wait_container(container)
    assert await lines() == [str(number) for number in range(4000)]


async def test_at_full_speed_rotation_costs_no_line(node: Node) -> None:
    piece = 100_000
    count = f'trap "over=1" TERM; n=0; until [ "$over" ]; do seq $((n + 1)) $((n += {piece})); done'
    container = await node.start(await node.pod(), "sh", "-c", count)
    log, aside = node.log(container), list[Path]()
    while len(aside) < 4:
        await waiting.until_async(lambda: _larger(log, 2_000_000), "2 MB of log", timeout=60, interval=0.001)
        aside.append(log.rename(f"{log}.{len(aside):04d}"))
        await node.runtime.reopen_log(container)
    await node.runtime.signal_container(container, signal.SIGTERM)
    await node.runtime.wait_container(container)
    found = "".join(text_of(path) for path in [*aside, log])
    lines = found.count("\n")
    assert found == "".join(f"{number}\n" for number in range(1, lines + 1))
    assert lines and lines % piece == 0


async def test_a_log_folder_that_vanishes_does_not_harm_the_container(node: Node) -> None:
    folder = node.folder / "logs"
    folder.mkdir()
    node.room.own(folder)
    container = await node.start(
        await node.pod(), "sh", "-c", "read x; seq 100000; exit 3", stdin=True, log_path=str(folder / "log")
    )
    shutil.rmtree(folder)
    await node.runtime.reopen_log(container)
    output = await _told_to_go(node, container)
    output.setblocking(True)
    assert await asyncio.to_thread(output.recv, 10)
    output.close()
    assert (await node.runtime.wait_container(container)).status == 3


async def test_a_full_disk_costs_lines_and_nothing_else(node: Node) -> None:
    container = await node.start(await node.pod(), "sh", "-c", "seq 100000; exit 6", log_path="/dev/full")
    assert (await node.runtime.wait_container(container)).status == 6


async def test_a_container_whose_output_nobody_takes_has_not_started(node: Node) -> None:
    pod = await node.pod()
    spec = node.spec(pod, "sh", "-c", "trap '' TERM; sleep 1000", log_path=str(node.folder / "no\0name"))
    with pytest.raises(RuntimeRefused, match="did not start: its output is not read") as told:
        await node.runtime.start_container(spec)
    assert told.value.reason == "RunContainerError"
    assert not any(state.id == spec.id for state in (await node.runtime.inventory()).containers)
    assert not Path(spec.folder).exists()
    again = await node.start(pod, "sh", "-c", "echo well", id=spec.id, log_path=str(node.log(spec.id)))
    await node.runtime.wait_container(again)
    assert text_of(node.log(again)) == "well\n", "and its name is free"


@pytest.mark.parametrize("trick", ["link", "folder", "pipe"])
async def test_nothing_that_a_pod_puts_in_the_place_of_its_log_leads_out_of_the_folder(node: Node, trick: str) -> None:
    top, outside = node.folder / "host", node.folder / "outside"
    log = top / "pods" / "shop_web" / "main" / "0.log"
    log.parent.mkdir(parents=True)
    outside.mkdir()
    for folder in (top, outside):
        node.room.own(folder)
    container = await node.start(
        await node.pod(),
        *("sh", "-c", "read x; echo secret; exit 3"),
        stdin=True,
        log_path=str(log),
        log_within=str(top),
    )
    assert log.is_file()
    if trick == "folder":
        log.parent.rename(log.parent.with_name("before"))
        log.parent.symlink_to(outside)
    else:
        log.unlink()
        os.mkfifo(log) if trick == "pipe" else log.symlink_to(outside / "0.log")
    await node.runtime.reopen_log(container)
    (await _told_to_go(node, container)).close()
    assert (await node.runtime.wait_container(container)).status == 3
    assert not list(outside.iterdir())
    log.parent.unlink() if trick == "folder" else log.unlink()


async def test_a_container_that_writes_without_end_is_killed_promptly(node: Node) -> None:
    container = await node.start(await node.pod(), "sh", "-c", "yes")
    log = node.log(container)
    await waiting.until_async(lambda: _larger(log, 5_000_000), "5 MB of log", timeout=60)
    await node.runtime.signal_container(container, signal.SIGKILL)
    assert (await node.runtime.wait_container(container)).signal == 9
