from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pods import made

from podlab.node.agent import _write_node_files
from podlab.node.pod_files import hosts, kernel_hostname, names, node_hosts, resolv_conf

DOMAIN = "cluster.local"


def conf(**spec: Any) -> list[str]:
    return resolv_conf(made(**spec), server="10.96.0.10", cluster_domain=DOMAIN).splitlines()


@pytest.mark.parametrize(
    ("spec", "hostname", "domain", "kernel"),
    [
        ({}, "web", "", "web"),
        ({"hostname": "db-0"}, "db-0", "", "db-0"),
        ({"hostname": "db-0", "subdomain": "db"}, "db-0", "db.shop.svc.cluster.local", "db-0"),
        (
            {"hostname": "db-0", "subdomain": "db", "setHostnameAsFQDN": True},
            "db-0",
            "db.shop.svc.cluster.local",
            "db-0.db.shop.svc.cluster.local",
        ),
        ({"hostNetwork": True}, "node-1", "", "node-1"),
    ],
)
def test_names(spec: dict[str, Any], hostname: str, domain: str, kernel: str) -> None:
    pod = made(**spec)
    assert names(pod, DOMAIN, "node-1") == (hostname, domain)
    assert kernel_hostname(pod, hostname, domain) == kernel


def test_a_long_pod_name_is_cut_to_what_the_kernel_holds() -> None:
    pod = made()
    pod["metadata"]["name"] = "a" * 62 + "-" + "b" * 100
    assert names(pod, DOMAIN, "node-1")[0] == "a" * 62


def test_a_full_name_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        names(made(hostname="h" * 50, subdomain="s" * 30, setHostnameAsFQDN=True), DOMAIN, "node-1")


def test_in_the_nodes_network_a_pod_has_the_nodes_hosts() -> None:
    own = node_hosts("node-1", "172.18.0.11")
    assert "172.18.0.11\tnode-1\n" in own
    aliases = [{"ip": "10.0.0.1", "hostnames": ["db"]}]
    text = hosts(made(hostNetwork=True, hostAliases=aliases), "node-1", "", ["172.18.0.11"], own)
    assert text.startswith("# Kubernetes-managed hosts file (host network).\n" + own)
    assert text.endswith("10.0.0.1\tdb\n") and text.count("172.18.0.11") == 1


def test_hosts() -> None:
    aliases = [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]
    text = hosts(made(hostAliases=aliases), "web", "sub.shop.svc.cluster.local", ["10.244.1.2"], "")
    assert text.startswith("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n")
    assert "10.244.1.2\tweb.sub.shop.svc.cluster.local\tweb\n" in text
    assert text.endswith("\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n")


def test_the_clusters_dns_comes_first() -> None:
    assert conf() == [
        "search shop.svc.cluster.local svc.cluster.local cluster.local",
        "nameserver 10.96.0.10",
        "options ndots:5",
    ]


def test_dns_policy_none_has_only_what_is_declared() -> None:
    config = {
        "nameservers": ["9.9.9.9"],
        "searches": ["example.com"],
        "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
    }
    assert conf(dnsPolicy="None", dnsConfig=config) == [
        "search example.com",
        "nameserver 9.9.9.9",
        "options ndots:2 edns0",
    ]


def test_declared_dns_is_added_without_doubles() -> None:
    config = {"nameservers": ["10.96.0.10", "9.9.9.9"], "options": [{"name": "ndots", "value": "1"}]}
    assert conf(dnsConfig=config)[1:] == ["nameserver 10.96.0.10", "nameserver 9.9.9.9", "options ndots:1"]


def test_the_hosts_resolver_never_shows() -> None:
    assert conf(dnsPolicy="Default") == ["nameserver 10.96.0.10"]
    assert conf(hostNetwork=True, dnsPolicy="ClusterFirst") == ["nameserver 10.96.0.10"]
    assert conf(hostNetwork=True, dnsPolicy="ClusterFirstWithHostNet")[0].startswith("search shop.svc")


def test_limits_of_resolvers() -> None:
    config = {"nameservers": [f"1.1.1.{n}" for n in range(9)], "searches": ["x" * 260, *(f"d{n}" for n in range(60))]}
    lines = conf(dnsPolicy="None", dnsConfig=config)
    assert sum(line.startswith("nameserver") for line in lines) == 3
    assert "x" * 260 not in lines[0] and len(lines[0].split()) <= 33


@pytest.mark.parametrize("linked", ["etc", "etc/hosts", "tmp", None])
def test_a_node_writes_its_own_files_once_and_through_no_link(tmp_path: Path, linked: str | None) -> None:
    host, outside = tmp_path / "host", tmp_path / "outside"
    outside.mkdir()
    if linked:
        (host / linked).parent.mkdir(parents=True)
        (host / linked).symlink_to(outside / "new" if linked == "etc/hosts" else outside)
    configuration: Any = SimpleNamespace(name="node-1", address="172.18.0.11")
    _write_node_files(host, configuration)
    assert not list(outside.iterdir())
    if not linked:
        hosts = host / "etc" / "hosts"
        assert "node-1" in hosts.read_text()
        hosts.write_text("changed")
        _write_node_files(host, configuration)
        assert hosts.read_text() == "changed"
        # Where a pod may write, whoever it is, as everywhere.
        assert (host / "tmp").stat().st_mode & 0o7777 == 0o1777
