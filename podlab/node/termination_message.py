"""The last words of a container: its termination message file, or the end of its log."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from podlab.node.container_spec import Paths

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
    return log_tail(_tail(paths.log))


def _head(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MESSAGE_MAX).decode(errors="replace")
    except OSError:
        return ""


def _tail(path: Path) -> bytes:
    """Enough of the end of a log for LOG_MAX bytes of text."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            # Each line has a head of 40 bytes (time, stream, tag) before its text.
            file.seek(max(0, size - LOG_MAX - LOG_LINES * 48))
            return file.read()
    except OSError:
        return b""


def log_tail(raw: bytes) -> str:
    """The text of the last lines of a CRI log: at most LOG_LINES lines and LOG_MAX bytes."""
    parts: list[bytes] = []
    for line in raw.splitlines():
        fields = line.split(b" ", 3)
        if len(fields) == 4:
            parts.append(fields[3] + (b"\n" if fields[2].startswith(b"F") else b""))
    lines = b"".join(parts).splitlines(keepends=True)[-LOG_LINES:]
    return b"".join(lines)[-LOG_MAX:].decode(errors="replace")
