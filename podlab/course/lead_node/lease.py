"""Exercise 03.2: hold a lease, and know when it is over, on a clock of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, Exercise, HandIn, Hint, Json
from podlab.course.lead_node.election import LESSON
from podlab.course.outside import answered
from podlab.course.plain import Problem, computed
from podlab.widgets.timeline import Bar, Mark, kept

NAME = "Lease"
#: Seconds between two looks at the lease.
TICK = 0.02

#: Most looks at a lease in a row: so far ahead its process knows that no answer comes, but not which are lost.
LOOKS = 10

#: Follows the learner's cell: leases live on until each has asked, or has been looked at so often as told.
_DRIVER = """
_leases = []


def _begin(settings):
    _leases[:] = [Lease(*each) for each in settings]
    return {}


def _live(news):
    said = []
    for which, ticks, answered, question in news:
        lease, held, asks = _leases[which], [], False
        for number in answered:
            lease.granted(number, ticks[0])
        for now in ticks:
            asks = bool(lease.due(now)) and question > 0
            if asks:
                lease.asked(question, now)
            held.append(bool(lease.holds(now)))
            if asks:
                break
        said.append([asks, held])
    return {"said": said}
"""


@dataclass(frozen=True)
class Trial:
    """One life of a holder. `delays` say for each question after how long its answer is there (None: it is lost).

    Every question reaches the lock service at once, until `cut`, and binds it for `length` seconds of its own clock.
    Times are of the holder's clock; the service's runs `fast` times as fast.
    """

    length: float
    drift: float
    delays: tuple[float | None, ...]
    end: float
    cut: int = 10_000
    fast: float = 1.0

    @cached_property
    def ticks(self) -> list[float]:
        """The moments at which the holder is looked at."""
        return [round(TICK * step, 4) for step in range(int(self.end / TICK))]

    def promised(self, asked: Sequence[float], now: float) -> float:
        """Until when the service is bound, by questions until `now`, on the holder's clock; -1 if it is not."""
        sent = [at for number, at in enumerate(asked, 1) if at <= now and number < self.cut]
        return max(sent) + self.length / self.fast if sent else -1.0

    def answered(self, asked: Sequence[float], now: float) -> float:
        """When the newest question was asked whose answer is there at `now`; -1 if none is."""
        there = [
            at for at, delay in zip(asked, self.delays, strict=False) if delay is not None and at + delay <= now - TICK
        ]
        return max(there, default=-1.0)


@dataclass
class Run:
    """A trial, when the learner's lease asked, and at which ticks it was held."""

    trial: Trial
    asked: list[float] = field(default_factory=list)
    held: list[bool] = field(default_factory=list)
    #: (when it is there, number of its question) of each answer that is under way.
    under_way: list[tuple[float, int]] = field(default_factory=list)

    @property
    def first(self) -> float | None:
        """When the first answer was there; None if none was."""
        delays = zip(self.asked, self.trial.delays, strict=False)
        return min((at + delay for at, delay in delays if delay is not None), default=None)

    def news(self) -> list[Json]:
        """The next ticks, the questions that are answered at the first of them, and the next question; 0: no more."""
        ticks = self.trial.ticks[len(self.held) :][:LOOKS]
        there = sorted(answer for answer in self.under_way if answer[0] <= ticks[0])
        self.under_way = [answer for answer in self.under_way if answer[0] > ticks[0]]
        soon = min(self.under_way, default=(self.trial.end, 0))[0]
        asked = len(self.asked)
        question = asked + 1 if asked < len(self.trial.delays) else 0
        return [[now for now in ticks if now < soon], [number for _, number in there], question]

    def note(self, asks: bool, held: Sequence[bool]) -> None:
        """What the lease did."""
        self.held += held or [False]  # whoever says nothing does not hold it
        if asks:
            self.asked.append(now := self.trial.ticks[len(self.held) - 1])
            delay = self.trial.delays[len(self.asked) - 1]
            if delay is not None:
                self.under_way.append((now + delay, len(self.asked)))

    def picture(self, now: float) -> dict[str, Json]:
        """Evidence for `lab.replay`: what the holder believed, and what the service had promised."""
        trial, bars, begin = self.trial, list[Bar](), None
        for at, one in [*zip(trial.ticks, self.held, strict=True), (trial.end, False)]:
            if one and begin is None:
                begin = at
            elif not one and begin is not None:
                bars.append(Bar("you hold it", begin, at, "held", "lead"))
                begin = None
        sent = [at for number, at in enumerate(self.asked, 1) if number < trial.cut]
        if sent:
            until = min(trial.end, max(sent) + trial.length / trial.fast)
            bars.append(Bar("the service", sent[0], until, "bound by its promise", "good"))
        marks = []
        for number, at in enumerate(self.asked, 1):
            marks.append(Mark("asked", at, f"question {number}"))
            delay = trial.delays[number - 1]
            if delay is not None:
                marks.append(Mark("answered", at + delay, f"answer to question {number}"))
        return {"replay": kept(bars, marks, now, mode="simulation")}


