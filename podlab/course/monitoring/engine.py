"""A Prometheus of one's own as a plain process on loopback, which holds a history that is written into it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from podlab.addons.prometheus import LAST, Prometheus, complaints
from podlab.checks.contract import Inconclusive
from podlab.course.monitoring.remote_write import HEADERS, TimeSeries, request
from podlab.course.service import Service
from podlab.errors import WaitTimeout
from podlab.waiting import until

_CONFIGURATION = "global: {}\nrule_files: [rules/*.yaml]\n"
#: Seconds until what it has said of rules is read from its log, too: not a verdict on speed.
_HEARD = 60.0
#: Series in one request.
_BATCH = 200


class Engine(Service):
    """A running Prometheus; `ask` asks it. End it with `close`."""

    program, title, listening, ready = "prometheus", "Prometheus", r"Listening on.*?(127\.0\.0\.1:\d+)", "-/ready"

    def __init__(self) -> None:
        super().__init__()
        self.ask = Prometheus(self.exchange)
        self._loads = 0

    def arguments(self) -> Sequence[str]:
        """Those of a server that takes what is written into it, and gives up on questions that take too long."""
        (self.folder / "rules").mkdir()
        (self.folder / "prometheus.yml").write_text(_CONFIGURATION)
        return [
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            "--storage.tsdb.retention.time=2d",
            "--web.listen-address=127.0.0.1:0",
            "--web.enable-remote-write-receiver",
            "--web.enable-lifecycle",
            "--query.timeout=20s",
            "--query.max-samples=5000000",
        ]

    def write(self, series: Sequence[TimeSeries]) -> None:
        """Put a history in; Inconclusive if Prometheus does not take it."""
        for start in range(0, len(series), _BATCH):
            body = request(series[start : start + _BATCH])
            status, said = self.exchange("POST", "api/v1/write", body=body, headers=HEADERS)
            if status >= 300:
                raise Inconclusive(f"Prometheus did not take the history: {status} {said.decode('utf-8', 'replace')}")

    def load_rules(self, text: str) -> None:
        """Have it read a file of rules; QueryError with its own words if it refuses."""
        # Under a name of its own, so that what it says of them is not taken for what it said of others.
        self._loads += 1
        self._rules().write_text(text)
        try:
            self.ask.reload()
        finally:
            self._rules().unlink()

    def why_refused(self) -> str:
        """What it said of the rules that it refused last, from its log."""
        name = str(self._rules())
        # It answers that it has refused them when it has said why; who reads its log may be later.
        with suppress(WaitTimeout):
            until(lambda: LAST in "\n".join(self.said).partition(name)[2], "its words", timeout=_HEARD)
        return complaints("\n".join(self.said)).replace(name, "rules.yaml")

    def _rules(self) -> Path:
        return self.folder / "rules" / f"rules-{self._loads}.yaml"
