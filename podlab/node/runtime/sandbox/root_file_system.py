"""A container's file tree: built in a mount namespace of its own, then made the root (pivot_root).

The new root is entered first and everything else is mounted afterwards, from descriptors that were opened
before: so a link in an image (`/var/run -> /run`) always leads inside the container, never to the host.
"""

from __future__ import annotations

import errno
import os

from podlab.node.runtime.sandbox import kernel
from podlab.node.runtime.sandbox.kernel import MS_BIND, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, MS_REC

#: Folders that every container finds, with their modes.
_FOLDERS = {"/proc": 0o555, "/sys": 0o555, "/dev": 0o755, "/etc": 0o755, "/tmp": 0o1777}
#: Further ones where there is no image that says which there are.
_BARE_FOLDERS = {
    "/run": 0o755,
    "/var": 0o755,
    "/var/tmp": 0o1777,
    "/var/log": 0o755,
    "/var/lib": 0o755,
    "/var/cache": 0o755,
    "/root": 0o700,
    "/home": 0o755,
    "/mnt": 0o755,
    "/opt": 0o755,
    "/srv": 0o755,
}

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}

#: Paths that say or change something about the whole machine: hidden, and made read-only.
_HIDDEN = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/scsi",
    "/proc/timer_list",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

_SAFE = MS_NOSUID | MS_NODEV | MS_NOEXEC


def build(spec: dict, shared_memory: str, *, groups: bool) -> None:
    """Make the file tree of a container spec (contract.ContainerSpec as a dict) this process's root.

    Must run in the container's own PID, network and IPC namespaces. `shared_memory` is the folder that all
    containers of the sandbox see as /dev/shm; with `groups` it is in a cgroup of its own, which it is shown. Raises
    OSError that says which mount failed.
    """
    root = spec["root"]
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount(None, "/", None, MS_REC | kernel.MS_PRIVATE)
    sources = _open_sources(spec, shared_memory)
    outside = _enter(_lower(spec["folder"], root["layers"]))

    if root["layers"]:
        for folder, mode in _FOLDERS.items():
            _make_folder(folder, mode)
    kernel.mount("proc", "/proc", "proc", _SAFE)
    _system(groups)
    _devices(sources, sources[shared_memory])
    for path in root["host_paths"]:
        _bind(sources[path], path, read_only=True)
    _links(root["links"])
    _files({**root["files"], **spec["files"]})
    for mount in sorted(spec["mounts"], key=lambda entry: entry["target"].rstrip("/").count("/")):
        _bind(sources[mount["source"]], mount["target"], mount["read_only"])
    if not (spec["privileged"] or spec["unmasked_proc"]):
        _restrict()
    _make_folder(spec["working_directory"], 0o755)

    os.fchdir(outside)
    kernel.unmount(".")
    os.chdir("/")
    if root["read_only"]:
        kernel.make_read_only("/")


def _open_sources(spec: dict, shared_memory: str) -> dict[str, int]:
    """A descriptor of each path that will be bound, by path."""
    wanted = {shared_memory, *spec["root"]["host_paths"]}
    wanted.update(mount["source"] for mount in spec["mounts"] if not mount["within"])
    wanted.update(f"/dev/{name}" for name in _DEVICES)
    sources = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in wanted}
    for mount in spec["mounts"]:
        if mount["within"]:
            sources[mount["source"]] = _open_within(mount["source"], mount["within"])
    return sources


