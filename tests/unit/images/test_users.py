from __future__ import annotations

from pathlib import Path

import pytest

from podlab.errors import ImagePullError
from podlab.images.users import Identity, identify

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
web:x:33:34:Web,,,:/var/www:/bin/false
broken line
bad:x:no:1::/:
short:x:7:8::/s
"""
GROUP = "root:x:0:\nweb:x:34:\nextra:x:50:web,short\nmore:x:51:web\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    return tmp_path


@pytest.mark.parametrize(
    ("user", "identity"),
    [
        ("", Identity(0, 0, (), "/root", "root")),
        ("0", Identity(0, 0, (), "/root", "root")),
        ("web", Identity(33, 34, (50, 51), "/var/www", "web")),
        ("33", Identity(33, 34, (50, 51), "/var/www", "web")),
        ("web:extra", Identity(33, 50, (), "/var/www", "web")),
        ("web:77", Identity(33, 77, (), "/var/www", "web")),
        ("1234", Identity(1234, 0, (), "/", "")),
        ("1234:5", Identity(1234, 5, (), "/", "")),
        ("short", Identity(7, 8, (50,), "/s", "short")),
    ],
)
def test_users_are_those_of_the_image(root: Path, user: str, identity: Identity) -> None:
    assert identify(root, user) == identity


@pytest.mark.parametrize("user", ["nobody", "bad", "web:none", "²"])
def test_an_unknown_name_is_told(root: Path, user: str) -> None:
    with pytest.raises(ImagePullError, match="has no such"):
        identify(root, user)


def test_an_image_without_accounts_has_numbers_only(tmp_path: Path) -> None:
    assert identify(tmp_path, "5:6") == Identity(5, 6)
    assert identify(None, "") == Identity(0, 0)


def test_the_hosts_accounts_are_never_read(tmp_path: Path) -> None:
    (tmp_path / "etc").symlink_to("/etc")
    with pytest.raises(ImagePullError):
        identify(tmp_path, "daemon")
