"""Kernels as notebooks have them, for what only shows between processes."""

from __future__ import annotations

import signal
import tempfile
import time
from pathlib import Path
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from podlab.waiting import until

#: Seconds for a cell on a busy machine.
PATIENCE = 300


class Kernel:
    """A kernel as a notebook has it."""

    def __init__(self, folder: Path | None = None) -> None:
        """Start it, in the folder of its notebook if that matters."""
        # Its sockets would lie in its own folder, where nobody looks for them; and their paths must be short.
        self._sockets = tempfile.TemporaryDirectory(prefix="plk-")
        self.manager = KernelManager(kernel_name="python3", transport="ipc", ip=f"{self._sockets.name}/k")
        self.manager.start_kernel(**({"cwd": str(folder)} if folder else {}))
        self.client: BlockingKernelClient = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=PATIENCE)

    def begin(self, code: str) -> str:
        """Start a cell."""
        return self.client.execute(code)

    def read(self, cell: str, words: str = "") -> str:
        """What the cell shows, until it has ended, or until `words` are in it."""
        shown, deadline = "", time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            message = self.client.get_iopub_msg(timeout=PATIENCE)
            if message["parent_header"].get("msg_id") != cell:
                continue
            content: Any = message["content"]
            shown += content.get("text", "") + content.get("data", {}).get("text/plain", "")
            shown += content.get("data", {}).get("text/html", "") + "\n".join(content.get("traceback", ()))
            if (words and words in shown) or content.get("execution_state") == "idle":
                return shown
        raise AssertionError(f"the cell has not ended; it showed {shown}")

    def run(self, code: str) -> str:
        """What a cell shows."""
        return self.read(self.begin(code))

    def kill(self) -> None:
        """End it as a lid that closes may do: nothing is tidied up."""
        self.manager.signal_kernel(signal.SIGKILL)
        until(lambda: not self.manager.is_alive(), "the kernel being gone", timeout=60)

    def end(self) -> None:
        """End it as JupyterLab does; one that was killed is dropped."""
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=not self.manager.is_alive())
        self._sockets.cleanup()
