"""Where podlab finds its own committed files."""

from __future__ import annotations

from pathlib import Path

import pytest

from podlab import paths
from podlab.errors import EnvironmentUnsuitable


def test_committed_files_are_found_in_the_checkout() -> None:
    assert paths.committed("kind.yaml").is_file()
    assert (paths.committed("images/python") / "Dockerfile").is_file()


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment in which podlab is installed from a wheel: no checkout around it, data files beside it."""
    place = tmp_path / "env" / "lib" / "site-packages"
    record = place / "podlab-9.dist-info" / "RECORD"
    record.parent.mkdir(parents=True)
    (record.parent / "METADATA").write_text("Metadata-Version: 2.1\nName: podlab\nVersion: 9\n")
    shared = tmp_path / "env" / "share" / "podlab"
    for name in ("images/python/Dockerfile", "kind.yaml"):
        (shared / name).parent.mkdir(parents=True, exist_ok=True)
        (shared / name).write_text("installed")
    record.write_text("../../share/podlab/images/python/Dockerfile,,\n../../share/podlab/kind.yaml,,\n")
    monkeypatch.syspath_prepend(place)
    monkeypatch.setattr(paths, "__file__", str(place / "podlab" / "paths.py"))
    return shared


def test_committed_files_are_found_in_an_installed_package(installed: Path) -> None:
    for name in ("kind.yaml", "images/python/Dockerfile", "images/python", "images"):
        assert paths.committed(name) == installed / name


def test_files_that_are_nowhere_are_named(installed: Path) -> None:
    with pytest.raises(EnvironmentUnsuitable, match="cluster/images/perl is neither"):
        paths.committed("images/perl")


def test_a_folder_that_cannot_be_made_is_said_whosever_it_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentUnsuitable, match="/file/graded cannot be made: Not a directory") as caught:
        paths.private(tmp_path / "file" / "graded")
    assert caught.value.hint == "Choose a folder that you can write to; PODLAB_HOME moves podlab's own."
