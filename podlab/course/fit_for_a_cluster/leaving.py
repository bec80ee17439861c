"""Exercise 12.3: a program that is told to end, and loses no request: real signals, real requests under way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from podlab import waiting
from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, Exercise, HandIn, Hint, Inconclusive, Json
from podlab.course.fit_for_a_cluster.room import LESSON, Answered, Program, Room, played
from podlab.course.plain import Problem
from podlab.widgets.timeline import Bar, Mark, kept

NAME = "drained"
#: Seconds for which the program goes on answering after SIGTERM, and how long what is under way may then take.
DRAIN, STOP = 1.0, 20.0
#: How many times as long as it should an end may take.
FACTOR = 8
#: Requests before SIGTERM, clients, and the part of the drain that the news takes to the last client.
BEFORE, CLIENTS, LAG = 40, 4, 0.6
#: What began later than this part of the drain proves nothing: no answer was promised to it.
SURE = 0.8
#: Failed requests that a picture shows.
MOST_SHOWN = 40
#: Looks in a drain, and how few of them must be in its sure part: whoever stops to listen at once may be a moment late.
PACE, LOOKS = 20, 5


def opened(room: Room, stop: float = STOP) -> Program:
    """A program that answers; its drain and its stop are stretched to this machine."""
    url = room.neighbour("features", f"shelf {room.bench.nonce}")
    return room.serve(
        "/readyz", FEATURES_URL=url, DRAIN_SECONDS=room.bench.deadline(DRAIN), STOP_SECONDS=room.bench.deadline(stop)
    )


def served(room: Room, answer: Answered | None) -> bool:
    """Whether an answer is the neighbour's."""
    return bool(answer and answer.status == 200 and answer.text.strip() == f"shelf {room.bench.nonce}")


def too_late(error: str, after: float, drain: float) -> bool:
    """Whether a failure so long after SIGTERM may be a connection that a starved client made after the drain."""
    return error != "TimeoutError" and after > SURE * drain


def closed(room: Room, program: Program) -> Answered:
    """The last answer after waiting for the listener to close: status 0 if it has."""
    return program.ask_until("/readyz", (0,), FACTOR * DRAIN)


def stage(answer: Answer, _bench: Bench) -> str:
    """The source of the program."""
    return answer[NAME]


EXERCISE = Exercise(
    id="12.3",
    title="Let me finish",
    points=14,
    handed_in=(HandIn(NAME, "program"),),
    stage=stage,
    cluster=False,
    lesson=f"{LESSON}#Told-to-end",
    hints=(
        Hint(
            "SIGTERM arrives while a request waits for features. What becomes of the thread that waits?",
            lambda situation: situation.failed("in-flight"),
        ),
        Hint(
            "Others learn that you are going when they next ask /readyz. Until then they send. Who answers?",
            lambda situation: situation.failed("unready", "load"),
        ),
        Hint(
            "Which threads keep a Python process alive after its main thread has ended?",
            lambda situation: situation.failed("ends"),
        ),
        Hint("What does ThreadingHTTPServer do in server_close(), with daemon_threads and without?"),
        Hint("A client never takes its answer. For how long does your program stay?"),
    ),
    debrief=(
        "Not ready first, then a while in which nothing changes, then no new connections, then the rest ends, and "
        "last the process: in this order nobody is refused. Kubernetes takes a pod out of its Services and sends "
        "SIGTERM at the same time, and the first takes a moment to reach every node; that is what the drain is for. "
        "After terminationGracePeriodSeconds (30) comes SIGKILL: drain and stop together must be shorter. Another way "
        "to the same end is a preStop hook that waits, where the program itself cannot be changed."
    ),
)


@EXERCISE.check("in-flight", "What is under way is answered", weight=3)
@played(NAME, "a request that was under way at SIGTERM is answered, though its answer takes longer than the drain")
def in_flight(room: Room, bench: Bench) -> str | Problem:
    """The neighbour holds the request until the program has stopped listening."""
    program = opened(room)
    key = program.begin("/work")
    room.behave("features", "answers")
    if not served(room, room.result(key)):
        return Problem(
            f"GET /work gave {shown(room.result(key))}",
            "GET /work does not answer with status 200 and what FEATURES_URL answers.",
            "Ask FEATURES_URL with urllib.request.urlopen and pass its text on.",
        )
    room.behave("features", "holds")
    key = program.begin("/work")
    room.hold("features", 1, "GET /work")
    program.tell()
    left = closed(room, program)
    if left.status:
        # It still listens: whether it ever stops is for another check to say.
        room.behave("features", "answers")
        return "it still listens" if served(room, room.result(key)) else cut(room, key)
    # One that does not wait for the request takes a moment to end, and must not answer in it.
    program.ended(DRAIN)
    early = room.result(key, 0.05)
    room.behave("features", "answers")
    if early or not served(room, room.result(key)):
        return cut(room, key)
    return "the answer came after the last connection was taken"


def shown(answer: Answered | None) -> str:
    """An answer, or that there is none, in words."""
    return answer.shown if answer else "no answer"


def cut(room: Room, key: str) -> Problem:
    """The Problem of a request that was under way and got no answer."""
    return Problem(
        f"a request was under way at SIGTERM; its client got no answer ({shown(room.result(key, 0.05))})",
        "The process ended with the request in its hands: threads that are daemons end with it, or SIGTERM kills it.",
        "Count the requests under way; end only when there are none, or when STOP_SECONDS are over.",
    )


