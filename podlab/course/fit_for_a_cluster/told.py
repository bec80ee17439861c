"""Exercise 12.1: a program that is told everything from outside, and says no to what it cannot use."""

from __future__ import annotations

from typing import Any

from podlab.checks import finite
from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, Exercise, HandIn, Hint
from podlab.course.fit_for_a_cluster.room import LESSON, Program, Room, Unmet, played
from podlab.course.plain import Problem

NAME = "configured"
#: The exit status of a program that cannot use its settings, and the seconds that it has to find that out.
REFUSED, SECONDS = 2, 10.0
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
#: Values that must be refused: variable, value (None: it is not set).
BAD: tuple[tuple[str, str | None], ...] = (
    ("PORT", "http"),
    ("PORT", "70000"),
    ("PORT", "0"),
    ("PORT", None),
    ("MODEL_URL", "features:8002"),
    ("MODEL_URL", None),
    ("CALL_SECONDS", "soon"),
    ("CALL_SECONDS", "0"),
    ("CALL_SECONDS", "-1.5"),
    ("CALL_SECONDS", "3600"),
    ("LOG_LEVEL", "LOUD"),
    ("API_KEY", None),
)


def good(bench: Bench) -> dict[str, str]:
    """Settings that can be used, all but the port."""
    return {
        "MODEL_URL": f"http://{bench.nonce}.example:{bench.random.randint(1024, 60000)}",
        "CALL_SECONDS": f"{bench.random.randint(1, 240) / 4}",
        "LOG_LEVEL": bench.random.choice(LEVELS),
        "API_KEY": f"key-{bench.nonce}{bench.nonce}",
    }


def told(program: Program) -> dict[str, Any]:
    """What the program says of its settings; Unmet if that is no JSON object."""
    answer = program.listens("/settings")
    try:
        found = finite.read(answer.text)
    except ValueError:
        found = None
    if answer.status != 200 or not isinstance(found, dict):
        raise Unmet(
            Problem(
                f"GET /settings gave {answer.shown} and {answer.text[:80]!r}",
                "The answer is no JSON object, or the path is another.",
                "Answer GET /settings with json.dumps of a dictionary.",
            )
        )
    return found


