"""The guard of a container: the parent of all its processes, which ends with the last of them. Standard library only.

Without a PID namespace the kernel does not end what a container leaves behind. So its first program and the commands
that are executed in it are children of one process, which also becomes the parent of every orphan among their
descendants (PR_SET_CHILD_SUBREAPER). When the first program has ended, the guard kills the rest and ends in the same
way as the program did. It also does so when the zygote has gone.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import termios

from podlab.node.runtime.plain import processes
from podlab.node.runtime.plain.places import Places
from podlab.node.runtime.sandbox import container, kernel

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def run(order: dict, stdio: list[int], line: socket.socket, channel: socket.socket) -> None:
    """Be the guard of `order["spec"]`; never returns. `line` brings commands to execute, `channel` tells the start."""
    spec = order["spec"]
    try:
        os.setsid()
        kernel.prctl(PR_SET_CHILD_SUBREAPER, 1)
        kernel.set_process_title(f"podlab-guard {spec['id']}")
        places = Places(spec, order["node"])
        places.make()
        woken, waking = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        said, main = _start(spec, places, stdio)
        for message, descriptors in said:
            container.say(channel, message, descriptors)
        container.say(channel, {"main": main})
        for descriptor in {*stdio, *(one for _, found in said for one in found)}:
            if descriptor > 2:
                os.close(descriptor)
        channel.close()
    except BaseException as error:
        container.fail(channel, error)
    status = 0
    try:
        status = _watch(spec, places, main, line, woken)
    finally:
        processes.kill_below(os.getpid())
        _end_like(status)


def _watch(spec: dict, places: Places, main: int, line: socket.socket, woken: int) -> int:
    """The wait status of the first program; meanwhile starts commands and reaps."""
    line.setblocking(True)
    poller = select.poll()
    poller.register(line, select.POLLIN)
    poller.register(woken, select.POLLIN)
    while True:
        for descriptor, _ in poller.poll():
            if descriptor == woken:
                os.read(woken, 4096)
            else:
                order, descriptors = container.hear(line)
                if order is None:
                    os.kill(main, signal.SIGKILL)
                    return signal.SIGKILL
                _execute(order, spec, places, descriptors, line)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return 0
            if pid == main:
                return status
            if pid == 0:
                break
            container.say(line, {"ended": pid, "status": status})


def _execute(order: dict, spec: dict, places: Places, stdio: list[int], line: socket.socket) -> None:
    """Start a command and answer with its number, or why it does not run."""
    try:
        said, pid = _start(spec | order["command"], places, stdio, command=True)
        answer = {key: value for message, _ in said for key, value in message.items()}
        container.say(line, {"n": order["n"], "pid": pid, **answer})
    except OSError as error:
        container.say(line, {"n": order["n"], "error": str(error), "reason": "RunContainerError"})
    finally:
        for descriptor in stdio:
            os.close(descriptor)


def _start(spec: dict, places: Places, stdio: list[int], *, command: bool = False) -> tuple[list, int]:
    """(what a new child said until its program ran, its number)."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        container.fresh_child([*stdio, far.fileno()])
        _become(spec, places, stdio, far, command)
    far.close()
    said: list = []
    with near:
        while True:
            message, descriptors = container.hear(near)
            if message is None:
                return said, pid
            said.append((message, descriptors))


def _become(spec: dict, places: Places, stdio: list[int], channel: socket.socket, command: bool) -> None:
    """Become the program; never returns."""
    try:
        os.setsid()
        kernel.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if spec["tty"] and not command:
            stdio = _terminal(channel)
        for number, descriptor in enumerate(stdio):
            os.dup2(descriptor, number)
        if spec["tty"]:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        if spec["no_new_privileges"]:
            kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        argv = places.command(spec["argv"])
        given = {"TERM": "xterm", **spec["environment"]} if spec["tty"] else spec["environment"]
        environment = places.environment(given)
        folder = places.folder(spec["working_directory"])
        container.execute(argv, environment, folder, channel, {"exec": os.getppid()})
    except container.StartError as error:
        # Nobody outside knows where the container's files really are.
        container.fail(channel, container.StartError(places.shown(str(error))))
    except BaseException as error:
        container.fail(channel, error)


def _terminal(channel: socket.socket) -> list[int]:
    """Open a terminal, hand its master to the zygote, return three slaves."""
    master, slave = os.openpty()
    container.say(channel, {"terminal": True}, [master])
    os.close(master)
    return [slave, slave, slave]


def _end_like(status: int) -> None:
    """End in the way that a wait status tells."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        os._exit(code)
    if -code != signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {-code})
    os.kill(os.getpid(), -code)
    signal.pause()
