"""Our MapReduce engine beside multiprocessing.Pool and dask.distributed on the same job, and what faults cost it.

All three count the same words with eight worker processes and hand the same pickled parts from map to reduce through
files. dask.distributed comes with the extra `dev`; without it that part is not judged. Faults strike a second job whose
tasks wait in place of computing, so that the number of cores makes no difference: a worker is killed, or stands still.
"""

from __future__ import annotations

import multiprocessing
import pickle
import random
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from common import Figure, announce, finish, interleave, machine, median, options, say, table

from podlab.distributed.mapreduce import Engine, Event, Job, Result, run
from podlab.waiting import pause

WORKERS, REDUCERS = 8, 8
#: Seconds that each map task of the second job waits.
WAIT = 0.04

Split = list[str]


def corpus(tasks: int) -> list[Split]:
    """Ten lines of ten words for each map task; few words are frequent."""
    chance = random.Random(tasks)
    words = [f"word{number}" for number in range(500)]
    weights = [1 / (number + 1) for number in range(500)]
    return [[" ".join(chance.choices(words, weights, k=10)) for _ in range(10)] for _ in range(tasks)]


def words_of(line: str) -> list[tuple[str, int]]:
    """Ours: the pairs of a line."""
    return [(word, 1) for word in line.split()]


def total(_word: str, numbers: list[int]) -> int:
    """Ours: their sum."""
    return sum(numbers)


JOB = Job(words_of, total, combine=total, reducers=REDUCERS)


def map_file(number: int, split: Split, folder: str) -> int:
    """Theirs: count one split and write one file for each reducer."""
    parts: list[dict[str, int]] = [{} for _ in range(REDUCERS)]
    for word, count in Counter(word for line in split for word in line.split()).items():
        parts[zlib.crc32(word.encode()) % REDUCERS][word] = count
    for reducer, part in enumerate(parts):
        Path(folder, f"{number}-{reducer}").write_bytes(pickle.dumps(part))
    return number


def reduce_files(reducer: int, maps: int, folder: str) -> list[tuple[str, int]]:
    """Theirs: add up one reducer's files."""
    counts: Counter[str] = Counter()
    for number in range(maps):
        counts.update(pickle.loads(Path(folder, f"{number}-{reducer}").read_bytes()))
    return sorted(counts.items())


@contextmanager
def room() -> Iterator[str]:
    """A folder for one run."""
    with tempfile.TemporaryDirectory(prefix="podlab-bench-") as folder:
        yield folder


def ours(splits: list[Split]) -> tuple[float, Any]:
    """Seconds of the whole job, start and end of the workers included, and its counts."""
    with room() as folder:
        began = time.perf_counter()
        result = run(JOB, splits, Path(folder), workers=WORKERS)
        return time.perf_counter() - began, sorted(result.pairs())


def pool(splits: list[Split]) -> tuple[float, Any]:
    """The same with a pool of processes."""
    with room() as folder:
        began = time.perf_counter()
        with multiprocessing.get_context("fork").Pool(WORKERS) as workers:
            workers.starmap(map_file, [(number, split, folder) for number, split in enumerate(splits)], chunksize=1)
            parts = workers.starmap(reduce_files, [(one, len(splits), folder) for one in range(REDUCERS)], chunksize=1)
            # Not `terminate`, which leaving the block means: its SIGTERM would meet this benchmark's own handler.
            workers.close()
            workers.join()
        return time.perf_counter() - began, sorted(pair for part in parts for pair in part)


