"""Python packages for kind's nodes: `python packages_for_kind.py` fetches them into the user's own cache.

The lab has no network: they are fetched before it is entered, and a test run's home is given them from there.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from providers import PROVIDER

from podlab import paths
from podlab.addons import TABLE
from podlab.commands import movies_pods
from podlab.images.packages import wheels

#: That of the lab's nodes, which are of Debian 12.
PYTHON = "3.11"


def fetch() -> list[Path]:
    """The folders, made if they are missing."""
    of_addons = [wheels(addon.name, addon.packages, PYTHON) for addon in TABLE.values() if addon.packages]
    return [movies_pods.packages(PYTHON), *of_addons]


def give(home: Path) -> None:
    """Give a PODLAB_HOME what pods on kind need, where kind is tested."""
    if PROVIDER != "kind":
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PODLAB_HOME", raising=False)
        found = fetch()
    for kept in found:
        shutil.copytree(kept, home / "cache" / "images-made" / kept.name, copy_function=paths.link_or_copy)


if __name__ == "__main__":
    fetch()
