"""What a pod has printed; what keeps one from starting, in the words of its status."""

from __future__ import annotations

from podlab.checks.api import AGAIN, Api, Object


def printed(api: Api, pod: str, namespace: str, **query: str) -> str:
    """What the container of a pod has printed so far; "" if there is no log."""
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
    answer = api.raw("GET", path, query=query or None, again=AGAIN)
    return answer.data.decode("utf-8", "replace") if answer.status == 200 else ""


def hindrance(pod: Object) -> str:
    """Why a pod is not on its way: no node has room for it, or a container cannot be made. Empty if it is."""
    status = pod.get("status") or {}
    conditions = {one["type"]: one for one in status.get("conditions") or ()}
    placed = conditions.get("PodScheduled", {})
    if placed.get("status") == "False":
        return f"is Pending: {placed.get('message', '')}"
    for container in status.get("containerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            ended = (container.get("lastState") or {}).get("terminated") or {}
            words = (waiting["reason"], waiting.get("message"), ended.get("reason"), ended.get("message"))
            return f"waits: {', '.join(word for word in words if word)}"
    return ""
