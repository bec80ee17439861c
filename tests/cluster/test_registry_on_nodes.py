"""Pods whose images come from a registry: the CNCF distribution registry on this machine's loopback."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lifecycle import Pods, container, pod

from podlab.cluster import Cluster
from podlab.cluster.embedded import binaries
from podlab.errors import BinaryError, EnvironmentUnsuitable
from podlab.images.build import build
from podlab.images.layout import ImageLayout
from podlab.images.reference import Reference
from podlab.waiting import until

pytestmark = [pytest.mark.embedded("the registry is on this machine's loopback, which only embedded nodes reach")]


def request(method: str, url: str, data: bytes | None = None, kind: str = "application/octet-stream") -> Any:
    """The answer of the registry."""
    asked = urllib.request.Request(url, data, {"Content-Type": kind}, method=method)
    return urllib.request.urlopen(asked, timeout=30)


class Registry:
    """A running registry: `name` is what stands before its images' names, `images` the store that is pushed from."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.images = name, ImageLayout(folder / "store")
        self._context = folder / "context"

    def push(self, repository: str, tag: str, text: str) -> str:
        """Have an image that prints `text`, made and pushed by its protocol; returns the digest of its manifest."""
        self._context.mkdir(exist_ok=True)
        (self._context / "text").write_text(text)
        (self._context / "Dockerfile").write_text("FROM scratch\nCOPY text /text\n")
        reference = Reference.parse(f"{self.name}/{repository}:{tag}")
        build(self.images, self._context, [reference])
        found = self.images.images()[str(reference)]
        manifest = self.images.read_document(found.digest)
        for part in (manifest["config"], *manifest["layers"]):
            with request("POST", f"http://{self.name}/v2/{repository}/blobs/uploads/", b"") as answer:
                place = answer.headers["Location"]
            joint = "&" if "?" in place else "?"
            request("PUT", f"{place}{joint}digest={part['digest']}", self.images.read_blob(part["digest"])).close()
        url = f"http://{self.name}/v2/{repository}/manifests/{tag}"
        request("PUT", url, self.images.read_blob(found.digest), found.media_type).close()
        return found.digest


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry of one's own, from its Go module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PODLAB_HOME")  # it is built once, for all runs
        try:
            program = binaries.ensure(["registry"])["registry"]
        except (BinaryError, EnvironmentUnsuitable) as error:
            pytest.skip(f"the registry's program cannot be had here: {error}")
    folder = tmp_path_factory.mktemp("registry")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        name = f"127.0.0.1:{probe.getsockname()[1]}"
    configuration = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": name},
        "log": {"level": "warn"},
    }
    (folder / "config.yml").write_text(json.dumps(configuration))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([str(program), "serve", str(folder / "config.yml")], stdout=log, stderr=log)

    def answers() -> bool:
        try:
            return bool(request("GET", f"http://{name}/v2/").status == 200)
        except (urllib.error.URLError, OSError):
            return False

    try:
        until(answers, "the registry", timeout=60, state=lambda: (folder / "log").read_text()[-500:])
        yield Registry(name, folder)
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def pods(shared: Cluster, kubectl: Any, namespace: str) -> Pods:
    return Pods(kubectl, shared, namespace)


@pytest.fixture
def show(pods: Pods) -> Callable[..., str]:
    """What the file of an image says, read through an image volume, as the image itself holds no program."""

    def run(name: str, image: str, policy: str) -> str:
        volume = {"name": "image", "image": {"reference": image, "pullPolicy": policy}}
        main = container(script="cat /image/text", volumeMounts=[{"name": "image", "mountPath": "/image"}])
        pods.apply(pod(name, main, volumes=[volume], restartPolicy="Never"))
        pods.phase(name, "Succeeded")
        return pods.logs(name)

    return run


def test_an_image_is_pulled_and_always_asks_again(registry: Registry, show: Callable[..., str]) -> None:
    registry.push("shop/text", "1", "first")
    image = f"{registry.name}/shop/text:1"
    assert show("one", image, "IfNotPresent") == "first"
    registry.push("shop/text", "1", "second")
    assert show("kept", image, "IfNotPresent") == "first"
    assert show("anew", image, "Always") == "second"


def test_a_container_says_what_was_pulled(registry: Registry, pods: Pods) -> None:
    digest = registry.push("shop/said", "1", "said")
    image = f"{registry.name}/shop/said:1"
    pods.apply(pod("puller", {"name": "main", "image": image, "command": ["/nothing"]}, restartPolicy="Never"))
    assert image in pods.event("puller", "Pulling")["message"]
    assert "Successfully pulled image" in pods.event("puller", "Pulled")["message"]
    status = pods.phase("puller", "Failed")["containerStatuses"][0]
    assert status["imageID"] == f"{registry.name}/shop/said@{digest}"


def test_what_a_registry_has_not_is_an_image_pull_error(registry: Registry, pods: Pods) -> None:
    image = f"{registry.name}/shop/none:1"
    pods.apply(pod("missing", {"name": "main", "image": image}))
    status = pods.waiting("missing", "ImagePullBackOff")
    assert "has no" in status["containerStatuses"][0]["state"]["waiting"]["message"]
    assert image in pods.event("missing", "Failed")["message"]
