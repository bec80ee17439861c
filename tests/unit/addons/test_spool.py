"""The spool between shipper and store, against a store that forgets what it has not written yet when it is killed."""

from __future__ import annotations

import http.client
import ipaddress
import os
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from podlab.addons.programs import spool
from podlab.addons.programs.packing import packed, unpacked
from podlab.addons.programs.spool import Blocks, Checkpoints, Sender, Spool

HOLD = 30.0


class Store:
    """Takes blocks into memory. `write` puts them on its disk, `kill` loses the others and starts it anew."""

    def __init__(self) -> None:
        self.life, self.away, self.memory, self.disk = 1, False, list[bytes](), list[bytes]()

    def process(self) -> str:
        if self.away:
            raise OSError("away")
        return str(self.life)

    def send(self, path: str, body: bytes) -> bool:
        self.process()
        lines = unpacked(body)
        if lines == b"refused":
            return False
        self.memory.append(lines)
        return True

    def write(self) -> None:
        self.disk, self.memory = self.disk + self.memory, []

    def kill(self) -> None:
        self.memory, self.life = [], self.life + 1


class Bench:
    """A spool's parts, a store, and a clock that is moved by hand."""

    def __init__(self, folder: Path, most: int = 1 << 20) -> None:
        self.folder, self.most, self.store, self.now = folder, most, Store(), 0.0
        self.begin()

    def begin(self) -> None:
        """A new process on what the last one has left."""
        self.blocks = Blocks(self.folder, self.most)
        self.sender = Sender(self.blocks, self.store, HOLD, clock=lambda: self.now)

    def take(self, path: str, lines: bytes) -> None:
        self.blocks.take(path, packed(lines))

    def later(self, seconds: float) -> None:
        self.now += seconds
        self.sender.step()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_blocks_go_on_in_order_and_are_forgotten_when_the_store_has_had_time_to_write(bench: Bench) -> None:
    for body in (b"one", b"two\nlines", b""):
        bench.take("/insert?version=v1", body)
    bench.sender.step()
    assert bench.store.memory == [b"one", b"two\nlines", b""] and len(bench.blocks.names()) == 3
    bench.later(HOLD - 1)
    assert len(bench.blocks.names()) == 3
    bench.later(1)
    assert not bench.blocks.names() and not list(bench.folder.iterdir()) and len(bench.store.memory) == 3


def test_a_store_that_is_killed_is_sent_again_what_it_may_have_lost_and_nothing_else(bench: Bench) -> None:
    bench.take("/", b"old")
    bench.sender.step()
    bench.store.write()
    bench.later(HOLD)
    bench.take("/", b"written")
    bench.sender.step()
    bench.store.write()
    bench.take("/", b"lost")
    bench.sender.step()
    bench.store.kill()
    bench.later(1)
    bench.store.write()
    assert bench.store.disk == [b"old", b"written", b"written", b"lost"]
    assert bench.sender.again == 2


def test_the_time_to_write_begins_anew_with_the_process_that_was_sent_it_again(bench: Bench) -> None:
    bench.take("/", b"lost twice")
    bench.sender.step()
    bench.now += HOLD - 1
    bench.store.kill()
    bench.sender.step()
    bench.later(2)
    bench.store.kill()
    bench.later(1)
    bench.store.write()
    assert bench.store.disk == [b"lost twice"]


def test_a_store_that_is_killed_just_before_a_block_is_forgotten_is_noticed(bench: Bench) -> None:
    bench.take("/", b"late")
    bench.sender.step()
    bench.store.kill()
    bench.later(10 * HOLD)
    bench.store.write()
    assert bench.store.disk == [b"late"]


def test_while_the_store_is_away_everything_stays(bench: Bench) -> None:
    bench.store.away = True
    for number in range(5):
        bench.take("/", b"%d" % number)
        with pytest.raises(OSError, match="away"):
            bench.later(HOLD)
    bench.store.away = False
    bench.sender.step()
    assert bench.store.memory == [b"0", b"1", b"2", b"3", b"4"]


def test_a_spool_that_is_killed_sends_again_what_it_still_has(bench: Bench) -> None:
    bench.take("/a", b"one")
    bench.sender.step()
    (bench.folder / "0000000000000002.half").write_bytes(b"/a\ntw")
    bench.begin()
    bench.take("/a", b"two")
    bench.sender.step()
    assert bench.store.memory == [b"one", b"one", b"two"]
    assert not list(bench.folder.glob("*.half"))


def test_what_the_store_refuses_for_good_is_left_out_and_counted_and_the_next_goes_on(bench: Bench, capfd) -> None:
    whole = packed(b"lines of many words " * 100)
    for body in (packed(b"refused"), whole[:-5], b"no block", packed(b"good")):
        bench.blocks.take("/", body)
    bench.sender.step()
    assert bench.store.memory == [b"good"] and bench.sender.refused == 3
    assert capfd.readouterr().err.count("is left out: ") == 3
    assert "spool_refused_blocks_total 3\n" in spool.metrics(bench.blocks, bench.sender)
    bench.later(HOLD)
    assert not bench.blocks.names()


def test_a_full_spool_takes_no_more_until_the_store_has_taken_some(tmp_path: Path) -> None:
    noise = random.Random(0).randbytes  # as large packed as it is
    bench = Bench(tmp_path, most=100)
    bench.take("/", noise(60))
    size = bench.blocks.size()
    with pytest.raises(OSError, match=f"full: {size} bytes wait"):
        bench.take("/", noise(60))
    bench.sender.step()
    bench.later(HOLD)
    bench.take("/", noise(150))  # larger than all: taken when nothing else is here
    bench.sender.step()
    assert [len(body) for body in bench.store.memory] == [60, 150]


