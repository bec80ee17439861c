from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pods import container, made

from podlab.node.admission import affine, dotted, forbidden, pressed, verdict
from podlab.node.quantity import milli, parse, requests, whole

ROOM = {"cpu": "2", "memory": "1Gi", "pods": "3"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("100m", Fraction(1, 10)),
        ("1", 1),
        ("1.5", Fraction(3, 2)),
        ("64Mi", 64 * 1024**2),
        ("1e3", 1000),
        ("1E", 10**18),
        ("2Ki", 2048),
        ("5k", 5000),
        ("1n", Fraction(1, 10**9)),
        ("-1", -1),
        (".5", Fraction(1, 2)),
        (7, 7),
    ],
)
def test_quantities(text: Any, value: Any) -> None:
    assert parse(text) == value


@pytest.mark.parametrize("text", ["", "1x", "Mi", "1 Mi", "1mm", "one"])
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="is not a Kubernetes quantity"):
        parse(text)


def test_rounding_is_upwards() -> None:
    assert milli("0.0001") == 1 and whole("1.2") == 2


@given(st.integers(0, 10**6), st.sampled_from(["", "m", "k", "Ki", "Mi", "G"]))
def test_a_quantity_is_never_lost_in_rounding(number: int, suffix: str) -> None:
    assert whole(f"{number}{suffix}") >= parse(f"{number}{suffix}") > whole(f"{number}{suffix}") - 1


def asking(cpu: str = "0", memory: str = "0", **more: Any) -> dict[str, Any]:
    return container(resources={"requests": {"cpu": cpu, "memory": memory}}, **more)


def test_an_init_container_counts_only_where_it_is_larger() -> None:
    spec = made(asking("500m"), inits=(asking("2", name="init"),))["spec"]
    assert requests(spec)["cpu"] == 2
    spec = made(asking("3"), inits=(asking("2", name="init"),))["spec"]
    assert requests(spec)["cpu"] == 3


def test_sidecars_count_beside_the_main_containers_and_later_init_containers() -> None:
    sidecar = asking("1", name="side", restartPolicy="Always")
    spec = made(asking("1"), inits=(sidecar, asking("2", name="init")))["spec"]
    assert requests(spec)["cpu"] == 3


@pytest.mark.parametrize(
    ("entry", "others", "reason"),
    [
        (asking("2"), [], None),
        (asking("2001m"), [], "OutOfcpu"),
        (asking("1"), [asking("1500m")], "OutOfcpu"),
        (asking("0", "2Gi"), [], "OutOfmemory"),
        (asking(), [asking()] * 3, "OutOfpods"),
        (asking(), [asking()] * 2, None),
    ],
)
def test_a_full_node_refuses(entry: dict[str, Any], others: list[dict[str, Any]], reason: str | None) -> None:
    found = verdict(made(entry), [made(other) for other in others], ROOM, {})
    assert (found[0] if found else None) == reason


def test_the_message_has_the_numbers() -> None:
    found = verdict(made(asking("1")), [made(asking("1500m"))], ROOM, {})
    assert found and found[1] == "Node didn't have enough resource: cpu, requested: 1000, used: 1500, capacity: 2000"


def test_a_node_selector_that_does_not_match() -> None:
    found = verdict(made(nodeSelector={"disk": "ssd"}), [], ROOM, {"disk": "hdd"})
    assert found and found[0] == "NodeAffinity"


class Unread(dict[str, Any]):
    """A pod that nobody may look into."""

    def __getitem__(self, name: str) -> Any:
        raise AssertionError(f"{name} was looked up")


def test_a_pod_that_asks_for_nothing_is_not_weighed_against_each_of_the_others() -> None:
    assert verdict(made(asking()), [Unread(), Unread()], ROOM, {}) is None


MEMORY, DISK = "MemoryPressure", "DiskPressure"
TAINT = "node.kubernetes.io/memory-pressure"


@pytest.mark.parametrize(
    ("conditions", "quality", "more", "refused"),
    [
        ([], "BestEffort", {}, None),
        ([MEMORY], "BestEffort", {}, "[MemoryPressure]"),
        ([MEMORY], "Burstable", {}, None),
        ([MEMORY], "Guaranteed", {}, None),
        ([DISK], "Guaranteed", {}, "[DiskPressure]"),
        ([MEMORY, DISK], "Guaranteed", {}, "[MemoryPressure DiskPressure]"),
        ([DISK], "BestEffort", {"priority": 2_000_000_000}, None),
        ([DISK], "BestEffort", {"priority": 1_000_000_000}, "[DiskPressure]"),
        ([DISK], "BestEffort", {"tolerations": [{"operator": "Exists"}]}, "[DiskPressure]"),
        ([MEMORY], "BestEffort", {"tolerations": [{"operator": "Exists"}]}, None),
        ([MEMORY], "BestEffort", {"tolerations": [{"key": TAINT, "effect": "NoSchedule"}]}, None),
        ([MEMORY], "BestEffort", {"tolerations": [{"key": TAINT, "value": "x"}]}, "[MemoryPressure]"),
        ([MEMORY], "BestEffort", {"tolerations": [{"key": TAINT, "effect": "NoExecute"}]}, "[MemoryPressure]"),
        ([MEMORY], "BestEffort", {"tolerations": [{"key": "gpu", "operator": "Exists"}]}, "[MemoryPressure]"),
    ],
)
def test_a_node_under_pressure_refuses_as_a_kubelet_does(
    conditions: list[str], quality: str, more: dict[str, Any], refused: str | None
) -> None:
    found = pressed(made(status={"qosClass": quality}, **more), conditions)
    assert found == (refused and ("Evicted", f"The node had condition: {refused}. "))


def term(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


@pytest.mark.parametrize(
    ("terms", "matches"),
    [
        ([term("zone", "In", "a", "b")], True),
        ([term("zone", "In", "c")], False),
        ([term("zone", "NotIn", "c")], True),
        ([term("none", "NotIn", "c")], True),
        ([term("zone", "Exists")], True),
        ([term("none", "Exists")], False),
        ([term("none", "DoesNotExist")], True),
        ([term("size", "Gt", "4")], True),
        ([term("size", "Lt", "4")], False),
        ([term("zone", "Gt", "4")], False),
        ([term("zone", "In", "c"), term("zone", "In", "a")], True),
        ([{}], False),
        ([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-1"]}]}], True),
    ],
)
def test_node_affinity(terms: list[dict[str, Any]], matches: bool) -> None:
    labels = {"zone": "a", "size": "5", "kubernetes.io/hostname": "node-1"}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    assert affine({"affinity": {"nodeAffinity": required}}, labels) is matches


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("net.ipv4.tcp_syncookies", "net.ipv4.tcp_syncookies"),
        ("net/ipv4/tcp_syncookies", "net.ipv4.tcp_syncookies"),
        ("net/ipv4/conf/eth0.1/forwarding", "net.ipv4.conf.eth0/1.forwarding"),
        ("net.ipv4.conf.eth0/1.forwarding", "net.ipv4.conf.eth0/1.forwarding"),
        ("kernel", "kernel"),
    ],
)
def test_a_setting_of_the_kernel_may_be_named_with_slashes(name: str, shown: str) -> None:
    assert dotted(name) == shown
    refused = forbidden({"securityContext": {"sysctls": [{"name": name, "value": "1"}]}, "containers": []})
    assert (refused is None) == (shown == "net.ipv4.tcp_syncookies")
