"""The contract between a node's code and whatever runs it: the simulator, or a real process.

A node reacts to three things (it starts, a message arrives, a timer fires) and touches the world through its
context only: no clock, socket, file, thread or unseeded chance of its own. So one seed replays one run.
Iterate over lists, not over sets of strings: their order differs from one interpreter to the next.
"""

from __future__ import annotations

import random
from typing import Any, Protocol

#: What nodes send each other: whatever JSON can carry, as a dictionary.
Message = dict[str, Any]


class Storage(Protocol):
    """A node's disk: what was put is still there after a crash."""

    def get(self, key: str, default: Any = None) -> Any:
        """The value last put under `key`."""

    def put(self, **values: Any) -> None:
        """Store all `values` (JSON) at once; they are durable when this returns."""


class Context(Protocol):
    """All that a node may use. Times are in seconds on the node's own clock, which may be off and may drift."""

    name: str
    random: random.Random

    @property
    def storage(self) -> Storage:
        """The node's disk."""

    def now(self) -> float:
        """The node's own clock. It never runs backwards; two nodes' clocks need not agree."""

    def send(self, to: str, message: Message) -> None:
        """Send without waiting. The message may be lost, late, out of order or twice there."""

    def set_timer(self, name: str, after: float) -> None:
        """Have `Node.timer(name)` called in `after` seconds; replaces a timer of the same name."""

    def cancel_timer(self, name: str) -> None:
        """Forget a timer, if it is set."""

    def record(self, event: str, **fields: Any) -> None:
        """Add an event to the run's record, for checkers and pictures. Nodes cannot read it."""


class Node:
    """Base of a node: override what it reacts to. A restarted node is a new object; only storage is left."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def start(self) -> None:
        """Called once, first, in every life of the node."""

    def receive(self, source: str, message: Message) -> None:
        """Called for every message that arrives."""

    def timer(self, name: str) -> None:
        """Called when the timer `name` fires."""
