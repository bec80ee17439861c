"""A spool between a node's shipper and the log store: keeps lines on the node's disk until they are on the store's.

A pod's program, beside vlagent. POST takes a block of lines, writes it to FOLDER, syncs, and only then says so. Blocks
go on to STORE, oldest first. VictoriaLogs says "taken" when it has them in memory, and writes them some seconds later,
on a machine without time for it some minutes: a block is forgotten when that process has run for HOLD seconds since and
does not lag with its writing, and all before it are forgotten. Another process may not have it, and is sent it again.
So a line comes at least once whoever is killed, and some come twice. OpenSearch says "taken" when it has lines on its
disk: HOLD is 0 then.

Lines that belong together go on as one where a pod asks for it (multiline.py). A block with lines of an event that may
go on is kept until that has gone on, and as long as the other blocks of the event.

Without room for more (MOST bytes, or a full disk) blocks are refused, and the shipper keeps them. GET /metrics counts.

What vlagent keeps for ever, since it waits for the rest of a line whose container has ended, is taken from the node's
LOGS (last_words.py), as if it had come in a block of the path LINES.

It also picks the place where the next shipper begins. vlagent notes how far it has read, not what it has handed on, so
its newest note is too new for a successor: what it had in memory would be missing. The note before that is a minute
older, and all that it covers is here when the spool has made some rounds since the newest. vlagent's command copies it
back before each start.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import ipaddress
import os
import re
import signal
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Protocol

try:
    from podlab.addons.programs import in_cluster, last_words, multiline
    from podlab.addons.programs.opensearch_store import OpenSearch
    from podlab.addons.programs.packing import packed, unpacked
except ImportError:  # in a pod the programs lie side by side
    import in_cluster  # type: ignore[no-redef]
    import last_words  # type: ignore[no-redef]
    import multiline  # type: ignore[no-redef]
    from opensearch_store import OpenSearch  # type: ignore[no-redef]
    from packing import packed, unpacked  # type: ignore[no-redef]

PORT = 9430
#: Seconds after which a store that does not answer counts as away, and between two tries.
TIMEOUT, PERIOD = 60.0, 1.0
#: As many seconds at most between two of its answers count as time in which the store ran.
LONGEST = 5.0
#: Seconds after which a round begins with no other block: a slow store must not keep it from all else.
LONG_ROUND = 30.0
#: Rounds after a shipper's newest note until what the note before it covers has surely been handed on.
ROUNDS = 10
#: Seconds in which the store writes what it takes, if it has the time: -inmemoryDataFlushInterval, and what that takes.
WRITTEN = 10.0
#: Seconds that are left for what waits when the pod ends.
FAREWELL = 3.0


class Store(Protocol):
    """Where blocks go. Both methods raise OSError if it is away or can take nothing now."""

    #: Lines so far whose fields it does not take, so that they were sent as texts.
    texts: int
    #: Whether, when it was last asked, it had more in memory than one that writes in time has.
    lags: bool

    def process(self) -> str:
        """A word that another process of the store would not say."""

    def send(self, path: str, body: bytes) -> bool:
        """Hand a block on; False if the store will never take it."""


class Blocks:
    """Blocks in a folder, each a file: the request's path, a line break, the body. Their names sort by age."""

    def __init__(self, folder: Path, most: int) -> None:
        self._folder, self._most = folder, most
        self._lock = threading.RLock()
        folder.mkdir(parents=True, exist_ok=True)
        for half in folder.glob("*.half"):  # of a death while it was written: nobody was told that it is here
            half.unlink()
        self._sizes = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
        self._next = int(max(self._sizes, default="0")) + 1

    def take(self, path: str, body: bytes) -> None:
        """Return when the block is on the disk; OSError if it is not to be had there."""
        with self._lock:
            if self._sizes and self.size() + len(body) > self._most:
                raise OSError(f"the spool is full: {self.size()} bytes wait for the store")
            name = f"{self._next:016d}"
            whole, half = self._folder / name, self._folder / f"{name}.half"
            try:
                with half.open("wb") as file:
                    file.write(path.encode() + b"\n" + body)
                    file.flush()
                    os.fsync(file.fileno())
                half.rename(whole)
                self._sync()
            except OSError:
                half.unlink(missing_ok=True)
                raise
            self._next += 1
            self._sizes[name] = len(body)

    def names(self) -> list[str]:
        """The blocks that are here, oldest first."""
        with self._lock:
            return list(self._sizes)

    def size(self) -> int:
        """Bytes of all blocks."""
        with self._lock:
            return sum(self._sizes.values())

    def read(self, name: str) -> tuple[str, bytes]:
        """Path and body of a block."""
        path, _, body = (self._folder / name).read_bytes().partition(b"\n")
        return path.decode(), body

    def forget(self, name: str) -> None:
        """The store has it."""
        with self._lock:
            (self._folder / name).unlink(missing_ok=True)
            self._sizes.pop(name, None)

    def _sync(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class Sender:
    """Hands blocks on, and again to a store that is not the one that took them."""

    def __init__(self, blocks: Blocks, store: Store, hold: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._blocks, self._store, self._hold, self._clock = blocks, store, hold, clock
        #: Seconds in which the store ran, as far as was seen, and when it answered last. On a machine without time for
        #: anybody the clock goes on, and the store has written nothing.
        self._ran, self._answered = 0.0, clock()
        #: Block -> how long the store had run when the last of its lines were taken, and which process took them.
        self._taken: dict[str, tuple[float, str]] = {}
        self._open = multiline.NOTHING
        self.sent = self.again = self.refused = 0

    @property
    def texts(self) -> int:
        """Lines that were sent as texts."""
        return self._store.texts

    def waiting(self) -> list[str]:
        """The blocks that no living process of the store has taken, as far as is known."""
        return [name for name in self._blocks.names() if name not in self._taken]

    def step(self, wait: float = multiline.WAIT) -> None:
        """Forget what is safe, send what waits; events that may go on, after `wait` seconds.

        OSError if the store is away: all that it has not taken stays as it is.
        """
        # Asked before anything is sent: a block may have gone to a later process than this, never to an earlier one.
        process = self._store.process()
        self._note_answer()
        if others := [name for name, (_, by) in self._taken.items() if by != process]:
            self._open = multiline.NOTHING  # its blocks are read again
            self.again += len(others)
            for name in others:
                del self._taken[name]
        # Oldest first and none left out: an event that is read again must not go on with lines behind a gap.
        still_open = self._open.blocks
        for name in () if self._store.lags else self._blocks.names():
            if name not in self._taken or name in still_open or self._ran - self._taken[name][0] < self._hold:
                break
            self._blocks.forget(name)
            del self._taken[name]
        began = self._clock()
        for name in self.waiting():
            if self._clock() - began > LONG_ROUND:
                return
            self._send(name, process)
            self._send_due(multiline.AGE, process)
        # What is to go on may be in a block that came meanwhile.
        if not self.waiting():
            self._send_due(wait, process)

    def _send(self, name: str, process: str) -> None:
        path, body = self._blocks.read(name)
        try:
            lines = unpacked(body)
        except ValueError as error:
            self._refuse([name], str(error))
            self._take([name], process)
            return
        try:
            gone, earlier, still = self._open.take(name, path, lines, self._clock())
        except Exception as error:  # whatever it is that came: it goes on as it is
            print(f"no line of block {name} is put together: {error!r}", file=sys.stderr, flush=True)
            gone, earlier, still = lines, frozenset(), self._open
        if gone is not lines:
            body = packed(gone) if gone else b""
        self._hand_on(path, body, {name} | earlier, process)
        self._open = still

    def _send_due(self, wait: float, process: str) -> None:
        """Hand on events of which no more is waited for, those of a path together."""
        due = self._open.due(self._clock(), wait)
        for path in sorted({event.path for event in due}):
            events = [event for event in due if event.path == path]
            body = packed(b"\n".join(event.text() for event in events))
            self._hand_on(path, body, frozenset().union(*(event.blocks for event in events)), process)
            self._open = self._open.without(events)

    def _hand_on(self, path: str, body: bytes, blocks: Iterable[str], process: str) -> None:
        """Send what is from these blocks, if it is anything."""
        if body:
            if self._store.send(path, body):
                self.sent += 1
            else:
                self._refuse(blocks, "the store will never take it")
            self._note_answer()
        self._take(blocks, process)

    def _note_answer(self) -> None:
        now = self._clock()
        self._ran += min(now - self._answered, LONGEST)
        self._answered = now

    def _take(self, blocks: Iterable[str], process: str) -> None:
        self._taken |= dict.fromkeys(blocks, (self._ran, process))

    def _refuse(self, blocks: Iterable[str], why: str) -> None:
        """Nobody will ever take it: it is forgotten as if it had been taken."""
        self.refused += 1
        print(f"block {', '.join(sorted(blocks))} is left out: {why}", file=sys.stderr, flush=True)


class Door:
    """Requests to one store, on one connection as long as it holds. OSError if the store is away."""

    def __init__(self, base: str) -> None:
        self._host = urllib.parse.urlsplit(base).netloc
        self._connection: http.client.HTTPConnection | None = None

    def __call__(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status and body of the answer."""
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection(self._host, timeout=TIMEOUT)
            self._connection.request(method, path, body, dict(headers or {}))
            answer = self._connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            raise OSError(f"{self._host}: {error or type(error).__name__}") from error


class VictoriaLogs:
    """The store of the add-on `logging`, which takes vlagent's blocks as they are."""

    texts = 0

    def __init__(self, ask: Door, clock: Callable[[], float] = time.monotonic) -> None:
        self._ask, self._clock = ask, clock
        self.lags = False
        #: Which process it was, and how many rows it had taken at which moments: those of the last WRITTEN seconds, and
        #: one before.
        self._life, self._took = "", list[tuple[float, float]]()

    def process(self) -> str:
        """The moment at which it was started."""
        status, body = self._ask("GET", "/metrics")
        found = re.search(rb"^vm_app_start_timestamp (\S+)", body, re.MULTILINE)
        if status != 200 or found is None:
            raise OSError(f"the store answers {status}, and does not say since when it runs")
        self._note(found[1].decode(), body)
        return self._life

    def _note(self, life: str, body: bytes) -> None:
        """Whether it has more rows in memory than it has taken lately. One that says nothing of them does not lag."""
        now, took = self._clock(), _sum(rb"vl_rows_ingested_total", body)
        if life != self._life:
            self._life, self._took = life, []
        self._took.append((now, took))
        while len(self._took) > 1 and self._took[1][0] <= now - WRITTEN:
            del self._took[0]
        self.lags = _sum(rb'vl_storage_rows{type="storage/inmemory"}', body) > took - self._took[0][1]

    def send(self, path: str, body: bytes) -> bool:
        """Hand a block on; False if it is no block that this store can read."""
        headers = {"Content-Encoding": "zstd", "Content-Type": "application/octet-stream"}
        status, said = self._ask("POST", path, body, headers)
        if status in (400, 404):
            print(f"the store answers {status}: {said[:300].decode(errors='replace')}", file=sys.stderr, flush=True)
            return False
        if status // 100 != 2:
            raise OSError(f"the store answers {status}")
        return True


def _sum(name: bytes, metrics: bytes) -> float:
    """The values of a metric, or of all that begin with its name and have labels, together."""
    found = re.findall(rb"^" + re.escape(name) + rb"(?:\{.*\})? (\S+)$", metrics, re.MULTILINE)
    return sum(map(float, found))


class Checkpoints:
    """vlagent's file of how far it has read: what it was one writing ago becomes the file `safe`, ROUNDS looks later.

    `life` is a file that each vlagent writes anew before it starts; what an earlier one wrote counts for nothing.
    """

    def __init__(self, current: Path, safe: Path, life: Path) -> None:
        self._current, self._safe, self._life = current, safe, life
        self._seen: tuple[bytes, object, bytes] | None = None
        #: What is to be made safe when the writing after it was looked at so often, and how often it was.
        self._next: bytes | None = None
        self._looks = 0
        self._refused = self._begun = False

    def look(self, *, refused: bool = False) -> None:
        """Note a new writing. `refused`: not all that was handed on is here, so that the last one is not safe yet."""
        self._refused |= refused
        # What is there when a spool begins may cover lines that none was handed: it is never made safe.
        begins, self._begun = not self._begun, True
        try:
            found = self._read()
            if self._read() != found:
                return
        except OSError:
            return
        # Where all stood still for a minute, two writings follow each other, and nothing was handed on between them.
        self._looks += 1
        if self._refused or (self._seen is not None and self._seen[0] != found[0]):
            self._next = None
        if self._next is not None and self._looks >= ROUNDS:
            self._save(self._next)
            self._next = None
        if found == self._seen:
            return
        # One that waits is not replaced: rounds that take long would let none ever become safe.
        if self._next is None and self._seen is not None and self._seen[0] == found[0] and not self._refused:
            self._next, self._looks = self._seen[2], 0
        self._seen, self._refused = found, begins

    def _save(self, note: bytes) -> None:
        whole = self._safe.with_suffix(".half")
        with contextlib.suppress(OSError):  # a full disk: the note that is there is older, and as safe
            whole.write_bytes(note)
            whole.rename(self._safe)

    def _read(self) -> tuple[bytes, object, bytes]:
        """Whose writing it is, which one, and what it says."""
        status = self._current.stat()
        return self._life.read_bytes(), (status.st_ino, status.st_mtime_ns), self._current.read_bytes()


def metrics(blocks: Blocks, sender: Sender) -> str:
    """The counts, as Prometheus reads them."""
    values = {
        "spool_blocks gauge": len(blocks.names()),
        "spool_waiting_blocks gauge": len(sender.waiting()),
        "spool_bytes gauge": blocks.size(),
        "spool_sent_blocks_total counter": sender.sent,
        "spool_sent_again_blocks_total counter": sender.again,
        "spool_refused_blocks_total counter": sender.refused,
        "spool_lines_as_text_total counter": sender.texts,
    }
    return "".join(f"# TYPE {name}\n{name.split()[0]} {value}\n" for name, value in values.items())


class Spool:
    """Blocks, who sends them, and the checkpoints of the shipper beside it."""

    def __init__(self, blocks: Blocks, sender: Sender, checkpoints: Checkpoints) -> None:
        self.blocks, self.sender, self._checkpoints = blocks, sender, checkpoints
        self._came = threading.Event()
        #: Counted, not only noted: one may come while the last are looked at.
        self._refused = self._seen = 0
        self._told = ""

    def take(self, path: str, body: bytes, length: int) -> str:
        """Take a block of `length` bytes; returns why it cannot be, or nothing."""
        try:
            if len(body) < length:
                raise OSError(f"of {length} bytes only {len(body)} came")
            self.blocks.take(path, body)
        except OSError as error:
            self._refused += 1
            return str(error)
        self._came.set()
        return ""

    def round(self, wait: float = multiline.WAIT) -> None:
        """Wait for a block, not long; note the shipper's checkpoints; send. A store that is away is said once."""
        self._came.wait(PERIOD)
        self._came.clear()
        refused = self._refused
        self._checkpoints.look(refused=refused != self._seen)
        self._seen = refused
        said = ""
        try:
            if self.blocks.names():
                self.sender.step(wait)
        except OSError as error:
            said = str(error)
            threading.Event().wait(PERIOD)
        if said != self._told:
            print(said or "the store is back", file=sys.stderr, flush=True)
            self._told = said


def serve(spool: Spool, address: tuple[str, int]) -> ThreadingHTTPServer:
    """The server to which vlagent posts; the caller has it serve."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._say(200, metrics(spool.blocks, spool.sender) if self.path == "/metrics" else "ok\n")

        def do_POST(self) -> None:
            # The port is open to all for its counts; lines are the shipper's to bring, which is in the same pod.
            if not ipaddress.ip_address(self.client_address[0]).is_loopback:
                self.close_connection = True
                self._say(403, "only from this pod\n")
                return
            length = int(self.headers.get("Content-Length") or 0)
            why = spool.take(self.path, self.rfile.read(length), length)
            self._say(503 if why else 200, why)

        def _say(self, code: int, text: str) -> None:
            body = text.encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return ThreadingHTTPServer(address, Handler)


def words_of(logs: Path, home: Path, spool: Spool, path: str) -> last_words.LastWords:
    """The last words in a node's logs, but those of this pod's namespace, which are not shipped either."""
    own = (in_cluster.ACCOUNT / "namespace").read_text().strip()

    def take(path: str, body: bytes) -> str:
        return spool.take(path, body, len(body))

    note, get = home / "last_words.json", in_cluster.ApiServer().get
    return last_words.LastWords(logs, note, get, take, path, excluded=frozenset({own}))


def main() -> None:
    """Take, keep and send until the pod ends."""
    home = Path(os.environ["FOLDER"])
    blocks = Blocks(home / "blocks", int(os.environ["MOST"]))
    door = Door(os.environ["STORE"])
    store = OpenSearch(door) if os.environ.get("KIND") == "opensearch" else VictoriaLogs(door)
    sender = Sender(blocks, store, float(os.environ["HOLD"]))
    spool = Spool(blocks, sender, Checkpoints(*(home / f"checkpoints.{name}" for name in ("json", "safe", "life"))))
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    threading.Thread(target=serve(spool, ("", PORT)).serve_forever, daemon=True).start()
    if logs := os.environ.get("LOGS"):
        made = functools.partial(words_of, Path(logs), home, spool, os.environ.get("LINES", "/"))
        threading.Thread(target=last_words.follow, args=(made, ended), daemon=True).start()
    while not ended.is_set():
        spool.round()
    # The shipper ends at the same time, and hands on what it has. No more lines come: what is open is whole.
    over = time.monotonic() + FAREWELL
    while time.monotonic() < over:
        spool.round(wait=0)


if __name__ == "__main__":
    main()
