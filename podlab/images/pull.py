"""From an image reference to something that a node can run.

    images = Images(Path(configuration.image_store))
    image = images.resolve("podlab/python:3", "IfNotPresent")      # may be called in a thread
    image.root, image.config.environment, image.identity(run_as_user)

Images come from the local store: bundled, built, loaded, or fetched from a registry where that is allowed
(`Registries`). Answers are remembered until the store changes.
"""

from __future__ import annotations

import json
import shlex
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from podlab.errors import ImageError, ImagePullError
from podlab.images import catalogue
from podlab.images.image import Image, read_image, variables
from podlab.images.layout import FETCHED, Descriptor, ImageLayout
from podlab.images.reference import Reference, is_loopback
from podlab.images.root import RootFileSystem
from podlab.images.unpack import root_folder
from podlab.images.users import Identity, identify

if TYPE_CHECKING:
    from podlab.images.registry import Way

POLICIES = ("Always", "IfNotPresent", "Never")


@dataclass(frozen=True)
class ImageConfig:
    """How an image wants to be run. `user` is its USER as written; `exposed_ports` such as "8080/tcp"."""

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    working_directory: str = "/"
    user: str = ""
    exposed_ports: tuple[str, ...] = ()
    stop_signal: int = signal.SIGTERM
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RunnableImage:
    """An image that is unpacked and ready.

    `id` is the digest of its configuration (Docker's image ID), `digest` that of its manifest, `size` the
    bytes of its blobs, `references` its familiar names and `NAME@sha256:...`, for `node.status.images`.
    """

    id: str
    digest: str
    root: RootFileSystem
    config: ImageConfig
    size: int
    references: tuple[str, ...]
    folder: Path

    def identity(self, user: int | str | None = None) -> Identity:
        """Numbers, groups and home of `user` (runAsUser), or of the image's own USER; ImagePullError if unknown."""
        return identify(self.folder, self.config.user if user is None else str(user))


class FetchNeeded(ImagePullError):
    """The image is to be fetched from its registry first (`Images.fetch`)."""


@dataclass(frozen=True)
class Registries:
    """Which registries may be asked, and the way to them: those of this machine, and those named ("*": all)."""

    way: Way
    named: frozenset[str] = frozenset()

    def allow(self, name: str) -> bool:
        """Whether the registry `name` may be asked."""
        return is_loopback(name) or bool(self.named & {name, "*"})


