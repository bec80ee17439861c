"""Exercise 12.5: a program that counts what it does, in Prometheus' text format; the checker counts too."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, field

from podlab import waiting
from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, Exercise, HandIn, Hint, Inconclusive
from podlab.course.fit_for_a_cluster.room import ANSWER, LESSON, Answered, Program, Room, Unmet, played
from podlab.course.plain import Problem
from podlab.errors import WaitTimeout

NAME = "measured"
#: The bounds of the buckets in seconds, on an idle machine.
BOUNDS = (0.1, 0.4)
SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+-?\d+)?")
LABEL = re.compile(r'\s*([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"\s*,?')

Series = tuple[str, tuple[tuple[str, str], ...]]


@dataclass
class Metrics:
    """What GET /metrics said: the value of each series, and when it had said so."""

    values: dict[Series, float]
    told: float

    def counter(self) -> Counter[tuple[str, str]]:
        """requests_total by path and code; series that are 0 count as not there."""
        found = Counter[tuple[str, str]]()
        for (name, labels), value in self.values.items():
            if name == "requests_total" and value:
                told = dict(labels)
                found[told.get("path", ""), told.get("code", "")] += int(value)
        return found

    def one(self, name: str) -> float:
        """The only value of a name; NaN if there is none."""
        found = [value for (other, _), value in self.values.items() if other == name]
        return found[0] if len(found) == 1 else math.nan

    def buckets(self) -> dict[float, float]:
        """Upper bound -> value."""
        told = {}
        for (name, labels), value in self.values.items():
            if name == "request_seconds_bucket" and "le" in dict(labels):
                told[_number(dict(labels)["le"])] = value
        return told


@dataclass
class Timed:
    """Requests with the least and the most that the program can have measured for each, in seconds."""

    spans: list[tuple[float, float]] = field(default_factory=list)

    def within(self, bound: float) -> tuple[int, int]:
        """How few and how many of them can be in the bucket of a bound."""
        return sum(most <= bound for _, most in self.spans), sum(least <= bound for least, _ in self.spans)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def parse(text: str) -> tuple[dict[Series, float], str]:
    """The series of a text in Prometheus' format, and the first line that is none ('' if all are)."""
    found: dict[Series, float] = {}
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        match = SAMPLE.fullmatch(line.strip())
        labels = LABEL.findall(match[2] or "") if match else []
        if not match or LABEL.sub("", match[2] or "") or math.isnan(_number(match[3])):
            return found, line
        key = (match[1], tuple(sorted(labels)))
        if key in found:
            return found, line
        found[key] = _number(match[3])
    return found, ""


def scraped(program: Program) -> Metrics:
    """What the program says of itself now; Unmet if that is not in the format."""
    answer = program.ask("/metrics")
    values, bad = parse(answer.text)
    if answer.status != 200 or not answer.kind.startswith("text/plain") or bad or not values:
        seen = (
            f"this line is no series of its own: {bad[:120]!r}"
            if bad
            else f"{answer.shown}, {answer.kind or 'no type'}"
        )
        raise Unmet(
            Problem(
                f"GET /metrics: {seen}" + ("" if bad or values else ", and no series in it"),
                "The text is not in Prometheus' format, or not sent as text/plain.",
                'Lines such as requests_total{path="/work",code="200"} 3; Content-Type: text/plain; version=0.0.4',
            )
        )
    return Metrics(values, answer.ended)


def counted(program: Program, total: int) -> Metrics:
    """What it says when it has counted `total` requests, or after a while."""
    last = [scraped(program)]

    def enough() -> bool:
        last[0] = scraped(program)
        # A counter and a histogram may be written one after the other.
        timed = last[0].one("request_seconds_count")
        return last[0].counter().total() >= total and (timed >= total or math.isnan(timed))

    try:
        waiting.until(enough, "requests being counted", timeout=program.room.bench.deadline(ANSWER / 2), interval=0.05)
    except WaitTimeout:
        pass
    return last[0]


