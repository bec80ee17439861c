"""The hidden checks of chapter 09. They never enter a learner's kernel, a release or a feedback's source."""

from __future__ import annotations

from podlab.checks.bench import Bench
from podlab.checks.hidden import Hidden
from podlab.course.one_process import memory, plan, profile
from podlab.course.plain import Problem, computed, judged, short

CHECKS = Hidden()
add = CHECKS.add


@CHECKS("09.1", "broken", "A part that raises", weight=2, needs=["own"])
@judged("a part that raises has used its time too; its error goes to who asked, and later requests are counted")
def broken(scene: str, bench: Bench) -> str | Problem:
    """Ingestion breaks each time, and ui lives with it."""
    parts = profile.shape(bench, ingestion={"raises": True, "computes": 0.012})
    told = profile.profiled(scene, bench, parts)
    if len(told["answers"]) != 4 or any("nothing" not in answer for answer in told["answers"]):
        return Problem(
            f"ingestion raised; of 4 pages {len(told['answers'])} came: {told['answers'][:1]}",
            "ask swallows the error, or ends everything.",
            "Let it through: try, finally.",
        )
    return profile.differs(told, parts) or "its time was counted, its error arrived"


@CHECKS("09.1", "goes-on", "The page itself raises", weight=1, needs=["own"])
@judged("if ui itself raises, its time counts, and the next request goes on")
def goes_on(scene: str, bench: Bench) -> str | Problem:
    """Every page breaks when all has been done for it."""
    parts = profile.shape(bench, ui={"raises": True, "computes": 0.012})
    told = profile.profiled(scene, bench, parts)
    made = sum(name == "ui" for name, _ in told["calls"])
    if made != 4:
        return Problem(
            f"ui raised each time; of 4 requests {made} came to it, and profile gave {short(told['found'])}",
            "The error of one request ends all of them.",
            "try, except around ask('ui', request), within the loop.",
        )
    return profile.differs(told, parts) or "four requests, four errors, their time was counted"


@CHECKS("09.2", "less-memory", "Which is cheaper", weight=1, needs=["memory"])
@computed("the way that takes less memory is named; the whole if both take the same")
def less_memory(scene: str, bench: Bench) -> str | Problem:
    """Light and heavy loads, and a tie."""
    cases = [(plan.parts(bench), rate, frame) for rate in (1, 5, 40, 90) for frame in (10, 60)]
    tie: plan.Parts = {"ui": [10, 50]}
    return plan.compare(scene, bench, [*cases, (tie, 20, 30)], "cheaper") or "named for nine loads"


@CHECKS("09.3", "gone", "Some have ended", weight=1, needs=["own"])
@judged("a process that has ended takes nothing, and is no error")
def gone(scene: str, bench: Bench) -> str | Problem:
    """Two of four are killed before the question."""
    return memory.judge(memory.taken(scene, bench, 3, 20, 10, ended=2), "four processes, two of which have ended")
