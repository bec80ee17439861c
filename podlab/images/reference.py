"""Image references as Docker reads them: `[registry/]repository[:tag][@digest]`.

Rules and names follow the reference grammar of the CNCF distribution project: a first part with a dot, a
colon or a capital letter, or the word `localhost`, is a registry; otherwise the registry is docker.io, where
names without a slash belong to `library/`. Without tag and digest the tag is `latest`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from podlab.errors import ImagePullError

DEFAULT_REGISTRY = "docker.io"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"
#: Longest repository path (registry not counted), in characters.
LONGEST_REPOSITORY = 255

_REGISTRY = re.compile(
    r"(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
    r"(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?",
    re.ASCII,
)
_LOOPBACK = re.compile(r"(localhost|127(\.\d+){3}|\[::1\])(:\d+)?", re.ASCII)
_PART = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", re.ASCII)
_IDENTIFIER = re.compile(r"[0-9a-f]{64}", re.ASCII)


def is_loopback(registry: str) -> bool:
    """Whether a registry is one of this machine; those are asked over plain HTTP, as Docker does it."""
    return bool(_LOOPBACK.fullmatch(registry))


@dataclass(frozen=True)
class Reference:
    """A complete reference: `registry` and `repository` always, and a tag, a digest or both."""

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Return the reference that `text` means; ImagePullError (reason InvalidImageName) if none."""
        rest, _, digest = text.partition("@")
        if "@" in text and not _DIGEST.fullmatch(digest):
            raise _invalid(text, f"the digest {digest!r} is not sha256: and 64 hexadecimal digits")
        name, tag = _split_tag(rest)
        if tag is not None and not _TAG.fullmatch(tag):
            raise _invalid(text, f"the tag {tag!r} may have letters, digits, '_', '.', '-', at most 128")
        registry, repository = _split_registry(text, name)
        if _IDENTIFIER.fullmatch(name):
            raise _invalid(text, "64 hexadecimal digits are an image's identifier, not a name")
        if tag is None and not digest:
            tag = DEFAULT_TAG
        return cls(registry, repository, tag, digest or None)

    @property
    def name(self) -> str:
        """Registry and repository: `docker.io/library/nginx`."""
        return f"{self.registry}/{self.repository}"

    @property
    def familiar_name(self) -> str:
        """The name as people write it: `nginx`, `podlab/python`, `localhost:5000/x`."""
        if self.registry != DEFAULT_REGISTRY:
            return self.name
        return self.repository.removeprefix(f"{DEFAULT_NAMESPACE}/")

    @property
    def familiar(self) -> str:
        """The whole reference as people write it: `nginx:latest`."""
        return self.familiar_name + self._suffix()

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        return self.name + self._suffix()


def _split_tag(rest: str) -> tuple[str, str | None]:
    colon = rest.rfind(":")
    if colon > rest.rfind("/"):
        return rest[:colon], rest[colon + 1 :]
    return rest, None


def _split_registry(text: str, name: str) -> tuple[str, str]:
    first, slash, remainder = name.partition("/")
    named = bool(slash) and (any(c in first for c in ".:") or first == "localhost" or first != first.lower())
    registry, repository = (first, remainder) if named else (DEFAULT_REGISTRY, name)
    if registry == "index.docker.io":
        registry = DEFAULT_REGISTRY
    port = registry.rpartition(":")[2]
    if not _REGISTRY.fullmatch(registry) or (port.isdecimal() and not 0 < int(port[:6]) < 65536):
        raise _invalid(text, f"{registry!r:.120} is no registry (host or host:port, a port up to 65535)")
    if repository != repository.lower():
        raise _invalid(text, "repository names are in lower case")
    if not repository or not all(_PART.fullmatch(part) for part in repository.split("/")):
        raise _invalid(text, "a repository is words of a-z and 0-9, joined by '/', '.', '_' or '-'")
    if registry == DEFAULT_REGISTRY and "/" not in repository:
        repository = f"{DEFAULT_NAMESPACE}/{repository}"
    if len(repository) > LONGEST_REPOSITORY:
        raise _invalid(text, f"the repository is longer than {LONGEST_REPOSITORY} characters")
    return registry, repository


def _invalid(text: str, why: str) -> ImagePullError:
    shown = text if len(text) <= 120 else text[:117] + "..."
    return ImagePullError(
        f"{shown!r} is no image reference: {why}.",
        reason="InvalidImageName",
        hint="Write it as [registry/]name[:tag], such as podlab/python:3.",
    )
