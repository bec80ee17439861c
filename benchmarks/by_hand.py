"""The floor: etcd, kube-apiserver, kube-controller-manager and kube-scheduler, started by hand with our flags.

No supervisor, no nodes; certificates are made before the clock starts.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from api import Api, Refused

from podlab import waiting
from podlab.cluster.embedded import binaries, certificates, components, kubeconfig

_ACCOUNT = "/api/v1/namespaces/default/serviceaccounts/default"


@dataclass
class ControlPlane:
    """A running control plane; seconds since the start of etcd."""

    pids: list[int]
    ready: float
    account: float


@contextmanager
def control_plane() -> Iterator[ControlPlane]:
    """Start the four, wait for /readyz and for the default service account, and end them afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="podlab-bench-"))
    processes: list[subprocess.Popen[bytes]] = []
    try:
        context, api = _prepare(folder)
        paths = binaries.ensure([component.name for component in components.TABLE])

        def start(name: str) -> None:
            argv = [str(paths[name]), *components.BY_NAME[name].arguments(context)]
            with (folder / f"{name}.log").open("wb") as log:
                processes.append(subprocess.Popen(argv, cwd=context.run, stdout=log, stderr=log))

        def alive() -> None:
            for process in processes:
                if process.poll() is not None:
                    log = folder / f"{Path(str(process.args[0])).name}.log"  # type: ignore[index]
                    raise RuntimeError(f"{log.stem} ended: {log.read_text()[-600:]}")

        def answers(path: str) -> bool:
            alive()
            try:
                return bool(api.text(path))
            except (OSError, Refused):
                return False

        began = time.monotonic()
        start("etcd")
        start("kube-apiserver")
        waiting.until(lambda: answers("/readyz"), "/readyz", timeout=120, interval=0.02)
        ready = time.monotonic() - began
        start("kube-controller-manager")
        start("kube-scheduler")
        waiting.until(lambda: answers(_ACCOUNT), "the default service account", timeout=120, interval=0.02)
        account = time.monotonic() - began
        yield ControlPlane([process.pid for process in processes], ready, account)
    finally:
        for process in reversed(processes):
            process.send_signal(signal.SIGKILL)
            process.wait()
        shutil.rmtree(folder)


def _prepare(folder: Path) -> tuple[components.Context, Api]:
    pki, data, run = (folder / name for name in ("pki", "etcd", "run"))
    run.mkdir(mode=0o700)
    certificates.ensure(pki, [])
    ports = {component.name: _free_port() for component in components.TABLE if component.port}
    context = components.Context(pki, data, run, ports, components.PROFILES["lab"])
    server = f"https://127.0.0.1:{ports['kube-apiserver']}"
    components.write_configuration(context)
    for name, identity in {**components.CLIENTS, "admin": "admin"}.items():
        kubeconfig.write(kubeconfig.build("floor", server, pki, identity), Path(context.kubeconfig(name)))
    return context, Api.of_kubeconfig(Path(context.kubeconfig("admin")))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
