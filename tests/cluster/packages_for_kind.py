"""Python packages for kind's nodes, fetched into the user's cache before the lab is entered, which has no network."""

from __future__ import annotations

from pathlib import Path

from podlab.addons import TABLE
from podlab.commands import movies_pods
from podlab.images.packages import wheels

#: That of the lab's nodes, which are of Debian 12.
PYTHON = "3.11"


def fetch() -> list[Path]:
    """The folders, made if they are missing."""
    of_addons = [wheels(addon.name, addon.packages, PYTHON) for addon in TABLE.values() if addon.packages]
    return [movies_pods.packages(PYTHON), *of_addons]


if __name__ == "__main__":
    fetch()
