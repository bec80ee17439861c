"""Exercise 03.3: elect a leader. The answer's code is driven by the simulator through hundreds of bad days."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, CheckFunction, Exercise, HandIn, Hint, Inconclusive
from podlab.course.hosting import Fleet, Stopped
from podlab.course.lead_node import runs
from podlab.course.lead_node.member import Member
from podlab.course.plain import Problem, judged
from podlab.distributed.histories import Lease, leases
from podlab.distributed.simulator import Simulator

LESSON = "notebooks/03-the-lead-node.ipynb"
NAME = "Voter"
#: Seeded runs of each kind of trouble.
RUNS = {"none": 20, "partitions": 50, "crashes": 50, "clocks": 40, "duplicates": 40}
#: Kinds that run side by side. Peace comes first and alone: nothing else is asked of a group that elects nobody.
TOGETHER = (("none",), ("partitions", "crashes"), ("clocks", "duplicates"))


@dataclass
class Scene:
    """The learner's class, and the runs that several checks look at."""

    source: str
    done: dict[str, list[Simulator]] = field(default_factory=dict)
    stopped: dict[str, Stopped] = field(default_factory=dict)

    def runs(self, bench: Bench, trouble: str) -> list[Simulator]:
        """All runs of a kind of trouble, run once, with those of TOGETHER. Raises Stopped if the answer cannot be."""
        if trouble in self.stopped:
            raise self.stopped[trouble]
        if trouble not in self.done:
            kinds = next(kinds for kinds in TOGETHER if trouble in kinds)
            try:
                self.done |= self._run(bench, kinds)
            except Stopped as stopped:
                self.stopped |= dict.fromkeys(kinds, stopped)
                raise
        return self.done[trouble]

    def _run(self, bench: Bench, kinds: Sequence[str]) -> dict[str, list[Simulator]]:
        with Fleet(bench, self.source, NAME, [list(runs.MEMBERS)]) as fleet:
            made = {
                kind: [runs.prepared(f"{bench.seed}/{kind}/{n}", kind, fleet.make) for n in range(RUNS[kind])]
                for kind in kinds
            }
            bench.say(f"{sum(map(len, made.values()))} runs of five nodes")
            fleet.run([one for every in made.values() for one in every], runs.END)
            fleet.relive()
        return made


def stage(answer: Answer, _bench: Bench) -> Scene:
    """Nothing has run yet."""
    return Scene(answer[NAME])


EXERCISE = Exercise(
    id="03.3",
    title="At most one",
    points=14,
    handed_in=(HandIn(NAME, "function"),),
    stage=stage,
    cluster=False,
    lesson=f"{LESSON}#One-promise-and-any-two-majorities",
    hints=(
        Hint(
            "Five nodes: how many votes make sure that no other five votes can be found without one of these voters?",
            lambda situation: situation.failed("elects", "partitions"),
        ),
        Hint(
            "A voter crashes and is back in a tenth of a second. What has it promised, to whom, and how can it know?",
            lambda situation: situation.failed("crashes"),
        ),
        Hint("A node has voted for n1, whose lease may still run. n2 comes with a higher term. What does it owe n1?"),
        Hint("When did the voters' promises begin, seen from the leader: when it asked, or when they answered?"),
        Hint("The leader's clock loses 5 %, the voters' gain 5 %. Which of 2 s is shorter, and by which factor?"),
    ),
    debrief=(
        "Any two majorities share a node, and that node keeps its promise: this is all that makes the election safe. "
        "A promise that only memory knows is none, so term and vote go to the disk before the answer goes out. Raft "
        "and ZooKeeper, and etcd under Kubernetes, stand on the same two ideas. Kubernetes itself elects the leader "
        "among its controllers with a Lease object in etcd: chapter 24 uses it."
    ),
)


def judge(scene: Scene, bench: Bench, trouble: str) -> str | Problem:
    """Look for two holders in all runs of a kind of trouble."""
    try:
        found = scene.runs(bench, trouble)
    except Stopped as stopped:
        return stopped.problem
    if trouble != "none" and sum(map(runs.bitten, found)) < len(found) / 2:
        raise Inconclusive("the faults have not bitten in most runs")
    for number, simulator in enumerate(found, 1):
        verdict = runs.safe(simulator)
        if not verdict:
            return explained(simulator, verdict.evidence, f"run {number} of {len(found)}: {verdict.observed}")
    held = sum(len(leases(one.record)) for one in found)
    return f"{len(found)} runs, {held} leases, never two holders"


