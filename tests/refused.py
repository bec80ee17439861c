"""A machine that refuses namespaces, for tests of the plain runtime: `python refused.py hold`, then `run PID COMMAND`.

`hold` makes a network namespace with a loopback link and no route, says its process number and waits for its input to
end: fictional addresses of the cluster could lead nowhere else. `run` enters it, installs a seccomp filter that refuses
what Docker's default profile refuses (new namespaces, mounts), and becomes the command.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from pathlib import Path

from podlab.network.netlink import Netlink
from podlab.node.runtime.sandbox import kernel

#: Numbers of system calls: x86_64, aarch64.
_COLUMN = ("x86_64", "aarch64").index(platform.machine())
_REFUSED = ((272, 97), (308, 268), (165, 40), (166, 39), (155, 41))  # unshare, setns, mount, umount2, pivot_root
_CLONE, _CLONE3 = (56, 220)[_COLUMN], 435
#: CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
_NEW = 0x7E020000
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


def hold() -> None:
    """Be the owner of the network namespace."""
    uid, gid = os.geteuid(), os.getegid()
    kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNET)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1\n"), ("gid_map", f"{gid} {gid} 1\n")):
        Path(f"/proc/self/{name}").write_text(text)
    with Netlink() as links:
        links.set_up("lo")
    print(os.getpid(), flush=True)
    sys.stdin.read()


def run(holder: str, command: list[str]) -> None:
    """Become the command in the namespace of the holder, without the right to any other."""
    spaces = [kernel.open_namespace(name, holder) for name in ("user", "net")]
    for space, flag in zip(spaces, (kernel.CLONE_NEWUSER, kernel.CLONE_NEWNET), strict=True):
        kernel.setns(space, flag)
    refuse_namespaces()
    os.execvp(command[0], command)


def refuse_namespaces() -> None:
    """Let this process and all that come of it have no new namespace and no mount (seccomp(2), a classic filter)."""
    refuse, missing = _ERRNO | errno.EPERM, _ERRNO | errno.ENOSYS
    program = [(0x20, 0, 0, 0)]  # the call's number
    for numbers in _REFUSED:
        program += [(0x15, 0, 1, numbers[_COLUMN]), (0x06, 0, 0, refuse)]
    # clone3 has its flags in memory, which no filter sees: libraries fall back to clone.
    program += [(0x15, 0, 1, _CLONE3), (0x06, 0, 0, missing)]
    program += [(0x15, 0, 3, _CLONE), (0x20, 0, 0, 16), (0x45, 0, 1, _NEW), (0x06, 0, 0, refuse), (0x06, 0, 0, _ALLOW)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in program))
    description = ctypes.create_string_buffer(struct.pack("=H6xQ", len(program), ctypes.addressof(code)))
    kernel.prctl(38, 1)  # PR_SET_NO_NEW_PRIVS
    kernel.prctl(22, 2, ctypes.addressof(description))  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


if __name__ == "__main__":
    if sys.argv[1] == "hold":
        hold()
    else:
        run(sys.argv[2], sys.argv[3:])
