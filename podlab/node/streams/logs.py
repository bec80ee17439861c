"""A container's log as a client asks for it: the last lines, since a time, followed until the container ends.

As in Kubernetes, only the newest file of a rotated log is read, but following goes on over rotations.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

from aiohttp import web

from podlab.node.runtime.sandbox.beneath import entered
from podlab.node.streams.log_format import (
    STREAMS,
    Entry,
    Lines,
    Selection,
    fixed_time,
    format_time,
    only_for_shippers,
    parse,
)
from podlab.node.view import ContainerView, PodView
from podlab.waiting import pause_async

#: Bytes that are read at once; small enough for other work to run in between.
BLOCK = 128 * 1024
#: Seconds between two looks at a log that does not grow: first, and doubled up to the longest.
SHORTEST_INTERVAL, LONGEST_INTERVAL = 0.02, 0.25
#: Seconds for which the log of a container that has ended may still grow.
SETTLING = 0.1


@dataclass(frozen=True)
class LogOptions:
    """What a client may ask for; see PodLogOptions in the Kubernetes API."""

    tail_lines: int | None = None
    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    since: bytes | None = None
    limit_bytes: int | None = None
    stream: bytes | None = None

    @classmethod
    def of(cls, query: Mapping[str, str], now: float) -> LogOptions:
        """Read a request's query. `now` is in seconds since the epoch.

        Raises HTTPBadRequest for what cannot be read and HTTPUnprocessableEntity for what cannot be meant.
        """
        tail = _number(query, "tailLines")
        if query.get("tail", "all") != "all":
            tail = _number(query, "tail")
        seconds, limit = _number(query, "sinceSeconds"), _number(query, "limitBytes")
        since_time = query.get("sinceTime")
        stream = query.get("stream", "All")
        wrong = [
            tail is not None and tail < 0 and "tailLines must not be negative",
            limit is not None and limit < 1 and "limitBytes must be greater than 0",
            seconds is not None and seconds < 1 and "sinceSeconds must be greater than 0",
            seconds is not None and since_time and "at most one of sinceTime or sinceSeconds may be specified",
            stream not in ("All", "Stdout", "Stderr") and f"unknown stream {stream!r}: All, Stdout or Stderr",
            stream != "All" and tail is not None and "tailLines and a specific stream are mutually exclusive",
        ]
        if message := "; ".join(text for text in wrong if text):
            raise web.HTTPUnprocessableEntity(text=message)
        since = format_time(now - seconds) if seconds is not None else None
        if since_time and (since := fixed_time(since_time.encode())) is None:
            raise web.HTTPBadRequest(text=f"sinceTime: {since_time!r} is not a time as in RFC 3339")
        return cls(
            tail_lines=tail,
            follow=_flag(query, "follow"),
            previous=_flag(query, "previous"),
            timestamps=_flag(query, "timestamps"),
            since=since,
            limit_bytes=limit,
            stream=None if stream == "All" else STREAMS[stream == "Stderr"],
        )

    def selection(self) -> Selection:
        """Return a fresh chooser of log entries."""
        return Selection(self.timestamps, self.since, self.stream, self.limit_bytes)


def _number(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name)
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise web.HTTPBadRequest(text=f"{name}: {text!r} is not a number") from None


def _flag(query: Mapping[str, str], name: str) -> bool:
    return query.get(name, "false").lower() not in ("", "0", "false", "f")


def container_status(pod: PodView, name: str) -> Mapping[str, Any] | None:
    """Return the entry of a container in its pod's status, or None."""
    for kind in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        for status in pod.status.get(kind) or ():
            if status.get("name") == name:
                return status
    return None


def choose_log(pod: PodView, container: ContainerView, previous: bool) -> str:
    """Return the path of the log that is meant. Raises HTTPBadRequest, in the kubelet's words, if there is none."""
    shown = f'container "{container.name}" in pod "{pod.name}"'
    status = container_status(pod, container.name)
    if status is None:
        raise web.HTTPBadRequest(text=f"{shown} is not available")
    state, last = status.get("state") or {}, (status.get("lastState") or {}).get("terminated")
    begun = "running" in state or "terminated" in state
    if previous:
        # While it waits for its next start, the attempt that ended last is both the previous and the newest one.
        path = (container.previous_log_path if begun else container.log_path) if last else None
        if path is None:
            raise web.HTTPBadRequest(text=f"previous terminated {shown} not found")
        return path
    if (begun or last) and container.log_path is not None:
        return container.log_path
    if begun or last:
        raise web.HTTPBadRequest(text=f"{shown} is terminated")
    reason = (state.get("waiting") or {}).get("reason")
    pulls = {
        "ErrImagePull": "image can't be pulled",
        "ImagePullBackOff": "trying and failing to pull image",
    }
    text = f": {pulls.get(reason, reason)}" if reason else " - no logs yet"
    raise web.HTTPBadRequest(text=f"{shown} is waiting to start{text}")


