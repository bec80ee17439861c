"""The cluster's add-on monitoring, as a check needs it."""

from __future__ import annotations

import fcntl

from podlab import addons, paths
from podlab.checks.contract import Inconclusive, NotGradable
from podlab.checks.world import World
from podlab.cluster.embedded import binaries
from podlab.errors import PodlabError, WaitTimeout

NAME = "monitoring"
PROGRAMS = ("prometheus", "alertmanager")


def bring_in(world: World) -> None:
    """Enable it if it is not ready; NotGradable where its programs are not.

    One check at a time, whatever its process: two that begin together would each make a certificate for it.
    """
    file = paths.private(paths.data() / "locks") / f"{NAME}-{world.cluster}"
    with file.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if addons.status(NAME, world.cluster).state == "ready":
            return
        located = binaries.locate(list(PROGRAMS))
        if missing := [name for name in PROGRAMS if located[name] is None]:
            raise NotGradable(
                f"The add-on {NAME} is not in this cluster, and {', '.join(missing)} not on this machine: "
                f"podlab binaries ensure {' '.join(missing)}"
            )
        world.say(f"the add-on {NAME}")
        try:
            addons.enable(NAME, world.cluster)
        except (PodlabError, WaitTimeout) as error:
            raise Inconclusive(f"the add-on {NAME} did not come: {error}") from error
