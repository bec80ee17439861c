"""System calls that Python lacks: namespaces, mounts, capabilities, pidfds. Standard library only.

Every wrapper raises OSError whose `filename` says what was tried (`mount tmpfs on /x`), so that the message
of an error in a forked child is complete when it reaches the caller.
"""

from __future__ import annotations

import ctypes
import os
import platform
import socket
import threading

CLONE_NEWNS = 0x0002_0000
CLONE_NEWCGROUP = 0x0200_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000

#: Namespace files in /proc/PID/ns and the flag of each.
NAMESPACES = {
    "user": CLONE_NEWUSER,
    "mnt": CLONE_NEWNS,
    "pid": CLONE_NEWPID,
    "net": CLONE_NEWNET,
    "uts": CLONE_NEWUTS,
    "ipc": CLONE_NEWIPC,
    "cgroup": CLONE_NEWCGROUP,
}

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_RELATIME = 1 << 21
MNT_DETACH = 2

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_CAPBSET_DROP = 24
PR_SET_NAME = 15
PR_SET_NO_NEW_PRIVS = 38

#: Mount flags of a mount point as statvfs reports them, and the flag of mount(2) that keeps each. In a user
#: namespace these are locked: a remount that drops one of them is refused.
_KEPT_FLAGS = (
    (os.ST_RDONLY, MS_RDONLY),
    (os.ST_NOSUID, MS_NOSUID),
    (os.ST_NODEV, MS_NODEV),
    (os.ST_NOEXEC, MS_NOEXEC),
    (os.ST_NOATIME, MS_NOATIME),
    (os.ST_NODIRATIME, MS_NODIRATIME),
    (os.ST_RELATIME, MS_RELATIME),
)

_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_char_p,
)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
_libc.prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)
_libc.syscall.restype = ctypes.c_long


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def unshare(flags: int) -> None:
    """Leave the namespaces named by `flags` for new ones (CLONE_NEWPID: the next child is its first)."""
    names = ", ".join(name for name, flag in NAMESPACES.items() if flags & flag)
    _check(_libc.unshare(ctypes.c_int(flags)), f"unshare({names})")


def setns(descriptor: int, flag: int) -> None:
    """Enter the namespace that `descriptor` refers to (CLONE_NEWPID: the next child will be in it)."""
    _check(_libc.setns(ctypes.c_int(descriptor), ctypes.c_int(flag)), f"setns({flag:#x})")


def open_namespace(name: str, pid: int | str = "self") -> int:
    """A close-on-exec descriptor of a namespace of a process; `name` is a key of NAMESPACES."""
    return os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)


def mount(source: str | None, target: str, kind: str | None = None, flags: int = 0, data: str | None = None) -> None:
    """mount(2)."""

    def encoded(text: str | None) -> bytes | None:
        return None if text is None else os.fsencode(text)

    result = _libc.mount(encoded(source), os.fsencode(target), encoded(kind), flags, encoded(data))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), f"mount {source or kind or ''} on {target}")


def unmount(target: str, flags: int = MNT_DETACH) -> None:
    """umount2(2); by default the mount vanishes from the tree at once and is freed when unused."""
    _check(_libc.umount2(os.fsencode(target), flags), f"unmount {target}")


def make_read_only(target: str) -> None:
    """Remount the mount point `target` read-only, keeping the flags that a user namespace has locked."""
    present = os.statvfs(target).f_flag
    kept = 0
    for seen, flag in _KEPT_FLAGS:
        if present & seen:
            kept |= flag
    mount(None, target, None, MS_BIND | MS_REMOUNT | MS_RDONLY | kept)


_MOUNT_SETATTR = 442
_AT_RECURSIVE = 0x8000
_MOUNT_ATTR_RDONLY = 1


def make_tree_read_only(target: str) -> None:
    """Make the mount point `target` and every mount below it read-only (mount_setattr, Linux 5.12)."""
    attributes = (ctypes.c_uint64 * 4)(_MOUNT_ATTR_RDONLY, 0, 0, 0)
    _check(
        _libc.syscall(
            ctypes.c_long(_MOUNT_SETATTR),
            ctypes.c_int(-100),
            ctypes.c_char_p(os.fsencode(target)),
            ctypes.c_uint(_AT_RECURSIVE),
            ctypes.byref(attributes),
            ctypes.c_size_t(ctypes.sizeof(attributes)),
        ),
        f"make {target} read-only",
    )


_OPENAT2 = 437
_RESOLVE_NO_SYMLINKS, _RESOLVE_BENEATH = 0x04, 0x08


def open_beneath(folder: int, path: str) -> int:
    """An O_PATH descriptor of `path` below the folder; OSError if any link is on the way (Linux 5.6)."""
    how = (ctypes.c_uint64 * 3)(os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_NO_SYMLINKS | _RESOLVE_BENEATH)
    return _check(
        _libc.syscall(
            ctypes.c_long(_OPENAT2),
            ctypes.c_int(folder),
            ctypes.c_char_p(os.fsencode(path)),
            ctypes.byref(how),
            ctypes.c_size_t(ctypes.sizeof(how)),
        ),
        path,
    )


