"""The image of the learners' kernel: the bundled Python, and the package without its grader."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import podlab
from podlab import paths

IMAGE = "podlab/grading-kernel"
#: What of the package the learner's kernel does not get: the grader and the commands. Hidden checks are no part of it.
LEFT_OUT = ("grading", "commands", "cli.py", "__main__.py", "__pycache__")


def build_image() -> str:
    """Build the image of the learner's kernel into the local store and return its reference.

    Builds are deterministic and layers content-addressed: an unchanged package costs nothing.
    """
    from podlab.images.build import build
    from podlab.images.layout import ImageLayout
    from podlab.images.reference import Reference

    with tempfile.TemporaryDirectory(prefix="podlab-kernel-") as folder:
        context = Path(folder)
        write_package(context / "podlab")
        (context / "Dockerfile").write_text("FROM podlab/python:latest\nCOPY podlab /opt/course/podlab\nWORKDIR /tmp\n")
        build(ImageLayout(paths.cache() / "images"), context, [Reference.parse(IMAGE)])
    return f"{IMAGE}:latest"


def write_package(target: Path) -> None:
    """Write what the learner's kernel gets of the package into the new folder `target`."""
    shutil.copytree(Path(podlab.__file__).parent, target, ignore=shutil.ignore_patterns(*LEFT_OUT))
    (target / "grading").mkdir()
    (target / "grading" / "__init__.py").touch()
    shutil.copy(Path(__file__).with_name("inside.py"), target / "grading" / "inside.py")
