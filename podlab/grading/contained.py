"""Containers of Docker or Podman in place of boxes, for machines that refuse namespaces: only with --unsafe.

The files of a box are imported as an image, and what it borrows of this machine is bound read-only: no registry is
asked. It has no network, a read-only root, a small tmpfs, no privileges, and limits on memory and processes, as in a
house; but the runtime makes it, often as root, and how well that is configured is not known here.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import secrets
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from podlab import paths
from podlab.checks import owners
from podlab.cluster.kind.runtime import Runtime, find
from podlab.errors import GradingError, PodlabError, RuntimeRefused
from podlab.grading import kernel_image, unboxed
from podlab.grading.house import ENVIRONMENT, NOBODY, Bounds, Box, House
from podlab.images.pull import Images
from podlab.images.root import RootFileSystem
from podlab.node.runtime.contract import Exit
from podlab.node.runtime.sandbox import kernel

#: Label of every container of ours; the middle of its name says whose it is.
LABEL = "podlab.grading.box"
#: Of the folders in the temporary one that the graders keep meanwhile; whose one is follows, as in the names.
PREFIX = "podlab-contained."
#: Processes and threads of one container.
PROCESSES = 512
_FOLDERS = ("/proc", "/sys", "/dev", "/etc", "/tmp")
#: Podman would have /run and /var/tmp writable, too. Without them, /dev/shm, which locks need, has to be asked for.
_ONLY_TMP = ("--read-only-tmpfs=false", "--tmpfs=/dev/shm:rw,noexec,nosuid,nodev,mode=1777,size=64m")
#: Proves that the container has the files of this machine: the runtime may be on another one.
_SELF_CHECK = ("python3", "-c", "import IPython, podlab.grading.inside; print('ready')")
#: Ends whatever runs in the container but the first process, and itself: kill(-1) spares both.
_END_OTHERS = ("python3", "-I", "-S", "-c", "import os; os.kill(-1, 9)")


def offered(say: Callable[[str], None]) -> str:
    """The image with which containers do instead of boxes, or "" where no runtime gives any.

    Says which way is taken: the other one has learners' code run as an ordinary process of the instructor's.
    """
    try:
        runtime = find()  # first, since the image is of no use without one
        image = kernel_image.build_image()
        house = Containers(Images(paths.cache() / "images").resolve(image).root, runtime=runtime)
        with house, house.box(_SELF_CHECK) as box:
            ended = box.wait(120)
            if ended is None or ended.status != 0 or box.output(100).strip() != "ready":
                raise GradingError(f"{house.runtime.name}'s containers do not see this machine's files.")
    except (PodlabError, OSError) as error:
        say(
            f"NOT SAFE: learners' code runs as you, without a box and without a container ({error}) "
            "Do this only with code of people whom you trust."
        )
        return ""
    say(f"LESS SAFE than boxes: learners' code runs in containers of {house.runtime.name}, and not as you.")
    return image


class Containers(House):
    """A house whose boxes are containers of `runtime`; default: of the one that answers. Raises PodlabError if none."""

    def __init__(self, root: RootFileSystem, bounds: Bounds | None = None, runtime: Runtime | None = None) -> None:
        super().__init__(root, bounds)
        self.runtime = runtime or find()

    def _open(self, stack: contextlib.ExitStack) -> None:
        bury(self.runtime)
        self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{owners.own()}."))
        stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.image = _imported(self.runtime, self.root)

    def _make(
        self,
        stack: contextlib.ExitStack,
        name: str,
        folder: Path,
        argv: Sequence[str],
        files: Mapping[str, str],
        log: bool,
    ) -> Box:
        bound = {path: path for path in self.root.host_paths}
        for number, (target, text) in enumerate(files.items()):
            file = folder / f"file{number}"
            file.write_text(text)
            file.chmod(0o644)
            bound[str(file)] = target
        name = f"podlab-box.{owners.own()}.{name}-{secrets.token_hex(3)}"
        stack.callback(_remove, self.runtime, name)
        self.runtime.run("create", f"--name={name}", *options(self.runtime, self.bounds, bound), self.image, *argv)
        if not log:
            self.runtime.run("start", name)
            return Container(self.runtime, name, folder / "log", None)
        with (folder / "log").open("wb") as output:
            main = subprocess.Popen(
                [self.runtime.path, "start", "--attach", name],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.DEVNULL,
            )
        stack.callback(_reaped, main)
        return Container(self.runtime, name, folder / "log", main)


class Container(Box):
    """One container, `main` the command that is attached to its first process."""

    # The runtime counts them: the kernel would count those of every container together.
    processes = unboxed.PROCESSES

    def __init__(self, runtime: Runtime, name: str, log: Path, main: subprocess.Popen[bytes] | None) -> None:
        self.runtime = runtime
        self.name = name
        self._log = log
        self._main = main
        self._executing: set[int] = set()

    def wait(self, seconds: float) -> Exit | None:
        """How its program ended; None when it has not within `seconds` (then everything in it is killed).

        Raises RuntimeRefused if it is the runtime's command that has ended, by a signal or as it does when it fails.
        """
        assert self._main is not None
        try:
            status = self._main.wait(seconds)
        except subprocess.TimeoutExpired:
            _remove(self.runtime, self.name)
            return None
        if status < 0 or 125 <= status <= 127:
            raise RuntimeRefused(
                f"`{self.runtime.name} start {self.name}` has ended by itself (status {status}).",
                hint=f"Look whether {self.runtime.name} is well: `{self.runtime.name} info`.",
            )
        full = self._state("OOMKilled")
        return Exit(status, time.time(), status - 128 if status > 128 else None, out_of_memory=full)

    def output(self, most: int) -> str:
        """What its program wrote to standard output, at most `most` characters of it."""
        with self._log.open(errors="replace") as lines:
            return lines.read(most)

    def execute(self, argv: Sequence[str], stdio: tuple[int, int, int]) -> Any:
        """Start a further program in the container with three descriptors."""
        if not self._state("Running"):
            raise RuntimeRefused(f"The container {self.name} has ended.")
        command = [self.runtime.path, "exec", "--interactive", self.name, *argv]
        process = subprocess.Popen(command, stdin=stdio[0], stdout=stdio[1], stderr=stdio[2])
        self._executing.add(process.pid)
        return process

    def ending(self, process: Any) -> Any:
        """A file that becomes readable when a program that was started by `execute` has ended."""
        return io.FileIO(kernel.pidfd_open(process.pid))

    def kill(self, process: Any) -> int:
        """End a program that was started by `execute`, with the last of them what they left; its status.

        One that others run beside loses its input and output now, and ends with them.
        """
        self._executing.discard(process.pid)
        if not self._executing:
            try:
                self.runtime.run("exec", self.name, *_END_OTHERS)
            except PodlabError:
                # No room for one more process, or it has ended: the next program gets another container.
                _remove(self.runtime, self.name)
        _reaped(process)
        return int(process.returncode)

    def _state(self, what: str) -> bool:
        try:
            return self.runtime.run("inspect", "--format", f"{{{{.State.{what}}}}}", self.name).strip() == "true"
        except PodlabError:
            return False


def options(runtime: Runtime, bounds: Bounds, bound: Mapping[str, str]) -> list[str]:
    """The options of one container; `bound` are paths of this machine, and where they are to be found, read-only."""
    return [
        f"--label={LABEL}",
        "--network=none",
        "--hostname=box",
        "--read-only",
        *(_ONLY_TMP if runtime.name == "podman" else ()),
        f"--tmpfs=/tmp:rw,exec,nosuid,nodev,mode=1777,size={bounds.disk}",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        # What is bound keeps its labels of SELinux, which would hide it.
        "--security-opt=label=disable",
        f"--user={NOBODY}:{NOBODY}",
        f"--memory={bounds.memory}",
        f"--memory-swap={bounds.memory}",
        f"--pids-limit={PROCESSES}",
        "--ulimit=core=0",
        # Output comes to the grader, which has room for so much as it asks for: no second copy on the disk.
        "--log-driver=none",
        "--workdir=/tmp",
        *(f"--env={name}={value}" for name, value in ENVIRONMENT.items()),
        *(f"--mount=type=bind,src={source},dst={target},readonly" for source, target in bound.items()),
    ]


def bury(runtime: Runtime) -> list[str]:
    """Remove the containers and folders that killed graders of this machine have left; returns the former's names."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another grader removes it, too
            if owners.dead(folder.name.split(".")[1]) and folder.lstat().st_uid == os.geteuid():
                shutil.rmtree(folder, ignore_errors=True)
    names = runtime.run("ps", "--all", "--filter", f"label={LABEL}", "--format", "{{.Names}}").split()
    left = [name for name in names if name.count(".") == 2 and owners.dead(name.split(".")[1])]
    for name in left:
        _remove(runtime, name)
    return left


