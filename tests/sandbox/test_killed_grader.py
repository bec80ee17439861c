"""A grader that is killed, starved of room or kept from its gradebook: the same command goes on, nothing is lost.

`PODLAB_KILLS=200` sets how often the grader is killed; a few times otherwise.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from autograder.corpus import attacks, kills, notebooks  # noqa: E402 - the corpus is no part of the package
from podlab import waiting  # noqa: E402
from podlab.checks import registry  # noqa: E402
from podlab.commands.term import release_in  # noqa: E402
from podlab.grading import kernel_image, queue, records, term, worker  # noqa: E402

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

#: Right answers, of which one takes its time.
SLOW = {**notebooks.RIGHT, "90.3": f"import time\ntime.sleep(5)\n{notebooks.RIGHT['90.3']}"}
CLASS = ("honest", "unanswered", "exit-hard", "file-words", "half-characters", "null-bytes")
#: Over by the time the class has handed in.
DUE = f'"{notebooks.NAME}" = 2026-10-02T12:00:00Z'
KILLS = int(os.environ.get("PODLAB_KILLS", "3"))


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    attacks.write_all(folder / "class", tuple(each for each in attacks.ATTACKS if each.name in CLASS))
    return notebooks.write_course(folder / "course")


@pytest.fixture
def orphans() -> Iterator[None]:
    kills.adopt_orphans()
    yield
    kills.adopt_orphans(False)


@pytest.fixture(scope="module")
def trial(course: Path) -> kills.Trial:
    return kills.Trial(course, course.parent / "class", notebooks.NAME, "--jobs", "2")


@pytest.fixture(scope="module")
def undisturbed(trial: kills.Trial, tmp_path_factory: pytest.TempPathFactory) -> tuple[float, dict[str, Any]]:
    """How long it takes, and where it ends."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    seconds = kills.duration(trial, out)
    assert len(records.read_all(out, notebooks.NAME)) == len(CLASS)
    return seconds, trial.result(out)


def test_a_grader_killed_at_random_leaves_nothing_and_comes_to_the_same_end(
    trial: kills.Trial, undisturbed: tuple[float, dict[str, Any]], tmp_path: Path, orphans: None
) -> None:
    seconds, expected = undisturbed
    out = tmp_path / "out"
    for number in range(KILLS):
        if trial.killed(out, random.uniform(0, seconds)) is None:
            assert trial.result(out) == expected
            out = tmp_path / f"out-{number}"  # it had ended: from the beginning
    done = trial.run(out)
    assert done.returncode == 0, done.stderr[-2000:]
    assert trial.result(out) == expected


def test_a_grader_killed_while_it_keeps_the_books_comes_to_the_same_end(
    trial: kills.Trial, undisturbed: tuple[float, dict[str, Any]], tmp_path: Path, orphans: None
) -> None:
    """Everything is graded already: all that the second run does is to keep the books."""
    _, expected = undisturbed
    out = tmp_path / "out"
    assert trial.run(out).returncode == 0
    seconds = kills.duration(trial, out)
    (out / "gradebook.db").unlink()
    for _ in range(KILLS):
        trial.killed(out, random.uniform(seconds / 2, seconds))
    done = trial.run(out)
    assert done.returncode == 0, done.stderr[-2000:]
    assert trial.result(out) == expected


@pytest.fixture
def terms(course: Path, tmp_path: Path) -> list[Path]:
    """Two terms that are the same, with the assignment released."""
    calm, hurt = (tmp_path / name / "autumn" for name in ("calm", "hurt"))
    calm.parent.mkdir()
    term.make(calm, course)
    (calm / term.FILE).write_text(f'course = "{course}"\n[late]\npercent_per_day = 10\n[deadlines]\n{DUE}\n')
    release_in(term.load(calm), [notebooks.NAME])
    return [calm, Path(shutil.copytree(calm, hurt))]


def changed(course: Path, folder: Path) -> Path:
    """A course with another version of the assignment."""
    shutil.copytree(course, folder)
    source = folder / "source" / notebooks.NAME / f"{notebooks.NAME}.ipynb"
    source.write_text(source.read_text().replace("# The corpus", "# The corpus, once more"))
    return folder


