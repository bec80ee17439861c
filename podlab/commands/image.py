"""`podlab image`: build, list, inspect, remove, save and load container images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from podlab import paths
from podlab.cluster import clusters
from podlab.errors import PodlabError, UsageError
from podlab.images import catalogue
from podlab.images.archive import load as load_archive
from podlab.images.archive import save as save_archive
from podlab.images.build import Step
from podlab.images.build import build as build_image
from podlab.images.image import read_image
from podlab.images.layout import Descriptor, ImageLayout
from podlab.images.prune import prune as prune_store
from podlab.images.reference import Reference

app = typer.Typer(help="Build, list and import container images.", no_args_is_help=True)

_told = Console(stderr=True, highlight=False, soft_wrap=True)

_Names = Annotated[list[str], typer.Argument(help="Names such as web:1.", show_default=False)]


def _layout() -> ImageLayout:
    return ImageLayout(paths.cache() / "images")


def size(count: int) -> str:
    """`count` bytes for people, in powers of 1000 as Docker shows them: 42.1 kB."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.2f} GB"


@app.command()
def build(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder that COPY takes files from.")],
    tag: Annotated[list[str], typer.Option("-t", "--tag", help="NAME:TAG; may be given several times.")],
    file: Annotated[Path | None, typer.Option("-f", "--file", help="The Dockerfile (default: DIR/Dockerfile).")] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print the digest only.")] = False,
) -> None:
    """Build an image from a Dockerfile: FROM, COPY, ENV, WORKDIR, ENTRYPOINT, CMD, EXPOSE, USER, LABEL."""
    references = [Reference.parse(text) for text in tag]
    built = build_image(_layout(), folder, references, file=file, progress=(lambda step: None) if quiet else _tell_step)
    if not quiet:
        names = ", ".join(reference.familiar for reference in built.references)
        _told.print(f"Built {names}: {size(built.size)}", markup=False)
        _tell_of_nodes(built.references)
    typer.echo(built.digest)


def _tell_of_nodes(references: Sequence[Reference]) -> None:
    """Say how the nodes of the cluster in use get an image, where they do not have what the store has."""
    name = clusters.current()
    try:
        owner = clusters.provider_of(name).name
    except PodlabError:
        return  # there is no cluster yet
    if owner == "kind":
        for reference in references:
            _told.print(f"To the nodes of {name}: podlab cluster load-image {reference.familiar}", markup=False)
    elif owner == "existing":
        _told.print(f"The nodes of {name} pull from registries only: docs/clusters.md says how.", markup=False)


def _tell_step(step: Step) -> None:
    what = f" (cached, {size(step.size)})" if step.cached and step.size else ""
    what = what or (f" ({size(step.size)} in {step.seconds:.2f} s)" if step.size else "")
    _told.print(f"[{step.number}/{step.total}] {step.text}{what}", markup=False)


@app.command("list")
def list_images(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """List the images that pods can use: bundled, built and loaded."""
    layout = _layout()
    catalogue.store_all(layout)
    rows: list[dict[str, Any]] = []
    for name, descriptor in layout.images().items():
        reference = Reference.parse(name)
        image = read_image(layout, descriptor, shown=reference.familiar)
        base = image.labels.get(catalogue.BASE_LABEL, "")
        origin = "bundled" if catalogue.is_bundled_name(reference.name) else base and f"on podlab/{base}"
        rows.append(
            {
                "name": reference.familiar_name,
                "tag": reference.tag,
                "id": image.id,
                "digest": descriptor.digest,
                "size": image.size,
                "kind": origin or "complete",
            }
        )
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("NAME", "TAG", "IMAGE ID", "SIZE", "KIND"):
        table.add_column(heading, no_wrap=True, justify="right" if heading == "SIZE" else "left")
    for row in rows:
        table.add_row(row["name"], row["tag"], row["id"][7:19], size(row["size"]), row["kind"])
    Console(highlight=False, soft_wrap=True).print(table)


@app.command()
def inspect(name: Annotated[str, typer.Argument(help="A name such as web:1.")]) -> None:
    """Print an image's manifest, configuration and sizes as JSON."""
    layout = _layout()
    reference = Reference.parse(name)
    descriptor = _stored(layout, [reference])[reference]
    image = read_image(layout, descriptor, shown=reference.familiar)
    root = layout.roots / image.chain
    content = {
        "name": reference.familiar,
        "id": image.id,
        "digest": image.digest,
        "size": image.size,
        "layers": [layer.write() for layer in image.layers],
        "config": image.config,
        "unpacked": str(root) if root.is_dir() else None,
    }
    typer.echo(json.dumps(content, indent=1))


def _stored(layout: ImageLayout, references: list[Reference]) -> dict[Reference, Descriptor]:
    """Descriptors by reference; bundled images are made first. UsageError names what is not there."""
    for reference in references:
        if bundled := catalogue.bundled(reference.name):
            catalogue.store(layout, bundled)
    there = layout.images()
    missing = [reference.familiar for reference in references if str(reference) not in there]
    if missing:
        raise UsageError(
            f"Not in the image store: {', '.join(missing)}.", hint="`podlab image list` shows what is there."
        )
    return {reference: there[str(reference)] for reference in references}


@app.command()
def rm(names: _Names) -> None:
    """Remove names of images. Their content stays until `podlab image prune`."""
    layout = _layout()
    references = [Reference.parse(name) for name in names]
    there = layout.images()
    missing = [reference.familiar for reference in references if str(reference) not in there]
    if missing:
        raise UsageError(
            f"Not in the image store: {', '.join(missing)}; nothing was removed.",
            hint="`podlab image list` shows what is there.",
        )
    for reference in references:
        layout.untag(reference)
        typer.echo(f"Removed {reference.familiar}")


@app.command()
def prune() -> None:
    """Delete what no name leads to: layers, unpacked files, unfinished downloads. Pods in use are kept whole."""
    done = prune_store(_layout())
    kept = f"; {done.kept} kept, since containers use them" if done.kept else ""
    typer.echo(f"Removed {done.blobs} blobs ({size(done.freed)}) and {done.roots} unpacked file trees{kept}.")


@app.command()
def save(
    names: _Names,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The tar file to write.")],
) -> None:
    """Write images to a tar file that podlab, Docker, Podman and containerd load."""
    layout = _layout()
    references = [Reference.parse(name) for name in names]
    _stored(layout, references)
    for reference in references:
        image = read_image(layout, layout.images()[str(reference)], shown=reference.familiar)
        if catalogue.PATHS_LABEL in image.labels:
            _told.print(
                f"Note: {reference.familiar} borrows /usr and Python from this machine, so it runs only here.",
                markup=False,
            )
    written = save_archive(layout, references, output, _tell_blob)
    typer.echo(f"Wrote {output}: {size(written)}")


@app.command()
def load(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An OCI tar or the output of `docker save`.")],
    tag: Annotated[
        str | None, typer.Option("-t", "--tag", help="The name for an image that has none in the file.")
    ] = None,
) -> None:
    """Put the images of a tar file into the store."""
    name = Reference.parse(tag) if tag else None
    for loaded in load_archive(_layout(), file, _tell_blob, name=name):
        names = ", ".join(reference.familiar for reference in loaded.references)
        typer.echo(f"Loaded {names}: {size(loaded.size)}, {loaded.digest}")
        _tell_of_nodes(loaded.references)


def _tell_blob(digest: str, count: int) -> None:
    _told.print(f"  {digest[7:19]} {size(count)}", markup=False)
