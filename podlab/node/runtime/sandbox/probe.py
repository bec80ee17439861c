"""A child process that tries what nodes and pods need of the kernel, and prints the outcome of each as JSON.

Run as `python -m podlab.node.runtime.sandbox.probe FOLDER`; FOLDER is where overlayfs is tried. Everything is made
in namespaces of its own, so it is gone with this process.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from podlab.network.netlink import Netlink, attribute
from podlab.node.runtime.sandbox import kernel

_NESTED = 0x8000
_NETLINK_NETFILTER = 12  # not among the names of the module socket
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NFTABLES, _NEW_TABLE, _NEW_CHAIN = 10, 0, 3
_IPV4, _LOCAL_OUT, _DNAT_PRIORITY = 2, 3, -100
_REQUEST, _ACK, _CREATE = 0x1, 0x4, 0x400


def user_namespace() -> None:
    """Become root of a new user namespace that owns new mount, PID and network namespaces."""
    uid, gid = os.geteuid(), os.getegid()
    flags = (kernel.CLONE_NEWUSER, kernel.CLONE_NEWNS, kernel.CLONE_NEWPID, kernel.CLONE_NEWNET)
    kernel.unshare(sum(flags))
    if Path("/proc/self/setgroups").exists():
        Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1\n")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1\n")
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)


def fresh_proc() -> None:
    """Mount /proc of the new PID namespace: refused where a container masks parts of /proc."""
    kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)


def virtual_cable() -> None:
    """Make a pair of virtual Ethernet links and switch one on."""
    with Netlink() as links:
        links.add_veth("probe0", "probe1")
        links.set_up("probe0")


def packet_rules() -> None:
    """Make an nf_tables table with a chain for translated addresses, as Services need."""
    table, chain = attribute(1, b"probe\0"), attribute(3, b"output\0")
    hook = attribute(1, struct.pack("!I", _LOCAL_OUT)) + attribute(2, struct.pack("!i", _DNAT_PRIORITY))
    batch = (
        _message(_BATCH_BEGIN, _REQUEST, b"", family=0, subsystem=_NFTABLES)
        + _message(_NFTABLES << 8 | _NEW_TABLE, _REQUEST | _ACK | _CREATE, table)
        + _message(
            _NFTABLES << 8 | _NEW_CHAIN,
            _REQUEST | _ACK | _CREATE,
            table + chain + attribute(4 | _NESTED, hook) + attribute(7, b"nat\0"),
        )
        + _message(_BATCH_END, _REQUEST, b"", family=0, subsystem=_NFTABLES)
    )
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as connection:
        connection.settimeout(5)
        connection.send(batch)
        answered = 0
        while answered < 2:
            data = connection.recv(1 << 16)
            while data:
                length, kind = struct.unpack_from("=IH", data)
                if kind == 2:
                    (code,) = struct.unpack_from("=i", data, 16)
                    if code:
                        raise OSError(-code, os.strerror(-code), "nf_tables")
                    answered += 1
                data = data[(length + 3) & ~3 :]


def _message(kind: int, flags: int, body: bytes, family: int = _IPV4, subsystem: int = 0) -> bytes:
    body = struct.pack("!BBH", family, 0, subsystem) + body
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body


def overlay(folder: str) -> None:
    """Join a read-only and a writable folder by overlayfs, as every container's root is."""
    with tempfile.TemporaryDirectory(prefix="probe-", dir=folder) as base:
        for name in ("lower", "upper", "work", "root"):
            Path(base, name).mkdir()
        Path(base, "lower", "file").write_text("below")
        options = ",".join(f"{key}dir={base}/{key}" for key in ("lower", "upper", "work"))
        root = f"{base}/root"
        kernel.mount("overlay", root, "overlay", 0, f"{options},userxattr")
        try:
            Path(root, "file").write_text("above")
        finally:
            kernel.unmount(root)


def _try(action: Callable[[], None]) -> str | None:
    try:
        action()
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        return f"{what}{error.strerror or error}"
    return None


def main() -> None:
    """Print one JSON object: the name of each trial and what was refused, or null."""
    folder = str(Path(sys.argv[1]).absolute())
    result: dict[str, str | None] = {"user_namespace": _try(user_namespace)}
    if result["user_namespace"] is None:
        sys.stdout.flush()
        child = os.fork()  # the first process of the new PID namespace
        if child:
            os.waitpid(child, 0)
            return
        result["proc"] = _try(fresh_proc)
        result["veth"] = _try(virtual_cable)
        result["nf_tables"] = _try(packet_rules)
        result["overlay"] = _try(lambda: overlay(folder))
    print(json.dumps(result), flush=True)
    if result["user_namespace"] is None:
        os._exit(0)


if __name__ == "__main__":
    main()