def opened(room: Room) -> Program:
    """The program with its neighbour; bounds are stretched to this machine."""
    url = room.neighbour("features", f"shelf {room.bench.nonce}")
    return room.serve("/metrics", FEATURES_URL=url, BOUNDS=",".join(f"{bound:g}" for bound in bounds(room)))


def bounds(room: Room) -> list[float]:
    """The bounds of the buckets on this machine."""
    return [round(room.bench.deadline(bound), 3) for bound in BOUNDS]


def compared(found: Counter[tuple[str, str]], wanted: Counter[tuple[str, str]]) -> str:
    """The first series that differs, in words; empty if none does."""
    for path, code in sorted(found.keys() | wanted.keys()):
        if found[path, code] != wanted[path, code]:
            return (
                f'requests_total{{path="{path}",code="{code}"}} is {found[path, code]}; '
                f"{wanted[path, code]} such requests were answered"
            )
    return ""


def asked(program: Program, path: str, wanted: int) -> Answered:
    """One request; Unmet if the status is another than it must be."""
    answer = program.ask(path)
    if answer.status != wanted:
        raise Unmet(
            Problem(
                f"GET {path} gave {answer.shown}, not {wanted}",
                "It does not pass on what its neighbour says, or counts in place of answering.",
                "/work: the neighbour's status and text, 502 where it cannot be reached; any other path: 404.",
            )
        )
    return answer


def stage(answer: Answer, _bench: Bench) -> str:
    """The source of the program."""
    return answer[NAME]


EXERCISE = Exercise(
    id="12.5",
    title="Counted",
    points=12,
    handed_in=(HandIn(NAME, "program"),),
    stage=stage,
    cluster=False,
    lesson=f"{LESSON}#What-it-says-of-itself",
    hints=(
        Hint(
            "A request took 30 ms, the bounds are 0.1 and 0.4. In how many buckets is it?",
            lambda situation: situation.failed("histogram"),
        ),
        Hint(
            "Which requests does your program not count: those that it refuses, those that end in an error?",
            lambda situation: situation.failed("counter"),
        ),
        Hint("Prometheus has base units: seconds, bytes. What does time.monotonic() give?"),
        Hint("Somebody asks for a million paths that do not exist. How many series has your program then?"),
        Hint("Between reading a count and writing it back, what else may happen?"),
    ),
    debrief=(
        "A counter only rises, and says how much there was; how fast it rises is for Prometheus to find (chapter 21). "
        "Buckets are cumulative, so one can be left out later, and buckets of many pods can be added; medians of many "
        "pods cannot. A label is a promise: each of its values is a series that somebody pays for, so nothing that a "
        "client invents may become one. The library prometheus_client does all that; movies/telemetry.py uses it."
    ),
)


@EXERCISE.check("counter", "Every answer is counted", weight=3)
@played(NAME, "requests_total has for each path and code as many as the checker has sent; /metrics is not counted")
def counter(room: Room, bench: Bench) -> str | Problem:
    """A random mix of answers: 200, 503 and 404."""
    program, wanted = opened(room), Counter[tuple[str, str]]()
    mix = [("/work", 200)] * bench.random.randint(4, 9) + [("/work", 503)] * bench.random.randint(2, 5)
    mix += [("/nothing", 404)] * bench.random.randint(2, 5)
    bench.random.shuffle(mix)
    for path, status in mix:
        room.behave("features", "fails" if status == 503 else "answers")
        asked(program, path, status)
        wanted["/work" if path == "/work" else "other", str(status)] += 1
    if wrong := compared(counted(program, wanted.total()).counter(), wanted):
        return Problem(
            wrong,
            "Some answers are not counted, or under other labels, or /metrics is counted too.",
            'Count where the answer is sent, whatever its status; path is "/work" or "other".',
        )
    return f"{wanted.total()} requests, {len(wanted)} series, every count right"


