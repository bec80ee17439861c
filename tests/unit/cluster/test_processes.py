"""Kept processes: restarted with a growing pause, ended for good, described in words; logs of limited size."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlab.cluster.embedded import processes, supervisor
from podlab.cluster.embedded.processes import BACKOFF_FIRST, BACKOFF_LONGEST, Child, Kept, next_pause, spawn
from podlab.waiting import until_async


class Children:
    """Stands in for the reaper: this test is not PID 1 and must not collect others' children."""

    def __init__(self) -> None:
        self.watched: list[asyncio.Task[None]] = []

    def expect(self, pid: int) -> asyncio.Future[int]:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def watch() -> None:
            import os

            descriptor = os.pidfd_open(pid)
            ended = asyncio.Event()
            asyncio.get_running_loop().add_reader(descriptor, ended.set)
            await ended.wait()
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)
            future.set_result(os.waitpid(pid, 0)[1])

        self.watched.append(asyncio.create_task(watch()))
        return future


@pytest.fixture
async def keep(tmp_path: Path) -> AsyncIterator[object]:
    kept: list[Kept] = []
    children = Children()

    def make(code: str) -> Kept:
        log = tmp_path / "program.log"

        async def start() -> Child:
            return spawn(children, [sys.executable, "-I", "-S", "-c", code], {}, tmp_path, log)  # type: ignore[arg-type]

        kept.append(Kept("program", start, log))
        return kept[-1]

    yield make
    for one in kept:
        await one.stop(0)


FOREVER = "import signal; print('up', flush=True); signal.pause()"


async def test_what_dies_is_started_again_and_says_so(keep) -> None:
    kept = keep(FOREVER)
    kept.begin()
    first = await kept.up()
    before = kept.ends
    assert kept.signal(signal.SIGKILL)
    said = await kept.end(before)
    assert said.startswith("was killed by SIGKILL after ")
    assert kept.state == "restarting"
    second = await kept.up()
    assert second.pid != first.pid
    assert (kept.state, kept.restarts) == ("running", 1)


async def test_an_exit_status_is_told(keep) -> None:
    kept = keep("print('first'); print('last words'); raise SystemExit(3)")
    kept.begin()
    assert (await kept.end(0)).startswith("exited with status 3 after ")
    text = processes.failure("program", kept.message, kept.log)
    assert "exited with status 3" in text
    assert "last words" in text
    assert str(kept.log) in text


async def test_a_program_that_cannot_be_started_is_told(tmp_path: Path) -> None:
    async def start() -> Child:
        return spawn(Children(), ["/does/not/exist"], {}, tmp_path, tmp_path / "log")  # type: ignore[arg-type]

    kept = Kept("ghost", start, tmp_path / "log")
    kept.begin()
    assert "could not be started" in await kept.end(0)
    await kept.stop()
    assert kept.state == "stopped"


async def test_stopped_for_good_even_if_it_will_not_listen_or_is_frozen(keep) -> None:
    kept = keep("import signal; signal.signal(15, signal.SIG_IGN); print('up', flush=True)\nwhile True: signal.pause()")
    kept.begin()
    running = await kept.up()
    kept.signal(signal.SIGSTOP)
    assert kept.state == "paused"
    await kept.stop(0.2)
    assert kept.state == "stopped"
    assert not Path(f"/proc/{running.pid}").exists()
    assert not kept.signal(signal.SIGTERM)


@given(st.lists(st.floats(0, 20), max_size=12))
def test_pauses_grow_to_the_longest_and_no_further(runs: list[float]) -> None:
    pauses, pause = [], 0.0
    for ran in runs:
        pause = next_pause(pause, ran)
        pauses.append(pause)
    assert pauses == [min(BACKOFF_FIRST * 2**n, BACKOFF_LONGEST) for n in range(len(runs))]


def test_a_long_run_resets_the_pause() -> None:
    assert next_pause(BACKOFF_LONGEST, processes.BACKOFF_RESET) == BACKOFF_FIRST


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "exited with status 0"),
        (-9, "was killed by SIGKILL"),
        (-64, "was killed by SIGRTMAX"),
        (-99, "was killed by signal 99"),
    ],
)
def test_ends_in_words(code: int, words: str) -> None:
    assert processes.describe(code) == words


def test_a_log_is_cut_to_its_end_and_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "etcd.log"
    with log.open("a") as writer:
        writer.writelines(f"line {number}\n" for number in range(1000))
        writer.flush()
        assert processes.cap_log(log, limit=2000)
        writer.write("after\n")
    assert log.read_text() == "after\n"
    kept = (tmp_path / "etcd.log.1").read_text().splitlines()
    assert kept[-1] == "line 999"
    assert all(line.startswith("line ") for line in kept)
    assert len("\n".join(kept)) <= 1000
    assert not processes.cap_log(log, limit=2000)
    assert not processes.cap_log(tmp_path / "missing.log")


def test_the_reason_of_a_panic_is_shown_and_not_its_stacks(tmp_path: Path) -> None:
    log = tmp_path / "etcd.log"
    stacks = "".join(f"main.f{n}()\n\tmain.go:{n}\n" for n in range(30))
    log.write_text(f"starting\npanic: no space left\n\ngoroutine 1 [running]:\n{stacks}")
    assert processes.last_lines(log) == ["starting", "panic: no space left"]
    assert processes.last_lines(tmp_path / "none.log") == []


def test_a_log_is_cut_even_if_its_old_half_cannot_be_kept(tmp_path: Path) -> None:
    log = tmp_path / "etcd.log"
    log.write_text("line\n" * 1000)
    (tmp_path / "etcd.log.1").mkdir()
    assert processes.cap_log(log, limit=2000)
    assert log.read_text() == ""


async def test_a_log_that_cannot_be_cut_does_not_end_the_tending_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looked: list[str] = []

    def cap(log: Path) -> bool:
        looked.append(log.name)
        if log.name == "a.log":
            raise OSError(28, "No space left on device")
        return True

    monkeypatch.setattr(supervisor, "cap_log", cap)
    monkeypatch.setattr(supervisor, "LOG_PERIOD", 0)
    for name in ("a.log", "b.log"):
        (tmp_path / name).touch()
    task = asyncio.create_task(supervisor._tend_logs(SimpleNamespace(logs=tmp_path)))  # type: ignore[arg-type]

    async def twice() -> bool:
        return looked.count("a.log") >= 2 and looked.count("b.log") >= 2

    await until_async(twice, "two looks at each log", timeout=60)
    task.cancel()
    assert "a.log was not cut" in caplog.text
