"""A VictoriaLogs of one's own as a plain process on loopback: the log store of checks that need no cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from podlab.addons.logs import Logs
from podlab.checks.contract import Inconclusive
from podlab.course.service import Service
from podlab.errors import WaitTimeout
from podlab.waiting import until


class Store(Service):
    """A running log store; `ask` asks it. End it with `close`."""

    program, title = "victoria-logs", "VictoriaLogs"
    listening, ready = r"started server at http://(127\.0\.0\.1:\d+)", "health"

    def __init__(self) -> None:
        super().__init__()
        self.ask = Logs(self.exchange)

    def arguments(self) -> Sequence[str]:
        """Those of a small one that keeps everything for some days, and gives up on questions that take too long."""
        return [
            "-httpListenAddr=127.0.0.1:0",
            f"-storageDataPath={self.folder / 'data'}",
            "-retentionPeriod=30d",
            "-memory.allowedBytes=64MB",
            "-search.maxQueryDuration=20s",
        ]

    def fill(self, lines: Sequence[Mapping[str, object]], stream: Sequence[str] = ("app", "service", "pod")) -> None:
        """Put lines in, and return when all of them are found."""
        before = self.ask.count("*")
        if lines:
            self.ask.bulk(lines, stream)
        wanted = before + len(lines)
        try:
            until(lambda: self.ask.count("*") >= wanted, f"{len(lines)} lines being found", timeout=60, interval=0.1)
        except WaitTimeout as error:
            raise Inconclusive(f"VictoriaLogs did not take the lines: {error}") from error
