"""Exercise 10.1: ingestion keeps each event once, though senders repeat themselves and its process is killed."""

from __future__ import annotations

import random
import signal
from dataclasses import dataclass
from typing import Any

from podlab.checks.bench import Bench
from podlab.checks.calls import Called
from podlab.checks.contract import Answer, Exercise, HandIn, Hint, Inconclusive
from podlab.checks.talks import TalkEnded
from podlab.course.outside import outside
from podlab.course.plain import Problem, judged, short

LESSON = "notebooks/10-five-services.ipynb"
NAME = "Ingestion"
#: Seconds that one answer may take, on an idle machine.
PATIENCE = 10.0

Event = dict[str, Any]
Step = list[Any]


def events(chance: random.Random, count: int) -> list[Event]:
    """Ratings of some users, each with an id of its own."""
    return [
        {
            "id": f"{chance.getrandbits(40):010x}",
            "user": chance.randint(1, 50),
            "movie": chance.randint(1, 300),
            "stars": chance.randint(1, 10) / 2,
        }
        for _ in range(count)
    ]


@dataclass(frozen=True)
class Story:
    """What a script came to: an answer for each step."""

    script: list[Step]
    said: list[dict[str, Any]]

    def answers(self) -> list[tuple[Event, str]]:
        """(event, answer) of each event that was answered."""
        return [
            (value, told.get("value", ""))
            for (what, value), told in zip(self.script, self.said, strict=False)
            if what == "send"
        ]

    @property
    def kept(self) -> Any:
        """What the last step, "events", gave."""
        return self.said[-1].get("value")

    def trouble(self) -> Problem | None:
        """A Problem for the first step that raised, or that ended the process without being told to."""
        for (what, value), told in zip(self.script, self.said, strict=False):
            call = {"start": "Ingestion(folder)", "events": "events()"}.get(what, f"accept({short(value)})")
            if error := told.get("error"):
                return Problem(
                    f"{call} raised {error}",
                    "It does not expect what it finds: an event like this, or the files that an earlier life has left.",
                    "Make one in a folder of your own, send it a few events, then make a second one there.",
                )
            if "died" in told and what not in ("die", "until dead"):
                return Problem(f"{call} ended the process", "The code exits.", "Return an answer; do not exit.")
        return None


def played(source: str, bench: Bench, script: list[Step]) -> Story:
    """The story of a script (see `play` in programs/lives.py)."""
    with outside(bench, "lives", 60) as lives:
        said = lives.tell("play", source, script, bench.deadline(PATIENCE))
    if said is None:
        raise TalkEnded(Called("late", error=f"did not return within {PATIENCE:.0f} s"), "your code")
    if any(str(told.get("error", "")).startswith("NotImplementedError") for told in said):
        raise TalkEnded(Called("raised", error="raised NotImplementedError"), "your code")
    return Story(script, said)


def wrong_answers(story: Story, known: set[str]) -> Problem | None:
    """A Problem for an event that was answered wrongly, where `known` are ids from before."""
    for event, answer in story.answers():
        want = "duplicate" if event["id"] in known else "accepted"
        if answer != want:
            return Problem(
                f"event {event['id']} was answered with {short(answer)}, not {want!r}",
                "Whether an id is known is not noted where it is kept, or is forgotten with the process.",
                "What does a new process know of the events that an old one has kept?",
            )
        known.add(event["id"])
    return None


def miscounted(kept: Any, wanted: list[Event]) -> Problem | None:
    """A Problem if `kept` is not exactly what was wanted, in order."""
    if not isinstance(kept, list):
        return Problem(f"events() gave {short(kept)}", "It gives no list.", "Return a list of the events as they came.")
    ids = [one.get("id") if isinstance(one, dict) else one for one in kept]
    for event in wanted:
        if (count := ids.count(event["id"])) != 1:
            if count:
                return Problem(
                    f"event {event['id']} is kept {count} times",
                    "Whoever gets no answer sends again, and the second one is kept beside the first.",
                    "Look the id up before you write; where does a new process find the ids?",
                )
            return Problem(
                f"event {event['id']} was acknowledged and is not there ({len(kept)} are)",
                "It was in the memory of the process, or in a buffer, when that was killed.",
                "Before you answer: has the operating system got the whole line? See flush.",
            )
    if ids != [event["id"] for event in wanted] or kept != wanted:
        strange = next((one for one in kept if one not in wanted), kept)
        return Problem(
            f"events() has {short(strange)}, which is not what was sent",
            "Events are changed, kept in another order, or there is one that was never sent or was refused.",
            "Compare events() with what you have sent, element by element.",
        )
    return None


