"""What to do next with a pod: a pure function of (records, now). Sources: kubelet's computePodActions, getPhase."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from podlab.node import clock
from podlab.node.backoff import BackoffPolicy, duration
from podlab.node.records import Container, Pod, Running, Terminated, Waiting

TERMINAL = ("Succeeded", "Failed")
DEADLINE = ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
#: Reason of a container whose end nobody saw.
UNKNOWN = "ContainerStatusUnknown"
LOST = "The container could not be located when the pod was terminated"


@dataclass(frozen=True, slots=True)
class Plan:
    """The next steps: containers to start and to kill, containers that wait in back-off, the end of the pod.

    `finish` says that the pod is over and what still runs (sidecars) is to be stopped; `failure` is the reason,
    where the node itself ended it. `wake_at` is the next time at which time alone changes the plan or the status.
    """

    start: tuple[str, ...] = ()
    kill: tuple[str, ...] = ()
    backing_off: tuple[str, ...] = ()
    finish: bool = False
    failure: tuple[str, str] | None = None
    wake_at: float | None = None


def restart_policy(pod: Pod, container: Container) -> str:
    """Always, OnFailure or Never for one container, before its restart rules are asked."""
    own = container.spec.get("restartPolicy")
    policy = own or pod.spec.get("restartPolicy") or "Always"
    if container.kind == "ephemeral":
        return "Never"
    if container.kind == "init":
        return "Never" if policy == "Never" else "OnFailure"
    return policy


def should_restart(pod: Pod, container: Container, exit_code: int) -> bool:
    """Whether a container that ended with `exit_code` is to be started again, back-off aside."""
    for rule in container.spec.get("restartPolicyRules") or ():
        if rule.get("action") == "Restart" and _matches(rule.get("exitCodes") or {}, exit_code):
            return not (container.kind == "init" and exit_code == 0)
    policy = restart_policy(pod, container)
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def _matches(exit_codes: Mapping[str, Any], exit_code: int) -> bool:
    inside = exit_code in (exit_codes.get("values") or ())
    return inside if exit_codes.get("operator") == "In" else not inside


def phase(pod: Pod, *, terminal: bool) -> str:
    """Pending, Running, Succeeded or Failed; with `terminal`, nothing will be started any more."""
    if pod.failure:
        return "Failed"
    inits = pod.of("init")
    failed = [c for c in inits if (end := _end(c)) and end.exit_code != 0]
    if any(not should_restart(pod, c, _end(c).exit_code) for c in failed):  # type: ignore[union-attr]
        return "Failed"
    mains = pod.of("main")
    initialised = any(container.ever_ran for container in mains)
    pending_init = any(_end(container) is None for container in inits)
    pending_init |= any(not (c.running and c.started) and not c.last for c in pod.of("sidecar"))
    running = sum(container.running for container in mains)
    ends = [end for container in mains if not container.running and (end := _end(container))]
    waiting = len(mains) - running - len(ends)
    if terminal and not running and ends and not waiting:
        return "Succeeded" if all(end.exit_code == 0 for end in ends) else "Failed"
    if (pending_init or failed) and not initialised:
        return "Failed" if terminal else "Pending"
    if waiting:
        return "Failed" if terminal and not running else "Pending"
    if running:
        return "Running"
    return _ended_phase(pod, mains)


def _ended_phase(pod: Pod, mains: list[Container]) -> str:
    """The phase of a pod all of whose main containers have ended."""
    ends = [(container, _end(container)) for container in mains]
    if any(end and should_restart(pod, container, end.exit_code) for container, end in ends):
        return "Running"
    return "Succeeded" if all(end and end.exit_code == 0 for _, end in ends) else "Failed"


def _end(container: Container) -> Terminated | None:
    """How the newest ended attempt ended: also of a container that waits to be started again."""
    if container.running:
        return None
    return container.ended or container.last


def restart_at(container: Container, now: float, policy: BackoffPolicy) -> float:
    """The time from which a container that ended, or failed to start, may start again.

    What happened after `now` did so before the clock was set back: nobody waits for that time to come again.
    """
    end = _end(container)
    finished = (end.finished_at if end else None) or 0.0
    after_end = container.backoff.ready_at(finished, policy) if 0.0 < finished <= now else 0.0
    after_failure = container.retry_at if container.failed_at <= now else 0.0
    return max(after_end, after_failure)


def plan(pod: Pod, now: float, policy: BackoffPolicy) -> Plan:
    """The next steps for a pod that is neither deleted nor terminating."""
    if pod.terminating or pod.deleted:
        return Plan()
    wakes: list[float] = []
    limit = pod.spec.get("activeDeadlineSeconds")
    if limit is not None and pod.started_at is not None:
        deadline = clock.whole(pod.started_at) + limit
        if now >= deadline:
            return Plan(finish=True, failure=DEADLINE)
        wakes.append(deadline)
    if phase(pod, terminal=False) in TERMINAL:
        return Plan(finish=True)
    kill = tuple(c.name for c in pod.containers.values() if c.running and c.condemned and not c.busy)
    if not (pod.sandbox_ready and pod.volumes_ready):
        return Plan(kill=kill, wake_at=min(wakes, default=None))
    start: list[str] = []
    backing_off: list[str] = []
    for container in _due(pod):
        if container.busy or container.running:
            continue
        at = restart_at(container, now, policy)
        if at <= now:
            start.append(container.name)
            continue
        wakes.append(at)
        if container.ended:
            backing_off.append(container.name)
    wakes += _later(pod, now)
    return Plan(tuple(start), kill, tuple(backing_off), wake_at=min(wakes, default=None))


def _later(pod: Pod, now: float) -> list[float]:
    states = [container.state for container in pod.containers.values()]
    return [s.later_at for s in states if isinstance(s, Waiting) and s.later and s.later_at > now]


def _due(pod: Pod) -> list[Container]:
    """The containers that should be running now (those that run already among them)."""
    due = [container for container in pod.of("ephemeral") if not container.ever_ran]
    mains = pod.of("main")
    # After a reboot the main containers have a past but no state: then the init containers run again.
    initialised = any(container.running or container.ended for container in mains)
    for container in pod.of("init", "sidecar"):
        if container.kind == "sidecar":
            due.append(container)
            if not initialised and not (container.running and container.started):
                return due
        elif not initialised:
            end = container.ended
            if end and end.exit_code == 0:
                continue
            if not end or should_restart(pod, container, end.exit_code):
                due.append(container)
            return due
    for container in mains:
        if not container.ended or should_restart(pod, container, container.ended.exit_code):
            due.append(container)
    return due


def stop_after(pod: Pod) -> dict[str, tuple[str, ...]]:
    """For each sidecar, the containers that must have ended before it is told to stop.

    Sidecars stop after the main containers, in the reverse of the order in which they were started.
    """
    mains = tuple(container.name for container in pod.of("main"))
    order: dict[str, tuple[str, ...]] = {}
    later: tuple[str, ...] = ()
    for container in reversed(pod.of("sidecar")):
        order[container.name] = mains + later
        later += (container.name,)
    return order


def settle(pod: Pod) -> None:
    """Give every container of a stopped pod its final state: what was never seen to end is an error, 137."""
    initialised = any(container.ever_ran for container in pod.of("main"))
    for container in pod.containers.values():
        if container.ended:
            continue
        if container.last and not container.running:
            container.state, container.last = container.last, None
        elif container.running or (initialised and container.kind == "main"):
            started = container.state.started_at if isinstance(container.state, Running) else None
            container.state = Terminated(137, UNKNOWN, LOST, started, container_id=container.container_id)
    pod.stopped = True


def rebooted(pod: Pod) -> None:
    """Make the records of a pod that lost its sandbox begin anew: init containers run again, ends are kept.

    Containers that their restart policy leaves ended stay so; if all main ones do, nothing runs again.
    """
    mains = [c for c in pod.of("main", "sidecar") if c.ended and should_restart(pod, c, c.ended.exit_code)]
    if not any(container.kind == "main" for container in mains):
        return
    for container in [*mains, *pod.of("init")]:
        container.last, container.state = container.ended or container.last, None


def shown_state(pod: Pod, container: Container, now: float, policy: BackoffPolicy) -> tuple[Any, Any]:
    """(state, last state) as the status shows them: an ended container in back-off is shown as waiting."""
    state, last = container.state, container.last
    if isinstance(state, Waiting) and state.later and now >= state.later_at:
        state = Waiting(*state.later)
    end = container.ended
    if end is None:
        return state or _initial(pod, container), last
    leaving = pod.terminating or pod.deleted or pod.stopped
    if leaving or not should_restart(pod, container, end.exit_code) or not _may_run(pod, container):
        return end, last
    if restart_at(container, now, policy) <= now:
        return end, last
    message = (
        f"back-off {duration(container.backoff.pause)} restarting failed container={container.name} pod={pod.full_name}"
    )
    return Waiting("CrashLoopBackOff", message), end


def _may_run(pod: Pod, container: Container) -> bool:
    return container.kind != "init" or not any(main.ever_ran for main in pod.of("main"))


def _initial(pod: Pod, container: Container) -> Waiting:
    has_inits = bool(pod.of("init", "sidecar"))
    return Waiting("PodInitializing" if has_inits else "ContainerCreating", "; ".join(pod.hindrances.values()))
