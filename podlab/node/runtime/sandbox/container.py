"""What the forked child of a container does between fork and exec. Standard library only.

A child talks to the zygote over its start channel (a SEQPACKET socket that closes at exec): {"exec": ...} just
before the program is executed, then nothing; or {"error", "reason"}.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import signal
import socket
import stat
import termios
from collections.abc import Sequence

from podlab.node.runtime.capabilities import CAPABILITIES, DEFAULT
from podlab.node.runtime.sandbox import kernel, root_file_system, seccomp

_LAST_CAPABILITY = 63

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#: Open files that a container may have, as far as the machine's own limit allows.
_OPEN_FILES = 1 << 20
#: Processes in the PID namespace of a container, or of a pod that shares one (from Linux 6.14 on, which counts so).
_PROCESSES = 4096
#: Where the kernel looks first for memory to take back: pods go before the control plane.
_OUT_OF_MEMORY_SCORE = "500"
_LONGEST_ERROR = 4096


class StartError(Exception):
    """The program cannot be executed; the text is what a container runtime would say."""


class Unmappable(Exception):
    """The asked user or group does not exist in this user namespace."""


def say(channel: socket.socket, message: dict, descriptors: Sequence[int] = ()) -> None:
    """Send one message to the zygote."""
    socket.send_fds(channel, [json.dumps(message).encode()], list(descriptors))


def hear(channel: socket.socket) -> tuple[dict | None, list[int]]:
    """The next message of a child with its descriptors; (None, []) when the channel has closed."""
    try:
        data, descriptors, _, _ = socket.recv_fds(channel, 1 << 16, 8, socket.MSG_CMSG_CLOEXEC)
    except ConnectionError:
        return None, []
    return (json.loads(data), descriptors) if data else (None, [])


def fresh_child(keep: list[int]) -> None:
    """Undo in a forked child what the zygote had set up, and close every descriptor but 0 to 2 and `keep`."""
    signal.set_wakeup_fd(-1)
    # All of them: a cluster that was started by nohup or in a script's background was told to ignore some.
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    edge = 3
    for descriptor in sorted({descriptor for descriptor in keep if descriptor > 2}):
        os.closerange(edge, descriptor)
        edge = descriptor + 1
    os.closerange(edge, 1 << 30)
    os.umask(0o022)


def run_container(order: dict, stdio: list[int], namespaces: dict[str, int], channel: socket.socket) -> None:
    """Become the container's program; never returns. `order` is the spec with what the zygote added."""
    spec = order["spec"]
    try:
        os.setsid()
        _join(order["group"])
        for name, descriptor in namespaces.items():
            kernel.setns(descriptor, kernel.NAMESPACES[name])
        _limit_processes(order)
        root_file_system.build(spec, order["shared_memory"], groups=order["group"] >= 0)
        if spec["tty"]:
            stdio = _terminal(channel)
        _stdio(stdio, spec, order["ids"])
        _become(order)
        inode = os.stat("/proc/self/ns/mnt").st_ino
        execute(spec["argv"], _environment(spec), spec["working_directory"], channel, {"exec": inode})
    except BaseException as error:
        fail(channel, error)


def run_command(order: dict, stdio: list[int], namespaces: dict[str, int], channel: socket.socket) -> None:
    """Become a further command in a running container; never returns."""
    spec = order["spec"]
    try:
        # Until exec this is a process of the node, seen by the container's: they must not look into it.
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
        os.setsid()
        _join(order["group"], new=False)
        for name, descriptor in namespaces.items():
            kernel.setns(descriptor, kernel.NAMESPACES[name])
        os.chdir("/")
        _stdio(stdio, spec, order["ids"])
        _become(order)
        execute(spec["argv"], _environment(spec), spec["working_directory"], channel, {"exec": 0})
    except BaseException as error:
        fail(channel, error)


def run_process(order: dict, stdio: list[int], channel: socket.socket) -> None:
    """Become a process of the node itself (its agent); never returns."""
    try:
        os.setsid()
        for number, descriptor in enumerate(stdio):
            os.dup2(descriptor, number)
        execute(order["argv"], order["environment"], order["working_directory"], channel, {"exec": 0})
    except BaseException as error:
        fail(channel, error)


def fail(channel: socket.socket, error: BaseException) -> None:
    """Tell the zygote why this child cannot go on, and end it."""
    word, text = "RunContainerError", repr(error)
    if isinstance(error, StartError):
        word, text = "StartError", str(error)
    elif isinstance(error, Unmappable):
        word, text = "CreateContainerConfigError", str(error)
    elif isinstance(error, ValueError):
        word, text = "CreateContainerError", str(error)
    elif isinstance(error, OSError):
        where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        text = f"{where}{reason(error)}"
    try:
        say(channel, {"error": text[:_LONGEST_ERROR], "reason": word})
    finally:
        os._exit(128)


def run_pause(folder: str) -> None:
    """Be the first process of a PID namespace that containers share: reap what is orphaned, nothing else."""
    try:
        fresh_child([])
        os.setsid()
        # The containers of the pod see this process: show them an empty folder and nothing of the node.
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
        kernel.set_process_title("pause")
        os.chroot(folder)
        os.chdir("/")
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        while True:
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                pass
            signal.sigwait({signal.SIGCHLD})
    finally:
        os._exit(1)


def _join(group: int, *, new: bool = True) -> None:
    """Enter a container's cgroup (cgroups.Groups.door), if it has one; a `new` one is its root from then on."""
    if group < 0:
        return
    os.write(group, b"0")
    os.close(group)
    if new:
        kernel.unshare(kernel.CLONE_NEWCGROUP)


def _environment(spec: dict) -> dict[str, str]:
    return {"TERM": "xterm", **spec["environment"]} if spec["tty"] else dict(spec["environment"])


