"""The step runner: order, parallelism, reports, and one failure that ends all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlab.cluster.embedded import bring_up, system
from podlab.cluster.embedded.steps import Step, check, run
from podlab.cluster.provider import StepReport
from podlab.errors import ClusterError, StepFailed

Log = list[str]


def step(name: str, *needs: str) -> Step[Log]:
    async def action(log: Log) -> None:
        log.append(f"+{name}")
        await asyncio.sleep(0)
        log.append(f"-{name}")

    return Step(name, action, needs)


async def test_a_step_begins_after_all_that_it_needs() -> None:
    log: Log = []
    await run([step("a"), step("b"), step("c", "a", "b"), step("d", "c")], log, lambda report: None)
    assert log.index("+c") > max(log.index("-a"), log.index("-b"))
    assert log.index("+d") > log.index("-c")


async def test_independent_steps_overlap() -> None:
    met = asyncio.Barrier(2)

    async def meet(_: Log) -> None:
        async with asyncio.timeout(60):
            await met.wait()

    await run([Step("a", meet), Step("b", meet)], [], lambda report: None)


@given(st.lists(st.sets(st.integers(0, 5)), min_size=1, max_size=6))
def test_any_table_without_circles_runs_every_step_once(needs: list[set[int]]) -> None:
    table = [step(str(i), *(str(n) for n in sorted(need) if n < i)) for i, need in enumerate(needs)]
    log: Log = []
    asyncio.run(run(table, log, lambda report: None))
    assert sorted(log) == sorted(f"{sign}{s.name}" for s in table for sign in "+-")
    for one in table:
        assert all(log.index(f"-{need}") < log.index(f"+{one.name}") for need in one.needs)


def fails(error: Exception) -> Callable[[Log], Awaitable[None]]:
    async def action(_: Log) -> None:
        raise error

    return action


async def test_a_failure_cancels_the_others_and_names_its_step() -> None:
    cancelled = asyncio.Event()

    async def forever(_: Log) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    reports: list[StepReport] = []
    broken = Step("etcd", fails(ClusterError("etcd exited with status 1.", hint="Look at the disk.")))
    with pytest.raises(StepFailed, match="etcd exited with status 1") as caught:
        await run([Step("slow", forever), broken, step("later", "etcd")], [], reports.append)
    assert "“etcd”" in caught.value.message
    assert caught.value.hint == "Look at the disk."
    assert cancelled.is_set()
    assert [(r.name, r.state) for r in reports if r.name != "slow"] == [("etcd", "running"), ("etcd", "failed")]


async def test_two_failures_at_once_give_one_error() -> None:
    with pytest.raises(StepFailed):
        await run([Step("a", fails(ValueError("x"))), Step("b", fails(OSError("y")))], [], lambda report: None)


async def test_details_are_reported() -> None:
    async def detail(_: Log) -> str:
        return "v1.37.2"

    reports: list[StepReport] = []
    await run([Step("API server", detail)], [], reports.append)
    assert reports[-1].state == "done"
    assert reports[-1].detail == "v1.37.2"


@pytest.mark.parametrize(
    "table", [[step("a", "b"), step("b", "a")], [step("a", "a")], [step("a"), step("a")], [step("a", "z")]]
)
def test_tables_that_cannot_run_are_refused(table: list[Step[Log]]) -> None:
    with pytest.raises(ValueError, match=r"needs|two steps"):
        check(table)


def test_our_own_tables_can_run() -> None:
    check(bring_up.STEPS)
    check(system.SHUT_DOWN)
    assert [s.name for s in system.SHUT_DOWN if s.name.startswith("End kube") or "etcd" in s.name] == [
        "End kube-scheduler",
        "End kube-controller-manager",
        "End kube-apiserver",
        "End etcd",
    ]
