"""What the bundled images borrow from this machine: its /usr, and the Python installation that runs podlab.

Computed from the machine, since Linuxes differ: merged /usr or not, where certificates are, an interpreter in
/usr, in a home folder (pyenv, uv, conda) or in a store of packages (Nix, Homebrew). Nothing else is borrowed:
of a home folder exactly the interpreter's own folder and the environment's site-packages.
"""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

#: Folders at the root that are links into /usr on most Linuxes, and real folders on a few (Alpine).
_SYSTEM = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
#: What programs under /usr need from /etc, wherever a Linux has it: never keys, users or addresses.
_ETC = (
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/ssl/certs",
    "/etc/ssl/cert.pem",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/ca-trust/extracted",
    "/etc/ca-certificates/extracted",
    "/etc/crypto-policies/back-ends",
    "/var/lib/ca-certificates",
)
#: Stores of packages: a program in one needs others of the same store, so that the store is borrowed whole.
_STORES = ("/nix/store", "/gnu/store", "/home/linuxbrew/.linuxbrew", "/opt/homebrew")


@dataclass(frozen=True)
class Borrowed:
    """`paths` are absolute paths to bind read-only at the same place, `links` symbolic links to make."""

    paths: tuple[str, ...]
    links: Mapping[str, str] = field(default_factory=dict)

    def covers(self, path: str) -> bool:
        """Whether `path` lies in what is borrowed."""
        return any(_within(path, there) for there in self.paths)


@dataclass(frozen=True)
class Interpreter:
    """A Python installation: program (links resolved), prefix, version (3, 11, 7), and its package folders.

    `packages` are the environment's own site-packages folders; `system_packages` tells whether packages of
    the installation itself are visible too. `pieces` are the parts of the prefix to borrow where the prefix
    as a whole must not be (it is a home folder, say).
    """

    program: str
    prefix: str
    version: tuple[int, int, int]
    packages: tuple[str, ...]
    system_packages: bool
    pieces: tuple[str, ...] = ()


def system(root: Path = Path("/")) -> Borrowed:
    """What every bundled image borrows from the Linux at `root` (another root than "/": for tests)."""
    paths, links = ["/usr"], {}
    for name in _SYSTEM:
        here = root / name
        if here.is_symlink():
            links[f"/{name}"] = str(here.readlink())
        elif here.is_dir():
            paths.append(f"/{name}")
    for name in _ETC:
        _follow(root, name, paths, links)
    return Borrowed(_outermost(paths), links)


def interpreter() -> Interpreter:
    """The Python that runs this process, without regard to a virtual environment around it."""
    base = Path(getattr(sys, "_base_executable", "") or sys.executable).resolve()
    within_environment = sys.prefix != sys.base_prefix
    schemes = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    packages = sorted(schemes) if within_environment else []
    if not within_environment and site.ENABLE_USER_SITE:
        packages = [site.getusersitepackages()]
    prefix = os.path.realpath(sys.base_prefix)
    standard = {sysconfig.get_path(name, vars={"base": prefix, "platbase": prefix}) for name in _STANDARD}
    return Interpreter(
        program=str(base),
        prefix=prefix,
        version=sys.version_info[:3],
        packages=tuple(path for path in map(os.path.realpath, packages) if Path(path).is_dir()),
        system_packages=not within_environment or _system_packages(Path(sys.prefix)),
        pieces=(
            str(base),
            *sorted(path for path in map(str, standard) if Path(path).is_dir()),
            *sorted(map(str, Path(prefix, "lib").glob("libpython*.so*"))),
        ),
    )


_STANDARD = ("stdlib", "platstdlib")


def python(found: Interpreter, base: Borrowed, *, private: Sequence[str], packages: bool) -> Borrowed:
    """`base` and what `found` needs beyond it; `private` are folders that must never be borrowed whole."""
    store = next((store for store in _STORES if _within(found.program, store)), None)
    if store:
        wanted = [store]
    elif any(_within(folder, found.prefix) for folder in private):
        wanted = list(found.pieces)
    else:
        wanted = [found.prefix]
    if packages:
        wanted += found.packages
    return Borrowed(_outermost([*base.paths, *wanted]), base.links)


def private_folders() -> list[str]:
    """Folders of the user that no image may show whole: home, and the checkout that podlab runs from."""
    folders = [os.path.realpath(Path.home())]
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "pyproject.toml").exists():
        folders.append(str(checkout))
    return folders


def without(base: Borrowed, private: Sequence[str], root: Path = Path("/")) -> Borrowed:
    """`base` with each folder that holds a private one replaced by its other entries (`/usr/src/app`, say)."""
    paths = list(base.paths)
    for folder in private:
        while around := next((path for path in paths if _within(folder, path)), None):
            paths.remove(around)
            if around != folder:
                inside = (root / around.lstrip("/")).iterdir()
                paths += [f"{around}/{entry.name}" for entry in inside if not entry.is_symlink()]
    return Borrowed(_outermost(paths), base.links)


def _system_packages(prefix: Path) -> bool:
    try:
        lines = (prefix / "pyvenv.cfg").read_text().lower().splitlines()
    except OSError:
        return False
    settings = dict(line.split("=", 1) for line in lines if "=" in line)
    return {key.strip(): value.strip() for key, value in settings.items()}.get("include-system-site-packages") == "true"


def _follow(root: Path, name: str, paths: list[str], links: dict[str, str]) -> None:
    """Borrow `name` and, where it is a symbolic link, make the link and borrow what it leads to."""
    for _ in range(8):
        here = root / name.lstrip("/")
        if not here.is_symlink():
            if here.exists():
                paths.append(name)
            return
        links[name] = str(here.readlink())
        name = os.path.normpath(Path(name).parent / links[name])
        if not name.startswith(("/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/crypto", "/var/lib/ca")):
            return


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _outermost(paths: Sequence[str]) -> tuple[str, ...]:
    """Sorted, without those that lie in another one."""
    kept: list[str] = []
    for path in sorted(set(paths)):
        if not any(_within(path, there) for there in kept):
            kept.append(path)
    return tuple(kept)
