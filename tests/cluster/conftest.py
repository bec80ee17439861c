"""One shared cluster for a whole run, in a home of its own; and small ones for tests that must break theirs.

`make test-kind` runs the same tests on a kind cluster; those marked `embedded` say why they are passed over there.

With PODLAB_TEST_RUNTIME=plain everything runs where namespaces are refused (tests/refused.py), and the tests that are
marked `namespaces` are left out.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import deployments
import packages_for_kind
import pytest
from lifecycle import PATIENCE
from providers import PROVIDER

from podlab import addons
from podlab import cluster as clusters
from podlab.addons import opensearch
from podlab.cluster import Cluster
from podlab.cluster.embedded import binaries
from podlab.errors import BinaryError

_NUMBERS = itertools.count(1)
_REFUSED = Path(__file__).resolve().parents[1] / "refused.py"
PLAIN = os.environ.get("PODLAB_TEST_RUNTIME") == "plain"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test here needs a cluster, and some that of one provider."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            only = item.get_closest_marker("embedded")
            if only and PROVIDER != "embedded":
                item.add_marker(pytest.mark.skip(reason=f"not on {PROVIDER}: {only.args[0]}"))
            mark = item.get_closest_marker("namespaces")
            if mark and PLAIN:
                item.add_marker(pytest.mark.skip(reason=f"only the sandbox: {mark.args[0]}"))


@pytest.fixture(scope="session")
def programs() -> dict[str, Path]:
    """The binaries, found once with the user's own settings; those of add-ons only if they are there already."""
    located = binaries.locate([name for name in binaries.PROGRAMS if name not in binaries.ALL])
    return binaries.ensure() | {name: found.path for name, found in located.items() if found}


@pytest.fixture(scope="session")
def opensearch_home() -> Path | None:
    """OpenSearch's jars, in the user's own cache; fetched once, where they can be used and had."""
    try:
        return None if opensearch.lacks_java() else opensearch.ensure()
    except BinaryError:
        return None


