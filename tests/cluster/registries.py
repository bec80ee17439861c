"""The CNCF distribution registry, from its Go module, on this machine's loopback; and what is pushed to it."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from podlab.cluster.embedded import binaries
from podlab.errors import BinaryError, EnvironmentUnsuitable
from podlab.images.build import build
from podlab.images.layout import Descriptor, ImageLayout, digest_of
from podlab.images.reference import Reference
from podlab.waiting import until


class Registry:
    """A running registry: `name` is what stands before its images' names, `images` the store that is pushed from."""

    def __init__(self, name: str, folder: Path, allow: Callable[[str], Mapping[str, str]]) -> None:
        self.name, self.data, self.images = name, folder / "data", ImageLayout(folder / "store")
        self._context = folder / "context"
        #: The headers by which one may push to a repository.
        self._allow = allow

    def _ask(self, repository: str, method: str, url: str, data: bytes, kind: str) -> Any:
        headers = {"Content-Type": kind, **self._allow(repository)}
        return urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=30)

    def push_blob(self, repository: str, data: bytes) -> str:
        """Have a blob; returns its digest."""
        begin = f"http://{self.name}/v2/{repository}/blobs/uploads/"
        with self._ask(repository, "POST", begin, b"", "application/octet-stream") as answer:
            place = answer.headers["Location"]
        joint, digest = "&" if "?" in place else "?", digest_of(data)
        self._ask(repository, "PUT", f"{place}{joint}digest={digest}", data, "application/octet-stream").close()
        return digest

    def push_manifest(self, repository: str, tag: str, data: bytes, kind: str) -> Descriptor:
        """Have a manifest or an index under a tag."""
        self._ask(repository, "PUT", f"http://{self.name}/v2/{repository}/manifests/{tag}", data, kind).close()
        return Descriptor(kind, digest_of(data), len(data))

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
            self.push_blob(repository, self.images.read_blob(part["digest"]))
        return self.push_manifest(repository, tag, self.images.read_blob(found.digest), found.media_type).digest

    def blob(self, digest: str) -> Path:
        """Where the registry keeps a blob."""
        kind, _, name = digest.partition(":")
        return self.data / "docker" / "registry" / "v2" / "blobs" / kind / name[:2] / name / "data"


@contextlib.contextmanager
def running(
    folder: Path, auth: Mapping[str, Any] | None = None, allow: Callable[[str], Mapping[str, str]] = lambda _: {}
) -> Iterator[Registry]:
    """A registry of one's own. With `auth`, its own words for it, nothing is had without what `allow` adds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PODLAB_HOME", raising=False)  # it is built once, for all runs
        try:
            program = binaries.ensure(["registry"])["registry"]
        except (BinaryError, EnvironmentUnsuitable) as error:
            pytest.skip(f"the registry's program cannot be had here: {error}")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        name = f"127.0.0.1:{probe.getsockname()[1]}"
    configuration = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": name},
        "log": {"level": "warn"},
        **({"auth": dict(auth)} if auth else {}),
    }
    (folder / "config.yml").write_text(json.dumps(configuration))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([str(program), "serve", str(folder / "config.yml")], stdout=log, stderr=log)

    def answers() -> bool:
        try:
            return bool(urllib.request.urlopen(f"http://{name}/v2/", timeout=30).status == 200)
        except urllib.error.HTTPError as error:
            return error.code == 401
        except OSError:
            return False

    try:
        until(answers, "the registry", timeout=60, state=lambda: (folder / "log").read_text()[-500:])
        yield Registry(name, folder, allow)
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)
