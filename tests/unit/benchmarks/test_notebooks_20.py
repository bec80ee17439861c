"""The benchmark of many runs goes on where it was: what it keeps, what of it still counts, what is run again."""

from __future__ import annotations

import json
import sys
import threading
from dataclasses import asdict
from pathlib import Path

import pytest

from podlab import waiting

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

import common
import notebooks_20
from notebooks_20 import Run, Sitting, code, digest, main, turns, wanted

LESSON = Path("notebooks/05-mapreduce-from-scratch.ipynb")
EXERCISES = Path("source/05-mapreduce-from-scratch/05-mapreduce-from-scratch.ipynb")


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the runs are kept."""
    monkeypatch.setattr(common, "_record", False)
    monkeypatch.setattr(notebooks_20, "KEPT", tmp_path / "build" / "kept.jsonl")
    return notebooks_20.KEPT


def test_lessons_and_instructors_notebooks_are_wanted() -> None:
    assert wanted("05") == [LESSON, EXERCISES]
    with pytest.raises(SystemExit, match="no chapter 98"):
        wanted("05,98")


def test_only_kept_runs_of_the_same_under_the_same_load_count(tmp_path: Path) -> None:
    sitting = Sitting([LESSON, EXERCISES], tmp_path / "kept", 4, 0.0)
    assert turns([LESSON, EXERCISES], sitting.runs(), 2) == [LESSON, EXERCISES] * 2
    good = Run(str(LESSON), digest(LESSON), "c", 4, 1.0, "")
    runs = [good, Run(str(LESSON), "of what it was", "c", 4, 1.0, ""), Run(str(LESSON), good.digest, "c", 1, 1.0, "")]
    runs.append(Run("notebooks/98-gone.ipynb", good.digest, "c", 4, 1.0, ""))
    failed = Run(str(EXERCISES), digest(EXERCISES), "c", 4, 1.0, "it failed, and stays so")
    lines = [json.dumps(asdict(run)) for run in (*runs, failed)]
    (tmp_path / "kept").write_text("\n".join([*lines, lines[0][:40]]))
    assert sitting.runs() == {LESSON: [good], EXERCISES: [failed]}
    assert turns([LESSON, EXERCISES], sitting.runs(), 3) == [LESSON, EXERCISES] * 2
    assert turns([EXERCISES], sitting.runs(), 1) == []


def test_what_is_tested_is_the_notebook_and_all_code_that_it_can_run() -> None:
    files = {str(file.relative_to(notebooks_20.COURSE)) for file in code(LESSON)}
    can = {str(LESSON), "podlab/course/map_reduce/words.py", "podlab/course/chapter05.py", "podlab/node/agent.py"}
    can |= {"podlab/distributed/mapreduce.py", "podlab/widgets/replay.js", "movies/runner.py", "constraints.txt"}
    assert can <= files
    for never in (
        "podlab/grading/",
        "podlab/course/lead_node/",
        "podlab/course/chapter03.py",
        "podlab/course/moments.py",
    ):
        assert not [file for file in files if file.startswith(never)]
    cluster = {str(file.relative_to(notebooks_20.COURSE)) for file in code(wanted("14")[0])}
    assert {"podlab/course/moments.py", "podlab/course/scenes.py"} <= cluster
    assert digest(LESSON) != digest(EXERCISES)


def test_a_changed_file_is_another_thing_to_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebooks_20, "COURSE", tmp_path)
    monkeypatch.setattr(notebooks_20, "code", lambda path: sorted(tmp_path.iterdir()))
    (tmp_path / "a.py").write_text("a")
    before = digest(LESSON)
    (tmp_path / "a.py").write_text("b")
    changed = digest(LESSON)
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert len({before, changed, digest(LESSON)}) == 3


def told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *options: str) -> dict:
    """The last line of a start with these options."""
    monkeypatch.setattr(sys, "argv", ["notebooks_20.py", *options])
    with pytest.raises(SystemExit):
        main()
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.slow
def test_started_again_it_makes_only_the_runs_that_are_missing(kept: Path, capsys, monkeypatch) -> None:
    every = len(wanted(notebooks_20.MODELS))
    line = told(capsys, monkeypatch, f"--only={EXERCISES}", "--repeats=1", "--minutes=0")
    assert (line["runs"], line["floor"], line["met"]) == (0, every, None) and not kept.exists()
    assert told(capsys, monkeypatch, f"--only={EXERCISES}", "--repeats=1")["runs"] == 1
    (first,) = kept.read_text().splitlines()
    assert json.loads(first)["digest"] == digest(EXERCISES)
    assert told(capsys, monkeypatch, f"--only={EXERCISES}", "--repeats=1")["runs"] == 1
    assert kept.read_text().splitlines() == [first]


def test_a_part_of_the_runs_is_not_recorded(kept: Path, monkeypatch) -> None:
    monkeypatch.setattr(notebooks_20, "clustered", lambda paths: pytest.fail("clusters, and no time to use them"))
    monkeypatch.setattr(sys, "argv", ["notebooks_20.py", "--record", "--minutes=0"])
    with pytest.raises(SystemExit, match="Nothing was recorded"):
        main()


def test_what_is_ended_from_outside_is_no_run(kept: Path) -> None:
    sitting = Sitting([EXERCISES], kept, 1, float("inf"))
    running = threading.Thread(target=sitting._turn, args=(EXERCISES,))
    running.start()
    waiting.until(lambda: sitting._running, "a run under way", timeout=60, interval=0.01)
    sitting._end()
    running.join()
    sitting._turn(EXERCISES)
    assert not kept.exists() and not sitting._running


def test_what_has_changed_since_the_start_does_not_count(kept: Path) -> None:
    sitting = Sitting([EXERCISES], kept, 1, float("inf"))
    sitting.digests[EXERCISES] = "of what it was"
    sitting._turn(EXERCISES)
    assert not kept.exists()
