"""Which cgroup nodes may have: read from folders that look like the kernel's. What the kernel does: tests/sandbox."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from podlab.cluster.embedded import delegation, provider
from podlab.cluster.embedded.delegation import REST, VARIABLE, offered
from podlab.cluster.embedded.folder import ClusterFolder, Record, cluster_folder
from podlab.cluster.embedded.nodes import Node
from podlab.cluster.embedded.provider import EmbeddedProvider
from podlab.errors import EnvironmentUnsuitable, UsageError
from podlab.node.runtime.sandbox import cgroups


@pytest.fixture
def process(tmp_path: Path) -> Path:
    """A process in the cgroup /user/app of a hierarchy that is mounted at `tmp_path`/fs."""
    group(tmp_path / "fs/user/app")
    made = tmp_path / "proc"
    made.mkdir()
    (made / "cgroup").write_text("4:memory:/elsewhere\n0::/user/app\n")
    (made / "mountinfo").write_text(
        "30 20 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
        f"31 20 0:27 / {tmp_path}/fs rw - cgroup2 cgroup2 rw\n"
    )
    return made


def group(path: Path, controllers: str = "cpuset cpu io memory pids") -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "cgroup.controllers").write_text(controllers + "\n")
    for name in ("cgroup.procs", "cgroup.subtree_control"):
        (path / name).touch()
    return path


@pytest.fixture
def away(tmp_path: Path) -> Path:
    """Where systemd is not."""
    return tmp_path / "nothing"


def test_a_cgroup_that_can_be_written_to_is_taken_where_there_is_no_systemd(
    process: Path, tmp_path: Path, away: Path
) -> None:
    found = offered({}, process, away)
    assert (found.path, found.controllers, found.why) == (tmp_path / "fs/user/app", ("cpu", "memory", "pids"), "")


def test_under_systemd_it_has_to_be_marked_as_delegated(
    process: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = offered({}, process, tmp_path)
    assert found.path is None and found.why == f"systemd has not delegated the cgroup {tmp_path}/fs/user/app"
    marks = {"user.delegate": b"1"}
    monkeypatch.setattr(os, "getxattr", lambda _path, name: marks[name])
    assert offered({}, process, tmp_path).path == tmp_path / "fs/user/app"


def test_who_was_moved_below_it_finds_it_again(process: Path, tmp_path: Path, away: Path) -> None:
    (process / "cgroup").write_text(f"0::/user/app/{REST}\n")
    group(tmp_path / "fs/user/app" / REST, "")
    assert offered({}, process, away).path == tmp_path / "fs/user/app"


def test_a_mount_of_a_part_of_the_hierarchy(process: Path, tmp_path: Path, away: Path) -> None:
    (process / "mountinfo").write_text(f"31 20 0:27 /user {tmp_path}/fs rw shared:9 - cgroup2 cgroup2 rw\n")
    group(tmp_path / "fs/app")
    assert offered({}, process, away).path == tmp_path / "fs/app"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("1:cpu:/\n", "this machine has no cgroups of version 2"),
        ("0::/gone\n", "it is no cgroup: No such file or directory"),
        ("0::/poor\n", "no controller is handed on to the cgroup"),
    ],
)
def test_why_there_is_none(text: str, why: str, process: Path, tmp_path: Path, away: Path) -> None:
    group(tmp_path / "fs/poor", "hugetlb")
    (process / "cgroup").write_text(text)
    found = offered({}, process, away)
    assert found.path is None and found.why.startswith(why)


def test_one_that_is_another_users_is_not_taken(
    process: Path, tmp_path: Path, away: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, _mode: not str(path).endswith("procs"))
    assert offered({}, process, away).why == f"the cgroup {tmp_path}/fs/user/app is not delegated to this user"


def test_one_that_is_named_is_taken_or_refused(process: Path, tmp_path: Path) -> None:
    named = group(tmp_path / "fs/named", "memory")
    found = offered({VARIABLE: str(named)}, process, tmp_path)
    assert (found.path, found.controllers) == (named, ("memory",))
    with pytest.raises(UsageError, match=f"{VARIABLE} names {tmp_path}/none, but it is no cgroup"):
        offered({VARIABLE: f"{tmp_path}/none"}, process, tmp_path)


def test_processes_are_moved_until_the_controllers_are_handed_on(
    process: Path, tmp_path: Path, away: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer = offered({}, process, away)
    top = tmp_path / "fs/user/app"
    (top / "cgroup.procs").write_text("11\n12\n")
    moved: list[str] = []
    real = Path.write_text

    def write(path: Path, text: str) -> int:
        if path.name == "cgroup.subtree_control" and len(moved) < 2:
            raise OSError(errno.EBUSY, "busy")
        if path == top / REST / "cgroup.procs":
            moved.append(text)
            if text == "11":
                raise ProcessLookupError
        return real(path, text)

    monkeypatch.setattr(Path, "write_text", write)
    delegation.take(offer)
    assert moved == ["11", "12"]
    assert (top / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"


def test_the_groups_of_one_cluster_are_its_own(tmp_path: Path) -> None:
    one, other = (delegation.of_node(str(tmp_path), tmp_path / name, "node-1") for name in ("a", "b"))
    for path in (one, other):
        Path(path, "pod", "container").mkdir(parents=True)
    delegation.clear(str(tmp_path), tmp_path / "a")
    assert not Path(one).exists() and Path(other, "pod", "container").exists()


@pytest.mark.parametrize(("limit", "text"), [(1500, "150000 100000"), (200, "20000 100000"), (1, "1000 100000")])
def test_a_limit_is_a_part_of_each_period(limit: int, text: str) -> None:
    assert cgroups.quota(limit) == text


@pytest.mark.parametrize(("request_", "weight"), [(0, 1), (100, 4), (1000, 39), (10_000_000, 10_000)])
def test_a_request_is_a_weight_as_the_kubelet_has_it(request_: int, weight: int) -> None:
    assert cgroups.weight(request_) == weight


def test_without_a_cgroup_nothing_is_done() -> None:
    groups = cgroups.Groups(None)
    spec = {"sandbox": "p", "id": "c"}
    groups.make(spec)
    with groups.door(spec) as door:
        assert (door, groups.out_of_memory(spec), bool(groups)) == (cgroups.NONE, False, False)
    groups.leave(spec)
    groups.leave_pod("p")
    assert "cpu" not in groups


@pytest.fixture
def placed(
    process: Path, tmp_path: Path, away: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[ClusterFolder, delegation.Offer]:
    """A cluster that is begun in a delegated cgroup, and that cgroup."""
    monkeypatch.setenv("PODLAB_HOME", str(tmp_path / "home"))
    folder = cluster_folder("noted")
    folder.create(Record("noted", "embedded", [1], "lab"))
    offer = offered({}, process, away)
    monkeypatch.setattr(delegation, "offered", lambda: offer)
    return folder, offer


def test_a_cluster_notes_the_cgroup_of_its_nodes_and_status_says_what_it_keeps(
    placed: tuple[ClusterFolder, delegation.Offer], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, offer = placed
    assert provider._place(folder).details["cgroup"] == str(offer.path)
    assert EmbeddedProvider().status("noted").details["limits"] == "CPU and memory limits are enforced by cgroups"
    group = Path(Node(1, folder, folder.read(), SimpleNamespace(), None)._cgroup() or "")  # type: ignore[arg-type]
    assert group.parent == offer.path
    (group / "pod").mkdir(parents=True)
    provider._clear(folder)
    assert not group.exists()
    # The next start may be where nothing is delegated.
    monkeypatch.setattr(delegation, "offered", lambda: delegation.Offer(None))
    provider._place(folder)
    assert "not enforced" in EmbeddedProvider().status("noted").details["limits"]
    assert Node(1, folder, folder.read(), SimpleNamespace(), None)._cgroup() is None  # type: ignore[arg-type]


def test_a_cgroup_that_hands_nothing_on_is_told_with_what_to_do(
    placed: tuple[ClusterFolder, delegation.Offer], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = placed

    def refuse(_path: Path, _text: str) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(EnvironmentUnsuitable, match="does not hand its controllers on: Permission denied") as told:
        provider._place(folder)
    assert VARIABLE in (told.value.hint or "")
