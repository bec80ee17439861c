"""What a worker does in a MapReduce job: one map task or one reduce task, from files to files.

This text also goes into pods, where podlab is not: it needs nothing but the standard library.
"""

from __future__ import annotations

import heapq
import json
import pickle
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

Pair = tuple[Any, Any]


def partition(key: Any, reducers: int) -> int:
    """The reducer of a key: a checksum of it, the same in every process and every run (unlike `hash`)."""
    return zlib.crc32(order(key).encode()) % reducers


def order(key: Any) -> str:
    """A text by which keys of any JSON type are sorted and told apart: strings as they are, others before them."""
    return key if type(key) is str else "\0" + json.dumps(key, sort_keys=True)


@dataclass(frozen=True)
class Job:
    """What to compute. `map(record)` yields pairs; `reduce(key, values)` returns the key's value (JSON).

    `combine(key, values)`, if given, makes one value of the many that a map task has for a key; it may be applied
    or not, so `reduce` must not notice. Values reach `reduce` in the order of splits, and of emission within one.
    """

    map: Callable[[Any], Iterable[Pair]]
    reduce: Callable[[Any, list[Any]], Any]
    combine: Callable[[Any, list[Any]], Any] | None = None
    partition: Callable[[Any, int], int] = partition
    reducers: int = 4


def map_task(job: Job, split: Iterable[Any], folder: Path, number: int, attempt: str) -> dict[str, Any]:
    """Write one file per reducer, sorted by key: a pickled list of (order, key, values)."""
    groups: dict[str, tuple[Any, list[Any]]] = {}
    records = 0
    for record in split:
        records += 1
        for key, value in job.map(record):
            groups.setdefault(order(key), (key, []))[1].append(value)
    parts: list[list[tuple[str, Any, list[Any]]]] = [[] for _ in range(job.reducers)]
    for text, (key, values) in sorted(groups.items(), key=itemgetter(0)):
        where = job.partition(key, job.reducers)
        if not (isinstance(where, int) and 0 <= where < job.reducers):
            raise ValueError(f"partition({key!r}, {job.reducers}) is {where!r}; it must be 0 to {job.reducers - 1}.")
        parts[where].append((text, key, [job.combine(key, values)] if job.combine else values))
    size = 0
    for reducer, part in enumerate(parts):
        data = pickle.dumps(part, protocol=pickle.HIGHEST_PROTOCOL)
        size += len(data)
        (folder / f"map-{number}-{reducer}.{attempt}").write_bytes(data)
    values = [sum(len(some) for _, _, some in part) for part in parts]
    return {"records": records, "bytes": size, "parts": values}


def reduce_task(job: Job, maps: int, folder: Path, number: int, attempt: str) -> dict[str, Any]:
    """Merge one part of every map task, reduce key by key, write JSON lines."""
    parts = []
    size = records = 0
    for index in range(maps):
        data = (folder / f"map-{index}-{number}").read_bytes()
        size += len(data)
        parts.append([(text, index, key, values) for text, key, values in pickle.loads(data)])
    merged = heapq.merge(*parts, key=itemgetter(0, 1))
    with (folder / f"part-{number:05d}.{attempt}").open("w") as file:
        for _, group in groupby(merged, key=itemgetter(0)):
            some = list(group)
            key = some[0][2]
            values = [value for _, _, _, more in some for value in more]
            records += len(values)
            file.write(json.dumps([key, job.reduce(key, values)]) + "\n")
    return {"records": records, "bytes": size}
