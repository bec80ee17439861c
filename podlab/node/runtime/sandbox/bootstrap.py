"""The small processes between a caller and a namespace: they unshare, fork, mount, and become the program.

Run by machine.py as `python -I -S` with one JSON request on standard input. Each answers with JSON lines on
standard output: {"pid": n} once the new first process exists, {"error": ...} when a step was refused. The
answer ends (end of file) when the program runs. A process of its own, because a program with threads cannot
unshare a user namespace nor fork safely.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import sys

from podlab.network import netlink
from podlab.node.runtime.sandbox import cgroups, kernel


class _Refused(Exception):
    def __init__(self, step: str, error: OSError) -> None:
        super().__init__(step)
        self.step = step
        self.error = error


@contextlib.contextmanager
def _step(name: str):
    try:
        yield
    except OSError as error:
        raise _Refused(name, error) from error


def _say(descriptor: int, message: dict) -> None:
    os.write(descriptor, json.dumps(message).encode() + b"\n")


def _refusal(refused: _Refused) -> dict:
    error = refused.error
    what = f" ({os.fsdecode(error.filename)})" if error.filename else ""
    return {"error": refused.step, "errno": error.errno, "detail": f"{error.strerror}{what}"}


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def identity_map(text: str) -> str:
    """The map that gives each id of `text` (a /proc/PID/uid_map) to itself."""
    lines = (line.split() for line in text.splitlines())
    return "".join(f"{inside} {inside} {count}\n" for inside, _, count in lines)


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()


def _enter_user_namespace(flags: int) -> None:
    """Unshare a user namespace (and `flags`): with every id where this user may map them, else with one.

    A map of several ids is written from outside, by a child that stayed behind.
    """
    uid, gid = os.geteuid(), os.getegid()
    whole = uid == 0
    maps = {kind: identity_map(_read(f"/proc/self/{kind}_map")) for kind in ("uid", "gid")}
    start, go = os.pipe()
    own = os.getpid()
    writer = os.fork() if whole else 0
    if whole and writer == 0:
        status = 0
        try:
            os.close(go)
            if os.read(start, 1):
                for kind, text in maps.items():
                    _write(f"/proc/{own}/{kind}_map", text)
        except OSError:
            status = 1
        os._exit(status)
    os.close(start)
    try:
        with _step("a user namespace"):
            kernel.unshare(kernel.CLONE_NEWUSER | flags)
        if whole:
            os.write(go, b"x")
    finally:
        os.close(go)
        refused = bool(whole and os.waitpid(writer, 0)[1])
    if whole and not refused:
        return
    with _step("the map of user ids"):
        try:
            _write("/proc/self/setgroups", "deny")
        except FileNotFoundError:
            pass
        _write("/proc/self/uid_map", f"0 {uid} 1\n")
        _write("/proc/self/gid_map", f"0 {gid} 1\n")


def _own_mounts() -> None:
    """Cut the mounts off from the outside and show the new PID namespace in /proc."""
    with _step("private mounts"):
        kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    with _step("a fresh /proc"):
        kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)


def _standard_streams(log: str) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    with _step(f"the log file {log}"):
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, target in ((null, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(output)


def _first_process(report: int, body) -> int:
    """Fork the first process of the new PID namespace, which runs `body(report)` and never returns."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        body(report)
    except _Refused as refused:
        _say(report, _refusal(refused))
    except OSError as error:
        _say(report, _refusal(_Refused("the first process", error)))
    except BaseException as error:
        _say(report, {"error": "the first process", "errno": 0, "detail": repr(error)})
    os._exit(1)


def _answer(make) -> None:
    """Run `make(report)`, which returns the new process's pid, and report it or what was refused."""
    report = os.dup(1)
    try:
        _say(report, {"pid": make(report)})
    except _Refused as refused:
        _say(report, _refusal(refused))
        os._exit(1)
    os._exit(0)


def supervisor(request: dict) -> None:
    """Become the parent of `argv` as PID 1 of new user, PID and mount namespaces (if not `plain`), and leave it."""

    plain = request["plain"]

    def body(_report: int) -> None:
        if not plain:
            _own_mounts()
        os.chdir("/")
        _standard_streams(request["log"])
        with _step(f"the program {request['argv'][0]}"):
            os.execvpe(request["argv"][0], request["argv"], request["environment"])

    def make(report: int) -> int:
        # The flags together: the user namespace is made first and so owns the others.
        if not plain:
            _enter_user_namespace(kernel.CLONE_NEWPID | kernel.CLONE_NEWNS)
        return _first_process(report, body)

    _answer(make)


#: Settings of a node's network namespace (which every pod's namespace then gets too, where it says so).
_NODE_SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    # No link-local IPv6 addresses: they only cost time and packets in a network that speaks IPv4.
    "net/ipv6/conf/default/addr_gen_mode": "1",
    "net/ipv6/conf/all/addr_gen_mode": "1",
}


def machine(request: dict) -> None:
    """Become the parent of a zygote as PID 1 of a node's own namespaces, and leave it.

    With `plain`, what the plain runtime is told of the node, there are no namespaces.
    """

    name, folder, life, plain = (request[key] for key in ("name", "folder", "life", "plain"))

    def body(report: int) -> None:
        with _step(f"the cgroup {request['cgroup']}"):
            groups = cgroups.Groups(request["cgroup"])  # before the node has a /sys of its own
        if not plain:
            _node_settings(name)
        os.chdir("/")
        _standard_streams(request["log"])
        from podlab.node.runtime.sandbox import zygote

        def ready() -> None:
            _say(report, {"ready": True})
            os.close(report)

        def zygote_of(listening: socket.socket) -> zygote.Zygote:
            if not plain:
                return zygote.Zygote(name, folder, listening, life, groups)
            from podlab.node.runtime.plain.zygote import PlainZygote

            return PlainZygote(name, folder, listening, life, plain)

        zygote.main(zygote_of, name, request["socket"], ready)

    def make(report: int) -> int:
        if plain:
            return _first_process(report, body)
        with _step("a node's namespaces"):
            kernel.unshare(
                kernel.CLONE_NEWNET
                | kernel.CLONE_NEWNS
                | kernel.CLONE_NEWUTS
                | kernel.CLONE_NEWIPC
                | kernel.CLONE_NEWPID
            )
        return _first_process(report, body)

    _answer(make)


def _node_settings(name: str) -> None:
    """What a node has in its own namespaces before anything runs in it."""
    _own_mounts()
    with _step("the host name"):
        kernel.set_host_name(name)
    with _step("the loopback link"), netlink.Netlink() as links:
        links.set_up("lo")
    for setting, value in _NODE_SYSCTLS.items():
        try:
            _write(f"/proc/sys/{setting}", value)
        except FileNotFoundError:
            pass
    _node_sys()


def _node_sys() -> None:
    """Show the node's own links in /sys/class/net, where the kernel lets us; nothing depends on it."""
    try:
        kernel.mount("sysfs", "/sys", "sysfs", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    except OSError:
        pass


def main() -> None:
    """Serve the one request on standard input."""
    # A process that was started with SIGCHLD ignored could not wait for its children.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request = json.loads(sys.stdin.buffer.read())
    ctypes.pythonapi  # noqa: B018  (loaded here, before any fork)
    {"supervisor": supervisor, "machine": machine}[request["kind"]](request)
