"""The life cycle of the indices of logs: begin a new one when the newest is old, large or full, delete the oldest.

A pod's program, run by a CronJob. OpenSearch has a plugin for this, Index State Management, which is not among the
parts of which podlab makes its image; `_rollover` and DELETE are OpenSearch's own.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WRITE = "logs-write"
DAY = 86400.0


@dataclass(frozen=True)
class Index:
    """An index: when it was made (seconds since 1970), and the bytes that it has."""

    name: str
    made: float
    size: int


def doomed(indices: Sequence[Index], now: float, days: float, most: int) -> list[str]:
    """Which go, oldest first: those older than so many days, and the oldest while all have more than so many bytes.

    The newest stays, whatever it is: lines are written into it.
    """
    old = sorted(indices, key=lambda index: index.made)[:-1]
    gone, total = [], sum(index.size for index in indices)
    for index in old:
        if now - index.made > days * DAY or total > most:
            gone.append(index.name)
            total -= index.size
    return gone


def ask(base: str, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
    """The decoded answer; OSError (urllib.error.HTTPError with the status) if it is refused."""
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(base + path, content, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def roll(base: str, given: Mapping[str, str]) -> Any:
    """Begin a new index if it is time for one; OpenSearch's answer.

    An index that has no room for the fields of another program is followed sooner, but not at once: programs that
    make up ever new names would fill any number of them.
    """
    conditions = {"max_age": given["ROLL_AGE"], "max_size": given["ROLL_SIZE"]}
    rolled = ask(base, "POST", f"/{WRITE}/_rollover", {"conditions": conditions})
    if not rolled["rolled_over"]:
        refused = {"query": {"prefix": {"refused": "Limit of total fields"}}}
        if ask(base, "POST", f"/{rolled['old_index']}/_count", refused)["count"]:
            conditions = {"max_age": given["ROLL_FULL_AGE"]}
            return ask(base, "POST", f"/{WRITE}/_rollover", {"conditions": conditions})
    return rolled


def main() -> None:
    """One round."""
    base, given = os.environ["STORE"], os.environ
    try:
        rolled = roll(base, given)
        print(f"{rolled['old_index']}: {'followed by ' + rolled['new_index'] if rolled['rolled_over'] else 'goes on'}")
    except urllib.error.HTTPError as error:
        # Nothing is written yet, or (403, 429) the disk is so full that nothing can be: then deleting helps.
        print(f"no new index: {error.code} {error.read(300).decode(errors='replace')}")
    rows = ask(base, "GET", "/_cat/indices/logs-0*?format=json&bytes=b&h=index,creation.date,store.size")
    indices = [Index(row["index"], int(row["creation.date"]) / 1000, int(row["store.size"] or 0)) for row in rows]
    for name in doomed(indices, time.time(), float(given["KEEP_DAYS"]), int(given["KEEP_BYTES"])):
        ask(base, "DELETE", f"/{name}")
        print(f"{name}: deleted")


if __name__ == "__main__":
    main()
