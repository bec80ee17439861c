"""The hidden checks of chapter 15. They never enter a learner's kernel, a release or a feedback's source."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from podlab.checks.api import ApiError
from podlab.checks.contract import Inconclusive, Result, failed, passed
from podlab.checks.hidden import Hidden
from podlab.checks.traffic import Window
from podlab.checks.world import World, container, is_ready, restarts
from podlab.course.scenes import lives, settled, short, still, time_to_ready, unhealthy, what_became
from podlab.course.self_healing import hanging, node_loss, slow_start, traffic

#: A pause that a healthy program may make (seconds); said in the task.
PAUSE = 3
#: Pauses at most, until the liveness probe has noticed one: another probe may have asked first.
PAUSES = 10
#: Replicas that are added at most, until one of them was asked before it could answer: a node that stands still for a
#: moment may be too late for that.
NEWCOMERS = 3

CHECKS = Hidden()
add = CHECKS.add


@CHECKS("15.1", "short-pause", "A short pause is forgiven", weight=2, needs=["restarted"])
def short_pause(scene: hanging.Scene, world: World) -> Result:
    """A replica that says nothing for three seconds, once, keeps its container."""
    room = scene.room
    uid = scene.well["metadata"]["uid"]
    expected = f"a replica that pauses for {PAUSE} s, once, keeps its container"
    life = lives(room.live()).get(uid)
    if life is None:
        return failed(
            expected,
            what_became(room, scene.life(scene.well)),
            cause="The healthy replica was replaced before it could be tried.",
            next_step="First see to “A healthy replica is left alone”.",
        )
    # The pause begins when the page of the probe is asked for, so that no probe can miss it by luck; but one that
    # stands still itself meanwhile has not noticed it, nor one that came while another probe had it.
    probe, before = scene.well["spec"]["containers"][0].get("livenessProbe") or {}, unhealthy(room, uid, "Liveness")
    page = urlsplit(probe.get("httpGet", {}).get("path", "")).path.strip("/").split("/")[0]

    def paused(times: int) -> bool:
        return room.ask(scene.well, "/trouble").body.get("stalls", 0) >= times or not still(room, life)

    def noticed() -> bool:
        return unhealthy(room, uid, "Liveness") > before or not still(room, life)

    # Two questions that are further apart than a pause is long do not both fail by it.
    patient = probe.get("timeoutSeconds", 1) >= PAUSE
    patient = patient or (probe.get("failureThreshold", 3) > 1 and probe.get("periodSeconds", 10) >= PAUSE)
    for number in range(1, PAUSES + 1):
        room.trouble(scene.well, "stall", seconds=PAUSE, when="asked", page=page)
        if not room.eventually(partial(paused, number), "the pause", 30):
            raise Inconclusive(f"nobody asked {life.pod} for anything, so that it never paused")
        if patient or room.eventually(noticed, "the pause being noticed", PAUSE + 2):
            break
        # Out of step with the probe that had it.
        room.constantly(lambda: True, world.random.uniform(0, probe.get("periodSeconds", 10)))
    else:
        raise Inconclusive(f"the probe of {life.pod} noticed none of {PAUSES} pauses, though it has no patience")
    if room.constantly(lambda: still(room, life), world.deadline(10)):
        return passed(expected, f"{life.pod} paused and still runs container {short(life.container)}")
    return failed(
        expected,
        what_became(room, life),
        cause="One failed question is enough for your probe to end the container.",
        next_step="Let a few failures in a row pass (failureThreshold) before a restart.",
    )


@CHECKS("15.2", "clean-start", "A new replica gets no request before it can answer", weight=3)
def clean_start(scene: traffic.Scene, world: World) -> Result:
    """One replica more under traffic: while it loads its model, no request fails."""
    room = scene.room
    expected = "a replica is added under traffic, and no request fails while it starts"
    room.eventually(lambda: settled(room), "the replicas being settled", 15)
    owner = _deployment(room.api.list("ReplicaSet", room.namespace), room.live())
    if owner is None:
        return failed(
            expected,
            "the pods belong to no Deployment, so that none can be added",
            cause="The pods were made without a Deployment.",
            next_step="Keep kind: Deployment of the manifest that you were given.",
        )
    for _ in range(NEWCOMERS):
        window, pod = _one_more(scene, owner)
        refused = [record for record in window.failed if "timed out" not in record.error]
        took = time_to_ready(pod)
        if window.failed and not refused:
            raise Inconclusive(f"answers did not come in time, and none was refused: {window.summary()}")
        if refused or (took is not None and took < traffic.START - 1):
            # If nobody came in time to be refused, that is the machine's merit, not the manifest's.
            seen = f"the new replica was called ready after {took} s, and its model takes {traffic.START} s"
            return failed(
                expected,
                window.summary() if refused else seen,
                cause="The new replica counted as ready before its model was loaded, and requests were refused.",
                next_step="A container without a readiness probe is ready as soon as its process exists.",
            )
        if unhealthy(room, pod["metadata"]["uid"]):
            # It was asked too early, and that was noticed.
            break
    return passed(expected, window.summary())


def _one_more(scene: traffic.Scene, owner: str) -> tuple[Window, Mapping[str, Any]]:
    """The requests while one replica more comes up, and that replica when it answers."""
    room, prober = scene.room, scene.prober
    before = {pod["metadata"]["uid"] for pod in room.live()}
    start = prober.poll()
    room.api.request(
        "PATCH",
        f"/apis/apps/v1/namespaces/{room.namespace}/deployments/{owner}/scale",
        body={"spec": {"replicas": len(before) + 1}},
        content_type="application/merge-patch+json",
    )

    def newcomers() -> list[Mapping[str, Any]]:
        return [pod for pod in room.live() if pod["metadata"]["uid"] not in before]

    if not room.eventually(lambda: [pod for pod in newcomers() if "running" in _state(pod)], "a new replica", 60):
        raise Inconclusive(f"no new replica started: {room.states()}")
    arrived = room.eventually(lambda: _answers(room, newcomers()), "the new replica answering", traffic.START + 20)
    end = prober.poll() + 1
    room.eventually(lambda: prober.poll() > end + 2, "the last answers", 10)
    if not arrived:
        raise Inconclusive(f"the new replica never answered: {room.states()}")
    return prober.window(start, end), newcomers()[0]


@CHECKS("15.3", "quick-start", "A quick start is not made slow", weight=2, needs=["stays-up"])
def quick_start(scene: slow_start.Scene, world: World) -> Result:
    """The same manifest with a model that loads in a second is Ready much earlier than with a slow one."""
    expected = "with a model that loads in 1 s, the replica is Ready in at most 0.7 of the time of the slow one"
    room = scene.quick
    room.eventually(lambda: settled(room), "the quick start's end", 15)
    quick, slow = (next(map(time_to_ready, each.live()), None) for each in (room, scene.slow))
    if slow is None:
        # The slow replica was wedged by another check; its start was measured by what the program was told.
        slow = float(scene.start_seconds)
    if quick is not None and quick <= 0.7 * slow:
        return passed(expected, f"Ready after {quick:.0f} s, the slow one after {slow:.0f} s")
    return failed(
        expected,
        f"quick: {f'Ready after {quick:.0f} s' if quick is not None else room.states()}; slow: {slow:.0f} s",
        cause="A fixed waiting time (initialDelaySeconds) makes every start as slow as the slowest.",
        next_step="Ask often from the beginning, and allow many failures, instead of waiting.",
    )


@CHECKS("15.3", "gives-up", "A hopeless start is ended", weight=2, needs=["comes-up"])
def gives_up(scene: slow_start.Scene, world: World) -> Result:
    """A container whose start never ends is restarted after a while."""
    within = slow_start.HOPELESS_AFTER
    expected = f"a replica that never comes up is restarted after at most {within} s (on an idle machine)"
    room = scene.never
    if room.eventually(lambda: any(restarts(pod) for pod in room.live()), "a restart", within + 10):
        return passed(expected, f"{room.states()}, {time.monotonic() - scene.began:.0f} s after it was applied")
    return failed(
        expected,
        f"after {time.monotonic() - scene.began:.0f} s: {room.states()}",
        cause="The startup probe allows for a start without end.",
        next_step="Choose periodSeconds × failureThreshold a little above the longest start, not far above.",
    )


@CHECKS("15.4", "drain", "Emptying nodes never takes the last replicas", weight=2)
def drain(scene: node_loss.Scene, world: World) -> Result:
    """Evicting every replica at once: the API server refuses the last ones, and some replica is always ready."""
    expected = "of the evictions of all replicas, asked for at once, the API server refuses some, and one stays ready"
    refused, allowed, ready = _evict_all(scene, world)
    if refused and ready:
        return passed(
            expected, f"{allowed} evictions allowed, {refused} refused; at least {ready} replicas stayed ready"
        )
    return failed(
        expected,
        f"{allowed} evictions allowed, {refused} refused; at worst {ready} replicas were ready",
        cause="Nothing tells the API server how many replicas must stay.",
        next_step="Add a PodDisruptionBudget that selects your pods.",
    )


@CHECKS("15.4", "drain-possible", "Nodes can be emptied", weight=1, needs=["drain"])
def drain_possible(scene: node_loss.Scene, world: World) -> Result:
    """With all replicas well, at least one eviction is allowed."""
    expected = "when all replicas are well, at least one may be evicted"
    refused, allowed, _ = _evict_all(scene, world)
    if allowed:
        return passed(expected, f"{allowed} evictions allowed, {refused} refused")
    return failed(
        expected,
        f"all {refused} evictions were refused",
        cause="The budget demands every replica, so that no node can ever be emptied.",
        next_step="Let one replica be missing: maxUnavailable: 1, or minAvailable below the number of replicas.",
    )


def _evict_all(scene: node_loss.Scene, world: World) -> tuple[int, int, int]:
    """Refused and allowed evictions, and the fewest ready replicas seen; asked once per scene."""
    if scene.evictions is not None:
        return scene.evictions
    room = scene.room
    if not room.eventually(lambda: _all_well(scene), "all replicas being well", 60):
        raise Inconclusive(f"the replicas were not all well before the evictions: {room.states()}")
    refused = allowed = 0
    asked = set[str]()
    for pod in room.live():
        name = pod["metadata"]["name"]
        asked.add(name)
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
        try:
            room.api.request("POST", f"/api/v1/namespaces/{room.namespace}/pods/{name}/eviction", body=body)
            allowed += 1
        except ApiError as error:
            if error.status != 429:
                raise
            refused += 1
    ready = room.ready()
    if not refused and not {pod["metadata"]["name"] for pod in ready} <= asked:
        raise Inconclusive("a successor was ready before the last eviction was asked for")
    fewest = len(ready)
    for _ in range(8):
        fewest = min(fewest, len(room.ready()))
    scene.evictions = (refused, allowed, fewest)
    return scene.evictions


def _all_well(scene: node_loss.Scene) -> bool:
    if not settled(scene.room):
        return False
    budgets = scene.room.api.list("PodDisruptionBudget", scene.room.namespace)
    # The disruption controller must have counted the replicas, or every eviction is refused.
    return all(
        budget.get("status", {}).get("observedGeneration") == budget["metadata"].get("generation")
        and budget["status"].get("currentHealthy") == budget["status"].get("expectedPods") == len(scene.room.live())
        for budget in budgets
    )


def _deployment(sets: list[Mapping[str, Any]], pods: list[Mapping[str, Any]]) -> str | None:
    """Name of the Deployment that owns the pods."""
    owners = {owner["uid"] for pod in pods for owner in pod["metadata"].get("ownerReferences") or []}
    for item in sets:
        if item["metadata"]["uid"] in owners:
            for owner in item["metadata"].get("ownerReferences") or []:
                if owner["kind"] == "Deployment":
                    return owner["name"]
    return None


def _state(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    return container(pod).get("state") or {}


def _answers(room: Any, pods: list[Mapping[str, Any]]) -> bool:
    return bool(pods) and all(is_ready(pod) and room.ask(pod, "/recommend/123", timeout=2).ok for pod in pods)
