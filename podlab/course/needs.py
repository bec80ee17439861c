"""What a chapter needs beside a cluster: programs of add-ons and Python packages, named in its header."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from podlab.cluster.embedded import binaries


def missing(about: Mapping[str, Any]) -> list[str]:
    """The programs and packages of a chapter's header (or card) that are not on this machine. Uses no network."""
    wanted = list(about.get("programs") or ())
    located = binaries.locate(wanted) if wanted else {}
    lacks = [name for name in wanted if located[name] is None]
    return lacks + [name for name in about.get("packages") or () if find_spec(name) is None]


def told(names: list[str]) -> str:
    """What is missing, and how to get it."""
    programs = [name for name in names if name in binaries.PROGRAMS]
    packages = [name for name in names if name not in programs]
    ways = [f"podlab binaries ensure {' '.join(programs)}"] if programs else []
    ways += [f"pip install {' '.join(packages)}"] if packages else []
    return f"{', '.join(names)} not on this machine: {'; '.join(ways)}"
