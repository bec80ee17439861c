"""Replays that grow while one looks: a request's way (the writes to a namespace), and requests through a Service.

At the end of the record a view follows the news; paused, or one step back, it stays where it is.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from podlab.checks.api import Api
from podlab.errors import PodlabError
from podlab.widgets import flow, journey, news
from podlab.widgets.feeder import Feeder
from podlab.widgets.flow import Flow, Moment
from podlab.widgets.journey import Journal
from podlab.widgets.replay import Growing, number


class JourneyView(Growing):
    """Who wrote what, when: a lane for each party of the control plane. `seek(n)` shows the first n writes."""

    help = (
        "Each mark is one write that reached etcd, in the lane of the one who made it. The letter is the lane's. "
        "Who asks for a deletion is written nowhere on an object."
    )

    def __init__(self, journal: Journal, title: str, mode: str = "recorded") -> None:
        super().__init__(title)
        self.journal = journal
        self.mode = mode
        self.position = self.length
        self.recorder: Journey | None = None
        self.refresh()

    def stop(self) -> None:
        """End the recording, where there is one; what is recorded stays."""
        if self.recorder is not None:
            self.recorder.stop()

    @property
    def length(self) -> int:
        return self.forgotten + len(self.journal.steps)

    @property
    def forgotten(self) -> int:
        return self.journal.forgotten

    @property
    def _shown(self) -> int:
        return max(0, self.position - self.forgotten)

    def moment(self) -> str:
        return f"write {self.position} of {self.length}{self.kept}"

    def summary(self) -> str:
        return journey.summary(self.journal.steps[: self._shown])

    def table(self) -> tuple[list[str], list[list[str]]]:
        steps = self.journal.steps[: self._shown]
        zero = steps[0].at if steps else 0.0
        return ["after", "who", "object", "what", "version"], [
            [f"{step.at - zero:.2f} s", step.who, f"{step.kind} {step.name}", step.what, step.version] for step in steps
        ]

    def picture(self) -> str:
        return journey.picture(f"{self.title} ({self.written})", self.journal.steps, self._shown)


class Journey:
    """Watches a namespace from now on and draws who writes what. `stop()` ends the watching; the view stays.

    Unlike other pictures it goes on while nobody looks: what is written meanwhile could not be had later.
    """

    def __init__(self, api: Api, namespace: str, title: str) -> None:
        self.journal = Journal()
        self.view = JourneyView(self.journal, title, "live")
        self.view.recorder = self
        self.feeder = Feeder(api, namespace, self.journal, self._publish, journey.KINDS)
        self.view.source = self.feeder
        self.feeder.start()

    def _publish(self) -> None:
        # Also where nothing has changed: the age of the news is shown.
        with self.feeder.lock:
            self.view.grow()

    def stop(self) -> None:
        """End the watching."""
        self.feeder.stop()
        self.view.mode = "recorded"
        self.view.grow()


class FlowView(Growing):
    """Requests through a Service and each pod's share, over the last `seconds`; `seek(n)` goes through the record."""

    help = (
        "The wider a way, the more requests took it. Dashed: none did. A vermillion bar: requests reached a pod that "
        "was no ready endpoint at that moment. set(seconds=…) does what its slider does."
    )

    def __init__(self, record: Flow, service: str, title: str, mode: str = "recorded", seconds: int = 10) -> None:
        super().__init__(title)
        self.record = record
        self.service = service
        self.mode = mode
        self.seconds = seconds
        self.position = self.length
        self.refresh()

    @property
    def length(self) -> int:
        return self.forgotten + len(self.record.moments)

    @property
    def forgotten(self) -> int:
        return self.record.forgotten

    def add(self, moment: Moment) -> None:
        """Put a moment at the end; a view that is not held follows."""
        with self._lock:
            self.record.add(moment)
            self.grow()

    @property
    def shown(self) -> Moment:
        """The requests that the picture shows."""
        return self.record.window(self.position, self.seconds)

    def moment(self) -> str:
        return f"the {min(self.seconds, self.position)} s up to second {self.position} of {self.length}{self.kept}"

    def summary(self) -> str:
        return flow.summary(self.shown)

    def table(self) -> tuple[list[str], list[list[str]]]:
        return ["pod", "endpoint", "requests", "share"], flow.rows(self.shown)

    def picture(self) -> str:
        return flow.picture(f"{self.title} ({self.written})", self.service, self.shown)

    def controls(self) -> list[dict[str, Any]]:
        return [number("seconds", "Seconds added up", self.seconds, 1, 30)]

    def changed(self, name: str, value: Any) -> None:
        self.seconds = int(value)


class Watcher:
    """Asks once a second for what the prober has recorded and what the Service's endpoints are, and draws it.

    `records` gives every request that has ended, in the order of their ends: what is new stands last. While nobody
    looks it does not ask: what came then is in the first look afterwards.
    """

    def __init__(
        self,
        view: FlowView,
        records: Callable[[], Sequence[Any]],
        endpoints: Callable[[], tuple[Sequence[str], Sequence[str]]],
    ) -> None:
        self.view = view
        self.heard, self.last_error = time.time(), ""
        self.audience = view.audience = news.Audience()
        view.source = self
        self._records, self._endpoints = records, endpoints
        self._seen = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.wait(1.0):
            if self.audience.gone():
                continue
            try:
                self.look()
            except (PodlabError, LookupError) as error:
                self.last_error = str(error)[:200]
                self.view.grow()

    def look(self) -> None:
        """One look: the requests that have ended since the last one, and the endpoints now."""
        records = self._records()
        moment = moment_of(records[self._seen :], *self._endpoints())
        self._seen, self.heard, self.last_error = len(records), time.time(), ""
        self.view.add(moment)

    def stop(self) -> None:
        """End the watching; the view keeps what it shows."""
        self._stopped.set()
        self.view.mode = "recorded"
        self.view.refresh()


def moment_of(records: Sequence[Any], ready: Sequence[str], not_ready: Sequence[str]) -> Moment:
    """What a prober's records of a second say, with the endpoints at its end."""
    answered = Counter(record.pod for record in records if record.ok)
    bad = [record for record in records if not record.ok]
    why = Counter(f"status {record.status}" if record.status else record.error or "no answer" for record in bad)
    at = max((record.sent for record in records), default=0.0)
    return Moment(at, dict(answered), len(bad), why.most_common(1)[0][0] if why else "", tuple(ready), tuple(not_ready))


def endpoints(slices: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """Names of the pods that are ready endpoints, and of those that are endpoints and not ready."""
    ready: set[str] = set()
    others: set[str] = set()
    for item in slices:
        for entry in item.get("endpoints") or []:
            name = (entry.get("targetRef") or {}).get("name", "")
            (ready if (entry.get("conditions") or {}).get("ready") is not False else others).add(name)
    return sorted(ready - {""}), sorted(others - ready - {""})