def _open_within(source: str, within: str) -> int:
    top = os.open(within, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return kernel.open_beneath(top, os.path.relpath(source, within))
    finally:
        os.close(top)


def _lower(folder: str, layers: list[str]) -> str:
    """The path of the root, mounted: the layers under a writable one, or a plain folder for no layers."""
    target = f"{folder}/root"
    os.makedirs(target, mode=0o755, exist_ok=True)
    if not layers:
        _bare_folders(target)
        kernel.mount(target, target, None, MS_BIND)
        return target
    upper, work = f"{folder}/upper", f"{folder}/work"
    for path in (upper, work):
        os.makedirs(path, mode=0o755, exist_ok=True)
    # Paths by descriptor: short (the options must fit into a page), and no character needs escaping.
    # overlayfs wants the topmost layer first.
    opened = [os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for path in (*reversed(layers), upper)]
    lower = ":".join(f"/proc/self/fd/{descriptor}" for descriptor in opened[:-1])
    work_descriptor = os.open(work, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    options = f"lowerdir={lower},upperdir=/proc/self/fd/{opened[-1]},workdir=/proc/self/fd/{work_descriptor}"
    # Its source is only a name: the topmost layer, so that others can see from outside that it is in use.
    kernel.mount(layers[-1], target, "overlay", 0, f"{options},userxattr,volatile")
    for descriptor in (*opened, work_descriptor):
        os.close(descriptor)
    return target


def _bare_folders(root: str) -> None:
    """Make the usual folders in an empty one."""
    mask = os.umask(0)
    for folder, mode in (_FOLDERS | _BARE_FOLDERS).items():
        try:
            os.mkdir(root + folder, mode)
        except FileExistsError:
            pass
    os.umask(mask)


def _enter(root: str) -> int:
    """Make `root` this process's root and return a descriptor of the old one, which is still mounted."""
    outside = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    os.chdir(root)
    kernel.pivot_root(".", ".")
    os.chdir("/")
    return outside


def _bind(source: int, target: str, read_only: bool) -> None:
    """Mount what the descriptor refers to at `target`, which is made if it is missing."""
    target = os.path.realpath(target)  # a link may lead to a place that is not there yet
    if os.path.isdir(f"/proc/self/fd/{source}"):
        _make_folder(target, 0o755)
    elif not os.path.exists(target):
        _make_folder(os.path.dirname(target) or "/", 0o755)
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
    kernel.mount(f"/proc/self/fd/{source}", target, None, MS_BIND | MS_REC)
    if read_only:
        try:
            kernel.make_tree_read_only(target)
        except OSError:
            kernel.make_read_only(target)  # before Linux 5.12: the top mount only


def _make_folder(path: str, mode: int) -> None:
    path = os.path.realpath(path)
    if not os.path.isdir(path):
        try:
            os.makedirs(path, exist_ok=True)
        except FileExistsError as error:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from error
        os.chmod(path, mode)


def _links(links: dict[str, str]) -> None:
    for path, target in links.items():
        _make_folder(os.path.dirname(path) or "/", 0o755)
        if not os.path.lexists(path):
            os.symlink(target, path)


def _files(files: dict[str, str]) -> None:
    for path, text in files.items():
        _make_folder(os.path.dirname(path) or "/", 0o755)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)


def _system(groups: bool) -> None:
    """/sys of the container's own network namespace, read-only; absent where the kernel refuses it."""
    try:
        kernel.mount("sysfs", "/sys", "sysfs", _SAFE | MS_RDONLY)
        if groups:  # where programs look for what they may use
            kernel.mount("cgroup", "/sys/fs/cgroup", "cgroup2", _SAFE | MS_RDONLY)
    except OSError:
        pass


def _devices(sources: dict[str, int], shared_memory: int) -> None:
    """/dev with the harmless devices, terminals of its own, shared memory and message queues."""
    kernel.mount("tmpfs", "/dev", "tmpfs", MS_NOSUID, "mode=755,size=65536k")
    for name in _DEVICES:
        target = f"/dev/{name}"
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666))
        kernel.mount(f"/proc/self/fd/{sources[f'/dev/{name}']}", target, None, MS_BIND)
    for name, target in _DEVICE_LINKS.items():
        os.symlink(target, f"/dev/{name}")
    for name in ("pts", "shm", "mqueue"):
        os.mkdir(f"/dev/{name}")
    kernel.mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620")
    kernel.mount(f"/proc/self/fd/{shared_memory}", "/dev/shm", None, MS_BIND)
    try:
        kernel.mount("mqueue", "/dev/mqueue", "mqueue", _SAFE)
    except OSError:
        pass


def _restrict() -> None:
    for path in _HIDDEN:
        try:
            if os.path.isdir(path):
                kernel.mount("tmpfs", path, "tmpfs", MS_RDONLY | _SAFE, "size=0,mode=555")
            elif os.path.exists(path):
                kernel.mount("/dev/null", path, None, MS_BIND)
        except FileNotFoundError:
            pass
    for path in _READ_ONLY:
        if os.path.exists(path):
            kernel.mount(path, path, None, MS_BIND | MS_REC)
            kernel.make_read_only(path)
