"""Images of the local store on kind's nodes, which have no `/usr` of this machine to borrow.

The bundled images are made once per runtime from the Dockerfiles in `cluster/images`; what stands on them is built
again on top of those from its own layers.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from podlab import paths
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
#: What the images that podlab writes may say in their configuration, and the instruction that says it again.
_LISTS = {"Entrypoint": "ENTRYPOINT", "Cmd": "CMD"}
_WORDS = {"WorkingDir": "WORKDIR", "User": "USER", "StopSignal": "STOPSIGNAL"}


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

    A complete image goes as it is. One upon a bundled image is built again upon the bundled image of the nodes.
    """
    layout = ImageLayout(paths.cache() / "images")
    whole, built = [], []
    for reference in references:
        wanted = Reference.parse(reference)
        image = _stored(layout, wanted)
        if image.labels.get(catalogue.BASE_LABEL):
            with _scratch() as context:
                write_context(layout, image, context)
                runtime.run("build", "--tag", str(wanted), str(context), timeout=600.0)
            built.append(str(wanted))
        else:
            whole.append(wanted)
    if built:
        load(runtime, program, cluster, *built)
    if whole:
        with _scratch() as folder:
            archive = folder / "image.tar"
            save(layout, whole, archive, lambda _what, _bytes: None)
            _load(runtime, program, cluster, archive, [one.familiar for one in whole])


def _stored(layout: ImageLayout, wanted: Reference) -> Image:
    if catalogue.is_bundled_name(wanted.name):
        raise ImageError(f"{wanted.familiar} is a bundled image: the nodes have it since the cluster came up.")
    descriptor = layout.images().get(str(wanted))
    if descriptor is None:
        raise ImageError(
            f"There is no image {wanted.familiar} in the store.", hint="`podlab image list` shows what there is."
        )
    return read_image(layout, descriptor, shown=wanted.familiar)


def write_context(layout: ImageLayout, image: Image, context: Path) -> None:
    """Write the build context (Dockerfile and layers) that makes `image` in a runtime that has the bundled ones."""
    base = image.labels.get(catalogue.BASE_LABEL)
    own = image.layers[1:] if base else image.layers
    for number, layer in enumerate(own):
        with layout.open_blob(layer.digest) as blob, (context / f"layer-{number}.tar").open("wb") as file:
            shutil.copyfileobj(blob, file)
            blob.verify()
    (context / "Dockerfile").write_text(dockerfile(image.settings, base, len(own)))


def dockerfile(settings: Mapping[str, Any], base: str | None, layers: int) -> str:
    """The Dockerfile that makes an image of these settings from `layers` tar files upon a bundled image."""
    lines = [f"FROM {_full(base, BASES[base][-1])}" if base else "FROM scratch"]
    lines += [f"ADD layer-{number}.tar /" for number in range(layers)]
    for entry in settings.get("Env") or []:
        key, _, value = entry.partition("=")
        if not (base and key == "PATH"):
            lines.append(f"ENV {key}={_literal(value)}")
    for key, value in (settings.get("Labels") or {}).items():
        if not key.startswith(catalogue.LABEL_PREFIX):
            lines.append(f"LABEL {_literal(key)}={_literal(value)}")
    lines += [f"EXPOSE {port}" for port in settings.get("ExposedPorts") or {}]
    lines += [f"{word} {_escaped(settings[key])}" for key, word in _WORDS.items() if settings.get(key)]
    # CMD after ENTRYPOINT, which would reset it.
    lines += [f"{word} {json.dumps(settings[key])}" for key, word in _LISTS.items() if settings.get(key)]
    return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    """A value of which an instruction expands nothing."""
    return re.sub(r'([\\"$])', r"\\\1", value)


def _literal(value: str) -> str:
    return f'"{_escaped(value)}"'
