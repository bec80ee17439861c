from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from pods import NOW, POLICY, container, end, made, records, run, wait
from test_pod_state import SIDECAR, any_pod

from podlab.node import pod_status
from podlab.node.pod_state import settle
from podlab.node.pod_status import build, difference, urgent
from podlab.node.records import Pod, Terminated


def status_of(pod: Pod, now: float = NOW) -> dict[str, Any]:
    return build(pod, now, POLICY)


def condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(c for c in status["conditions"] if c["type"] == kind)


def accept(pod: Pod, change: dict[str, Any]) -> None:
    """What the API server does with a merge patch of the status."""
    stored = pod.object["status"]
    for name, value in change.items():
        if value is None:
            stored.pop(name, None)
        else:
            stored[name] = copy.deepcopy(value)


def test_a_running_pod() -> None:
    pod = records(made())
    run(pod.containers["main"])
    status = status_of(pod)
    assert status["phase"] == "Running" and status["observedGeneration"] == 3
    assert status["podIPs"] == [{"ip": "10.244.1.2"}] and status["hostIP"] == "172.18.0.11"
    assert status["startTime"] == "2027-01-15T08:00:00Z"
    for kind in pod_status.OWN_CONDITIONS:
        assert condition(status, kind)["status"] == "True"
        assert condition(status, kind)["observedGeneration"] == 3
    (main,) = status["containerStatuses"]
    assert main["ready"] and main["started"] and main["state"] == {"running": {"startedAt": "2027-01-15T08:00:00Z"}}


def test_a_pod_whose_containers_are_being_created() -> None:
    status = status_of(records(made(), ready=False))
    assert status["phase"] == "Pending"
    assert status["containerStatuses"][0]["state"] == {"waiting": {"reason": "ContainerCreating"}}
    ready = condition(status, "Ready")
    assert ready["reason"] == "ContainersNotReady"
    assert ready["message"] == "containers with unready status: [main]"
    assert condition(status, "PodReadyToStartContainers")["status"] == "False"


def test_what_hinders_a_pod_is_said_of_its_containers() -> None:
    pod = records(made(), ready=False)
    pod.hindrances = {"FailedMount": "no such volume"}
    (main,) = status_of(pod)["containerStatuses"]
    assert main["state"] == {"waiting": {"reason": "ContainerCreating", "message": "no such volume"}}


@pytest.mark.parametrize(
    ("asked", "kept", "shown"),
    [
        ("", True, "Disabled"),
        ("IfPossible", True, "Enabled"),
        ("Enabled", True, "Enabled"),
        ("IfPossible", False, "Disabled"),
        ("Enabled", False, "Disabled"),
    ],
)
def test_a_read_only_mount_says_whether_it_was_asked_to_be_so_to_the_bottom_and_is(
    asked: str, kept: bool, shown: str
) -> None:
    mount = {"name": "v", "mountPath": "/v", "readOnly": True, **({"recursiveReadOnly": asked} if asked else {})}
    pod = records(made(container(volumeMounts=[mount])))
    pod.read_only_mounts = kept
    (main,) = status_of(pod)["containerStatuses"]
    assert main["volumeMounts"] == [{"name": "v", "mountPath": "/v", "readOnly": True, "recursiveReadOnly": shown}]


def test_a_resize_is_refused_in_the_status_and_the_old_resources_are_shown() -> None:
    old, new = ({"limits": {"memory": size}, "requests": {"memory": size}} for size in ("64Mi", "128Mi"))
    pod = records(made(container(resources=old)))
    run(pod.containers["main"])
    pod.object["spec"]["containers"][0] = container(resources=new)
    status = status_of(pod)
    (main,) = status["containerStatuses"]
    assert (main["resources"], main["allocatedResources"]) == (old, old["requests"])
    refused = condition(status, "PodResizePending")
    assert (refused["status"], refused["reason"]) == ("True", "Infeasible") and "not supported" in refused["message"]
    pod.object["status"] = status
    pod.object["spec"]["containers"][0] = container(resources=old)
    assert "PodResizePending" not in {c["type"] for c in status_of(pod)["conditions"]}