def _remove(runtime: Runtime, name: str) -> None:
    with contextlib.suppress(PodlabError):
        runtime.run("rm", "--force", "--volumes", name)


def _reaped(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def _imported(runtime: Runtime, root: RootFileSystem) -> str:
    """The id of the image with the root's own files, imported if it is not there."""
    tag = f"podlab-contained:{hashlib.sha256(repr(root).encode()).hexdigest()[:12]}"
    with contextlib.suppress(PodlabError):
        return runtime.run("image", "inspect", "--format", "{{.Id}}", tag).strip()
    return runtime.run("import", "-", tag, data=archive(root)).split()[-1]


def archive(root: RootFileSystem) -> bytes:
    """The root's own files as a tar: its layers, links and files, and a place for each path that will be bound."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for layer in root.layers:
            tar.add(layer, arcname=".", filter=_of_root)
        there = {f"/{name.removeprefix('./')}" for name in tar.getnames()} | {"/"}

        def add(path: str, kind: bytes, mode: int = 0o755, *, target: str = "", data: bytes | None = None) -> None:
            for folder in reversed(PurePosixPath(path).parents):
                if str(folder) not in there:
                    add(str(folder), tarfile.DIRTYPE)
            if path in there:
                return
            there.add(path)
            entry = tarfile.TarInfo(f".{path}")
            entry.type, entry.mode, entry.linkname, entry.size = kind, mode, target, len(data or b"")
            tar.addfile(entry, io.BytesIO(data) if data is not None else None)

        for path, target in root.links.items():
            add(path, tarfile.SYMTYPE, target=target)
        for path, text in root.files.items():
            add(path, tarfile.REGTYPE, 0o644, data=text.encode())
        for path in (*_FOLDERS, *root.host_paths):
            add(path, tarfile.REGTYPE if Path(path).is_file() and path not in _FOLDERS else tarfile.DIRTYPE)
    return made.getvalue()


def _of_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry
