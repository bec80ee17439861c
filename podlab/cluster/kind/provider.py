"""The kind provider: clusters that kind makes of containers. Only clusters made here are ever touched."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from podlab import paths
from podlab.cluster import user_kubeconfig
from podlab.cluster.folder import ClusterFolder, Record, check_name, context_name, write_private
from podlab.cluster.kind import configuration, faults, images, runtime
from podlab.cluster.kind.runtime import Node, Runtime
from podlab.cluster.progress import step
from podlab.cluster.provider import ClusterSpec, ClusterStatus, ComponentStatus, Progress, State
from podlab.cluster.readiness import client, not_ready
from podlab.errors import ClusterError, ClusterExists, EnvironmentUnsuitable, PodlabError, StepFailed, UsageError
from podlab.images.image import architecture
from podlab.waiting import until

#: Seconds for kind to make a cluster, and for its nodes to become ready afterwards.
CREATE, READY = 900.0, 300.0
#: Each how many looks at an API that is away the runtime is asked whether it is well.
ASK = 20
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
        spec.only(self.name, "nodes", "profile")
        folder = _folder(spec.name)
        if spec.profile not in ("lab", "upstream"):
            raise UsageError(f"There is no profile {spec.profile}.", hint="There are upstream, lab.")
        if not 1 <= spec.nodes <= 10:
            raise UsageError(f"A kind cluster of {spec.nodes} nodes cannot be made.", hint="Choose 1 to 10.")
        if folder.path.exists():
            folder.create(Record.of(spec, self.name))  # says who has the name
        base = configuration.read()
        image = os.environ.get(IMAGE_VARIABLE)
        with step("Container runtime", progress) as say:
            found = runtime.find()
            if found.nodes(kind_name(spec.name)):
                raise _foreign(found, spec.name)
            _check_architecture(found, image or base["nodes"][0]["image"])
            say(found.name)
        with step("kind", progress) as say:
            program = _program(say)
        with step("Ports of this machine", progress) as say:
            taken = [port for port in configuration.host_ports(base) if not _free(port)]
            say("; ".join(map(_taken, taken)))
        record = Record.of(spec, self.name)
        mark = secrets.token_hex(8)
        record.details = {"runtime": found.name, "mark": mark, "taken": json.dumps(taken)}
        folder.create(record)
        try:
            wanted = configuration.render(base, spec, image, taken, mark)
            write_private(folder.path / "kind.yaml", yaml.safe_dump(wanted, sort_keys=False))
            self._create(_Made(folder, record, found), program, progress)
        except BaseException as error:
            _explain(found, error)
            _undo(_Made(folder, record, found), error)
            raise

    def _create(self, made: _Made, program: Path, progress: Progress) -> None:
        folder, found, cluster = made.folder, made.found, kind_name(made.folder.name)
        with step("kind create cluster", progress) as say:
            arguments = ["create", "cluster", "--name", cluster, "--config", str(folder.path / "kind.yaml")]
            # What fails is deleted here: kind would delete whatever has the name.
            arguments += ["--kubeconfig", str(folder.path / "kind-kubeconfig"), "--wait", "0s", "--retain"]
            try:
                _follow(program, arguments, found, folder.log("kind"), say)
            except PodlabError:
                _check_architecture(found, _node_image(folder))  # kind may have fetched it only now
                raise
        with step("Nodes Ready", progress) as say:
            _write_kubeconfig(folder)
            version = _wait_ready(found, folder, [node.name for node in made.nodes()], say)
        with step("Images of the course", progress) as say:
            images.carry_bases(found, program, cluster, say)
        record = folder.read()
        record.version = version
        folder.write(record)

    def down(self, name: str, progress: Progress) -> None:
        """Delete the cluster and its folder. A kind cluster that was not made here is not touched."""
        made = _Made.read(name)
        with step("Delete the nodes", progress) as say:
            made.found.delete(made.nodes())
            if made.found.nodes(kind_name(name)):
                say(f"{kind_name(name)} of {made.found.name} was not made here: left alone")
        with step("Delete its folder", progress):
            user_kubeconfig.forget(made.folder)
            made.folder.remove()

    def stop(self, name: str, progress: Progress) -> None:
        """Stop the nodes' containers; objects and volumes stay in them."""
        made = _Made.read(name)
        with step("Stop the nodes", progress):
            for node in made.nodes():
                if node.running:
                    made.found.run("stop", "--time", "10", node.name)

    def start(self, name: str, progress: Progress) -> None:
        """Start stopped nodes again and return when they are ready."""
        made = _Made.read(name)
        nodes = made.present()
        with step("Start the nodes", progress):
            for node in nodes:
                if node.paused:
                    made.found.run("unpause", node.name)
                if not node.running:
                    made.found.run("start", node.name)
        with step("Nodes Ready", progress) as say:
            _wait_ready(made.found, made.folder, [node.name for node in nodes], say)

    def status(self, name: str) -> ClusterStatus:
        """The cluster as it is now: each node is a component."""
        made = _Made.read(name)
        components = [
            ComponentStatus(
                node.name, "paused" if node.paused else "running" if node.running else "stopped", node.pid or None
            )
            for node in made.nodes()
        ]
        taken = json.loads(made.record.details.get("taken", "[]"))
        return ClusterStatus(
            name=name,
            provider=self.name,
            state=_state([one.state for one in components]),
            version=made.record.version,
            server=_server(made.folder),
            components=components,
            notes=[*(_taken(port) for port in taken), *map(" ".join, runtime.notes(made.found))],
            details={
                "profile": made.record.profile,
                "folder": str(made.folder.path),
                "runtime": made.found.name,
            },
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
        made = _Made.read(name)
        made.present()
        images.carry(made.found, _program(lambda detail: None), kind_name(name), *references)

    def opens(self, name: str, port: int) -> bool:
        """Whether a NodePort of the cluster answers at this port of this machine."""
        made = yaml.safe_load((_Made.read(name).folder.path / "kind.yaml").read_text())
        return port in configuration.host_ports(made)

    def python(self, name: str) -> str:
        """The Python of podlab/python on the nodes, such as "3.13": what is built for them needs its wheels."""
        return images.python_of(_Made.read(name).found)

    def logs(self, name: str, component: str) -> Path:
        """Path of a fresh copy of a node's journal, or of what kind said."""
        folder = _folder(name)
        folder.read()
        if component == "kind":
            return folder.log("kind")
        made = _Made.read(name)
        known = [node.name for node in made.present()]
        if component not in known:
            raise UsageError(
                f"The cluster {name} has no log of {component}.", hint=f"There are kind, {', '.join(known)}."
            )
        target = folder.log(component)
        write_private(target, made.found.run("exec", component, "journalctl", "--no-pager", "--lines", "5000"))
        return target

    def fault(self, name: str, action: str, target: str) -> None:
        """Do a fault of podlab.cluster.kind.faults to a node; returns when it has bitten."""
        made = _Made.read(name)
        faults.do(made.found, made.present(), action, target)


@dataclass(frozen=True)
class _Made:
    """A cluster that was made here, and the runtime with which it was."""

    folder: ClusterFolder
    record: Record
    found: Runtime

    @classmethod
    def read(cls, name: str) -> _Made:
        folder = _folder(name)
        record = folder.read()
        return cls(folder, record, runtime.find(record.details.get("runtime", "")))

    def nodes(self) -> list[Node]:
        """The nodes that are ours: others may have made some of the same name."""
        mark = self.record.details.get("mark")
        return [node for node in self.found.nodes(kind_name(self.folder.name)) if mark and node.mark == mark]

    def present(self) -> list[Node]:
        """The nodes; ClusterError if there are none."""
        if nodes := self.nodes():
            return nodes
        raise ClusterError(
            f"The containers of the cluster {self.folder.name} are gone from {self.found.name}.",
            hint=f"`podlab cluster down --name {self.folder.name}` forgets it.",
        )


def kind_name(name: str) -> str:
    """What kind calls the cluster `name`."""
    return f"podlab-{name}"


def _folder(name: str) -> ClusterFolder:
    return ClusterFolder(paths.clusters() / check_name(name))


def _foreign(found: Runtime, name: str) -> ClusterExists:
    return ClusterExists(
        f"{found.name} has a kind cluster {kind_name(name)} that was not made here; it is left alone.",
        hint=f"Choose another --name, or delete it yourself: `kind delete cluster --name {kind_name(name)}`.",
    )


def _node_image(folder: ClusterFolder) -> str:
    return yaml.safe_load((folder.path / "kind.yaml").read_text())["nodes"][0]["image"]


def _check_architecture(found: Runtime, image: str) -> None:
    """EnvironmentUnsuitable if the runtime has the node image, but for another processor."""
    try:
        made_for = found.run("image", "inspect", "--format", "{{.Architecture}}", image).strip()
    except ClusterError:
        return  # kind fetches it
    if made_for not in ("", architecture()):
        raise EnvironmentUnsuitable(
            f"The node image {image} is for {made_for}, and this machine is {architecture()}.",
            hint=f"Delete it (`{found.name} image rm {image}`), so that the right one is fetched, "
            f"or let {IMAGE_VARIABLE} name one for {architecture()}.",
        )


def _taken(port: int) -> str:
    return (
        f"Port {port} of this machine is taken, so a NodePort {port} does not answer at 127.0.0.1. Use `kubectl "
        f"port-forward`; or end what has the port (`ss -ltnp`), and make the cluster anew."
    )


def _program(say: Any) -> Path:
    from podlab.cluster.embedded import binaries

    return binaries.ensure(["kind"], lambda report: say(binaries.words(report)))["kind"]


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
    process = subprocess.Popen(
        [program, *arguments],
        env={**found.environment, "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    assert process.stdout
    with log.open("a") as file, process.stdout as said, _ended(process, CREATE) as late:
        for line in said:
            file.write(line)
            file.flush()
            if not _TRACE.match(line):
                last.append(line.rstrip())
            if done := _STEP.match(line):
                say(done["name"])
    if process.returncode:
        found.check_again()
        lines = "\n  ".join(last)
        if late.is_set():
            raise StepFailed(
                f"kind had not ended after {CREATE:g} s. Its last lines:\n  {lines}",
                hint=f"Look whether {found.name} is well: `{found.name} info`.",
            )
        known = runtime.failure(found.name, "kind", "\n".join(last))
        if not isinstance(known, ClusterError):
            raise known
        raise StepFailed(f"kind ended with status {process.returncode}. Its last lines:\n  {lines}")


@contextmanager
def _ended(process: subprocess.Popen[str], seconds: float) -> Iterator[threading.Event]:
    """A child that is ended with all its own when it is late, which sets the event, and whatever happens here."""
    late = threading.Event()

    def end() -> None:
        late.set()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    clock = threading.Timer(seconds, end)
    clock.start()
    try:
        yield late
        process.wait()
    finally:
        clock.cancel()
        if process.poll() is None:
            end()
            process.wait()


def _explain(found: Runtime, error: BaseException) -> None:
    """Add what `podlab doctor` knows of this machine to the hint of a step that failed for no known reason."""
    if isinstance(error, PodlabError) and not isinstance(error, EnvironmentUnsuitable):
        with suppress(PodlabError, ValueError):
            for note in runtime.notes(found):
                _add(error, " ".join(note))


def _add(error: PodlabError, hint: str) -> None:
    error.hint = f"{error.hint} {hint}" if error.hint else hint


def _undo(made: _Made, error: BaseException) -> None:
    """Delete what `up` has made until `error`; where the runtime is gone, the record stays, and the hint says so."""
    try:
        made.found.delete(made.nodes())
        made.folder.remove()
    except PodlabError as left:
        if isinstance(error, PodlabError):
            then = f"When {made.found.name} is well, `podlab cluster down --name {made.folder.name}` deletes the rest."
            _add(error, then)
        else:
            error.add_note(str(left))


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


def _wait_ready(found: Runtime, folder: ClusterFolder, nodes: list[str], say: Any) -> str:
    """Return the cluster's version when all nodes are ready and a pod of `default` could be created.

    Where the API is away, the runtime may be: its ailment is raised then.
    """
    away = count()

    def look() -> str | None:
        try:
            with client(folder.kubeconfig) as api:
                version, missing = not_ready(api, nodes)
        except PodlabError as error:
            say(error.message)
            if next(away) % ASK == 0:
                found.check_again()
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
