"""Lifecycle hooks of a container: postStart and preStop by a command, an HTTP request, or a sleep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from podlab.errors import PodlabError
from podlab.node import commands, prober
from podlab.node.prober import Target
from podlab.node.runtime.contract import Runtime
from podlab.waiting import pause_async

#: Seconds that an HTTP hook may take where nothing else limits it.
HTTP_TIMEOUT = 30.0


class HookFailed(PodlabError):
    """A hook ended with an error; the message is the kubelet's."""


async def run(runtime: Runtime, target: Target, hook: Mapping[str, Any], pod_name: str, timeout: float | None) -> None:
    """Run one hook to its end or for `timeout` seconds; HookFailed if it did not succeed."""
    container = target.spec["name"]
    where = f'for Container "{container}" in Pod "{pod_name}" failed - error'
    if "exec" in hook:
        argv = hook["exec"].get("command") or []
        try:
            outcome = await commands.run(runtime, target.container_id, argv, target.environment, timeout)
        except PodlabError as error:
            raise HookFailed(f"Exec lifecycle hook ({argv}) {where}: {error.message}") from error
        if outcome.status != 0:
            ended = "timed out" if outcome.status is None else f"exited with {outcome.status}"
            message = f"command {argv[0] if argv else ''!r} {ended}: {outcome.output}"
            raise HookFailed(f"Exec lifecycle hook ({argv}) {where}: {message}")
    elif "httpGet" in hook:
        action = hook["httpGet"]
        try:
            answer = await prober.http(target, action, timeout or HTTP_TIMEOUT, "kube-lifecycle/1.37")
        except ValueError as error:
            raise HookFailed(f"HTTP lifecycle hook ({action.get('path')}) {where}: {error}") from error
        # Any answer is good enough: only a request that fails as such is an error.
        if not answer.healthy and "statuscode" not in answer.message:
            raise HookFailed(f"HTTP lifecycle hook ({action.get('path')}) {where}: {answer.message}")
    elif "sleep" in hook:
        await pause_async(float(hook["sleep"].get("seconds") or 0))
