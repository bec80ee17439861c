"""Clusters for benchmarks: a name of their own, always taken down."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from api import PODS, Api, is_ready

from podlab import cluster, waiting
from podlab.cluster.embedded import control
from podlab.cluster.embedded.folder import cluster_folder
from podlab.errors import ClusterNotFound

NAME = f"bench-{os.getpid()}"


def podlab(*arguments: str) -> None:
    """Run the command `podlab` as a user does; its output is shown only if it fails."""
    done = subprocess.run([sys.executable, "-m", "podlab", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"podlab {' '.join(arguments)}: exit status {done.returncode}\n{done.stderr}")


@contextmanager
def taken_down(name: str = NAME) -> Iterator[str]:
    """Whatever happens, no cluster of that name is left."""
    try:
        yield name
    finally:
        try:
            cluster.down(name)
        except ClusterNotFound:
            pass


@contextmanager
def running(nodes: int, name: str = NAME) -> Iterator[Api]:
    """A cluster of `nodes` nodes and its API."""
    with taken_down(name):
        made = cluster.up(name, nodes=nodes)
        yield Api.of_kubeconfig(made.kubeconfig)


def supervisor(name: str = NAME) -> int:
    """The supervisor's process number; 0 if it does not run."""
    found = control.connect(cluster_folder(name).control)
    if found is None:
        return 0
    with found:
        return found.pid


def until_ready(api: Api, app: str, count: int, timeout: float = 300) -> None:
    """Return when `count` pods with the label app=APP are Ready."""

    def ready() -> bool:
        pods = api.get(PODS, labelSelector=f"app={app}")["items"]
        return sum(map(is_ready, pods)) >= count

    waiting.until(ready, f"{count} Ready pods of {app}", timeout=timeout, interval=0.1, state=lambda: states(api, app))


def states(api: Api, app: str) -> str:
    """What the pods of an app wait for, in a few words."""
    words = []
    for pod in api.get(PODS, labelSelector=f"app={app}")["items"]:
        status = pod.get("status", {})
        waits = [one["state"].get("waiting", {}).get("reason", "") for one in status.get("containerStatuses") or []]
        words.append(f"{pod['metadata']['name']} {status.get('phase')} {' '.join(filter(None, waits))}".strip())
    return "; ".join(words[:10])
