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
#: Exercises of chapter 01 whose checks compute; 01.2 and 01.4 measure time, so that waiting is what they are about.
EXERCISES = ("01.1", "01.3")


def main() -> None:
    """Measure and tell."""
    given = options(__doc__, repeats=(20, 2, "checks of each exercise"))
    here = machine()
    announce("self-check", here)
    with tempfile.TemporaryDirectory(prefix="podlab-bench-") as home:
        os.environ["PODLAB_HOME"] = home
        from podlab.course.manuscript import cases, read
        from podlab.lab import start

        document = read(COURSE / "manuscript" / "01-split-and-conquer" / "assignment.py")
        sources = {id: document.answer(id).source for id in EXERCISES}
        names = {case.exercise: case.names for case in cases(document) if case.title == "the reference"}
        with contextlib.redirect_stdout(io.StringIO()):
            lab = start("01")

        def check(id: str) -> float:
            began = time.monotonic()
            with contextlib.redirect_stdout(io.StringIO()):
                view = lab.check(id, {name: sources[id] for name in names[id] if callable(names[id][name])})
            assert view.report.passed, view.text
            return time.monotonic() - began

        runs = interleave(given.repeats, **{id.replace(".", "_"): lambda id=id: check(id) for id in EXERCISES})
    everything = [seconds for times in runs.values() for seconds in times]
    rows = [(id.replace("_", "."), percentile(times, 50), percentile(times, 95)) for id, times in runs.items()]
    table("seconds of lab.check", ("exercise", "p50", "p95"), rows)
    worst = percentile(everything, 95)
    finish(Figure("self-check", worst, "s", None, "p95 at most 5 s", worst <= 5), here)


if __name__ == "__main__":
    main()
