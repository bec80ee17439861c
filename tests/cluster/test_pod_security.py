"""securityContext and what belongs to it, as pods see it; and what a node refuses, in words."""

from __future__ import annotations

from typing import Any

import pytest
from lifecycle import Pods, container, pod

from podlab.cluster import Cluster
from podlab.waiting import until


@pytest.fixture
def pods(shared: Cluster, kubectl: Any, namespace: str) -> Pods:
    return Pods(kubectl, shared, namespace)


def test_a_restricted_pod_is_restricted(pods: Pods) -> None:
    script = """
    id -u; id -g; grep -E 'CapBnd|NoNewPrivs|Seccomp:' /proc/self/status | tr -d '[:blank:]'
    touch /file || echo root is read-only; touch /tmp/file || echo tmp as well; unshare -U true || echo no namespaces
    """
    context = {
        "runAsUser": 1001,
        "runAsGroup": 2002,
        "runAsNonRoot": True,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    pods.apply(pod("restricted", container(script=script, securityContext=context), restartPolicy="Never"))
    pods.phase("restricted", "Succeeded")
    lines = [line for line in pods.logs("restricted").splitlines() if ": " not in line]
    assert lines == [
        *("1001", "2002", "CapBnd:0000000000000400", "NoNewPrivs:1", "Seccomp:2"),
        *("root is read-only", "tmp as well", "no namespaces"),
    ]


def test_a_pods_own_settings_of_the_kernel(pods: Pods) -> None:
    script = "cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_local_port_range"
    sysctls = [
        {"name": "kernel.shm_rmid_forced", "value": "1"},
        {"name": "net/ipv4/ip_local_port_range", "value": "2000 3000"},
    ]
    unsafe = [{"name": "net.core.somaxconn", "value": "10"}]
    pods.apply(
        pod("tuned", container(script=script), securityContext={"sysctls": sysctls}, restartPolicy="Never"),
        pod("unsafe", securityContext={"sysctls": unsafe}),
    )
    status = pods.phase("unsafe", "Failed")
    assert status["reason"] == "SysctlForbidden"
    assert "net.core.somaxconn" in status["message"]
    pods.phase("tuned", "Succeeded")
    assert pods.logs("tuned").split() == ["1", "2000", "3000"]


@pytest.mark.embedded("the words are those of podlab's own node")
def test_what_this_node_has_not_is_said(pods: Pods) -> None:
    profile = {"seccompProfile": {"type": "Localhost", "localhostProfile": "mine.json"}}
    armour = {"appArmorProfile": {"type": "RuntimeDefault"}}
    handler = f"vm-{pods.namespace}"
    kind = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": handler}}
    pods.apply({**kind, "handler": "kata"})
    until(lambda: handler in pods.run("get", "runtimeclass", "-o", "name"), "the RuntimeClass", timeout=60)
    pods.apply(
        pod("filtered", container(securityContext=profile)),
        pod("flying", container(securityContext={"capabilities": {"add": ["FLY"]}})),
        pod("armoured", securityContext=armour),
        pod("elsewhere", runtimeClassName=handler),
    )
    assert pods.phase("armoured", "Failed")["reason"] == "AppArmor"
    for name, text in (("filtered", "mine.json"), ("flying", "unknown capability")):
        status = pods.waiting(name, "CreateContainerConfigError")
        assert text in status["containerStatuses"][0]["state"]["waiting"]["message"]
    message = pods.event("elsewhere", "FailedCreatePodSandBox")["message"]
    assert 'no runtime for "kata" is configured' in message
    pods.run("delete", "runtimeclass", handler)


def test_a_pod_finds_the_keys_that_tokens_are_signed_with(pods: Pods) -> None:
    script = """
import json, ssl, urllib.request
folder = "/var/run/secrets/kubernetes.io/serviceaccount/"
trusted = ssl.create_default_context(cafile=folder + "ca.crt")
def get(url):
    asked = urllib.request.Request(url, headers={"Authorization": "Bearer " + open(folder + "token").read()})
    return json.load(urllib.request.urlopen(asked, context=trusted, timeout=20))
about = get("https://kubernetes.default.svc/.well-known/openid-configuration")
print(about["issuer"], len(get(about["jwks_uri"])["keys"]))
"""
    main = {"name": "main", "image": "podlab/python:3", "command": ["python", "-c", script]}
    pods.apply(pod("verifier", main, restartPolicy="Never"))
    pods.phase("verifier", "Succeeded")
    assert pods.logs("verifier").split() == ["https://kubernetes.default.svc.cluster.local", "1"]
