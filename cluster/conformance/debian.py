"""Root folders from Debian packages, without root and without Docker: fetched by apt with a state of its own, unpacked.

The packages' install scripts do not run; what they would have done that tests look at is done here.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from podlab.cluster.embedded.binaries import Progress, Report
from podlab.errors import BinaryError, EnvironmentUnsuitable

#: What the images' programs and the tests' own commands need. Dependencies come by themselves.
PACKAGES = (
    "bash",
    "bind9-dnsutils",
    "busybox-static",
    "curl",
    "iproute2",
    "libc-bin",
    "netcat-openbsd",
    "nginx-light",
    "socat",
    "util-linux",
)
_MERGED = ("bin", "lib", "lib64", "sbin")
_USELESS = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "var/cache", "var/lib/apt")

_PASSWD = "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/false\n"
_GROUP = "root:x:0:\ntty:x:5:\nwww-data:x:33:\n"
_NOBODY = "nobody:x:65534:65534:nobody:/:/bin/false\n"
_NOGROUP = "nogroup:x:65534:\n"
_NSSWITCH = "passwd: files\ngroup: files\nhosts: files dns\n"


def make(root: Path, scratch: Path, progress: Progress) -> None:
    """Make the tree `root` of `PACKAGES` and all that they depend on; EnvironmentUnsuitable without apt."""
    tools = [name for name in ("apt-get", "dpkg-deb", "tar") if not shutil.which(name)]
    if tools:
        raise EnvironmentUnsuitable(
            f"The images are made of Debian packages, but {', '.join(tools)} is not on this machine.",
            hint="Run `make conformance` on Debian or Ubuntu, or copy ~/.cache/podlab/conformance from there.",
        )
    _prepare(root)
    packages = _fetch(scratch, progress)
    for number, package in enumerate(packages, 1):
        progress(Report("unpack packages", package.name, number, len(packages), "packages"))
        _unpack(package, root)
    _finish(root)
    progress(Report("unpack packages", f"{len(packages)} unpacked", kind="done"))


def _prepare(root: Path) -> None:
    for name in _MERGED:
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")


def _fetch(scratch: Path, progress: Progress) -> list[Path]:
    """The packages with all dependencies: against an empty status file, as if nothing were installed."""
    state, cache = scratch / "state", scratch / "cache"
    (state / "lists/partial").mkdir(parents=True)
    (cache / "archives/partial").mkdir(parents=True)
    (state / "status").touch()
    options = [f"Dir::State={state}", f"Dir::State::status={state / 'status'}", f"Dir::Cache={cache}"]
    options += ["Debug::NoLocking=1", "APT::Sandbox::User=", "Dir::Log=/nonexistent"]
    base = ["apt-get", "-q", *(word for option in options for word in ("-o", option))]
    progress(Report("fetch packages", "package lists"))
    _run([*base, "update"])
    progress(Report("fetch packages", ", ".join(PACKAGES)))
    _run([*base, "-y", "--download-only", "--no-install-recommends", "install", *PACKAGES])
    found = sorted((cache / "archives").glob("*.deb"))
    progress(Report("fetch packages", f"{len(found)} packages, verified by apt", kind="done"))
    return found


def _unpack(package: Path, root: Path) -> None:
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as source:
        _run(["tar", "-x", "--keep-directory-symlink", "--no-same-owner", "-C", str(root)], stdin=source.stdout)
    if source.returncode:
        raise BinaryError(f"dpkg-deb could not read {package.name} (status {source.returncode}).")


def _finish(root: Path) -> None:
    for name in _USELESS:
        shutil.rmtree(root / name, ignore_errors=True)
    binaries = root / "usr" / "bin"
    applets = _run([str(binaries / "busybox"), "--list"]).split()
    folders = [root / "usr" / name for name in ("bin", "sbin")]
    for applet in applets:
        if not any((folder / applet).exists() or (folder / applet).is_symlink() for folder in folders):
            (binaries / applet).symlink_to("busybox")
    for name, target in (("sh", "bash"), ("nc", "nc.openbsd")):
        (binaries / name).unlink(missing_ok=True)
        (binaries / name).symlink_to(target)
    accounts(root)


def accounts(root: Path, *, user: str = "", group: str = "") -> None:
    """Write /etc/passwd, /etc/group and what a program asks about names; /tmp for all."""
    for name in ("etc", "root", "tmp", "var/tmp"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("tmp", "var/tmp"):
        (root / name).chmod(0o1777)
    (root / "etc" / "passwd").write_text(_PASSWD + user + _NOBODY)
    (root / "etc" / "group").write_text(_GROUP + group + _NOGROUP)
    (root / "etc" / "nsswitch.conf").write_text(_NSSWITCH)


def busybox(source: Path, shell: Path, root: Path) -> None:
    """Make the small tree `root`: the static busybox of the tree `source`, its applets, and `shell` as sh."""
    binaries = root / "bin"
    binaries.mkdir(parents=True)
    shutil.copy2(source / "usr/bin/busybox", binaries / "busybox")
    for applet in _run([str(binaries / "busybox"), "--list"]).split():
        if applet not in ("busybox", "sh"):
            (binaries / applet).symlink_to("busybox")
    shutil.copy2(shell, binaries / "sh")
    (root / "home").mkdir()
    accounts(root)


def _run(command: Sequence[str], stdin: object = None) -> str:
    done = subprocess.run(command, stdin=stdin, capture_output=True, text=True)  # type: ignore[call-overload]
    if done.returncode:
        said = "\n  ".join((done.stdout + done.stderr).strip().splitlines()[-6:])
        raise BinaryError(f"{command[0]} failed with status {done.returncode}:\n  {said}")
    return done.stdout
