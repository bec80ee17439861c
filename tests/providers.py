"""The provider under test, and what cannot be passed on it: `make test-kind` runs the same tests on a kind cluster."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

PROVIDER = os.environ.get("PODLAB_TEST_PROVIDER", "embedded")
#: Nodes of the kind lab have an image that was made here, and reach no registry.
WITHOUT_REGISTRY = PROVIDER == "kind" and os.environ.get("PODLAB_KIND_IMAGE", "").startswith("podlab/")


def lacks_add_ons(about: Mapping[str, Any]) -> str:
    """Why the add-ons of a chapter (its header) cannot be had on the cluster under test; "" if they can."""
    if WITHOUT_REGISTRY and about.get("programs"):
        return "the images of its add-ons come from a registry there, and nodes of the kind lab reach none"
    return ""
