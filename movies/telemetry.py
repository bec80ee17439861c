"""Logs as JSON lines, trace ids that travel (W3C Trace Context), and the metrics that every service has."""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_LABELS = ("service", "method", "route", "code")
#: What the logging module puts on every record; all else came with `extra` and is logged.
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}

REQUESTS = Counter("movies_requests_total", "Requests answered.", _LABELS)
LATENCY = Histogram(
    "movies_request_seconds",
    "Time from the first byte of a request to the last of its answer.",
    ("service", "route"),
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
IN_FLIGHT = Gauge("movies_requests_in_flight", "Requests under way.", ("service",))
REFUSED = Counter("movies_requests_refused_total", "Requests refused at once.", ("service", "reason"))
READY = Gauge("movies_ready", "1 if the service wants traffic.", ("service",))
CALLS = Counter("movies_calls_total", "Calls of one service to another.", ("service", "to", "outcome"))
CALL_LATENCY = Histogram(
    "movies_call_seconds",
    "Time of calls of one service to another.",
    ("service", "to"),
    # 1.25: a call that was given up at the default deadline of a second is not to look like one of two.
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 1.25, 2.5),
)


@dataclass(frozen=True)
class Trace:
    """The id of a request on its way through all services, and of the step that is being made now."""

    trace_id: str
    span_id: str
    parent_id: str = ""
    flags: str = "01"

    @property
    def header(self) -> str:
        """The value of the header `traceparent` for what is called from here."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


_current: ContextVar[Trace | None] = ContextVar("trace", default=None)
_service: ContextVar[str] = ContextVar("service", default="")


def current() -> Trace | None:
    """The trace of what is being done now, if any."""
    return _current.get()


def begin(header: str | None = None) -> Trace:
    """A new step: of the trace in a `traceparent` header if that is well formed, else of a new trace."""
    match = _TRACEPARENT.fullmatch((header or "").strip().lower())
    if match and match[1].strip("0") and match[2].strip("0"):
        return Trace(match[1], secrets.token_hex(8), match[2], match[3])
    return Trace(secrets.token_hex(16), secrets.token_hex(8))


@contextmanager
def within(trace: Trace, service: str) -> Iterator[Trace]:
    """Logs and calls made inside carry `trace` and the name of the service."""
    tokens = _current.set(trace), _service.set(service)
    try:
        yield trace
    finally:
        _current.reset(tokens[0])
        _service.reset(tokens[1])


def headers() -> dict[str, str]:
    """Headers that hand the present trace on, for HTTP and for messages."""
    trace = _current.get()
    return {"traceparent": trace.header} if trace else {}


class JsonLines(logging.Formatter):
    """One line of JSON per record. Line breaks and quotes of foreign text are escaped, so no line can be forged."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service
        self._instance = os.environ.get("HOSTNAME", "")

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON, with time, level, service, trace and all extra fields."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "service": _service.get() or self._service,
            "message": record.getMessage(),
        }
        if self._instance:
            line["instance"] = self._instance
        if trace := _current.get():
            line |= {"trace_id": trace.trace_id, "span_id": trace.span_id}
            if trace.parent_id:
                line["parent_id"] = trace.parent_id
        line |= {key: value for key, value in record.__dict__.items() if key not in _STANDARD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def set_up(service: str, level: str = "INFO") -> None:
    """Log as JSON lines on standard output, for this process and the libraries in it."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines(service))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy in ("httpx", "httpcore", "uvicorn", "implicit", "nats"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
