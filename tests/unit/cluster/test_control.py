"""The control socket: steps, results and errors pass through it, and a supervisor that ends is noticed."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from podlab.checks import calls
from podlab.cluster.embedded import control
from podlab.cluster.provider import Progress, StepReport
from podlab.errors import ClusterError, UsageError, WaitTimeout
from podlab.node.runtime.sandbox import kernel


async def handler(request: dict[str, Any], progress: Progress) -> Any:
    match request["verb"]:
        case "steps":
            progress(StepReport("one", "running", 0.0))
            progress(StepReport("one", "done", 1.5, "detail"))
            return {"answer": request["number"]}
        case "refuse":
            raise UsageError("No such thing.", hint="Try another.")
        case "break":
            raise RuntimeError("a mistake")
        case "hang":
            await asyncio.Event().wait()
    return None


@pytest.fixture
async def server(tmp_path: Path) -> Any:
    path = tmp_path / "control.sock"
    serving = await control.serve(control.bind(path), handler)
    yield path
    serving.close()


def ask(path: Path, verb: str, **rest: Any) -> Any:
    supervisor = control.connect(path)
    assert supervisor
    with supervisor:
        return supervisor.ask(verb, **rest)


async def test_steps_then_result(server: Path) -> None:
    steps: list[StepReport] = []
    result = await asyncio.to_thread(ask, server, "steps", progress=steps.append, number=7)
    assert result == {"answer": 7}
    assert [(s.state, s.seconds, s.detail) for s in steps] == [("running", 0.0, ""), ("done", 1.5, "detail")]


async def test_errors_keep_their_kind_and_hint(server: Path) -> None:
    with pytest.raises(UsageError, match="No such thing") as caught:
        await asyncio.to_thread(ask, server, "refuse")
    assert caught.value.hint == "Try another."
    with pytest.raises(ClusterError, match="RuntimeError: a mistake"):
        await asyncio.to_thread(ask, server, "break")


async def test_silence_is_an_error(server: Path) -> None:
    with pytest.raises(WaitTimeout, match="did not answer hang"):
        await asyncio.to_thread(ask, server, "hang", timeout=0.2)


async def test_the_supervisor_is_known_by_its_process(server: Path) -> None:
    supervisor = await asyncio.to_thread(control.connect, server)
    assert supervisor
    with supervisor:
        assert supervisor.pid == os.getpid()
        assert not supervisor.wait(0)


@pytest.fixture
def compiled_for_an_old_c_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python as conda gives it."""
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    monkeypatch.delattr(signal, "pidfd_send_signal", raising=False)


@pytest.mark.usefixtures("compiled_for_an_old_c_library")
async def test_a_portable_python_knows_a_supervisor_and_ends_it(server: Path) -> None:
    supervisor = await asyncio.to_thread(control.connect, server)
    assert supervisor
    with supervisor:
        assert not supervisor.wait(0)
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", "input()"], stdin=subprocess.PIPE) as child:
        held = control.Supervisor(server, child.pid, kernel.pidfd_open(child.pid))
        held.kill()
        assert held.wait(60)
        assert child.wait() == -signal.SIGKILL
        held.kill()  # has ended already
        held.__exit__()
    with pytest.raises(ProcessLookupError):
        kernel.pidfd_open(child.pid)


@pytest.mark.usefixtures("compiled_for_an_old_c_library")
def test_a_portable_python_calls_the_code_of_a_learner() -> None:
    assert calls.call("def f(): return 7", "f", seconds=60).value == 7


async def test_garbage_is_survived(server: Path) -> None:
    reader, writer = await asyncio.open_unix_connection(str(server))
    writer.write(b"\xff\xfe no json\n")
    assert await reader.read() == b""
    writer.close()
    assert await asyncio.to_thread(ask, server, "steps", number=1) == {"answer": 1}


@pytest.fixture
def dying(tmp_path: Path) -> Iterator[Path]:
    """A socket whose owner hangs up on every request."""
    path = tmp_path / "dying.sock"
    listening = control.bind(path)
    child = os.fork()
    if child == 0:
        while True:
            connection, _ = listening.accept()
            connection.recv(1) and connection.close()
    listening.close()
    yield path
    os.kill(child, 9)
    os.waitpid(child, 0)


def test_an_end_without_an_answer_is_told(dying: Path) -> None:
    with pytest.raises(control.SupervisorGone, match="before it had answered status"):
        ask(dying, "status")


def test_nobody_listens(tmp_path: Path) -> None:
    assert control.connect(tmp_path / "none.sock") is None
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "left.sock"))
    assert control.connect(tmp_path / "left.sock") is None
    listening = control.bind(tmp_path / "left.sock")
    assert (tmp_path / "left.sock").stat().st_mode & 0o077 == 0
    listening.close()
