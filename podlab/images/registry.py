"""Fetching images from registries: of the OCI distribution protocol what a pull needs.

    way = through(socket) or direct
    descriptor = fetch(layout, Reference.parse("localhost:5000/shop:2"), way)

Manifests of OCI and of Docker's schema 2, indexes of several machines, anonymous and token access, redirects to
where a registry keeps its blobs. Every blob is checked against its digest while it is written, and one that the
store has is not fetched: a pull that was cut off goes on where it stopped.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from podlab.errors import ImageError, ImagePullError
from podlab.images import layout as oci
from podlab.images.image import Image, for_this_machine, is_index, read_image
from podlab.images.layout import CHUNK, LARGEST_DOCUMENT, Descriptor, ImageLayout, digest_of
from podlab.images.reference import DEFAULT_REGISTRY, Reference, is_loopback

#: Connects to (host, port); raises OSError.
Way = Callable[[str, int], socket.socket]

#: Seconds without an answer, after which a registry counts as gone.
PATIENCE = 30.0
#: Where a registry's API is served, if not under its own name.
_SERVED_BY = {DEFAULT_REGISTRY: "registry-1.docker.io"}
_MANIFESTS = ", ".join((oci.INDEX, oci.MANIFEST, oci.DOCKER_INDEX, oci.DOCKER_MANIFEST))
_REDIRECTS = (301, 302, 303, 307, 308)
_HOPS = 5
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


def direct(host: str, port: int) -> socket.socket:
    """A way without detour."""
    return socket.create_connection((host, port), timeout=PATIENCE)


def through(proxy: Path) -> Way:
    """A way by the CONNECT proxy that listens on a Unix socket (podlab.network.egress)."""

    def connect(host: str, port: int) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(PATIENCE)
            connection.connect(str(proxy))
            named = f"[{host}]" if ":" in host else host
            connection.sendall(f"CONNECT {named}:{port} HTTP/1.1\r\n\r\n".encode())
            answer = http.client.HTTPResponse(connection, method="CONNECT")
            answer.begin()
            if answer.status != 200:
                raise OSError(answer.reason)
        except BaseException:
            connection.close()
            raise
        return connection

    return connect


def fetch(layout: ImageLayout, reference: Reference, way: Way) -> Descriptor:
    """Fetch an image for this machine into the store and name it `reference`; ImagePullError says what is wrong."""
    try:
        with layout.in_use():
            image = _Pull(layout, reference, way).image()
            layout.tag({reference: image.descriptor}, fetched=True)
    except ImagePullError:
        raise
    except ImageError as error:
        raise ImagePullError(error.message, hint=error.hint) from error
    except (OSError, ValueError, http.client.HTTPException) as error:  # an answer that breaks off, a full disk
        said = (error.strerror if isinstance(error, OSError) else None) or error or type(error).__name__
        raise ImagePullError(f"Fetching {reference.familiar} from {reference.registry} went wrong: {said}.") from error
    return image.descriptor


class _Pull:
    """One pull: a repository, the token that it wants, and the store that it goes to."""

    def __init__(self, layout: ImageLayout, reference: Reference, way: Way) -> None:
        self._layout, self._reference, self._way = layout, reference, way
        scheme = "http" if is_loopback(reference.registry) else "https"
        served = _SERVED_BY.get(reference.registry, reference.registry)
        self._base = f"{scheme}://{served}/v2/{reference.repository}"
        self._token: str | None = None

    def image(self) -> Image:
        """Everything that the image consists of, in the store."""
        descriptor = self._manifest(self._reference.digest or self._reference.tag or "")
        document = self._layout.read_document(descriptor.digest)
        if is_index(document, descriptor.media_type):
            chosen = for_this_machine(document, self._reference.familiar)
            descriptor = self._manifest(chosen.digest)
            document = self._layout.read_document(descriptor.digest)
        if not isinstance(document.get("config"), dict) or not isinstance(document.get("layers"), list):
            raise ImageError(
                f"The manifest of {self._reference.familiar} ({descriptor.digest}) has no config and layers."
            )
        for part in (document["config"], *document["layers"]):
            self._blob(Descriptor.read(part))
        return read_image(self._layout, descriptor, shown=self._reference.familiar)

    def _manifest(self, name: str) -> Descriptor:
        with self._get(f"/manifests/{name}", _MANIFESTS) as answer:
            data = answer.read(LARGEST_DOCUMENT + 1)
            kind = (answer.headers.get("Content-Type") or "").partition(";")[0].strip()
        if len(data) > LARGEST_DOCUMENT:
            raise ImageError(f"The manifest of {self._reference.familiar} is larger than {LARGEST_DOCUMENT} bytes.")
        return self._layout.write_blob(data, kind, expected=name if ":" in name else digest_of(data))

    def _blob(self, wanted: Descriptor) -> None:
        if self._layout.has(wanted.digest, wanted.size):
            return
        with self._get(f"/blobs/{wanted.digest}", "*/*") as answer:
            self._layout.write_blob(self._pieces(answer, wanted), wanted.media_type, expected=wanted.digest)

    def _pieces(self, answer: http.client.HTTPResponse, wanted: Descriptor) -> Iterator[bytes]:
        """The blob as it comes, no longer than its descriptor says."""
        left = wanted.size
        try:
            while piece := answer.read(CHUNK):
                left -= len(piece)
                if left < 0:
                    raise ImageError(f"The blob {wanted.digest} is longer than the {wanted.size} bytes announced.")
                yield piece
        except (OSError, http.client.HTTPException) as error:  # the store would take it for its own disk's
            raise self._unreachable(error) from error

    # HTTP

    def _get(self, path: str, accept: str) -> http.client.HTTPResponse:
        """The answer 200 to a request, after a token and redirects; ImagePullError for any other."""
        url = self._base + path
        answer = self._follow(url, accept)
        if answer.status == 401 and (challenge := answer.headers.get("WWW-Authenticate")):
            answer.close()
            self._token = self._ask_token(challenge)
            answer = self._follow(url, accept)
        if answer.status != 200:
            raise self._refused(answer)
        return answer

    def _follow(self, url: str, accept: str) -> http.client.HTTPResponse:
        own = urllib.parse.urlsplit(url).netloc
        for _ in range(_HOPS):
            headers = {"Accept": accept}
            # A token is for the registry, not for the store of blobs that it leads to.
            if self._token and urllib.parse.urlsplit(url).netloc == own:
                headers["Authorization"] = f"Bearer {self._token}"
            answer = self._request(url, headers)
            location = answer.headers.get("Location")
            if answer.status not in _REDIRECTS or not location:
                return answer
            answer.close()
            url = urllib.parse.urljoin(url, location)
        raise ImagePullError(f"The registry of {self._reference.familiar} leads from one address to the next.")

    def _request(self, url: str, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ImagePullError(
                f"The registry of {self._reference.familiar} leads to {url!r:.200}, which is no address."
            )
        if parts.scheme == "http" and not is_loopback(parts.netloc):
            raise ImagePullError(f"The registry of {self._reference.familiar} leads to {parts.netloc} without TLS.")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        connection = http.client.HTTPConnection(parts.hostname, port, timeout=PATIENCE)
        target = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
        try:
            sock = self._way(parts.hostname, port)
            if parts.scheme == "https":
                sock = ssl.create_default_context().wrap_socket(sock, server_hostname=parts.hostname)
            connection.sock = sock
            connection.request("GET", target, headers={**headers, "User-Agent": "podlab", "Connection": "close"})
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._unreachable(error) from error

    def _ask_token(self, challenge: str) -> str:
        """A token for anybody, as a registry's challenge describes it."""
        scheme, _, rest = challenge.partition(" ")
        parameters = dict(_PARAMETER.findall(rest))
        realm = parameters.pop("realm", "")
        if scheme.lower() != "bearer" or not realm:
            raise ImagePullError(
                f"The registry {self._reference.registry} wants a password for {self._reference.familiar}.",
                hint="Pull secrets are not supported: load the image with `podlab image load FILE`.",
            )
        asked = {name: value for name, value in parameters.items() if name in ("service", "scope")}
        asked.setdefault("scope", f"repository:{self._reference.repository}:pull")
        answer = self._request(f"{realm}?{urllib.parse.urlencode(asked)}", {"Accept": "application/json"})
        with answer:
            if answer.status != 200:
                raise self._refused(answer)
            said = _json(answer.read(LARGEST_DOCUMENT))
        token = said.get("token") or said.get("access_token")
        if not isinstance(token, str):
            raise ImagePullError(
                f"The registry {self._reference.registry} gave no token for {self._reference.familiar}."
            )
        return token

    # Errors

    def _refused(self, answer: http.client.HTTPResponse) -> ImagePullError:
        with answer:
            said = _json(answer.read(LARGEST_DOCUMENT)).get("errors")
        first = said[0] if isinstance(said, list) and said and isinstance(said[0], dict) else {}
        detail = str(first.get("message") or answer.reason)
        shown, registry = self._reference.familiar, self._reference.registry
        if answer.status == 404:
            return ImagePullError(f"The registry {registry} has no {shown}: {detail}.")
        if answer.status in (401, 403):
            return ImagePullError(
                f"The registry {registry} does not give {shown} to anybody ({answer.status}: {detail}).",
                hint="Either it does not exist, or it is private; pull secrets are not supported.",
            )
        return ImagePullError(f"The registry {registry} answered {answer.status} for {shown}: {detail}.")

    def _unreachable(self, error: Exception) -> ImagePullError:
        said = error.strerror if isinstance(error, OSError) and error.strerror else error
        return ImagePullError(
            f"The registry {self._reference.registry} cannot be reached for {self._reference.familiar}: {said}."
        )


def _json(data: bytes) -> dict[str, Any]:
    """A JSON object, or nothing if it is none."""
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