# Numbers that all architectures share. Python has these two only where it was compiled for a new C library: conda's
# and other portable ones were not.
_PIDFD_SEND_SIGNAL, _PIDFD_OPEN = 424, 434


def pidfd_open(pid: int) -> int:
    """A close-on-exec descriptor of a process, readable once it has ended; ProcessLookupError if there is none."""
    return _check(_libc.syscall(ctypes.c_long(_PIDFD_OPEN), ctypes.c_int(pid), ctypes.c_uint(0)), "pidfd_open")


def pidfd_send_signal(descriptor: int, number: int) -> None:
    """Send a signal to the process of a descriptor of `pidfd_open`; ProcessLookupError if it has ended."""
    arguments = (ctypes.c_int(descriptor), ctypes.c_int(number), None, ctypes.c_uint(0))
    _check(_libc.syscall(ctypes.c_long(_PIDFD_SEND_SIGNAL), *arguments), "pidfd_send_signal")


def pivot_root(new: str, old: str) -> None:
    """Make `new` the root of this mount namespace and put the old root at `old` below it."""
    number = _PIVOT_ROOT.get(platform.machine())
    if number is None:
        raise OSError(38, f"pivot_root is not known for {platform.machine()}", new)
    arguments = (ctypes.c_char_p(os.fsencode(new)), ctypes.c_char_p(os.fsencode(old)))
    _check(_libc.syscall(ctypes.c_long(number), *arguments), f"pivot_root {new}")


def set_host_name(name: str) -> None:
    """Set the host name of this UTS namespace (at most 64 bytes)."""
    try:
        socket.sethostname(name)
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"sethostname {name}") from error


def prctl(option: int, argument: int = 0, second: int = 0) -> None:
    """prctl(2) with up to two arguments."""
    _check(_libc.prctl(option, argument, second, 0, 0), f"prctl({option}, {argument})")


def set_process_title(title: str) -> None:
    """What `ps` shows for this process: its name (up to a blank, at most 15 bytes) and its command line."""
    raw = os.fsencode(title)
    name = ctypes.create_string_buffer(raw.split()[0][:15])
    prctl(PR_SET_NAME, ctypes.addressof(name))
    # The command line is read from the place in this process's memory that held its arguments (proc(5)).
    descriptor = os.open("/proc/self/stat", os.O_RDONLY | os.O_CLOEXEC)
    try:
        fields = os.read(descriptor, 4096).rpartition(b")")[2].split()
    finally:
        os.close(descriptor)
    start, end = int(fields[45]), int(fields[46])
    if 0 < start < end:
        ctypes.memmove(start, raw[: end - start - 1].ljust(end - start, b"\0"), end - start)


def open_terminal(root: str = "") -> tuple[int, int, str]:
    """(master, slave, path) of a new terminal in `root`/dev/pts; the path is the one seen inside of `root`."""
    flags = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
    master = os.open(f"{root}/dev/pts/ptmx", flags)
    try:
        _check(_libc.unlockpt(master), "unlockpt")
        buffer = ctypes.create_string_buffer(64)
        number = _libc.ptsname_r(master, buffer, ctypes.c_size_t(len(buffer)))
        if number:
            raise OSError(number, os.strerror(number), "ptsname")
        path = os.fsdecode(buffer.value)
        return master, os.open(root + path, flags), path
    except BaseException:
        os.close(master)
        raise


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilityData(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


_CAPABILITY_VERSION_3 = 0x2008_0522


def set_capabilities(mask: int) -> None:
    """Set the effective and permitted capabilities of this thread to `mask`, the inheritable ones to none."""
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    data = (_CapabilityData * 2)()
    for index in range(2):
        word = (mask >> (32 * index)) & 0xFFFF_FFFF
        data[index].effective = data[index].permitted = word
    _check(_libc.capset(ctypes.byref(header), data), "capset")


def in_namespace(descriptor: int, flag: int, action):
    """Return `action()` run by a short-lived thread that has entered a namespace; this thread stays put.

    Only namespaces that a single thread may enter (network, UTS, IPC) work this way.
    """
    outcome: list = []

    def run() -> None:
        try:
            setns(descriptor, flag)
            outcome.append((action(), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run, name="in-namespace")
    thread.start()
    thread.join()
    value, error = outcome[0]
    if error is not None:
        raise error
    return value


def socket_in(descriptor: int, family: int, kind: int, protocol: int = 0) -> socket.socket:
    """A new socket that belongs to the network namespace of `descriptor`, whatever this process's own is."""
    return in_namespace(descriptor, CLONE_NEWNET, lambda: socket.socket(family, kind, protocol))
