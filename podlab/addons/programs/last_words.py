"""A container's last words without a line break, on nodes whose runtime leaves them half a line in its log.

containerd writes a line of more than 16 KiB as entries tagged P (partial) and one tagged F (full). Where a stream ends
within a line it writes what is left as P, too, and nothing behind it (internal/cri/io/logger.go). vlagent keeps what is
tagged P until an F comes, in memory only, and drops it when the file goes: last words never come of themselves.

Here they are looked for, and handed to the spool as the line that vlagent would have made. That a P is the last says
the end of the container, not the length of the entry: CRI-O tags whatever has no line break yet, and a runtime may be
told another length. A container has ended if the API server says so, or if the link to its log is gone. Each file is
kept open, since a pod that is deleted takes its files along a second after its last words.

What was handed on is noted in a file. It comes twice if the spool is killed in between, or the note cannot be written.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import sys
import threading
import time
import urllib.error
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

try:
    from podlab.addons.programs.packing import packed
except ImportError:  # in a pod the programs lie side by side
    from packing import packed  # type: ignore[no-redef]

#: Seconds between two looks; a file that is the same in both is quiet.
PERIOD = 2.0
#: Seconds between two questions about a pod: at first, at most, and when the API server does not answer.
SOON, LATE, DEAF = 1.0, 60.0, 10.0
#: Bytes at the end of a log that are looked at: whenever it has become quiet, and for last words themselves, of which
#: the last so many come. A stream that ended before so much of the other was written is found when the log goes.
QUICK, BACK = 1 << 16, 2 << 20
#: The most that goes on as one line, in bytes: what embedded nodes give a shipper, for the same reasons.
LONGEST = 31 * 16384
#: Files that are kept open. Of others, which are looked at all the same, a deleted pod's are missed.
HELD = 500
#: vlagent's limits: fields of a line, and bytes of a field's name.
FIELDS, NAME = 1000, 128
#: What vlagent says of JSON without a message.
NO_MESSAGE = "missing _msg field; see https://docs.victoriametrics.com/victorialogs/keyconcepts/#message-field"

_FILE = re.compile(r"([a-z0-9.-]+)_([a-z0-9-]+)_([a-z0-9-]+)-([^-_]+)\.log")
_ENTRY = re.compile(rb"(\S+) (stdout|stderr) ([PF])(?::\S*)? ")
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d{0,9}))?(Z|[+-]\d\d:?\d\d)?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Object = dict[str, Any]


class Refused(OSError):
    """The spool takes nothing now."""


@dataclass(frozen=True)
class Half:
    """What a stream has since its last F: the stamp of its newest entry and the texts of all.

    `begins`: there is an F before, so that nothing of the line is missing.
    """

    stamp: str
    pieces: tuple[bytes, ...]
    begins: bool


def halves(log: bytes) -> dict[str, Half]:
    """The streams whose last entry is a P. `log` begins with an entry; a last one without its line break counts not."""
    found: dict[bytes, tuple[bytes, list[bytes], bool]] = {}
    full: set[bytes] = set()
    for line in log.split(b"\n")[:-1]:
        if (head := _ENTRY.match(line)) is None:
            continue
        stamp, stream, tag = head.groups()
        if tag == b"F":
            found.pop(stream, None)
            full.add(stream)
        else:
            pieces = found[stream][1] if stream in found else []
            pieces.append(line[head.end() :])
            found[stream] = stamp, pieces, stream in full
    return {
        stream.decode(): Half(stamp.decode(errors="replace"), tuple(pieces), begins)
        for stream, (stamp, pieces, begins) in found.items()
    }


def lines(text: bytes) -> Iterator[bytes]:
    """It in lines of at most LONGEST bytes, between characters of UTF-8 where there are any."""
    while len(text) > LONGEST:
        size = next((LONGEST - back for back in range(4) if text[LONGEST - back] & 0xC0 != 0x80), LONGEST)
        yield text[:size]
        text = text[size:]
    if text:
        yield text


class _Written(str):
    """A number or the like as it stood in a line of JSON."""


def utc(stamp: str) -> str:
    """An RFC 3339 time as vlagent writes it: in UTC, no zeros at the end. Empty if it is none, or before 1970."""
    if (found := _TIME.fullmatch(stamp)) is None:
        return ""
    day, clock, fraction, zone = found.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}{'+00:00' if zone in (None, 'Z') else zone}").astimezone(UTC)
    except (ValueError, OverflowError):
        return ""
    fraction = (fraction or "").rstrip("0")
    return f"{moment.replace(tzinfo=None).isoformat()}{fraction and '.'}{fraction}Z" if moment >= _EPOCH else ""


def row(text: bytes, stamp: str, common: Mapping[str, str]) -> bytes:
    """A line as vlagent hands it on: JSON has fields of its own, and may say its time.

    Unlike vlagent this makes no fields of what klog writes, which ends each line, and of more than FIELDS a text.
    """
    words = text.decode(errors="replace")
    own, at = (_fields(words) if words.startswith("{") else None), ""
    if own is not None:
        at = _own_time(own)
        own = {name: value for name, value in own.items() if value and name not in ("_time", "_stream", "_stream_id")}
        own.setdefault("_msg", NO_MESSAGE)
    if own is None or len(own) + len(common) > FIELDS:
        own, at = {"_msg": words}, ""
    told = {name: value for name, value in {"_time": at or utc(stamp), **common, **own}.items() if value}
    return json.dumps(told, ensure_ascii=False).encode(errors="replace")


def _own_time(own: dict[str, str]) -> str:
    """The time that a line says, which is taken from its fields; its message becomes `_msg`."""
    name = next((name for name in ("time", "timestamp", "ts") if own.get(name)), None)
    if name and (at := utc(own[name])):
        del own[name]
    else:
        at = ""
    if message := next((name for name in ("message", "msg", "log") if own.get(name)), None):
        own["_msg"] = own.pop(message)
    return at


def _size(text: str) -> int:
    """Its bytes."""
    return len(text.encode(errors="replace"))


def _fields(words: str) -> dict[str, str] | None:
    """The fields of a line of JSON, those of objects within it by names with dots; None if it is none."""
    found: dict[str, str] = {}

    def add(tree: Object, prefix: str) -> None:
        if _size(prefix) + max(map(_size, tree), default=0) > NAME:
            found[prefix[:-1] or "_msg"] = _written(tree)
            return
        for name, value in tree.items():
            if isinstance(value, dict):
                add(value, f"{prefix}{name}.")
            elif value is not None:
                found[f"{prefix}{name}" or "_msg"] = value if isinstance(value, str) else _written(value)

    try:
        tree = json.loads(words, strict=False, parse_int=_Written, parse_float=_Written, parse_constant=_Written)
        if isinstance(tree, dict):
            add(tree, "")
            return found
    except (ValueError, RecursionError):
        pass
    return None


def _written(value: object) -> str:
    """A value of a line of JSON as JSON."""
    if isinstance(value, _Written):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{_written(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_written, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


@dataclass
class Log:
    """A container's log, by the link to it, and what is known of it."""

    link: Path
    pod: str
    namespace: str
    container: str
    identity: str
    #: The open file, and the one before it if that ends within a line, or -1.
    file: int = -1
    before: int = -1
    #: Which file it is, how long, and when it was written, when it was looked at last.
    seen: tuple[int, ...] = ()
    #: Where the link leads.
    target: Path = Path()
    #: Whether it ends with last words that were not handed on; None if it was not looked at since it was written.
    half: bool | None = None
    #: vlagent's fields of its container, of which pod (UID), and whether that had told of the container.
    fields: dict[str, str] = field(default_factory=dict)
    uid: str = ""
    complete: bool = False
    #: vlagent reads no logs of such containers: nothing of them is shipped.
    foreign: bool = False
    #: When its pod may be asked for again, and how long after that.
    ask_at: float = 0.0
    pause: float = SOON

    def asked(self, now: float) -> None:
        """Ask ever less often."""
        self.ask_at, self.pause = now + self.pause, min(2 * self.pause, LATE)

    def ask_soon(self) -> None:
        """Something is new."""
        self.ask_at, self.pause = 0.0, SOON

    def close(self) -> None:
        """It is not needed any more."""
        for file in (self.file, self.before):
            if file >= 0:
                os.close(file)
        self.file = self.before = -1


