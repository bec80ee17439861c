"""What the learner's kernel gets of the package is enough to import what a notebook imports, and holds no grader."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from podlab.grading import kernel_image
from podlab.images.build import build
from podlab.images.layout import ImageLayout
from podlab.images.reference import Reference

#: Imports from the folder of the image alone: neither this package as it is installed, nor the working directory.
IMPORT = """
import sys

sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
sys.path.insert(0, sys.argv[1])
import podlab.checks.answers
import podlab.checks.results
import podlab.grading.inside
import podlab.lab

print(podlab.__file__)
"""

REFUSE_TO_COMPILE = """
from importlib.machinery import SourceFileLoader

def compiled(loader, *arguments, **more):
    assert not loader.name.startswith("podlab."), f"{loader.name} is compiled"
    return ordinary(loader, *arguments, **more)

ordinary, SourceFileLoader.source_to_code = SourceFileLoader.source_to_code, compiled
"""


def test_a_notebooks_imports_work_in_the_image(tmp_path: Path) -> None:
    kernel_image.write_package(tmp_path / "podlab")
    done = subprocess.run(
        [sys.executable, "-B", "-P", "-c", IMPORT, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == str(tmp_path / "podlab" / "__init__.py"), done.stderr


def test_the_image_holds_its_modules_compiled_whatever_their_dates(tmp_path: Path) -> None:
    """Boxes cannot write: without that every one of them would compile what it imports."""
    kernel_image.write_package(tmp_path / "podlab")
    for file in tmp_path.rglob("*.py"):
        os.utime(file, (0, 0))
    done = subprocess.run(
        [sys.executable, "-B", "-P", "-c", REFUSE_TO_COMPILE + IMPORT, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_an_image_of_this_very_package_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODLAB_HOME", str(tmp_path))
    index = tmp_path / "cache" / "images" / "index.json"
    reference, before = kernel_image.build_image(), index.stat()
    assert kernel_image.build_image() == reference
    assert index.stat().st_mtime_ns == before.st_mtime_ns
    monkeypatch.setattr(kernel_image, "digest", lambda _base: "another")
    kernel_image.build_image()
    assert index.stat().st_mtime_ns != before.st_mtime_ns


def test_graders_that_share_a_store_have_an_image_each_and_keep_none_of_their_own_older_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PODLAB_HOME", str(tmp_path))
    layout = ImageLayout(tmp_path / "cache" / "images")

    def kernels() -> set[str]:
        return {Reference.parse(name).familiar for name in layout.images() if kernel_image.IMAGE in name}

    first = kernel_image.build_image()
    # Of another environment: it borrows other folders of the machine.
    elsewhere = Reference.parse(f"{kernel_image.IMAGE}:elsewhere")
    (tmp_path / "Dockerfile").write_text("FROM podlab/toolbox\n")
    build(layout, tmp_path, [elsewhere])
    assert kernels() == {first, elsewhere.familiar}
    monkeypatch.setattr(kernel_image, "digest", lambda _base: "another")
    second = kernel_image.build_image()
    assert first != second and kernels() == {second, elsewhere.familiar}


def test_no_grader_is_in_the_image(tmp_path: Path) -> None:
    kernel_image.write_package(tmp_path / "podlab")
    modules = {each.name for each in (tmp_path / "podlab" / "grading").glob("*.py")}
    assert modules == {"__init__.py", "inside.py"}
    compiled = {each.name.split(".")[0] for each in (tmp_path / "podlab" / "grading" / "__pycache__").iterdir()}
    assert compiled <= {"__init__", "inside"}
