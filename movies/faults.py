"""Faults that a laboratory switches on in a running service, to see what the others do.

    slow=SECONDS       every answer takes so much longer
    failing=SHARE      this share of requests gets status 500
    wedged=1           nothing is answered any more, health included, as in a deadlock
    unready=1          the service says that it is not ready, but works
    leaking=BYTES      every request keeps so many bytes for ever

They come from MOVIES_FAULT at the start, or from PUT /faults if MOVIES_FAULTS is 1.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field

from movies.errors import ConfigError


class Switches(BaseModel):
    """Which faults are on, and how much."""

    model_config = ConfigDict(extra="forbid")

    slow: float = Field(0.0, ge=0, le=120, description="seconds added to every answer")
    failing: float = Field(0.0, ge=0, le=1, description="share of requests answered with status 500")
    wedged: bool = Field(False, description="answer nothing, health included")
    unready: bool = Field(False, description="say that the service is not ready")
    leaking: int = Field(0, ge=0, le=100_000_000, description="bytes kept by every request")


def parse(text: str) -> Switches:
    """Switches from `slow=0.5,failing=0.1`; ConfigError if that is not what it is."""
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    try:
        return Switches.model_validate({name.strip(): value.strip() for name, _, value in pairs})
    except ValueError as error:
        raise ConfigError(f"MOVIES_FAULT={text!r} cannot be used: {error}") from error


@dataclass
class Faults:
    """The switches of one service, and how often each has bitten: a fault that never bit proves nothing."""

    switches: Switches = field(default_factory=Switches)
    bitten: dict[str, int] = field(default_factory=dict)
    _leaked: list[bytearray] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def set(self, switches: Switches) -> None:
        """Change the switches; requests that hang in a wedged service go on if it is not wedged any more."""
        self.switches = switches
        if not switches.leaking:
            self._leaked.clear()
        self._changed.set()
        self._changed = asyncio.Event()

    def release(self) -> None:
        """No more faults: the service is ending."""
        self.set(Switches())

    def report(self) -> dict[str, object]:
        """Switches, and how often they have bitten."""
        return self.switches.model_dump() | {"bitten": dict(self.bitten)}

    def _bite(self, name: str) -> None:
        self.bitten[name] = self.bitten.get(name, 0) + 1

    async def wedge(self) -> None:
        """Return when the service is not wedged."""
        if self.switches.wedged:
            self._bite("wedged")
        while self.switches.wedged:
            await self._changed.wait()

    async def strike(self) -> bool:
        """Let the faults of one request happen; returns whether it must fail."""
        if self.switches.leaking:
            self._bite("leaking")
            self._leaked.append(bytearray(b"x" * self.switches.leaking))
        if self.switches.slow:
            self._bite("slow")
            await _within(self._changed, self.switches.slow)
        if self.switches.failing and random.random() < self.switches.failing:
            self._bite("failing")
            return True
        return False


async def _within(changed: asyncio.Event, seconds: float) -> None:
    """Let seconds pass, or less if the switches are changed."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await changed.wait()
