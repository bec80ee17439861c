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

    texts = 5
    lags = False

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
        """Time passes, in which the spool makes its rounds."""
        for _ in range(int(seconds)):
            self.stall(1)

    def stall(self, seconds: float) -> None:
        """Time passes in which nothing runs."""
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


def test_time_in_which_nothing_runs_is_no_time_to_write(bench: Bench) -> None:
    """A machine without time for anybody: spool and store go on where they were, and then the store is killed."""
    bench.take("/", b"not written yet")
    bench.sender.step()
    bench.stall(10 * HOLD)
    bench.later(spool.LONGEST)
    bench.store.kill()
    bench.later(1)
    bench.store.write()
    assert bench.store.disk == [b"not written yet"]


def test_a_store_that_takes_blocks_runs_however_long_a_round_takes(bench: Bench, monkeypatch) -> None:
    """Else a busy one would fill the spool with what it has written long ago."""
    bench.take("/", b"first")
    bench.sender.step()
    send = bench.store.send

    def slowly(path: str, body: bytes) -> bool:
        bench.now += spool.LONGEST
        return send(path, body)

    monkeypatch.setattr(bench.store, "send", slowly)
    for number in range(int(HOLD / spool.LONGEST)):
        bench.take("/", b"%d" % number)
    bench.sender.step()
    bench.later(1)
    assert bench.blocks.names()[0] == f"{2:016d}"


