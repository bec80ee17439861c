"""The embedded provider: real Kubernetes as plain processes on this machine, without Docker and without root."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from podlab import paths
from podlab.cluster import user_kubeconfig
from podlab.cluster.embedded import control, delegation, warden
from podlab.cluster.embedded.components import PROFILES
from podlab.cluster.embedded.folder import COMPONENTS, ClusterFolder, Record, cluster_folder, environment
from podlab.cluster.embedded.processes import last_lines
from podlab.cluster.embedded.resolver import resolver
from podlab.cluster.embedded.usage import outer_numbers
from podlab.cluster.folder import check_name
from podlab.cluster.progress import step
from podlab.cluster.provider import ClusterSpec, ClusterStatus, ComponentStatus, Progress
from podlab.errors import ClusterError, EnvironmentUnsuitable, PodlabError, StepFailed, UsageError, disk_errors
from podlab.network import addresses
from podlab.node.runtime import choice
from podlab.node.runtime.sandbox import kernel
from podlab.waiting import until

#: Bytes that must be free: etcd's files for a start and room for logs.
SPACE = 300 * 1024 * 1024
#: Longest silence of a supervisor in bring-up, in seconds; a step has its own, shorter limits.
SILENCE = 300.0


class EmbeddedProvider:
    """podlab.cluster.provider.Provider for clusters that this machine runs itself."""

    name = "embedded"

    def up(self, spec: ClusterSpec, progress: Progress) -> None:
        """Create the cluster and return when a pod could run."""
        spec.only(self.name, "nodes", "profile", "runtime", "guarded")
        folder = cluster_folder(check_name(spec.name))
        _check(spec)
        record = Record.of(spec, self.name)
        if folder.path.exists():
            folder.create(record)  # says who has the name
        with disk_errors(folder.path):
            _need_space(folder.path.parent)
            with step("Runtime", progress) as say:
                record.runtime, record.why = choice.choose(spec.runtime, str(folder.path.parent))
                say(choice.words(record.runtime, record.why))
            folder.create(record)
        try:
            self._run(folder, progress)
        except BaseException as error:
            kept = _discard(folder, keep_logs=not isinstance(error, KeyboardInterrupt))
            if isinstance(error, StepFailed) and kept:
                raise StepFailed(error.message.replace(str(folder.logs), str(kept)), hint=error.hint) from error
            raise

    def start(self, name: str, progress: Progress) -> None:
        """Start a stopped cluster with its objects; wait for one that is starting; leave a running one."""
        folder = cluster_folder(check_name(name))
        folder.read()
        choice.check_kernel()
        if supervisor := control.connect(folder.control):
            with supervisor:
                supervisor.ask("follow", progress, timeout=SILENCE)
            return
        self._run(folder, progress)

    def stop(self, name: str, progress: Progress) -> None:
        """End every process, keep all objects and volumes."""
        folder = cluster_folder(check_name(name))
        folder.read()
        if supervisor := control.connect(folder.control):
            with supervisor:
                try:
                    supervisor.ask("stop", progress, timeout=60.0)
                finally:
                    _end(supervisor, patience=5.0)
        _clear(folder)
        folder.remove_sockets()

    def down(self, name: str, progress: Progress) -> None:
        """End every process of the cluster and delete its folder. Works on a cluster that is half up."""
        folder = cluster_folder(check_name(name))
        if not folder.path.exists():
            folder.read()  # says that there is none
        with step("End every process", progress):
            if supervisor := control.connect(folder.control):
                with supervisor:
                    try:
                        supervisor.ask("abort", timeout=30.0)
                    except ClusterError:
                        pass  # ended already; a hung one is killed below
                    except Exception:
                        supervisor.kill()
                    _end(supervisor, patience=5.0)
            _clear(folder)
        with step("Delete its folder", progress):
            user_kubeconfig.forget(folder)
            _delete(folder)

    def status(self, name: str) -> ClusterStatus:
        """The cluster as it is now; ClusterNotFound if there is none. Process numbers are this host's."""
        folder = cluster_folder(check_name(name))
        record = folder.read()
        runtime = choice.words(record.runtime, record.why)
        details = {
            "profile": profile_words(record.profile),
            "runtime": runtime,
            "limits": choice.limits(record.details.get("controllers", "").split()),
            "folder": str(folder.path),
        }
        common: dict[str, Any] = {"name": name, "provider": self.name, "version": record.version}
        supervisor = control.connect(folder.control)
        if supervisor is None:
            return ClusterStatus(state="stopped", details=details, **common)
        with supervisor:
            answer = supervisor.ask("status")
            numbers = outer_numbers(supervisor.pid)
        components = [ComponentStatus(**one) for one in answer["components"]]
        return ClusterStatus(
            state=answer["state"],
            server=answer["server"],
            components=[replace(one, pid=numbers.get(one.pid or 0)) for one in components],
            notes=answer["notes"],
            details=details,
            **common,
        )

    def kubeconfig(self, name: str) -> Path:
        """Path of the administrator's kubeconfig."""
        folder = cluster_folder(check_name(name))
        folder.read()
        if not folder.kubeconfig.exists():
            raise ClusterError(f"The cluster {name} has no kubeconfig yet: it has not come up.")
        return folder.kubeconfig

    def load_image(self, name: str, *references: str) -> None:
        """Nothing to carry: all nodes use the image store of this user. ImageError if it lacks an image."""
        from podlab.images.pull import Images

        cluster_folder(check_name(name)).read()
        for reference in references:
            Images(paths.cache() / "images").resolve(reference, "Never")

    def logs(self, name: str, component: str) -> Path:
        """Path of the log file of a component, a machine or an agent."""
        folder = cluster_folder(check_name(name))
        folder.read()
        path = folder.log(component)
        known = sorted(file.stem for file in folder.logs.glob("*.log"))
        if component not in known:
            raise UsageError(
                f"The cluster {name} has no log of {component}.", hint=f"There are {', '.join(known) or 'none'}."
            )
        return path

    def fault(self, name: str, action: str, target: str) -> None:
        """Do a fault of podlab.cluster.embedded.faults to a component or node; returns when it has bitten."""
        with _running(name) as supervisor:
            supervisor.ask("fault", action=action, target=target, timeout=60.0)

    def add_node(self, name: str) -> str:
        """One more node; returns its name when a pod could run on it."""
        with _running(name) as supervisor:
            return supervisor.ask("add-node", timeout=SILENCE)

    def remove_node(self, name: str, node: str) -> None:
        """Take a node away for good, with what runs on it."""
        with _running(name) as supervisor:
            supervisor.ask("remove-node", node=node, timeout=SILENCE)

    def _run(self, folder: ClusterFolder, progress: Progress) -> None:
        """Get the binaries and bring the cluster up; StepFailed says if it was taken down meanwhile."""
        resolver()  # the supervisor's complaint would come late
        try:
            binaries = _binaries(progress)
            _need_space(folder.path)
            self._launch(folder, binaries, progress)
        except (PodlabError, OSError) as error:
            if folder.exists():
                raise
            raise StepFailed(f"The cluster {folder.name} was taken down while it came up.") from error

    def _launch(self, folder: ClusterFolder, binaries: dict[str, Path], progress: Progress) -> None:
        """Launch the supervisor and follow it until the cluster is up; end it if it is not."""
        from podlab.node.runtime.sandbox.machine import launch_supervisor

        log = folder.log("supervisor")
        plain = _place(folder).runtime == "plain"
        argv = [sys.executable, "-m", "podlab.cluster.embedded.supervisor", str(folder.path)]
        marks = {warden.SUPERVISOR: str(folder.path)} if plain else {}
        argv.append(json.dumps({name: str(path) for name, path in binaries.items()}))
        launched = kernel.pidfd_open(launch_supervisor(argv, environment(marks), log, plain=plain))
        try:
            supervisor = _first_contact(folder, launched, log)
        finally:
            os.close(launched)
        with supervisor:
            try:
                supervisor.ask("follow", progress, timeout=SILENCE)
            except control.SupervisorGone as error:
                lines = "\n  ".join(last_lines(log))
                raise StepFailed(f"The supervisor ended. Its last lines:\n  {lines}\nFull log: {log}") from error
            except BaseException:
                _end(supervisor, patience=1.0)
                raise


