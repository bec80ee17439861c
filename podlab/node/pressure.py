"""A node's condition that something gets short: shown while it is, and for a while after, so that it does not flap."""

from __future__ import annotations

from collections.abc import Callable

#: Type of the condition -> (reason while it is short, reason otherwise), the kubelet's.
REASONS = {
    "MemoryPressure": ("KubeletHasInsufficientMemory", "KubeletHasSufficientMemory"),
    "DiskPressure": ("KubeletHasDiskPressure", "KubeletHasNoDiskPressure"),
}
MESSAGES = {
    "KubeletHasInsufficientMemory": "kubelet has insufficient memory available",
    "KubeletHasSufficientMemory": "kubelet has sufficient memory available",
    "KubeletHasDiskPressure": "kubelet has disk pressure",
    "KubeletHasNoDiskPressure": "kubelet has no disk pressure",
}


class Pressure:
    """Whether the condition `kind` is true: from `press` until `transition` seconds after the last one."""

    def __init__(self, kind: str, transition: float, turned: Callable[[], None]) -> None:
        self.kind, self.on = kind, False
        self._transition, self._turned = transition, turned
        self._until = 0.0

    def press(self, now: float) -> None:
        """It is short."""
        self._until = now + self._transition
        self._turn(True)

    def relieve(self, now: float) -> bool:
        """It is not short (any more); whether it is still shown."""
        if self.on and now >= self._until:
            self._turn(False)
        return self.on

    def _turn(self, on: bool) -> None:
        if on != self.on:
            self.on = on
            self._turned()

    def condition(self) -> tuple[str, str, str, str]:
        """(type, status, reason, message) of the Node's condition."""
        reason = REASONS[self.kind][0 if self.on else 1]
        return self.kind, str(self.on), reason, MESSAGES[reason]
