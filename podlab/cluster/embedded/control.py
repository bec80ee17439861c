"""Speaking with a cluster's supervisor: one request per connection on a private Unix socket, JSON lines.

A request is `{"verb": NAME, ...}`. Answers are `{"step": {...}}` while something goes on, and in the end one
`{"result": ...}` or `{"error": {"type", "message", "hint"}}`. The folder of the socket is private (0700), so
who can connect is the cluster's owner.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import os
import select
import signal
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from podlab import errors
from podlab.cluster.provider import Progress, StepReport
from podlab.node.runtime.sandbox import kernel

log = logging.getLogger(__name__)

#: Longest request in bytes.
_LONGEST = 65536
#: Handles one request: (request, say a step) -> result.
Handler = Callable[[dict[str, Any], Progress], Awaitable[Any]]


class SupervisorGone(errors.ClusterError):
    """The supervisor ended before it had answered."""


def bind(path: Path) -> socket.socket:
    """A listening socket at `path` (0600), replacing what an earlier supervisor left; the lock must be held."""
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)
    try:
        listening.bind(str(path))
    finally:
        os.umask(mask)
    listening.listen(64)
    return listening


async def serve(listening: socket.socket, handler: Handler) -> asyncio.Server:
    """Answer requests on `listening` with `handler`."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def send(message: dict[str, Any]) -> None:
            if not writer.is_closing():
                writer.write(json.dumps(message).encode() + b"\n")

        try:
            line = await reader.readline()
            if not line:
                return  # it only wanted to know whether we are here
            request = json.loads(line)
            result = await handler(request, lambda step: send({"step": dataclasses.asdict(step)}))
            send({"result": result})
        except errors.PodlabError as error:
            send({"error": {"type": type(error).__name__, "message": error.message, "hint": error.hint}})
        except (ConnectionError, ValueError) as error:
            log.info("a request could not be read: %s", error)
        except Exception as error:
            log.exception("a request failed")
            send({"error": {"type": "ClusterError", "message": f"{type(error).__name__}: {error}", "hint": None}})
        finally:
            try:
                await writer.drain()
                writer.close()
            except ConnectionError:
                pass

    return await asyncio.start_unix_server(connected, sock=listening, limit=_LONGEST)


class Supervisor:
    """The caller's side: a supervisor that was alive when this was made by `connect`."""

    def __init__(self, path: Path, pid: int, descriptor: int) -> None:
        self.path = path
        #: Its process number out here.
        self.pid = pid
        self._descriptor = descriptor

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def ask(self, verb: str, progress: Progress | None = None, *, timeout: float | None = 30.0, **rest: Any) -> Any:
        """Return the result of a request, telling `progress` of each step.

        `timeout` is the longest silence in seconds. Raises what the supervisor raised, or SupervisorGone.
        """
        connection = _connected(self.path)
        if connection is None:
            raise SupervisorGone(f"The supervisor (process {self.pid}) has ended.")
        with connection, connection.makefile("rwb") as stream:
            connection.settimeout(timeout)
            try:
                stream.write(json.dumps({"verb": verb, **rest}).encode() + b"\n")
                stream.flush()
                for line in stream:
                    answer = json.loads(line)
                    if "step" in answer:
                        if progress:
                            progress(StepReport(**answer["step"]))
                    elif "error" in answer:
                        raise _error(answer["error"])
                    else:
                        return answer["result"]
            except TimeoutError as error:
                raise errors.WaitTimeout(
                    f"The supervisor (process {self.pid}) did not answer {verb} within {timeout:g} s.",
                    hint="It may be paused or the machine overloaded.",
                ) from error
            except ConnectionError:
                pass
        raise SupervisorGone(f"The supervisor (process {self.pid}) ended before it had answered {verb}.")

    def wait(self, timeout: float) -> bool:
        """Whether it has ended within `timeout` seconds."""
        poller = select.poll()
        poller.register(self._descriptor, select.POLLIN)
        return bool(poller.poll(timeout * 1000))

    def kill(self) -> None:
        """End it with SIGKILL; by the kernel every process of its cluster ends with it."""
        try:
            kernel.pidfd_send_signal(self._descriptor, signal.SIGKILL)
        except ProcessLookupError:
            pass


def connect(path: Path) -> Supervisor | None:
    """The supervisor that listens at `path`, or None if none does."""
    connection = _connected(path)
    if connection is None:
        return None
    with connection:
        # The peer of a connected Unix socket is who called listen(), numbered as we see it.
        size = struct.calcsize("3i")
        pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
        try:
            return Supervisor(path, pid, kernel.pidfd_open(pid))
        except ProcessLookupError:
            return None


def _connected(path: Path) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(path))
        return connection
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    except BaseException:
        connection.close()
        raise


def _error(answer: dict[str, Any]) -> errors.PodlabError:
    kind = getattr(errors, answer["type"], errors.ClusterError)
    if not (isinstance(kind, type) and issubclass(kind, errors.PodlabError)):
        kind = errors.ClusterError
    return kind(answer["message"], hint=answer["hint"])
