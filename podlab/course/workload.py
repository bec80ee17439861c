"""The movie site's serving part as the chapters run it: its program, its settings, its page."""

from __future__ import annotations

from importlib import resources

from podlab.checks.api import Object
from podlab.checks.world import OURS

#: The page that clients ask for.
PAGE = "/recommend/123"
SERVICE = "serving"


def program() -> str:
    """The source of the serving program."""
    return resources.files("podlab.course").joinpath("programs/serving.py").read_text()


def objects(*, start_seconds: float = 0) -> list[Object]:
    """The ConfigMaps that every manifest of this chapter mounts: the program, and its settings."""
    labels = {OURS: "workload"}
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "serving-program", "labels": labels},
            "data": {"serving.py": program()},
        },
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "serving-settings", "labels": labels},
            "data": {"START_SECONDS": f"{start_seconds:g}"},
        },
    ]
