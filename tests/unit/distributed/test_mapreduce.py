"""MapReduce gives the bytes of the sequential loop, whatever happens to its workers."""

from __future__ import annotations

import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from podlab import waiting
from podlab.distributed.mapreduce import Engine, Event, Job, Result, order, partition, run, sequential, splits_of
from podlab.errors import LaboratoryError, UsageError, WorkerFailed


def words(line: str) -> list[tuple[str, int]]:
    return [(word, 1) for word in line.split()]


def total(_: Any, values: list[int]) -> int:
    return sum(values)


COUNT = Job(words, total, combine=total, reducers=3)
LINES = [" ".join(random.Random(n).choices(["ab", "cd", "ef", "gh", "ij", "kl"], k=8)) for n in range(60)]
SPLITS = splits_of(LINES, 8)


def by_key(result: Result) -> list[tuple[Any, Any]]:
    return sorted(result.pairs(), key=lambda pair: order(pair[0]))


def content(result: Result) -> list[bytes]:
    return [path.read_bytes() for path in result.files]


def test_equals_the_sequential_loop_and_uses_all_workers(tmp_path: Path) -> None:
    result = run(COUNT, SPLITS, tmp_path, workers=3)
    assert by_key(result) == sequential(COUNT, SPLITS)
    assert result.count("end") == len(SPLITS) + COUNT.reducers
    assert {one["pid"] for one in result.events if one["event"] == "worker"}.isdisjoint({os.getpid()})
    maps = [one for one in result.events if one["event"] == "end" and one["kind"] == "map"]
    assert sum(one["records"] for one in maps) == len(LINES)
    assert all(one["bytes"] > 0 for one in maps)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"part-{n:05d}" for n in range(3)]


def test_the_same_bytes_with_any_number_of_workers_and_without_combiner(tmp_path: Path) -> None:
    plain = Job(words, total, reducers=3)
    results = [run(COUNT, SPLITS, tmp_path / f"{n}", workers=n) for n in (1, 4)]
    results.append(run(plain, SPLITS, tmp_path / "plain", workers=2))
    assert content(results[0]) == content(results[1]) == content(results[2])
    shuffled = [
        sum(one["bytes"] for one in result.events if one["event"] == "end" and one["kind"] == "map")
        for result in results
    ]
    assert shuffled[0] == shuffled[1] < shuffled[2]


keys = st.one_of(st.text(max_size=3), st.integers(-3, 3), st.booleans(), st.none())


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.tuples(keys, st.integers()), max_size=6), max_size=5), st.integers(1, 4))
def test_any_records_and_keys_in_order(tmp_path: Path, splits: list[Any], reducers: int) -> None:
    job = Job(lambda pair: [pair], lambda key, values: values, reducers=reducers)
    result = run(job, splits, tmp_path, workers=2)
    assert [(type(key), key, values) for key, values in by_key(result)] == [
        (type(key), key, values) for key, values in sequential(job, splits)
    ]


def test_a_worker_killed_in_its_task_changes_nothing(tmp_path: Path) -> None:
    calm = run(COUNT, SPLITS, tmp_path / "calm", workers=2)
    marker, proofs = tmp_path / "marker", []

    def slow_once(line: str) -> list[tuple[str, int]]:
        if line == SPLITS[3][0] and not marker.exists():
            marker.touch()
            signal.pause()
        return words(line)

    def strike(event: Event, engine: Engine) -> None:
        if event["event"] == "start" and event["kind"] == "map" and event["task"] == 3 and event["attempt"] == 1:
            waiting.until(marker.exists, "map 3 in the middle of its first attempt", timeout=60)
            proofs.append(engine.workers[event["worker"]].kill_in_flight("map-3"))

    job = Job(slow_once, total, combine=total, reducers=3)
    struck = run(job, SPLITS, tmp_path / "struck", workers=2, backups=False, watch=strike)
    assert all(proofs) and [proof.task for proof in proofs] == ["map-3"]
    assert content(struck) == content(calm)
    assert struck.count("lost") == 1
    assert [one["attempt"] for one in struck.events if one["event"] == "start" and one["task"] == 3][:2] == [1, 2]


