from __future__ import annotations

import pytest

from podlab.cluster.embedded import shares
from podlab.cluster.embedded.shares import Machine, share
from podlab.errors import UsageError
from podlab.node.quantity import parse

GIB = 1 << 30


def bytes_of(quantities: dict[str, str], name: str) -> int:
    return int(parse(quantities[name]))


@pytest.mark.parametrize("nodes", [1, 3, 5])
def test_memory_and_disk_of_all_nodes_are_those_of_the_machine(nodes: int) -> None:
    machine = Machine(16, 32 * GIB, 500 * GIB)
    found = share(machine, nodes, "upstream")
    for name, whole in (("memory", machine.memory), ("ephemeral-storage", machine.disk)):
        assert 0.99 * whole <= nodes * bytes_of(found.capacity, name) <= whole
        assert 0.5 * whole < nodes * bytes_of(found.allocatable, name) < whole


def test_processors_are_divided_but_the_lab_profile_shows_enough_for_a_lesson() -> None:
    machine = Machine(2, 8 * GIB, 100 * GIB)
    assert share(machine, 3, "upstream").capacity["cpu"] == "666m"
    assert share(machine, 3, "lab").capacity["cpu"] == "4"
    assert share(Machine(64, 8 * GIB, GIB), 3, "lab").capacity["cpu"] == "21333m"


def test_a_small_machine_leaves_pods_more_than_half_of_each_share() -> None:
    found = share(Machine(1, 2 * GIB, 10 * GIB), 3, "lab")
    assert bytes_of(found.allocatable, "memory") > bytes_of(found.capacity, "memory") / 2


def test_what_the_disk_keeps_free_is_little_and_on_a_small_one_less() -> None:
    large = share(Machine(2, 8 * GIB, 100 * GIB, 50_000_000), 3, "lab")
    assert (large.eviction_disk, large.eviction_inodes) == (512 << 20, 100_000)
    small = share(Machine(2, 8 * GIB, GIB, 64_000), 3, "lab")
    assert (small.eviction_disk, small.eviction_inodes) == (16 << 20, 1000)
    assert share(Machine(2, 8 * GIB, GIB, 0), 3, "lab").eviction_inodes == 0  # nobody goes where nothing is counted


def test_a_cluster_without_nodes_has_shares_for_the_first_one() -> None:
    assert share(Machine(2, 8 * GIB, GIB), 0, "upstream").capacity["cpu"] == "2"


def test_three_nodes_are_in_three_zones_of_one_region() -> None:
    found = [shares.labels(index) for index in (1, 2, 3, 4)]
    assert len({each["topology.kubernetes.io/zone"] for each in found}) == 3
    assert len({each["topology.kubernetes.io/region"] for each in found}) == 1


def test_a_limit_of_the_surrounding_container_counts_as_the_machine(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(shares, "_LIMITS", (str(limit),))
    whole = shares.this_machine(tmp_path)
    for text in ("max\n", "nonsense"):
        limit.write_text(text)
        assert shares.this_machine(tmp_path) == whole
    limit.write_text(f"{64 << 20}\n")
    assert shares.this_machine(tmp_path).memory == 64 << 20


def test_a_cluster_can_be_given_a_part_of_the_memory(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODLAB_MEMORY", "100Mi")
    assert shares.this_machine(tmp_path).memory == 100 << 20
    monkeypatch.setenv("PODLAB_MEMORY", "plenty")
    with pytest.raises(UsageError, match="PODLAB_MEMORY"):
        shares.this_machine(tmp_path)
