"""The pure parts of the sandbox runtime: cures, id maps, program look-up, requests, attributes."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from podlab.network import netlink
from podlab.node.runtime.sandbox import fields, loop
from podlab.node.runtime.sandbox.bootstrap import identity_map
from podlab.node.runtime.sandbox.container import StartError, find_program
from podlab.node.runtime.sandbox.machine import cure
from podlab.node.runtime.sandbox.zygote import known_ids


def proc(folder: Path, **settings: str) -> Path:
    """A folder that looks like /proc with these settings; `__` in a name stands for a slash."""
    for name, value in settings.items():
        path = folder / "sys" / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value + "\n")
    return folder


@pytest.mark.parametrize(
    ("settings", "number", "step", "text"),
    [
        ({"user__max_user_namespaces": "0"}, errno.ENOSPC, "a user namespace", "user.max_user_namespaces"),
        ({"kernel__unprivileged_userns_clone": "0"}, errno.EPERM, "a user namespace", "unprivileged_userns_clone=1"),
        (
            {"kernel__apparmor_restrict_unprivileged_userns": "1"},
            errno.EACCES,
            "private mounts",
            "apparmor_restrict_unprivileged_userns=0",
        ),
        ({"user__max_user_namespaces": "9000"}, errno.EPERM, "a fresh /proc", "systempaths=unconfined"),
        ({}, errno.EPERM, "a user namespace", "seccomp=unconfined"),
        ({}, errno.ENOENT, "the program /x", "may be executed"),
        ({}, errno.ENOSPC, "the log file /x", "space"),
    ],
)
def test_every_refusal_has_a_cure(tmp_path: Path, settings: dict[str, str], number: int, step: str, text: str) -> None:
    assert text in cure(number, step, proc(tmp_path, **settings))


def test_an_identity_map_keeps_every_range() -> None:
    assert identity_map("         0          0 4294967295\n") == "0 0 4294967295\n"
    assert identity_map("0 1000 1\n1 100000 65536\n") == "0 0 1\n1 1 65536\n"


@pytest.mark.parametrize(
    ("users", "groups", "known"),
    [
        ("0 65534 1\n", "0 65534 1\n", ("one", 0)),
        ("0 0 4294967295\n", "0 0 4294967295\n", ("all", 2147483647)),
        ("0 0 1\n1 1 65536\n", "0 0 1\n1 1 65536\n", ("all", 65536)),
    ],
)
def test_the_known_ids_are_read_from_the_maps(users: str, groups: str, known: tuple[str, int]) -> None:
    assert known_ids(users, groups) == known


def test_a_program_is_found_in_the_path_in_its_order(tmp_path: Path) -> None:
    for folder, mode in (("a", 0o644), ("b", 0o755), ("c", 0o755)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "tool").touch(mode)
        (tmp_path / folder / "tool").chmod(mode)
    (tmp_path / "a" / "folder").mkdir()
    path = ":".join(str(tmp_path / folder) for folder in "abc")
    assert find_program("tool", path) == str(tmp_path / "b/tool")
    assert find_program(str(tmp_path / "c/tool"), "") == str(tmp_path / "c/tool")
    with pytest.raises(StartError, match="executable file not found"):
        find_program("folder", path)


def test_a_container_s_request_is_checked_field_by_field() -> None:
    good: dict[str, Any] = {
        **{name: [] for name in ("argv", "mounts", "supplemental_groups")},
        **{name: {} for name in ("environment", "files", "labels")},
        **dict.fromkeys(
            ["tty", "stdin", "stdin_once", "no_new_privileges", "privileged", "share_processes", "host_processes"],
            False,
        ),
        **dict.fromkeys(("seccomp", "unmasked_proc"), False),
        **dict.fromkeys(
            ("log_within", "user", "group", "processes_of", "memory_limit", "pod_memory_limit", "capabilities")
        ),
        **dict.fromkeys(("cpu_limit", "pod_cpu_limit")),
        **dict.fromkeys(("cpu_request", "pod_cpu_request"), 0),
        "root": {"layers": [], "host_paths": [], "links": {}, "files": {}, "read_only": False},
        "id": "c",
        "sandbox": "s",
        "log_path": "/l",
        "folder": "/f",
        "working_directory": "/",
    }
    assert fields.check_container(good) == good
    wrong: dict[str, Any]
    for wrong in (
        {"argv": "text"},
        {"argv": [1]},
        {"argv": ["zero\0byte"]},
        {"environment": {"A": None}},
        {"user": "root"},
        {"working_directory": "relative"},
        {"root": {}},
        {"mounts": [{"source": "/x", "target": "relative", "read_only": True}]},
        {"mounts": [{"source": "/x"}]},
    ):
        with pytest.raises(ValueError):
            fields.check_container(good | wrong)
    with pytest.raises(ValueError, match="no sandbox"):
        fields.check_container({name: value for name, value in good.items() if name != "sandbox"})


def test_netlink_attributes_are_padded_and_read_back() -> None:
    data = netlink.attribute(3, b"eth0\0") + netlink.attribute(4, b"\x01\x02\x03\x04")
    assert len(data) == 12 + 8
    assert netlink.attributes(data) == {3: b"eth0\0", 4: b"\x01\x02\x03\x04"}
    assert netlink.attributes(data + b"\xff\xff\x00") == {3: b"eth0\0", 4: b"\x01\x02\x03\x04"}


@pytest.mark.parametrize("name", ["", "sixteen-letters-", "a/b", "a b", "ü" * 8])
def test_a_link_s_name_must_be_short_and_plain(name: str) -> None:
    with netlink.Netlink() as kernel, pytest.raises(ValueError, match="no name for a link"):
        kernel.link(name)


def test_the_zygote_starts_light() -> None:
    """It is in memory once per node, and every millisecond of its imports is one of a node's start."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import podlab.node.runtime.sandbox.bootstrap; "
        "import podlab.node.runtime.sandbox.zygote; print(*sys.modules)"
    )
    root = str(Path(netlink.__file__).parents[2])
    modules = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, root], capture_output=True, text=True, check=True
    ).stdout.split()
    heavy = {"asyncio", "pathlib", "dataclasses", "typing", "subprocess", "logging", "ssl", "shutil"}
    assert heavy.isdisjoint(modules)
    ours = {name for name in modules if name.startswith("podlab")}
    assert "podlab.node.runtime.contract" not in ours


def test_a_container_is_not_told_to_ignore_what_its_cluster_was_told_to_ignore():
    program = (
        "import signal, pathlib\n"
        "from podlab.node.runtime.sandbox import container\n"
        "for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGTSTP):\n"
        "    signal.signal(number, signal.SIG_IGN)\n"
        "container.fresh_child([])\n"
        "print(pathlib.Path('/proc/self/status').read_text())\n"
    )
    status = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    masks = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith(("SigIgn", "SigCgt"))]
    # Signals 32 and 33 are the C library's own, which nobody can set; whoever started this may have them ignored.
    assert [mask & ~(0b11 << 31) for mask in masks] == [0, 0]


def test_a_line_that_a_full_disk_does_not_take_ends_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def write(self, _text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stderr", Full())
    loop.say("the keeper's complaint")