class Images:
    """The images of one store. Give each process one object; its methods may be called from any thread."""

    def __init__(self, store: Path, registries: Registries | None = None) -> None:
        self.layout = ImageLayout(store)
        self._registries = registries
        self._lock = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        self._known: dict[str, RunnableImage] = {}

    def resolve(self, reference: str, policy: str = "IfNotPresent") -> RunnableImage:
        """The image that `reference` means, unpacked.

        `policy` is a pod's imagePullPolicy; with Always an image of the store is good enough unless it came from
        a registry. Raises FetchNeeded if `fetch` has to come first; otherwise ImagePullError, with the reason
        InvalidImageName, ErrImageNeverPull or ErrImagePull.
        """
        if policy not in POLICIES:
            raise ImagePullError(f"{policy!r} is no pull policy.", hint=f"Known are {', '.join(POLICIES)}.")
        parsed = Reference.parse(reference)
        with self._lock:
            known = self._remembered(str(parsed))
            if policy == "Always" and self._is_fetched(parsed):
                raise FetchNeeded(f"The image {parsed.familiar} is to be fetched from {parsed.registry} each time.")
            if known is None:
                with self.layout.in_use():
                    known = self._load(parsed, policy)
                self._known[str(parsed)] = known
        return known

    def fetch(self, reference: str, policy: str = "IfNotPresent") -> RunnableImage:
        """Fetch the image from its registry, one at a time for all users of the store; then as `resolve`.

        Another process may have fetched it meanwhile: that is enough, but for Always.
        """
        parsed = Reference.parse(reference)
        if self._registries is None or not self._registries.allow(parsed.registry):
            raise self._missing(parsed, policy)
        with self.layout.lock("fetch.lock"):
            if policy == "Always" or self._find(parsed) is None:
                from podlab.images.registry import fetch  # here, since few images come from one

                fetch(self.layout, parsed, self._registries.way)
        return self.resolve(reference)

    def image(self, reference: Reference) -> Image:
        """The image as it is stored (manifest and configuration); errors as of `resolve`."""
        with self.layout.in_use():
            return self._stored(reference, "IfNotPresent")[0]

    def list(self) -> list[tuple[tuple[str, ...], int]]:
        """(references, bytes) of each image in use by this object, for `node.status.images`, largest first."""
        with self._lock:
            images = {image.id: image for image in self._known.values()}
        return sorted(((i.references, i.size) for i in images.values()), key=lambda i: (-i[1], i[0]))

    def _remembered(self, name: str) -> RunnableImage | None:
        stamp = self.layout.index_stamp()
        if stamp != self._stamp:
            self._stamp = stamp
            self._known.clear()
        known = self._known.get(name)
        return known if known and known.folder.is_dir() else None

    def _load(self, reference: Reference, policy: str) -> RunnableImage:
        try:
            image, descriptor = self._stored(reference, policy)
            borrowed = _borrowed_paths(image, reference)
            folder = root_folder(self.layout, image, shown=reference.familiar)
            names = self._names(reference, descriptor)
        except ImagePullError:
            raise
        except ImageError as error:
            raise ImagePullError(error.message, hint=error.hint) from error
        return RunnableImage(
            id=image.id,
            digest=image.digest,
            root=RootFileSystem(layers=(str(folder),), host_paths=borrowed),
            config=configuration(image.settings),
            size=image.size,
            references=names,
            folder=folder,
        )

    def _stored(self, reference: Reference, policy: str) -> tuple[Image, Descriptor]:
        descriptor = self._find(reference)
        if descriptor is None:
            raise self._missing(reference, policy)
        return read_image(self.layout, descriptor, shown=reference.familiar), descriptor

    def _find(self, reference: Reference) -> Descriptor | None:
        bundled = catalogue.bundled(reference.name)
        if bundled:
            catalogue.store(self.layout, bundled)
            self._stamp = self.layout.index_stamp()
        images = self.layout.images()
        if reference.digest is None or str(reference) in images:
            return images.get(str(reference))
        for name, descriptor in images.items():
            if descriptor.digest == reference.digest and Reference.parse(name).name == reference.name:
                return descriptor
        return None

    def _is_fetched(self, reference: Reference) -> bool:
        """Whether the image came from a registry that may be asked again."""
        if self._registries is None or not self._registries.allow(reference.registry):
            return False
        there = self.layout.images().get(str(reference))
        return there is not None and FETCHED in there.annotations

    def _names(self, reference: Reference, descriptor: Descriptor) -> tuple[str, ...]:
        images = self.layout.images()
        same = (Reference.parse(name) for name, there in images.items() if there.digest == descriptor.digest)
        tagged = sorted(other.familiar for other in same)
        return (*tagged, f"{reference.familiar_name}@{descriptor.digest}")

    def _missing(self, reference: Reference, policy: str) -> ImagePullError:
        names = sorted({Reference.parse(name).familiar for name in self.layout.images()})
        catalogued = sorted(name.familiar for name in catalogue.references())
        asked = "no registry is asked"
        if self._registries:
            asked = f"{reference.registry} is not asked (PODLAB_REGISTRIES names the registries that may be)"
        near = nearest(reference.familiar, sorted({*names, *catalogued}))
        reason = "ErrImageNeverPull" if policy == "Never" else "ErrImagePull"
        allowed = self._registries is not None and self._registries.allow(reference.registry)
        if allowed and policy != "Never" and not catalogue.is_bundled_name(reference.name):
            return FetchNeeded(f"The image {reference.familiar} is not in the image store yet.")
        return ImagePullError(
            f"The image {reference.familiar} is not in the image store, and {asked}.",
            reason=reason,
            hint=f"{near} Build it with `podlab image build DIR -t {reference.familiar}`, or load it with "
            "`podlab image load FILE`; `podlab image list` shows what is there.",
        )


def configuration(settings: Mapping[str, Any]) -> ImageConfig:
    """The execution parameters of an OCI configuration in our own form."""
    return ImageConfig(
        entrypoint=_words(settings.get("Entrypoint")),
        command=_words(settings.get("Cmd")),
        environment={name: value for name, value in variables(settings).items() if name},
        working_directory=settings.get("WorkingDir") or "/",
        user=settings.get("User") or "",
        exposed_ports=tuple(sorted(settings.get("ExposedPorts") or ())),
        stop_signal=_signal(settings.get("StopSignal")),
        labels=dict(settings.get("Labels") or {}),
    )


def nearest(name: str, names: list[str]) -> str:
    """A sentence that names what is most like `name`."""
    import difflib  # here, since only a failed pull needs it

    if not names:
        return "The store is empty."
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f"Nearest names: {', '.join(close)}." if close else f"There are: {', '.join(names[:8])}."


def _borrowed_paths(image: Image, reference: Reference) -> tuple[str, ...]:
    """Host paths that the image borrows; ImagePullError if this machine's bundled images borrow others."""
    if catalogue.PATHS_LABEL not in image.labels:
        return ()
    try:
        paths = json.loads(image.labels[catalogue.PATHS_LABEL])
        foreign = sorted(set(paths) - catalogue.borrowable())
    except (ValueError, TypeError) as error:
        raise ImageError(f"The label {catalogue.PATHS_LABEL} of {reference.familiar} is malformed.") from error
    if foreign:
        raise ImagePullError(
            f"The image {reference.familiar} borrows {', '.join(foreign[:3])} from its machine, which the "
            "bundled images here do not: it was built on another machine or with another Python environment.",
            hint=f"Build it again: `podlab image build DIR -t {reference.familiar}`.",
        )
    return tuple(paths)


def _words(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(shlex.split(value))
    return tuple(str(word) for word in value or ())  # type: ignore[attr-defined]


def _signal(value: str | None) -> int:
    if not value:
        return signal.SIGTERM
    if value.isdigit():
        return int(value)
    name = value.upper() if value.upper().startswith("SIG") else f"SIG{value.upper()}"
    return int(getattr(signal, name, signal.SIGTERM))