def test_a_pod_that_runs_its_init_containers() -> None:
    pod = records(made(inits=(container("one"), container("two"))))
    end(pod.containers["one"], 0)
    status = status_of(pod)
    assert status["containerStatuses"][0]["state"] == {"waiting": {"reason": "PodInitializing"}}
    initialized = condition(status, "Initialized")
    assert initialized["message"] == "containers with incomplete status: [two]"
    assert status["initContainerStatuses"][0]["ready"] is True


def test_an_unready_sidecar_makes_the_pod_unready() -> None:
    pod = records(made(inits=(container("side", **SIDECAR),)))
    run(pod.containers["main"])
    run(pod.containers["side"], ready=False)
    assert condition(status_of(pod), "Ready")["message"] == "containers with unready status: [side]"


@pytest.mark.parametrize(
    ("exit_code", "phase", "reason"), [(0, "Succeeded", "PodCompleted"), (1, "Failed", "PodFailed")]
)
def test_a_finished_pod(exit_code: int, phase: str, reason: str) -> None:
    pod = records(made(restartPolicy="Never"))
    end(pod.containers["main"], exit_code)
    pod.terminating = True
    settle(pod)
    status = status_of(pod)
    assert status["phase"] == phase
    assert condition(status, "Ready")["reason"] == condition(status, "ContainersReady")["reason"] == reason


