from __future__ import annotations

from typing import Any

import pytest

from podlab.network.services import Backend, Refusal, ServicePort, service_ports

ONE, TWO, THREE = Backend("10.244.1.2", 8080, True), Backend("10.244.2.2", 8080), Backend("10.244.3.2", 8080)
NODES = {ONE: "node-1", TWO: "node-2", THREE: "node-3"}


def service(**spec: Any) -> dict[str, Any]:
    metadata = {"namespace": "default", "name": "web", "labels": spec.pop("labels", {})}
    status = spec.pop("status", {})
    port = {"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}
    return {
        "metadata": metadata,
        "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.50", "ports": [port], **spec},
        "status": status,
    }


def endpoint(backend: Backend, hints: dict[str, Any] | None = None, **conditions: bool | None) -> dict[str, Any]:
    made = {"addresses": [backend.address], "conditions": conditions, "nodeName": NODES[backend]}
    return made | ({"hints": hints} if hints else {})


def slice_of(*endpoints: dict[str, Any], **changes: Any) -> dict[str, Any]:
    ports = [{"name": "http", "port": 8080, "protocol": "TCP"}]
    return {"addressType": "IPv4", "ports": ports, "endpoints": list(endpoints), **changes}


def only(made: dict[str, Any], *slices: dict[str, Any], zone: str | None = None) -> ServicePort:
    (port,) = service_ports(made, slices, "node-1", zone)
    return port


READY = {"ready": True, "serving": True, "terminating": False}
LEAVING = {"ready": False, "serving": True, "terminating": True}
BROKEN = {"ready": False, "serving": False, "terminating": False}
GONE = {"ready": False, "serving": False, "terminating": True}


@pytest.mark.parametrize(
    ("conditions", "cluster", "local"),
    [
        # Conditions of the endpoints on node 1 (this one), 2 and 3; what the policies Cluster and Local make of them.
        ([READY, READY, READY], (ONE, TWO, THREE), (ONE,)),
        ([BROKEN, READY, READY], (TWO, THREE), Refusal.DROP),
        ([LEAVING, READY, READY], (TWO, THREE), (ONE,)),
        ([LEAVING, LEAVING, BROKEN], (ONE, TWO), (ONE,)),
        ([BROKEN, LEAVING, GONE], (TWO,), Refusal.DROP),
        ([BROKEN, BROKEN, GONE], Refusal.REJECT, Refusal.REJECT),
        ([{}, {"ready": None}, GONE], (ONE, TWO), (ONE,)),
    ],
)
def test_ready_endpoints_are_used_and_serving_ones_while_there_is_no_other(
    conditions: list[dict[str, Any]], cluster: Any, local: Any
) -> None:
    made = slice_of(*(endpoint(backend, **each) for backend, each in zip(NODES, conditions, strict=True)))
    for inner, outer in (("Cluster", "Local"), ("Local", "Cluster"), ("Local", "Local")):
        port = only(service(internalTrafficPolicy=inner, externalTrafficPolicy=outer), made)
        assert port.internal == (cluster if inner == "Cluster" else local)
        assert port.external == (cluster if outer == "Cluster" else local)
        assert port.cluster == cluster
        assert port.external_local == (outer == "Local")


def test_no_slice_at_all_is_a_refusal() -> None:
    assert only(service()).internal is Refusal.REJECT


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "ExternalName", "externalName": "example.com"},
        {"clusterIP": "None"},
        {"clusterIP": ""},
        {"clusterIP": None},
        {"clusterIP": "fd00::1"},
        {"labels": {"service.kubernetes.io/service-proxy-name": "mine"}},
        {"labels": {"service.kubernetes.io/headless": ""}},
    ],
)
def test_services_that_are_not_ours_have_no_ports(changes: dict[str, Any]) -> None:
    assert service_ports(service(**changes), [slice_of(endpoint(ONE, **READY))], "node-1") == []


def test_ports_find_their_endpoints_by_name_and_protocol() -> None:
    ports = [
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
        {"name": "stream", "port": 9, "protocol": "SCTP"},
    ]
    slices = [
        slice_of(
            endpoint(ONE, **READY),
            ports=[{"name": "dns", "port": 5353, "protocol": "UDP"}, {"name": "dns-tcp", "port": 5354}],
        ),
        slice_of(endpoint(TWO, **READY), ports=[{"name": "dns", "port": 1053, "protocol": "UDP"}]),
        slice_of(endpoint(THREE, **READY), addressType="IPv6"),
        slice_of(endpoint(THREE, **READY), ports=None),
    ]
    udp, tcp = service_ports(service(ports=ports), slices, "node-1")
    assert (udp.protocol, udp.title) == ("UDP", "default/web/udp/dns")
    assert udp.internal == (Backend("10.244.1.2", 5353, True), Backend("10.244.2.2", 1053))
    assert tcp.internal == (Backend("10.244.1.2", 5354, True),)


def test_an_unnamed_port_matches_an_unnamed_one() -> None:
    port = only(service(ports=[{"port": 80}]), slice_of(endpoint(ONE, **READY), ports=[{"name": "", "port": 8080}]))
    assert port.internal == (ONE,) and port.title == "default/web/tcp/80"


def test_an_endpoint_in_two_slices_counts_once_and_is_ready_if_one_says_so() -> None:
    for order in ((READY, BROKEN), (BROKEN, READY)):
        slices = [slice_of(endpoint(ONE, **conditions)) for conditions in order]
        assert only(service(), *slices).internal == (ONE,)


def test_affinity_has_upstreams_default() -> None:
    assert only(service()).affinity is None
    assert only(service(sessionAffinity="ClientIP")).affinity == 10800
    configured = service(sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 5}})
    assert only(configured).affinity == 5


def test_external_addresses_are_those_given_and_those_of_load_balancers() -> None:
    ingress = [{"ip": "192.0.2.1"}, {"ip": "192.0.2.2", "ipMode": "Proxy"}, {"hostname": "x"}, {"ip": "fd00::1"}]
    status = {"loadBalancer": {"ingress": ingress}}
    balanced = service(type="LoadBalancer", externalIPs=["203.0.113.1"], status=status)
    assert only(balanced).external_ips == ("203.0.113.1", "192.0.2.1")
    assert only(service(status=status)).external_ips == ()


def hints(nodes: str = "", zones: str = "") -> dict[str, Any]:
    made: dict[str, Any] = {"forNodes": [{"name": name} for name in nodes.split()]}
    return made | {"forZones": [{"name": name} for name in zones.split()]}


@pytest.mark.parametrize(
    ("given", "zone", "expected"),
    [
        (["a", "b", "b"], "a", (ONE,)),
        (["a", "b", "b"], "b", (TWO, THREE)),
        (["a", "b", "b"], "c", (ONE, TWO, THREE)),
        (["a", "b", ""], "a", (ONE, TWO, THREE)),
        (["a", "b", "b"], None, (ONE, TWO, THREE)),
    ],
)
def test_zone_hints_are_followed_when_complete_and_useful(given: list[str], zone: str | None, expected: Any) -> None:
    listed = [endpoint(backend, hints(zones=each), **READY) for backend, each in zip(NODES, given, strict=True)]
    assert only(service(), slice_of(*listed), zone=zone).internal == expected


def test_node_hints_come_before_zone_hints() -> None:
    listed = [
        endpoint(ONE, hints("node-2", "a"), **READY),
        endpoint(TWO, hints("node-1", "b"), **READY),
        endpoint(THREE, hints("node-3", "a"), **READY),
    ]
    assert only(service(), slice_of(*listed), zone="a").internal == (TWO,)
