"""Exercise 12.4: one story out of many logs: JSON lines, and a trace id that every hop hands on (W3C Trace Context)."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Any

from podlab import waiting
from podlab.checks import finite
from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, Exercise, HandIn, Hint
from podlab.course.fit_for_a_cluster.room import ANSWER, LESSON, Program, Room, Unmet, played
from podlab.course.plain import Problem, short
from podlab.errors import WaitTimeout

NAME = "traced"
#: Names of the services in a row; a neighbour of ours stands at the end of it.
HOPS = ("ui", "serving", "features")
FIELDS = ("service", "trace_id", "span_id", "parent_id", "user", "status")
HEADER = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")


@dataclass
class Chain:
    """The same program three times in a row, and our neighbour at the end."""

    room: Room
    programs: list[Program]

    @classmethod
    def open(cls, room: Room) -> Chain:
        """Start the last first, since each is told where the next one is."""
        url, programs = room.neighbour("store", f"shelf {room.bench.nonce}"), list[Program]()
        for name in reversed(HOPS):
            program = room.start(SERVICE=name, NEXT_URL=url)
            programs.insert(0, program)
            url = program.url
        for program in programs:
            program.listens("/nothing")
        return cls(room, programs)

    def ask(self, user: str, header: str | None = None) -> None:
        """One request to the first; Unmet if the answer is not the neighbour's."""
        answer = self.programs[0].ask(f"/ask?user={user}", {"traceparent": header} if header else {})
        if answer.status != 200 or self.room.bench.nonce not in answer.text:
            raise Unmet(
                Problem(
                    f"GET /ask?user={user[:40]} gave {answer.shown} and {answer.text[:80]!r}",
                    "The answer of NEXT_URL is not passed on, or an error ends the request.",
                    "Ask NEXT_URL + self.path with urllib.request, and answer with what it says.",
                )
            )

    def lines(self, index: int, user: str, least: int = 1) -> list[dict[str, Any]]:
        """The log lines of one program with this user; waits until there are `least`, for a while."""
        program, found = self.programs[index], list[dict[str, Any]]()

        def enough() -> bool:
            found[:] = [line for line in read(program.written()[0]) if line.get("user") == user]
            return len(found) >= least

        try:
            waiting.until(enough, "the lines of a log", timeout=self.room.bench.deadline(ANSWER / 2), interval=0.1)
        except WaitTimeout:
            pass
        return found

    def line(self, index: int, user: str) -> dict[str, Any]:
        """The one line that a program has written about a user's request; Unmet if it is not one, or lacks fields."""
        found, out = self.lines(index, user), self.programs[index].written()[0]
        where = f"{HOPS[index]} was asked once for user {user!r}; "
        if len(found) != 1:
            last = out.strip().splitlines()[-1:] or ["nothing"]
            raise Unmet(
                Problem(
                    f"{where}its output has {len(found)} JSON lines about that. Its last line: {last[0][:200]}",
                    "The log is no JSON, a line is missing or is written twice, or goes to standard error.",
                    "print(json.dumps({...}), flush=True) once for each request to /ask.",
                )
            )
        lacks = [field for field in FIELDS if field not in found[0]]
        if lacks or found[0]["service"] != HOPS[index] or found[0]["status"] != 200:
            raise Unmet(
                Problem(
                    f"{where}its line is {short(found[0], 300)}",
                    f"Fields are missing ({', '.join(lacks)})." if lacks else "service or status is another.",
                    f"Each line has {', '.join(FIELDS)}; the status is a number.",
                )
            )
        return found[0]

    def story(self, user: str) -> list[dict[str, Any]]:
        """The lines of all hops about a user's request, in the order of the hops."""
        return [self.line(index, user) for index in range(len(HOPS))]


def read(text: str) -> list[dict[str, Any]]:
    """The lines of a log that are JSON objects."""
    return [found for line in text.splitlines() for found in finite.objects(line)]


def someone(bench: Bench) -> str:
    """A user that nobody has asked for before."""
    return f"u{bench.random.randint(10**6, 10**7)}"


def ids() -> tuple[str, str]:
    """A fresh trace id and a fresh span id."""
    return secrets.token_hex(16), secrets.token_hex(8)


