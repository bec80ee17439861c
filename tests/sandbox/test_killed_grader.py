"""A grader that is killed, starved of room or kept from its gradebook: the same command goes on, nothing is lost.

`PODLAB_KILLS=200` sets how often the grader is killed; a few times otherwise.
"""

from __future__ import annotations

import contextlib
import os
import random
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
from podlab.grading import kernel_image, records, worker  # noqa: E402

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

CLASS = ("honest", "unanswered", "exit-hard", "file-words", "half-characters", "null-bytes")
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
    slow = notebooks.answered({**notebooks.RIGHT, "setup": "import time\ntime.sleep(5)"})
    notebooks.write(slow, tmp_path / "ada.ipynb")
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


def test_a_full_disk_is_said_and_costs_nothing_that_is_graded(trial: kills.Trial, tmp_path: Path) -> None:
    out = tmp_path / "small" / "out"
    out.parent.mkdir()
    script = 'mount -t tmpfs -o size=200k none "$0" && exec "$@"'
    done = trial.run(out, "unshare", "-Urm", "sh", "-c", script, str(out.parent))
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    assert "room" in done.stderr or "full" in done.stderr