def profile_words(profile: str) -> str:
    """A profile with what it means for the loss of a node."""
    timers = PROFILES.get(profile)
    if timers is None:
        return profile
    kind = "Kubernetes' defaults" if profile == "upstream" else "short timers"
    return (
        f"{profile} ({kind}: a silent node is lost after {timers.monitor_grace} s, "
        f"its pods are replaced {timers.toleration} s later)"
    )


def _running(name: str) -> control.Supervisor:
    """The supervisor of a running cluster; ClusterError says how to start it."""
    folder = cluster_folder(check_name(name))
    folder.read()
    if found := control.connect(folder.control):
        return found
    raise ClusterError(f"The cluster {name} does not run.", hint=f"Start it: `podlab cluster start --name {name}`.")


def _clear(folder: ClusterFolder) -> None:
    """End what the supervisor of a cluster of the plain runtime has left behind, should its warden be killed, too."""
    try:
        record = folder.read()
    except ClusterError:
        return
    if record.runtime == "plain":
        warden.clear(folder, record)
    if cgroup := record.details.get("cgroup"):
        delegation.clear(cgroup, folder.path)


def _place(folder: ClusterFolder) -> Record:
    """Note in the record where the cgroups of its nodes will be, if they can have any."""
    record = folder.read()
    offer = delegation.Offer(None) if record.runtime == "plain" else delegation.offered()
    try:
        delegation.take(offer)
    except OSError as error:
        raise EnvironmentUnsuitable(
            f"The cgroup {offer.path} does not hand its controllers on: {error.strerror}.",
            hint=f"Name another delegated one in {delegation.VARIABLE}, or start where none is.",
        ) from error
    record.details |= {"cgroup": str(offer.path or ""), "controllers": " ".join(offer.controllers)}
    folder.write(record)
    return record