def kept_once(story: Story, wanted: list[Event], told: str) -> str | Problem:
    """`told` if in a story from the beginning every answer is right, and in the end exactly `wanted` is kept."""
    return story.trouble() or wrong_answers(story, set()) or miscounted(story.kept, wanted) or told


def stage(answer: Answer, _bench: Bench) -> str:
    """The source of the learner's class."""
    return answer[NAME]


EXERCISE = Exercise(
    id="10.1",
    title="Keep it once",
    points=12,
    handed_in=(HandIn(NAME, "function"),),
    stage=stage,
    cluster=False,
    lesson=f"{LESSON}#Ingestion",
    hints=(
        Hint(
            "Your process is killed just after it has answered. Where is the event then?",
            lambda situation: situation.failed("acknowledged"),
        ),
        Hint(
            "The event was kept, the answer never came. The sender sends again, to a new process: how can that know?",
            lambda situation: situation.failed("between", "replays"),
        ),
        Hint("In which order do you do these: write, note the id, answer? What if it ends between two of them?"),
        Hint("What should __init__ do with a file that is there already, and with a last line that has no end?"),
    ),
    debrief=(
        "At least once from the sender, and an id that is known for ever, make once. The real service leaves both to "
        "its broker, which writes to disk before it acknowledges (movies/bus/broker.py), and features keeps every id. "
        "Here a killed process is the fault. If the power fails, flush is not enough: then it takes os.fsync."
    ),
)


@EXERCISE.check("keeps", "What is sent is kept, in order", weight=2)
@judged("new events are answered with 'accepted', and events() gives them back, the first one first")
def keeps(scene: str, bench: Bench) -> str | Problem:
    """A dozen events, no fault."""
    sent = events(bench.random, 12)
    story = played(scene, bench, [["start", None], *(["send", one] for one in sent), ["events", None]])
    return kept_once(story, sent, f"{len(sent)} events were kept in order")


@EXERCISE.check("replays", "An id counts once", weight=2, needs=["keeps"])
@judged("an event that is sent again is answered with 'duplicate' and kept once, whatever came between")
def replays(scene: str, bench: Bench) -> str | Problem:
    """Events with repetitions; the same movie rated twice by one user is no repetition."""
    sent = events(bench.random, 15)
    sent.append(sent[0] | {"id": "a-" + sent[0]["id"]})
    stream = [*sent, *bench.random.choices(sent, k=15)]
    stream[5:] = bench.random.sample(stream[5:], len(stream) - 5)
    first = list({one["id"]: one for one in stream}.values())
    story = played(scene, bench, [["start", None], *(["send", one] for one in stream), ["events", None]])
    return kept_once(story, first, f"{len(stream)} were sent, {len(first)} are kept")


@EXERCISE.check("acknowledged", "What was acknowledged survives", weight=3, needs=["keeps"])
@judged("the process is killed right after an answer: a new one has every event that was acknowledged")
def acknowledged(scene: str, bench: Bench) -> str | Problem:
    """Three lives, each ended by SIGKILL after its last answer."""
    sent = events(bench.random, 18)
    script: list[Step] = []
    for begin in (0, 6, 12):
        script += [["start", None], *(["send", one] for one in sent[begin : begin + 6]), ["kill", None]]
    script += [["start", None], ["events", None]]
    story = played(scene, bench, script)
    return kept_once(story, sent, f"three processes were killed; all {len(sent)} acknowledged events are there")


@EXERCISE.check("between", "Killed between writing and answering", weight=3, needs=["acknowledged"])
@judged("an event whose answer never came is sent again to a new process: it is kept once")
def between(scene: str, bench: Bench) -> str | Problem:
    """Killed after accept has returned and before the answer leaves; then everything is sent again, as senders do."""
    sent = events(bench.random, 9)
    script: list[Step] = [["start", None], *(["send", one] for one in sent[:-1]), ["die", sent[-1]], ["start", None]]
    story = played(scene, bench, [*script, ["send", sent[-1]], ["send", sent[0]], ["events", None]])
    if trouble := story.trouble():
        return trouble
    if story.said[len(script) - 2].get("died") != signal.SIGKILL:
        raise Inconclusive("the process did not die between writing and answering")
    return miscounted(story.kept, sent) or wrong_answers(story, {sent[-1]["id"]}) or "killed in between: kept once"
