from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from podlab.images import host
from podlab.images.host import Borrowed, Interpreter


def _linux(root: Path, *folders: str, links: dict[str, str] | None = None, files: tuple[str, ...] = ()) -> Path:
    for folder in folders:
        (root / folder).mkdir(parents=True)
    for path, target in (links or {}).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).symlink_to(target)
    for path in files:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("")
    return root


def test_a_debian_lends_usr_and_little_of_etc(tmp_path: Path) -> None:
    root = _linux(
        tmp_path,
        "usr/bin",
        "etc/alternatives",
        "etc/ssl/certs",
        "etc/ssl/private",
        "home/me",
        links={"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"},
        files=("etc/ld.so.cache", "etc/shadow", "etc/passwd"),
    )
    found = host.system(root)
    assert found.paths == ("/etc/alternatives", "/etc/ld.so.cache", "/etc/ssl/certs", "/usr")
    assert found.links == {"/bin": "usr/bin", "/sbin": "usr/sbin", "/lib": "usr/lib", "/lib64": "usr/lib64"}


def test_an_alpine_lends_its_real_folders(tmp_path: Path) -> None:
    found = host.system(_linux(tmp_path, "usr", "bin", "sbin", "lib", "etc/ssl/certs"))
    assert found.paths == ("/bin", "/etc/ssl/certs", "/lib", "/sbin", "/usr")
    assert found.links == {}


def test_a_fedora_has_its_certificates_behind_links(tmp_path: Path) -> None:
    root = _linux(
        tmp_path,
        "usr",
        "etc/pki/tls/private",
        "etc/pki/ca-trust/extracted",
        links={
            "bin": "usr/bin",
            "etc/ssl/certs": "../pki/tls/certs",
            "etc/pki/tls/certs": "../ca-trust/extracted/pem/directory-hash",
            "etc/pki/tls/cert.pem": "../ca-trust/extracted/pem/tls-ca-bundle.pem",
        },
    )
    found = host.system(root)
    assert found.paths == ("/etc/pki/ca-trust/extracted", "/usr")
    assert found.links["/etc/ssl/certs"] == "../pki/tls/certs"
    assert found.links["/etc/pki/tls/certs"] == "../ca-trust/extracted/pem/directory-hash"
    assert not found.covers("/etc/pki/tls/private")


def test_a_link_to_an_unexpected_place_is_made_but_not_borrowed(tmp_path: Path) -> None:
    root = _linux(tmp_path, "usr", "home/me/certs", links={"etc/ssl/certs": "/home/me/certs"})
    found = host.system(root)
    assert found.paths == ("/usr",)
    assert found.links == {"/etc/ssl/certs": "/home/me/certs"}


def _interpreter(program: str, prefix: str, *packages: str) -> Interpreter:
    pieces = (program, f"{prefix}/lib/python3.11", f"{prefix}/lib/libpython3.11.so.1.0")
    return Interpreter(program, prefix, (3, 11, 7), packages, False, pieces)


BASE = Borrowed(("/usr",))


@pytest.mark.parametrize(
    ("program", "prefix", "packages", "paths"),
    [
        ("/usr/bin/python3.11", "/usr", (), ("/usr",)),
        ("/usr/bin/python3.11", "/usr", ("/home/me/c/.venv/lib/python3.11/site-packages",), None),
        ("/home/me/.pyenv/versions/3.11.7/bin/python3.11", "/home/me/.pyenv/versions/3.11.7", (), None),
        ("/opt/py/bin/python3.11", "/opt/py", (), ("/opt/py", "/usr")),
        (
            "/home/me/bin/python3.11",
            "/home/me",
            (),
            ("/home/me/bin/python3.11", "/home/me/lib/libpython3.11.so.1.0", "/home/me/lib/python3.11", "/usr"),
        ),
        ("/nix/store/abc-python3/bin/python3.11", "/nix/store/abc-python3", (), ("/nix/store", "/usr")),
        ("/home/linuxbrew/.linuxbrew/Cellar/p/bin/p", "/home/linuxbrew/.linuxbrew/Cellar/p", (), None),
    ],
)
def test_of_a_home_only_the_interpreter_and_the_packages_are_lent(
    program: str, prefix: str, packages: tuple[str, ...], paths: tuple[str, ...] | None
) -> None:
    found = host.python(_interpreter(program, prefix, *packages), BASE, private=["/home/me"], packages=True)
    assert paths is None or found.paths == paths
    assert all(found.covers(path) for path in (program, *packages))
    for private in ("/home/me", "/home/me/secret", "/home/me/c", "/home/me/c/work", "/home/me/.ssh", "/home"):
        assert not found.covers(private)


def test_packages_are_lent_only_where_asked() -> None:
    found = host.python(_interpreter("/usr/bin/p", "/usr", "/v/lib"), BASE, private=[], packages=False)
    assert found.paths == ("/usr",)


def test_a_private_folder_within_usr_is_left_out(tmp_path: Path) -> None:
    root = _linux(tmp_path, "usr/bin", "usr/lib", "usr/src/app/secret", "usr/src/linux", links={"usr/tmp": "../tmp"})
    found = host.without(Borrowed(("/etc/ssl", "/usr")), ["/usr/src/app"], root)
    assert found.paths == ("/etc/ssl", "/usr/bin", "/usr/lib", "/usr/src/linux")


def test_this_interpreter_is_found() -> None:
    found = host.interpreter()
    assert Path(found.program).is_file() and os.access(found.program, os.X_OK)
    assert found.version == sys.version_info[:3]
    assert Path(found.prefix, "lib").is_dir()
    assert not Path(found.program).is_symlink()
    if sys.prefix != sys.base_prefix:
        assert any(Path(folder, "pytest").is_dir() for folder in found.packages)
    assert all(Path(piece).exists() for piece in found.pieces)
