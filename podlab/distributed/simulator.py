"""A deterministic simulator of nodes, clocks, disks and network: one seed is one run, and thousands run a minute.

Discrete events in a heap. Whatever happens is in `Simulator.record`, a list of dictionaries with at least `time`
(true seconds, which no node can see), `event` and, where it concerns one, `node`. A node's own events also carry
`local` and `rate`, its clock at that moment, so that a checker can turn local times into true ones.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Literal

from podlab.distributed.context import Context, Message, Node
from podlab.distributed.network import Conditions, Line, several
from podlab.distributed.storage import Disk, copied
from podlab.errors import LaboratoryError, NodeFailed, UsageError

#: Events after which a run is stopped: a node that sets timers of no length would never end.
MOST_EVENTS = 2_000_000

#: Why a message did not arrive.
Reason = Literal["lost", "cut", "down"]


class _Crashed(BaseException):
    """Unwinds a handler in which the node crashes."""


class _Machine:
    """One simulated node: its code, its clock, its timers. Also the Context that its code sees."""

    def __init__(self, simulator: Simulator, name: str, make: Callable[[Context], Node]) -> None:
        self.name, self.make, self._simulator = name, make, simulator
        self.random = random.Random(f"{simulator.seed}/{name}")
        self.storage = Disk(name)
        self.node: Node | None = None
        self.life = 0
        self.timers: dict[str, int] = {}
        self.paused = self.pause_at_send = self.crash_at_send = False
        self.deferred: list[tuple[Any, ...]] = []
        self._local = self._since = 0.0
        self.rate = 1.0

    def now(self) -> float:
        return self._local + (self._simulator.time - self._since) * self.rate

    def send(self, to: str, message: Message) -> None:
        if self.crash_at_send:
            raise _Crashed
        if self.pause_at_send:
            self._simulator.pause(self.name)
        self._simulator._sent(self, to, message)

    def set_timer(self, name: str, after: float) -> None:
        if not after >= 0:
            raise UsageError(f"Timer {name!r} of {self.name} is to fire in {after!r} s; that must be 0 or more.")
        self._simulator._set_timer(self, name, after)

    def cancel_timer(self, name: str) -> None:
        self.timers.pop(name, None)

    def record(self, event: str, **fields: Any) -> None:
        self._simulator._note(event, self.name, local=self.now(), rate=self.rate, **fields)

    def set_clock(self, offset: float | None, drift: float | None) -> None:
        now = self.now()
        self._local, self._since = (now if offset is None else self._simulator.time + offset), self._simulator.time
        self.rate = self.rate if drift is None else 1.0 + drift


class Simulator:
    """Nodes in simulated time. Faults act at once; `at(time, "crash", "n1")` puts one off.

    `trace=False` leaves messages and timers out of the record (twice as fast); `tally` counts them all the same.
    """

    def __init__(self, seed: int | str = 0, conditions: Conditions | None = None, *, trace: bool = True) -> None:
        self.seed, self.trace = seed, trace
        self.time = 0.0
        self.record: list[dict[str, Any]] = []
        self.tally: Counter[str] = Counter()
        self._conditions = conditions or Conditions()
        self._special: dict[tuple[str, str], Conditions] = {}
        self._chance = random.Random(f"{seed}/network")
        self._lines: dict[tuple[str, str], Line] = {}
        self._cuts: set[tuple[str, str]] = set()
        self._slow: dict[tuple[str, str], float] = {}
        self._machines: dict[str, _Machine] = {}
        self._queue: list[tuple[Any, ...]] = []
        self._number = self._events = 0

    # What there is

    @property
    def names(self) -> list[str]:
        """The nodes in the order in which they were added."""
        return list(self._machines)

    def node(self, name: str) -> Node | None:
        """The node's present object, for a look into it; None while it is down."""
        return self._machine(name).node

    def up(self, name: str) -> bool:
        """Whether the node is running; a paused one is."""
        return self._machine(name).node is not None

    def add(self, name: str, make: Callable[[Context], Node], *, offset: float = 0.0, drift: float = 0.0) -> None:
        """Add a node, which starts with the next step; its clock is `offset` s ahead and gains `drift` s a second."""
        if name in self._machines:
            raise UsageError(f"There is a node {name!r} already.")
        machine = self._machines[name] = _Machine(self, name, make)
        machine.set_clock(offset, drift)
        self._push(self.time, "start", name, 0)

    # Running

    def step(self) -> bool:
        """Let the next event happen; False when there is none."""
        if not self._queue:
            return False
        self._events += 1
        if self._events > MOST_EVENTS:
            raise LaboratoryError(
                f"The simulation was stopped at {self.time:.3f} s after {MOST_EVENTS} events (seed {self.seed}).",
                hint="Does a node set a timer of 0 s, or answer every message with one?",
            )
        time, _, kind, *arguments = heapq.heappop(self._queue)
        self.time = time
        getattr(self, f"_do_{kind}")(*arguments)
        return True

    def step_until(self, end: float) -> bool:
        """Let the next event happen if it comes until `end`; False, with the time at `end`, if none does."""
        if self._queue and self._queue[0][0] <= end:
            return self.step()
        self.time = end
        return False

    def run(self, seconds: float) -> None:
        """Let `seconds` of simulated time pass."""
        end = self.time + seconds
        while self._queue and self._queue[0][0] <= end:
            self.step()
        self.time = end

    def run_until(self, condition: Callable[[Simulator], object], within: float) -> bool:
        """Step until `condition(simulator)` holds; False if it does not within that many simulated seconds."""
        end = self.time + within
        while not condition(self):
            if not self._queue or self._queue[0][0] > end:
                self.time = end
                return bool(condition(self))
            self.step()
        return True

    def at(self, time: float, verb: str | Callable[[], object], *arguments: Any) -> None:
        """Call at a true time to come the method `verb` (a fault), or a function."""
        action = getattr(self, verb, None) if isinstance(verb, str) else verb
        if time < self.time or action is None or str(verb).startswith("_"):
            raise UsageError(f"Nothing to do at {time!r} (now {self.time:.3f} s): {verb!r} must be a fault to come.")
        self._push(time, "call", action, arguments)

    def inject(self, to: str, message: Message, source: str = "outside") -> None:
        """Hand a node a message from outside, now and without faults."""
        self._push(self.time, "deliver", source, to, 0, copied(message, "A message from outside"))

    def act(self, name: str, action: Callable[[], None]) -> None:
        """Let `action` happen as if the node's own code did it: for code that is hosted elsewhere and answers later."""
        self._handle(self._machine(name), "hosted code", name, action)

    # Faults

    def crash(self, name: str, at: Literal["now", "put", "send"] = "now") -> None:
        """End a node; its storage stays. `at`: now, or in its next handler just after a put or before a send."""
        machine = self._machine(name)
        if machine.node is None:
            return
        if at == "now":
            self._crash(machine)
        elif at == "send":
            machine.crash_at_send = True
        else:
            machine.storage.crash_at_put = _crash_here

    def restart(self, name: str) -> None:
        """Start a node that is down, with what its storage holds."""
        machine = self._machine(name)
        machine.storage.crash_at_put, machine.crash_at_send = None, False
        if machine.node is None:
            self._push(self.time, "start", name, machine.life)

    def pause(self, name: str, at: Literal["now", "send"] = "now") -> None:
        """Freeze a node as SIGSTOP does: its clock goes on, all that is due waits. `at="send"`: at its next send."""
        machine = self._machine(name)
        machine.pause_at_send = at == "send"
        if at == "now" and machine.node is not None and not machine.paused:
            machine.paused = True
            self._note("pause", name)

    def resume(self, name: str) -> None:
        """Let a paused node go on; what was due comes now, in order."""
        machine = self._machine(name)
        machine.pause_at_send = False
        if machine.paused:
            machine.paused = False
            self._note("resume", name, deferred=len(machine.deferred))
            waiting, machine.deferred = machine.deferred, []
            for kind, *arguments in waiting:
                self._push(self.time, kind, *arguments)

    def cut(self, sources: Iterable[str], destinations: Iterable[str]) -> None:
        """Block messages from any of `sources` to any of `destinations`, in this direction only."""
        pairs = [(a, b) for a in several(sources) for b in several(destinations) if a != b]
        self._cuts.update(pairs)
        self._note("cut", None, links=[list(pair) for pair in pairs])

    def partition(self, *groups: Iterable[str]) -> None:
        """Block messages between groups, in place of all earlier cuts; the nodes not named are one more group."""
        named = [several(group) for group in groups]
        rest = [name for name in self._machines if not any(name in group for group in named)]
        self._cuts = {
            (a, b) for one in [*named, rest] for other in [*named, rest] if one is not other for a in one for b in other
        }
        self._note("partition", None, groups=[*named, rest] if rest else named)

    def slow(self, sources: Iterable[str], destinations: Iterable[str], seconds: float) -> None:
        """Delay messages from any of `sources` to any of `destinations` by `seconds` more."""
        pairs = [(a, b) for a in several(sources) for b in several(destinations) if a != b]
        self._slow.update(dict.fromkeys(pairs, seconds))
        self._note("slow", None, links=[list(pair) for pair in pairs], seconds=seconds)

    def heal(self) -> None:
        """Remove every cut, and every delay that `slow` added."""
        self._cuts.clear()
        self._slow.clear()
        self._note("heal", None)

    def network(self, conditions: Conditions, source: str | None = None, destination: str | None = None) -> None:
        """Set the conditions of one direction; with neither name given, of all."""
        if (source is None) != (destination is None):
            raise UsageError("Name both source and destination of a direction, or neither for all of them.")
        if source is None or destination is None:
            self._conditions, self._special = conditions, {}
        else:
            self._special[source, destination] = conditions
        self._note("network", source, destination=destination, conditions=conditions.__dict__)

    def clock(self, name: str, *, offset: float | None = None, drift: float | None = None) -> None:
        """Change a node's clock: `offset` seconds ahead of true time from now on, gaining `drift` s a second."""
        machine = self._machine(name)
        machine.set_clock(offset, drift)
        self._note("clock", name, local=machine.now(), rate=machine.rate)

    # Inside

    def _machine(self, name: str) -> _Machine:
        try:
            return self._machines[name]
        except KeyError:
            raise UsageError(f"There is no node {name!r}; there are {', '.join(self._machines) or 'none'}.") from None

    def _push(self, time: float, kind: str, *arguments: Any) -> None:
        self._number += 1
        heapq.heappush(self._queue, (time, self._number, kind, *arguments))

    def _note(self, event: str, node: str | None, **fields: Any) -> None:
        fields.update(time=self.time, event=event)
        if node is not None:
            fields["node"] = node
        self.record.append(fields)

    def _sent(self, machine: _Machine, to: str, message: Message) -> None:
        if to not in self._machines:
            raise UsageError(f"{machine.name} sends to {to!r}, which is no node.")
        self._do_send(machine.name, to, copied(message, f"A message from {machine.name}"), machine.life)

    def _do_send(self, source: str, to: str, message: Message, life: int) -> None:
        machine = self._machines[source]
        if machine.paused:  # caught between deciding and sending
            machine.deferred.append(("send", source, to, message, life))
            return
        if life != machine.life:  # crashed before the system call was made
            return
        self._number += 1
        number, pair = self._number, (source, to)
        self.tally["sent"] += 1
        if self.trace:
            self._note("send", source, to=to, id=number, message=message)
        line = self._lines.get(pair) or self._lines.setdefault(pair, Line())
        sent = self.time + self._slow.get(pair, 0.0)
        fate = line.fate(sent, self._special.get(pair, self._conditions), self._chance)
        for name in fate.names:
            self.tally[name] += 1
        if pair in self._cuts:
            self._dropped(source, to, number, "cut")
            return
        if not fate.arrivals:
            self._dropped(source, to, number, "lost")
        for arrival in fate.arrivals:
            self._push(arrival, "deliver", source, to, number, message)

    def _do_deliver(self, source: str, to: str, number: int, message: Message) -> None:
        machine = self._machines[to]
        node = machine.node
        if (source, to) in self._cuts:
            self._dropped(source, to, number, "cut")
        elif node is None:
            self._dropped(source, to, number, "down")
        elif machine.paused:
            self._defer(machine, "deliver", source, to, number, message)
        else:
            self.tally["delivered"] += 1
            if self.trace:
                self._note("deliver", to, source=source, id=number, message=message)
            received = copied(message, "A message")
            self._handle(machine, "the message", message, lambda: node.receive(source, received))

    def _dropped(self, source: str, to: str, number: int, reason: Reason) -> None:
        if reason != "lost":
            self.tally[reason] += 1
        if self.trace:
            self._note("drop", to, source=source, id=number, reason=reason)

    def _set_timer(self, machine: _Machine, name: str, after: float) -> None:
        self._number += 1
        number = machine.timers[name] = self._number
        due = self.time + after / machine.rate
        if self.trace:
            self._note("set", machine.name, timer=name, due=due)
        self._push(due, "timer", machine.name, name, number)

    def _do_timer(self, node: str, name: str, number: int) -> None:
        machine = self._machines[node]
        code = machine.node
        if code is None or machine.timers.get(name) != number:
            return
        if machine.paused:
            self._defer(machine, "timer", node, name, number)
            return
        del machine.timers[name]
        if self.trace:
            self._note("timer", node, timer=name)
        self._handle(machine, "the timer", name, lambda: code.timer(name))

    def _do_start(self, name: str, life: int) -> None:
        machine = self._machines[name]
        if machine.node is None and machine.life == life:
            self._note("start" if life == 0 else "restart", name)

            def start() -> None:
                machine.node = machine.make(machine)
                machine.node.start()

            self._handle(machine, "its start", life, start)

    def _do_call(self, action: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        action(*arguments)

    def _defer(self, machine: _Machine, *event: Any) -> None:
        self.tally["deferred"] += 1
        machine.deferred.append(event)

    def _crash(self, machine: _Machine) -> None:
        machine.life += 1
        machine.node, machine.paused, machine.deferred = None, False, []
        machine.pause_at_send = machine.crash_at_send = False
        machine.storage.crash_at_put = None
        machine.timers.clear()
        self._note("crash", machine.name)

    def _handle(self, machine: _Machine, what: str, which: Any, handler: Callable[[], None]) -> None:
        try:
            handler()
        except _Crashed:
            self._crash(machine)
        except LaboratoryError:
            raise
        except Exception as error:
            raise NodeFailed(
                f"Node {machine.name} raised {type(error).__name__}: {error} while handling {what} {which!r:.300} "
                f"at {self.time:.3f} s (seed {self.seed})."
            ) from error


def _crash_here() -> None:
    raise _Crashed


def fingerprint(record: list[dict[str, Any]]) -> str:
    """A digest of a whole record: equal exactly if two runs went the same way."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