@pytest.fixture(scope="session", autouse=True)
def home(programs: dict[str, Path], opensearch_home: Path | None) -> Iterator[Path]:
    """PODLAB_HOME for the run: a short path, since sockets are in it. Nothing may be left in it at the end."""
    folder = Path(tempfile.mkdtemp(prefix="plt-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PODLAB_HOME", str(folder))
        for name, path in programs.items():
            patch.setenv(binaries.variable(name), str(path))
        patch.delenv("PODLAB_CLUSTER", raising=False)
        patch.delenv("KUBECONFIG", raising=False)
        yield folder
        left = clusters.list_clusters()
        for name in left:
            with contextlib.suppress(Exception):
                clusters.down(name)
        shutil.rmtree(folder, ignore_errors=True)
        assert not left, f"clusters were left behind: {left}"


@pytest.fixture(scope="session")
def packages(home: Path) -> None:
    """What pods on kind need."""
    packages_for_kind.give(home)


@pytest.fixture(scope="session", autouse=True)
def commit(record_testsuite_property: Callable[[str, object], None]) -> None:
    """The report of a run says what was tested: the commit, with a + if files differ from it, where there is git."""
    command = ["git", "describe", "--always", "--exclude=*", "--abbrev=10", "--dirty=+"]
    with contextlib.suppress(OSError):
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
        record_testsuite_property("commit", done.stdout.strip())


@pytest.fixture(scope="session")
def machine() -> Iterator[list[str]]:
    """What a command has to begin with to run on the machine that is tested: nothing, or what refuses namespaces."""
    if not PLAIN:
        yield []
        return
    with subprocess.Popen([sys.executable, _REFUSED, "hold"], stdin=-1, stdout=-1, text=True) as holder:
        assert holder.stdout
        yield [sys.executable, str(_REFUSED), "run", holder.stdout.readline().strip()]
        holder.kill()


def podlab(machine: list[str], *arguments: str) -> str:
    """Run a podlab command on that machine; what it told."""
    command = [*machine, sys.executable, "-m", "podlab", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def bring_up(machine: list[str], name: str, nodes: int) -> Cluster:
    """A cluster on that machine. Nobody says which runtime it is to have: it has to find out."""
    if not machine:
        return clusters.up(name, nodes=nodes, provider_name=PROVIDER)
    told = podlab(machine, "cluster", "up", "--name", name, "--nodes", str(nodes))
    assert "plain (this machine refuses user namespaces" in told
    return clusters.get(name)


@pytest.fixture(scope="session")
def start(machine: list[str]) -> Callable[[Cluster], None]:
    """Start a stopped cluster on the machine that is tested."""
    return lambda cluster: podlab(machine, "cluster", "start", "--name", cluster.name) if machine else cluster.start()


@pytest.fixture(scope="session")
def shared(home: Path, machine: list[str]) -> Iterator[Cluster]:
    """The cluster that all tests share: three nodes. Whoever harms it puts it right again."""
    with bring_up(machine, "shared", 3) as made:
        yield made


@pytest.fixture(scope="session")
def metrics_server(shared: Cluster) -> Iterator[None]:
    """What serves metrics.k8s.io in the shared cluster: the embedded one itself, the add-on elsewhere."""
    if PROVIDER == "embedded":
        yield
        return
    addons.enable("metrics-server", shared.name)
    yield
    addons.disable("metrics-server", shared.name)


@pytest.fixture(scope="session")
def worker(shared: Cluster) -> str:
    """The name of a node of the shared cluster that takes pods, with every provider."""
    return shared.nodes.names()[-1]


@pytest.fixture(scope="session")
def node_address(shared: Cluster, worker: str, kubectl: Kubectl) -> str:
    """Where node ports of the shared cluster answer: the embedded one's at loopback, others' at their nodes."""
    where = 'jsonpath={.status.addresses[?(@.type=="InternalIP")].address}'
    return "127.0.0.1" if PROVIDER == "embedded" else kubectl(shared, "get", "node", worker, "-o", where)


Ask = Callable[..., tuple[str, ...]]


@pytest.fixture(scope="session")
def ask(machine: list[str]) -> Ask:
    """ask(port, address) -> (pod, node, the client that the pod saw), asked on the machine that is tested."""
    if not machine:
        return deployments.ask

    def there(port: int, host: str = "127.0.0.1") -> tuple[str, ...]:
        command = [*machine, sys.executable, deployments.__file__, host, str(port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise ConnectionError(done.stderr)
        return tuple(done.stdout.split())

    return there


Make = Callable[..., Cluster]


@pytest.fixture
def make(home: Path, machine: list[str]) -> Iterator[Make]:
    """Makes clusters that are taken down after the test: make(), make(nodes=1)."""
    made: list[str] = []

    def one(name: str = "", *, nodes: int = 0) -> Cluster:
        name = name or f"own-{next(_NUMBERS)}"
        made.append(name)
        return bring_up(machine, name, nodes)

    yield one
    for name in made:
        if (home / "data" / "clusters" / name).exists():
            clusters.down(name)


Kubectl = Callable[..., str]


@pytest.fixture(scope="session")
def kubectl(programs: dict[str, Path], machine: list[str]) -> Kubectl:
    """kubectl(cluster, "get", "nodes", stdin="...") -> what it printed; fails with what it complained about."""

    def run(cluster: Cluster, *arguments: str, stdin: str | None = None, timeout: float = 2 * PATIENCE) -> str:
        command = [*machine, str(programs["kubectl"]), "--kubeconfig", str(cluster.kubeconfig), *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    return run


@pytest.fixture
def namespace(shared: Cluster, kubectl: Kubectl) -> Iterator[str]:
    """A new namespace of the shared cluster, deleted after the test."""
    name = f"test-{os.getpid()}-{next(_NUMBERS)}"
    kubectl(shared, "create", "namespace", name)
    yield name
    kubectl(shared, "delete", "namespace", name, "--wait=false")
