"""The kind provider: clusters that kind makes of containers. Only clusters made here are ever touched."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from podlab import paths
from podlab.cluster import user_kubeconfig
from podlab.cluster.folder import ClusterFolder, Record, check_name, context_name, write_private
from podlab.cluster.kind import configuration, faults, images, runtime
from podlab.cluster.kind.runtime import Runtime
from podlab.cluster.progress import step
from podlab.cluster.provider import ClusterSpec, ClusterStatus, ComponentStatus, Progress, State
from podlab.cluster.readiness import client, not_ready
from podlab.errors import ClusterError, ClusterExists, PodlabError, StepFailed, UsageError
from podlab.waiting import until

#: Seconds for kind to make a cluster, and for its nodes to become ready afterwards.
CREATE, READY = 900.0, 300.0
#: A node image in place of kind.yaml's, for example one built by `make kind-lab`.
IMAGE_VARIABLE = "PODLAB_KIND_IMAGE"
_STEP = re.compile(r"^\s*[•✓✗]?\s*(?P<name>[A-Z][\w ()\-]+?)\s*(?:📦|📜|🕹️|🔌|💾|🚜|⏳|\.\.\.|\(|$)")

#: Lines of a Go program's stack, of which kubeadm prints one at the end of every failure.
_TRACE = re.compile(r"^\s+\S+\.(go|s):\d+|^\s*[\w./-]+\.[\w.()*]+(\(.*\))?$|^\s*$")


class KindProvider:
    """podlab.cluster.provider.Provider for clusters of kind."""

    name = "kind"

    def up(self, spec: ClusterSpec, progress: Progress) -> None:
        """Create the cluster and return when a pod could run."""
        folder = _folder(spec.name)
        if spec.profile not in ("lab", "upstream"):
            raise UsageError(f"There is no profile {spec.profile}.", hint="There are upstream, lab.")
        if not 1 <= spec.nodes <= 10:
            raise UsageError(f"A kind cluster of {spec.nodes} nodes cannot be made.", hint="Choose 1 to 10.")
        if folder.path.exists():
            folder.create(Record.of(spec, self.name))  # says who has the name
        with step("Container runtime", progress) as say:
            found = runtime.find()
            if found.nodes(kind_name(spec.name)):
                raise _foreign(found, spec.name)
            say(found.name)
        with step("kind", progress) as say:
            program = _program(say)
        folder.create(Record.of(spec, self.name))
        try:
            self._create(folder, spec, found, program, progress)
        except BaseException:
            _delete(found, program, kind_name(spec.name))
            folder.remove()
            raise

    def _create(
        self, folder: ClusterFolder, spec: ClusterSpec, found: Runtime, program: Path, progress: Progress
    ) -> None:
        wanted = configuration.render(configuration.read(), spec, os.environ.get(IMAGE_VARIABLE), _free)
        config = folder.path / "kind.yaml"
        write_private(config, yaml.safe_dump(wanted, sort_keys=False))
        with step("kind create cluster", progress) as say:
            arguments = ["create", "cluster", "--name", kind_name(spec.name), "--config", str(config)]
            arguments += ["--kubeconfig", str(folder.path / "kind-kubeconfig"), "--wait", "0s"]
            _follow(program, arguments, found, folder.log("kind"), say)
        with step("Nodes Ready", progress) as say:
            _write_kubeconfig(folder)
            version = _wait_ready(folder, [node.name for node in found.nodes(kind_name(spec.name))], say)
        with step("Images of the course", progress) as say:
            images.carry_bases(found, program, kind_name(spec.name), say)
        record = folder.read()
        record.version, record.details = version, {"runtime": found.name}
        folder.write(record)

    def down(self, name: str, progress: Progress) -> None:
        """Delete the cluster and its folder. A kind cluster that was not made here is not touched."""
        folder = _folder(name)
        folder.read()
        with step("kind delete cluster", progress) as say:
            found = runtime.find()
            _delete(found, _program(say), kind_name(name))
        with step("Delete its folder", progress):
            user_kubeconfig.forget(folder)
            folder.remove()

    def stop(self, name: str, progress: Progress) -> None:
        """Stop the nodes' containers; objects and volumes stay in them."""
        _folder(name).read()
        with step("Stop the nodes", progress):
            found = runtime.find()
            for node in found.nodes(kind_name(name)):
                if node.running:
                    found.run("stop", "--time", "10", node.name)

    def start(self, name: str, progress: Progress) -> None:
        """Start stopped nodes again and return when they are ready."""
        folder = _folder(name)
        folder.read()
        found = runtime.find()
        with step("Start the nodes", progress):
            for node in _nodes(found, name):
                if node.paused:
                    found.run("unpause", node.name)
                if not node.running:
                    found.run("start", node.name)
        with step("Nodes Ready", progress) as say:
            _wait_ready(folder, [node.name for node in found.nodes(kind_name(name))], say)

    def status(self, name: str) -> ClusterStatus:
        """The cluster as it is now: each node is a component."""
        folder = _folder(name)
        record = folder.read()
        found = runtime.find()
        nodes = found.nodes(kind_name(name))
        components = [
            ComponentStatus(
                node.name, "paused" if node.paused else "running" if node.running else "stopped", node.pid or None
            )
            for node in nodes
        ]
        information = json.loads(found.run("info", "--format", "{{json .}}"))
        return ClusterStatus(
            name=name,
            provider=self.name,
            state=_state([one.state for one in components]),
            version=record.version,
            server=_server(folder),
            components=components,
            notes=list(runtime.ailments(information, runtime.inotify_instances())),
            details={"profile": record.profile, "folder": str(folder.path), "runtime": found.name},
        )

    def kubeconfig(self, name: str) -> Path:
        """Path of the administrator's kubeconfig."""
        folder = _folder(name)
        folder.read()
        if not folder.kubeconfig.exists():
            raise ClusterError(f"The cluster {name} has no kubeconfig yet: it has not come up.")
        return folder.kubeconfig

    def load_image(self, name: str, *references: str) -> None:
        """Carry images of the local store into every node."""
        _folder(name).read()
        found = runtime.find()
        _nodes(found, name)
        images.carry(found, _program(lambda detail: None), kind_name(name), *references)

    def logs(self, name: str, component: str) -> Path:
        """Path of a fresh copy of a node's journal, or of what kind said."""
        folder = _folder(name)
        folder.read()
        if component == "kind":
            return folder.log("kind")
        found = runtime.find()
        known = [node.name for node in _nodes(found, name)]
        if component not in known:
            raise UsageError(
                f"The cluster {name} has no log of {component}.", hint=f"There are kind, {', '.join(known)}."
            )
        target = folder.log(component)
        write_private(target, found.run("exec", component, "journalctl", "--no-pager", "--lines", "5000"))
        return target

    def fault(self, name: str, action: str, target: str) -> None:
        """Do a fault of podlab.cluster.kind.faults to a node; returns when it has bitten."""
        _folder(name).read()
        found = runtime.find()
        faults.do(found, _nodes(found, name), action, target)


