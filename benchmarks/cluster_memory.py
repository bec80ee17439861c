"""cluster-memory: resident memory of a control plane, 3 nodes and 10 pods.

Floor: the same control plane started by hand, after the same time. Limit: 800 MiB. (k3s documents 1,596 MiB for
a server with an agent.) Resident memory counts shared pages once for each process; the proportional figure
beside it does not.
"""

from __future__ import annotations

from api import DEPLOYMENTS, deployment
from by_hand import control_plane
from clusters import running, supervisor, until_ready
from common import Figure, announce, finish, machine, options, say, table
from processes import AGENT_SIDE, CONTROL_PLANE, Used, part, parts, total, used

from podlab.waiting import pause

LIMIT = 800
MIB = 2**20
_CONTAINER = {"image": "podlab/toolbox:1", "command": ["sleep", "infinity"]}


def floor(settle: int) -> dict[str, Used]:
    """The bare control plane, `settle` seconds after it was up."""
    with control_plane() as plane:
        pause(settle)
        return {part(pid): used(pid) for pid in plane.pids}


def ours(nodes: int, pods: int, settle: int) -> dict[str, Used]:
    """A cluster with Ready pods, `settle` seconds later."""
    with running(nodes) as api:
        api.post(DEPLOYMENTS, deployment("idle", pods, _CONTAINER))
        until_ready(api, "idle", pods)
        pause(settle)
        return parts(supervisor())


def main() -> None:
    """Measure and tell."""
    given = options(
        __doc__, nodes=(3, 1, "nodes"), pods=(10, 2, "pods"), settle=(20, 2, "seconds to settle before the look")
    )
    here = machine()
    announce("cluster-memory", here)
    say("  the control plane by hand")
    bare = floor(given.settle)
    say("  the cluster")
    found = ours(given.nodes, given.pods, given.settle)
    names = [*CONTROL_PLANE, *AGENT_SIDE, "pods"]
    rows = [
        (name, found.get(name, Used()).processes, *_mib(found.get(name, Used())), _mib(bare.get(name, Used()))[0])
        for name in names
    ]
    everything, base = total(found, names), total(bare, CONTROL_PLANE)
    rows.append(("together", everything.processes, *_mib(everything), _mib(base)[0]))
    title = f"MiB with {given.nodes} nodes and {given.pods} pods, {given.settle} s after they were Ready"
    table(title, ("part", "processes", "resident", "proportional", "by hand"), rows)
    figure = Figure("cluster-memory", everything.resident / MIB, "MiB", base.resident / MIB, f"at most {LIMIT} MiB")
    figure.met = None if given.small else figure.value <= LIMIT
    figure.more = {"proportional": round(everything.proportional / MIB, 1)}
    finish(figure, here)


def _mib(value: Used) -> tuple[float, float]:
    return value.resident / MIB, value.proportional / MIB


if __name__ == "__main__":
    main()
