"""The seccomp filter of the profile RuntimeDefault, as a classic BPF program. Standard library only.

It refuses what container runtimes refuse by default: system calls that reach for the kernel itself, or that a
capability opens which the container has not. Everything else is allowed (runtimes list what is allowed instead;
a table of refusals needs no care for every new harmless call). Where this machine's processor is not in the
table there is no filter, and asking for it is refused.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from collections.abc import Collection, Sequence

from podlab.node.runtime.sandbox import kernel

#: Numbers of system calls (x86_64, aarch64) by the capability that opens them; "" for none. From the kernel's
#: headers; None where a processor does not have the call.
_CALLS: dict[str, dict[str, tuple[int | None, int | None]]] = {
    "": {
        "_sysctl": (156, None),
        "add_key": (248, 217),
        "create_module": (174, None),
        "get_kernel_syms": (177, None),
        "io_uring_enter": (426, 426),
        "io_uring_register": (427, 427),
        "io_uring_setup": (425, 425),
        "kexec_file_load": (320, 294),
        "kexec_load": (246, 104),
        "keyctl": (250, 219),
        "migrate_pages": (256, 238),
        "move_pages": (279, 239),
        "nfsservctl": (180, 42),
        "pivot_root": (155, 41),
        "query_module": (178, None),
        "request_key": (249, 218),
        "swapoff": (168, 225),
        "swapon": (167, 224),
        "sysfs": (139, None),
        "uselib": (134, None),
        "userfaultfd": (323, 282),
        "ustat": (136, None),
    },
    "sys_admin": {
        "bpf": (321, 280),
        "fanotify_init": (300, 262),
        "fsconfig": (431, 431),
        "fsmount": (432, 432),
        "fsopen": (430, 430),
        "fspick": (433, 433),
        "lookup_dcookie": (212, 18),
        "mount": (165, 40),
        "mount_setattr": (442, 442),
        "move_mount": (429, 429),
        "open_tree": (428, 428),
        "perf_event_open": (298, 241),
        "quotactl": (179, 60),
        "quotactl_fd": (443, 443),
        "setdomainname": (171, 162),
        "sethostname": (170, 161),
        "setns": (308, 268),
        "umount2": (166, 39),
        "unshare": (272, 97),
    },
    "dac_read_search": {"open_by_handle_at": (304, 265)},
    "sys_boot": {"reboot": (169, 142)},
    "sys_module": {"delete_module": (176, 106), "finit_module": (313, 273), "init_module": (175, 105)},
    "sys_nice": {
        "get_mempolicy": (239, 236),
        "mbind": (237, 235),
        "set_mempolicy": (238, 237),
        "set_mempolicy_home_node": (450, 450),
    },
    "sys_pacct": {"acct": (163, 89)},
    "sys_ptrace": {"kcmp": (312, 272)},
    "sys_rawio": {"ioperm": (173, None), "iopl": (172, None)},
    "sys_time": {"clock_settime": (227, 112), "settimeofday": (164, 170)},
    "sys_tty_config": {"vhangup": (153, 58)},
    "syslog": {"syslog": (103, 116)},
}
_CLONE, _CLONE3, _SOCKET, _PERSONALITY = (56, 220), (435, 435), (41, 198), (135, 92)
_PRLIMIT = (302, 261)
#: Every flag of clone(2) that makes a namespace.
_NEW_NAMESPACES = 0x7E02_0000
_AF_VSOCK = 40
#: personality(2): Linux, 32-bit Linux, both without randomized addresses..., and "tell me".
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFF_FFFF)

#: Column of the tables and AUDIT_ARCH of each processor (linux/audit.h).
_MACHINES = {"x86_64": (0, 0xC000_003E), "aarch64": (1, 0xC000_00B7)}
_X32 = 0x4000_0000

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
#: Offsets in struct seccomp_data: the call's number, its processor, the low half of its first argument.
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_ALLOW = 0x7FFF_0000
_EPERM, _ENOSYS = 0x0005_0000 | errno.EPERM, 0x0005_0000 | errno.ENOSYS

_SET_SECCOMP, _FILTER_MODE = 22, 2


def supported(machine: str = "") -> bool:
    """Whether there is a filter for a processor (the one that this runs on)."""
    return (machine or platform.machine()) in _MACHINES


def program(capabilities: Collection[str], machine: str = "") -> list[tuple[int, int, int, int]]:
    """The filter for a container with these capabilities (lower case, without `cap_`): (code, true, false, value)."""
    column, architecture = _MACHINES[machine or platform.machine()]
    instructions = _numbered(architecture)
    refused = {
        number
        for capability, calls in _CALLS.items()
        if not capability or capability not in capabilities
        for numbers in calls.values()
        if (number := numbers[column]) is not None
    }
    for number in sorted(refused):
        instructions += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _EPERM)]
    if "sys_admin" not in capabilities:
        # clone3 has its flags in memory, where no filter can look: programs fall back to clone.
        instructions += [(_EQUAL, 0, 1, _CLONE3[column]), (_RETURN, 0, 0, _ENOSYS)]
        instructions += _if(_CLONE[column], [(_ANY_BIT, 0, 1, _NEW_NAMESPACES), (_RETURN, 0, 0, _EPERM)])
    instructions += _if(_SOCKET[column], [(_EQUAL, 0, 1, _AF_VSOCK), (_RETURN, 0, 0, _EPERM)])
    known = [step for value in _PERSONALITIES for step in ((_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW))]
    instructions += _if(_PERSONALITY[column], [*known, (_RETURN, 0, 0, _EPERM)])
    return [*instructions, (_RETURN, 0, 0, _ALLOW)]


def guarding(process: int, machine: str = "") -> list[tuple[int, int, int, int]]:
    """The filter for code that must not touch the resource limits of one process of its own user.

    prlimit(2) asks for nothing but the same user, and a limit of processor time ends whatever has it, the first process
    of a PID namespace, too, which nothing else from inside can end.
    """
    column, architecture = _MACHINES[machine or platform.machine()]
    refused = _if(_PRLIMIT[column], [(_EQUAL, 0, 1, process), (_RETURN, 0, 0, _EPERM)])
    return [*_numbered(architecture), *refused, (_RETURN, 0, 0, _ALLOW)]


def _numbered(architecture: int) -> list[tuple[int, int, int, int]]:
    """Load the call's number; calls by the numbers of another processor, or of x32, are refused."""
    instructions = [(_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _EPERM)]
    instructions.append((_LOAD, 0, 0, _NUMBER))
    if architecture == _MACHINES["x86_64"][1]:
        instructions += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _ENOSYS)]
    return instructions


def _if(number: int, then: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int]]:
    """`then` with the first argument loaded, only for one system call; the number is loaded again after it."""
    body = [(_LOAD, 0, 0, _FIRST_ARGUMENT), *then, (_LOAD, 0, 0, _NUMBER)]
    return [(_EQUAL, 0, len(body), number), *body]


def install(capabilities: Collection[str]) -> None:
    """Put this process under the filter, for ever and with all its children.

    It must have no_new_privs or CAP_SYS_ADMIN in its user namespace. OSError if the kernel has no seccomp.
    """
    _put(program(capabilities))


def guard(process: int) -> None:
    """Put this process under `guarding`, for ever and with all its children; it must have no_new_privs."""
    _put(guarding(process))


def _put(instructions: Sequence[tuple[int, int, int, int]]) -> None:
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)
    buffer = ctypes.create_string_buffer(code, len(code))
    filter_ = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))
    kernel.prctl(_SET_SECCOMP, _FILTER_MODE, ctypes.addressof(ctypes.create_string_buffer(filter_, len(filter_))))
