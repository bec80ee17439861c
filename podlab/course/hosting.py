"""Nodes that a learner has written, in a process of their own, in many simulated runs at a time.

The simulators with their clocks, network, disks and faults stay with the checker; the process of the learner's code
gets what happens to a node, and answers with what the node does. A batch holds the next event of every run, so that
many thousand events cost few messages. Each node has the learner's cell to itself: what one keeps in a global name or
in its class, the others do not see. Who wants to, finds them all the same, and what an earlier life has kept: so some
lives are lived once more by themselves, with all that they were told, and have to do what they did (`Fleet.relive`).
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from podlab.checks.bench import Bench
from podlab.checks.contract import Json
from podlab.checks.talks import Talk, TalkEnded
from podlab.course.plain import Problem
from podlab.distributed.context import Context, Message, Node
from podlab.distributed.simulator import Simulator
from podlab.distributed.storage import Disk
from podlab.errors import LaboratoryError, NodeFailed

#: Events that one node's code may cause in one run: far more than any sensible node needs.
MOST_EVENTS = 6_000

#: Lives that are lived once more.
RELIVED = 40

#: Stands before the learner's source, one line: the course's own election is not at hand.
_BEFORE = "import sys as _sys; _sys.modules['podlab.distributed.election'] = None\n"

#: Follows it: a context that notes what a node does, and the cell once for each name, with its lines where they were.
_AFTER = """
import copy as _copy, json as _json, random as _random, types as _types


class _Disk:
    def __init__(self, context, values):
        self.context, self.values = context, values

    def get(self, key, default=None):
        return _copy.deepcopy(self.values.get(key, default))

    def put(self, **values):
        values = _json.loads(_json.dumps(values))
        self.values.update(values)
        self.context.done.append(["put", values])


class _Context:
    def __init__(self, name, seed, values):
        self.name, self.random, self.storage = name, _random.Random(seed), _Disk(self, values)
        self.time, self.done = 0.0, []

    def now(self):
        return self.time

    def send(self, to, message):
        self.done.append(["send", to, _json.loads(_json.dumps(message))])

    def set_timer(self, name, after):
        self.done.append(["set", name, float(after)])

    def cancel_timer(self, name):
        self.done.append(["cancel", name])

    def record(self, event, **fields):
        self.done.append(["record", event, fields])


_nodes, _spaces, _at = {}, {}, [""]


def _space(name):
    if name not in _spaces:
        module = _sys.modules["answer_" + name] = _types.ModuleType("answer_" + name)
        exec(compile("\\n" + _source, "<answer>", "exec"), vars(module))
        _spaces[name] = vars(module)
    return _spaces[name]


def _happened(kind, batch):
    answers = []
    for run, name, now, what, first, second in batch:
        if what == "start":
            seed, arguments = second
            context = _Context(name, seed, first)
            context.time, _at[0] = now, f"{kind}.start() of {name}"
            node = _nodes[run, name] = _space(name)[kind](context, *arguments)
            node.start()
        else:
            node = _nodes[run, name]
            context = node.context
            context.time = now
            _at[0] = f"{kind}.{what}({first!r}{'' if second is None else f', {second!r}'}) of {name}"
            node.timer(first) if what == "timer" else node.receive(first, second)
        answers.append(context.done)
        context.done = []
    return answers


def _where():
    return _at[0]


def _forget():
    _nodes.clear()
"""


class Stopped(Exception):
    """Raised when the learner's node cannot be run on; `problem` says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.observed)
        self.problem = problem


class Fleet:
    """A process with the learner's class `kind`, made with `arguments` after its context. Close it, or use `with`."""

    def __init__(self, bench: Bench, source: str, kind: str, arguments: Sequence[Json]) -> None:
        self.kind, self.arguments = kind, list(arguments)
        self._stack = ExitStack()
        self._bench, self._whole = bench, f"{_BEFORE}{source}\n_source = {source!r}\n{_AFTER}"
        self._lives: list[_Life] = []
        self._talk: Talk = self._stack.enter_context(bench.talk(self._whole, seconds=10))

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._stack.close()

    def make(self, context: Context) -> Node:
        """What a simulator is given to make a node: a stand-in for the learner's."""
        return _StandIn(context, self.arguments)

    def run(self, simulators: Iterable[Simulator], seconds: float) -> None:
        """Run all simulators to `seconds`, side by side. Raises Stopped or TalkEnded for what the code cannot do."""
        chance = random.Random(self._bench.nonce)  # nothing that the learner's code could know before
        runs = [_Run(str(n), one, seconds, chance.choice(one.names)) for n, one in enumerate(simulators)]
        active = runs
        try:
            while active := [run for run in active if run.advance()]:
                self._answer(active)
        finally:
            self._talk.call("_forget")
        self._lives = [run.life for run in chance.sample(runs, min(RELIVED, len(runs)))]

    def relive(self) -> None:
        """End the process, and live the last life of one node of some runs again where nothing of the others is left.

        Raises Stopped if one of them does anything else than it did, or TalkEnded.
        """
        self.close()
        self._bench.afresh()
        told = [[life.run, *event] for life in self._lives for event, _ in life.lived()]
        with self._bench.talk(self._whole, seconds=60) as talk:
            called = talk.call("_happened", self.kind, told)
        if not called.ok and called.kind != "raised":
            raise TalkEnded(called, self.kind)
        does = iter(called.value if called.ok else ())
        for life in self._lives:
            for event, did in life.lived():
                if next(does, None) != did:
                    raise Stopped(_otherwise(life, event, called.error))

    def _answer(self, runs: Sequence[_Run]) -> None:
        """Ask about every run, in each of which one node is to move, and let happen what the nodes do."""
        called = self._talk.call("_happened", self.kind, [[run.number, *run.question] for run in runs])
        if not called.ok:
            place = self._talk.call("_where")
            raise TalkEnded(called, str(place.value) if place.ok and place.value else self.kind)
        for run, effects in zip(runs, called.value, strict=True):
            run.apply(effects)


