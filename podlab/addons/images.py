"""Images of add-ons, made on this machine from the real programs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from podlab import paths
from podlab.addons.catalogue import Image, dockerfile
from podlab.checks.world import OFFICIAL_IMAGE, PYTHON_IMAGE
from podlab.images import build
from podlab.images.layout import ImageLayout
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


def official(text: str, images: Sequence[Image], own: tuple[str, str] | None = None) -> str:
    """A manifest with the official images in place of ours, for a cluster that pulls its images itself."""
    if own:
        text = text.replace(*own)
    for image in images:
        text = text.replace(image.reference, image.official)
    return text.replace(PYTHON_IMAGE, OFFICIAL_IMAGE)
