"""What is to be done next with a pod, without a clock, a process or a cluster."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pods import NOW, POLICY, container, end, made, records, run, wait

from podlab.node import pod_state
from podlab.node.backoff import Backoff
from podlab.node.pod_state import phase, plan, settle, should_restart, shown_state, stop_after
from podlab.node.records import Pod, Running, Terminated, Waiting

SIDECAR = {"restartPolicy": "Always"}


def planned(pod: Pod, now: float = NOW) -> pod_state.Plan:
    return plan(pod, now, POLICY)


# Starting


def test_nothing_starts_before_sandbox_and_volumes_are_there() -> None:
    pod = records(made(), ready=False)
    assert planned(pod).start == ()
    pod.sandbox_ready = True
    assert planned(pod).start == ()
    pod.volumes_ready = True
    assert planned(pod).start == ("main",)


def test_all_main_containers_start_together() -> None:
    assert planned(records(made(container("a"), container("b")))).start == ("a", "b")


def test_init_containers_run_one_after_the_other_and_before_the_main_ones() -> None:
    pod = records(made(inits=(container("one"), container("two"))))
    assert planned(pod).start == ("one",)
    run(pod.containers["one"])
    assert planned(pod).start == ()
    end(pod.containers["one"], 0)
    assert planned(pod).start == ("two",)
    end(pod.containers["two"], 0)
    assert planned(pod).start == ("main",)


def test_a_sidecar_must_have_started_before_the_next_container() -> None:
    pod = records(made(inits=(container("side", **SIDECAR), container("init"))))
    assert planned(pod).start == ("side",)
    run(pod.containers["side"], started=False)
    assert planned(pod).start == ()
    run(pod.containers["side"], started=True, ready=False)
    assert planned(pod).start == ("init",)


def test_a_sidecar_that_ends_is_started_again_beside_running_main_containers() -> None:
    pod = records(made(inits=(container("side", **SIDECAR),), restartPolicy="Never"))
    run(pod.containers["main"])
    end(pod.containers["side"], 0, NOW - 100)
    assert planned(pod).start == ("side",)


def test_a_container_that_is_being_started_is_not_started_twice() -> None:
    pod = records(made())
    pod.containers["main"].busy = True
    assert planned(pod).start == ()


def test_a_failed_init_container_of_a_never_pod_ends_the_pod() -> None:
    pod = records(made(inits=(container("init"),), restartPolicy="Never"))
    end(pod.containers["init"], 1)
    assert planned(pod).finish
    assert phase(pod, terminal=True) == "Failed"


def test_a_failed_init_container_is_tried_again_otherwise() -> None:
    pod = records(made(inits=(container("init"),), restartPolicy="OnFailure"))
    end(pod.containers["init"], 1)
    assert planned(pod).start == ("init",)
    assert phase(pod, terminal=False) == "Pending"


def test_after_a_reboot_init_containers_run_again() -> None:
    pod = records(made(inits=(container("init"),)))
    end(pod.containers["init"], 0)
    end(pod.containers["main"], 137)
    pod_state.rebooted(pod)
    assert planned(pod).start == ("init",)
    end(pod.containers["init"], 0)
    assert planned(pod).start == ("main",)


def test_after_a_reboot_a_never_pod_stays_ended() -> None:
    pod = records(made(inits=(container("init"),), restartPolicy="Never"))
    end(pod.containers["init"], 0)
    end(pod.containers["main"], 137)
    pod_state.rebooted(pod)
    assert planned(pod).finish
    assert phase(pod, terminal=True) == "Failed"


# Restarting


@pytest.mark.parametrize(
    ("policy", "exit_code", "again"),
    [
        ("Always", 0, True),
        ("Always", 1, True),
        ("OnFailure", 0, False),
        ("OnFailure", 1, True),
        ("Never", 0, False),
        ("Never", 1, False),
    ],
)
def test_restart_policies(policy: str, exit_code: int, again: bool) -> None:
    pod = records(made(restartPolicy=policy))
    end(pod.containers["main"], exit_code)
    assert should_restart(pod, pod.containers["main"], exit_code) is again
    assert (planned(pod).start == ("main",)) is again
    assert planned(pod).finish is not again


def test_restart_rules_of_a_container_win_over_the_pods_policy() -> None:
    rule = {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}
    main = container(restartPolicy="Never", restartPolicyRules=[rule])
    pod = records(made(main, restartPolicy="Never"))
    assert should_restart(pod, pod.containers["main"], 42)
    assert not should_restart(pod, pod.containers["main"], 1)


def test_a_container_in_back_off_is_not_started_and_shown_as_such() -> None:
    pod = records(made())
    main = pod.containers["main"]
    end(main, 1)
    main.backoff = Backoff(10.0, NOW - 20)
    found = planned(pod)
    assert found.start == () and found.backing_off == ("main",) and found.wake_at == NOW + 10
    state, last = shown_state(pod, main, NOW, POLICY)
    assert state == Waiting("CrashLoopBackOff", "back-off 10s restarting failed container=main pod=web_shop(u-1)")
    assert isinstance(last, Terminated)
    assert planned(pod, NOW + 10).start == ("main",)


@pytest.mark.parametrize("back", [3600.0, 86400.0])
def test_a_clock_that_is_set_back_makes_no_container_wait_for_yesterday(back: float) -> None:
    crashed, unpulled = records(made()), records(made())
    main = crashed.containers["main"]
    end(main, 1)
    main.backoff = Backoff(10.0, NOW - 20)
    main = unpulled.containers["main"]
    wait(main, "ErrImagePull")
    main.failed_at, main.retry_at = NOW, NOW + 10
    for pod in (crashed, unpulled):
        assert planned(pod, NOW + 9).start == ()
        assert planned(pod, NOW - back).start == ("main",)
    assert shown_state(crashed, crashed.containers["main"], NOW - back, POLICY)[0] == crashed.containers["main"].state


def test_a_deleted_pod_shows_how_its_container_ended_not_a_back_off() -> None:
    pod = records(made())
    main = pod.containers["main"]
    end(main, 1)
    main.backoff = Backoff(10.0, NOW - 20)
    pod.terminating = True
    assert shown_state(pod, main, NOW, POLICY)[0] == main.state


def test_an_image_error_turns_into_a_back_off_after_a_while() -> None:
    pod = records(made())
    main = pod.containers["main"]
    main.state = Waiting("ErrImagePull", "no", ("ImagePullBackOff", "Back-off"), NOW + 2)
    main.retry_at = NOW + 10
    assert planned(pod).wake_at == NOW + 2
    assert shown_state(pod, main, NOW, POLICY)[0].reason == "ErrImagePull"
    assert shown_state(pod, main, NOW + 2, POLICY)[0].reason == "ImagePullBackOff"
    assert planned(pod, NOW + 10).start == ("main",)


def test_a_condemned_container_is_killed_once() -> None:
    pod = records(made())
    main = pod.containers["main"]
    run(main)
    main.condemned = "Container main failed liveness probe, will be restarted"
    assert planned(pod).kill == ("main",)
    main.busy = True
    assert planned(pod).kill == ()


# Ending


def test_a_job_pod_ends_when_its_main_containers_have_ended() -> None:
    pod = records(made(container("a"), container("b"), restartPolicy="Never"))
    end(pod.containers["a"], 0)
    run(pod.containers["b"])
    assert not planned(pod).finish
    end(pod.containers["b"], 0)
    assert planned(pod).finish
    assert phase(pod, terminal=True) == "Succeeded"
    end(pod.containers["b"], 3)
    assert phase(pod, terminal=True) == "Failed"


def test_a_running_sidecar_does_not_keep_a_job_pod_alive() -> None:
    pod = records(made(inits=(container("side", **SIDECAR),), restartPolicy="Never"))
    run(pod.containers["side"])
    end(pod.containers["main"], 0)
    assert planned(pod).finish


def test_the_active_deadline() -> None:
    pod = records(made(activeDeadlineSeconds=30))
    run(pod.containers["main"])
    assert planned(pod).wake_at == NOW + 30
    found = planned(pod, NOW + 30)
    assert found.finish and found.failure == pod_state.DEADLINE


def test_a_terminating_or_deleted_pod_starts_nothing() -> None:
    pod = records(made())
    pod.terminating = True
    assert planned(pod) == pod_state.Plan()
    pod = records(made())
    pod.object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert planned(pod) == pod_state.Plan()


def test_sidecars_stop_after_the_main_containers_in_reverse_order() -> None:
    sidecars = tuple(container(name, **SIDECAR) for name in ("first", "second"))
    pod = records(made(container("a"), container("b"), inits=(sidecars[0], container("init"), sidecars[1])))
    assert stop_after(pod) == {"second": ("a", "b"), "first": ("a", "b", "second")}


def test_a_container_whose_end_nobody_saw_counts_as_failed() -> None:
    pod = records(made(container("a"), container("b"), restartPolicy="Never"))
    end(pod.containers["a"], 0)
    run(pod.containers["b"])
    settle(pod)
    lost = pod.containers["b"].ended
    assert lost and (lost.exit_code, lost.reason) == (137, "ContainerStatusUnknown")
    assert phase(pod, terminal=True) == "Failed"


def test_a_pod_that_never_ran_leaves_its_containers_waiting() -> None:
    pod = records(made())
    wait(pod.containers["main"], "ErrImagePull")
    settle(pod)
    assert isinstance(pod.containers["main"].state, Waiting)
    assert phase(pod, terminal=True) == "Failed"


def test_a_waiting_container_with_a_past_ends_with_its_past() -> None:
    pod = records(made())
    main = pod.containers["main"]
    main.last = Terminated(0, "Completed")
    wait(main, "CreateContainerConfigError")
    settle(pod)
    assert main.state == Terminated(0, "Completed")
    assert phase(pod, terminal=True) == "Succeeded"


# Phases


def test_one_container_that_never_ran_keeps_the_pod_pending() -> None:
    pod = records(made(container("a"), container("b")))
    run(pod.containers["a"])
    wait(pod.containers["b"], "ErrImagePull")
    assert phase(pod, terminal=False) == "Pending"


def test_a_crashed_container_leaves_the_pod_running() -> None:
    pod = records(made())
    end(pod.containers["main"], 1)
    assert phase(pod, terminal=False) == "Running"


def test_a_pod_that_the_node_ended_has_failed() -> None:
    pod = records(made())
    pod.failure = ("OutOfcpu", "too much")
    assert phase(pod, terminal=False) == phase(pod, terminal=True) == "Failed"


# Any pod whatever

names = st.sampled_from(["none", "waiting", "running", "unready", "zero", "one"])


@st.composite
def any_pod(draw: Any) -> Pod:
    """A pod in any combination of container states."""
    kinds = draw(st.lists(st.sampled_from(["init", "sidecar"]), max_size=3))
    inits = tuple(container(f"i{n}", **(SIDECAR if kind == "sidecar" else {})) for n, kind in enumerate(kinds))
    mains = [container(f"m{n}") for n in range(draw(st.integers(1, 3)))]
    policy = draw(st.sampled_from(["Always", "OnFailure", "Never"]))
    pod = records(made(*mains, inits=inits, restartPolicy=policy))
    for entry in pod.containers.values():
        match draw(names):
            case "waiting":
                wait(entry, "CreateContainerConfigError")
            case "running":
                run(entry)
            case "unready":
                run(entry, ready=False, started=False)
            case "zero":
                end(entry, 0)
            case "one":
                end(entry, 1)
        entry.backoff = draw(st.sampled_from([Backoff(), Backoff(10, NOW - 15), Backoff(300, NOW - 15)]))
        entry.busy = draw(st.booleans())
    return pod


@given(any_pod())
def test_a_plan_never_contradicts_the_state(pod: Pod) -> None:
    found = planned(pod)
    for name in found.start:
        entry = pod.containers[name]
        assert not entry.busy and not isinstance(entry.state, Running)
        ended = entry.ended
        assert ended is None or should_restart(pod, entry, ended.exit_code)
    assert not (found.finish and found.start)
    assert found.wake_at is None or found.wake_at > NOW


@given(any_pod())
def test_a_settled_pod_is_over(pod: Pod) -> None:
    settle(pod)
    assert phase(pod, terminal=True) in ("Succeeded", "Failed")
    assert not any(entry.running for entry in pod.containers.values())


@given(any_pod())
def test_waking_up_when_told_leads_somewhere(pod: Pod) -> None:
    """At its wake-up time a plan starts something new: no container is forgotten in its back-off."""
    found = planned(pod)
    if found.wake_at is not None:
        assert set(planned(pod, found.wake_at).start) > set(found.start)
