"""Commands run inside of a container by the node itself: exec probes and lifecycle hooks."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from podlab.node.runtime.contract import Runtime

#: Bytes of output that are kept (k8s.io/kubernetes/pkg/probe/exec: maxReadLength).
OUTPUT_MAX = 10 * 1024


@dataclass(frozen=True, slots=True)
class Outcome:
    """Exit status (None: it did not end in time and was killed) and the beginning of stdout and stderr."""

    status: int | None
    output: str


async def run(
    runtime: Runtime,
    container: str,
    argv: Sequence[str],
    environment: Mapping[str, str],
    timeout: float | None,
) -> Outcome:
    """Run a command in a container to its end, or for `timeout` seconds; RuntimeRefused if it cannot start."""
    reading, writing = os.pipe()
    nothing = os.open(os.devnull, os.O_RDONLY)
    collector = _Collector(reading)
    try:
        process = await runtime.execute(container, argv, environment, (nothing, writing, writing))
    except BaseException:
        collector.close()
        raise
    finally:
        os.close(writing)
        os.close(nothing)
    try:
        async with asyncio.timeout(timeout):
            end = await process.wait()
        status: int | None = end.status
    except TimeoutError:
        status = None
        await process.signal(signal.SIGKILL)
    except asyncio.CancelledError:
        await asyncio.shield(process.signal(signal.SIGKILL))
        raise
    finally:
        output = collector.close()
    return Outcome(status, output)


class _Collector:
    """Reads a pipe in the background, keeps its beginning and throws the rest away."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor
        self._kept = bytearray()
        os.set_blocking(descriptor, False)
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    def _read(self) -> None:
        if self._descriptor is None:
            return
        try:
            chunk = os.read(self._descriptor, 65536)
        except BlockingIOError:
            return
        if not chunk:
            asyncio.get_running_loop().remove_reader(self._descriptor)
        self._kept += chunk[: OUTPUT_MAX - len(self._kept)]

    def close(self) -> str:
        """Read what is there, stop reading and return the text."""
        if self._descriptor is not None:
            self._read()
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None
        return self._kept.decode(errors="replace")
