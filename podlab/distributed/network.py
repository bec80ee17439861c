"""What a network does to messages, as a pure function of conditions and chance; simulator and proxy share it."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

from podlab.errors import UsageError


@dataclass(frozen=True)
class Conditions:
    """Of one direction between two nodes. Probabilities from 0 to 1, times in seconds.

    `delay` is drawn evenly between two bounds. Messages keep their order, except that a share `reorder` of them
    is held back by up to `hold` seconds more, while later ones pass.
    """

    loss: float = 0.0
    duplication: float = 0.0
    delay: tuple[float, float] = (0.001, 0.005)
    reorder: float = 0.0
    hold: float = 0.1

    def __post_init__(self) -> None:
        for name in ("loss", "duplication", "reorder"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UsageError(f"{name} is {getattr(self, name)!r}; a probability lies between 0 and 1.")
        low, high = self.delay
        if not 0.0 <= low <= high:
            raise UsageError(f"delay is {self.delay!r}; it must be (least, most) with 0 <= least <= most, in seconds.")
        if self.hold < 0.0:
            raise UsageError(f"hold is {self.hold!r}; it must not be negative.")


@dataclass(frozen=True, slots=True)
class Fate:
    """What happens to one message: `arrivals` are times (none: lost, two: duplicated); `held` if it was passed."""

    arrivals: tuple[float, ...]
    held: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """What happened in words: lost, duplicated, held."""
        told: tuple[str, ...] = () if self.arrivals else ("lost",)
        told += ("duplicated",) if len(self.arrivals) > 1 else ()
        return told + (("held",) if self.held else ())


LOST = Fate(())


class Line:
    """One direction between two nodes; remembers the last arrival so that messages keep their order."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = 0.0

    def fate(self, now: float, conditions: Conditions, chance: random.Random) -> Fate:
        """The fate of a message sent at `now`. Draws the same number of chances whatever happens.

        So the n-th message of a line meets the same fate in every run of a seed, whenever it is sent.
        """
        lost = chance.random() < conditions.loss
        twice = chance.random() < conditions.duplication
        held = chance.random() < conditions.reorder
        low, high = conditions.delay
        first, second = (now + low + (high - low) * chance.random() for _ in range(2))
        extra = conditions.hold * chance.random()
        if lost:
            return LOST
        if held:
            first += extra
        else:
            self._last = first = max(first, self._last)
        return Fate((first, max(first, second) + extra) if twice else (first,), held)


def several(names: Iterable[str]) -> list[str]:
    """Names as a list; a single name may stand for itself."""
    return [names] if isinstance(names, str) else list(names)
