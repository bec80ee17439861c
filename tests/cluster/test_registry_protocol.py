"""What a pull makes of each thing that a registry may have or want: asked of the CNCF distribution registry itself."""

from __future__ import annotations

import base64
import gzip
import io
import json
import secrets
import tarfile
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from registries import Registry, running

from podlab.cluster.embedded import certificates
from podlab.errors import ImagePullError
from podlab.images import layout as oci
from podlab.images.image import architecture
from podlab.images.layout import canonical_json, digest_of
from podlab.images.pull import FetchNeeded, Images, Registries
from podlab.images.registry import direct

pytestmark = [pytest.mark.embedded("no cluster is asked")]

#: The media types of an image: manifest, configuration, layer, index.
OCI = (
    oci.MANIFEST,
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    oci.INDEX,
)
DOCKER = (
    oci.DOCKER_MANIFEST,
    "application/vnd.docker.container.image.v1+json",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    oci.DOCKER_INDEX,
)
KINDS = pytest.mark.parametrize("kinds", [OCI, DOCKER], ids=["oci", "schema 2"])
#: Files of two layers; the second one takes away a file of the first, and all that a folder had.
LAYERS = (
    {"text": "first", "gone": "", "kept/a": "below", "emptied/old": ""},
    {"text": "second", ".wh.gone": "", "emptied/.wh..wh..opq": "", "emptied/new": "above"},
)
FOUND = {"text": "second", "kept/a": "below", "emptied/new": "above"}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that gives everything to everybody."""
    with running(tmp_path_factory.mktemp("registry")) as made:
        yield made


@pytest.fixture
def images(tmp_path: Path) -> Images:
    """A node's store, which has nothing yet."""
    return Images(tmp_path / "node", Registries(direct))


def archive(files: Mapping[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            made.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


def push(registry: Registry, repository: str, tag: str, kinds: tuple[str, ...], machine: str = "") -> dict[str, Any]:
    """An image of LAYERS; its entry in an index."""
    manifest_kind, config_kind, layer_kind, _ = kinds
    machine = machine or architecture()
    plain = [archive(files) for files in LAYERS]
    layers = [gzip.compress(data, mtime=0) for data in plain]
    rootfs = {"type": "layers", "diff_ids": [digest_of(data) for data in plain]}
    config = canonical_json({"os": "linux", "architecture": machine, "config": {"Cmd": ["/text"]}, "rootfs": rootfs})

    def part(kind: str, data: bytes) -> dict[str, Any]:
        return {"mediaType": kind, "digest": registry.push_blob(repository, data), "size": len(data)}

    manifest = canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": manifest_kind,
            "config": part(config_kind, config),
            "layers": [part(layer_kind, data) for data in layers],
        }
    )
    pushed = registry.push_manifest(repository, tag, manifest, manifest_kind)
    entry = {"mediaType": manifest_kind, "digest": pushed.digest, "size": pushed.size}
    return {**entry, "platform": {"os": "linux", "architecture": machine}}


def files(folder: Path) -> dict[str, str]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_text() for path in found if path.name not in ("passwd", "group")}


@KINDS
def test_an_image_is_pulled_with_what_its_layers_take_away(
    registry: Registry, images: Images, kinds: tuple[str, ...]
) -> None:
    repository = f"shop/{'docker' if kinds is DOCKER else 'oci'}"
    entry = push(registry, repository, "1", kinds)
    found = images.fetch(f"{registry.name}/{repository}:1")
    assert found.digest == entry["digest"] and found.config.command == ("/text",)
    assert files(found.folder) == FOUND
    assert images.fetch(f"{registry.name}/{repository}@{entry['digest']}").folder == found.folder


@KINDS
def test_of_an_image_for_many_machines_that_for_this_one_is_pulled(
    registry: Registry, images: Images, kinds: tuple[str, ...]
) -> None:
    repository = f"many/{'docker' if kinds is DOCKER else 'oci'}"
    other = push(registry, repository, "other", kinds, "riscv128")
    own = push(registry, repository, "own", kinds)
    for tag, entries in (("all", [other, own]), ("none", [other])):
        listed = canonical_json({"schemaVersion": 2, "mediaType": kinds[3], "manifests": entries})
        registry.push_manifest(repository, tag, listed, kinds[3])
    assert images.fetch(f"{registry.name}/{repository}:all").digest == own["digest"]
    with pytest.raises(ImagePullError, match=r"nothing for this machine .* it has: linux/riscv128"):
        images.fetch(f"{registry.name}/{repository}:none")


