"""Fixtures: a machine as the user who runs the tests and, where that is root, as nobody too."""

from __future__ import annotations

import os
from typing import ClassVar

import pytest
from plain_room import PlainNode, PlainRoom, open_plain_room, plain_runtime
from sandbox_room import NOBODY, Node, Room, close_room, open_room

from podlab.node.runtime.sandbox.client import SandboxRuntime


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out for the plain runtime what only namespaces give; the mark says what that is."""
    for item in items:
        mark = item.get_closest_marker("namespaces")
        if mark and "plain" in getattr(item, "callspec", _None).params.values():
            item.add_marker(pytest.mark.skip(reason=f"only the sandbox: {mark.args[0]}"))


class _None:
    params: ClassVar[dict] = {}


@pytest.fixture(scope="session", params=["own user", "nobody", "plain"])
def user(request: pytest.FixtureRequest) -> int | str | None:
    """The user as whom a room is started: None for the one who runs the tests; "plain" for one without namespaces."""
    if request.param == "plain":
        return "plain"
    if request.param == "nobody":
        if os.geteuid() != 0:
            pytest.skip("only root can become another user; the tests run as an ordinary user already")
        return NOBODY
    return None


@pytest.fixture(scope="session")
def room(user: int | str | None):
    """A room that all tests share."""
    room = open_plain_room() if isinstance(user, str) else open_room(user)
    yield room
    close_room(room)


@pytest.fixture
async def node(room: Room):
    """The shared machine, with a client of this test's own; what the test made is removed at its end."""
    plain = isinstance(room, PlainRoom)
    runtime = plain_runtime(room) if plain else SandboxRuntime(room.socket())
    node = (PlainNode if plain else Node)(room, runtime)
    yield node
    await node.clean()
    await runtime.close()
