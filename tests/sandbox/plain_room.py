"""A machine of the plain runtime where namespaces are refused (tests/refused.py), for the tests of the sandbox."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from sandbox_room import PATH, Node, Room

from podlab import waiting
from podlab.network.plain import fixed
from podlab.node.runtime.plain.client import PlainRuntime
from podlab.node.runtime.plain.processes import kill_marked

_REPOSITORY = Path(__file__).resolve().parents[2]
_REFUSED = _REPOSITORY / "tests" / "refused.py"
_START = """
import json, sys
from podlab.node.runtime.sandbox.machine import start_machine
folder, plain = sys.argv[1], json.loads(sys.argv[2])
machine = start_machine("node-1", folder + "/node-1", folder + "/node-1.socket", folder + "/node-1.log", plain)
print(machine.pid, flush=True)
sys.stdin.read()
"""


class PlainRoom(Room):
    """The holder of the network namespace, and in it a starter with one machine."""

    def begin(self) -> None:
        """Start both; returns when the machine listens."""
        command = [sys.executable, str(_REFUSED)]
        self.environment = {"PATH": PATH, "PYTHONPATH": str(_REPOSITORY)}
        self._holder = self._start([*command, "hold"])
        assert self._holder.stdout
        self.inside = [*command, "run", self._holder.stdout.readline().strip()]
        self._starter = self._start(
            [*self.inside, sys.executable, "-c", _START, str(self.folder), json.dumps(self.settings)]
        )
        assert self._starter.stdout
        self.pid = int(self._starter.stdout.readline() or 0)
        assert self.pid, self.log() if (self.folder / "node-1.log").exists() else "the machine did not start"

    @property
    def settings(self) -> dict:
        """What the runtime is told of the node."""
        folder = str(self.folder)
        return {
            "loopback": 244,
            "address": "172.18.0.11",
            "api": ["127.0.0.1", 6443],
            "dns": "10.96.0.10",
            "fixed": fixed(244, 1, "10.96.0.10"),
            "services": f"{folder}/services.json",
            "folder": folder,
            "real": [folder],
        }

    def _start(self, command: list[str]) -> subprocess.Popen[str]:
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        return subprocess.Popen(command, env=self.environment, text=True, **streams)

    def kill(self) -> None:
        """End the starter, with it the machine, and the holder; nothing may be left."""
        for process in (self._starter, self._holder):
            with process:
                process.kill()
        waiting.until(lambda: not kill_marked([f"PODLAB_NODE={self.folder}"]), "the end of the room", timeout=60)


def open_plain_room() -> PlainRoom:
    """Start a room for the plain runtime."""
    room = PlainRoom(Path(tempfile.mkdtemp(prefix="podlab-room-")), 0, sys.executable, sys.base_prefix, None)
    room.begin()
    return room


class PlainNode(Node):
    """The node of a plain room."""

    def client(self) -> str:
        """How a program in the node makes its client."""
        assert isinstance(self.room, PlainRoom)
        return (
            "__import__('podlab.node.runtime.plain.client', fromlist=['x'])"
            f".PlainRuntime({str(self.room.socket())!r}, {self.room.settings!r})"
        )


def plain_runtime(room: PlainRoom) -> PlainRuntime:
    """A client of the room's machine."""
    return PlainRuntime(str(room.socket()), room.settings)
