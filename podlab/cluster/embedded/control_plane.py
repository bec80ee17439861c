"""etcd, the API server, the controller manager and the scheduler, as processes kept by the supervisor."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from podlab.cluster.embedded import components, kubeconfig
from podlab.cluster.embedded.components import BY_NAME, Context, Probe
from podlab.cluster.embedded.folder import ClusterFolder, Record, environment
from podlab.cluster.embedded.processes import Child, Kept, Reaper, failure, launch, spawn
from podlab.errors import ClusterError, EnvironmentUnsuitable, UsageError
from podlab.waiting import until_async

LOOPBACK = "127.0.0.1"
#: How a program ends that has done its work.
_WELL = "exited with status 0"


class Ports:
    """Loopback ports of the components, reserved for as long as this object lives.

    Each is bound but not listened on; the components bind it too (SO_REUSEPORT, `--permit-port-sharing`), and
    a restart cannot find it taken. Only processes of the same user could share it.
    """

    def __init__(self) -> None:
        self._held: list[socket.socket] = []

    def reserve(self, wanted: Mapping[str, int], names: list[str]) -> dict[str, int]:
        """The port of each name: the wanted one where it is still free, else a new one."""
        return {name: self._one(wanted.get(name, 0)) for name in names}

    def _one(self, wanted: int) -> int:
        if wanted and not _free(wanted):
            wanted = 0
        holder = socket.socket()
        self._held.append(holder)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            holder.bind((LOOPBACK, wanted))
        except OSError as error:
            if wanted:
                return self._one(0)
            raise EnvironmentUnsuitable(f"No port is free on {LOOPBACK}: {error.strerror}.") from error
        return holder.getsockname()[1]


def _environment(name: str) -> dict[str, str]:
    """The environment of a component, or of another program of the start."""
    return environment(BY_NAME[name].environment if name in BY_NAME else None)


def _free(port: int) -> bool:
    """Whether nobody has bound `port`; asked without sharing, which a rival's socket might allow."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