def test_a_blob_that_the_registrys_disk_has_damaged_is_refused_until_it_is_mended(
    registry: Registry, images: Images
) -> None:
    push(registry, "shop/damaged", "1", OCI)
    image = f"{registry.name}/shop/damaged:1"
    place = registry.blob(digest_of(gzip.compress(archive(LAYERS[1]), mtime=0)))
    whole = place.read_bytes()
    place.write_bytes(b"x" * len(whole))
    try:
        with pytest.raises(ImagePullError, match="should have the digest"):
            images.fetch(image)
        with pytest.raises(FetchNeeded):
            images.resolve(image)
    finally:
        place.write_bytes(whole)
    assert files(images.fetch(image).folder) == FOUND


class Authority:
    """Gives tokens to whoever asks, as the registry's configuration `auth` says: for what is asked, to pull only."""

    def __init__(self, folder: Path) -> None:
        pair = certificates.new_authority("tokens")
        self._key = pair.key
        self._chain = [base64.b64encode(pair.certificate.public_bytes(Encoding.DER)).decode()]
        (folder / "tokens.crt").write_bytes(pair.certificate.public_bytes(Encoding.PEM))
        self.bundle, self.asked, self.port = str(folder / "tokens.crt"), list[dict[str, list[str]]](), 0

    @property
    def auth(self) -> dict[str, Any]:
        realm = f"http://127.0.0.1:{self.port}/token"
        words = {"realm": realm, "service": "shop", "issuer": "authority", "rootcertbundle": self.bundle}
        return {"token": words}

    def token(self, repository: str, *actions: str) -> str:
        """A signed statement (JWT) that its bearer may do `actions` with a repository."""
        now = int(time.time())
        head = {"typ": "JWT", "alg": "ES256", "x5c": self._chain}
        claims = {
            "iss": "authority",
            "sub": "",
            "aud": "shop",
            "nbf": now - 10,
            "iat": now - 10,
            "exp": now + 300,
            "jti": secrets.token_hex(8),
            "access": [{"type": "repository", "name": repository, "actions": list(actions)}],
        }
        said = b".".join(_encoded(canonical_json(part)) for part in (head, claims))
        both = decode_dss_signature(self._key.sign(said, ec.ECDSA(hashes.SHA256())))
        return (said + b"." + _encoded(b"".join(number.to_bytes(32, "big") for number in both))).decode()

    def answer(self, query: dict[str, list[str]]) -> dict[str, str]:
        self.asked.append(query)
        _, repository, _ = query["scope"][0].split(":")
        return {"token": self.token("another" if repository == "private" else repository, "pull")}


def _encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[Authority]:
    """One that serves on loopback."""
    made = Authority(tmp_path)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(made.answer(urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query))).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield made
        server.shutdown()
        thread.join()


def test_a_registry_that_wants_a_token_is_given_one_for_what_is_pulled(
    tmp_path: Path, authority: Authority, images: Images
) -> None:
    def allow(repository: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {authority.token(repository, 'pull', 'push')}"}

    folder = tmp_path / "registry"
    folder.mkdir()
    with running(folder, authority.auth, allow) as registry:
        for repository in ("shop/open", "private"):
            push(registry, repository, "1", OCI)
        assert files(images.fetch(f"{registry.name}/shop/open:1").folder) == FOUND
        assert authority.asked == [{"service": ["shop"], "scope": ["repository:shop/open:pull"]}]
        with pytest.raises(ImagePullError, match=r"does not give .*private:1 to anybody \(401.*or it is private"):
            images.fetch(f"{registry.name}/private:1")


def test_a_registry_that_wants_a_password_is_not_given_one(tmp_path: Path, images: Images) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text("nobody:$2y$05$" + "a" * 53 + "\n")
    folder = tmp_path / "registry"
    folder.mkdir()
    with running(folder, {"htpasswd": {"realm": "shop", "path": str(passwords)}}) as registry:
        with pytest.raises(ImagePullError, match="wants a password") as told:
            images.fetch(f"{registry.name}/shop/text:1")
        assert "podlab image load" in str(told.value)