@pytest.mark.parametrize(("mains", "shown"), [(1, 4096), (2, 4096), (3, 3072), (11, 1024)])
def test_the_last_words_of_a_pods_containers_share_12_kib(mains: int, shown: int) -> None:
    names = [container(f"c{number}") for number in range(mains)]
    pod = records(made(*names, inits=(container("init"),), restartPolicy="Never"))
    said = "é" * 2048
    for entry in pod.containers.values():
        entry.attempt = 1
        entry.state = entry.last = Terminated(1, "Error", said, NOW - 5, NOW)
    status = status_of(pod)
    for one in (*status["containerStatuses"], *status["initContainerStatuses"]):
        for state in (one["state"], one["lastState"]):
            assert state["terminated"]["message"] == said[: shown // 2]


def test_last_words_with_what_is_no_text_are_shown_all_the_same() -> None:
    pod = records(made(container("a"), restartPolicy="Never"))
    pod.containers["a"].state = Terminated(128, "StartError", "no such file: \udcff", NOW - 5, NOW)
    assert status_of(pod)["containerStatuses"][0]["state"]["terminated"]["message"] == "no such file: ?"


def test_a_letter_at_the_end_of_the_last_words_is_left_out_rather_than_cut() -> None:
    pod = records(made(*(container(name) for name in "abcd"), restartPolicy="Never"))
    pod.containers["a"].state = Terminated(1, "Error", "x" * 3071 + "é", NOW - 5, NOW)
    assert status_of(pod)["containerStatuses"][0]["state"]["terminated"]["message"] == "x" * 3071


def test_a_final_phase_is_not_shown_while_a_sidecar_runs() -> None:
    pod = records(made(inits=(container("side", **SIDECAR),), restartPolicy="Never"))
    run(pod.containers["side"])
    end(pod.containers["main"], 0)
    pod.terminating = True
    assert status_of(pod)["phase"] == "Running"
    end(pod.containers["side"], 0)
    settle(pod)
    assert status_of(pod)["phase"] == "Succeeded"


def test_a_refused_pod_says_why() -> None:
    pod = records(made(), ready=False)
    pod.failure = ("OutOfcpu", "Node didn't have enough resource: cpu")
    settle(pod)
    status = status_of(pod)
    assert (status["phase"], status["reason"]) == ("Failed", "OutOfcpu")


def test_readiness_gates() -> None:
    pod = records(made(readinessGates=[{"conditionType": "example.com/ok"}]))
    run(pod.containers["main"])
    ready = condition(status_of(pod), "Ready")
    assert ready["reason"] == "ReadinessGatesNotReady" and "does not exist" in ready["message"]
    assert condition(status_of(pod), "ContainersReady")["status"] == "True"
    pod.object["status"]["conditions"] = [{"type": "example.com/ok", "status": "False"}]
    assert 'is not "True", but False' in condition(status_of(pod), "Ready")["message"]
    pod.object["status"]["conditions"][0]["status"] = "True"
    assert condition(status_of(pod), "Ready")["status"] == "True"


def test_conditions_of_others_are_kept() -> None:
    foreign = {"type": "example.com/ok", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"}
    pod = records(made(status={"conditions": [foreign]}))
    assert condition(status_of(pod), "example.com/ok") == foreign


def test_that_a_pod_is_scheduled_is_said_for_its_newest_form_as_of_when_it_was() -> None:
    bound = {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"}
    for before in ([bound], []):
        said = condition(status_of(records(made(status={"conditions": before}))), "PodScheduled")
        assert (said["status"], said["observedGeneration"]) == ("True", 3)
        assert (said["lastTransitionTime"] == bound["lastTransitionTime"]) == bool(before)


def test_a_transition_time_changes_only_with_its_status() -> None:
    pod = records(made())
    run(pod.containers["main"])
    accept(pod, difference(status_of(pod), {}))
    later = status_of(pod, NOW + 100)
    assert condition(later, "Ready")["lastTransitionTime"] == "2027-01-15T08:00:00Z"
    pod.containers["main"].ready = False
    later = status_of(pod, NOW + 100)
    assert condition(later, "Ready")["lastTransitionTime"] == "2027-01-15T08:01:40Z"
    assert condition(later, "Initialized")["lastTransitionTime"] == "2027-01-15T08:00:00Z"


def test_what_another_writer_changed_is_put_right() -> None:
    """The node lifecycle controller sets Ready to False when a node is silent; the node must say otherwise."""
    pod = records(made())
    run(pod.containers["main"])
    accept(pod, difference(status_of(pod), {}))
    assert difference(status_of(pod), pod.object["status"]) == {}
    condition(pod.object["status"], "Ready")["status"] = "False"
    change = difference(status_of(pod), pod.object["status"])
    assert set(change) == {"conditions"} and urgent(change, pod.object["status"])


@given(any_pod())
def test_writing_a_status_once_is_enough(pod: Pod) -> None:
    accept(pod, difference(status_of(pod), pod.object["status"]))
    assert difference(status_of(pod), pod.object["status"]) == {}


@given(any_pod())
def test_the_order_of_containers_is_that_of_the_spec(pod: Pod) -> None:
    status = status_of(pod)
    names = [c["name"] for c in status["containerStatuses"]]
    assert names == [c["name"] for c in pod.spec["containers"]]


@given(any_pod())
def test_a_pod_is_ready_only_if_all_its_containers_are(pod: Pod) -> None:
    status = status_of(pod)
    counted = status["containerStatuses"]
    ready = condition(status, "Ready")["status"] == "True"
    assert not ready or all(c["ready"] for c in counted)


def test_what_the_api_leaves_out_is_no_difference() -> None:
    wanted: dict[str, Any] = {
        "conditions": [{"type": "Ready", "lastProbeTime": None}],
        "reason": None,
        "containerStatuses": [{"lastState": {}}],
    }
    present = {"conditions": [{"type": "Ready"}], "containerStatuses": [{}]}
    assert difference(wanted, present) == {}


def test_false_and_zero_are_differences() -> None:
    wanted = {"containerStatuses": [{"ready": False, "restartCount": 0}]}
    assert difference(wanted, {"containerStatuses": [{"ready": True, "restartCount": 0}]})
    assert difference(wanted, {"containerStatuses": [{"ready": False, "restartCount": 1}]})


def test_a_new_message_is_not_urgent_but_the_phase_is() -> None:
    assert not urgent({"containerStatuses": []}, {})
    assert urgent({"phase": "Running"}, {"phase": "Pending"})
    assert not urgent({"phase": "Pending"}, {})


def test_a_waiting_container_shows_reason_and_message() -> None:
    pod = records(made())
    wait(pod.containers["main"], "CreateContainerConfigError", 'configmap "x" not found')
    (main,) = status_of(pod)["containerStatuses"]
    assert main["state"]["waiting"] == {"reason": "CreateContainerConfigError", "message": 'configmap "x" not found'}
