"""The verbs of a cluster for people: each finds the cluster's provider and passes the work on."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from podlab import paths, proxies
from podlab.cluster.folder import ClusterFolder, write_private
from podlab.cluster.provider import ClusterSpec, ClusterStatus, Progress, Provider, StepReport
from podlab.errors import ClusterError, ClusterNotFound, UsageError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

#: Name -> (module, class). A class is imported when a cluster of it is used.
PROVIDERS: dict[str, tuple[str, str]] = {
    "embedded": ("podlab.cluster.embedded.provider", "EmbeddedProvider"),
    "kind": ("podlab.cluster.kind.provider", "KindProvider"),
    "existing": ("podlab.cluster.existing", "ExistingProvider"),
}
DEFAULT = "default"


def silent(report: StepReport) -> None:
    """Say nothing."""


def provider(name: str) -> Provider:
    """The provider of that name; UsageError lists them if there is none."""
    if name not in PROVIDERS:
        raise UsageError(f"There is no provider {name}.", hint=f"There are {', '.join(PROVIDERS)}.")
    module, kind = PROVIDERS[name]
    return getattr(importlib.import_module(module), kind)()


def provider_of(name: str) -> Provider:
    """The provider of an existing cluster; ClusterNotFound if there is no such cluster."""
    record = paths.clusters() / name / "cluster.json"
    try:
        return provider(json.loads(record.read_text())["provider"])
    except FileNotFoundError:
        # A folder without a record: a cluster that was half made or half removed, which `down` takes away.
        if record.parent.is_dir() and name:
            return provider("embedded")
        here = f"`podlab cluster list` shows all, `podlab cluster up --name {name}` makes one."
        theirs = "Take it up: `podlab cluster up --provider existing --name class --kubeconfig FILE`."
        # With a space it is what labs call the cluster of PODLAB_KUBECONFIG.
        raise ClusterNotFound(f"There is no cluster named {name}.", hint=theirs if " " in name else here) from None
    except (ValueError, KeyError, TypeError):
        return provider("embedded")


def of_kubeconfig(kubeconfig: Path | str | None) -> str:
    """The name of the cluster whose kubeconfig this is; '' for one from elsewhere."""
    folder = Path(kubeconfig or "").resolve().parent
    return folder.name if folder.parent == paths.clusters().resolve() else ""


def remedy(name: str) -> str:
    """What to do where a cluster does not answer, or is not there: a sentence with the command that helps."""
    try:
        owner = provider_of(name)
    except ClusterNotFound:
        return f"Make it: `podlab cluster up --name {name}`."
    if owner.name == "existing":
        return f"Somebody else runs it: `podlab cluster status --name {name}` says what it answers."
    return f"See `podlab cluster status --name {name}`; bring it back with `podlab cluster start --name {name}`."


def up(
    name: str = DEFAULT,
    *,
    nodes: int = 3,
    profile: str = "lab",
    provider_name: str = "embedded",
    progress: Progress = silent,
    **options: str | bool,
) -> Cluster:
    """Create a cluster and return it when a pod could run; ClusterExists if the name is taken.

    `options` are further fields of ClusterSpec.
    """
    spec = ClusterSpec(name=name, nodes=nodes, profile=profile, **options)  # type: ignore[arg-type]
    provider(provider_name).up(spec, progress)
    return Cluster(name)


def ensure(name: str = DEFAULT, *, progress: Progress = silent, **options: Any) -> Cluster:
    """The cluster of that name, running: created or started if need be."""
    if name in list_clusters():
        return start(name, progress=progress)
    return up(name, progress=progress, **options)


def down(name: str = DEFAULT, *, progress: Progress = silent) -> None:
    """End every process of a cluster and delete it with all objects; ClusterNotFound if there is none."""
    provider_of(name).down(name, progress)


def forget(name: str, *, progress: Progress = silent) -> None:
    """Forget a cluster that somebody else runs without asking it; ClusterError for one of our own."""
    owner = provider_of(name)
    if not hasattr(owner, "forget"):
        raise ClusterError(
            f"{name} is a cluster of the provider {owner.name}; forgotten, it would run on.",
            hint=f"`podlab cluster down --name {name}` ends it.",
        )
    owner.forget(name, progress)


def stop(name: str = DEFAULT, *, progress: Progress = silent) -> None:
    """End every process of a cluster; its objects and volumes stay."""
    provider_of(name).stop(name, progress)


def start(name: str = DEFAULT, *, progress: Progress = silent) -> Cluster:
    """Start a stopped cluster with its objects; a running one is left as it is."""
    provider_of(name).start(name, progress)
    return Cluster(name)


def status(name: str = DEFAULT) -> ClusterStatus:
    """A cluster as it is now; ClusterNotFound if there is none."""
    return provider_of(name).status(name)


def get(name: str = DEFAULT) -> Cluster:
    """An existing cluster, running or not; ClusterNotFound if there is none."""
    provider_of(name)
    return Cluster(name)


def list_clusters() -> list[str]:
    """The names of all clusters of this user, sorted."""
    return sorted(record.parent.name for record in paths.clusters().glob("*/cluster.json"))


def current() -> str:
    """The name of the cluster that is meant when none is named: PODLAB_CLUSTER, what `use` chose, or "default"."""
    if named := os.environ.get("PODLAB_CLUSTER"):
        return named
    try:
        chosen = _choice().read_text().strip()
    except FileNotFoundError:
        return DEFAULT
    return chosen if chosen in list_clusters() else DEFAULT


def use(name: str) -> Cluster:
    """Make a cluster the one that is meant when none is named; ClusterNotFound if there is none of that name."""
    found = get(name)
    write_private(_choice(), f"{name}\n")
    return found


def _choice() -> Path:
    return paths.data() / "cluster-in-use"


def merge_kubeconfig(name: str = DEFAULT) -> tuple[Path, Path | None]:
    """Add a cluster to the user's own kubeconfig; returns that file and the backup of what it was before."""
    from podlab.cluster import user_kubeconfig  # with its YAML, which a cluster's own processes need not hold

    provider_of(name).kubeconfig(name)
    return user_kubeconfig.merge(ClusterFolder(paths.clusters() / name))