def stage(answer: Answer, _bench: Bench) -> str:
    """The source of the learner's class."""
    return answer[NAME]


EXERCISE = Exercise(
    id="03.2",
    title="Yours, for a while",
    points=10,
    handed_in=(HandIn(NAME, "function"),),
    stage=stage,
    cluster=False,
    lesson=f"{LESSON}#A-lease-is-a-promise-with-an-end",
    hints=(
        Hint(
            "Question 7 went out at 3.0 s and was answered at 3.4 s. When, at the earliest, did the service promise?",
            lambda situation: situation.failed("ends", "late"),
        ),
        Hint(
            "When do you ask again: when the lease is over, or so early that an answer may get lost?",
            lambda situation: situation.failed("holds", "lost"),
        ),
        Hint("Which moment must you keep for each question, so that its answer can be put to use?"),
        Hint("Your clock loses drift seconds in a second, theirs gains as much. How long is their length on yours?"),
    ),
    debrief=(
        "The holder counts from before it asked, and shortens by what clocks may drift apart: so it lets go before "
        "anybody else can be given the lease, and no clock needs to be set right (Gray and Cheriton, 1989). It pays "
        "with a little of its time. In Kubernetes a controller renews its Lease every 2 s, gives up after 10 s "
        "without success, and others wait for 15 s."
    ),
)


def tried(source: str, bench: Bench, trials: Sequence[Trial]) -> list[Run]:
    """The learner's lease in all trials, side by side."""
    runs = [Run(trial) for trial in trials]
    with bench.talk(source + _DRIVER, seconds=10) as talk:
        answered(talk, "_begin", [[trial.length, trial.drift] for trial in trials])
        while living := [which for which, run in enumerate(runs) if len(run.held) < len(run.trial.ticks)]:
            told = answered(talk, "_live", [[which, *runs[which].news()] for which in living])
            for which, (asks, held) in zip(living, told["said"], strict=True):
                runs[which].note(asks, held)
    return runs


def too_long(source: str, bench: Bench, trials: Sequence[Trial], cause: str, ask: str) -> str | Problem:
    """Whether the lease was ever held when the service was no longer bound."""
    least = float("inf")
    for run in tried(source, bench, trials):
        for now, held in zip(run.trial.ticks, run.held, strict=True):
            promised = run.trial.promised(run.asked, now)
            if held and now > promised + TICK / 2:
                return Problem(
                    f"at {now:.2f} s the lease was held, but the service was bound until {max(0.0, promised):.2f} s "
                    f"only (length {run.trial.length} s, drift {run.trial.drift})",
                    cause,
                    f'{ask} lab.replay("03.2") shows the moment.',
                    run.picture(now),
                )
            if held:
                least = min(least, promised - now)
    return f"{len(trials)} times it was let go in time, at the least {least:.2f} s before the promise ended"


def in_peace(bench: Bench, drift: float = 0.0) -> Trial:
    """Every answer comes soon."""
    length = round(bench.random.uniform(1.0, 4.0), 1)
    delays = tuple(round(bench.random.uniform(0.02, 0.06) * length, 3) for _ in range(1000))
    return Trial(length, drift, delays, 4 * length)


