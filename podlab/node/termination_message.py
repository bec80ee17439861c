"""The last words of a container: its termination message file, or the end of its log."""

from __future__ import annotations

import os
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from podlab.node.container_spec import Paths
from podlab.node.runtime.sandbox.beneath import open_file
from podlab.node.streams.log_format import Lines, Selection, parse

#: Bytes of a message, and bytes and lines of a log that stands in for one (kubelet's limits). A pod's status may show
#: less of it: what its containers have together is bounded, too (pod_status.MESSAGES_MAX).
MESSAGE_MAX = 4096
LOG_MAX, LOG_LINES = 2048, 80


def read_message(container: Mapping[str, Any], paths: Paths, exit_code: int) -> str:
    """The termination message of an ended attempt; "" if it left none."""
    text = _head(paths.termination)
    fallback = container.get("terminationMessagePolicy") == "FallbackToLogsOnError"
    if text or not fallback or exit_code == 0:
        return text
    return log_tail(_tail(paths))


def _head(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MESSAGE_MAX).decode(errors="replace")
    except OSError:
        return ""


def _tail(paths: Paths) -> bytes:
    """Enough of the end of a log for LOG_MAX bytes of text."""
    try:
        with os.fdopen(open_file(paths.log, os.O_RDONLY, top=paths.top), "rb") as file:
            size = file.seek(0, 2)
            # Each line has a head of 40 bytes (time, stream, tag) before its text.
            file.seek(max(0, size - LOG_MAX - LOG_LINES * 48))
            return file.read()
    except OSError:
        return b""


def log_tail(raw: bytes) -> str:
    """The text of the last lines of a CRI log: at most LOG_LINES lines and LOG_MAX bytes."""
    entries = (entry for line in Lines().feed(raw) if (entry := parse(line)) is not None)
    lines = BytesIO(b"".join(Selection().show(entries))).readlines()[-LOG_LINES:]
    return b"".join(lines)[-LOG_MAX:].decode(errors="replace")
