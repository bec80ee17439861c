"""The suite's images, made by podlab's own builder from the Dockerfiles in images/ and put into a store."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

import debian
import place
import programs

from podlab.cluster.embedded.binaries import Progress, Report
from podlab.images.build import build as build_image
from podlab.images.layout import ImageLayout, remove_tree
from podlab.images.reference import Reference

_TESTS = "registry.k8s.io/e2e-test-images"
#: Dockerfile -> the references that tests use (e2e.test --list-images), bases first.
IMAGES = {
    "debian": ("conformance/debian:1",),
    "busybox": (f"{_TESTS}/busybox:1.37.0-2", f"{_TESTS}/busybox:1.36.1-1"),
    "agnhost": (f"{_TESTS}/agnhost:2.66.1", f"{_TESTS}/agnhost:2.55"),
    "glibc-dns-testing": (f"{_TESTS}/glibc-dns-testing:2.1.1",),
    "nautilus": (f"{_TESTS}/nautilus:1.8",),
    "kitten": (f"{_TESTS}/kitten:1.8",),
    "nginx": (f"{_TESTS}/nginx:1.27.0-2", f"{_TESTS}/nginx:1.28.0-2"),
    "nonroot": (f"{_TESTS}/nonroot:1.5",),
    "nonewprivs": (f"{_TESTS}/nonewprivs:1.4",),
    "pause": ("registry.k8s.io/pause:3.10.2",),
    "etcd": ("registry.k8s.io/etcd:3.7.0-0",),
    "sample-apiserver": (f"{_TESTS}/sample-apiserver:1.29.2",),
}
#: The users that the upstream agnhost image has.
_USER = "user-defined-in-image:x:1000:1000::/home/user-defined-in-image:/bin/sh\n"
_GROUP = "user-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\n"


def of_tests() -> list[str]:
    """The references that only tests use; the others a cluster's nodes have themselves."""
    return [reference for tags in IMAGES.values() for reference in tags if reference.startswith(_TESTS)]


def missing(layout: ImageLayout) -> list[str]:
    """The Dockerfiles whose images are not all in the store."""
    there = layout.images()
    return [
        name for name, tags in IMAGES.items() if any(str(Reference.parse(reference)) not in there for reference in tags)
    ]


def ready(suite: Path) -> bool:
    """Whether everything is there that the images are made of, and nothing of it has changed since."""
    complete = suite / "context" / "complete"
    return complete.exists() and complete.read_text() == _recipe()


def _recipe() -> str:
    """Changes whenever what the images are made of does."""
    files = [*(place.HERE / "images").iterdir(), *(place.HERE / "sh").iterdir(), place.HERE / "debian.py"]
    hashed = hashlib.sha256()
    for file in sorted(files):
        hashed.update(file.name.encode() + b"\0" + file.read_bytes())
    return hashed.hexdigest()


def build(suite: Path, etcd: Path, layout: ImageLayout, progress: Progress) -> None:
    """Build the images that are missing; the programs must be in `suite`, `etcd` is the control plane's."""
    context = suite / "context"
    names = missing(layout)
    if not ready(suite):
        names = list(IMAGES)
        (suite / "sh").unlink(missing_ok=True)
        programs.build(suite, progress)
        _make_context(suite, etcd, context, progress)
    for name in names:
        progress(Report(f"image {name}", "building"))
        references = [Reference.parse(text) for text in IMAGES[name]]
        built = build_image(layout, context, references, file=place.HERE / "images" / f"{name}.Dockerfile")
        progress(Report(f"image {name}", f"{built.size / 1e6:.0f} MB", kind="done"))


def _make_context(suite: Path, etcd: Path, context: Path, progress: Progress) -> None:
    if context.exists():
        remove_tree(context)
    with tempfile.TemporaryDirectory(prefix="images-", dir=suite) as scratch:
        debian.make(context / "debian", Path(scratch), progress)
    debian.busybox(context / "debian", suite / "sh", context / "busybox")
    shutil.copytree(place.HERE / "images", context / "files")
    agnhost = context / "agnhost"
    (agnhost / "uploads").mkdir(parents=True)
    (agnhost / "agnhost-2").symlink_to("agnhost")
    debian.accounts(agnhost, user=_USER, group=_GROUP)
    (context / "bin").mkdir()
    for source in (etcd, *(suite / name for name in ("agnhost", "nonewprivs", "sample-apiserver"))):
        shutil.copy2(source, context / "bin" / source.name)
        (context / "bin" / source.name).chmod(0o755)
    upstream = programs.upstream(progress)
    for name in programs.UPSTREAM:
        target = context / "upstream" / name
        target.mkdir(parents=True)
        for file in (upstream / name).iterdir():
            (target / file.name).write_bytes(file.read_bytes())
    (context / "complete").write_text(_recipe())
