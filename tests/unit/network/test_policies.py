"""Network policies as plain questions: may this pod connect to that one?"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlab.network import policies
from podlab.network.policies import EGRESS, INGRESS, Allowance, Location, PodFact, PodPort, Restriction, pod_fact
from podlab.network.policy_rules import TABLE, table

NODE = "node-1"
#: Labels of the namespaces.
NAMESPACES = {
    "shop": {"kubernetes.io/metadata.name": "shop", "team": "red"},
    "bank": {"kubernetes.io/metadata.name": "bank", "team": "blue"},
    "kube-system": {"kubernetes.io/metadata.name": "kube-system"},
}
WEB, DB, SPY = "10.244.1.2", "10.244.1.3", "10.244.2.4"


def pod(namespace: str, address: str, *ports: PodPort, **labels: str) -> PodFact:
    return PodFact(namespace, tuple(sorted(labels.items())), address, address.startswith("10.244.1."), ports)


PODS = [
    pod("shop", WEB, PodPort("http", "TCP", 8080), app="web"),
    pod("shop", DB, PodPort("sql", "TCP", 5432), app="db"),
    pod("bank", SPY, PodPort("http", "TCP", 9090), app="spy"),
]


def policy(selector: dict[str, str] | None = None, namespace: str = "shop", **spec: Any) -> dict[str, Any]:
    types = [name for name, key in (("Ingress", "ingress"), ("Egress", "egress")) if key in spec]
    whom = {"matchLabels": selector} if selector else {}
    return {
        "metadata": {"namespace": namespace, "name": "p", "uid": f"p-{namespace}-{selector}"},
        "spec": {"podSelector": whom, "policyTypes": types, **spec},
    }


def inside(address: str, network: str) -> bool:
    return IPv4Network(address).subnet_of(IPv4Network(network))


def permits(allowance: Allowance, direction: str, peer: str, destination: Location) -> bool:
    known = (
        allowance.anyone
        or peer in allowance.pods
        or any(
            inside(peer, block.network) and not any(inside(peer, each) for each in block.excepted)
            for block in allowance.blocks
        )
    )
    _, protocol, port = destination
    named = destination in allowance.locations and (known or direction == EGRESS)
    listed = any(each.protocol == protocol and each.first <= port <= each.last for each in allowance.ports)
    return named or (known and (allowance.anything or listed))


def allows(restricted: Iterable[Restriction], source: str, destination: Location) -> bool:
    """Whether a new connection may be made, by the words of the documentation."""
    found = list(restricted)
    if source == destination[0]:
        return True
    for direction, own, peer in ((EGRESS, source, destination[0]), (INGRESS, destination[0], source)):
        isolating = [each for each in found if each.direction == direction and own in each.pods]
        if isolating and not any(
            permits(allowance, direction, peer, destination) for each in isolating for allowance in each.allowances
        ):
            return False
    return True


def may(source: str, destination: str, port: int, *made: dict[str, Any], protocol: str = "TCP") -> bool:
    return allows(policies.restrictions(made, PODS, NAMESPACES), source, (destination, protocol, port))


def test_without_a_policy_everything_is_allowed() -> None:
    assert may(SPY, WEB, 8080)
    assert table(policies.restrictions([], PODS, NAMESPACES)).chains == {}


def test_default_deny_isolates_the_pods_of_its_namespace_and_no_others() -> None:
    deny = policy(ingress=[])
    assert not may(SPY, WEB, 8080, deny) and not may(DB, WEB, 8080, deny)
    assert may(WEB, SPY, 9090, deny)
    assert may(WEB, WEB, 8080, deny), "a pod reaches itself"


def test_policies_add_up() -> None:
    allow = policy({"app": "web"}, ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "db"}}}]}])
    assert may(DB, WEB, 8080, policy(ingress=[]), allow)
    assert not may(SPY, WEB, 8080, policy(ingress=[]), allow)


def test_both_ends_have_to_agree() -> None:
    out = policy({"app": "db"}, egress=[{"to": [{"podSelector": {"matchLabels": {"app": "web"}}}]}])
    assert may(DB, WEB, 8080, out) and not may(DB, SPY, 9090, out)
    assert not may(DB, WEB, 8080, out, policy({"app": "web"}, ingress=[]))


@pytest.mark.parametrize(
    ("peer", "from_db", "from_spy"),
    [
        ({"podSelector": {}}, True, False),
        ({"namespaceSelector": {}}, True, True),
        ({"namespaceSelector": {"matchLabels": {"team": "blue"}}}, False, True),
        ({"namespaceSelector": {"matchLabels": {"team": "blue"}}, "podSelector": {"matchLabels": {"app": "db"}}}, 0, 0),
        ({"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "spy"}}}, False, True),
        (
            {
                "namespaceSelector": {
                    "matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["red"]}],
                }
            },
            False,
            True,
        ),
        ({"podSelector": {"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}}, False, False),
        ({"podSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}}, True, False),
        ({"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["db"]}]}}, True, False),
        ({"ipBlock": {"cidr": "10.244.0.0/16", "except": ["10.244.2.0/24"]}}, True, False),
        ({"ipBlock": {"cidr": "fd00::/8"}}, False, False),
    ],
)
def test_peers(peer: dict[str, Any], from_db: bool, from_spy: bool) -> None:
    made = policy({"app": "web"}, ingress=[{"from": [peer]}])
    assert (may(DB, WEB, 8080, made), may(SPY, WEB, 8080, made)) == (bool(from_db), bool(from_spy))


def test_two_entries_are_alternatives_and_one_entry_with_two_selectors_is_both() -> None:
    blue, web = {"matchLabels": {"team": "blue"}}, {"matchLabels": {"app": "db"}}
    either = policy({"app": "web"}, ingress=[{"from": [{"namespaceSelector": blue}, {"podSelector": web}]}])
    assert may(DB, WEB, 8080, either) and may(SPY, WEB, 8080, either)
    both = policy({"app": "web"}, ingress=[{"from": [{"namespaceSelector": blue, "podSelector": web}]}])
    assert not may(DB, WEB, 8080, both) and not may(SPY, WEB, 8080, both)


def test_ports_by_number_range_name_and_protocol() -> None:
    def on(*ports: dict[str, Any]) -> dict[str, Any]:
        return policy({"app": "web"}, ingress=[{"ports": list(ports)}])

    assert may(SPY, WEB, 8080, on({"port": 8080})) and not may(SPY, WEB, 8081, on({"port": 8080}))
    assert not may(SPY, WEB, 8080, on({"port": 8080}), protocol="UDP")
    assert may(SPY, WEB, 53, on({"protocol": "UDP"}), protocol="UDP") and not may(SPY, WEB, 53, on({"protocol": "UDP"}))
    span = on({"port": 8000, "endPort": 8100})
    assert [may(SPY, WEB, port, span) for port in (7999, 8000, 8100, 8101)] == [False, True, True, False]
    assert may(SPY, WEB, 8080, on({"port": "http"})) and not may(SPY, WEB, 9090, on({"port": "http"}))
    assert not may(SPY, WEB, 8080, on({"port": "http", "protocol": "UDP"}), protocol="UDP")


def test_a_named_port_of_an_egress_rule_is_each_peers_own() -> None:
    made = policy({"app": "db"}, egress=[{"to": [{"namespaceSelector": {}}], "ports": [{"port": "http"}]}])
    assert may(DB, WEB, 8080, made) and may(DB, SPY, 9090, made)
    assert not may(DB, SPY, 8080, made) and not may(DB, WEB, 9090, made)


def test_the_nodes_dns_is_where_policies_expect_it() -> None:
    dns = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
    }
    server = policies.DNS_POD.address
    assert not may(WEB, server, 53, policy(egress=[]), protocol="UDP")
    made = policy(egress=[{"to": [dns], "ports": [{"port": 53, "protocol": "UDP"}]}])
    assert may(WEB, server, 53, made, protocol="UDP") and not may(WEB, server, 53, made)


def test_policy_types_left_out_mean_ingress_and_egress_where_there_are_rules() -> None:
    made = policy({"app": "web"})
    del made["spec"]["policyTypes"]
    assert not may(SPY, WEB, 8080, made) and may(WEB, SPY, 9090, made)
    made["spec"]["egress"] = [{"to": [{"podSelector": {}}]}]
    assert not may(WEB, SPY, 9090, made) and may(WEB, DB, 5432, made)


def test_only_pods_of_this_node_are_isolated_here() -> None:
    assert policies.restrictions([policy(namespace="bank", ingress=[])], PODS, NAMESPACES) == []


def test_what_counts_as_a_pod() -> None:
    spec = {"nodeName": NODE, "containers": [{"ports": [{"containerPort": 80, "name": "http"}, {"containerPort": 81}]}]}
    made = {"metadata": {"namespace": "shop", "labels": {"b": "1", "a": "2"}}, "spec": spec, "status": {}}
    assert pod_fact(made, NODE) is None
    found = pod_fact(made, NODE, WEB)
    assert found == PodFact("shop", (("a", "2"), ("b", "1")), WEB, True, (PodPort("http", "TCP", 80),))
    made["status"] = {"podIP": DB}
    assert pod_fact(made, NODE, WEB) == found, "the node knows better"
    assert pod_fact(made, "node-2") == PodFact("shop", found.labels, DB, False, found.ports)
    made["status"] = {"podIP": DB, "phase": "Succeeded"}
    assert pod_fact(made, NODE, WEB) is None, "its address may be another's by now"
    assert pod_fact({**made, "status": {"podIP": DB}, "spec": {**spec, "hostNetwork": True}}, NODE) is None


def test_the_tables_names_fit_into_the_kernel() -> None:
    long = policy(ingress=[{"from": [{"podSelector": {}}], "ports": [{"port": "http"}]}], egress=[])
    long["metadata"]["name"] = "n" * 253
    long["metadata"]["uid"] = "0" * 36
    made = table(policies.restrictions([long], PODS, NAMESPACES))
    assert made.table == TABLE
    assert all(len(name) < 128 for name in (*made.chains, *made.sets))


labels = st.fixed_dictionaries({}, optional={"app": st.sampled_from(["web", "db", "spy"])})
peers = st.one_of(
    st.builds(lambda found: {"podSelector": {"matchLabels": found}}, labels),
    st.builds(lambda team: {"namespaceSelector": {"matchLabels": {"team": team}}}, st.sampled_from(["red", "blue"])),
    st.just({"ipBlock": {"cidr": "10.244.1.0/24", "except": [f"{DB}/32"]}}),
)
rules = st.fixed_dictionaries({}, optional={"from": st.lists(peers, max_size=2)})


@given(labels, st.lists(rules, max_size=3), st.lists(rules, max_size=2))
def test_more_rules_never_forbid_more(selector: dict[str, str], some: list[Any], more: list[Any]) -> None:
    few, many = policy(selector, ingress=some), policy(selector, ingress=some + more)
    for source in (WEB, DB, SPY):
        for destination in (WEB, DB):
            assert may(source, destination, 80, many) >= may(source, destination, 80, few)
