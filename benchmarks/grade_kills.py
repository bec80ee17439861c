"""Kill the grader at random moments, each time start it again: the gradebook ends as that of an undisturbed one.

A folder is graded with kills until a run ends by itself; then it is compared, and the next folder begins. With
`--cluster N` the same is done N times with chapter 15, whose submissions have clusters of their own.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from common import Figure, announce, finish, machine, options, say, table

from podlab.commands.demo import throw_away_home
from podlab.grading import samples

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from autograder.corpus import attacks, kills, notebooks  # noqa: E402 - the corpus is no part of the package

CLASS = ("honest", "unanswered", "exit-hard", "file-words", "half-characters", "null-bytes")
#: Learners of the class with clusters.
FEW = ("bea", "eva", "kim")


def killed(trial: kills.Trial, top: Path, number: int) -> tuple[Counter[str], int, int]:
    """Kill it `number` times: how often in which phase, how many folders ended, and how many of them wrong."""
    seconds = kills.duration(trial, top / "undisturbed")
    expected = trial.result(top / "undisturbed")
    say(f"  undisturbed: {seconds:.1f} s")
    phases: Counter[str] = Counter()
    ended = wrong = 0
    while phases.total() < number:
        out = top / f"out-{ended}"
        while phases.total() < number:
            if (last := trial.killed(out, random.uniform(0, seconds))) is None:
                break
            phases[_phase(last)] += 1
            say(f"  {phases.total()} of {number}: {last}")
        else:
            kills.duration(trial, out)
        ended += 1
        if trial.result(out) != expected:
            wrong += 1
            say(f"  {out.name} ends otherwise")
    return phases, ended, wrong


def _phase(line: str) -> str:
    """What the grader was at, of the last line that it said."""
    words = line.partition(" s  ")[2] or line
    if "Opening" in words or "nothing" in words:
        return "opening the gradebook"
    if "image" in words:
        return "before the first submission"
    return "writing the report" if "report" in words else "grading and booking"


def main() -> None:
    """Kill and tell."""
    given = options(__doc__, kills=(200, 3, "kills of a grader without clusters"), cluster=(20, 0, "and with clusters"))
    here = machine()
    announce("grade-kills", here)
    rows, total, all_wrong = [], 0, 0
    with throw_away_home() as home, tempfile.TemporaryDirectory(prefix="podlab-bench-") as scratch:
        top = Path(scratch)
        attacks.write_all(top / "class", tuple(each for each in attacks.ATTACKS if each.name in CLASS))
        course = notebooks.write_course(top / "course")
        samples.write(ROOT, home / "class")
        for file in (home / "class").glob("*.ipynb"):
            if file.stem not in FEW:
                file.unlink()
        with_clusters = kills.Trial(ROOT, home / "class", samples.ASSIGNMENT, "--jobs", "2", leaves_clusters=True)
        for name, number, trial in (
            ("without clusters", given.kills, kills.Trial(course, top / "class", notebooks.NAME, "--jobs", "2")),
            ("with clusters", given.cluster, with_clusters),
        ):
            if not number:
                continue
            kills.adopt_orphans(trial is not with_clusters)
            (folder := top / name.replace(" ", "-")).mkdir()
            phases, ended, wrong = killed(trial, folder, number)
            rows += [(name, phase, count, "", "") for phase, count in phases.most_common()]
            rows.append((name, "altogether", phases.total(), ended, wrong))
            total, all_wrong = total + phases.total(), all_wrong + wrong
    table("graders killed", ("", "while", "kills", "folders", "that end otherwise"), rows)
    figure = Figure("grade-kills", float(all_wrong), "different gradebooks", None, "0", all_wrong == 0)
    figure.more = {"kills": total}
    finish(figure, here)


if __name__ == "__main__":
    main()
