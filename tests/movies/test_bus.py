"""Both buses by one contract: the one in a file, and NATS JetStream on a real broker that may be killed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from bus_contract import BusContract, first

from movies.bus import ARRIVALS, EVENTS, REFUSED, Bus, connect
from movies.bus.files import FileBus
from movies.bus.server import command
from movies.errors import BrokerError, StorageFull
from movies.runner import free_ports
from podlab import waiting


class TestFileBus(BusContract):
    """A log in SQLite."""

    @pytest.fixture
    def address(self, tmp_path: Path) -> str:
        return f"file:{tmp_path}"

    async def test_it_is_private_to_its_owner(self, bus: Bus, tmp_path: Path) -> None:
        assert isinstance(bus, FileBus)
        assert (tmp_path / "bus.sqlite").stat().st_mode & 0o077 == 0

    async def test_arrivals_that_are_dealt_with_are_removed_and_those_that_come_later_are_not_passed_over(
        self, bus: Bus, tmp_path: Path
    ) -> None:
        for number in range(3):
            await bus.publish(ARRIVALS, b"%d" % number)
        for one in await first(bus.work(ARRIVALS, "w"), 3):
            await one.done()
        assert _rows(tmp_path, ARRIVALS) == 1, "the last one stays, so that its position is not given again"
        await bus.publish(ARRIVALS, b"3")
        assert [one.message.data for one in await first(bus.work(ARRIVALS, "w"), 1)] == [b"3"]

    async def test_of_what_was_refused_the_latest_is_kept(
        self, bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("movies.bus.files._REFUSED", 3)
        for number in range(8):
            await bus.publish(REFUSED, b"%d" % number)
            await bus.publish(EVENTS, b"%d" % number)
        assert [one.data for one in await bus.tail(REFUSED, 9)] == [b"7", b"6", b"5"]
        assert _rows(tmp_path, EVENTS) == 8

    async def test_where_it_cannot_be_it_says_so(self, tmp_path: Path) -> None:
        (tmp_path / "taken").write_text("a file")
        with pytest.raises(BrokerError, match="cannot be opened"):
            await connect(f"file:{tmp_path / 'taken'}").open()


def _rows(folder: Path, stream: str) -> int:
    with contextlib.closing(sqlite3.connect(folder / "bus.sqlite")) as file:
        return int(file.execute("SELECT COUNT(*) FROM message WHERE stream = ?", (stream,)).fetchone()[0])


_MANIFEST = Path(__file__).parents[2] / "cluster" / "manifests" / "movies" / "20-broker.yaml"
LIVENESS = next(
    one["spec"]["template"]["spec"]["containers"][0]["livenessProbe"]["httpGet"]["path"]
    for one in yaml.safe_load_all(_MANIFEST.read_text())
    if one["kind"] == "StatefulSet"
)


class Broker:
    """nats-server on loopback."""

    def __init__(self, folder: Path) -> None:
        self.port, self._monitor = free_ports(2)
        self.address = f"nats://127.0.0.1:{self.port}"
        self._command = [*command(folder, self.port), "--http_port", str(self._monitor)]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        waiting.until(self._made, "the broker answers", timeout=60)

    def _made(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def alive(self) -> bool:
        """Whether the broker passes the liveness probe of its pod."""
        probe = httpx.get(f"http://127.0.0.1:{self._monitor}{LIVENESS}", timeout=60, trust_env=False)
        return probe.is_success

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    made = Broker(tmp_path / "broker")
    yield made
    made.kill()


class SmallDisk(Broker):
    """nats-server on a disk of 32 MiB: a tmpfs in a mount namespace of its own, which `holder` keeps."""

    def __init__(self, folder: Path, holder: int) -> None:
        self._inside = ["nsenter", f"--target={holder}", "--user", "--mount", "--preserve-credentials"]
        self._disk = folder / "store"
        self._do("mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(self._disk))
        super().__init__(folder)

    def start(self) -> None:
        if self._command[0] != "nsenter":
            self._command = [*self._inside, *self._command]
        super().start()

    def fill(self) -> None:
        """Somebody else takes all the room that is left."""
        self._do("sh", "-c", f"! dd if=/dev/zero of='{self._disk}/other' bs=4k 2>/dev/null")

    def room(self) -> None:
        """Somebody else goes."""
        self._do("rm", f"{self._disk}/other")

    def _do(self, *words: str) -> None:
        subprocess.run([*self._inside, *words], check=True)


@contextlib.contextmanager
def on_a_small_disk(folder: Path) -> Iterator[SmallDisk]:
    (folder / "store").mkdir(parents=True)
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", "echo here; cat"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as holder:
        assert holder.stdin and holder.stdout and holder.stderr
        if holder.stdout.readline() != b"here\n":
            pytest.skip(f"a small disk needs namespaces: {holder.stderr.read().decode().strip()}")
        made = SmallDisk(folder, holder.pid)
        try:
            yield made
        finally:
            made.kill()
            holder.stdin.close()


class TestNatsBus(BusContract):
    """Streams, objects and pointers of a broker."""

    @pytest.fixture
    def address(self, broker: Broker) -> str:
        return broker.address

    async def test_followers_and_watchers_outlive_the_broker_and_nothing_acknowledged_is_lost(
        self, bus: Bus, broker: Broker
    ) -> None:
        follower, watcher = bus.follow(EVENTS), bus.watch("key")
        await bus.publish(EVENTS, b"before", id="before")
        await bus.point("key", "before", None)
        assert [one.data for one in await anext(follower)] == [b"before"]
        assert await anext(watcher) == "before"
        await asyncio.to_thread(broker.kill)
        with pytest.raises(BrokerError):
            await bus.publish(EVENTS, b"while it is away")
        await asyncio.to_thread(broker.start)

        async def back() -> bool:
            return not (await bus.publish(EVENTS, b"after", id="after")).duplicate or True

        await waiting.until_async(back, "publishing works again", timeout=60, ignore=(BrokerError,))
        assert [one.data for one in await first(follower, 1)] == [b"after"]
        assert (await bus.publish(EVENTS, b"again", id="before")).duplicate, "ids are remembered across a crash"
        assert await bus.point("key", "after", "before")
        async with asyncio.timeout(60):
            assert await anext(watcher) == "after"
        await watcher.aclose()  # type: ignore[attr-defined]

    async def test_a_full_stream_refuses_and_keeps_what_it_has(self, broker: Broker) -> None:
        async with opened(connect(broker.address, stream_bytes=10_000)) as bus:
            kept = 0
            with pytest.raises(StorageFull):
                for _ in range(100):
                    await bus.publish(EVENTS, b"x" * 500)
                    kept += 1
            assert 0 < kept < 100
            assert len(await first(bus.follow(EVENTS), kept)) == kept

    async def test_more_room_for_streams_that_are_there_is_taken_at_the_next_start(self, broker: Broker) -> None:
        async with opened(connect(broker.address, stream_bytes=10_000)) as bus:
            with pytest.raises(StorageFull):
                for _ in range(100):
                    await bus.publish(EVENTS, b"x" * 500)
        async with opened(connect(broker.address, stream_bytes=1_000_000)) as bus:
            for _ in range(100):
                await bus.publish(EVENTS, b"x" * 500)
            await bus.put("large", b"x" * 2_000_000)

    async def test_limits_that_the_broker_cannot_give_are_told_and_what_was_there_goes_on(
        self, broker: Broker, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with opened(connect(broker.address, stream_bytes=10_000)) as bus:
            await bus.publish(EVENTS, b"before", id="1")
        with caplog.at_level(logging.WARNING, "movies"):
            async with opened(connect(broker.address, stream_bytes=2**60)) as bus:
                assert (await bus.publish(EVENTS, b"after", id="1")).duplicate
        told = [one for one in caplog.records if "keeps the limits" in one.message]
        assert told and told[0].stream == "events" and told[0].bytes == 10_000  # type: ignore[attr-defined]

    async def test_a_full_disk_refuses_and_what_was_acknowledged_is_there_afterwards(self, tmp_path: Path) -> None:
        small_bytes = 1_000_000  # seven times as much has to fit on the disk, else the broker does not promise it
        with on_a_small_disk(tmp_path / "small") as small:
            acknowledged = 0
            async with opened(connect(small.address, stream_bytes=small_bytes)) as bus:
                for number in range(20):
                    await bus.publish(EVENTS, b"%08d" % number)
                    acknowledged += 1
                assert await asyncio.to_thread(small.alive)
                small.fill()
                with pytest.raises(BrokerError) as refused:
                    for number in range(20, 120):
                        await bus.publish(EVENTS, b"%08d" % number * 1_000)
                        acknowledged += 1
            assert acknowledged < 120 and "disk" in str(refused.value)
            # Only a new start makes it take anything again, so its pod has to be restarted.
            assert not await asyncio.to_thread(small.alive)
            await asyncio.to_thread(small.kill)
            small.room()
            await asyncio.to_thread(small.start)
            assert await asyncio.to_thread(small.alive)
            async with opened(connect(small.address, stream_bytes=small_bytes)) as bus:
                kept = await first(bus.follow(EVENTS), acknowledged)
                assert [int(one.data[:8]) for one in kept][:acknowledged] == list(range(acknowledged))
                assert not (await bus.publish(EVENTS, b"after")).duplicate

    async def test_without_a_broker_opening_says_so(self) -> None:
        (port,) = free_ports(1)
        with pytest.raises(BrokerError, match="cannot be reached"):
            await connect(f"nats://127.0.0.1:{port}").open()


@contextlib.asynccontextmanager
async def opened(bus: Bus) -> AsyncIterator[Bus]:
    await bus.open()
    try:
        yield bus
    finally:
        await bus.close()