def linked(story: list[dict[str, Any]], trace: str, parent: str) -> Problem | None:
    """What is wrong with the ids of a story that begins with `parent`; None if nothing is."""
    for hop, line in zip(HOPS, story, strict=True):
        if line["trace_id"] != trace:
            return Problem(
                f"the trace id {trace} came in; in the log of {hop} it is {line['trace_id']}",
                "Each hop begins a trace of its own: what is one story becomes many.",
                "Take the trace id out of the header traceparent, and send it on in the same header.",
            )
        if line["parent_id"] != parent:
            return Problem(
                f"{hop} was asked by the span {parent}; in its log the parent is {line['parent_id']}",
                "The header is handed on as it came, so nobody can see who asked whom.",
                "Make a span id of your own for each request; send 00-TRACE-YOUR SPAN-01.",
            )
        parent = line["span_id"]
        if not isinstance(parent, str) or not re.fullmatch("[0-9a-f]{16}", parent):
            return Problem(
                f"the span id in the log of {hop} is {short(parent)}",
                "A span id has 16 hexadecimal digits.",
                "secrets.token_hex(8)",
            )
    spans = [line["span_id"] for line in story]
    if len(set(spans)) < len(spans):
        return Problem(
            f"two hops have the same span id: {', '.join(spans)}",
            "The span of the caller is taken for one's own.",
            "Make a span id of your own for each request.",
        )
    return None


def stage(answer: Answer, _bench: Bench) -> str:
    """The source of the program."""
    return answer[NAME]


EXERCISE = Exercise(
    id="12.4",
    title="One story out of many logs",
    points=12,
    handed_in=(HandIn(NAME, "program"),),
    stage=stage,
    cluster=False,
    lesson=f"{LESSON}#One-story-out-of-many-logs",
    hints=(
        Hint(
            "Which of the two ids stays the same all the way, and which is new at each hop?",
            lambda situation: situation.failed("hops"),
        ),
        Hint(
            "The first in the row has no caller who sends a header. Who makes the trace id?",
            lambda situation: situation.failed("fresh"),
        ),
        Hint("traceparent is version-trace-span-flags. Whose span do you send?"),
        Hint("What does json.dumps do with a quote or a line break inside a text, and what does an f-string do?"),
        Hint("Two requests are under way at once. Where does each keep its ids?"),
    ),
    debrief=(
        "A log line alone is a clue; lines that share an id are a story, and the parents put it in order, whatever the "
        "clocks of the machines say. The format of the header is a W3C recommendation, so services that know nothing "
        "of each other can hand it on. JSON keeps what users type from becoming lines of its own. In chapter 22 the "
        "lines of many pods come into one place, and this id is what you search for. OpenTelemetry does the same, and "
        "times every step."
    ),
)


@EXERCISE.check("logs", "A line for each request", weight=2)
@played(NAME, "each program writes one JSON line about a request, with " + ", ".join(FIELDS))
def logs(room: Room, bench: Bench) -> str | Problem:
    """One request with a trace of ours."""
    chain, user, (trace, span) = Chain.open(room), someone(bench), ids()
    chain.ask(user, f"00-{trace}-{span}-01")
    return f"{len(chain.story(user))} services, one line each"


@EXERCISE.check("hops", "The same trace at every hop, in order", weight=4, needs=["logs"])
@played(NAME, "the trace id that came in is in every log; each hop's parent is the span of the one before it")
def hops(room: Room, bench: Bench) -> str | Problem:
    """Three requests, each with a trace of ours; then what our neighbour was sent."""
    chain = Chain.open(room)
    for _ in range(3):
        user, (trace, span) = someone(bench), ids()
        chain.ask(user, f"00-{trace}-{span}-01")
        story = chain.story(user)
        if problem := linked(story, trace, span):
            return problem
        path, header, *_ = room.do("seen", "store")[-1]
        match = HEADER.fullmatch(header)
        if not match or match[1] != trace or match[2] != story[-1]["span_id"]:
            return Problem(
                f"who came next was asked for {path} with traceparent {header!r}; trace {trace}, the asking span "
                f"{story[-1]['span_id']}",
                "The header is missing, or does not have the ids of the one who asks.",
                'headers={"traceparent": f"00-{trace}-{span}-01"}, with your own span.',
            )
    return "3 requests, 9 lines, every nonce found in order"


@EXERCISE.check("fresh", "Where no trace comes in, one begins", weight=2, needs=["hops"])
@played(NAME, "a request without traceparent gets a new trace id, which all hops then share")
def fresh(room: Room, bench: Bench) -> str | Problem:
    """Two requests without a header."""
    chain, traces = Chain.open(room), set[str]()
    for _ in range(2):
        user = someone(bench)
        chain.ask(user)
        story = chain.story(user)
        trace = story[0]["trace_id"]
        if not isinstance(trace, str) or not re.fullmatch("[0-9a-f]{32}", trace) or not trace.strip("0"):
            return Problem(
                f"without a header, the trace id in the log of {HOPS[0]} is {short(trace)}",
                "Nobody begins the trace.",
                "secrets.token_hex(16) where no header came in.",
            )
        traces.add(trace)
        if problem := linked(story, trace, story[0]["parent_id"]):
            return problem
    if len(traces) < 2:
        return Problem(
            f"two requests without a header have the same trace id {traces.pop()}",
            "The id is made once for the program, not once for each request.",
            "Make it where the request is answered.",
        )
    return "two requests, two new traces"
