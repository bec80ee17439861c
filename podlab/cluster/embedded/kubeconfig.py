"""Kubeconfig files for the cluster's own clients."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from podlab.cluster.folder import context_name, write_private


def build(cluster: str, server: str, pki: Path, identity: str) -> dict[str, Any]:
    """A kubeconfig that shows the certificate `identity` of `pki` to `server` (https://HOST:PORT)."""

    def data(name: str) -> str:
        return base64.b64encode((pki / name).read_bytes()).decode()

    name = context_name(cluster)
    authority = {"server": server, "certificate-authority-data": data("ca.crt")}
    keys = {
        "client-certificate-data": data(f"{identity}.crt"),
        "client-key-data": data(f"{identity}.key"),
    }
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": authority}],
        "users": [{"name": name, "user": keys}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }


def write(config: dict[str, Any], path: Path) -> None:
    """Write a kubeconfig (JSON, which is YAML too; 0600), atomically."""
    write_private(path, json.dumps(config, indent=1) + "\n")