def kind_name(name: str) -> str:
    """What kind calls the cluster `name`."""
    return f"podlab-{name}"


def _folder(name: str) -> ClusterFolder:
    return ClusterFolder(paths.clusters() / check_name(name))


def _nodes(found: Runtime, name: str) -> list[runtime.Node]:
    nodes = found.nodes(kind_name(name))
    if not nodes:
        raise ClusterError(
            f"The containers of the cluster {name} are gone from {found.name}.",
            hint=f"`podlab cluster down --name {name}` forgets it.",
        )
    return nodes


def _foreign(found: Runtime, name: str) -> ClusterExists:
    return ClusterExists(
        f"{found.name} has a kind cluster {kind_name(name)} that was not made here; it is left alone.",
        hint=f"Choose another --name, or delete it yourself: `kind delete cluster --name {kind_name(name)}`.",
    )


def _program(say: Any) -> Path:
    from podlab.cluster.embedded import binaries

    return binaries.ensure(["kind"], lambda report: say(report.detail or report.step))["kind"]


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _follow(program: Path, arguments: list[str], found: Runtime, log: Path, say: Any) -> None:
    """Run kind and say each of its steps; StepFailed with its last lines if it fails."""
    last: deque[str] = deque(maxlen=8)
    with (
        log.open("a") as file,
        _ended(
            subprocess.Popen(
                [program, *arguments],
                env={**found.environment, "NO_COLOR": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
        ) as process,
    ):
        assert process.stdout
        for line in process.stdout:
            file.write(line)
            file.flush()
            if not _TRACE.match(line):
                last.append(line.rstrip())
            if done := _STEP.match(line):
                say(done["name"])
    if process.returncode:
        lines = "\n  ".join(last)
        known = runtime.failure(found.name, "kind", "\n".join(last))
        if not isinstance(known, ClusterError):
            raise known
        raise StepFailed(f"kind ended with status {process.returncode}. Its last lines:\n  {lines}")


@contextmanager
def _ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """A child that is not left behind, whatever happens here."""
    try:
        yield process
        process.wait(CREATE)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _delete(found: Runtime, program: Path, cluster: str) -> None:
    """`kind delete cluster`, and by hand what it leaves when it was made halfway."""
    with tempfile.NamedTemporaryFile() as nowhere:
        arguments = [str(program), "delete", "cluster", "--name", cluster, "--kubeconfig", nowhere.name]
        subprocess.run(arguments, env=found.environment, capture_output=True, timeout=300)
    if left := found.nodes(cluster):
        found.run("rm", "--force", "--volumes", *(node.id for node in left))


def _write_kubeconfig(folder: ClusterFolder) -> None:
    """kind's kubeconfig with our names for cluster, user and context."""
    made = folder.path / "kind-kubeconfig"
    config = yaml.safe_load(made.read_text())
    name = context_name(folder.name)
    for key, inner in (("clusters", "cluster"), ("users", "user")):
        config[key] = [{"name": name, inner: config[key][0][inner]}]
    config["contexts"] = [{"name": name, "context": {"cluster": name, "user": name}}]
    config["current-context"] = name
    write_private(folder.kubeconfig, json.dumps(config, indent=1))
    made.unlink()


def _wait_ready(folder: ClusterFolder, nodes: list[str], say: Any) -> str:
    """Return the cluster's version when all nodes are ready and a pod of `default` could be created."""

    def look() -> str | None:
        try:
            with client(folder.kubeconfig) as api:
                version, missing = not_ready(api, nodes)
        except PodlabError as error:
            say(error.message)
            return None
        say(missing)
        return None if missing else version

    return until(look, f"the nodes {', '.join(nodes)} being ready", timeout=READY, interval=0.5)


def _server(folder: ClusterFolder) -> str:
    try:
        return yaml.safe_load(folder.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
    except (OSError, KeyError, IndexError, TypeError, yaml.YAMLError):
        return ""


def _state(states: list[str]) -> State:
    if not states or set(states) == {"stopped"}:
        return "stopped"
    return "running" if set(states) == {"running"} else "degraded"
