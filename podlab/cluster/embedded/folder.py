"""An embedded cluster on disk: what is where besides the record."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from podlab import paths
from podlab.cluster import folder
from podlab.cluster.folder import Record, write_private
from podlab.trees import remove_tree

__all__ = ["COMPONENTS", "ClusterFolder", "Record", "cluster_folder", "environment", "write_private"]

#: Control plane components, in the order in which they start.
COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")


@dataclass(frozen=True)
class ClusterFolder(folder.ClusterFolder):
    """The paths of one embedded cluster."""

    @property
    def pki(self) -> Path:
        """Certificates and keys."""
        return self.path / "pki"

    @property
    def etcd(self) -> Path:
        """etcd's data: every object of the cluster."""
        return self.path / "etcd"

    @property
    def run(self) -> Path:
        """The folder of Unix sockets (made if missing; its path is short enough for sockets)."""
        return paths.sockets(self.path)

    @property
    def control(self) -> Path:
        """The supervisor's control socket."""
        return self.run / "control.sock"

    def node(self, name: str) -> Path:
        """The private folder of a node: its configuration, its pods' volumes and logs."""
        return self.path / "nodes" / name

    @property
    def outside(self) -> Path:
        """The agents' way to the network outside, for images from registries."""
        return self.run / "outside.sock"

    def remove_sockets(self) -> None:
        """Delete the socket folder, wherever it is."""
        link = self.path / "run"
        if link.is_symlink():
            shutil.rmtree(link.resolve(), ignore_errors=True)
            link.unlink(missing_ok=True)
        else:
            shutil.rmtree(link, ignore_errors=True)

    def remove(self) -> None:
        """Delete the folder and everything in it, also read-only folders that pods left behind.

        The record goes first, so that a half-deleted cluster is not listed.
        """
        self.remove_sockets()
        self.record_file.unlink(missing_ok=True)
        remove_tree(str(self.path))


def cluster_folder(name: str) -> ClusterFolder:
    """The folder of the cluster named `name`, whether it exists or not."""
    return ClusterFolder(paths.clusters() / name)


#: What the cluster's processes inherit of the environment. PYTHONPATH: they must find the same podlab.
_INHERITED = (
    "HOME",
    "LANG",
    "LC_ALL",
    "PATH",
    "PODLAB_HOME",
    "PODLAB_MEMORY",
    "PODLAB_REGISTRIES",
    "PODLAB_RESOLVER",
    "PODLAB_SUPERVISOR",
    "PYTHONPATH",
    "TMPDIR",
    "TZ",
    "XDG_CACHE_HOME",
    "XDG_DATA_HOME",
)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of the cluster's processes: enough to run, no proxies and nothing private of the user's."""
    return {**{name: os.environ[name] for name in _INHERITED if name in os.environ}, **(extra or {})}
