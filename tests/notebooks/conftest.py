"""A cluster for notebooks, in a home of its own; nothing of it is left at the end."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from podlab import cluster as clusters
from podlab.cluster import Cluster
from podlab.cluster.embedded import binaries

NAME = "notebooks"


@pytest.fixture(scope="session")
def notebook_cluster() -> Iterator[Cluster]:
    """A running cluster of three nodes which the labs of this run use."""
    located = binaries.locate([name for name in binaries.PROGRAMS if name not in binaries.ALL])
    programs = binaries.ensure() | {name: found.path for name, found in located.items() if found}
    # A short path: sockets are in it.
    folder = Path(tempfile.mkdtemp(prefix="pln-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PODLAB_HOME", str(folder))
        patch.setenv("PODLAB_CLUSTER", NAME)
        # nbgrader calls `alembic` by name.
        patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        for name, path in programs.items():
            patch.setenv(binaries.variable(name), str(path))
        for name in ("PODLAB_KUBECONFIG", "PODLAB_NAMESPACE", "KUBECONFIG"):
            patch.delenv(name, raising=False)
        try:
            yield clusters.up(NAME, nodes=3)
        finally:
            with contextlib.suppress(Exception):
                clusters.down(NAME)
            shutil.rmtree(folder, ignore_errors=True)