class LastWords:
    """The last words in a node's logs.

    `get` asks the API server for a path, `take` gives the spool a block and returns why it cannot take it, or nothing.
    `path` is the address of vlagent's blocks. Of the namespaces `excluded` nothing is shipped.
    """

    def __init__(
        self,
        logs: Path,
        note: Path,
        get: Callable[[str], Object],
        take: Callable[[str, bytes], str],
        path: str,
        *,
        excluded: frozenset[str] = frozenset(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._note, self._get, self._take, self._path = logs, note, get, take, path
        self._excluded, self._clock = excluded, clock
        self._logs: dict[str, Log] = {}
        #: Name of a log -> stream -> the stamp of the entry with which the words ended that were handed on.
        self._said: dict[str, dict[str, str]] = self._read_note()
        self._written = self._said_text()
        self._deaf_until = 0.0
        self._told: set[str] = set()

    def look(self) -> None:
        """Hand on the last words that are new. OSError if the folder of the logs cannot be read."""
        listed = {link.name for link in self._folder.iterdir() if link.suffix == ".log"}
        for name in sorted(listed - self._logs.keys()):
            found = _FILE.fullmatch(name)
            if found and found[2] not in self._excluded:
                self._logs[name] = Log(self._folder / name, found[1], found[2], found[3], found[4])
        for name, log in list(self._logs.items()):
            try:
                if name in listed:
                    self._follow(log)
                else:
                    self._part(log)
                    del self._logs[name]
            except Refused:
                self._tell("last words wait: the spool takes no more")
                break
            except Exception as error:  # one log must not keep those of others
                self._tell(f"last words of {name}: {error!r}")
                if name not in listed:
                    log.close()
                    del self._logs[name]
        self._said = {name: said for name, said in self._said.items() if name in listed or name in self._logs}
        self._write_note()

    def _follow(self, log: Log) -> None:
        """Look at a log whose link is there."""
        try:
            status = log.link.stat()
        except FileNotFoundError:
            return  # it is being set aside
        now = self._clock()
        seen = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        if seen != log.seen:
            if seen[:2] != log.seen[:2]:
                self._open(log)
            log.seen, log.half = seen, None
            if not log.complete and now >= log.ask_at:
                self._ask(log)
            return
        if log.half is None:
            log.half = not log.foreign and bool(self._halves(log, QUICK))
            if log.half:
                log.ask_soon()
        if (log.half or not (log.complete or log.foreign)) and now >= log.ask_at and self._ask(log) and log.half:
            self._hand_on(log)

    def _part(self, log: Log) -> None:
        """The link to a log is gone, and so is its container: hand on what it said last."""
        if log.file >= 0 and not log.foreign and self._halves(log, BACK):
            if not log.complete:
                self._ask(log)
            self._hand_on(log)
        log.close()

    def _open(self, log: Log) -> None:
        log.close()
        log.target = log.link.resolve()
        if sum(other.file >= 0 for other in self._logs.values()) < HELD:
            log.file = os.open(log.target, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # it is gone
            log.before = _set_aside(log.target)

    def _halves(self, log: Log, most: int) -> dict[str, Half]:
        """Streams that end within a line, as far as `most` bytes tell, and that were not handed on so."""
        if log.file >= 0:
            found = _ends(log.file, most)
        else:
            with log.target.open("rb") as file:
                found = _ends(file.fileno(), most)
        said = self._said.get(log.link.name, {})
        return {stream: half for stream, half in found.items() if half.stamp != said.get(stream)}

    def _hand_on(self, log: Log) -> None:
        """The container has ended: what its streams have since their last line break are last words."""
        common = log.fields or _by_name(log)
        for stream, half in self._halves(log, BACK).items():
            earlier = None if half.begins or log.before < 0 else _ends(log.before, BACK).get(stream)
            for line in lines(b"".join((*(earlier.pieces if earlier else ()), *half.pieces))):
                if why := self._take(self._path, packed(row(line, half.stamp, common))):
                    raise Refused(why)
            self._said.setdefault(log.link.name, {})[stream] = half.stamp
        log.half = False

    def _ask(self, log: Log) -> bool:
        """Ask for a log's pod, and note what vlagent would say of it; returns whether the container has ended."""
        now = self._clock()
        if now < self._deaf_until:
            return False
        log.asked(now)
        try:
            pod = self._get(f"/api/v1/namespaces/{log.namespace}/pods/{log.pod}")
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 404:
                return True
            self._deaf_until = now + DEAF
            return False
        except (OSError, ValueError, http.client.HTTPException):
            self._deaf_until = now + DEAF
            return False
        _learn(log, pod)
        return has_ended(log, pod)

    def _tell(self, words: str) -> None:
        """Say it once."""
        if words not in self._told and len(self._told) < HELD:
            print(words, file=sys.stderr, flush=True)
            self._told.add(words)

    def _read_note(self) -> dict[str, dict[str, str]]:
        with contextlib.suppress(OSError, ValueError, AttributeError, TypeError):
            return {name: dict(said) for name, said in json.loads(self._note.read_bytes()).items()}
        return {}

    def _said_text(self) -> str:
        return json.dumps(self._said, sort_keys=True)

    def _write_note(self) -> None:
        text = self._said_text()
        if text == self._written:
            return
        half = self._note.with_suffix(".half")
        with contextlib.suppress(OSError):  # a full disk: it is tried again at the next look
            half.write_text(text)
            half.rename(self._note)
            self._written = text


def _ends(file: int, most: int) -> dict[str, Half]:
    """The streams that end within a line, by the last `most` bytes of a log, or BACK if those are one entry."""
    size = os.fstat(file).st_size
    start = max(0, size - most)
    log = os.pread(file, size - start, start)
    if not start:
        return halves(log)
    _, _, log = log.partition(b"\n")
    if not log and most < BACK:
        return _ends(file, BACK)
    # What is before is too much, or was not asked for: not to be joined with an earlier file.
    return {stream: replace(half, begins=True) for stream, half in halves(log).items()}


def _set_aside(log: Path) -> int:
    """The file that was a log's before, open, if a stream ends within a line there; or -1."""
    # The kubelet adds the time to the name, and packs all but the newest.
    earlier = [one.name for one in log.parent.glob(f"{log.name}.*") if one.suffix not in (".gz", ".tmp")]
    if not earlier:
        return -1
    file = os.open(log.parent / max(earlier), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        kept = bool(_ends(file, BACK))
    except OSError:
        kept = False
    if kept:
        return file
    os.close(file)
    return -1


def _pods_container(log: Log, pod: Object) -> Object | None:
    """What a pod's status tells of a log's container, if anything."""
    status = pod.get("status") or {}
    told = [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]
    return next((one for one in told if one.get("name") == log.container), None)


def _learn(log: Log, pod: Object) -> None:
    """Note vlagent's fields of a log, unless another pod has its pod's name now."""
    meta, spec, status = pod.get("metadata") or {}, pod.get("spec") or {}, pod.get("status") or {}
    if log.uid and log.uid != meta.get("uid"):
        return
    named = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    log.foreign = all(one.get("name") != log.container for one in named)
    found = _pods_container(log, pod) or {}
    runtime, slashes, _ = (found.get("containerID") or "").partition("://")
    log.uid = meta.get("uid") or ""
    log.fields = {
        **_by_name(log),
        "kubernetes.container_id": f"{runtime}://{log.identity}" if slashes else log.identity,
        "kubernetes.pod_ip": status.get("podIP") or "",
        "kubernetes.pod_node_name": spec.get("nodeName") or "",
        **{f"kubernetes.pod_labels.{name}": value for name, value in (meta.get("labels") or {}).items()},
    }
    log.complete = bool(slashes)


def _by_name(log: Log) -> dict[str, str]:
    """The fields that a log's name tells."""
    return {
        "kubernetes.container_name": log.container,
        "kubernetes.pod_name": log.pod,
        "kubernetes.pod_namespace": log.namespace,
        "kubernetes.container_id": log.identity,
    }


def has_ended(log: Log, pod: Object) -> bool:
    """Whether a pod's status says that a log's container has ended: itself, or a later one is there."""
    told = _pods_container(log, pod)
    if told is None:
        return False
    ended = [
        ((told.get(name) or {}).get("terminated") or {}).get("containerID") or "" for name in ("state", "lastState")
    ]
    if any(identity.endswith(log.identity) for identity in ended):
        return True
    # The kubelet names the file by how often the container was started again before.
    number = log.target.stem
    return number.isdigit() and int(number) < int(told.get("restartCount") or 0)


def follow(made: Callable[[], LastWords], ended: threading.Event) -> None:
    """Look again and again; what goes wrong is said once, and never ends it."""
    words: LastWords | None = None
    said = ""
    while not ended.wait(PERIOD):
        try:
            words = words or made()
            words.look()
            now = ""
        except Exception as error:
            now = repr(error)
        if now != said:
            print(f"last words: {now or 'the logs can be read again'}", file=sys.stderr, flush=True)
            said = now
