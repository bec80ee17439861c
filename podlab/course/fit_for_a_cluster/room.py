"""The checker's side of the room in which a learner's program runs: see podlab/course/programs/room.py."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import wraps
from importlib import resources
from typing import Any, NamedTuple

from podlab.checks.bench import Bench
from podlab.checks.contract import CheckFunction, Inconclusive, Json
from podlab.checks.talks import TalkEnded
from podlab.course.plain import Problem, judged

LESSON = "notebooks/12-fit-for-a-cluster.ipynb"
_PROGRAM = resources.files("podlab.course").joinpath("programs/room.py")
#: Seconds that a program has to begin to listen, and that an answer may take, on an idle machine.
START, ANSWER = 10.0, 8.0


class Unmet(Exception):
    """Raised within a check where the program cannot be looked at any further; `problem` says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.observed)
        self.problem = problem


class Answered(NamedTuple):
    """One answer; status 0: none came, and `error` says why. Times are seconds of one clock."""

    status: int
    text: str
    error: str
    began: float
    ended: float
    kind: str

    @property
    def shown(self) -> str:
        """The answer in words."""
        if self.status:
            return f"status {self.status}"
        return {"ConnectionRefusedError": "nobody listens", "TimeoutError": "no answer came in time"}.get(
            self.error, f"the connection broke ({self.error})"
        )


#: There is nobody but the program who could do it.
ENDED = Problem(
    "while the program ran, the process that had started it was ended",
    "The program sends a signal to its parent, its group or everybody (0 or -1 in os.kill), or takes all memory.",
    "Let it end itself only, by returning or with sys.exit, and keep only what it needs.",
)


class Room(AbstractContextManager["Room"]):
    """A room with the learner's program in it: `source`, of which `entry` is called in processes of their own."""

    def __init__(self, bench: Bench, source: str, entry: str) -> None:
        self.bench, self.source, self.entry = bench, source, entry
        self._talk = bench.ours(_PROGRAM.read_text(), seconds=90)
        self._numbers = itertools.count(1)
        self._begun = False

    def __enter__(self) -> Room:
        self._talk.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._talk.__exit__(*error)

    def do(self, name: str, *arguments: Json) -> Json:
        """Ask the room for one thing. What goes wrong there is not the answer's fault, but its end is: Unmet."""
        try:
            return self._talk.ask(name, *arguments)
        except TalkEnded as ended:
            if self._begun and ended.called.kind == "ended":
                raise Unmet(ENDED) from ended
            raise Inconclusive(f"the room of the program did not do {name}: {ended.called.error[:300]}") from ended

    def start(self, **environment: object) -> Program:
        """Start the program, with a port of its own in PORT unless `environment` says otherwise."""
        port = self.do("free_port")
        program = Program(self, f"program-{next(self._numbers)}", port)
        told = {"PORT": port, **environment}
        self._begun = True
        self.do("start", program.name, self.source, self.entry, {k: f"{v}" for k, v in told.items() if v is not None})
        return program

    def serve(self, path: str, **environment: object) -> Program:
        """Start the program and wait until it answers; Unmet if it ends, or does not listen."""
        program = self.start(**environment)
        program.listens(path)
        return program

    def neighbour(self, name: str, text: str = "") -> str:
        """Open a service of ours on which the program depends: its URL."""
        return f"http://127.0.0.1:{self.do('neighbour', name, text)}"

    def behave(self, name: str, mode: str, status: int = 200) -> None:
        """Change what a neighbour does: answers, fails, holds or away."""
        self.do("behave", name, mode, status)

    def hold(self, name: str, count: int, what: str) -> None:
        """Return when a neighbour holds `count` requests; Unmet if they do not come."""
        if not self.do("held", name, count, self.bench.deadline(ANSWER)):
            raise Unmet(
                Problem(
                    f"{what} was asked, and did not ask its neighbour",
                    "The program answers by itself, or one request has to wait for another.",
                    "Ask the neighbour for each request, and answer each request in a thread of its own.",
                )
            )

    def result(self, key: str, seconds: float = ANSWER) -> Answered | None:
        """The answer to a request that was begun; None if none has come."""
        found = self.do("result", key, self.bench.deadline(seconds))
        return Answered(*found) if found else None


class Program:
    """One process of the learner's program."""

    def __init__(self, room: Room, name: str, port: int) -> None:
        self.room, self.name, self.port = room, name, port
        self._asked = itertools.count(1)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def listens(self, path: str) -> Answered:
        """Its first answer to `path`, whatever the status; Unmet if none comes."""
        found = self.ask_until(path, tuple(range(100, 600)), START)
        if found.status:
            return found
        raise Unmet(self.silent(found))

    def silent(self, found: Answered) -> Problem:
        """Why there is no answer: it has ended, or it does not listen."""
        status = self.ended(0)
        if status is None:
            return Problem(
                f"the program runs, and on the port that PORT names {found.shown}",
                "It listens on another port, or does something else before it listens.",
                'Listen on 127.0.0.1 and int(os.environ["PORT"]).',
            )
        told = self.complaint()
        if "NotImplementedError" in told:
            return Problem(
                f"{self.room.entry}() is not written yet",
                "The cell still says that it is not implemented.",
                "Write the program in place of the line that raises NotImplementedError.",
            )
        return Problem(
            f"the program ended with status {status}" + (f"; its last words: {told}" if told else ""),
            "An error ends it, or it has nothing that keeps it going.",
            "Run the function in a process of its own with the same variables, and read what it says.",
        )

    def ask(self, path: str, headers: Mapping[str, str] | None = None, seconds: float = ANSWER) -> Answered:
        """Ask over a new connection."""
        return Answered(*self.room.do("ask", self.port, path, dict(headers or {}), self.room.bench.deadline(seconds)))

    def ask_until(self, path: str, wanted: tuple[int, ...], seconds: float = ANSWER) -> Answered:
        """Ask until the status is one of `wanted`, or the time is over: the last answer."""
        limit = self.room.bench.deadline(seconds)
        return Answered(*self.room.do("ask_until", self.name, self.port, path, list(wanted), limit))

    def begin(self, path: str, headers: Mapping[str, str] | None = None) -> str:
        """Ask without waiting for the answer: the key for `Room.result`."""
        key = f"{self.name}-{next(self._asked)}"
        self.room.do("begin", key, self.port, path, dict(headers or {}))
        return key

    def ended(self, seconds: float) -> int | None:
        """Its exit status, if it ends within some seconds."""
        return self.room.do("ended", self.name, self.room.bench.deadline(seconds) if seconds else 0.05)

    def tell(self) -> float:
        """Send SIGTERM; the moment, on the clock of all answers."""
        return self.room.do("tell", self.name)

    def written(self) -> tuple[str, str]:
        """What it has written to standard output and to standard error."""
        out, err = self.room.do("written", self.name)
        return out, err

    def complaint(self) -> str:
        """The last line of its standard error, cut."""
        lines = self.written()[1].strip().splitlines()
        return lines[-1][:300] if lines else ""


def played(entry: str, expected: str) -> Callable[[Callable[[Room, Bench], str | Problem]], CheckFunction]:
    """Decorator of a check that plays with the program in a room of its own; see podlab.course.plain.judged."""

    def wrap(function: Callable[[Room, Bench], str | Problem]) -> CheckFunction:
        @judged(expected)
        @wraps(function)
        def check(source: Any, bench: Bench) -> str | Problem:
            with Room(bench, source, entry) as room:
                try:
                    return function(room, bench)
                except Unmet as unmet:
                    return unmet.problem

        return check

    return wrap