class _StandIn(Node):
    """In the simulator in place of the learner's node: notes what happens, to be asked about."""

    def __init__(self, context: Context, arguments: Sequence[Json]) -> None:
        super().__init__(context)
        self.arguments = arguments
        self.question: tuple[Any, ...] | None = None

    def _note(self, what: str, first: Json, second: Json = None) -> None:
        self.question = (self.context.name, self.context.now(), what, first, second)

    def start(self) -> None:
        seed, disk = f"{self.context.random.random()}", self.context.storage
        assert isinstance(disk, Disk)
        self._note("start", disk.values, [seed, list(self.arguments)])

    def receive(self, source: str, message: Message) -> None:
        self._note("receive", source, message)

    def timer(self, name: str) -> None:
        self._note("timer", name)


class _Life:
    """What has happened to a node since it was started last, and what it did each time, as JSON."""

    def __init__(self, run: str, seed: object) -> None:
        self.run, self.seed = run, seed
        self._lines: list[str] = []

    def note(self, question: Sequence[Any], did: Sequence[Any]) -> None:
        """Another event, and what came of it. A start begins anew."""
        if question[2] == "start":
            self._lines.clear()
        self._lines.append(json.dumps([question, did]))

    def lived(self) -> Iterable[tuple[Any, Any]]:
        """Each event with what the node did."""
        return map(json.loads, self._lines)


def _otherwise(life: _Life, event: Sequence[Any], error: str) -> Problem:
    name, now, what, first, _ = event
    call = f"{what}({'' if what == 'start' else repr(first)})"
    return Problem(
        f"in the run with seed {life.seed}, at {call} at {now:.2f} s of its clock, {name} did something else than when "
        f"it lived once more, by itself and with all that it had been told{error and f': then it {error}'}",
        "It knows more than its messages, its timers and its disk tell it: from what another node or an earlier life "
        "has kept in memory or in a file, or by a clock or by dice of its own.",
        "Keep what a life needs in self, and what the next one needs in self.context.storage; self.context has a clock "
        "and random numbers.",
    )


class _Run:
    """One simulator on its way to `end`, with the question that keeps it waiting, and the life of one node."""

    def __init__(self, number: str, simulator: Simulator, end: float, watched: str) -> None:
        self.number, self.simulator, self.end, self.watched = number, simulator, end, watched
        self.life = _Life(number, simulator.seed)
        self.question: tuple[Any, ...] = ()
        self.events = 0

    def advance(self) -> bool:
        """Step until a node of the learner's is to move; False at the end of the run."""
        self.question = ()
        while not self.question:
            if not self.simulator.step_until(self.end):
                return False
            self.question = self._asked()
        self.events += 1
        if self.events > MOST_EVENTS:
            raise Stopped(
                Problem(
                    f"a run was stopped at {self.simulator.time:.2f} s after {MOST_EVENTS} events",
                    "A timer of no length is set again and again, or every message is answered with a message.",
                    "Which timer does each handler set, and for how long?",
                )
            )
        return True

    def _asked(self) -> tuple[Any, ...]:
        """The question that the last step has brought up; one step moves one node at most."""
        for name in self.simulator.names:
            node = self.simulator.node(name)
            if isinstance(node, _StandIn) and node.question:
                question, node.question = node.question, None
                return question
        return ()

    def apply(self, effects: Sequence[Sequence[Any]]) -> None:
        """Let what the node has done happen to the simulator."""
        name: str = self.question[0]
        if name == self.watched:
            self.life.note(self.question, effects)
        node = self.simulator.node(name)
        if node is None:
            return
        context = node.context

        def act() -> None:
            for what, *arguments in effects:
                _EFFECTS[what](context, *arguments)

        try:
            self.simulator.act(name, act)
        except (NodeFailed, LaboratoryError) as error:
            raise Stopped(
                Problem(
                    f"in a run with seed {self.simulator.seed}: {error.message}",
                    "The node does something that no node can do.",
                    "Look at the arguments of send, set_timer and put.",
                )
            ) from None


#: What a node may tell of itself, and the field with a number in it.
_TOLD = {"lease": ("term", "until"), "released": ("term",), "candidate": ("term",), "voted": ("term",)}


def _record(context: Context, event: str, fields: Mapping[str, Any]) -> None:
    wanted = _TOLD.get(event, ())
    values: dict[str, Any] = {key: fields.get(key) for key in wanted}
    if any(type(value) not in (int, float) or not math.isfinite(value) for value in values.values()):
        raise LaboratoryError(f"record({event!r}, ...) needs numbers for {', '.join(wanted)}, not {fields!r}.")
    if wanted:
        context.record(event, **values, **({"choice": str(fields["choice"])} if "choice" in fields else {}))


_EFFECTS: dict[str, Callable[..., None]] = {
    "send": lambda context, to, message: context.send(to, message),
    "set": lambda context, name, after: context.set_timer(name, after),
    "cancel": lambda context, name: context.cancel_timer(name),
    "put": lambda context, values: context.storage.put(**values),
    "record": _record,
}
