"""The hidden checks of chapter 05. They never enter a learner's kernel, a release or a feedback's source."""

from __future__ import annotations

from podlab.checks.bench import Bench
from podlab.checks.contract import Exercise
from podlab.course.map_reduce import backups, coordinator, means, partitioner, words
from podlab.course.map_reduce.shift import Shift
from podlab.course.plain import Problem, computed, judged


def add(exercises: dict[str, Exercise]) -> None:
    """Add the hidden checks to the exercises of the chapter."""
    declare = {id: exercise.check for id, exercise in exercises.items()}
    declare["05.1"]("huge", "Very long words, very long lines", weight=1, hidden=True, needs=["words"])(huge)
    declare["05.1"]("cut-again", "However the lines are cut into splits", weight=1, hidden=True)(cut_again)
    declare["05.2"]("again", "Combined twice, or only in some splits", weight=2, hidden=True, needs=["combined"])(again)
    declare["05.2"]("single", "One rating alone", weight=1, hidden=True, needs=["mean"])(single)
    declare["05.3"]("numbered", "Keys that are numbered", weight=1, hidden=True, needs=["range"])(numbered)
    declare["05.3"]("any-text", "Any text is a key", weight=1, hidden=True)(any_text)
    declare["05.4"]("last", "The last task is lost while all others wait", weight=3, hidden=True, needs=["all"])(
        judged("a task that is lost when nothing else is left goes to a worker that was told None before")(
            coordinator.conducted(6, 3, last, held=1)
        )
    )
    declare["05.4"]("idle", "Workers that leave with nothing in hand", weight=2, hidden=True, needs=["all"])(
        judged("workers that leave before their first task, or after an end was taken in, cost nothing")(
            coordinator.conducted(8, 4, idle)
        )
    )
    declare["05.4"]("early", "Back before anybody else", weight=1, hidden=True, needs=["crash"])(
        judged(
            "if a worker that was given up is the first to end its task, its result counts, and nobody does it again"
        )(coordinator.conducted(8, 3, early, held=1))
    )
    declare["05.5"]("two", "Two are enough", weight=2, hidden=True, needs=["straggler"])(two)


@computed("words of 100,000 letters and lines of 20,000 words are no special cases")
def huge(scene: words.Scene, bench: Bench) -> str | Problem:
    """A few enormous lines."""
    long_word = "".join(bench.random.choices("abcdefgh", k=100_000))
    return words.job(scene, bench, [[f"{long_word}, again {long_word.upper()}", "good " * 20_000, ""]])


@computed("one split or many, empty ones among them, combined or not: the counts are the same")
def cut_again(scene: words.Scene, bench: Bench) -> str | Problem:
    """The same lines cut in two ways."""
    lines = words.lines(bench.random, 40, [*words.TITLES, *words.TAGS])
    first = words.job(scene, bench, [[], lines[:1], lines[1:7], [], lines[7:]], (True, False, True, True, True))
    return first if isinstance(first, Problem) else words.job(scene, bench, [lines])


@computed("what was combined may be combined again, and stand beside values that never were")
def again(scene: means.Scene, bench: Bench) -> str | Problem:
    """Some splits combined twice, some once, some not at all."""
    records = means.ratings(bench.random, 90)
    parts = means.split_pairs(scene, bench, means.unequal(bench.random, records, 6))
    if isinstance(parts, Problem):
        return parts
    twice = scene.combined(bench, means.joined([scene.combined(bench, part) for part in parts[:3]]))
    once = scene.combined(bench, parts[3])
    outcome = means.compared(scene, bench, means.joined([twice, once, *parts[4:]]), records, "combined here and there")
    if isinstance(outcome, Problem):
        return Problem(
            outcome.observed,
            "A combined value is counted as one rating when it is combined again.",
            "Combine two combined values by hand: which numbers have to be added?",
        )
    return outcome


@computed("a movie with one rating has that rating as its mean, combined or not")
def single(scene: means.Scene, bench: Bench) -> str | Problem:
    """One record."""
    records = [("Up", 3.5)]
    parts = means.split_pairs(scene, bench, [records])
    if isinstance(parts, Problem):
        return parts
    first = means.compared(scene, bench, parts[0], records, "not combined")
    if isinstance(first, Problem):
        return first
    return means.compared(scene, bench, scene.combined(bench, parts[0]), records, "combined in 1 split")


@computed("keys such as movie-0042, of one length and with few different characters, are spread as well")
def numbered(scene: str, bench: Bench) -> str | Problem:
    """Even numbers only."""
    keys = [f"movie-{number:05d}" for number in range(0, 6000, 2)]
    return partitioner.balance(scene, bench, keys, bench.random.choice((6, 8)), "numbered keys")


@computed("an empty text, other alphabets and a text of 100,000 characters have a reducer too")
def any_text(scene: str, bench: Bench) -> str | Problem:
    """Unusual keys."""
    keys = ["", " ", *partitioner.FOREIGN, "x" * 100_000, "\x00\n"]
    found = partitioner.placed(scene, bench, keys, 8)
    return found if isinstance(found, Problem) else f"{len(keys)} unusual keys have a reducer"


def last(shift: Shift, _bench: Bench) -> str:
    """All is done but one task, and then its worker is killed."""
    task, worker = coordinator.victim(shift)
    shift.go_on(lambda: len(shift.counted) == shift.tasks - 1)
    proof = shift.kill(worker)
    shift.to_the_end()
    return f"{proof.fault} during the last task bit; {shift.counted[task]} did it again"


def idle(shift: Shift, _bench: Bench) -> str:
    """One leaves at once, another when its first result has been taken in."""
    shift.kill("w3")
    shift.hand_out()
    shift.kill(shift.take(None)[0])
    shift.to_the_end()
    return f"two workers left; {shift.tasks} tasks counted, each once"


def early(shift: Shift, _bench: Bench) -> str:
    """A worker is given up, and comes back while its task waits for another one."""
    task, worker = coordinator.victim(shift)
    shift.crew.stop(worker)
    shift.absent.add(worker)
    shift.gone(worker)
    shift.crew.resume(worker)
    shift.crew.release(worker)
    while worker not in shift.take(None):
        pass
    shift.to_the_end()
    return f"{worker} was given up, and came back with task {task} as the first: its result counted, once"


@judged("a task that has a backup gets no second one; the next late task does, or nobody")
def two(scene: str, bench: Bench) -> str | Problem:
    """The latest task is in two pairs of hands."""
    chance = bench.random
    cases, wanted = list[backups.Case](), []
    for _ in range(15):
        latest, other, calm = chance.sample(range(30), 3)
        other_late = chance.random() < 0.5
        seconds = [30.0, 12.0, 5.0 if other_late else 1.5, 0.5]
        cases.append(([], backups.running(chance, [latest, latest, other, calm], seconds), 1.0))
        wanted.append(other if other_late else None)
    for case, value, want in zip(cases, backups.chosen(scene, bench, cases), wanted, strict=True):
        if value != want:
            return Problem(
                backups.told(case, value) + f", not {want}",
                "The latest task has a backup already, and the late one behind it was passed over."
                if value is None
                else "A task that is in two pairs of hands gets a third.",
                "Count how often each task occurs in `running`.",
            )
    return f"{len(cases)} times nobody got a second backup"
