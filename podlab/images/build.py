"""From a Dockerfile and a folder to an image in the store, without running anything.

The build is deterministic: the same base, Dockerfile and files give the same digests. That makes the store its
own cache: a layer is hashed first, and written only if it is not there.
"""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from podlab.errors import DockerfileError, ImageError, ImagePullError
from podlab.images import catalogue, dockerfile, layers
from podlab.images import layout as oci
from podlab.images.context import Context
from podlab.images.dockerfile import Instruction
from podlab.images.image import architecture
from podlab.images.instructions import ACTIONS, State
from podlab.images.layers import Entry
from podlab.images.layout import Descriptor, ImageLayout
from podlab.images.pull import Images
from podlab.images.reference import Reference
from podlab.images.words import Malformed

SCRATCH = "scratch"


@dataclass(frozen=True)
class Step:
    """Progress: instruction `number` of `total` is done; `size` bytes of its layer, `cached` if it was there."""

    number: int
    total: int
    text: str
    size: int = 0
    cached: bool = False
    seconds: float = 0.0


@dataclass(frozen=True)
class Built:
    """A finished image: its references, the digests of manifest and configuration, bytes of all blobs."""

    references: tuple[Reference, ...]
    digest: str
    id: str
    size: int


def build(
    layout: ImageLayout,
    folder: Path,
    references: Sequence[Reference],
    *,
    file: Path | None = None,
    progress: Callable[[Step], None] = lambda step: None,
) -> Built:
    """Build the image that `file` (default: `folder/Dockerfile`) describes and give it all `references`.

    Raises DockerfileError (problems by line), ImageError (files, store) or ImagePullError (the base). The
    store's names are changed only at the very end.
    """
    source = file or folder / "Dockerfile"
    _check_references(references)
    recipe = dockerfile.parse(_text(folder, source), source.name)
    context = Context.read(folder, source)
    with layout.in_use():
        total = len(recipe.instructions) + 1
        began = time.monotonic()
        state = _begin(layout, recipe.base, source.name)
        progress(Step(1, total, recipe.base.original, seconds=time.monotonic() - began))
        for number, instruction in enumerate(recipe.instructions, 2):
            began = time.monotonic()
            size, cached = _apply(layout, context, state, instruction, source.name)
            progress(Step(number, total, instruction.original, size, cached, time.monotonic() - began))
        return _finish(layout, state, references)


def _check_references(references: Sequence[Reference]) -> None:
    for reference in references:
        if reference.digest:
            raise ImageError(f"{reference.familiar} has a digest; a new image is named by a tag.")
        if catalogue.is_bundled_name(reference.name):
            raise ImageError(
                f"{reference.familiar_name} is a bundled image, which podlab makes itself.",
                hint="Choose another name for yours.",
            )


def _text(folder: Path, source: Path) -> str:
    if not folder.is_dir():
        raise ImageError(f"The build context {folder} is no folder.")
    try:
        return source.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ImageError(
            f"There is no {source.name} in {source.parent}.",
            hint="Write one, or name another file with -f.",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(f"{source} cannot be read: {error}.") from error


def _begin(layout: ImageLayout, base: Instruction, name: str) -> State:
    word = base.words[0]
    if word == SCRATCH:
        config = {
            "architecture": architecture(),
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": []},
            "history": [],
        }
        return State(config, [], None, ())
    images = Images(layout.folder)
    try:
        runnable = images.resolve(word)
        image = images.image(Reference.parse(word))
    except ImagePullError as error:
        raise dockerfile.refused(name, [(base.line, f"FROM {word}: {error}")]) from error
    config = copy.deepcopy(dict(image.config))
    config["config"] = config.get("config") or {}
    config["history"] = config.get("history") or []
    return State(config, list(image.layers), runnable.folder, tuple(runnable.root.host_paths))


def _apply(
    layout: ImageLayout, context: Context, state: State, instruction: Instruction, name: str
) -> tuple[int, bool]:
    """Carry out one instruction; returns the bytes of its layer and whether that layer was there already."""
    try:
        entries = ACTIONS[instruction.keyword](state, instruction, context)
    except (Malformed, ImageError) as error:
        if isinstance(error, DockerfileError):
            raise
        raise dockerfile.refused(name, [(instruction.line, str(error))]) from error
    except OSError as error:
        what = f"{error.filename} cannot be read: {error.strerror}."
        raise dockerfile.refused(name, [(instruction.line, what)]) from error
    size, cached = 0, True
    if entries:
        size, cached = _add_layer(layout, state, entries)
    event = {"created": layers.FIXED_DATE, "created_by": instruction.original}
    state.config["history"].append(event if entries else {**event, "empty_layer": True})
    return size, cached


def _add_layer(layout: ImageLayout, state: State, entries: list[Entry]) -> tuple[int, bool]:
    hashed, size = hashlib.sha256(), 0
    for chunk in _readable(layers.tar_stream(entries)):
        hashed.update(chunk)
        size += len(chunk)
    descriptor = Descriptor(oci.LAYER, "sha256:" + hashed.hexdigest(), size)
    cached = layout.has(descriptor.digest, size)
    if not cached:
        descriptor = layout.write_blob(_readable(layers.tar_stream(entries)), oci.LAYER)
    state.layers.append(descriptor)
    state.config["rootfs"]["diff_ids"].append(descriptor.digest)
    return descriptor.size, cached


def _readable(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """`chunks`, with a refusal to read a source told as such."""
    while True:
        try:
            chunk = next(chunks, None)
        except OSError as error:
            raise ImageError(f"{error.filename} cannot be read: {error.strerror}.") from error
        if chunk is None:
            return
        yield chunk


def _finish(layout: ImageLayout, state: State, references: Sequence[Reference]) -> Built:
    state.config["created"] = layers.FIXED_DATE
    config = layout.write_document(state.config, oci.CONFIG)
    manifest = {
        "schemaVersion": 2,
        "mediaType": oci.MANIFEST,
        "config": config.write(),
        "layers": [layer.write() for layer in state.layers],
    }
    descriptor = layout.write_document(manifest, oci.MANIFEST)
    layout.tag(dict.fromkeys(references, descriptor))
    size = descriptor.size + config.size + sum(layer.size for layer in state.layers)
    return Built(tuple(references), descriptor.digest, config.digest, size)
