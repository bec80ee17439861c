"""exec and attach: a command's, or a container's, stdin, stdout and stderr joined with a client's session."""

from __future__ import annotations

import asyncio
import os
import shlex
import socket
import struct
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from podlab.errors import PodlabError
from podlab.node.runtime.contract import Runtime
from podlab.node.streams.descriptors import CHUNK, Descriptor, set_window_size
from podlab.node.streams.sessions import STDERR, STDOUT, Session, Status
from podlab.node.streams.tasks import end as tasks_end

#: Seconds to wait for the client's window size before a command with a terminal is started (kubectl sends it at
#: once; a program that asks for the size when it starts then sees the true one).
FIRST_SIZE_TIMEOUT = 0.1

SUCCESS: Status = {"metadata": {}, "status": "Success"}


def exit_status(code: int, argv: Sequence[str]) -> Status:
    """Return the Status that tells a client how its command has ended."""
    if code == 0:
        return SUCCESS
    shown = f"error executing command [{' '.join(argv)}], exit code {code}"
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: {shown}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def internal_error(message: str) -> Status:
    """Return the Status of a command that could not be run."""
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"Internal error occurred: {message}",
        "reason": "InternalError",
        "code": 500,
    }


def has_one_user(uid_map: str) -> bool:
    """Return whether a user namespace with this uid_map knows one user only, so that nothing can change owners."""
    return sum(int(line.split()[2]) for line in uid_map.splitlines() if line.strip()) == 1


def adapted(argv: Sequence[str], environment: Mapping[str, str], one_user: bool) -> dict[str, str]:
    """Return the environment for a command of exec, changed for what a node of an ordinary user cannot do.

    `kubectl cp` unpacks with tar, which as root restores owners and fails where only root is known: it is told
    not to (GNU tar reads TAR_OPTIONS). The files belong to root then, as all others of the container.
    """
    if not (one_user and argv and PurePosixPath(argv[0]).name == "tar"):
        return dict(environment)
    options = [environment.get("TAR_OPTIONS", ""), "--no-same-owner"]
    return {**environment, "TAR_OPTIONS": " ".join(filter(None, options))}


async def execute(
    runtime: Runtime,
    container: str,
    argv: Sequence[str],
    environment: Mapping[str, str],
    session: Session,
) -> Status:
    """Run a command in a container and return how it ended. The client's leaving ends the streams.

    As with Kubernetes' own nodes, a command without a terminal goes on when its client leaves (its stdin ends,
    its output breaks); with one it gets SIGHUP. The session ends when all of the output has been closed, so a
    background process that keeps stdout open keeps the session open.
    """
    if not argv:
        return internal_error("error executing command in container: you must specify at least one command")
    run = _execute_tty if session.options.tty else _execute_pipes
    try:
        return await run(runtime, container, list(argv), environment, session)
    except PodlabError as error:
        return internal_error(f"error executing command in container: {error}")
    except OSError as error:
        if session.gone.is_set():
            return internal_error("error executing command in container: the client has left")
        return internal_error(f"error executing command in container: {shlex.join(argv)}: {error}")


async def _execute_pipes(
    runtime: Runtime, container: str, argv: list[str], environment: Mapping[str, str], session: Session
) -> Status:
    options = session.options
    wanted = (options.stdin, options.stdout, options.stderr)
    theirs: list[int] = []
    ours: list[Descriptor | None] = []
    try:
        for number, on in enumerate(wanted):
            child, own = _plumb(number == 0) if on else (os.open(os.devnull, os.O_RDWR), None)
            theirs.append(child)
            ours.append(own)
        process = await runtime.execute(container, argv, environment, (theirs[0], theirs[1], theirs[2]))
        _close(theirs)
        stdin, stdout, stderr = ours
        outputs = [
            _forward(descriptor.read, channel, session)
            for channel, descriptor in ((STDOUT, stdout), (STDERR, stderr))
            if descriptor
        ]
        inputs = [_feed(stdin, session)] if stdin else []
        await _until_done(outputs, inputs, session, process.wait())
        return exit_status((await process.wait()).status, argv)
    finally:
        _close(theirs)
        for descriptor in ours:
            if descriptor:
                descriptor.close()