def measured(room: Room, bench: Bench) -> tuple[Program, Timed, Metrics]:
    """A program with quick requests and slow ones, the times of both, and what it says of them."""
    program, timed = opened(room), Timed()
    quick, slow = bench.random.randint(3, 6), bench.random.randint(2, 3)
    kinds = ["quick"] * quick + ["slow"] * slow
    bench.random.shuffle(kinds)
    metrics = scraped(program)
    for number, kind in enumerate(kinds, 1):
        began = asked(program, "/work", 200).began if kind == "quick" else _slow(room, program)
        metrics = counted(program, number)
        *_, came, answered = room.do("seen", "features")[-1]
        # It cannot have measured less than its neighbour took, nor more than passed until it had counted.
        timed.spans.append((answered - came, metrics.told - began))
    if not any(most <= bounds(room)[0] for _, most in timed.spans):
        raise Inconclusive("no request was quick enough to be sure of its bucket")
    return program, timed, metrics


def _slow(room: Room, program: Program) -> float:
    """A request that takes longer than the first bound; when it began."""
    room.behave("features", "holds")
    key = program.begin("/work")
    room.hold("features", 1, "GET /work")
    waiting.pause(1.3 * bounds(room)[0])
    room.behave("features", "answers")
    answer = room.result(key)
    if answer is None or answer.status != 200:
        raise Unmet(
            Problem(
                f"GET /work, to which the neighbour answered late, gave {answer.shown if answer else 'no answer'}",
                "It does not wait for its neighbour.",
                "Wait at least some seconds for it.",
            )
        )
    return answer.began


@EXERCISE.check("histogram", "Every time is in its buckets", weight=4)
@played(NAME, "request_seconds has a bucket for each bound and +Inf; each holds all requests that took at most so long")
def histogram(room: Room, bench: Bench) -> str | Problem:
    """Quick requests and some that our neighbour makes slow."""
    _, timed, metrics = measured(room, bench)
    found, edges = metrics.buckets(), [*bounds(room), math.inf]
    if sorted(found) != edges:
        return Problem(
            f"the buckets have le={', '.join(f'{edge:g}' for edge in sorted(found)) or 'none'}; "
            f"BOUNDS={','.join(f'{edge:g}' for edge in edges[:-1])}",
            "A bucket is missing; the last one is +Inf, which holds all.",
            'request_seconds_bucket{le="0.1"} for each bound, then {le="+Inf"}.',
        )
    for edge in edges:
        few, many = timed.within(edge)
        if not few <= found[edge] <= many:
            return Problem(
                f"of {len(timed.spans)} requests {few if few == many else f'{few} to {many}'} took at most {edge:g} s; "
                f'request_seconds_bucket{{le="{edge:g}"}} is {found[edge]:g}',
                "Each request is put into one bucket only, or the times are no seconds.",
                "A bucket holds all that took at most its bound: add 1 to every bucket whose bound is not below it.",
            )
    if metrics.one("request_seconds_count") != len(timed.spans):
        return Problem(
            f"request_seconds_count is {metrics.one('request_seconds_count'):g} after {len(timed.spans)} requests",
            "The count is missing, or has labels.",
            "request_seconds_count is the same as the bucket +Inf.",
        )
    return f"{len(timed.spans)} requests, {len(edges)} buckets, all right"


@EXERCISE.check("sum", "And the times add up", weight=2, needs=["histogram"])
@played(NAME, "request_seconds_sum is what all requests took together, in seconds")
def total(room: Room, bench: Bench) -> str | Problem:
    """The sum lies between the least and the most that all can have taken."""
    _, timed, metrics = measured(room, bench)
    least, most = sum(low for low, _ in timed.spans), sum(high for _, high in timed.spans)
    if not least <= metrics.one("request_seconds_sum") <= most:
        return Problem(
            f"request_seconds_sum is {metrics.one('request_seconds_sum'):g}; all requests took between "
            f"{least:.3f} and {most:.3f} s together",
            "The sum is missing, or is in milliseconds, or does not begin where the request begins.",
            "time.monotonic() at the begin of do_GET and after the answer; the difference is in seconds.",
        )
    return f"between {least:.3f} and {most:.3f} s"