class ControlPlane:
    """The four components of one cluster. `binaries` gives the path of each program."""

    def __init__(self, folder: ClusterFolder, record: Record, binaries: Mapping[str, Path], reaper: Reaper) -> None:
        self.folder = folder
        self.record = record
        self._reaper = reaper
        self._binaries = binaries
        self._certificates: asyncio.Task[None] | None = None
        #: What was started before there was an event loop: the number of each child; then the children.
        self._early: dict[str, int] = {}
        self._adopted: dict[str, Child] = {}
        self._ports = Ports()
        names = [component.name for component in components.TABLE if component.port]
        record.ports = self._ports.reserve(record.ports, names)
        self.context = Context(folder.pki, folder.etcd, folder.run, record.ports, components.PROFILES[record.profile])
        self._tls: ssl.SSLContext | None = None
        self.kept: dict[str, Kept] = {}
        for component in components.TABLE:
            self.kept[component.name] = self._keep(component.name)

    @property
    def server(self) -> str:
        """The API server's address for clients on this host."""
        return f"https://{LOOPBACK}:{self.record.ports['kube-apiserver']}"

    def head_start(self) -> None:
        """Start etcd and the making of certificates, before there is an event loop.

        What goes wrong here and in `look` is tried again, and told, by the steps that wait for it.
        """
        self._launch("etcd", lambda: self._argv("etcd"), self.context.run)
        self._launch("certificates", self._certificates_argv, self.folder.path)

    def look(self) -> None:
        """Start the API server if the certificates have been made meanwhile."""
        pid = self._early.get("certificates")
        if pid is None:
            return
        ended, status = os.waitpid(pid, os.WNOHANG)
        if not ended:
            return
        del self._early["certificates"]
        if status == 0:
            try:
                self.write_configuration()
            except OSError:
                return
            self._launch("kube-apiserver", lambda: self._argv("kube-apiserver"), self.context.run)

    def adopt(self) -> None:
        """Keep running what was started early; in the event loop, before the reaper collects."""
        children = {name: Child(pid, self._reaper.expect(pid)) for name, pid in self._early.items()}
        certificates = children.pop("certificates", None)
        self._adopted = children
        if "kube-apiserver" not in children:
            self._certificates = asyncio.create_task(self._finish(certificates), name="certificates")
        for name in children:
            self.kept[name].begin()

    async def certificates(self) -> None:
        """Return when the certificates are there and the API server has been started, after `adopt`."""
        if self._certificates is not None:
            await asyncio.shield(self._certificates)

    async def _finish(self, making: Child | None) -> None:
        """What `look` would have done, had the certificates been there in time."""
        if making is None or await making.wait() != _WELL:
            await self.make_certificates()
        self.write_configuration()
        self.kept["kube-apiserver"].begin()

    async def make_certificates(self) -> None:
        """Make those that are missing, in a process of its own: `cryptography` would stay in our memory."""
        log = self.folder.log("certificates")
        how = await spawn(self._reaper, self._certificates_argv(), environment(), self.folder.path, log).wait()
        if how != _WELL:
            raise ClusterError(failure("The making of certificates", how, log))

    def _certificates_argv(self) -> list[str]:
        program = [sys.executable, "-m", "podlab.cluster.embedded.certificates", str(self.folder.pki)]
        return [*program, *map(str, self.record.nodes)]

    def _argv(self, name: str) -> list[str]:
        return [str(self._binaries[name]), *BY_NAME[name].arguments(self.context)]

    def _launch(self, name: str, argv: Callable[[], list[str]], folder: Path) -> None:
        try:
            self._early[name] = launch(argv(), _environment(name), folder, self.folder.log(name))
        except OSError:
            pass  # its step starts it again and says what is wrong

    def write_configuration(self) -> None:
        """Write everything that names a port: kubeconfigs (also the user's) and the API server's own files."""
        components.write_configuration(self.context)
        targets = {self.folder.kubeconfig: "admin"}
        targets |= {Path(self.context.kubeconfig(name)): identity for name, identity in components.CLIENTS.items()}
        for path, identity in targets.items():
            kubeconfig.write(kubeconfig.build(self.folder.name, self.server, self.folder.pki, identity), path)

    async def start(self, name: str, timeout: float = 60.0) -> None:
        """Start a component, if that has not been done, and return when it is ready, the first time.

        ClusterError with its last lines if it ends before.
        """
        kept = self.kept[name]
        kept.begin()
        ended = asyncio.create_task(kept.end(0))
        ready = asyncio.create_task(self.ready(name, timeout))
        try:
            await asyncio.wait((ended, ready), return_when=asyncio.FIRST_COMPLETED)
            if not ready.done():
                raise ClusterError(failure(name, ended.result(), kept.log))
            ready.result()
        finally:
            for task in (ended, ready):
                task.cancel()
            await asyncio.gather(ended, ready, return_exceptions=True)

    async def ready(self, name: str, timeout: float) -> None:
        """Return when the component says that it is ready; WaitTimeout otherwise."""
        probe = BY_NAME[name].probe(self.context)
        seen = ""

        async def healthy() -> bool:
            nonlocal seen
            status, body = await self._get(probe)
            seen = f"GET {probe.path} gave {status}: {body.strip()[-400:]}"
            return status == 200

        await until_async(
            healthy,
            f"{name} becoming ready",
            timeout=timeout,
            ignore=(OSError, TimeoutError, ValueError, EOFError),
            state=lambda: seen or "no answer",
        )

    async def stop(self, name: str, patience: float) -> None:
        """End one component for good."""
        await self.kept[name].stop(patience)

    def component(self, name: str) -> Kept:
        """One component; UsageError lists them if the name is unknown."""
        if name not in self.kept:
            raise UsageError(f"There is no component {name}.", hint=f"There are {', '.join(self.kept)}.")
        return self.kept[name]

    def _keep(self, name: str) -> Kept:
        log = self.folder.log(name)

        async def start() -> Child:
            if early := self._adopted.pop(name, None):
                return early
            # etcd's peer socket has a relative name: a URL cannot carry a path there.
            return spawn(self._reaper, self._argv(name), _environment(name), self.context.run, log)

        return Kept(name, start, log)

    async def _get(self, probe: Probe) -> tuple[int, str]:
        async with asyncio.timeout(30.0):
            if probe.socket:
                reader, writer = await asyncio.open_unix_connection(str(probe.socket))
            else:
                if self._tls is None:
                    self._tls = ssl.create_default_context(cafile=self.context.certificate("ca"))
                    self._tls.load_cert_chain(self.context.certificate("admin"), self.context.key("admin"))
                reader, writer = await asyncio.open_connection(
                    LOOPBACK, probe.port, ssl=self._tls, server_hostname="localhost"
                )
            try:
                request = f"GET {probe.path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                writer.write(request.encode())
                answer = (await reader.read(-1)).decode(errors="replace")
            finally:
                writer.close()
        head, _, body = answer.partition("\r\n\r\n")
        return int(head.split(" ", 2)[1]) if head.startswith("HTTP/") else 0, body
