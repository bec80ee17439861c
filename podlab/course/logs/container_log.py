"""A container's log file as nodes keep it, whose events are known: JSON, text, stack traces, long lines. Pure.

Each line is TIME STREAM FLAG TEXT. A text that is too long for one line goes on in the next of its stream: flag P, and
F on the last (https://kubernetes.io/docs/concepts/cluster-administration/logging/).
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass

from podlab.course.logs.incident import stamp

Event = dict[str, object]


@dataclass
class File:
    """The lines of a file, and the events that are in it, each with the kind of thing that it is."""

    lines: Sequence[str]
    events: Sequence[tuple[str, Event]]

    def of(self, *kinds: str) -> list[Event]:
        """The events of some kinds."""
        return [event for kind, event in self.events if kind in kinds]


def written(begin: float, chance: random.Random, kinds: Sequence[str], size: int = 24) -> File:
    """A file with events of the given kinds, at least one of each, in an order of chance; two streams interleave."""
    wanted = [*kinds, *(chance.choice(kinds) for _ in range(size - len(kinds)))]
    chance.shuffle(wanted)
    pieces: list[tuple[str, list[tuple[str, str]]]] = []
    events: list[tuple[str, Event]] = []
    for kind in wanted:
        event, parts = _event(kind, chance)
        pieces.append((kind, parts))
        events.append((kind, event))
    lines, at = [], begin
    queue = list(zip(events, pieces, strict=True))
    while queue:
        (kind, event), (_, parts) = queue.pop(0)
        guest = None
        if "interleaved" in kinds and len(parts) > 1 and queue:
            other = queue[0]
            if other[0][1]["stream"] != event["stream"]:
                guest = queue.pop(0)
        event["time"] = stamp(at)
        for number, (flag, text) in enumerate(parts):
            lines.append(f"{stamp(at)} {event['stream']} {flag} {text}")
            at = round(at + 0.004, 3)
            if guest and number < len(guest[1][1]):
                if number == 0:
                    guest[0][1]["time"] = stamp(at)
                flag, text = guest[1][1][number]
                lines.append(f"{stamp(at)} {guest[0][1]['stream']} {flag} {text}")
                at = round(at + 0.003, 3)
        for flag, text in guest[1][1][len(parts) :] if guest else ():
            lines.append(f"{stamp(at)} {guest[0][1]['stream']} {flag} {text}")  # type: ignore[index]
            at = round(at + 0.003, 3)
    return File(lines, events)


def _event(kind: str, chance: random.Random) -> tuple[Event, list[tuple[str, str]]]:
    """An event without its time, and its (flag, text) lines."""
    word, stream = f"{chance.getrandbits(32):08x}", chance.choice(("stdout", "stderr"))
    if kind == "json":
        fields: Event = {
            "level": chance.choice(("info", "error")),
            "message": f"answered {word}",
            "latency_ms": chance.randint(1, 900),
            "trace_id": f"{chance.getrandbits(128):032x}",
        }
        return {"stream": stream, **fields}, [("F", json.dumps(fields))]
    if kind == "broken":
        text = f'{{"level": "info", "message": "cut off {word}'
        return {"stream": stream, "message": text}, [("F", text)]
    if kind in ("trace", "interleaved"):
        head = f"cannot rank for user {chance.randint(1, 999)} [{word}]"
        rest = [
            f'  File "/program/serving.py", line {chance.randint(20, 300)}, in visit',
            f'  File "/program/serving.py", line {chance.randint(20, 300)}, in rank',
            f"    return model[{chance.randint(1, 99)}]",
            f"KeyError: '{word}'",
        ]
        message = "\n".join([head, *rest])
        event: Event = {"stream": stream, "level": "error", "message": message}
        return event, [("F", f"[ERROR] {head}"), *(("F", text) for text in rest)]
    text = f"loaded {word} with {chance.randint(2, 900)} movies"
    if kind == "long":
        text += " and their posters" * 3
        whole = f"[INFO] {text}"
        first, second = sorted(chance.sample(range(12, len(whole) - 5), 2))
        parts = [("P", whole[:first]), ("P", whole[first:second]), ("F", whole[second:])]
        return {"stream": stream, "level": "info", "message": text}, parts
    return {"stream": stream, "level": "info", "message": text}, [("F", f"[INFO] {text}")]