def _terminal(channel: socket.socket) -> list[int]:
    """Open a terminal of the container's own /dev/pts, hand its master to the zygote, return three slaves."""
    master, slave, path = kernel.open_terminal()
    os.close(os.open("/dev/console", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    kernel.mount(path, "/dev/console", None, kernel.MS_BIND)
    say(channel, {"terminal": True}, [master])
    os.close(master)
    return [slave, slave, slave]


def _stdio(stdio: list[int], spec: dict, ids: str) -> None:
    """Put the descriptors at 0, 1 and 2, owned by the container's user so that /dev/stdout can be opened."""
    for number, descriptor in enumerate(stdio):
        os.dup2(descriptor, number)
    if spec["tty"]:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    if ids == "all" and spec["user"]:
        for number in range(3):
            kind = os.fstat(number)
            if stat.S_ISFIFO(kind.st_mode) or (stat.S_ISCHR(kind.st_mode) and os.isatty(number)):
                try:
                    os.fchown(number, spec["user"], -1)
                except OSError:
                    pass


def _become(order: dict) -> None:
    """Take the container's limits, capabilities, user and groups.

    With "ids" "one" only one id exists here: another user or group is that one under another name, in a user
    namespace of the container's own ("nested"). Supplemental groups cannot be had then, and are not needed: the
    one id owns every file that they would open.
    """
    spec, ids = order["spec"], order["ids"]
    _limits(order["process_limit"])
    if spec["no_new_privileges"]:
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    user, group = spec["user"] or 0, spec["group"] or 0
    if ids == "all":
        try:
            os.setgroups(sorted({group, *spec["supplemental_groups"]}))
            os.setresgid(group, group, group)
        except OSError as error:
            raise Unmappable(f"group {group} does not exist in the cluster's user namespace") from error
        kept = _restrict(spec)
        try:
            os.setresuid(user, user, user)
        except OSError as error:
            raise Unmappable(f"user {user} does not exist in the cluster's user namespace") from error
        if user == 0:  # another user has lost them all by now
            kernel.set_capabilities(kept)
        return
    if order["nested"]:
        _nest(user, group)
    kernel.set_capabilities(_restrict(spec))


def _nest(user: int, group: int) -> None:
    """Enter a user namespace in which the one id that exists here is called `user` and `group`."""
    kernel.unshare(kernel.CLONE_NEWUSER)
    for path, text in (
        ("/proc/self/setgroups", "deny"),
        ("/proc/self/uid_map", f"{user} 0 1\n"),
        ("/proc/self/gid_map", f"{group} 0 1\n"),
    ):
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
        except OSError as error:
            if path.endswith("setgroups"):
                continue  # denied already by the namespace above
            raise Unmappable(f"user {user} and group {group} cannot be mapped: {error.strerror}") from error
        finally:
            os.close(descriptor)


def _restrict(spec: dict) -> int:
    """Take the seccomp filter and bound the capabilities; returns the mask of those that root may keep."""
    names = DEFAULT if spec["capabilities"] is None else spec["capabilities"]
    if spec["privileged"]:
        names = CAPABILITIES
    elif spec["seccomp"]:
        if not seccomp.supported():
            raise ValueError("seccomp profile RuntimeDefault is not supported on this processor")
        seccomp.install(names)
    kept = {CAPABILITIES.index(name) for name in names}
    for number in range(_LAST_CAPABILITY + 1):
        if number in kept:
            continue
        try:
            kernel.prctl(kernel.PR_CAPBSET_DROP, number)
        except OSError as error:
            if error.errno == errno.EINVAL:
                break  # past the last one that this kernel knows
            raise
    return sum(1 << number for number in kept)


def _limits(counted: bool) -> None:
    """Limit files, core dumps and, unless the PID namespace counts them, processes.

    The latter number is of all pods of the cluster together: half of what the user may have, so that a pod that
    forks without end leaves room for everything else.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = _OPEN_FILES if most == resource.RLIM_INFINITY else min(most, _OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not counted:
        _, most = resource.getrlimit(resource.RLIMIT_NPROC)
        if most != resource.RLIM_INFINITY:
            resource.setrlimit(resource.RLIMIT_NPROC, (most // 2, most // 2))


def _limit_processes(order: dict) -> None:
    """Bound the processes of a PID namespace where the kernel counts them per namespace, and their memory."""
    if order["process_limit"]:
        try:
            _put("/proc/sys/kernel/pid_max", str(_PROCESSES))
        except OSError:
            pass
    try:
        _put("/proc/self/oom_score_adj", _OUT_OF_MEMORY_SCORE)
    except OSError:
        pass


def _put(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def execute(argv: list[str], environment: dict[str, str], folder: str, channel: socket.socket, success: dict) -> None:
    """Look the program up as a shell would and execute it; StartError says why that cannot be."""
    try:
        os.chdir(folder)
    except OSError as error:
        raise StartError(f'chdir to cwd ("{folder}") failed: {reason(error)}') from error
    if not argv:
        raise StartError("no command specified")
    program = find_program(argv[0], environment.get("PATH", DEFAULT_PATH))
    say(channel, success)
    try:
        os.execve(program, argv, environment)
    except OSError as error:
        raise StartError(f"exec {program}: {reason(error)}") from error
    except ValueError as error:
        raise StartError(f"exec {program}: {error}") from error


def reason(error: OSError) -> str:
    """The kernel's word for an error, as runtimes write it."""
    return (error.strerror or str(error)).lower()


def find_program(name: str, path: str) -> str:
    """The file that `name` means, searched in `path` if it has no slash; StartError in the runtimes' words."""
    if "/" in name:
        try:
            kind = os.stat(name)
        except OSError as error:
            raise StartError(f'exec: "{name}": stat {name}: {reason(error)}') from error
        if stat.S_ISDIR(kind.st_mode):
            raise StartError(f'exec: "{name}": is a directory')
        if not os.access(name, os.X_OK):
            raise StartError(f'exec: "{name}": permission denied')
        return name
    for folder in path.split(":"):
        candidate = os.path.join(folder or ".", name)
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return candidate
    raise StartError(f'exec: "{name}": executable file not found in $PATH')
