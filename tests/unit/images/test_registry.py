"""Pulling from a registry: what comes over the wire ends in the store, whole and checked, or not at all."""

from __future__ import annotations

import http.client
import json
import os
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from podlab.errors import ImagePullError
from podlab.images import layout as oci
from podlab.images.image import architecture
from podlab.images.layout import Descriptor, ImageLayout, canonical_json, digest_of
from podlab.images.pull import FetchNeeded, Images, Registries
from podlab.images.reference import Reference
from podlab.images.registry import direct, fetch, through
from podlab.network.egress import parse_connect


@dataclass
class Served:
    """A registry as it answers: what it has by path, what it wants, and what it was asked."""

    port: int = 0
    things: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    token: str = ""
    elsewhere: bool = False
    #: Whether a part of each answer that is announced does not come.
    breaks_off: bool = False
    #: Whether connections are reset in the middle of a blob.
    resets: bool = False
    asked: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.port}"

    def put(self, path: str, data: bytes, kind: str = "application/octet-stream") -> str:
        """Have something; returns its digest."""
        self.things[path] = (kind, data)
        return digest_of(data)

    def put_image(self, layout: ImageLayout, name: str, tag: str, **manifest: str) -> str:
        """Have an image of a store; returns the digest of its manifest."""
        digest = layout.images()[str(Reference.parse(name))].digest
        document = layout.read_document(digest)
        for part in (document["config"], *document["layers"]):
            self.put(f"/v2/shop/blobs/{part['digest']}", layout.read_blob(part["digest"]))
        data = canonical_json({**document, **manifest})
        kind = manifest.get("mediaType", oci.MANIFEST)
        for reference in (tag, digest_of(data)):
            self.put(f"/v2/shop/manifests/{reference}", data, kind)
        return digest_of(data)

    def answer(self, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        self.asked.append(path)
        if path.startswith("/token?"):
            return 200, {}, json.dumps({"token": self.token}).encode()
        if path.startswith("/store/"):
            assert "authorization" not in headers, "a token has left the registry"
            path = path.removeprefix("/store")
        elif self.token and headers.get("authorization") != f"Bearer {self.token}":
            challenge = f'Bearer realm="http://{self.name}/token",service="us",scope="repository:shop:pull"'
            return 401, {"WWW-Authenticate": challenge}, b""
        elif self.elsewhere and "/blobs/" in path:
            return 307, {"Location": f"http://localhost:{self.port}/store{path}"}, b""
        if path not in self.things:
            error = {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}
            return 404, {}, json.dumps(error).encode()
        kind, data = self.things[path]
        return 200, {"Content-Type": kind}, data


@pytest.fixture
def served() -> Iterator[Served]:
    """A registry on loopback."""
    state = Served()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, data = state.answer(self.path, {k.lower(): v for k, v in self.headers.items()})
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if state.breaks_off:
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self.wfile.write(b"%x\r\n%b" % (len(data) + 7, data))
                return
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if state.resets and "/blobs/" in self.path:
                self.wfile.write(data[: len(data) // 2])
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                os.close(self.connection.detach())  # with that option: reset, no end
                return
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield state
        server.shutdown()
        thread.join()


@pytest.fixture
def remote(tmp_path: Path, make: Callable, context: Path, served: Served, layout: ImageLayout) -> str:
    """An image that only the registry has: its reference there."""
    (context / "greeting").write_text("hello")
    make('FROM scratch\nCOPY greeting /greeting\nCMD ["/greeting"]\n', "made/here:1")
    served.put_image(layout, "made/here:1", "2")
    return f"{served.name}/shop:2"


@pytest.fixture
def images(tmp_path: Path) -> Images:
    return Images(tmp_path / "node", Registries(direct))


def test_an_image_is_fetched_once_and_kept(images: Images, remote: str, served: Served) -> None:
    with pytest.raises(FetchNeeded):
        images.resolve(remote)
    image = images.fetch(remote)
    assert (image.folder / "greeting").read_text() == "hello"
    assert image.config.command == ("/greeting",)
    assert image.references[-1] == f"{served.name}/shop@{image.digest}"
    asked = len(served.asked)
    assert images.resolve(remote) == image
    assert len(served.asked) == asked


def test_always_asks_again_and_fetches_what_is_new(
    images: Images, remote: str, served: Served, make: Callable, context: Path, layout: ImageLayout
) -> None:
    images.fetch(remote)
    with pytest.raises(FetchNeeded):
        images.resolve(remote, "Always")
    served.asked.clear()
    images.fetch(remote, "Always")
    assert [path for path in served.asked if "/blobs/" in path] == []
    (context / "greeting").write_text("good day")
    make("FROM scratch\nCOPY greeting /greeting\n", "made/here:2")
    served.put_image(layout, "made/here:2", "2")
    assert (images.fetch(remote, "Always").folder / "greeting").read_text() == "good day"
    assert images.resolve(remote).folder.joinpath("greeting").read_text() == "good day"


def test_an_image_made_here_is_good_enough_for_always(layout: ImageLayout, make: Callable) -> None:
    make('FROM scratch\nCMD ["/a"]\n', "localhost:1/shop:1")
    assert Images(layout.folder, Registries(direct)).resolve("localhost:1/shop:1", "Always").config.command == ("/a",)


def test_by_digest(images: Images, remote: str, served: Served) -> None:
    digest = digest_of(served.things["/v2/shop/manifests/2"][1])
    assert images.fetch(f"{served.name}/shop@{digest}").digest == digest
    assert images.resolve(f"{served.name}/shop@{digest}").digest == digest


def test_of_an_index_this_machines_image_is_taken(images: Images, remote: str, served: Served) -> None:
    kind, data = served.things["/v2/shop/manifests/2"]
    own = {"mediaType": kind, "digest": digest_of(data), "size": len(data)}
    other = {**own, "digest": "sha256:" + "0" * 64, "platform": {"os": "linux", "architecture": "pdp11"}}
    index = {"schemaVersion": 2, "mediaType": oci.INDEX}
    entries = [other, {**own, "platform": {"os": "linux", "architecture": architecture()}}]
    listed = canonical_json({**index, "manifests": entries})
    for name in ("all", digest_of(listed)):
        served.put(f"/v2/shop/manifests/{name}", listed, oci.INDEX)
    assert images.fetch(f"{served.name}/shop:all").digest == digest_of(data)
    by_digest = f"{served.name}/shop@{digest_of(listed)}"
    images.fetch(by_digest)
    assert images.resolve(by_digest).digest == digest_of(data)
    served.put("/v2/shop/manifests/none", canonical_json({**index, "manifests": [other]}), oci.INDEX)
    with pytest.raises(ImagePullError, match="linux/pdp11"):
        images.fetch(f"{served.name}/shop:none")


def test_dockers_own_manifest(images: Images, remote: str, served: Served, layout: ImageLayout) -> None:
    served.put_image(layout, "made/here:1", "docker", mediaType=oci.DOCKER_MANIFEST)
    assert images.fetch(f"{served.name}/shop:docker").config.command == ("/greeting",)


def test_with_a_token_and_blobs_elsewhere(images: Images, remote: str, served: Served) -> None:
    served.token, served.elsewhere = "secret", True
    assert images.fetch(remote).config.command == ("/greeting",)
    assert any(path.startswith("/token?service=us&scope=repository%3Ashop%3Apull") for path in served.asked)
    assert any(path.startswith("/store/") for path in served.asked)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: b"x" * len(data), "should have the digest"),
        (lambda data: data + b"more", "longer than"),
        (lambda data: data[:-1], "should have the digest"),
    ],
)
def test_a_damaged_blob_is_refused_and_a_later_pull_mends_it(
    images: Images, remote: str, served: Served, damage: Callable[[bytes], bytes], said: str
) -> None:
    path, (kind, data) = next((path, thing) for path, thing in served.things.items() if "/blobs/" in path)
    served.things[path] = (kind, damage(data))
    with pytest.raises(ImagePullError, match=said):
        images.fetch(remote)
    with pytest.raises(FetchNeeded):
        images.resolve(remote)
    served.things[path] = (kind, data)
    assert images.fetch(remote).config.command == ("/greeting",)


def test_a_manifest_that_is_not_what_its_digest_says_is_refused(images: Images, remote: str, served: Served) -> None:
    digest = digest_of(b"something else")
    served.put(f"/v2/shop/manifests/{digest}", *reversed(served.things["/v2/shop/manifests/2"]))
    with pytest.raises(ImagePullError, match="should have the digest"):
        images.fetch(f"{served.name}/shop@{digest}")


def test_what_is_not_there_is_said(images: Images, remote: str, served: Served) -> None:
    with pytest.raises(ImagePullError, match=r"has no .*shop:9: manifest unknown") as error:
        images.fetch(f"{served.name}/shop:9")
    assert error.value.reason == "ErrImagePull"


def test_a_registry_that_is_gone_is_said(images: Images) -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), None) as closed:  # type: ignore[arg-type]
        port = closed.server_address[1]
    with pytest.raises(ImagePullError, match=f"127.0.0.1:{port} cannot be reached"):
        images.fetch(f"127.0.0.1:{port}/shop:1")


@pytest.mark.parametrize("path", ["/shop:2", "/shop:9", "/shop:token"])
def test_an_answer_that_breaks_off_is_said(images: Images, remote: str, served: Served, path: str) -> None:
    served.breaks_off, served.token = True, "secret" if "token" in path else ""
    with pytest.raises(ImagePullError, match=r"went wrong: IncompleteRead\(\d+ bytes read.*\)\.") as error:
        images.fetch(served.name + path)
    assert error.value.reason == "ErrImagePull"


def test_a_connection_that_is_reset_in_a_blob_is_the_registrys_and_not_the_stores(
    images: Images, remote: str, served: Served
) -> None:
    served.resets = True
    with pytest.raises(ImagePullError, match=f"registry {served.name} cannot be reached .*reset by peer") as error:
        images.fetch(remote)
    assert error.value.hint is None or "PODLAB_HOME" not in error.value.hint


def test_a_registry_that_leads_to_no_address_is_said(
    images: Images, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "answer", lambda *_: (307, {"Location": "http://localhost:99999/v2/"}, b""))
    with pytest.raises(ImagePullError, match="went wrong: Port out of range"):
        images.fetch(f"{served.name}/shop:1")


def test_a_host_of_ipv6_is_named_in_brackets_to_a_proxy(tmp_path: Path) -> None:
    heard = []
    with socket.socket(socket.AF_UNIX) as proxy:
        proxy.bind(str(tmp_path / "proxy"))
        proxy.listen()

        def answer() -> None:
            with proxy.accept()[0] as connection:
                heard.append(connection.recv(1000))

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        with pytest.raises((OSError, http.client.HTTPException)):
            through(tmp_path / "proxy")("::1", 5000)
        thread.join()
    assert parse_connect(heard[0]) == ("::1", 5000)


def test_garbage_is_said(images: Images, served: Served) -> None:
    for data in (b"\xff\x00", b"[]", b'{"config": {}, "layers": []}', b'{"config": {"digest": "md5:1", "size": 1}}'):
        served.put("/v2/shop/manifests/1", data, oci.MANIFEST)
        with pytest.raises(ImagePullError):
            images.fetch(f"{served.name}/shop:1")
    assert images.layout.images() == {}


def test_only_registries_of_this_machine_and_those_named_are_asked(tmp_path: Path) -> None:
    def never(host: str, port: int) -> None:
        raise AssertionError(f"{host} was asked")

    images = Images(tmp_path, Registries(never, frozenset({"ghcr.io"})))  # type: ignore[arg-type]
    with pytest.raises(ImagePullError, match="PODLAB_REGISTRIES") as error:
        images.resolve("nginx:1.27")
    assert not isinstance(error.value, FetchNeeded)
    with pytest.raises(ImagePullError, match="PODLAB_REGISTRIES"):
        images.fetch("nginx:1.27")
    with pytest.raises(FetchNeeded):
        images.resolve("ghcr.io/shop/web:1")
    with pytest.raises(ImagePullError) as never_pulled:
        images.resolve("ghcr.io/shop/web:1", "Never")
    assert never_pulled.value.reason == "ErrImageNeverPull"
    assert Registries(never, frozenset("*")).allow("anything.example")  # type: ignore[arg-type]


async def test_the_way_by_a_proxy_on_a_socket(tmp_path: Path, remote: str, served: Served) -> None:
    import asyncio

    from podlab.network.egress import dial_outside, serve_connect

    proxy = await serve_connect(tmp_path / "outside.sock", dial_outside)
    try:
        store = ImageLayout(tmp_path / "node")
        found = await asyncio.to_thread(fetch, store, Reference.parse(remote), through(proxy.path))
        assert isinstance(found, Descriptor)
        with pytest.raises(ImagePullError, match="cannot be reached"):
            await asyncio.to_thread(fetch, store, Reference.parse("127.0.0.1:1/shop:1"), through(proxy.path))
    finally:
        await proxy.close()
