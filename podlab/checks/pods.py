"""What keeps a pod from starting, in the words of its status."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]


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
