"""Images of the local store on kind's nodes, which have no `/usr` of this machine to borrow.

The bundled images are made once per runtime from the Dockerfiles in `cluster/images`; what stands on them is put on
top of those with its own layers.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from podlab import paths
from podlab.cluster.kind import upon
from podlab.cluster.kind.runtime import Runtime, failure, reason
from podlab.errors import ClusterError, EnvironmentUnsuitable, ImageError
from podlab.images import catalogue
from podlab.images.archive import save
from podlab.images.image import Image, read_image
from podlab.images.layout import ImageLayout
from podlab.images.reference import DEFAULT_REGISTRY, Reference

#: The bundled images, and the tags that mean them on every machine.
BASES: Mapping[str, tuple[str, ...]] = {"python": ("latest", "3"), "toolbox": ("latest", "1")}
#: Says what a bundled image was made from: an older one is made again.
RECIPE_LABEL = f"{catalogue.LABEL_PREFIX}recipe"
#: Seconds for kind to load an archive into the nodes.
LOAD = 900.0


def carry_bases(runtime: Runtime, program: Path, cluster: str, say: Any) -> None:
    """Make the bundled images in the runtime, if they are not there, and load them into the nodes."""
    names = []
    for base, tags in BASES.items():
        first, *others = [_full(base, tag) for tag in tags]
        if not is_base(runtime, first, base):
            say(f"making {first}")
            _build_base(runtime, base, first)
        for name in others:
            runtime.run("tag", first, name)
        names += [first, *others]
    say("loading them into the nodes")
    load(runtime, program, cluster, *names)


def _full(base: str, tag: str) -> str:
    """A bundled image's whole name, which is what pods ask for: Podman would take a short one for `localhost/...`."""
    return f"{DEFAULT_REGISTRY}/podlab/{base}:{tag}"


def is_base(runtime: Runtime, name: str, base: str) -> bool:
    """Whether the runtime has an image of that name that is our bundled one, made from what is here."""
    try:
        labels = json.loads(runtime.run("image", "inspect", "--format", "{{json .Config.Labels}}", name))
    except ClusterError:
        return False
    labels = labels or {}
    return (labels.get(catalogue.BASE_LABEL), labels.get(RECIPE_LABEL)) == (base, recipe(base))


def recipe(base: str) -> str:
    """The SHA-256 of what a bundled image is made from, in hexadecimal digits."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in _recipe(base))).hexdigest()


def _recipe(base: str) -> list[Path]:
    tools = Path(catalogue.__file__).parent / "tools"
    return [paths.committed("images") / base / "Dockerfile", tools / "fetch.py", tools / "lookup.py"]


def python_of(runtime: Runtime) -> str:
    """The version of Python in the bundled image, such as "3.13"."""
    version = "import sys; print('%d.%d' % sys.version_info[:2])"
    name = _full("python", BASES["python"][-1])
    return runtime.run("run", "--rm", "--pull", "never", "--network", "none", name, "python3", "-c", version).strip()


def _build_base(runtime: Runtime, base: str, name: str) -> None:
    with _scratch() as context:
        for file in _recipe(base):
            shutil.copy(file, context)
        runtime.run("build", "--label", f"{RECIPE_LABEL}={recipe(base)}", "--tag", name, str(context), timeout=1800.0)


def load(runtime: Runtime, program: Path, cluster: str, *names: str) -> None:
    """Load images that the runtime has into every node of a cluster, in one archive: what they share is sent once."""
    with _scratch() as folder:
        archive = folder / "image.tar"
        several = ["--multi-image-archive"] if runtime.name == "podman" else []
        runtime.run("save", *several, "--output", str(archive), *names, timeout=600.0)
        _load(runtime, program, cluster, archive, names)


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for what is on its way to the nodes, on the disk of the cache, where there is room for it."""
    cache = paths.cache()
    try:
        with tempfile.TemporaryDirectory(prefix="podlab-image-", dir=cache) as folder:
            yield Path(folder)
    except OSError as error:
        raise EnvironmentUnsuitable(
            f"Images could not be made ready for the nodes in {cache}: {error.strerror or error}.",
            hint="If its disk is full, make room, or set PODLAB_HOME to a folder on another one.",
        ) from error


def _load(runtime: Runtime, program: Path, cluster: str, archive: Path, names: Sequence[str]) -> None:
    arguments = [str(program), "load", "image-archive", str(archive), "--name", cluster]
    try:
        done = subprocess.run(arguments, env=runtime.environment, capture_output=True, text=True, timeout=LOAD)
    except subprocess.TimeoutExpired as error:
        runtime.check_again()
        raise ClusterError(
            f"{', '.join(names)} could not be loaded into the nodes within {LOAD:.0f} s.",
            hint=f"Look whether {runtime.name} is well: `{runtime.name} info`.",
        ) from error
    if done.returncode:
        runtime.check_again()
        known = failure(runtime.name, "kind load", done.stderr)
        if not isinstance(known, ClusterError):
            raise known
        raise ClusterError(
            f"{', '.join(names)} could not be loaded into the nodes: {reason(done.stderr)}.",
            hint=f"A full disk is the usual reason: `{runtime.name} system df`.",
        )


def carry(runtime: Runtime, program: Path, cluster: str, *references: str) -> None:
    """Load images of the local store into every node; ImageError if the store lacks one.

    A complete image goes as it is. One upon a bundled image stands on the bundled image of the nodes there.
    """
    layout = ImageLayout(paths.cache() / "images")
    whole: list[Reference] = []
    upon_bases: dict[str, dict[Reference, Image]] = {}
    for wanted in map(Reference.parse, references):
        image = _stored(layout, wanted)
        if base := image.labels.get(catalogue.BASE_LABEL):
            upon_bases.setdefault(base, {})[wanted] = image
        else:
            whole.append(wanted)
    with _scratch() as folder:
        archive = folder / "image.tar"
        for base, images in upon_bases.items():
            upon.save(layout, images, _base(runtime, program, cluster, base), archive)
            _load(runtime, program, cluster, archive, [one.familiar for one in images])
        if whole:
            save(layout, whole, archive, lambda _what, _bytes: None)
            _load(runtime, program, cluster, archive, [one.familiar for one in whole])


def _base(runtime: Runtime, program: Path, cluster: str, base: str) -> upon.Base:
    """A bundled image of the nodes. A kubelet deletes images that no pod uses when its disk is nearly full: where it is
    not on every node, it is loaded again.
    """
    nodes = [_ctr(runtime, node.name) for node in runtime.nodes(cluster)]
    names = [_full(base, tag) for tag in BASES[base]]
    known = [upon.target(ctr, names[-1]) for ctr in nodes]
    if "" in known or len(set(known)) > 1:
        load(runtime, program, cluster, *names)
        known = [upon.target(nodes[0], names[-1])]
    return upon.read_base(nodes[0], names[-1], known[0])


def _ctr(runtime: Runtime, node: str) -> upon.Ctr:
    return partial(runtime.run, "exec", node, "ctr", "--namespace=k8s.io")


def _stored(layout: ImageLayout, wanted: Reference) -> Image:
    if catalogue.is_bundled_name(wanted.name):
        raise ImageError(f"{wanted.familiar} is a bundled image: the nodes have it since the cluster came up.")
    descriptor = layout.images().get(str(wanted))
    if descriptor is None:
        raise ImageError(
            f"There is no image {wanted.familiar} in the store.", hint="`podlab image list` shows what there is."
        )
    return read_image(layout, descriptor, shown=wanted.familiar)
