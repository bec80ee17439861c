"""An add-on of the cluster, as a check needs it."""

from __future__ import annotations

from collections.abc import Sequence

from podlab import addons
from podlab.checks.api import ApiError
from podlab.checks.contract import Inconclusive, NotGradable
from podlab.checks.world import World
from podlab.cluster.embedded import binaries
from podlab.errors import ClusterNotFound, PodlabError, WaitTimeout


def bring_in(world: World, name: str, programs: Sequence[str]) -> None:
    """Enable it if it is not ready; NotGradable where its `programs` are not, and where we may not even ask for it."""
    try:
        if addons.status(name, world.cluster).state == "ready":
            return
    except (ApiError, ClusterNotFound) as error:
        if isinstance(error, ApiError) and not error.lacks_right:
            raise
        raise NotGradable(f"the add-on {name} is needed: {error}") from error
    located = binaries.locate(list(programs))
    if missing := [program for program in programs if located[program] is None]:
        raise NotGradable(
            f"The add-on {name} is not in this cluster, and {', '.join(missing)} not on this machine: "
            f"podlab binaries ensure {' '.join(missing)}"
        )
    world.say(f"the add-on {name}")
    try:
        addons.enable(name, world.cluster)
    except (PodlabError, WaitTimeout) as error:
        raise Inconclusive(f"the add-on {name} did not come: {error}") from error
