"""Feeds a lifecycle strip: threads that probe processes and send them requests, or that follow pods."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from podlab.checks.api import Api
from podlab.widgets import news
from podlab.widgets.feeder import Feeder
from podlab.widgets.lifecycle import Life, Lifecycle, Request, state_of, state_of_pod

#: Seconds between two probes, that a probe and a request may take, and between two pictures.
EVERY, PATIENCE, LONGEST, PICTURE = 0.05, 1.0, 30.0, 0.5


def ask(url: str, path: str, patience: float) -> tuple[int, str, str]:
    """One request over a new connection: status (0: no answer), text, and what went wrong."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=patience)
    try:
        connection.request("GET", f"{parts.path}{path}")
        answer = connection.getresponse()
        text = answer.read().decode("utf-8", "replace")
        return answer.status, text, "" if answer.status < 500 else f"status {answer.status}"
    except (OSError, http.client.HTTPException) as trouble:
        return 0, "", type(trouble).__name__
    finally:
        connection.close()


class Strip:
    """Watches processes and draws their lives. `rows`: name -> URL. `stop()` ends it; what is drawn stays."""

    def __init__(self, rows: Mapping[str, str], title: str = "From start to end") -> None:
        self.life, self.urls = Life(), dict[str, str]()
        self.view = Lifecycle(self.life, title, "live")
        self._zero = time.monotonic()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._loading: list[threading.Thread] = []
        self._enough = threading.Event()
        for name, url in rows.items():
            self.watch(name, url)
        self._start(self._draw)

    def watch(self, name: str, url: str) -> None:
        """One more row: a process that answers, or will answer, at this URL."""
        self.urls[name] = url
        self._look(name)
        self._start(self._follow, name)

    def mark(self, name: str, words: str) -> None:
        """Note what is done to a row, just before it is done."""
        with self._lock:
            self.life.mark(name, self.now(), words)

    def load(self, path: str | Callable[[int], str], clients: int = 2) -> None:
        """Send requests as fast as some clients can, each to the next row whose last probe found it ready.

        `path`: one, or a function of the request's number. `unload()` ends it, as does another load.
        """
        self.unload()
        self._enough, numbers = threading.Event(), itertools.count()
        self._loading = [
            threading.Thread(target=self._client, args=(path, numbers, self._enough), daemon=True)
            for _ in range(clients)
        ]
        for thread in self._loading:
            thread.start()

    def unload(self) -> tuple[int, int]:
        """End the load; how many requests there were so far, and how many failed."""
        self._enough.set()
        for thread in self._loading:
            thread.join()
        return len(self.life.requests), sum(bool(one.trouble) for one in self.life.requests)

    def state(self, name: str) -> str:
        """What the last probe of a row found."""
        return self.life.state(name, float("inf"))

    def now(self) -> float:
        """Seconds since the strip was begun."""
        return time.monotonic() - self._zero

    def stop(self) -> None:
        """End the load and the probes, and draw once more."""
        self.unload()
        self._stopped.set()
        self.view.mode = "recorded"
        self._grow()

    def _start(self, work: Callable[..., None], *arguments: Any) -> None:
        threading.Thread(target=work, args=arguments, daemon=True).start()

    def _follow(self, name: str) -> None:
        while not self._stopped.wait(EVERY):
            self._look(name)

    def _look(self, name: str) -> None:
        url = self.urls[name]
        started, _, _ = ask(url, "/startupz", PATIENCE)
        ready, text, _ = ask(url, "/readyz", PATIENCE)
        with self._lock:
            if self._stopped.is_set():
                return
            seen = any(state != "absent" for _, state in self.life.states.get(name, ()))
            told = any(one.row == name and "SIGTERM" in one.words for one in self.life.marks)
            self.life.look(name, self.now(), state_of(started, ready, _reasons(text), seen=seen, told=told))

    def _client(self, path: str | Callable[[int], str], numbers: Iterable[int], enough: threading.Event) -> None:
        for number in numbers:
            if enough.is_set():
                return
            ready = [name for name in list(self.urls) if self.state(name) == "ready"]
            if not ready:
                enough.wait(EVERY)
                continue
            name = ready[number % len(ready)]
            at, wanted = self.now(), path if isinstance(path, str) else path(number)
            _, _, trouble = ask(self.urls[name], wanted, LONGEST)
            with self._lock:
                self.life.requests.append(Request(at, name, trouble))
                self.life.end = max(self.life.end, at)

    def _draw(self) -> None:
        while not self._stopped.wait(PICTURE):
            self._grow()

    def _grow(self) -> None:
        with self._lock:
            self.view.grow()


def _reasons(text: str) -> list[str]:
    """The reasons in an answer about readiness; none if it gives none."""
    try:
        return [str(one) for one in json.loads(text).get("reasons") or ()]
    except (ValueError, AttributeError):
        return []


class PodStrip:
    """The same for the pods of a namespace with a label app=`app`, as the API tells of them."""

    def __init__(self, api: Api, namespace: str, app: str, title: str = "From start to end") -> None:
        self.life, self.app = Life(), app
        self.view = Lifecycle(self.life, title, "live")
        self._zero = time.time()
        self._names = dict[str, str]()
        self.feeder = Feeder(api, namespace, self, self._publish, (("Pod", "pod", True),))
        self.view.source, self.view.audience = self.feeder, news.Audience(self._wake)
        self.feeder.start()

    def apply(self, _kind: str, what: str, item: Mapping[str, Any], at: float) -> bool:
        """Take in one watch event about a pod."""
        meta = item["metadata"]
        if (meta.get("labels") or {}).get("app") != self.app:
            return False
        name = self._names.setdefault(meta["uid"], meta["name"])
        return self.life.look(name, max(0.0, at - self._zero), "gone" if what == "DELETED" else state_of_pod(item))

    def replace(self, kind: str, items: Iterable[Mapping[str, Any]], at: float) -> bool:
        """Take in a whole list: pods that are not in it are gone."""
        there = list(items)
        changes = [self.apply(kind, "MODIFIED", item, at) for item in there]
        gone = self._names.keys() - {item["metadata"]["uid"] for item in there}
        changes += [self.life.look(self._names[uid], max(0.0, at - self._zero), "gone") for uid in gone]
        return any(changes)

    def stop(self) -> None:
        """End the watching; what is drawn stays."""
        self.feeder.stop()
        self.view.mode = "recorded"
        self._grow()

    def _wake(self) -> None:
        if self.view.mode == "live":
            self.feeder.start()

    def _publish(self) -> None:
        if self.view.audience and self.view.audience.gone():
            self.feeder.stop()
        else:
            self._grow()

    def _grow(self) -> None:
        with self.feeder.lock:
            self.view.grow()