def readable(path: str, top: Path) -> bool:
    """Whether `read_log` would find a log: one can be there no longer, or a pod can have put something in its way."""
    with suppress(OSError), entered(Path(path).parent, top) as folder:
        _open(Path(folder) / Path(path).name).close()
        return True
    return False


async def read_log(
    path: str, options: LogOptions, ended: asyncio.Future[Any] | None = None, top: Path | None = None
) -> AsyncGenerator[bytes, None]:
    """Yield the log as asked for. With `ended`, follow it until that is done and all has been read.

    Below `top` pods may write: no link is followed there. Raises OSError if there is no such file.
    """
    with entered(Path(path).parent, top) as folder:
        async with aclosing(_read(Path(folder) / Path(path).name, options, ended)) as chunks:
            async for chunk in chunks:
                yield chunk


async def _read(path: Path, options: LogOptions, ended: asyncio.Future[Any] | None) -> AsyncGenerator[bytes, None]:
    selection, lines = options.selection(), Lines()
    interval, settled, left = SHORTEST_INTERVAL, False, False
    file = _open(path)
    try:
        file.seek(0 if options.tail_lines is None else tail_start(file, options.tail_lines))
        while True:
            data = file.read(BLOCK)
            if data:
                if text := _shown(selection, lines.feed(data)):
                    yield text
                if selection.exhausted:
                    return
                interval, settled, left = SHORTEST_INTERVAL, False, False
                await pause_async(0)  # lets others run between two blocks of a long log
            elif ended is None:
                yield _shown(selection, [lines.rest()])
                return
            elif (newer := newer_file(path, file)) is not None:
                if left:  # nothing was added to the old file after the new one had been made
                    file.close()
                    file = _open(newer)
                    lines.rest()
                left = not left
            elif not ended.done():
                await asyncio.wait({ended}, timeout=interval)
                interval = min(2 * interval, LONGEST_INTERVAL)
            elif settled:
                yield _shown(selection, [lines.rest()])
                return
            else:
                settled = True
                await pause_async(SETTLING)
    finally:
        file.close()


def _open(path: Path) -> BinaryIO:
    """The log, which is a file: a link or a pipe that a pod has put in its place is none."""
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise FileNotFoundError(errno.ENOENT, "it is no file", str(path))
    return file


def _shown(selection: Selection, lines: list[bytes]) -> bytes:
    return b"".join(selection.show(entry for line in lines if (entry := parse(line)) is not None))


def tail_start(file: BinaryIO, count: int) -> int:
    """Return the offset at which the last `count` lines of a log begin; what is cut into entries is one line."""
    seen = 0
    at_end = True
    for end, entry, before in _entries_backwards(file):
        if at_end or (entry.complete and not only_for_shippers(entry, before)):
            if seen == count:
                return end
            seen += 1
        at_end = False
    return 0


def _entries_backwards(file: BinaryIO) -> Iterator[tuple[int, Entry, Entry | None]]:
    """Yield (offset of its end, entry, the one before it) from the last entry to the first."""
    newer: tuple[int, Entry] | None = None
    for offset, line in _lines_backwards(file):
        if (entry := parse(line)) is not None:
            if newer:
                yield *newer, entry
            newer = offset + len(line), entry
    if newer:
        yield *newer, None


def _lines_backwards(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, line) from the last line that has its newline to the first."""
    position = file.seek(0, os.SEEK_END)
    rest = b""  # what was read already of the line that begins before `position`
    torn = True
    while position > 0:
        size = min(BLOCK, position)
        position -= size
        file.seek(position)
        data = file.read(size) + rest
        if torn:  # what follows the last newline is still being written
            data = data[: data.rfind(b"\n") + 1]
            torn = not data
        begin = data.find(b"\n") + 1 if position else 0
        end = len(data)
        while end > begin:
            start = max(begin, data.rfind(b"\n", begin, end - 1) + 1)
            yield position + start, data[start:end]
            end = start
        rest = data[:begin]


def newer_file(path: Path, file: BinaryIO) -> Path | None:
    """Return the file that follows `file` in a rotated log; None if `file` is still the newest."""
    own = os.fstat(file.fileno())
    try:
        newest = path.lstat()
    except FileNotFoundError:
        return None  # renamed, and the new one is not there yet
    if os.path.samestat(own, newest):
        return None
    rotated = sorted(path.parent.glob(f"{path.name}.*"))
    for older, newer in pairwise(rotated):
        with suppress(FileNotFoundError):  # the oldest ones are removed
            if os.path.samestat(own, older.lstat()):
                return newer
    return path
