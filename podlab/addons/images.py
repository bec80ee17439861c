"""Images of add-ons, made on this machine from the real programs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from podlab import paths
from podlab.addons.catalogue import Addon, Image, dockerfile
from podlab.checks.world import OFFICIAL_IMAGE, PYTHON_IMAGE
from podlab.images import build
from podlab.images.layout import ImageLayout
from podlab.images.packages import wheels
from podlab.images.reference import Reference


def make(image: Image, programs: Mapping[str, Path]) -> None:
    """Put an image into the local store. Costs one reading of the program if it is there already."""
    layout = ImageLayout(paths.cache() / "images")
    scratch = paths.private(paths.cache() / "images-made")
    with tempfile.TemporaryDirectory(prefix=f"{image.name}-", dir=scratch) as name:
        folder = Path(name)
        shutil.copy(dockerfile(image), folder / "Dockerfile")
        program = folder / image.name
        paths.link_or_copy(programs[image.name], program)
        build.build(layout, folder, [Reference.parse(image.reference)])


def make_python(addon: Addon, python: str) -> str:
    """Put podlab/python with an add-on's packages into the store, for nodes with this Python; returns its name."""
    name = f"podlab/{addon.name}-python:{python}"
    scratch = paths.private(paths.cache() / "images-made")
    with tempfile.TemporaryDirectory(prefix=f"{addon.name}-", dir=scratch) as folder:
        found = wheels(addon.name, addon.packages, python)
        shutil.copytree(found, Path(folder, "packages"), copy_function=paths.link_or_copy)
        lines = [f"FROM {PYTHON_IMAGE}", "COPY packages /opt/packages", "ENV PYTHONPATH=/opt/packages"]
        Path(folder, "Dockerfile").write_text("\n".join(lines) + "\n")
        build.build(ImageLayout(paths.cache() / "images"), Path(folder), [Reference.parse(name)])
    return name


def official(text: str, images: Sequence[Image], own: tuple[str, str] | None = None) -> str:
    """A manifest with the official images in place of ours, for a cluster that pulls its images itself."""
    if own:
        text = text.replace(*own)
    for image in images:
        text = text.replace(image.reference, image.official)
    return text.replace(PYTHON_IMAGE, OFFICIAL_IMAGE)
