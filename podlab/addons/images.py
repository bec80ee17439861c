"""Images of add-ons, made on this machine from the real programs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from podlab import paths
from podlab.addons.catalogue import Addon, Image, dockerfile
from podlab.checks.world import OFFICIAL_IMAGE, PYTHON_IMAGE
from podlab.images import making
from podlab.images.packages import wheels


def make(image: Image, programs: Mapping[str, Path]) -> None:
    """Put an image into the local store. Costs one reading of the program if it is there already."""
    with making.scratch(image.name) as folder:
        shutil.copytree(dockerfile(image).parent, folder, dirs_exist_ok=True)
        program = folder / image.name
        paths.link_or_copy(programs[image.name], program)
        making.put(folder, image.reference)


def make_python(addon: Addon, python: str) -> str:
    """Put podlab/python with an add-on's packages into the store, for nodes with this Python; returns its name."""
    name = f"podlab/{addon.name}-python:{python}"
    with making.scratch(addon.name) as folder:
        found = wheels(addon.name, addon.packages, python)
        shutil.copytree(found, folder / "packages", copy_function=paths.link_or_copy)
        lines = [f"FROM {PYTHON_IMAGE}", "COPY packages /opt/packages", "ENV PYTHONPATH=/opt/packages"]
        (folder / "Dockerfile").write_text("\n".join(lines) + "\n")
        making.put(folder, name)
    return name


def official(text: str, images: Sequence[Image], own: tuple[str, str] | None = None) -> str:
    """A manifest with the official images in place of ours, for a cluster that pulls its images itself."""
    if own:
        text = text.replace(*own)
    for image in images:
        text = text.replace(image.reference, image.official)
    return text.replace(PYTHON_IMAGE, OFFICIAL_IMAGE)
