"""A learner's own lab.check: seconds from the call to the report, for exercises in which no waiting is inherent."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import time
from pathlib import Path

from common import Figure, announce, finish, interleave, machine, options, percentile, table

COURSE = Path(__file__).parents[1]
#: Chapters without a cluster that need nothing but Python, and their exercises that are about time itself: two measure
#: how long work takes, one has programs finish theirs.
CHAPTERS = ("01", "03", "05", "09", "12")
WAITING = ("01.2", "01.4", "12.3")


def main() -> None:
    """Measure and tell."""
    given = options(__doc__, repeats=(20, 1, "checks of each exercise"))
    here = machine()
    announce("self-check", here)
    with tempfile.TemporaryDirectory(prefix="podlab-bench-") as home:
        os.environ["PODLAB_HOME"] = home
        from podlab.checks import answers, registry
        from podlab.course.manuscript import cases, read
        from podlab.lab import start

        labs, right = {}, {}
        for chapter in CHAPTERS:
            (path,) = (COURSE / "manuscript").glob(f"{chapter}-*/assignment.py")
            for case in cases(read(path)):
                if case.title == "the reference" and case.exercise not in WAITING:
                    exercise = registry.exercise(case.exercise)
                    right[case.exercise] = answers.collect([exercise], case.names)[case.exercise]
            with contextlib.redirect_stdout(io.StringIO()):
                labs[chapter] = start(chapter)

        def check(id: str) -> float:
            began = time.monotonic()
            with contextlib.redirect_stdout(io.StringIO()):
                view = labs[id[:2]].check(id, right[id])
            assert view.report.passed, view.text
            return time.monotonic() - began

        runs = interleave(given.repeats, **{id.replace(".", "_"): lambda id=id: check(id) for id in sorted(right)})
    everything = [seconds for times in runs.values() for seconds in times]
    rows = [(id.replace("_", "."), percentile(times, 50), percentile(times, 95)) for id, times in runs.items()]
    table("seconds of lab.check", ("exercise", "p50", "p95"), rows)
    worst = percentile(everything, 95)
    finish(Figure("self-check", worst, "s", None, "p95 at most 5 s", worst <= 5 or given.small), here)


if __name__ == "__main__":
    main()
