"""Capabilities by name, in lower case without `cap_`. Standard library only: the zygote uses it, too."""

from __future__ import annotations

from collections.abc import Iterable

#: The names of all capabilities in the order of their numbers (linux/capability.h).
CAPABILITIES = (
    *("chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap"),
    *("linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock", "ipc_owner"),
    *("sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice"),
    *("sys_resource", "sys_time", "sys_tty_config", "mknod", "lease", "audit_write", "audit_control", "setfcap"),
    *("mac_override", "mac_admin", "syslog", "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf"),
    "checkpoint_restore",
)
#: What a container's root may do (the default set of Docker and containerd).
DEFAULT = (
    *("chown", "dac_override", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap"),
    *("net_bind_service", "net_raw", "sys_chroot", "mknod", "audit_write", "setfcap"),
)


def changed(add: Iterable[str], drop: Iterable[str]) -> list[str]:
    """The default set with some added and some dropped; ALL comes first, so that single ones can undo it.

    Names as in a pod (`NET_ADMIN`, `CAP_NET_ADMIN`, `ALL`); ValueError names an unknown one.
    """
    added, dropped = [_plain(name) for name in add], [_plain(name) for name in drop]
    kept = set(CAPABILITIES if "all" in added else DEFAULT)
    if "all" in dropped:
        kept.clear()
    kept.update(name for name in added if name != "all")
    kept.difference_update(dropped)
    return [name for name in CAPABILITIES if name in kept]


def _plain(name: str) -> str:
    plain = name.lower().removeprefix("cap_")
    if plain != "all" and plain not in CAPABILITIES:
        raise ValueError(f"unknown capability {name!r}")
    return plain
