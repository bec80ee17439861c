"""Exercise 12.2: three questions to a service, three answers: has it started, does it live, is it ready."""

from __future__ import annotations

from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, Exercise, HandIn, Hint
from podlab.course.fit_for_a_cluster.room import LESSON, Answered, Program, Room, Unmet, played
from podlab.course.plain import Problem

NAME = "healthy"
#: Seconds for which the program may wait for its neighbour, and within which readiness must follow it.
PATIENCE, FOLLOWS = 1.0, 5.0
#: How many times as long as its patience an answer may take before it counts as hanging.
FACTOR = 8


def opened(room: Room, mode: str = "answers") -> tuple[Program, str]:
    """A program that is reading its model, and the path of that; `mode` is what features does when it begins."""
    url, path = room.neighbour("features", "ok"), room.do("pipe", "model")
    room.behave("features", mode)
    return room.start(FEATURES_URL=url, MODEL=path), path


def fed(room: Room, path: str) -> None:
    """Let the program read its model to the end."""
    if not room.do("feed", path, '{"movies": 100}', room.bench.deadline(FOLLOWS)):
        raise Unmet(
            Problem(
                "the program does not read the file that MODEL names",
                "The start has nothing to do with the model.",
                'open(os.environ["MODEL"]).read() in a thread of its own; the start is over when it returns.',
            )
        )


def started(room: Room) -> Program:
    """A program that has read its model, and whose neighbour answers."""
    program, path = opened(room)
    program.listens("/livez")
    fed(room, path)
    program.ask_until("/readyz", (200,))
    return program


def wrong(answer: Answered, path: str, wanted: int, when: str, cause: str, next_step: str) -> Problem | None:
    """The Problem of an answer with another status than `wanted`."""
    if answer.status == wanted:
        return None
    return Problem(f"{when}, GET {path} gave {answer.shown}, not {wanted}", cause, next_step)


def stage(answer: Answer, _bench: Bench) -> str:
    """The source of the program."""
    return answer[NAME]


EXERCISE = Exercise(
    id="12.2",
    title="Three questions",
    points=12,
    handed_in=(HandIn(NAME, "program"),),
    stage=stage,
    cluster=False,
    lesson=f"{LESSON}#Three-questions",
    hints=(
        Hint(
            "While your program reads its model, who answers the question whether it has started?",
            lambda situation: situation.failed("early"),
        ),
        Hint(
            "Features is away, and your program says that it does not live. It is restarted. Does that help features?",
            lambda situation: situation.failed("lives"),
        ),
        Hint(
            "Was your program ready once, or is it ready now? When does it look?",
            lambda situation: situation.failed("follows"),
        ),
        Hint("Features takes the connection and says nothing. How long does your answer to /readyz take then?"),
        Hint("Which of the three answers may depend on somebody else?"),
    ),
    debrief=(
        "Kubernetes asks the same three questions. Until startupz says yes the other two are not asked, so a slow "
        "start is no crash. If livez says no, the container is restarted: so it must say no only where a restart "
        "helps. If readyz says no, the pod gets no new requests, and nothing else happens. A service whose liveness "
        "depends on its database is restarted by every trouble of the database, all its copies at once: an outage "
        "made worse by the cure. And a probe must have a deadline of its own, or it hangs with what it asks."
    ),
)


@EXERCISE.check("early", "It can be asked while it starts", weight=3)
@played(NAME, "while the model is being read, /livez gives 200, /startupz and /readyz give 503")
def early(room: Room, bench: Bench) -> str | Problem:
    """The model cannot be read to its end before we say so."""
    program, _ = opened(room)
    program.listens("/livez")
    cause = "It listens only when all is done, or one answer stands for all three questions."
    advice = "Read the model in a thread; listen at once; note in a variable that the start is over."
    for path, status in (("/livez", 200), ("/startupz", 503), ("/readyz", 503)):
        if problem := wrong(program.ask(path), path, status, "while the model was being read", cause, advice):
            return problem
    return "alive, not started, not ready"


@EXERCISE.check("started", "The start ends", weight=2, needs=["early"])
@played(NAME, "when the model has been read and features answers, all three give 200")
def start_ends(room: Room, bench: Bench) -> str | Problem:
    """The model is there."""
    program = started(room)
    for path in ("/startupz", "/readyz", "/livez"):
        problem = wrong(
            program.ask_until(path, (200,)),
            path,
            200,
            "when all was there",
            "What the thread has noted is not seen by the answers, or features is not asked.",
            "Ask FEATURES_URL and look at the status: 200 means that it is there.",
        )
        if problem:
            return problem
    return "started, ready, alive"


@EXERCISE.check("follows", "Readiness follows what it depends on", weight=3, needs=["started"])
@played(NAME, "when features fails or is away, /readyz becomes 503; when it is back, 200")
def follows(room: Room, bench: Bench) -> str | Problem:
    """Features fails, comes back, goes away, and comes back."""
    program = started(room)
    for mode, status in (("fails", 503), ("answers", 200), ("away", 503), ("answers", 200)):
        room.behave("features", mode)
        problem = wrong(
            program.ask_until("/readyz", (status,), FOLLOWS),
            "/readyz",
            status,
            {"fails": "when features answered 503", "away": "when nobody listened in features' place"}.get(
                mode, "when features was back"
            ),
            "Readiness is found out once, or an error of the question ends the answer.",
            "Ask features anew, at each question or every fraction of a second; an OSError means no.",
        )
        if problem:
            return problem
    return "503, 200, 503, 200"


@EXERCISE.check("lives", "Liveness does not", weight=2, needs=["follows"])
@played(NAME, "while features is away, /livez and /startupz stay 200")
def lives(room: Room, bench: Bench) -> str | Problem:
    """Features is away; five looks after readiness has noticed it."""
    program = started(room)
    room.behave("features", "away")
    program.ask_until("/readyz", (503,), FOLLOWS)
    for _ in range(5):
        for path in ("/livez", "/startupz"):
            problem = wrong(
                program.ask(path),
                path,
                200,
                "while features was away",
                "The answer depends on features: the program would be restarted, which does not bring features back.",
                "livez: this process can answer. startupz: the model has been read.",
            )
            if problem:
                return problem
    return "ten looks, ten times 200"
