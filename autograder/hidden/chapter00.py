"""The hidden checks of chapter 00. They never enter a learner's kernel, a release or a feedback's source."""

from __future__ import annotations

from podlab.checks.bench import Bench
from podlab.checks.hidden import Hidden
from podlab.checks.world import World
from podlab.course.plain import Problem, computed, judged
from podlab.course.start_here import average, wishes

CHECKS = Hidden()
add = CHECKS.add


@CHECKS("00.1", "popular", "A film that thousands have rated", weight=1)
@computed("thousands of stars have an average as well")
def popular(source: str, bench: Bench) -> str | Problem:
    """A list that is longer than Python's stack."""
    stars = [bench.random.randint(1, 5) for _ in range(5_000 + bench.random.randint(0, 500))]
    return average.compare(
        source, bench, [stars], "It looks at some of the stars only.", "Call it with [1] * 5000 + [5] * 5000."
    )


@CHECKS("00.2", "zero", "The wish for none", weight=1, needs=["wish"])
@judged("none is a wish as well: the number is that of a real cluster")
def zero(scene: wishes.Scene, world: World) -> str | Problem:
    """A wish for 0 pods, lived through in a room of its own."""

    def count() -> int:
        return wishes.lived(world.room("none"), 1, [0], world)[-1]

    cause = "0 was taken for no wish at all (`or`, or `if number`)."
    return wishes.foreseen(scene.source, world, 1, [0], count, cause, f"Call {wishes.NAME}(3, [0]).")
