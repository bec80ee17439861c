"""Where the suite is kept: everything in one folder of the user's cache, per version of Kubernetes."""

from __future__ import annotations

from pathlib import Path

from podlab import paths
from podlab.cluster.embedded.binaries import VERSION

#: The folder of this module: go.mod, Dockerfiles, lists.
HERE = Path(__file__).resolve().parent
#: The page that a whole run writes.
PAGE = HERE.parents[1] / "docs" / "conformance.md"

__all__ = ["HERE", "PAGE", "VERSION", "folder", "home"]


def folder() -> Path:
    """The folder of this version in the user's own cache, made if it is missing."""
    return paths.private(paths.private(paths.cache() / "conformance") / VERSION)


def home(suite: Path) -> Path:
    """PODLAB_HOME of the suite's clusters: its images stay out of the user's own store."""
    return paths.private(suite / "home")
