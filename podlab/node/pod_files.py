"""A pod's name and its /etc/hostname, /etc/hosts and /etc/resolv.conf. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

#: The kernel's limit for a host name (sysctl kernel.hostname: 64 bytes with the final zero).
HOSTNAME_MAX = 63
#: Kubernetes' limits for resolv.conf (k8s.io/kubernetes/pkg/apis/core/validation).
NAMESERVERS_MAX, SEARCHES_MAX, SEARCH_LINE_MAX, SEARCH_MAX = 3, 32, 2048, 253

_MANAGED = "# Kubernetes-managed hosts file"
_LOOPBACK = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"""


def names(pod: Mapping[str, Any], cluster_domain: str, node_name: str) -> tuple[str, str]:
    """(hostname, domain) of a pod; the domain is "" unless the pod has a subdomain.

    ValueError if setHostnameAsFQDN asks for a name that the kernel cannot hold.
    """
    spec, metadata = pod["spec"], pod["metadata"]
    if spec.get("hostnameOverride"):
        return spec["hostnameOverride"], ""
    if spec.get("hostNetwork") and not spec.get("hostname"):
        return node_name[:HOSTNAME_MAX], ""
    hostname = (spec.get("hostname") or metadata["name"])[:HOSTNAME_MAX].rstrip("-.")
    domain = ""
    if spec.get("subdomain"):
        domain = f"{spec['subdomain']}.{metadata['namespace']}.svc.{cluster_domain}"
    if domain and spec.get("setHostnameAsFQDN"):
        full = f"{hostname}.{domain}"
        if len(full) > HOSTNAME_MAX + 1:
            raise ValueError(
                f"Failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long "
                f"({HOSTNAME_MAX + 1} is the max characters allowed)."
            )
    return hostname, domain


def kernel_hostname(pod: Mapping[str, Any], hostname: str, domain: str) -> str:
    """What `hostname` prints in the pod: the full name where setHostnameAsFQDN asks for it."""
    return f"{hostname}.{domain}" if domain and pod["spec"].get("setHostnameAsFQDN") else hostname


def node_hosts(name: str, address: str) -> str:
    """The text of a node's own /etc/hosts."""
    return f"{_LOOPBACK}{address}\t{name}\n"


def hosts(pod: Mapping[str, Any], hostname: str, domain: str, addresses: Iterable[str], node: str) -> str:
    """The text of /etc/hosts; in the node's own network it begins with that of the `node`."""
    own = pod["spec"].get("hostNetwork")
    name = f"{hostname}.{domain}\t{hostname}" if domain else hostname
    lines = [] if own else [f"{address}\t{name}\n" for address in addresses]
    aliases = pod["spec"].get("hostAliases") or ()
    if aliases:
        lines.append("\n# Entries added by HostAliases.\n")
        lines += ["\t".join([alias["ip"], *(alias.get("hostnames") or ())]) + "\n" for alias in aliases]
    head = f"{_MANAGED} (host network).\n{node}" if own else f"{_MANAGED}.\n{_LOOPBACK}"
    return head + "".join(lines)


def resolv_conf(pod: Mapping[str, Any], *, server: str, cluster_domain: str) -> str:
    """The text of /etc/resolv.conf by dnsPolicy and dnsConfig.

    The node's own resolver (dnsPolicy Default) is the cluster's DNS without search domains: nothing of the
    host's resolv.conf enters a pod, since the host's resolvers are in another network.
    """
    spec = pod["spec"]
    policy = spec.get("dnsPolicy") or "ClusterFirst"
    on_host = spec.get("hostNetwork") and policy == "ClusterFirst"
    servers: list[str] = [] if policy == "None" else [server]
    searches: list[str] = []
    options: dict[str, str | None] = {}
    if policy in ("ClusterFirst", "ClusterFirstWithHostNet") and not on_host:
        namespace = pod["metadata"]["namespace"]
        searches = [f"{namespace}.svc.{cluster_domain}", f"svc.{cluster_domain}", cluster_domain]
        options = {"ndots": "5"}
    own = spec.get("dnsConfig") or {}
    servers = _unique([*servers, *(own.get("nameservers") or ())])[:NAMESERVERS_MAX]
    searches = _fitting(_unique([*searches, *(own.get("searches") or ())]))
    for option in own.get("options") or ():
        options[option["name"]] = option.get("value")
    lines = [f"search {' '.join(searches)}"] if searches else []
    lines += [f"nameserver {address}" for address in servers]
    if options:
        words = [name if value is None else f"{name}:{value}" for name, value in options.items()]
        lines.append(f"options {' '.join(words)}")
    return "".join(line + "\n" for line in lines)


def _unique(values: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _fitting(searches: Sequence[str]) -> list[str]:
    """The search domains that fit the limits of resolvers, first ones first."""
    chosen: list[str] = []
    for search in searches[:SEARCHES_MAX]:
        if len(search) <= SEARCH_MAX and len(" ".join([*chosen, search])) <= SEARCH_LINE_MAX:
            chosen.append(search)
    return chosen
