"""The seccomp filter: interpreted here, so that every rule can be asked on every processor; and capabilities."""

from __future__ import annotations

import errno

import pytest

from podlab.node.runtime.capabilities import CAPABILITIES, DEFAULT, changed
from podlab.node.runtime.sandbox import seccomp

X86, ARM = 0xC000003E, 0xC00000B7
ALLOW = 0x7FFF0000
EPERM, ENOSYS = 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS


def answer(number: int, argument: int = 0, *, names: tuple[str, ...] = DEFAULT, arch: int = X86) -> int:
    """What the filter of the processor says about a system call."""
    return said(seccomp.program(names, "aarch64" if arch == ARM else "x86_64"), number, argument, arch)


def said(steps: list[tuple[int, int, int, int]], number: int, argument: int, arch: int) -> int:
    """What a filter says about a system call."""
    data = {0: number, 4: arch, 16: argument}
    accumulator, at = 0, 0
    while True:
        code, true, false, value = steps[at]
        at += 1
        match code:
            case 0x20:
                accumulator = data[value]
            case 0x06:
                return value
            case _:
                tests = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}
                at += true if tests[code] else false


def test_ordinary_calls_are_allowed_and_dangerous_ones_are_not() -> None:
    for number in (0, 1, 2, 9, 57, 59, 202, 257):  # read, write, open, mmap, fork, execve, futex, openat
        assert answer(number) == ALLOW
    for number in (165, 172, 175, 246, 272, 308, 321, 425):  # mount, iopl, init_module, kexec, unshare, setns, ...
        assert answer(number) == EPERM


def test_a_process_may_be_made_but_no_namespace() -> None:
    assert answer(56, 0x1200011) == ALLOW
    assert answer(56, 0x10000000) == EPERM
    assert answer(435) == ENOSYS
    assert answer(56, 0x10000000, names=("sys_admin",)) == ALLOW


def test_a_capability_opens_its_calls() -> None:
    assert answer(165, names=("sys_admin",)) == ALLOW
    assert answer(169, names=("sys_admin",)) == EPERM
    assert answer(169, names=("sys_boot",)) == ALLOW
    assert answer(250, names=CAPABILITIES) == EPERM


def test_arguments_count_where_they_matter() -> None:
    assert (answer(41, 2), answer(41, 40)) == (ALLOW, EPERM)
    assert (answer(135, 0xFFFFFFFF), answer(135, 8), answer(135, 0x40000)) == (ALLOW, ALLOW, EPERM)


def test_other_processors() -> None:
    assert answer(1, arch=0x40000003) == EPERM  # 32-bit calls have other numbers
    assert answer(0x40000001) == ENOSYS
    assert (answer(63, arch=ARM), answer(40, arch=ARM), answer(220, 0x20000, arch=ARM)) == (ALLOW, EPERM, EPERM)
    assert not seccomp.supported("s390x")


def test_capabilities_are_added_and_dropped_all_first() -> None:
    assert changed([], []) == [name for name in CAPABILITIES if name in DEFAULT]
    assert changed(["NET_BIND_SERVICE"], ["ALL"]) == ["net_bind_service"]
    assert set(CAPABILITIES) - set(changed(["ALL"], ["CAP_CHOWN"])) == {"chown"}
    assert "net_admin" in changed(["NET_ADMIN"], [])
    with pytest.raises(ValueError, match="FLY"):
        changed(["FLY"], [])


@pytest.mark.parametrize(("machine", "arch", "number"), [("x86_64", X86, 302), ("aarch64", ARM, 261)])
def test_the_limits_of_a_guarded_process_are_its_own(machine: str, arch: int, number: int) -> None:
    steps = seccomp.guarding(1, machine)
    assert [said(steps, number, process, arch) for process in (0, 1, 2)] == [ALLOW, EPERM, ALLOW]
    assert said(steps, number + 1, 1, arch) == ALLOW
    assert said(steps, number, 1, 0x40000003) == EPERM  # by the numbers of a 32-bit processor
