"""The hidden checks of chapter 03. They never enter a learner's kernel, a release or a feedback's source."""

from __future__ import annotations

from statistics import median
from typing import Any

from podlab.checks.bench import Bench
from podlab.checks.hidden import Hidden
from podlab.course.lead_node import detector, election, fencing, lease, predict
from podlab.course.lead_node.detector import Story, regular
from podlab.course.lead_node.fencing import Step
from podlab.course.lead_node.lease import Trial
from podlab.course.plain import Problem, computed, judged

CHECKS = Hidden()
add = CHECKS.add


@CHECKS("03.1", "old-news", "A late or repeated heartbeat says nothing about now", weight=2, needs=["killed"])
@computed("a heartbeat counts only if its number is higher than all that were heard of that node")
def old_news(scene: detector.Scene, bench: Bench) -> str | Problem:
    """Heartbeats of a dead node arrive late, and twice."""
    chance = bench.random
    beats = regular("n1", 1, 0.1, 3.5) + regular("n2", 1, 0.1, 1.0)
    for _ in range(6):
        beats.append(("n2", chance.randint(1, 9), round(chance.uniform(1.3, 3.4), 3)))
    story = Story(sorted(beats, key=lambda beat: beat[2]), nodes=("n1", "n2"))
    found = detector.compare(
        scene,
        bench,
        story,
        story.nodes,
        "A heartbeat that was under way for long, or came twice, was taken for a sign of life.",
        "Which number did you hear last of that node?",
    )
    return found if isinstance(found, Problem) else f"{found} answers were right"


@CHECKS("03.1", "never-heard", "A node that was never heard of is not alive for ever", weight=1, needs=["killed"])
@computed("a node that has never been heard of has been silent since the detector was made")
def never_heard(scene: detector.Scene, bench: Bench) -> str | Problem:
    """Two nodes, one of which never says anything."""
    story = Story(regular("n1", 1, 0.1, 2.0), nodes=("n1", "n2"))
    found = detector.compare(
        scene,
        bench,
        story,
        ["n2"],
        "Nothing is known of a node before its first heartbeat.",
        "What does the detector know from the moment at which it is made?",
    )
    return found if isinstance(found, Problem) else f"{found} answers were right"


@CHECKS("03.2", "drift", "Clocks that drift apart", weight=2, needs=["holds"])
@computed("the holder's clock may lose `drift` seconds in a second while the service's gains as much")
def drift(source: str, bench: Bench) -> str | Problem:
    """The holder's clock at its slowest, the service's at its fastest."""
    trials = []
    for _ in range(15):
        apart = round(bench.random.uniform(0.02, 0.1), 3)
        trials.append(lease.cut_off(bench, 0.02, apart, (1 + apart) / (1 - apart)))
    return lease.too_long(
        source,
        bench,
        trials,
        "Two clocks that may each be off by drift are apart by twice as much.",
        "How long are length seconds of the fastest clock on the slowest one?",
    )


@CHECKS("03.2", "late", "An answer to an old question", weight=2, needs=["holds"])
@computed("an answer lengthens the lease from its own question, not from a newer one")
def late(source: str, bench: Bench) -> str | Problem:
    """The last answer that arrives is very late, and newer questions have been lost."""
    trials = []
    for _ in range(10):
        length, cut = round(bench.random.uniform(1.0, 4.0), 1), bench.random.randint(3, 6)
        soon = 0.03 * length
        slow = round(bench.random.uniform(0.6, 0.8) * length, 3)
        delays = (*[soon] * (cut - 2), slow, *[None] * 80)
        trials.append(Trial(length, 0.0, delays, 5 * length, cut))
    return lease.too_long(
        source,
        bench,
        trials,
        "An answer to an old question was counted from a newer question.",
        "An answer brings the number of its question along. What have you kept by that number?",
    )


@CHECKS("03.3", "clocks", "Never two, with clocks that drift and answers that take time", weight=2, needs=["elects"])
@judged("at most one node holds a lease, with clocks at the bounds of DRIFT and answers that are late")
def clocks(scene: election.Scene, bench: Bench) -> str | Problem:
    """The leader's clock is slow."""
    return election.judge(scene, bench, "clocks")


@CHECKS("03.3", "duplicates", "Never two, with messages that arrive twice and late", weight=2, needs=["elects"])
@judged("at most one node holds a lease, while the network repeats and holds back messages")
def duplicates(scene: election.Scene, bench: Bench) -> str | Problem:
    """A bad network, and partitions."""
    return election.judge(scene, bench, "duplicates")


@CHECKS("03.4", "whole", "A new leader has fenced off every key", weight=2, needs=["fresh"])
@computed("a token that came with one key counts for all of them")
def whole(source: str, bench: Bench) -> str | Problem:
    """The new leader has written one key, the former leader comes with another."""
    scripts = []
    for _ in range(5):
        first, second = bench.random.sample(fencing.KEYS, 2)
        token = bench.random.randint(1, 50)
        scripts.append(
            [
                Step(0, "write", (first, "a", token), "n1"),
                Step(1, "write", (second, "b", token), "n1"),
                Step(2, "write", (first, "c", token + 1), "n2"),
                Step(3, "write", (second, "d", token), "n1"),
                Step(4, "read", (second,)),
            ]
        )
    return fencing.compare(source, bench, scripts)


@CHECKS("03.4", "old", "It is the highest token that counts, not the last", weight=1, needs=["stale"])
@computed("a late write that was refused does not lower what the store knows")
def old(source: str, bench: Bench) -> str | Problem:
    """Two former leaders, one after the other."""
    token = bench.random.randint(3, 50)
    steps = [
        Step(0, "write", ("model", "a", token), "n3"),
        Step(1, "write", ("model", "b", token - 2), "n1"),
        Step(2, "write", ("model", "c", token - 1), "n2"),
        Step(3, "read", ("model",)),
        Step(4, "write", ("model", "d", token), "n3"),
        Step(5, "read", ("model",)),
    ]
    return fencing.compare(source, bench, [steps])


@CHECKS("03.5", "apart", "How far the best and the typical recovery are apart", weight=1)
@judged("typical and best recovery are as far apart as they are measured, to within 40 %")
def apart(scene: dict[str, Any], bench: Bench) -> str | Problem:
    """The moment of the death between two renewals makes the difference."""
    found = predict.recoveries(predict.TIMERS, bench.seed)
    told, measured = scene[predict.TYPICAL] - scene[predict.SHORTEST], median(found) - found[0]
    if abs(told - measured) <= 0.4 * measured:
        return f"predicted {told:.2f} s apart, measured {measured:.2f} s"
    return Problem(
        f"predicted {told:.2f} s apart, measured {measured:.2f} s",
        "The leader dies at some moment between two renewals, and the first to stand waits for a moment by chance.",
        "What is the best moment for the leader to die, and what is the middle one?",
    )