def test_a_disk_that_is_full_loses_nothing_that_was_promised(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.take("/", b"before")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space"):
            bench.take("/", b"refused")
    bench.begin()
    bench.take("/", b"after")
    bench.sender.step()
    assert bench.store.memory == [b"before", b"after"]


class Shipper:
    """vlagent's files."""

    def __init__(self, folder: Path) -> None:
        self.current, self.safe, self.life = (folder / name for name in ("now", "safe", "life"))
        self.lives = 0

    def begin(self) -> str:
        """What its command does before it starts; returns where it begins."""
        self.current.unlink(missing_ok=True)
        self.lives += 1
        self.life.write_text(str(self.lives))
        if self.safe.exists():
            self.write(self.safe.read_text())
        return self.current.read_text() if self.current.exists() else "the beginning"

    def write(self, content: str) -> None:
        half = self.current.with_suffix(".half")
        half.write_text(content)
        half.rename(self.current)


def test_the_next_shipper_begins_at_the_last_checkpoint_but_one(tmp_path: Path) -> None:
    shipper = Shipper(tmp_path)
    watch = Checkpoints(shipper.current, shipper.safe, shipper.life)
    watch.look()
    assert shipper.begin() == "the beginning"
    for content, place in (("10", "the beginning"), ("20", "10"), ("30", "20")):
        shipper.write(content)
        for _ in range(3):  # looked at more often than it is written
            watch.look()
        assert (shipper.safe.read_text() if shipper.safe.exists() else "the beginning") == place


def test_what_the_one_before_wrote_last_is_never_the_beginning(tmp_path: Path) -> None:
    """It had handed on less than it had read, and its successor has not read so far yet."""
    shipper = Shipper(tmp_path)
    watch = Checkpoints(shipper.current, shipper.safe, shipper.life)
    shipper.begin()
    for content in ("10", "20", "99"):
        shipper.write(content)
        watch.look()
    assert shipper.begin() == "20"
    shipper.write("25")
    watch.look()
    assert shipper.begin() == "20"


def test_a_checkpoint_is_not_safe_if_blocks_were_refused_since(tmp_path: Path) -> None:
    shipper = Shipper(tmp_path)
    watch = Checkpoints(shipper.current, shipper.safe, shipper.life)
    shipper.begin()
    shipper.write("10")
    watch.look()
    watch.look(refused=True)
    watch.look()
    shipper.write("20")
    watch.look()
    assert not shipper.safe.exists()
    shipper.write("30")
    watch.look()
    assert shipper.safe.read_text() == "20"


def test_what_is_noted_when_a_spool_begins_may_be_too_new(tmp_path: Path) -> None:
    """The spool was away while the shipper went on reading: what that noted, none was handed."""
    shipper = Shipper(tmp_path)
    shipper.begin()
    shipper.write("10")
    watch = Checkpoints(shipper.current, shipper.safe, shipper.life)
    watch.look()
    shipper.write("20")
    watch.look()
    assert not shipper.safe.exists()
    shipper.write("30")
    watch.look()
    assert shipper.safe.read_text() == "20"


def test_a_full_disk_leaves_the_older_checkpoint(tmp_path: Path) -> None:
    shipper = Shipper(tmp_path)
    watch = Checkpoints(shipper.current, shipper.safe, shipper.life)
    watch.look()
    shipper.begin()
    for content in ("10", "20"):
        shipper.write(content)
        watch.look()
    (tmp_path / "safe.half").mkdir()  # nothing can be written there
    shipper.write("30")
    watch.look()
    assert shipper.safe.read_text() == "10"
    (tmp_path / "safe.half").rmdir()
    shipper.write("40")
    watch.look()
    assert shipper.safe.read_text() == "30"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Spool, http.client.HTTPConnection]]:
    bench = Bench(tmp_path / "blocks", most=100)
    there = Spool(bench.blocks, bench.sender, Checkpoints(*(tmp_path / name for name in "abc")))
    server = spool.serve(there, ("127.0.0.1", 0))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=60)
    yield there, connection
    connection.close()
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_shipper_is_told_taken_when_it_is_on_the_disk_and_503_when_it_cannot_be(served) -> None:
    there, connection = served

    def post(body: bytes) -> tuple[int, bytes]:
        connection.request("POST", "/insert/jsonline?some=fields", body)
        answer = connection.getresponse()
        return answer.status, answer.read()

    block = packed(random.Random(0).randbytes(60))
    assert post(block) == (200, b"")
    (name,) = there.blocks.names()
    assert there.blocks.read(name) == ("/insert/jsonline?some=fields", block)
    status, words = post(b"b" * 60)
    assert status == 503 and b"full" in words
    there.round()
    connection.request("GET", "/metrics")
    assert b"spool_sent_blocks_total 1\n" in connection.getresponse().read()


def test_lines_are_taken_from_the_shipper_beside_it_only(served, monkeypatch: pytest.MonkeyPatch) -> None:
    there, connection = served
    # Who else could ask here has another address, as other pods have.
    monkeypatch.setattr(spool.ipaddress, "ip_address", lambda _: ipaddress.IPv4Address("10.244.1.7"))
    connection.request("POST", "/insert/jsonline", packed(b"{}"))
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (403, b"only from this pod\n") and not there.blocks.names()


def test_a_block_of_a_shipper_that_dies_on_the_way_is_none(served) -> None:
    there, connection = served
    connection.putrequest("POST", "/insert/native")
    connection.putheader("Content-Length", "50")
    connection.endheaders(b"half")
    connection.sock.shutdown(socket.SHUT_WR)
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (503, b"of 50 bytes only 4 came")
    assert not there.blocks.names()