def test_each_command_of_a_term_that_is_killed_at_random_comes_to_the_same_end(
    course: Path, terms: list[Path], tmp_path: Path, orphans: None
) -> None:
    attacks.write_all(tmp_path / "class", tuple(each for each in attacks.ATTACKS if each.name in CLASS[:3]))
    other = changed(course, tmp_path / "other")
    for words in (
        ("collect", str(tmp_path / "class")),
        ("grade", "--jobs", "2"),
        ("grade", "--jobs", "2", "--regrade"),
        ("grade", "--jobs", "2", "--renew"),
        ("feedback",),
        ("export",),
    ):
        if "--renew" in words:
            for folder in terms:
                settings = folder / term.FILE
                settings.write_text(settings.read_text().replace(str(course), str(other)))
        step, (calm, hurt) = kills.Step(notebooks.NAME, *words), terms
        seconds = kills.duration(step, calm)
        for _ in range(max(1, KILLS // 3)):
            step.killed(hurt, random.uniform(0, seconds))
        done = step.run(hurt)
        assert done.returncode == 0, (words, done.stderr[-2000:])
        wrong, right = step.result(hurt), step.result(calm)
        names = wrong["files"].keys() | right["files"].keys()
        # The names alone: what is in all files is a hundred pages.
        assert [name for name in names if wrong["files"].get(name) != right["files"].get(name)] == [], words
        assert wrong == right, words


def below(pid: int) -> dict[int, str]:
    """The command lines of all processes below one."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = {}
    for number in parents:
        above = number
        while above in parents and above != pid:
            above = parents[above]
        if above == pid and number != pid:
            with contextlib.suppress(OSError):
                found[number] = Path(f"/proc/{number}/cmdline").read_text()
    return found


def test_a_box_that_is_killed_from_outside_costs_the_learner_nothing(
    course: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(registry.OWN, str(course / "exercises"))
    notebooks.write(notebooks.answered(SLOW), tmp_path / "ada.ipynb")
    release = course / "release" / notebooks.NAME / f"{notebooks.NAME}.ipynb"
    image = kernel_image.build_image()
    job = worker.Job("ada", notebooks.NAME, str(tmp_path / "ada.ipynb"), str(release), None, str(tmp_path), image, "")
    killed: list[int] = []

    def kill(house: int) -> None:
        def first() -> int | None:
            wardens = [pid for pid, line in below(house).items() if "podlab.grading.inside" in line]
            return min(wardens, default=None)

        killed.append(waiting.until(first, "the box's first process", timeout=60, interval=0.05))
        os.kill(killed[0], signal.SIGKILL)

    with worker.Grader() as grader:
        killer = threading.Thread(target=kill, args=(grader.house(image).pid,))
        killer.start()
        record = grader.grade(job)
        killer.join()
    assert killed
    assert (record.outcome, record.score, record.attempts) == (records.Outcome.GRADED, 40.0, 2)


@pytest.fixture
def slow_job(course: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> worker.Job:
    """A right submission that takes 5 s, and its record of an earlier time."""
    monkeypatch.setenv(registry.OWN, str(course / "exercises"))
    notebooks.write(notebooks.answered(SLOW), tmp_path / "ada.ipynb")
    release = course / "release" / notebooks.NAME / f"{notebooks.NAME}.ipynb"
    records.write(tmp_path, records.Record("ada", notebooks.NAME, records.Outcome.GRADED, "of old"))
    image = kernel_image.build_image()
    return worker.Job(
        "ada", notebooks.NAME, str(tmp_path / "ada.ipynb"), str(release), None, str(tmp_path), image, "no"
    )


@pytest.mark.parametrize(("times", "outcome", "attempts"), [(1, "graded", 2), (9, "infrastructure error", 3)])
def test_a_worker_that_is_killed_costs_an_attempt_and_no_record(
    slow_job: worker.Job, times: int, outcome: str, attempts: int
) -> None:
    killed: list[int] = []

    def kill(step: queue.Progress) -> None:
        if step.text == "Running the notebook." and len(killed) < times:
            old = records.read(Path(slow_job.out), notebooks.NAME, "ada")
            assert old is not None and old.reason == "of old"
            workers = [pid for pid, line in below(os.getpid()).items() if "podlab.grading.worker" in line]
            os.kill(min(workers), signal.SIGKILL)
            killed.append(min(workers))

    (record,) = queue.grade_all([slow_job], 1, kill)
    assert len(killed) == min(times, worker.ATTEMPTS)
    assert (record.outcome.value, record.attempts) == (outcome, attempts)
    assert record.score == (40.0 if outcome == "graded" else None)
    kept = records.read(Path(slow_job.out), notebooks.NAME, "ada")
    assert kept is not None and records.to_json(kept) == records.to_json(record)


def test_a_worker_that_hangs_is_ended_and_asked_three_times_in_all(
    slow_job: worker.Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "LONGEST", 2.0)  # its notebook alone takes longer
    said: list[str] = []
    (record,) = queue.grade_all([slow_job], 1, lambda step: said.append(step.text))
    assert (record.outcome, record.attempts, record.score) == (records.Outcome.INFRASTRUCTURE, 3, None)
    assert sum("did not end within 2 s" in text for text in said) == worker.ATTEMPTS
    assert {each.reason for each in record.unanswered} == {record.reason}


def test_a_disk_that_gets_full_and_has_room_again_costs_nothing_that_is_graded(
    trial: kills.Trial, tmp_path: Path
) -> None:
    out = tmp_path / "small" / "out"
    out.parent.mkdir()
    script = """
    mount -t tmpfs -o size=32m none "$0" && "$@" --only honest || exit 8
    dd if=/dev/zero of="$0/fill" bs=64k 2>/dev/null
    "$@" && exit 9
    echo "and now there is room"; rm "$0/fill"; exec "$@"
    """
    done = trial.run(out, "unshare", "-Urm", "sh", "-c", script, str(out.parent))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "Traceback" not in done.stderr and "There is no room left where" in done.stderr
    before, _, after = done.stdout.partition("and now there is room")
    assert "(1 of 1)" in before
    others = len(CLASS) - 1
    assert f"({others} of {others})" in after, "what was graded before is not graded again"


def test_what_a_busy_machine_adds_to_a_record_is_not_compared(tmp_path: Path) -> None:
    calm, busy, other = tmp_path / "calm", tmp_path / "busy", tmp_path / "other"
    calm.write_text(json.dumps({"attempts": 1, "notes": [], "score": 1}, indent=1))
    notes = ["Attempt 1: the machine was busy", "Attempt 2: it became slower"]
    busy.write_text(json.dumps({"attempts": 3, "notes": notes, "score": 1}, indent=1))
    other.write_text(json.dumps({"attempts": 1, "notes": ["A cell was removed."], "score": 1}, indent=1))
    assert kills.content(busy) == kills.content(calm) != kills.content(other)
