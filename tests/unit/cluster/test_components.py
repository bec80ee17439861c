"""The table of components: flags that keep the control plane private, and timers that do not flap."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from podlab.cluster.embedded import components, objects
from podlab.cluster.embedded.components import BY_NAME, PROFILES, TABLE, Context
from podlab.network import addresses

PORTS = {"kube-apiserver": 40001, "kube-controller-manager": 40002, "kube-scheduler": 40003}


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(tmp_path / "pki", tmp_path / "etcd", tmp_path / "run", PORTS, PROFILES["lab"])


def flags(name: str, context: Context) -> dict[str, str]:
    pairs = [argument.removeprefix("--").partition("=") for argument in BY_NAME[name].arguments(context)]
    assert len({name for name, _, _ in pairs}) == len(pairs), "a flag is given twice"
    return {name: value for name, _, value in pairs}


@pytest.mark.parametrize("component", [component for component in TABLE if component.port], ids=lambda c: c.name)
def test_listeners_are_on_loopback_with_the_chosen_port(component: components.Component, context: Context) -> None:
    given = flags(component.name, context)
    assert given["bind-address"] == "127.0.0.1"
    assert given["secure-port"] == str(PORTS[component.name])
    assert given["profiling"] == "false"
    assert component.probe(context).port == PORTS[component.name]


def test_the_timers_of_the_lab_are_said_beside_those_of_kubernetes() -> None:
    text = (Path(__file__).parents[3] / "docs" / "limits.md").read_text()
    (said,) = (line for line in text.splitlines() if line.startswith("| timers |"))
    lab, upstream = PROFILES["lab"], PROFILES["upstream"]
    for name in ("monitor_grace", "toleration", "lease_period", "lease_duration"):
        assert re.search(rf"\b{getattr(lab, name):g}\b[^,]*\(upstream {getattr(upstream, name):g}\b", said), name


def test_etcd_listens_on_unix_sockets_only(context: Context) -> None:
    urls = {name: value for name, value in flags("etcd", context).items() if "urls" in name}
    assert len(urls) == 4
    assert all(value.startswith("unix://") for value in urls.values())
    # With a path, etcd's peer listener would use a socket in the abstract namespace, open to every user.
    assert all("/" not in value.removeprefix("unix://") for name, value in urls.items() if "peer" in name)


@pytest.mark.parametrize("name", addresses.DOORS)
def test_a_door_leads_to_what_authenticates_and_authorizes_by_itself(name: str, context: Context) -> None:
    given = flags(name, context)
    reviewed = {"authentication-kubeconfig", "authorization-kubeconfig"} <= set(given)
    assert reviewed or given["authorization-mode"] == "Node,RBAC"
    assert "authorization-always-allow-paths" not in given


def test_every_other_door_is_found_by_a_service_of_its_name() -> None:
    found: dict[str, dict] = {}
    for _, thing in objects.control_plane_services():
        assert thing["metadata"]["namespace"] == "kube-system"
        found.setdefault(thing["kind"], {})[thing["metadata"]["name"]] = thing
    doors = {name: port for name, port in addresses.DOORS.items() if name != "kube-apiserver"}
    assert set(found["Service"]) == set(found["EndpointSlice"]) == set(doors)
    for name, port in doors.items():
        leads = found["EndpointSlice"][name]
        assert leads["metadata"]["labels"]["kubernetes.io/service-name"] == name
        assert leads["endpoints"][0]["addresses"] == [addresses.BACKBONE]
        assert leads["ports"] == found["Service"][name]["spec"]["ports"]
        assert leads["ports"][0]["port"] == port


def test_authorization_and_kubelet_addresses(context: Context) -> None:
    given = flags("kube-apiserver", context)
    assert given["authorization-mode"] == "Node,RBAC"
    assert "NodeRestriction" in given["enable-admission-plugins"]
    assert given["kubelet-preferred-address-types"] == "InternalIP"
    assert given["endpoint-reconciler-type"] == "none"


@pytest.mark.parametrize("name", PROFILES)
def test_a_node_may_miss_three_leases(name: str) -> None:
    timers = PROFILES[name]
    assert timers.monitor_grace >= 4 * timers.lease_period
    assert timers.monitor_period < timers.monitor_grace


def test_profiles_reach_the_flags(context: Context) -> None:
    manager, server = flags("kube-controller-manager", context), flags("kube-apiserver", context)
    assert manager["node-monitor-grace-period"] == "8s"
    assert server["default-not-ready-toleration-seconds"] == "20"
    assert manager["allocate-node-cidrs"] == "false"


def test_only_the_cluster_is_reached_through_the_egress_socket(context: Context) -> None:
    (selection,) = components.egress_configuration(context)["egressSelections"]
    assert selection["name"] == "cluster"
    assert selection["connection"]["transport"]["uds"]["udsName"] == str(context.egress_socket)


def test_configuration_files_are_private(context: Context) -> None:
    context.pki.mkdir()
    components.write_configuration(context)
    anonymous = json.loads(context.authentication_configuration.read_text())["anonymous"]
    assert {c["path"] for c in anonymous["conditions"]} == {"/livez", "/readyz", "/healthz", "/version"}
    assert {file.stat().st_mode & 0o077 for file in context.pki.iterdir()} == {0}