def differ(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    """The first setting that is not as it should be, in words; empty if all are."""
    for key, value in wanted.items():
        if key not in found:
            return f"{key} is not in {sorted(found)}"
        if found[key] != value or type(found[key]) is not type(value):
            return f"{key} is {found[key]!r} and should be {value!r}"
    return ""


def refusal(program: Program, *variables: str) -> Problem | None:
    """What is wrong with how a program says no to its settings; None if nothing is."""
    answer = program.ask_until("/settings", tuple(range(100, 600)), SECONDS)
    status, (_, told) = program.ended(0), program.written()
    shown = ", ".join(variables)
    if "NotImplementedError" in told:
        return program.silent(answer)
    if status is None:
        return Problem(
            f"with {shown} that cannot be used it served nevertheless ({answer.shown} to GET /settings)",
            "A value that cannot be used is passed over, or replaced by the default.",
            "A wrong setting that is silently replaced is found weeks later. Say it, and end.",
        )
    if "Traceback" in told:
        return Problem(
            f"with {shown} that cannot be used it ended with a traceback: {program.complaint()}",
            "An exception ends the program, and whoever runs it has to read its source to know why.",
            f"Catch it, write one sentence to sys.stderr, and raise SystemExit({REFUSED}).",
        )
    if status != REFUSED:
        return Problem(
            f"with {shown} that cannot be used it ended with status {status}",
            'raise SystemExit("words") ends with status 1; a program that has worked ends with 0.',
            f"Write to sys.stderr, then raise SystemExit({REFUSED}).",
        )
    silent = [variable for variable in variables if variable not in told]
    if silent:
        return Problem(
            f"{shown} cannot be used; its message does not name {', '.join(silent)}: {told.strip()[:200]!r}",
            "It ends at the first problem that it finds, or does not say which variable it means.",
            "Collect all problems in a list; end when the list is complete.",
        )
    return None


def stage(answer: Answer, _bench: Bench) -> str:
    """The source of the program."""
    return answer[NAME]


EXERCISE = Exercise(
    id="12.1",
    title="Told from outside",
    points=10,
    handed_in=(HandIn(NAME, "program"),),
    stage=stage,
    cluster=False,
    lesson=f"{LESSON}#Told-from-outside",
    hints=(
        Hint(
            "CALL_SECONDS=soon makes float() raise. Who reads the traceback at three in the morning?",
            lambda situation: situation.failed("refuses"),
        ),
        Hint(
            "Two settings are wrong. How often must somebody start your program to learn of both?",
            lambda situation: situation.failed("all"),
        ),
        Hint("os.environ holds texts only. What type has each setting in your answer?"),
        Hint('Try float("nan") > 60 and float("nan") <= 0 in a cell. Which test lets it through?'),
        Hint("Who can read what GET /settings answers, and what is in your log?"),
    ),
    debrief=(
        "The same image runs on a laptop, in the test and in production: only the environment differs. In Kubernetes "
        "it comes from the manifest, a ConfigMap or a Secret. A pod whose program says what is wrong and ends is seen "
        "at once (CrashLoopBackOff, and one sentence in its log); one that guesses is found by its users. "
        "movies/config.py does it with one table, from which its documentation comes too."
    ),
)


@EXERCISE.check("serves", "It does as it is told", weight=3)
@played(NAME, "GET /settings shows the settings in effect, numbers as numbers")
def serves(room: Room, bench: Bench) -> str | Problem:
    """All variables are set."""
    given = good(bench)
    program = room.start(**given)
    wanted = {
        "port": program.port,
        "model_url": given["MODEL_URL"],
        "call_seconds": float(given["CALL_SECONDS"]),
        "log_level": given["LOG_LEVEL"],
    }
    if wrong := differ(told(program), wanted):
        return Problem(
            wrong,
            "A variable is not read, or stays the text that it is in the environment.",
            "Turn PORT into an int and CALL_SECONDS into a float before you use them.",
        )
    return f"{len(wanted)} settings as told"


@EXERCISE.check("defaults", "What is not told has a default", weight=1)
@played(NAME, "without CALL_SECONDS and LOG_LEVEL it takes 1.0 and INFO; a level may be written in small letters")
def defaults(room: Room, bench: Bench) -> str | Problem:
    """Two programs: one without the two variables, one with a level in small letters."""
    given = good(bench)
    first = room.start(**given | {"CALL_SECONDS": None, "LOG_LEVEL": None})
    second = room.start(**given | {"LOG_LEVEL": "debug"})
    for program, wanted in ((first, {"call_seconds": 1.0, "log_level": "INFO"}), (second, {"log_level": "DEBUG"})):
        if wrong := differ(told(program), wanted):
            return Problem(
                wrong,
                "A default is missing, or a level is taken as it is written.",
                'os.environ.get("LOG_LEVEL", "INFO").upper()',
            )
    return "1.0, INFO; debug became DEBUG"


@EXERCISE.check("refuses", "It says no to what it cannot use", weight=3, needs=["serves"])
@played(NAME, f"with a value that cannot be used it ends with status {REFUSED} and a sentence that names the variable")
def refuses(room: Room, bench: Bench) -> str | Problem:
    """Six programs at once, each with one value that cannot be used, one of each variable."""
    chosen = {variable: (variable, value) for variable, value in bench.random.sample(BAD, len(BAD))}
    cases = [*chosen.values(), bench.random.choice(BAD)]
    programs = [(variable, room.start(**good(bench) | {variable: value})) for variable, value in cases]
    for variable, program in programs:
        if problem := refusal(program, variable):
            return problem
    return f"{len(cases)} bad values, {len(cases)} refusals that name the variable"


@EXERCISE.check("all", "It says everything that is wrong", weight=2, needs=["refuses"])
@played(NAME, "if several settings are wrong, its message names all of them")
def everything(room: Room, bench: Bench) -> str | Problem:
    """Three of the variables are wrong."""
    wrong = bench.random.sample([("PORT", "x"), ("MODEL_URL", None), ("CALL_SECONDS", "x"), ("LOG_LEVEL", "x")], 3)
    program = room.start(**good(bench) | dict(wrong))
    if problem := refusal(program, *(variable for variable, _ in wrong)):
        return problem
    return "three problems, one message"