@pytest.mark.parametrize("kind", ["map", "reduce"])
def test_a_frozen_worker_is_backed_up(tmp_path: Path, kind: str) -> None:
    """One worker stops in the middle of its task and never goes on: only a backup can finish the job."""
    marker = tmp_path / "marker"

    def freeze_once() -> None:
        try:
            marker.touch(exist_ok=False)
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGSTOP)

    def mapped(line: str) -> list[tuple[str, int]]:
        if kind == "map":
            freeze_once()
        return words(line)

    def reduced(key: Any, values: list[int]) -> int:
        if kind == "reduce":
            freeze_once()
        return total(key, values)

    result = run(Job(mapped, reduced, reducers=3), SPLITS, tmp_path, workers=3)
    assert by_key(result) == sequential(COUNT, SPLITS)
    assert marker.exists() and result.count("backup") >= 1


def test_a_straggler_that_raises_after_its_backup_has_counted_fails_nothing(tmp_path: Path) -> None:
    first, counted, heard = (tmp_path / name for name in ("first", "counted", "heard"))

    def mapped(line: str) -> list[tuple[str, int]]:
        if line == "slow" and not first.exists():
            first.touch()
            waiting.until(counted.exists, "the backup to count", timeout=60)
            raise OSError("the straggler's disk")
        return words(line)

    def reduced(key: Any, values: list[int]) -> int:
        waiting.until(heard.exists, "the straggler to be heard", timeout=60)
        return total(key, values)

    def told(event: Event, engine: Engine) -> None:
        if event.get("kind") == "map" and event["task"] == 0 and event["event"] in ("end", "discard"):
            (counted if event["event"] == "end" else heard).touch()

    result = run(Job(mapped, reduced), [["slow"], ["quick"]], tmp_path / "out", workers=2, watch=told)
    assert by_key(result) == [("quick", 1), ("slow", 1)] and heard.exists()


def test_kills_at_random_change_nothing(tmp_path: Path) -> None:
    calm = run(COUNT, SPLITS, tmp_path / "calm", workers=2)
    chance = random.Random(4)
    killed: list[str] = []

    def strike(event: Event, engine: Engine) -> None:
        if event["event"] == "start" and len(killed) < 5 and chance.random() < 0.3:
            proof = engine.workers[event["worker"]].kill()
            killed.extend([proof] if proof else [])

    struck = run(COUNT, SPLITS, tmp_path / "struck", workers=3, attempts=10, watch=strike)
    assert len(killed) == 5
    assert content(struck) == content(calm)


def test_errors_of_user_code(tmp_path: Path) -> None:
    def bad_map(line: str) -> list[tuple[str, int]]:
        raise KeyError("no such film")

    with pytest.raises(LaboratoryError, match="map task 0 raised KeyError: 'no such film'"):
        run(Job(bad_map, total), [["x"]], tmp_path)
    with pytest.raises(LaboratoryError, match=r"reduce task . raised TypeError"):
        run(Job(words, lambda key, values: {1, 2}), [["x"]], tmp_path)
    with pytest.raises(LaboratoryError, match="it must be 0 to 3"):
        run(Job(words, total, partition=lambda key, n: n), [["x"]], tmp_path)
    with pytest.raises(UsageError):
        run(COUNT, SPLITS, tmp_path, workers=0)
    assert not list(tmp_path.glob("part-*"))


def test_a_task_that_always_ends_its_worker_fails_the_job(tmp_path: Path) -> None:
    def leave(line: str) -> list[tuple[str, int]]:
        sys.exit("left early")

    with pytest.raises(WorkerFailed, match=r"lost its worker 4 times(.|\n)*left early"):
        run(Job(leave, total), [["x"]], tmp_path, workers=1, backups=False)


def test_the_partitioner_does_not_depend_on_the_interpreter() -> None:
    assert [partition(key, 1000) for key in ("toy", 7, None)] == [790, 472, 982]
    assert len({partition(f"{n}", 8) for n in range(200)}) == 8
