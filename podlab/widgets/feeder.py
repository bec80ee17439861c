"""A daemon thread per watched kind that keeps a Record up to date: LIST, WATCH, back-off, and coalesced news.

Threads and not asyncio: a cell that blocks the kernel's event loop would freeze the picture.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from podlab.checks.api import Api, ApiError, everywhere
from podlab.errors import PodlabError

#: Most updates per second that a view gets; the last state wins.
MOST_UPDATES = 15
#: Seconds between two signs of life when nothing changes.
HEARTBEAT = 2.0
#: First and longest pause after a failure (seconds).
BACK_OFF = (0.2, 5.0)


class Fed(Protocol):
    """What a feeder feeds: it takes watch events and whole lists, and says whether they changed anything."""

    def apply(self, kind: str, what: str, item: Mapping[str, Any], at: float) -> bool:
        """Take in one watch event."""

    def replace(self, kind: str, items: Iterable[Mapping[str, Any]], at: float) -> bool:
        """Take in a whole list: what is not in it is gone."""


#: The kinds that a cluster map follows: kind, its name in the record, and whether it lives in the namespace.
CLUSTER_KINDS = (("Node", "node", False), ("Pod", "pod", True))


class Feeder:
    """Feeds one record from the API of one namespace, and calls `publish()` when there is something to show."""

    def __init__(
        self,
        api: Api,
        namespace: str | None,
        record: Fed,
        publish: Callable[[], None],
        kinds: Sequence[tuple[str, str, bool]] = CLUSTER_KINDS,
    ) -> None:
        self.api = api
        self.namespace = namespace
        self.record = record
        self.kinds = kinds
        self.publish = publish
        self.lock = threading.Lock()
        self.heard = 0.0
        self.last_error = ""
        #: Which kinds have been listed: with all there, the picture is whole.
        self.listed: set[str] = set()
        self._news = threading.Event()
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []

    @property
    def whole(self) -> bool:
        """Whether every kind has been listed at least once."""
        return len(self.listed) == len(self.kinds)

    @property
    def running(self) -> bool:
        """Whether it has been started and not been stopped."""
        return bool(self._threads) and not self._stopped.is_set()

    def start(self) -> None:
        """Start the threads; nothing happens if they run."""
        if self.running:
            return
        # An event of their own: threads of an earlier start that are still in a request must not come back to life.
        self._stopped = threading.Event()
        jobs: list[tuple[Callable[..., None], tuple[Any, ...]]] = [
            (self._follow, (kind, short, self.namespace if inside else None)) for kind, short, inside in self.kinds
        ]
        jobs.append((self._show, ()))
        self._threads = [threading.Thread(target=job, args=arguments, daemon=True) for job, arguments in jobs]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Tell the threads to end; they do within the length of a request."""
        self._stopped.set()
        self._news.set()
        self._threads = []

    def _follow(self, kind: str, short: str, namespace: str | None) -> None:
        pause = BACK_OFF[0]
        stopped = self._stopped
        while not stopped.is_set():
            try:
                resource = self.api.resource(kind)
                path = resource.path(namespace) if namespace else everywhere(resource)
                listed = self.api.request("GET", path)
                self._hear()
                with self.lock:
                    self.record.replace(short, listed["items"], time.time())
                self.listed.add(short)
                self._news.set()
                pause = BACK_OFF[0]
                version = listed["metadata"]["resourceVersion"]
                while version and not stopped.is_set():
                    began = time.monotonic()
                    version = self._watch(kind, short, namespace, version, stopped)
                    if time.monotonic() - began < 1.0:
                        # A server that ends watches at once must not be asked in a tight loop.
                        stopped.wait(BACK_OFF[0])
            except PodlabError as error:
                gone = isinstance(error, ApiError) and error.status == 410
                self.last_error = "" if gone else error.message[:300]
                self._news.set()
                stopped.wait(pause)
                pause = min(BACK_OFF[1], 2 * pause)
            except Exception as error:  # shown in the view: a thread must never write to stderr
                self.last_error = f"{type(error).__name__}: {error}"[:300]
                self._news.set()
                stopped.wait(BACK_OFF[1])

    def _watch(self, kind: str, short: str, namespace: str | None, version: str, stopped: threading.Event) -> str:
        """Follow one watch until it ends; the version to go on from, '' if one must list again."""
        for event in self.api.watch(kind, namespace, version, seconds=30):
            if stopped.is_set():
                return ""
            self._hear()
            if event["type"] == "ERROR":
                return ""
            version = event["object"]["metadata"]["resourceVersion"]
            if event["type"] == "BOOKMARK":
                continue
            with self.lock:
                changed = self.record.apply(short, event["type"], event["object"], time.time())
            if changed:
                self._news.set()
        return version

    def _hear(self) -> None:
        self.heard = time.time()
        self.last_error = ""

    def _show(self) -> None:
        stopped = self._stopped
        unanswered = ""
        while not stopped.is_set():
            fresh = self._news.wait(HEARTBEAT)
            self._news.clear()
            if stopped.is_set():
                return
            if not fresh and self.last_error in ("", unanswered):
                # A stream that has frozen looks healthy: ask, so that the age shown is the truth. Ask again after a
                # question that failed: the watches may stand all the same, and then nothing else takes its error away.
                try:
                    self.api.request("GET", "/version", timeout=3)
                    self._hear()
                except PodlabError as error:
                    self.last_error = unanswered = error.message[:300]
            self.publish()
            stopped.wait(1 / MOST_UPDATES)