async def _execute_tty(
    runtime: Runtime, container: str, argv: list[str], environment: Mapping[str, str], session: Session
) -> Status:
    number, theirs = await runtime.open_terminal(container)
    master, slave = Descriptor(number), [theirs]
    try:
        try:
            async with asyncio.timeout(FIRST_SIZE_TIMEOUT):
                set_window_size(master.number, *await session.sizes.get())
        except TimeoutError:
            pass  # a client that sends no size gets the kernel's 0 x 0, as in a real cluster
        environment = {"TERM": "xterm", **environment}
        process = await runtime.execute(container, argv, environment, (theirs, theirs, theirs), tty=True)
        _close(slave)

        async def resize(rows: int, columns: int) -> None:
            set_window_size(master.number, rows, columns)

        inputs = [_follow_sizes(session, resize)]
        if session.options.stdin:
            inputs.append(_feed(master, session, closes=False))
        await _until_done([_forward(master.read, STDOUT, session)], inputs, session, process.wait())
        return exit_status((await process.wait()).status, argv)
    finally:
        _close(slave)
        master.close()


async def attach(runtime: Runtime, container: str, session: Session, *, tty: bool) -> Status:
    """Join a client with a running container until its output ends; returns the Status for the client."""
    try:
        into, out = await runtime.attach(container, stdin=session.options.stdin)
    except (PodlabError, OSError) as error:
        return internal_error(f"error attaching to container: {error}")
    try:
        loop = asyncio.get_running_loop()
        for end in (into, out):
            if end:
                end.setblocking(False)
        inputs = []
        if tty:
            inputs.append(_follow_sizes(session, lambda rows, columns: runtime.resize(container, rows, columns)))
        if into:
            inputs.append(_feed_socket(loop, into, session))
        elif session.options.stdin:
            inputs.append(_discard(session))
        await _until_done([_forward_frames(loop, out, session)], inputs, session)
        return SUCCESS
    except OSError as error:
        return internal_error(f"error attaching to container: {error}")
    finally:
        for end in (into, out):
            if end:
                end.close()


async def _until_done(
    outputs: Sequence[Coroutine[Any, Any, None]],
    inputs: Iterable[Coroutine[Any, Any, None]],
    session: Session,
    end: Coroutine[Any, Any, Any] | None = None,
) -> None:
    """Run all; return when the outputs are done (and `end` is), raise ConnectionError when the client leaves."""
    loop = asyncio.get_running_loop()
    needed = [loop.create_task(output) for output in outputs]
    if end is not None:
        needed.append(loop.create_task(end))
    others = [loop.create_task(entry) for entry in inputs]
    gone = loop.create_task(session.gone.wait())
    pending = {*needed, *others, gone}
    try:
        while not all(task.done() for task in needed):
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if gone in done:
                raise ConnectionResetError("the client has left")
    finally:
        await tasks_end([*needed, *others, gone])


async def _forward(read: Callable[[], Awaitable[bytes]], channel: int, session: Session) -> None:
    while data := await read():
        await session.write(channel, data)


async def _forward_frames(loop: asyncio.AbstractEventLoop, out: socket.socket, session: Session) -> None:
    """Send what the runtime's attach gives: frames of stream number, length and bytes."""
    wanted = {STDOUT: session.options.stdout, STDERR: session.options.stderr}
    buffer = bytearray()
    while data := await loop.sock_recv(out, CHUNK):
        buffer += data
        position = 0
        while len(buffer) - position >= 5:
            stream, length = struct.unpack_from(">BI", buffer, position)
            end = position + 5 + length
            if len(buffer) < end:
                break
            if wanted.get(stream) and length:
                await session.write(stream, bytes(buffer[position + 5 : end]))
            position = end
        del buffer[:position]


async def _feed(target: Descriptor, session: Session, *, closes: bool = True) -> None:
    """Write the client's stdin to `target`; closes it at the end, unless it is a terminal."""
    try:
        while data := await session.stdin():
            await target.write(data)
    except BrokenPipeError:
        pass  # nobody reads stdin any more: what the client still sends is thrown away
    if closes:
        target.close()
    await _discard(session)


async def _feed_socket(loop: asyncio.AbstractEventLoop, target: socket.socket, session: Session) -> None:
    try:
        while data := await session.stdin():
            await loop.sock_sendall(target, data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        await _discard(session)


async def _discard(session: Session) -> None:
    while await session.stdin():
        pass


async def _follow_sizes(session: Session, resize: Callable[[int, int], Awaitable[None]]) -> None:
    while True:
        rows, columns = await session.sizes.get()
        try:
            await resize(rows, columns)
        except (OSError, PodlabError):
            return  # the terminal has been closed


def _plumb(for_input: bool) -> tuple[int, Descriptor]:
    """Make a pipe; returns (the command's end, our end)."""
    reading, writing = os.pipe()
    return (reading, Descriptor(writing)) if for_input else (writing, Descriptor(reading))


def _close(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())