def test_what_a_slow_store_has_is_forgotten_before_it_has_all(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a full spool would refuse lines until it has taken the last block."""
    send = bench.store.send

    def slowly(path: str, body: bytes) -> bool:
        bench.now += spool.LONGEST + 1
        return send(path, body)

    monkeypatch.setattr(bench.store, "send", slowly)
    for number in range(100):
        bench.take("/", b"%d" % number)
    bench.later(3)
    assert bench.blocks.names()[0] != f"{1:016d}"
    assert len(bench.sender.waiting()) > 50
    bench.later(200)
    assert bench.store.memory == [b"%d" % number for number in range(100)]


def test_nothing_is_forgotten_while_the_store_lags_with_its_writing(bench: Bench) -> None:
    """On a machine without time for it, it has what it took minutes ago in memory, and answers."""
    bench.take("/", b"one")
    bench.store.lags = True
    bench.later(10 * HOLD)
    assert len(bench.blocks.names()) == 1
    bench.store.kill()
    bench.later(1)
    assert bench.store.memory == [b"one"]
    bench.store.lags = False
    bench.later(HOLD)
    assert not bench.blocks.names()


def test_victoria_logs_lags_when_it_has_more_in_memory_than_it_took_lately() -> None:
    told = {"now": 0, "life": 1, "took": 0, "memory": 0}

    def ask(_method: str, _path: str) -> tuple[int, bytes]:
        lines = f"""vm_app_start_timestamp {told["life"]}
vl_rows_ingested_total{{type="jsonline"}} {told["took"]}
vl_rows_ingested_total{{type="elasticsearch"}} 0
vl_storage_rows{{type="storage/inmemory"}} {told["memory"]}
vl_storage_rows{{type="storage/small"}} 99999
"""
        return 200, lines.encode()

    store = spool.VictoriaLogs(ask, clock=lambda: told["now"])  # type: ignore[arg-type]
    seen = []
    # One that writes within some seconds, one that writes nothing, then all; and what a new process has does not count.
    for now, took, memory, life in (
        *((second, 100 * second, 700, 1) for second in range(1, 20)),
        *((second, 100 * second, 100 * (second - 10), 1) for second in range(20, 40)),
        (40, 4000, 0, 1),
        (41, 50, 50, 2),
        (60, 50, 0, 2),
    ):
        told.update(now=now, took=took, memory=memory, life=life)
        store.process()
        seen.append(store.lags)
    assert seen[7:19] == [False] * 12 and seen[19:21] == [False, True] and seen[21:39] == [True] * 18
    assert seen[39:] == [False, True, False]


def test_a_store_that_says_nothing_of_its_rows_does_not_lag() -> None:
    store = spool.VictoriaLogs(lambda *_: (200, b"vm_app_start_timestamp 7\n"))  # type: ignore[arg-type]
    assert store.process() == "7" and not store.lags


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
    counts = spool.metrics(bench.blocks, bench.sender)
    assert "spool_refused_blocks_total 3\n" in counts and "spool_lines_as_text_total 5\n" in counts
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


def looks(watch: Checkpoints, times: int = spool.ROUNDS + 1) -> None:
    """So many rounds of a spool."""
    for _ in range(times):
        watch.look()


def test_the_next_shipper_begins_at_the_last_checkpoint_but_one(tmp_path: Path) -> None:
    shipper = Shipper(tmp_path)
    watch = Checkpoints(shipper.current, shipper.safe, shipper.life)
    looks(watch)
    assert shipper.begin() == "the beginning"
    for content, place in (("10", "the beginning"), ("20", "10"), ("30", "20")):
        shipper.write(content)
        looks(watch)  # looked at more often than it is written
        assert (shipper.safe.read_text() if shipper.safe.exists() else "the beginning") == place


def test_what_the_one_before_wrote_last_is_never_the_beginning(tmp_path: Path) -> None:
    """It had handed on less than it had read, and its successor has not read so far yet."""
    shipper = Shipper(tmp_path)
    watch = Checkpoints(shipper.current, shipper.safe, shipper.life)
    shipper.begin()
    for content in ("10", "20", "99"):
        shipper.write(content)
        looks(watch)
    assert shipper.begin() == "20"
    shipper.write("25")
    looks(watch)
    assert shipper.begin() == "20"


def test_a_checkpoint_is_not_safe_if_blocks_were_refused_since(tmp_path: Path) -> None:
    shipper = Shipper(tmp_path)
    watch = Checkpoints(shipper.current, shipper.safe, shipper.life)
    shipper.begin()
    shipper.write("10")
    looks(watch)
    watch.look(refused=True)
    looks(watch)
    shipper.write("20")
    looks(watch)
    assert not shipper.safe.exists()
    shipper.write("30")
    looks(watch)
    assert shipper.safe.read_text() == "20"


def test_what_is_noted_when_a_spool_begins_may_be_too_new(tmp_path: Path) -> None:
    """The spool was away while the shipper went on reading: what that noted, none was handed."""
    shipper = Shipper(tmp_path)
    shipper.begin()
    shipper.write("10")
    watch = Checkpoints(shipper.current, shipper.safe, shipper.life)
    looks(watch)
    shipper.write("20")
    looks(watch)
    assert not shipper.safe.exists()
    shipper.write("30")
    looks(watch)
    assert shipper.safe.read_text() == "20"


def test_a_full_disk_leaves_the_older_checkpoint(tmp_path: Path) -> None:
    shipper = Shipper(tmp_path)
    watch = Checkpoints(shipper.current, shipper.safe, shipper.life)
    looks(watch)
    shipper.begin()
    for content in ("10", "20"):
        shipper.write(content)
        looks(watch)
    (tmp_path / "safe.half").mkdir()  # nothing can be written there
    shipper.write("30")
    looks(watch)
    assert shipper.safe.read_text() == "10"
    (tmp_path / "safe.half").rmdir()
    shipper.write("40")
    looks(watch)
    assert shipper.safe.read_text() == "30"


def test_two_checkpoints_with_nothing_handed_on_between_them_make_none_safe(tmp_path: Path) -> None:
    """A machine without time for anybody for a minute: the second is written before what the first covers has come."""
    shipper = Shipper(tmp_path)
    watch = Checkpoints(shipper.current, shipper.safe, shipper.life)
    watch.look()
    shipper.begin()
    shipper.write("10")
    watch.look()
    shipper.write("20")
    looks(watch, spool.ROUNDS)
    assert shipper.begin() == "the beginning"  # it was killed at once


def test_checkpoints_become_safe_however_long_a_round_takes(tmp_path: Path) -> None:
    """Of a store that does not answer: a shipper writes more often than the spool makes its rounds."""
    shipper = Shipper(tmp_path)
    watch = Checkpoints(shipper.current, shipper.safe, shipper.life)
    watch.look()
    shipper.begin()
    for minute in range(3 * spool.ROUNDS):
        shipper.write(f"{minute}")
        watch.look()
    assert int(shipper.begin()) >= spool.ROUNDS


def test_a_refusal_after_the_next_checkpoint_is_one_of_lines_of_the_one_before(tmp_path: Path) -> None:
    shipper = Shipper(tmp_path)
    watch = Checkpoints(shipper.current, shipper.safe, shipper.life)
    watch.look()
    shipper.begin()
    for content in ("10", "20"):
        shipper.write(content)
        watch.look()
    watch.look(refused=True)
    looks(watch)
    assert not shipper.safe.exists()


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
