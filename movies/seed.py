"""The first data of a bus: generated movies and interactions, or the user's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from movies import dataset
from movies.bus import Bus
from movies.data import generate, load
from movies.data.tables import Interactions
from movies.dataset import Dataset

#: Rows of one object on the bus: about 16 MB.
_BLOCK = 500_000


async def generated(bus: Bus, ratings: int, seed: int = 0) -> Dataset:
    """Publish generated data, unless the bus has some."""
    size = generate.Size.of(ratings)
    world = generate.world(size, seed)
    return await dataset.publish(bus, world.movies, gathered(generate.blocks(size, seed, world)))


async def loaded(
    bus: Bus, path: Path, scale: int | None = None, say: Callable[[str], None] = lambda _: None
) -> Dataset:
    """Publish the user's own ratings, unless the bus has some; DataError if they cannot be read.

    `say` is told what the user should know: what was changed on the way, or that nothing was read.
    """
    if there := await dataset.find(bus):
        say(f"There are movies already ({there.rows} rows): {path} was not read.")
        return there
    found = load.load(path, scale)
    for note in found.notes:
        say(note)
    rows = found.interactions
    cut = (rows.take(slice(start, start + _BLOCK)) for start in range(0, len(rows), _BLOCK))
    return await dataset.publish(bus, found.movies, cut)


def gathered(blocks: Iterable[Interactions], least: int = _BLOCK) -> Iterator[Interactions]:
    """Small blocks put together to larger ones, each ordered by time."""
    kept, rows = list[Interactions](), 0
    for block in blocks:
        kept.append(block)
        rows += len(block)
        if rows >= least:
            yield Interactions.join(kept).ordered()
            kept, rows = [], 0
    if rows:
        yield Interactions.join(kept).ordered()
