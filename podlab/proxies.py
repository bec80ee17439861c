"""A proxy of the environment is for the network outside: this machine's own addresses are asked directly."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

OWN = ("127.0.0.1", "localhost", "::1")


def exempt() -> None:
    """Name our own addresses in this process' NO_PROXY, and so in that of all that it starts; others in it stay.

    In both spellings: of the two, Go looks at the large one first and Python at the small one.
    """
    if not any(f"{scheme}_proxy" in map(str.lower, os.environ) for scheme in ("http", "https", "all")):
        return
    for name, other in (("NO_PROXY", "no_proxy"), ("no_proxy", "NO_PROXY")):
        given = os.environ.get(name) or os.environ.get(other, "")
        known = [entry for each in given.split(",") if (entry := each.strip())]
        if "*" not in known:  # it only counts where it stands alone
            os.environ[name] = ",".join(dict.fromkeys([*known, *OWN]))


def api_client(kubeconfig: Path | str | None, context: str | None = None, **options: Any) -> ApiClient:
    """A client of the official library, as its `new_client_from_config` makes it, with its errors.

    That library asks a proxy for 127.0.0.1, too, unless NO_PROXY has it. The learner's own code uses it as well.
    """
    from kubernetes import config

    exempt()
    return config.new_client_from_config(str(kubeconfig) if kubeconfig else None, context, **options)
