"""The trials of the kernel, on this machine, and what they say where something is refused."""

from __future__ import annotations

import pytest

from podlab.doctor.facts import try_kernel
from podlab.node.runtime.sandbox import kernel

pytestmark = pytest.mark.sandbox


def test_namespaces_cables_rules_and_overlays_work_and_leave_nothing(tmp_path):
    assert try_kernel(str(tmp_path)) == {
        "user_namespace": None,
        "proc": None,
        "veth": None,
        "nf_tables": None,
        "overlay": None,
    }
    assert not list(tmp_path.iterdir())


def test_an_overlay_that_is_refused_is_told_from_the_rest():
    outcome = try_kernel("/proc")
    assert outcome["overlay"] is not None
    assert outcome["user_namespace"] is outcome["veth"] is None


def test_a_user_without_namespaces_hears_so(tmp_path, monkeypatch):
    """A child in a user namespace whose own quota of user namespaces is zero."""
    import os

    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            uid, gid = os.geteuid(), os.getegid()
            kernel.unshare(kernel.CLONE_NEWUSER)
            for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
                with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123
                    file.write(text)
            with open("/proc/sys/user/max_user_namespaces", "w") as file:  # noqa: PTH123
                file.write("0")
            os.write(write, repr(try_kernel(str(tmp_path))).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        said = file.read()
    os.waitpid(child, 0)
    assert "'user_namespace': 'unshare(" in said and "No space left on device" in said