@EXERCISE.check("unready", "It says so before it goes", weight=3)
@played(NAME, "after SIGTERM /readyz gives 503, and new requests are still answered for DRAIN_SECONDS")
def unready(room: Room, bench: Bench) -> str | Problem:
    """Looks as long as the drain surely lasts, each over a new connection."""
    program = opened(room)
    before = program.ask("/readyz")
    if before.status != 200:
        return Problem(
            f"before SIGTERM, /readyz gave {before.shown}",
            "It is not ready though nobody has told it to go.",
            "200 until SIGTERM, 503 after it.",
        )
    told, drain, looks = program.tell(), bench.deadline(DRAIN), 0
    ready, work = before, program.ask("/work")
    while work.began - told <= SURE * drain:
        if not served(room, work):
            if too_late(work.error, work.ended - told, drain):
                raise Inconclusive("the machine was too slow to connect within the drain")
            return Problem(
                f"{1000 * (work.began - told):.0f} ms after SIGTERM, with DRAIN_SECONDS={drain:g}, "
                f"GET /work: {work.shown}",
                "It stops listening at once. Whoever has not heard of it yet is refused.",
                "After SIGTERM: say 503 on /readyz, go on for DRAIN_SECONDS, and only then stop listening.",
            )
        looks += 1
        waiting.pause(drain / PACE)
        asked, work = program.ask("/readyz"), program.ask("/work")
        ready = asked if work.began - told <= SURE * drain else ready
    if looks < LOOKS:
        raise Inconclusive(f"the machine was too slow to ask more than {looks} times within the drain")
    if ready.status != 503:
        return Problem(
            f"after SIGTERM /readyz gave {ready.shown}",
            "Nobody is told that it goes.",
            "The handler of SIGTERM notes it; /readyz looks at the note.",
        )
    return f"/readyz gave 503 soon, and GET /work was answered {looks} times within the drain"


def picture(rows: Sequence[Any], failed: Sequence[Any], told: float, drain: float) -> dict[str, Json]:
    """Evidence for `lab.replay`: when the program was told, and which requests (status, error, begin, end) failed."""
    zero = min(row[2] for row in rows)
    told -= zero
    bars = [Bar("the program", 0.0, told, "serves", "good"), Bar("the program", told, told + drain, "drains", "doubt")]
    marks = [Mark("the program", told, "SIGTERM")]
    marks += [Mark("failed", row[3] - zero, row[1] or f"status {row[0]}") for row in failed[:MOST_SHOWN]]
    return {"replay": kept(bars, marks, min(row[3] for row in failed) - zero)}


@EXERCISE.check("load", "Under load nothing is lost", weight=3, needs=["in-flight"])
@played(NAME, "of all requests that clients send until the news has reached them, none fails")
def load(room: Room, bench: Bench) -> str | Problem:
    """Four clients; a balancer looks at /readyz, and its news takes a part of the drain to reach them."""
    program, drain = opened(room), bench.deadline(DRAIN)
    room.do("load", "clients", program.port, "/work", CLIENTS, LAG * drain)
    if not room.do("loaded", "clients", BEFORE, bench.deadline(30)):
        raise Inconclusive(f"{BEFORE} requests took too long")
    told = program.tell()
    rows = room.do("unloaded", "clients", bench.deadline(60))
    if rows is None:
        return Problem(
            "after SIGTERM the clients went on and on: /readyz never said 503",
            "Nobody is told that it goes.",
            "The handler of SIGTERM notes it; /readyz looks at the note.",
        )
    owed = [row for row in rows if row[2] - told <= SURE * drain]
    after = sum(row[2] > told for row in owed)
    lost = [row for row in owed if row[0] != 200]
    failed = [row for row in lost if not too_late(row[1], row[3] - told, drain)]
    if failed:
        what = failed[0][1] or f"status {failed[0][0]}"
        return Problem(
            f"{len(failed)} of {len(owed)} requests failed, the first with {what}; {after} were sent after SIGTERM",
            "It stops listening, or ends, before those who send have heard of it.",
            "What happens between SIGTERM and the moment at which your server stops to accept?",
            picture(rows, failed, told, drain),
        )
    if lost:
        raise Inconclusive("requests that were sent within the drain came too late")
    if not after:
        raise Inconclusive("no request was sent after SIGTERM")
    return f"{len(owed)} requests, {after} of them after SIGTERM, none failed"


@EXERCISE.check("ends", "And then it ends", weight=2)
@played(NAME, "with nothing under way it ends with status 0 when the drain is over")
def ends(room: Room, bench: Bench) -> str | Problem:
    """Nobody asks anything after SIGTERM."""
    program = opened(room)
    program.tell()
    status = program.ended(FACTOR * DRAIN)
    if status is None:
        return Problem(
            f"{FACTOR} times DRAIN_SECONDS after SIGTERM it was still there",
            "A thread or a loop goes on, and nothing ends it.",
            "After the drain: server.shutdown(), wait for what is under way, and let the main thread return.",
        )
    if status:
        how = f"by signal {-status}" if status < 0 else f"with status {status}"
        return Problem(
            f"it ended {how}; its last words: {program.complaint() or 'none'}",
            "Python does not handle SIGTERM by itself, or an exception ends the program.",
            "signal.signal(signal.SIGTERM, ...) in the main thread.",
        )
    return "status 0"
