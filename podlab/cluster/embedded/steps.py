"""Named steps that run as soon as what they need is done, reported while they run. Nothing here knows a cluster."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from podlab.cluster.provider import Progress, StepReport
from podlab.errors import PodlabError, StepFailed

C = TypeVar("C")


@dataclass(frozen=True)
class Step(Generic[C]):
    """One step. `action` may return a detail to show; `needs` names the steps that must be done before."""

    name: str
    action: Callable[[C], Awaitable[str | None]]
    needs: tuple[str, ...] = ()


def check(steps: Sequence[Step[C]]) -> None:
    """ValueError unless names are unique and every need is an earlier step (so there is no circle)."""
    seen: set[str] = set()
    for step in steps:
        if step.name in seen:
            raise ValueError(f"two steps are named {step.name}")
        if unknown := set(step.needs) - seen:
            raise ValueError(f"{step.name} needs {', '.join(sorted(unknown))}, which is no earlier step")
        seen.add(step.name)


async def run(steps: Sequence[Step[C]], context: C, report: Progress) -> None:
    """Run all steps, each at the moment in which its needs are done.

    The first failure cancels the others and is raised as StepFailed; clean-up is the caller's, once.
    """
    check(steps)
    done = {step.name: asyncio.Event() for step in steps}

    async def one(step: Step[C]) -> None:
        for need in step.needs:
            await done[need].wait()
        began = time.monotonic()

        def say(state: str, detail: str = "") -> None:
            report(StepReport(step.name, state, time.monotonic() - began, detail))  # type: ignore[arg-type]

        say("running")
        try:
            detail = await step.action(context)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            said = error.message if isinstance(error, PodlabError) else f"{type(error).__name__}: {error}"
            say("failed", said)
            hint = error.hint if isinstance(error, PodlabError) else None
            raise StepFailed(f"The step “{step.name}” failed: {said}", hint=hint) from error
        say("done", detail or "")
        done[step.name].set()

    try:
        async with asyncio.TaskGroup() as group:
            for step in steps:
                group.create_task(one(step), name=step.name)
    except* StepFailed as failures:
        raise failures.exceptions[0] from failures.exceptions[0].__cause__
