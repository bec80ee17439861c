"""Models on the bus: an object for each, and a pointer at the one in use. Publishing happens in one step."""

from __future__ import annotations

from typing import Literal

from movies import artefact
from movies.bus import Bus
from movies.errors import ModelRefused, Unavailable
from movies.training import Model

POINTER = "model"
_PREFIX = "model-"


async def publish(bus: Bus, model: Model) -> tuple[Literal["published", "unchanged", "outrun"], str]:
    """Let the pointer name this model; `outrun` if another training did so meanwhile, whose model then stays."""
    data = artefact.write(model)
    version = artefact.version(data)
    name = _PREFIX + version
    before = await bus.pointed(POINTER)
    if before == version and await _holds(bus, name, data):
        return "unchanged", version
    await bus.put(name, data)
    if not await bus.point(POINTER, version, before):
        return "outrun", version
    if not await _holds(bus, name, data):  # another who tidied up did not see it pointed at yet
        await bus.put(name, data)
    await _tidy(bus, {version, before})
    return "published", version


async def fetch(bus: Bus, version: str) -> Model:
    """The model of a version; ModelRefused if it is no good, Unavailable if it is not there."""
    data = await bus.get(_PREFIX + version)
    if data is None:
        raise Unavailable(f"There is no model {version}.")
    model = artefact.read(data)
    if artefact.version(data) != version:
        raise ModelRefused(f"The model is damaged or another's: its bytes are those of {artefact.version(data)}.")
    return model


async def current(bus: Bus) -> Model | None:
    """The model that the pointer names, if there is one."""
    version = await bus.pointed(POINTER)
    return await fetch(bus, version) if version else None


async def _holds(bus: Bus, name: str, data: bytes) -> bool:
    """Whether an object is there, and whole."""
    try:
        return await bus.get(name) == data
    except Unavailable:  # a part of it is lost; or the broker is away, which whoever puts the object is told
        return False


async def _tidy(bus: Bus, keep: set[str | None]) -> None:
    """Forget all models but the one in use and the one before it."""
    for name in await bus.names():
        # Which one is in use is asked before each: another training may have published meanwhile.
        if name.startswith(_PREFIX) and name.removeprefix(_PREFIX) not in keep | {await bus.pointed(POINTER)}:
            await bus.drop(name)