class Cluster:
    """A handle on one cluster. As a context manager it takes the cluster down in the end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes = Nodes(name)
        self.components = Components(name)

    def __repr__(self) -> str:
        return f"<Cluster {self.name}>"

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    @property
    def kubeconfig(self) -> Path:
        """Path of a kubeconfig (0600) whose current context is this cluster with full rights."""
        return provider_of(self.name).kubeconfig(self.name)

    @property
    def status(self) -> ClusterStatus:
        """The cluster as it is now."""
        return status(self.name)

    def api(self) -> ApiClient:
        """A client of the official Python library: `kubernetes.client.CoreV1Api(cluster.api())`."""
        return proxies.api_client(self.kubeconfig)

    def stop(self, *, progress: Progress = silent) -> None:
        """End every process; objects and volumes stay."""
        stop(self.name, progress=progress)

    def start(self, *, progress: Progress = silent) -> None:
        """Start it again with its objects."""
        start(self.name, progress=progress)

    def down(self, *, progress: Progress = silent) -> None:
        """End every process and delete the cluster."""
        down(self.name, progress=progress)

    def logs(self, component: str) -> Path:
        """Path of the log file of a component, a machine (node-1-machine) or an agent (node-1-agent)."""
        return provider_of(self.name).logs(self.name, component)

    def load_image(self, *references: str) -> None:
        """Make images of the local store available to all nodes."""
        provider_of(self.name).load_image(self.name, *references)


class _Verbs:
    """Verbs beyond the contract: the provider must offer `fault`, `add_node`, `remove_node`."""

    _kind = ""

    def __init__(self, cluster: str) -> None:
        self._cluster = cluster

    def _do(self, action: str, target: str) -> None:
        self._able("fault")(self._cluster, f"{self._kind}.{action}", target)

    def _able(self, verb: str) -> Callable[..., Any]:
        owner = provider_of(self._cluster)
        found: Callable[..., Any] | None = getattr(owner, verb, None)
        if found is None:
            raise ClusterError(
                f"A cluster of the provider {owner.name} cannot do this: {verb.replace('_', ' ')}.",
                hint="Use a cluster of the embedded provider.",
            )
        return found


class Nodes(_Verbs):
    """What can be done to a node. Each verb returns when it has taken effect."""

    _kind = "node"

    def names(self) -> list[str]:
        """The names of the nodes."""
        found = [one.name for one in status(self._cluster).components]
        if provider_of(self._cluster).name != "embedded":
            return found
        suffix = "-machine"
        return [name.removesuffix(suffix) for name in found if name.endswith(suffix)]

    def add(self) -> str:
        """One more node; returns its name when a pod could run on it."""
        return self._able("add_node")(self._cluster)

    def remove(self, node: str) -> None:
        """Take a node away for good, with what runs on it (drain it first if that matters)."""
        self._able("remove_node")(self._cluster, node)

    def kill(self, node: str) -> None:
        """Pull the plug: every process of the node ends at once, and it stays off."""
        self._do("kill", node)

    def restart(self, node: str) -> None:
        """Reboot the node."""
        self._do("restart", node)

    def pause(self, node: str) -> None:
        """Freeze every process of the node."""
        self._do("pause", node)

    def resume(self, node: str) -> None:
        """Let a frozen node go on."""
        self._do("resume", node)

    def slow(self, node: str) -> None:
        """Let the node's processes run for a fifth of the time only."""
        self._do("slow", node)

    def fast(self, node: str) -> None:
        """Bring a slowed node back to full speed."""
        self._do("fast", node)

    def isolate(self, node: str) -> None:
        """Pull the node's network cable; its processes go on."""
        self._do("isolate", node)

    def rejoin(self, node: str) -> None:
        """Bring back a node that was killed, isolated or slowed; nothing happens if it is well."""
        self._do("rejoin", node)

    def kill_agent(self, node: str) -> None:
        """Kill the node's agent, which is started again; its pods go on."""
        self._do("kill-agent", node)

    def stop_agent(self, node: str) -> None:
        """End the node's agent, which stays ended; its pods go on."""
        self._do("stop-agent", node)

    def start_agent(self, node: str) -> None:
        """Start an agent that was ended."""
        self._do("start-agent", node)


class Components(_Verbs):
    """What can be done to etcd, kube-apiserver, kube-controller-manager and kube-scheduler."""

    _kind = "component"

    def kill(self, component: str) -> None:
        """Kill a component, which is started again with a pause that grows."""
        self._do("kill", component)

    def pause(self, component: str) -> None:
        """Freeze a component."""
        self._do("pause", component)

    def resume(self, component: str) -> None:
        """Let a frozen component go on."""
        self._do("resume", component)