def explained(simulator: Simulator, pair: Sequence[Lease], observed: str) -> Problem:
    """Why two nodes led, as far as the record tells, with the record up to that moment."""
    first, second = pair
    record = simulator.record
    before, after = _voters(record, first, second.begin), _voters(record, second, second.begin)
    few = len(runs.MEMBERS) // 2
    short = next((one for one in (second, first) if len(_voters(record, one, one.begin)) <= few), None)
    both = sorted(before & after)
    cause = "Two majorities were found, though any two share a node."
    ask = "Which node voted for both, and what should have kept it from it?"
    if short is not None and any(event["event"] == "voted" for event in record):
        votes = sorted(_voters(record, short, short.begin))
        cause = f"{short.holder} led in term {short.term} with {len(votes)} of 5 votes ({', '.join(votes)})."
        ask = "How many different nodes are a majority of five? A message may arrive twice."
    elif first.term == second.term:
        cause = (
            f"{', '.join(both) or 'Somebody'} voted for both {first.holder} and {second.holder} in term {first.term}."
        )
        ask = "A node has one vote in a term. Where does it keep the vote, so that it is never given twice?"
    elif both:
        who = both[0]
        when = max(event["time"] for event in record if _is_vote(event, second, who))
        crashed = any(
            event["event"] == "crash" and event.get("node") == who and first.begin - 3 < event["time"] <= when
            for event in record
        )
        renewed = max(event["time"] for event in record if event["event"] == "lease" and event["time"] <= when)
        if crashed:
            cause = f"{who} crashed, and then voted for {second.holder} while its promise to {first.holder} still ran."
            ask = "After a crash, what is the longest promise that a node may have given just before it?"
        elif when - renewed < 0.7 * Member.LEASE:
            cause = f"{who} broke its promise to {first.holder} for {second.holder}, who came with a higher term."
            ask = "A higher term does not end a promise; time does."
        else:
            cause = f"{who} kept its promise to {first.holder}; the lease of {first.holder} was longer than it."
            ask = "From which moment may the leader count, and whose clock may run faster than its own?"
    return Problem(
        observed, cause, f'{ask} lab.replay("03.3") shows the moment.', {"replay": kept(record, second.begin)}
    )


def _voters(record: Sequence[dict[str, Any]], lease: Lease, until: float) -> set[str]:
    found = {event["node"] for event in record if event["time"] <= until and _is_vote(event, lease)}
    return {lease.holder} | found


def _is_vote(event: dict[str, Any], lease: Lease, node: str = "") -> bool:
    told = event["event"] == "voted" and event["term"] == lease.term and event.get("choice") == lease.holder
    # A leader votes for itself when it stands.
    own = event["event"] == "candidate" and event["term"] == lease.term and event["node"] == lease.holder
    return (told or own) and (not node or event["node"] == node)


def kept(record: Sequence[dict[str, Any]], moment: float) -> dict[str, Any]:
    """A record for `lab.replay`, from a while before the moment until shortly after it."""
    from podlab.widgets.group import frames

    begin = max(0.0, moment - 8.0)
    events = []
    for event in record:
        if begin <= event["time"] <= moment + 1.5 or (event["event"] == "start"):
            fields = {key: round(value, 4) if isinstance(value, float) else value for key, value in event.items()}
            fields["time"] = max(fields["time"], round(begin, 4))
            events.append(fields)
    moments = frames(events)
    position = max([0, *(index for index, time in enumerate(moments) if time <= moment + 2e-3)])
    return {"kind": "ring", "mode": "simulation", "record": events, "position": position}


@EXERCISE.check("elects", "A group in peace elects one leader and keeps it", weight=2)
@judged("in peace a leader is elected within 6 s, and then leads for at least 12 s, since it renews its lease")
def elects(scene: Scene, bench: Bench) -> str | Problem:
    """Runs without faults."""
    told = judge(scene, bench, "none")
    if isinstance(told, Problem):
        return told
    for simulator in scene.runs(bench, "none"):
        every = leases(simulator.record)
        if not every:
            return Problem(
                f"in {runs.END:.0f} s without any fault nobody took a lease",
                "Nobody ever wins, or every lease is over before it begins.",
                "Go through one election by hand: who asks, who may vote, when has it won, until when?",
            )
        if every[0].begin > 6 or max(lease.end - lease.begin for lease in every) < 12:
            shown = "; ".join(map(str, every[:3]))
            return Problem(
                f"without any fault there were {len(every)} leases: {shown}",
                "The lease is not renewed, or voters do not vote for their own choice again.",
                "may_vote is asked again at each renewal, with the candidate and the term that it has voted for.",
                {"replay": kept(simulator.record, min(every[0].end, runs.END))},
            )
    return told


def _safe(trouble: str, expected: str) -> CheckFunction:
    def look(scene: Scene, bench: Bench) -> str | Problem:
        return judge(scene, bench, trouble)

    return judged(expected)(look)


EXERCISE.check("partitions", "Never two, while the network is cut and nodes freeze", weight=3, needs=["elects"])(
    _safe("partitions", "at most one node holds a lease at any time, whoever cannot hear whom and whoever is frozen")
)
EXERCISE.check("crashes", "Never two, while nodes crash and come back", weight=3, needs=["elects"])(
    _safe("crashes", "at most one node holds a lease at any time and in any term, though memory is lost")
)


@EXERCISE.check("again", "There is a leader again when all is well", weight=2, needs=["elects"])
@judged(f"{runs.BOUND:.0f} s after the last fault somebody leads in every run, though two of five may be lost")
def again(scene: Scene, bench: Bench) -> str | Problem:
    """Look at the last seconds of the runs with faults."""
    try:
        every = [one for trouble in ("partitions", "crashes") for one in scene.runs(bench, trouble)]
    except Stopped as stopped:
        return stopped.problem
    for simulator in every:
        if not runs.alive(simulator):
            return Problem(
                f"in the run with seed {simulator.seed} nobody led {runs.BOUND:.0f} s after all was well again",
                "A promise that never ends, or a vote that nobody can win any more.",
                'What ends a promise? What makes a term higher? lab.replay("03.3") shows the moment.',
                {"replay": kept(simulator.record, runs.PEACE + runs.BOUND)},
            )
    return f"in all of {len(every)} runs somebody led again"
