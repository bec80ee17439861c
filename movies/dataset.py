"""What the log starts from: the catalogue and a history of interactions, objects of the bus that are published once.

A pointer names a manifest, the manifest names the parts: whoever reads it sees all of the data set or none of it.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import asdict, dataclass

from movies import snapshot
from movies.bus import Bus
from movies.data.tables import Interactions, Movie
from movies.errors import DataError

POINTER = "dataset"


@dataclass(frozen=True)
class Dataset:
    """The catalogue, and the names of the objects that hold the history."""

    version: str
    movies: tuple[Movie, ...]
    parts: tuple[str, ...]
    rows: int


async def publish(bus: Bus, movies: Iterable[Movie], history: Iterable[Interactions]) -> Dataset:
    """Publish a data set unless there is one; returns the one that counts. Memory: one block of the history."""
    if found := await find(bus):
        return found
    parts, rows = list[str](), 0
    for block in history:
        parts.append(await _put(bus, "history", snapshot.write(block)))
        rows += len(block)
    listed = json.dumps([asdict(movie) for movie in movies], ensure_ascii=False).encode()
    catalogue = await _put(bus, "catalogue", gzip.compress(listed, mtime=0))
    manifest = json.dumps({"catalogue": catalogue, "parts": parts, "rows": rows}).encode()
    await bus.point(POINTER, await _put(bus, "dataset", manifest), None)
    found = await find(bus)
    if found is None:
        raise DataError("The data set was published, but is not there.")
    return found


async def find(bus: Bus) -> Dataset | None:
    """The data set of a bus, if there is one."""
    name = await bus.pointed(POINTER)
    manifest = await bus.get(name) if name else None
    if not name or manifest is None:
        return None
    told = json.loads(manifest)
    listed = await bus.get(told["catalogue"])
    if listed is None:
        raise DataError(f"The data set {name} has lost its catalogue {told['catalogue']}.")
    movies = tuple(Movie(**one | {"genres": tuple(one["genres"])}) for one in json.loads(gzip.decompress(listed)))
    return Dataset(name.removeprefix("dataset-"), movies, tuple(told["parts"]), told["rows"])


async def history(bus: Bus, dataset: Dataset) -> AsyncIterator[Interactions]:
    """The history, a block at a time."""
    for name in dataset.parts:
        data = await bus.get(name)
        if data is None:
            raise DataError(f"The data set {dataset.version} has lost its part {name}.")
        yield snapshot.read(data)


async def _put(bus: Bus, kind: str, data: bytes) -> str:
    name = f"{kind}-{hashlib.sha256(data).hexdigest()[:12]}"
    await bus.put(name, data)
    return name
