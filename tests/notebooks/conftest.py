"""Clusters for notebooks, in a home of their own; nothing of them is left at the end."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import packages_for_kind
import pytest
from providers import PROVIDER

from podlab import cluster as clusters
from podlab.cluster import Cluster
from podlab.cluster.embedded import binaries

#: The clusters: one for chapters that leave nodes alone, one for those that take nodes away.
CALM, FAULTS = "notebooks", "notebooks-faults"


@pytest.fixture(scope="session")
def notebook_clusters() -> Iterator[dict[str, Cluster]]:
    """Two running clusters by name; three nodes of each take pods."""
    nodes = 4 if PROVIDER == "kind" else 3  # kind's control plane takes none
    located = binaries.locate([name for name in binaries.PROGRAMS if name not in binaries.ALL])
    programs = binaries.ensure() | {name: found.path for name, found in located.items() if found}
    # A short path: sockets are in it.
    folder = Path(tempfile.mkdtemp(prefix="pln-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PODLAB_HOME", str(folder))
        # nbgrader calls `alembic` by name.
        patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        for name, path in programs.items():
            patch.setenv(binaries.variable(name), str(path))
        for name in ("PODLAB_CLUSTER", "PODLAB_KUBECONFIG", "PODLAB_NAMESPACE", "KUBECONFIG"):
            patch.delenv(name, raising=False)
        packages_for_kind.give(folder)
        try:
            yield {name: clusters.up(name, nodes=nodes, provider_name=PROVIDER) for name in (CALM, FAULTS)}
        finally:
            for name in (CALM, FAULTS):
                with contextlib.suppress(Exception):
                    clusters.down(name)
            shutil.rmtree(folder, ignore_errors=True)
