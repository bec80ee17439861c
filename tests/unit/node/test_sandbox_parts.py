"""Parts of the zygote without a node: descriptors are closed once, and every child is reaped."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from podlab.node.runtime.sandbox import loop, sandboxes
from podlab.node.runtime.sandbox.loop import Children
from podlab.node.runtime.sandbox.sandboxes import Sandbox, Sandboxes

PAUSE, DESCRIPTOR = 4242, 70


@pytest.mark.parametrize("order", ["removed, then reaped", "reaped, then removed"])
def test_the_descriptor_of_a_pause_process_is_closed_once(
    order: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[int] = []
    handlers: dict[int, Callable[[int], None]] = {}
    system = SimpleNamespace(fork=lambda: PAUSE, kill=lambda pid, number: None, close=closed.append)
    monkeypatch.setattr(sandboxes, "os", system)
    for name, value in (("unshare", None), ("setns", None), ("open_namespace", DESCRIPTOR)):
        monkeypatch.setattr(sandboxes.kernel, name, lambda *_, value=value: value)
    table = object.__new__(Sandboxes)
    table._folder, table._own_pid_namespace = str(tmp_path), 3
    table._children = SimpleNamespace(  # type: ignore[assignment]
        on_exit=handlers.__setitem__, sweep=lambda path, done: None
    )
    sandbox = Sandbox({"id": "u-1", "address": None, "host_network": False}, "pod1", str(tmp_path))
    sandbox.namespaces = {"net": 71, "uts": 72}
    table._by_id = {"u-1": sandbox}
    assert table.pause_namespace(sandbox) == DESCRIPTOR
    steps = [lambda: table.forget(sandbox), lambda: handlers[PAUSE](9)]
    for step in steps if order.startswith("removed") else reversed(steps):
        step()
    assert sorted(closed) == [DESCRIPTOR, 71, 72]


def test_a_handler_that_fails_does_not_keep_other_children_from_being_reaped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = [(11, 0), (12, 256), (0, 0)]
    monkeypatch.setattr(loop, "os", SimpleNamespace(waitpid=lambda *_: ended.pop(0), WNOHANG=os.WNOHANG))
    told: list[tuple[str, int]] = []

    def fails(status: int) -> None:
        told.append(("first", status))
        raise OSError("bad file descriptor")

    children = object.__new__(Children)
    children._channels = {11: fails}
    children._on_exit = {11: fails, 12: lambda status: told.append(("second", status))}
    children._reap()
    assert told == [("first", select.EPOLLIN), ("first", 0), ("second", 256)]
    assert capsys.readouterr().err.count("OSError: bad file descriptor") == 2
