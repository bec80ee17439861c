"""The image of the learners' kernel: the bundled Python, and the package without its grader."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import py_compile
import shutil
import struct
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import podlab
from podlab import paths
from podlab.errors import ImagePullError

if TYPE_CHECKING:
    from podlab.images.layout import ImageLayout
    from podlab.images.pull import Images
    from podlab.images.reference import Reference

IMAGE = "podlab/grading-kernel"
BASE = "podlab/python:latest"
#: Its label with what it was made of.
LABEL = "podlab.grading.made-of"
#: What of the package the learner's kernel does not get: the grader and the commands. Hidden checks are no part of it.
LEFT_OUT = ("grading", "commands", "cli.py", "__main__.py", "__pycache__")
#: Flags in the head of compiled code: it belongs to its source without a look at it. See PEP 552.
_UNCHECKED = 0b01
_BY_DATE = py_compile.PycInvalidationMode.TIMESTAMP
_WORD = 0xFFFFFFFF


def build_image() -> str:
    """Build the image of the learner's kernel into the local store and return its reference.

    Builds are deterministic and layers content-addressed; an image of this very package is left as it is. Its tag says
    what it is made of: a grader of another version, or of another environment, with which the store is shared, does not
    take it away from the boxes to come.
    """
    from podlab.images.build import build
    from podlab.images.layout import ImageLayout
    from podlab.images.pull import Images
    from podlab.images.reference import Reference

    layout = ImageLayout(paths.cache() / "images")
    images = Images(layout.folder)
    made_of = digest(images.image(Reference.parse(BASE)).id)
    reference = Reference.parse(f"{IMAGE}:{made_of[:12]}")
    with contextlib.suppress(ImagePullError):
        if images.image(reference).labels.get(LABEL) == made_of:
            return reference.familiar
    with tempfile.TemporaryDirectory(prefix="podlab-kernel-") as folder:
        context = Path(folder)
        write_package(context / "podlab")
        lines = (f"FROM {BASE}", "COPY podlab /opt/course/podlab", "WORKDIR /tmp", f"LABEL {LABEL}={made_of}")
        (context / "Dockerfile").write_text("\n".join(lines) + "\n")
        build(layout, context, [reference])
    _forget_older(layout, images, reference)
    return reference.familiar


def _forget_older(layout: ImageLayout, images: Images, newest: Reference) -> None:
    """Take the names of images that earlier versions of this environment's package had."""
    from podlab.images.catalogue import PATHS_LABEL
    from podlab.images.reference import Reference

    ours = images.image(newest).labels[PATHS_LABEL]
    for name in layout.images():
        other = Reference.parse(name)
        if other.repository != newest.repository or other == newest:
            continue
        with contextlib.suppress(ImagePullError):
            if images.image(other).labels.get(PATHS_LABEL) == ours:
                layout.untag(other)


def digest(base: str) -> str:
    """SHA-256 of everything that the image is made of: the package as it is, and the image `base`."""
    root = Path(podlab.__file__).parent
    hashed = hashlib.sha256(base.encode())
    for file in sorted(root.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            hashed.update(f"{file.relative_to(root)}\0".encode())
            hashed.update(hashlib.sha256(file.read_bytes()).digest())
    return hashed.hexdigest()


def write_package(target: Path) -> None:
    """Write what the learner's kernel gets of the package into the new folder `target`."""
    shutil.copytree(Path(podlab.__file__).parent, target, ignore=shutil.ignore_patterns(*LEFT_OUT))
    (target / "grading").mkdir()
    for name in ("__init__.py", "inside.py"):
        shutil.copy(Path(__file__).with_name(name), target / "grading" / name)
    for module in target.rglob("*.py"):
        compiled = Path(importlib.util.cache_from_source(str(module)))
        compiled.parent.mkdir(exist_ok=True)
        compiled.write_bytes(bytecode(Path(podlab.__file__).parent / module.relative_to(target)))


def bytecode(source: Path) -> bytes:
    """A module compiled, as a file that holds whatever the source's date.

    Nobody can write into an image, so every box would compile what it imports. The code is the one that the interpreter
    keeps beside the source (it is put there if need be): the same bytes each time, so that the image is the same.
    """
    kept = Path(importlib.util.cache_from_source(str(source)))
    facts = source.stat()
    head = importlib.util.MAGIC_NUMBER + struct.pack("<III", 0, int(facts.st_mtime) & _WORD, facts.st_size & _WORD)
    data = kept.read_bytes() if kept.is_file() else b""
    if data[: len(head)] != head:
        data = _compile(source)
    flags = struct.pack("<I", _UNCHECKED)
    return importlib.util.MAGIC_NUMBER + flags + importlib.util.source_hash(source.read_bytes()) + data[len(head) :]


def _compile(source: Path) -> bytes:
    try:
        made = py_compile.compile(str(source), doraise=True, invalidation_mode=_BY_DATE)
        return Path(str(made)).read_bytes()
    except OSError:  # the package is not ours to write into
        with tempfile.NamedTemporaryFile(suffix=".pyc") as file:
            py_compile.compile(str(source), file.name, doraise=True, invalidation_mode=_BY_DATE)
            return Path(file.name).read_bytes()
