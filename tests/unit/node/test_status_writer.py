"""What is told of a pod, and when: a container that gives way to a new definition of it is not told as gone."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from pods import NOW, POLICY, end, made, records, run

from podlab.node import status_writer
from podlab.node.api import Forbidden
from podlab.node.records import Pod
from podlab.node.status_writer import StatusWriter
from podlab.waiting import until_async


class Api:
    """Keeps the status as patched, and whether the pod was ready in each."""

    def __init__(self, pod: Pod) -> None:
        self._pod = pod
        self.ready: list[str] = []
        self.failures: list[Exception] = []

    async def patch(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if self.failures:
            raise self.failures.pop(0)
        made = copy.deepcopy(self._pod.object)
        made["status"] = {**made["status"], **{k: v for k, v in body["status"].items() if v is not None}}
        made["metadata"]["resourceVersion"] = str(int(made["metadata"]["resourceVersion"]) + 1)
        self._pod.object = made
        found = {c["type"]: c["status"] for c in made["status"]["conditions"]}
        self.ready.append(found["Ready"])
        return copy.deepcopy(made)


async def met(condition: Callable[[], bool]) -> None:
    """Return when a condition holds."""

    async def look() -> bool:
        return condition()

    await until_async(look, "what the writer is to do", timeout=60, interval=0.01)


async def replaced(*, marked: bool) -> list[str]:
    """Whether the pod was ready in each patch, while its container ends and a new one starts."""
    pod = records(made())
    main = pod.containers["main"]
    run(main)
    api = Api(pod)
    context = SimpleNamespace(api=api, policy=POLICY, pod_path=lambda pod: "/pod")
    writer = StatusWriter(context, pod, lambda made: None)  # type: ignore[arg-type]
    task = asyncio.create_task(writer.run())
    writer.touch()
    await met(lambda: len(api.ready) == 1)
    main.replacing = marked
    end(main, 0, NOW + 1)
    writer.touch()
    if not marked:
        await met(lambda: len(api.ready) == 2)
    for _ in range(10):
        await asyncio.sleep(0)  # the writer's turn: it would tell now
    main.replacing = False
    run(main, attempt=1)
    writer.touch()

    def told() -> bool:
        return bool(pod.object["status"]["containerStatuses"][0]["restartCount"] == 1)

    await met(told)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return api.ready


async def test_a_container_that_is_replaced_is_never_told_as_gone() -> None:
    assert await replaced(marked=True) == ["True", "True"]


async def test_a_container_that_ends_by_itself_is_told() -> None:
    assert await replaced(marked=False) == ["True", "False", "True"]


async def test_a_replacement_that_takes_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_writer, "REPLACE", 0.01)
    pod = records(made())
    main = pod.containers["main"]
    run(main)
    api = Api(pod)
    context = SimpleNamespace(api=api, policy=POLICY, pod_path=lambda pod: "/pod")
    writer = StatusWriter(context, pod, lambda made: None)  # type: ignore[arg-type]
    task = asyncio.create_task(writer.run())
    main.replacing = True
    end(main, 0, NOW + 1)
    writer.touch()
    await met(lambda: api.ready == ["False"])
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_status_that_was_refused_is_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_writer, "REFUSED", 0.01)
    pod = records(made())
    run(pod.containers["main"])
    api = Api(pod)
    api.failures = [Forbidden("not yet ready to handle request", status=403)]
    context = SimpleNamespace(api=api, policy=POLICY, pod_path=lambda pod: "/pod")
    writer = StatusWriter(context, pod, lambda made: None)  # type: ignore[arg-type]
    task = asyncio.create_task(writer.run())
    writer.touch()
    await met(lambda: api.ready == ["True"])
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_fault_costs_one_try_and_not_all_that_is_still_to_be_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(status_writer, "RETRY_FIRST", 0.001)
    pod = records(made())
    run(pod.containers["main"])
    api, faults = Api(pod), ["in the status", "in the answer"]
    context = SimpleNamespace(api=api, policy=POLICY, pod_path=lambda pod: "/pod")

    def answered(_: object) -> None:
        if faults:
            raise RuntimeError(faults.pop())

    writer = StatusWriter(context, pod, answered)  # type: ignore[arg-type]
    built = writer.status

    def status() -> dict[str, Any]:
        if len(faults) == 1:
            raise RuntimeError(faults.pop())
        return built()

    monkeypatch.setattr(writer, "status", status)
    task = asyncio.create_task(writer.run())
    writer.touch()
    await met(lambda: not faults)
    end(pod.containers["main"], 0, NOW + 1)
    writer.touch()
    await met(lambda: api.ready == ["True", "False"])
    assert caplog.text.count("the status of web_shop(u-1) could not be written; it is tried again") == 2
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
