"""What a box costs: seconds to run one notebook in a box beside the same notebook as an ordinary process.

Both run the same program on the same job. Also the memory of a worker that has graded that notebook, and of the house
in which its boxes are, at rest: each worker has one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import Figure, announce, finish, interleave, machine, median, options, table

from podlab import paths
from podlab.checks import registry
from podlab.grading import execution, kernel_image, unboxed, worker
from podlab.grading.house import House
from podlab.images.pull import Images

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from autograder.corpus import notebooks  # noqa: E402 - the corpus is no part of the package
from podlab.checks.contract import Exercise, HandIn  # noqa: E402

KINDS = {"90.1": ("spread", "function"), "90.2": ("Counter", "program"), "90.3": ("choice_90_3", "choice")}
ARGV = ["python3", "-m", "podlab.grading.inside", "/submission/job.json"]


def text() -> str:
    """The job of the corpus' honest notebook."""
    exercises = [Exercise(id, id, 1, (HandIn(*kind),), lambda _a, _w: None) for id, kind in KINDS.items()]  # type: ignore[arg-type]
    return execution.job(
        notebooks.answered(notebooks.RIGHT), exercises, execution.Limits(), processes=unboxed.PROCESSES
    )


def private_memory(pid: int) -> float:
    """MiB of private memory of a process and all below it."""
    import psutil

    process = psutil.Process(pid)
    return sum(each.memory_full_info().uss for each in [process, *process.children(recursive=True)]) / 2**20


def memory_of_worker(image: str) -> float:
    """MiB of private memory of a worker, without its house, once it has graded the corpus' honest notebook."""
    with tempfile.TemporaryDirectory(prefix="podlab-bench-") as scratch:
        course = notebooks.write_course(Path(scratch, "course"))
        notebooks.write(notebooks.answered(notebooks.RIGHT), Path(scratch, "ada.ipynb"))
        release = course / "release" / notebooks.NAME / f"{notebooks.NAME}.ipynb"
        job = worker.Job("ada", notebooks.NAME, f"{scratch}/ada.ipynb", str(release), None, scratch, image, "")
        with subprocess.Popen(
            [sys.executable, "-m", "podlab.grading.worker", str(os.getpid())],
            env=os.environ | {registry.OWN: str(course / "exercises")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(worker.to_json(job) + "\n")
            process.stdin.flush()
            done = any("done" in json.loads(line) for line in iter(process.stdout.readline, ""))
            assert done, "the worker has ended"
            return private_memory(process.pid)


def main() -> None:
    """Measure and tell."""
    given = options(__doc__, repeats=(20, 3, "runs of each"))
    here = machine()
    announce("sandbox-overhead", here)
    job, limits = text(), execution.Limits()
    image = kernel_image.build_image()
    root = Images(paths.cache() / "images").resolve(image).root
    with House(root) as house:
        memory = private_memory(house.pid)

        def boxed() -> float:
            began = time.monotonic()
            with house.box(ARGV, {"/submission/job.json": job}) as box:
                box.wait(limits.whole)
                found = execution.executed(box.output(execution.LARGEST_RESULT), "ended")
            assert set(found.answers) == set(KINDS), found
            return time.monotonic() - began

        def bare() -> float:
            began = time.monotonic()
            found = unboxed.run(job, limits)
            assert set(found.answers) == set(KINDS), found
            return time.monotonic() - began

        times = interleave(given.repeats, boxed=boxed, bare=bare)
    value, floor = median(times["boxed"]), median(times["bare"])
    alone = memory_of_worker(image)
    rows = [
        ("seconds for one notebook", value, floor),
        ("MiB of a house at rest", memory, 0.0),
        ("MiB of a worker, without its house", alone, 0.0),
    ]
    table(f"median of {given.repeats}", ("", "in a box", "without"), rows)
    figure = Figure("sandbox-overhead", value, "s", floor, "at most 0.5 s more", value - floor <= 0.5 or given.small)
    figure.more = {"overhead": round(value - floor, 3), "house_mib": round(memory, 1), "worker_mib": round(alone, 1)}
    finish(figure, here)


if __name__ == "__main__":
    main()