def cut_off(bench: Bench, share: float, drift: float = 0.0, fast: float = 1.0) -> Trial:
    """Answers take up to `share` of the length; then no question arrives any more."""
    length, cut = round(bench.random.uniform(1.0, 4.0), 1), bench.random.randint(4, 8)
    delays = [round(bench.random.uniform(0.8, 1.0) * share * length, 3) for _ in range(cut - 1)]
    return Trial(length, drift, (*delays, *[None] * 80), 6 * length, cut, fast)


@EXERCISE.check("holds", "In peace it is held without a gap", weight=3)
@computed("from the first answer on the lease is held, for it is renewed in time")
def holds(source: str, bench: Bench) -> str | Problem:
    """Look at every tick after the first answer; before it nothing is held."""
    runs = tried(source, bench, [in_peace(bench) for _ in range(10)] + [in_peace(bench, 0.05) for _ in range(5)])
    for run in runs:
        if (first := run.first) is None:
            return Problem(
                "due was never true, so nobody was ever asked",
                "A lease that was never asked for is never held.",
                "due(0.0) of a new lease: what should it say?",
            )
        for now, held in zip(run.trial.ticks, run.held, strict=True):
            if held and now < first - TICK:
                return Problem(
                    f"at {now:.2f} s the lease was held, and the first answer came at {first:.2f} s",
                    "Having asked is not having got.",
                    "Which event makes the lease yours?",
                    run.picture(now),
                )
            if not held and now > first + 2 * TICK:
                return Problem(
                    f"at {now:.2f} s the lease (length {run.trial.length} s) was not held, though every question "
                    f"was answered soon; questions went out at {', '.join(f'{at:.2f}' for at in run.asked[:6])} s",
                    "It is renewed too late, or an answer to a renewal does not lengthen it.",
                    'When is the next question due? lab.replay("03.2") shows the gap.',
                    run.picture(now),
                )
    return f"{len(runs)} leases were held without a gap"


@EXERCISE.check("ends", "Cut off, it lets go before the promise ends", weight=3, needs=["holds"])
@computed("when no question gets through any more, the lease is no longer held when the service's promise ends")
def ends(source: str, bench: Bench) -> str | Problem:
    """Slow answers, then none."""
    return too_long(
        source,
        bench,
        [cut_off(bench, 0.3) for _ in range(15)],
        "It is counted from a later moment than the question that was answered: from the answer, or a newer question.",
        "What do you know of the moment of the promise? It lies between question and answer.",
    )


@EXERCISE.check("lost", "Two lost answers do no harm", weight=2, needs=["holds"])
@computed("if two answers in a row are lost, the lease is held all the same")
def lost(source: str, bench: Bench) -> str | Problem:
    """Every third answer arrives."""
    trials = []
    for _ in range(8):
        length = round(bench.random.uniform(1.0, 4.0), 1)
        soon = 0.04 * length
        trials.append(Trial(length, 0.0, tuple(soon if n % 3 == 0 else None for n in range(90)), 5 * length))
    for run in tried(source, bench, trials):
        first = run.asked[0] + (run.trial.delays[0] or 0.0)
        for now, held in zip(run.trial.ticks, run.held, strict=True):
            if not held and now > first + 2 * TICK:
                return Problem(
                    f"two answers in a row were lost, and at {now:.2f} s the lease (length {run.trial.length} s) was "
                    f"not held; questions went out at {', '.join(f'{at:.2f}' for at in run.asked[:6])} s",
                    "There was no time for a third question before the lease was over.",
                    "How many questions should fit into one length?",
                    run.picture(now),
                )
    return f"{len(trials)} leases were held with two of three answers lost"


@EXERCISE.check("measure", "It does not ask all the time", weight=1, needs=["holds"])
@computed("at most 8 questions in the time of one length")
def measure(source: str, bench: Bench) -> str | Problem:
    """Count the questions."""
    most = 0
    for run in tried(source, bench, [in_peace(bench) for _ in range(5)]):
        for at in run.asked:
            inside = sum(at <= other < at + run.trial.length for other in run.asked)
            most = max(most, inside)
            if inside > 8:
                return Problem(
                    f"{inside} questions were asked within one length of {run.trial.length} s",
                    "Thousands of holders that ask all the time are too much for any lock service.",
                    "Note when you asked last.",
                )
    return f"at most {most} questions in one length"
