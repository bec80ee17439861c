"""kind's configuration for one cluster: `cluster/kind.yaml` with what the options say, as pure functions."""

from __future__ import annotations

import copy
import json
from collections.abc import Collection
from typing import Any

import yaml

from podlab import paths
from podlab.cluster.kind.runtime import MARKS
from podlab.cluster.provider import ClusterSpec

Configuration = dict[str, Any]

#: Timers of the lab profile, in seconds: grace of the node controller and how often a kubelet reports.
LAB_GRACE, LAB_REPORT, LAB_TOLERATION = 16, 4, 20


def read() -> Configuration:
    """The committed configuration."""
    return yaml.safe_load(paths.committed("kind.yaml").read_text())


def host_ports(base: Configuration) -> list[int]:
    """The ports of this machine that nodes are to have."""
    return [one["hostPort"] for node in base["nodes"] for one in node.get("extraPortMappings", [])]


def render(
    base: Configuration, spec: ClusterSpec, image: str | None, taken: Collection[int], mark: str
) -> Configuration:
    """`base` for `spec`: one control plane and `spec.nodes - 1` workers (a single node does both).

    `image` replaces the node image if given. Host ports that are `taken` are left out: another cluster has them.
    `mark` is put on every node, so that it is known as ours.
    """
    result = copy.deepcopy(base)
    control, worker = result["nodes"][0], result["nodes"][1]
    nodes = [control, *(copy.deepcopy(worker) for _ in range(spec.nodes - 1))]
    control["extraPortMappings"] = [one for one in control["extraPortMappings"] if one["hostPort"] not in taken]
    for node in nodes:
        # A device that is wherever nodes run; a folder of this machine might not be.
        node["extraMounts"] = [{"hostPath": "/dev/null", "containerPath": f"{MARKS}/{mark}", "readOnly": True}]
        if image:
            node["image"] = image
    result["nodes"] = nodes
    if spec.profile == "lab":
        result["kubeadmConfigPatches"] = [*result.get("kubeadmConfigPatches", []), *_lab_patches()]
    return result


def _lab_patches() -> list[str]:
    """Short timers, so that a lesson shows the loss of a node in half a minute instead of six."""
    kubelet = {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "nodeStatusUpdateFrequency": f"{LAB_REPORT}s",
    }
    api_server = [
        {"name": "default-not-ready-toleration-seconds", "value": str(LAB_TOLERATION)},
        {"name": "default-unreachable-toleration-seconds", "value": str(LAB_TOLERATION)},
    ]
    cluster = {
        "kind": "ClusterConfiguration",
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "apiServer": {"extraArgs": api_server},
        "controllerManager": {"extraArgs": [{"name": "node-monitor-grace-period", "value": f"{LAB_GRACE}s"}]},
    }
    return [json.dumps(kubelet), json.dumps(cluster)]