def _check(spec: ClusterSpec) -> None:
    choice.check_kernel()
    if spec.runtime not in ("auto", "sandbox", "plain"):
        raise UsageError(f"There is no runtime {spec.runtime}.", hint="There are auto, sandbox and plain.")
    if spec.profile not in PROFILES:
        raise UsageError(f"There is no profile {spec.profile}.", hint=f"There are {', '.join(PROFILES)}.")
    if not 0 <= spec.nodes <= addresses.MAX_NODES:
        raise UsageError(f"A cluster of {spec.nodes} nodes cannot be made.", hint=f"Choose 0 to {addresses.MAX_NODES}.")


def _binaries(progress: Progress) -> dict[str, Path]:
    from podlab.cluster.embedded import binaries

    with step("Kubernetes binaries", progress) as say:
        return binaries.ensure(COMPONENTS, lambda report: say(binaries.words(report)))


def _first_contact(folder: ClusterFolder, launched: int, log: Path) -> control.Supervisor:
    """The supervisor as soon as it listens; StepFailed if the one that was launched ended before."""
    from select import POLLIN, poll

    ended = poll()
    ended.register(launched, POLLIN)

    def look() -> control.Supervisor | None:
        if found := control.connect(folder.control):
            return found
        if ended.poll(0) and not control.connect(folder.control):
            lines = "\n  ".join(last_lines(log)) or "(nothing)"
            raise StepFailed(f"The supervisor ended at once. Its last lines:\n  {lines}\nFull log: {log}")
        return None

    return until(look, "the supervisor listening", timeout=120.0, interval=0.01)


def _end(supervisor: control.Supervisor, patience: float) -> None:
    """Return when the supervisor has ended, which it does by itself within `patience` seconds or is made to."""
    if supervisor.wait(patience):
        return
    supervisor.kill()
    if not supervisor.wait(20.0):
        raise ClusterError(
            f"The supervisor (process {supervisor.pid}) does not end.",
            hint="A process of it waits for the kernel (state D in ps); try again later.",
        )


def _discard(folder: ClusterFolder, *, keep_logs: bool) -> Path | None:
    """Remove a cluster whose bring-up failed; its logs are kept in the cache if asked for."""
    # Without a record it was taken down meanwhile: who has the name now is another.
    if folder.exists() and (supervisor := control.connect(folder.control)):
        with supervisor:
            supervisor.kill()
            _end(supervisor, patience=10.0)
    kept = None
    if keep_logs and any(folder.logs.glob("*")):
        kept = paths.private(paths.cache() / "failed") / folder.name
        shutil.rmtree(kept, ignore_errors=True)
        try:
            shutil.move(folder.logs, kept)
        except OSError:
            kept = None
    _delete(folder)
    return kept


def _delete(folder: ClusterFolder) -> None:
    """Delete the folder while holding its lock, so that nobody starts a cluster in it meanwhile."""
    if not folder.path.exists():
        return

    def deleted() -> bool:
        try:
            with folder.locked() as free:
                if free:
                    folder.remove()
                return free
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
                raise
            return not folder.path.exists()  # somebody else deletes it, too

    until(deleted, f"the lock of {folder.path} becoming free", timeout=20.0)


def _need_space(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < SPACE:
        raise EnvironmentUnsuitable(
            f"Only {free // 2**20} MiB are free in {folder}; a cluster needs {SPACE // 2**20} MiB.",
            hint="Free some space, or set PODLAB_HOME to a folder on another disk.",
        )
