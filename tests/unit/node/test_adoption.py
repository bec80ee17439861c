from __future__ import annotations

from typing import Any

import pytest
from pods import POLICY, container, made, records

from podlab.node import pod_status
from podlab.node.adoption import restore
from podlab.node.pod_state import plan, rebooted
from podlab.node.records import Pod

STARTED = "2027-01-15T07:59:00Z"
NOW = 1_800_000_000.0


def entry(name: str = "main", restarts: int = 0, **state: Any) -> dict[str, Any]:
    return {
        "name": name,
        "restartCount": restarts,
        "containerID": f"podlab://u-1.{name}.{restarts}",
        "imageID": "image@sha256:1",
        "state": state,
    }


def ended(exit_code: int) -> dict[str, Any]:
    return {"exitCode": exit_code, "reason": "Error", "startedAt": STARTED, "finishedAt": STARTED}


def restored(*entries: dict[str, Any], held: set[str] | None = None, final: bool = False, **spec: Any) -> Pod:
    phase = {"phase": "Failed", "reason": "Evicted", "message": "no memory", "podIP": "10.244.1.9"} if final else {}
    pod = records(made(status={"containerStatuses": list(entries), **phase}, **spec))
    restore(pod, held or set(), final=final)
    return pod


def test_a_container_that_was_lost_with_the_machine_counts_as_killed_and_runs_again() -> None:
    pod = restored(entry(restarts=2, running={"startedAt": STARTED}))
    main = pod.containers["main"]
    assert main.ended and (main.ended.exit_code, main.ended.reason) == (137, "ContainerStatusUnknown")
    rebooted(pod)
    assert plan(pod, NOW, POLICY).start == ("main",)
    (status,) = pod_status.build(pod, NOW, POLICY)["containerStatuses"]
    assert status["restartCount"] == 2 and status["lastState"]["terminated"]["exitCode"] == 137


def test_a_container_that_the_runtime_has_is_not_lost() -> None:
    main = restored(entry(restarts=2, running={"startedAt": STARTED}), held={"main"}).containers["main"]
    assert main.ended is None and main.attempt == 2 and main.image_id == "image@sha256:1"


@pytest.mark.parametrize("given", [{"limits": {"memory": "64Mi"}}, {}])
def test_a_container_keeps_the_resources_that_the_earlier_agent_gave_it(given: dict[str, Any]) -> None:
    state = {**entry(running={"startedAt": STARTED}), **({"resources": given} if given else {})}
    pod = records(made(container(resources={"limits": {"memory": "1Gi"}}), status={"containerStatuses": [state]}))
    restore(pod, {"main"}, final=False)
    assert pod.containers["main"].spec["resources"] == given


def test_an_end_that_was_written_is_kept() -> None:
    pod = restored(entry(terminated=ended(3)), restartPolicy="Never")
    assert pod.containers["main"].ended and pod.containers["main"].ended.exit_code == 3
    rebooted(pod)
    assert plan(pod, NOW, POLICY).finish


def test_a_container_in_back_off_keeps_its_last_end_and_count() -> None:
    waiting = entry(restarts=4, waiting={"reason": "CrashLoopBackOff"}) | {"lastState": {"terminated": ended(1)}}
    main = restored(waiting).containers["main"]
    assert main.attempt == 4 and main.ended and main.ended.exit_code == 1


def test_a_container_that_never_ran_is_new() -> None:
    never = {"name": "main", "restartCount": 0, "state": {"waiting": {"reason": "ErrImagePull"}}}
    main = restored(never).containers["main"]
    assert main.attempt == -1 and main.state is None


def test_a_pod_that_is_over_stays_as_it_was_written() -> None:
    pod = restored(entry(terminated=ended(1)), final=True)
    status = pod_status.build(pod, NOW, POLICY)
    assert (status["phase"], status["reason"], status["podIP"]) == ("Failed", "Evicted", "10.244.1.9")


def test_a_pod_that_nobody_has_worked_on_starts_from_the_beginning() -> None:
    pod = records(made(container(), inits=(container("init"),)))
    assert restore(pod, set(), final=False) == {}
    assert plan(pod, NOW, POLICY).start == ("init",)
