"""Starting the two first processes: a cluster's supervisor in its user namespace, and a node's machine in it."""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from podlab.errors import EnvironmentUnsuitable
from podlab.node.runtime.sandbox import kernel

#: The folder that `import podlab` was found in: the small processes get it as their only addition to sys.path.
_ROOT = str(Path(__file__).resolve().parents[4])

_BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); from podlab.node.runtime.sandbox import bootstrap; bootstrap.main()"
)

#: Seconds after which a first process that says nothing is taken for dead (it needs 0.05 to 0.2).
_PATIENCE = 30.0


def launch_supervisor(
    argv: Sequence[str], environment: Mapping[str, str], log: str | Path, *, plain: bool = False
) -> int:
    """Start `argv` as PID 1 of new user, PID and mount namespaces, detached, and return its pid out here.

    An ordinary user's own ids become 0 inside and no other id exists; the real root keeps every id. /proc is
    fresh, mounts are private, the working directory is `/`, standard input is empty, and output is appended
    to `log`. Returns when the program has been executed. Killing the returned pid with SIGKILL ends every
    process below it. Raises EnvironmentUnsuitable with what was refused and the cure. `plain`: without any namespace.
    """
    request = {
        "kind": "supervisor",
        "plain": plain,
        "argv": list(argv),
        "environment": dict(environment),
        "log": str(log),
    }
    answers = _bootstrap(request, "podlab-launcher")
    return answers["pid"]


class Machine:
    """A node's first process (the zygote). Killing it ends every process of the node, by the kernel's hand."""

    def __init__(self, name: str, pid: int, socket_path: str, life: int) -> None:
        self.name = name
        self.pid = pid
        self.socket_path = socket_path
        self._life = life
        self._exit: int | None = None
        self._descriptor = kernel.pidfd_open(pid)

    def __repr__(self) -> str:
        return f"<Machine {self.name} pid {self.pid}{'' if self.alive() else ' ended'}>"

    def fileno(self) -> int:
        """A descriptor that becomes readable when the machine has ended (for an event loop)."""
        return self._descriptor

    def alive(self) -> bool:
        """Whether it still runs."""
        return self._exit is None and not self._ended(0)

    def namespace(self, kind: str = "net") -> int:
        """A new descriptor of one of the node's namespaces, which the caller closes."""
        return os.open(f"/proc/{self.pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)

    def kill(self) -> None:
        """Pull the plug: every process of the node ends without a chance to say goodbye."""
        if self._exit is None:
            try:
                kernel.pidfd_send_signal(self._descriptor, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def wait(self, timeout: float | None = None) -> bool:
        """Return whether it has ended within `timeout` seconds (None: for ever); then its folder is free."""
        if self._exit is not None:
            return True
        if not self._ended(timeout):
            return False
        try:
            os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            pass  # reaped by somebody else, or never our child
        self._exit = 1
        os.close(self._descriptor)
        os.close(self._life)
        return True

    def _ended(self, timeout: float | None) -> bool:
        poller = select.poll()
        poller.register(self._descriptor, select.POLLIN)
        return bool(poller.poll(None if timeout is None else timeout * 1000))


def start_machine(
    name: str,
    folder: str | Path,
    socket_path: str | Path,
    log: str | Path,
    plain: Mapping | None = None,
    cgroup: str | None = None,
) -> Machine:
    """Start a node's zygote in its own network, PID, mount, UTS and IPC namespaces; return when it listens.

    `folder` is the node's private folder (made if missing), in which the runtime keeps what it needs;
    `socket_path` is where SandboxRuntime connects. Called inside the user namespace of `launch_supervisor`.
    It ends with its starter: when the starter's process is gone, so is the machine. `plain` is what the plain runtime
    is told of the node (podlab.node.runtime.plain.node); then there are no namespaces. `cgroup` is the path of the
    node's cgroup, which is made; without one no limits are kept by the kernel.
    """
    folder = Path(folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    Path(socket_path).unlink(missing_ok=True)
    life, held = os.pipe()
    request = {
        "kind": "machine",
        "plain": plain and dict(plain),
        "cgroup": cgroup,
        "name": name,
        "folder": str(folder),
        "socket": str(socket_path),
        "log": str(log),
        "life": life,
    }
    try:
        answers = _bootstrap(request, f"podlab-machine-{name}", pass_fds=(life,))
    except BaseException:
        os.close(held)
        raise
    finally:
        os.close(life)
    return Machine(name, answers["pid"], str(socket_path), held)


def _bootstrap(request: dict, title: str, pass_fds: Sequence[int] = ()) -> dict:
    """Run bootstrap.py with `request` and return its answers, merged; errors become EnvironmentUnsuitable."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _BOOT, _ROOT, title],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=pass_fds,
        start_new_session=True,
        cwd="/",
    )
    assert process.stdin and process.stdout and process.stderr
    with process:
        try:
            process.stdin.write(json.dumps(request).encode())
            process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            output = _read_to_end(process.stdout.fileno(), request["kind"])
        except BaseException:
            process.kill()
            raise
        complaint = process.stderr.read().decode(errors="replace").strip()
    answers: dict = {}
    for line in output.splitlines():
        answers.update(json.loads(line))
    if "error" not in answers and "pid" in answers and (request["kind"] != "machine" or "ready" in answers):
        return answers
    if "error" not in answers:
        last = complaint.splitlines()[-1] if complaint else "no message"
        answers = {"error": f"the {request['kind']}'s start", "errno": 0, "detail": last}
    raise EnvironmentUnsuitable(
        f"{answers['error'][0].upper()}{answers['error'][1:]} could not be had: {answers['detail']}.",
        hint=cure(answers["errno"], answers["error"], Path("/proc")),
    )


def _read_to_end(descriptor: int, kind: str) -> bytes:
    pieces: list[bytes] = []
    deadline = time.monotonic() + _PATIENCE
    while True:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise EnvironmentUnsuitable(
                f"The {kind} did not answer within {_PATIENCE:g} s of its start.",
                hint="The machine may be overloaded: look at `uptime`, then try again.",
            )
        piece = os.read(descriptor, 65536)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)


def _setting(proc: Path, name: str) -> str | None:
    try:
        return (proc / "sys" / name).read_text().strip()
    except OSError:
        return None


def cure(number: int, step: str, proc: Path) -> str:
    """What to do about a refused step, from the settings that this kernel shows under `proc`."""
    if step.startswith("the log file"):
        return "Check the folder and the space left in it."
    if step.startswith("the program"):
        return "Check that the file exists and may be executed."
    if _setting(proc, "user/max_user_namespaces") == "0" or number == errno.ENOSPC:
        return "User namespaces are used up or off: `sudo sysctl user.max_user_namespaces=65536`."
    if _setting(proc, "kernel/unprivileged_userns_clone") == "0":
        return "User namespaces are off for ordinary users: `sudo sysctl kernel.unprivileged_userns_clone=1`."
    if _setting(proc, "kernel/apparmor_restrict_unprivileged_userns") == "1":
        return "AppArmor restricts user namespaces: `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`."
    if step == "a fresh /proc":
        return (
            "Parts of /proc are hidden, as in most containers: start the container with "
            "`--security-opt systempaths=unconfined`."
        )
    if number in (errno.EPERM, errno.EACCES, errno.ENOSYS):
        return (
            "This looks like a container or sandbox that forbids namespaces: start it with "
            "`--security-opt seccomp=unconfined --security-opt apparmor=unconfined`, or use kind."
        )
    return "`podlab doctor` shows what this machine offers."