def dask(splits: list[Split]) -> tuple[float, Any]:
    """The same with a local cluster of dask.distributed."""
    import distributed

    with room() as folder:
        began = time.perf_counter()
        with (
            distributed.LocalCluster(
                n_workers=WORKERS, threads_per_worker=1, processes=True, dashboard_address=None, local_directory=folder
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            maps = client.map(map_file, range(len(splits)), splits, folder=folder, pure=False)
            distributed.wait(maps)
            parts = client.gather(
                client.map(reduce_files, range(REDUCERS), maps=len(splits), folder=folder, pure=False)
            )
            took = time.perf_counter() - began
        return took, sorted(pair for part in parts for pair in part)


def map_waiting(line: str) -> list[tuple[str, int]]:
    """A map whose time is spent waiting: its split has one line."""
    pause(WAIT)
    return words_of(line)


def struck(tasks: int, how: str) -> tuple[float, list[bytes], Result]:
    """Seconds, bytes and log of the waiting job, in which one worker is struck when half of the maps have ended."""
    splits = [[split[0]] for split in corpus(tasks)]
    ended: list[Event] = []
    proofs: list[object] = []

    def strike(event: Event, engine: Engine) -> None:
        if event["event"] == "end" and event["kind"] == "map":
            ended.append(event)
        if how != "calm" and event["event"] == "start" and len(ended) >= tasks // 2 and not proofs:
            worker = engine.workers[event["worker"]]
            proof = worker.kill_in_flight() if how == "killed" else worker.stop()
            if not proof:
                raise SystemExit(f"The fault did not bite: {proof}")
            proofs.append(proof)

    job = Job(map_waiting, total, combine=total, reducers=REDUCERS)
    with room() as folder:
        result = run(job, splits, Path(folder), workers=WORKERS, watch=strike)
        return result.events[-1]["time"], [path.read_bytes() for path in result.files], result


def main() -> None:
    given = options(
        __doc__, tasks=(800, 40, "map tasks"), waiting=(400, 40, "map tasks that wait"), repeats=(5, 1, "runs of each")
    )
    here = machine()
    announce("mapreduce", here)
    engines: dict[str, Callable[[list[Split]], tuple[float, Any]]] = {"ours": ours, "pool": pool}
    if find_spec("distributed"):
        engines["dask"] = dask
    else:
        say("  dask.distributed is not installed, so that it is not measured; `make setup` installs it")
    splits = corpus(given.tasks)
    whole = interleave(given.repeats, **{name: lambda call=call: call(splits) for name, call in engines.items()})
    start = interleave(given.repeats, **{name: lambda call=call: call(splits[:1]) for name, call in engines.items()})
    right = sorted(Counter(word for split in splits for line in split for word in line.split()).items())
    wrong = sum(counts != right for runs in whole.values() for _, counts in runs)

    def middle(runs: list[tuple[float, Any]]) -> float:
        return median([seconds for seconds, _ in runs])

    starts = {name: middle(runs) for name, runs in start.items()}
    rates = {name: (given.tasks - 1) / (middle(runs) - starts[name]) for name, runs in whole.items()}
    rows = [(name, 1000 * starts[name], middle(whole[name]), rates[name]) for name in engines]
    table(f"{given.tasks} map and {REDUCERS} reduce tasks", ("engine", "one task ms", "job s", "tasks/s"), rows)

    faults = interleave(
        given.repeats, **{how: lambda how=how: struck(given.waiting, how) for how in ("calm", "killed", "still")}
    )
    times = {how: median([seconds for seconds, _, _ in runs]) for how, runs in faults.items()}
    costs = {how: 100 * (times[how] / times["calm"] - 1) for how in ("killed", "still")}
    first = faults["calm"][0][1]
    different = sum(content != first for runs in faults.values() for _, content, _ in runs)
    bitten = all(result.count("lost") for _, _, result in faults["killed"])
    rows = [(how, times[how], costs.get(how, 0.0)) for how in times]
    table(f"One of {WORKERS} workers struck, {given.waiting} map tasks of {WAIT} s", ("run", "s", "cost %"), rows)

    met: bool | None = not wrong and not different and bitten and costs["killed"] <= 20 and costs["still"] <= 15
    if "dask" in rates:
        met = met and rates["ours"] >= 2 * rates["dask"] and starts["ours"] <= 0.3 * starts["dask"]
    elif met:
        met = None  # the rest is met, and this is not known
    more = {
        "tasks_per_second": {name: round(rate) for name, rate in rates.items()},
        "one_task_ms": {name: round(1000 * seconds, 1) for name, seconds in starts.items()},
        "killed_cost_percent": round(costs["killed"], 1),
        "straggler_cost_percent": round(costs["still"], 1),
        "wrong_counts": wrong,
        "different_bytes": different,
    }
    limit = ">= 2 x dask in tasks/s, <= 0.3 x its start; a kill <= 20 %, a straggler <= 15 %, the same bytes"
    floor = rates.get("dask", rates["pool"])
    finish(Figure("mapreduce", rates["ours"], "tasks/s", floor, limit, met, more), here)


if __name__ == "__main__":
    main()
