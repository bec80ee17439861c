from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from podlab.errors import ImagePullError
from podlab.images import catalogue, host
from podlab.images.layout import ImageLayout
from podlab.images.pull import Images
from podlab.images.reference import Reference


@pytest.fixture
def images(layout: ImageLayout) -> Images:
    return Images(layout.folder)


VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.mark.parametrize(
    "name", ["podlab/python", "podlab/python:3", f"podlab/python:{VERSION}", "docker.io/podlab/toolbox:1"]
)
@pytest.mark.parametrize("policy", ["Always", "IfNotPresent", "Never"])
def test_bundled_images_are_there_under_every_policy(images: Images, name: str, policy: str) -> None:
    image = images.resolve(name, policy)
    assert Path(image.root.layers[0]) == image.folder
    assert (image.folder / "etc/passwd").is_file()
    assert image.config.environment["PATH"].split(":")[0] == "/opt/podlab/bin"
    assert image.config.command and image.size > 0
    assert image.references[-1].endswith(image.digest)


def test_the_bundled_python_is_an_environment_of_this_interpreter(images: Images) -> None:
    root = images.resolve("podlab/python:3").folder
    found = host.interpreter()
    assert (root / "opt/podlab/bin/python").is_symlink()
    assert str((root / f"opt/podlab/bin/python{VERSION}").readlink()) == found.program
    assert f"home = {Path(found.program).parent}\n" in (root / "opt/podlab/pyvenv.cfg").read_text()


def test_every_borrowed_path_has_its_place_in_the_image(images: Images) -> None:
    for name in ("podlab/python:3", "podlab/toolbox:1"):
        image = images.resolve(name)
        for path in image.root.host_paths:
            assert Path(path).exists()
            assert (image.folder / path.lstrip("/")).is_dir() == Path(path).is_dir()


def test_neither_home_nor_checkout_is_borrowed(images: Images) -> None:
    paths = images.resolve("podlab/python:3").root.host_paths
    for private in host.private_folders():
        assert not any(private == path or private.startswith(path + "/") for path in paths)


def test_an_unknown_image_says_what_is_there_and_what_to_do(images: Images, make: Callable) -> None:
    make("FROM scratch\n", "shop/catalogue:2")
    with pytest.raises(ImagePullError) as refused:
        images.resolve("shop/catalog:2")
    assert refused.value.reason == "ErrImagePull"
    assert "shop/catalogue:2" in str(refused.value)
    assert "podlab image build" in str(refused.value)
    with pytest.raises(ImagePullError) as never:
        images.resolve("shop/catalog:2", "Never")
    assert never.value.reason == "ErrImageNeverPull"


def test_another_version_of_python_names_this_one(images: Images) -> None:
    with pytest.raises(ImagePullError, match=rf"podlab/python:{VERSION}"):
        images.resolve("podlab/python:3.1")


def test_a_malformed_name_has_its_own_reason(images: Images) -> None:
    with pytest.raises(ImagePullError) as refused:
        images.resolve("Podlab/Python")
    assert refused.value.reason == "InvalidImageName"


def test_a_new_build_is_seen_at_once(images: Images, make: Callable) -> None:
    make("FROM scratch\nENV A=1\n")
    first = images.resolve("test/image:1")
    assert images.resolve("test/image:1") is first
    make("FROM scratch\nENV A=2\n")
    assert images.resolve("test/image:1").config.environment == {"A": "2"}


def test_an_image_is_found_by_digest(images: Images, make: Callable) -> None:
    built = make("FROM scratch\nENV A=1\n")
    for name in (f"test/image@{built.digest}", f"test/image:1@{built.digest}"):
        assert images.resolve(name).digest == built.digest
    with pytest.raises(ImagePullError):
        images.resolve(f"other@{built.digest}")
    with pytest.raises(ImagePullError):
        images.resolve(f"test/image@sha256:{'0' * 64}")


def test_a_removed_name_is_gone_and_a_removed_root_comes_back(
    images: Images, layout: ImageLayout, make: Callable, context: Path
) -> None:
    (context / "a").write_text("x")
    make("FROM scratch\nCOPY a /a\n")
    folder = images.resolve("test/image:1").folder
    from podlab.trees import remove_tree

    remove_tree(folder)
    assert (images.resolve("test/image:1").folder / "a").read_text() == "x"
    layout.untag(Reference.parse("test/image:1"))
    with pytest.raises(ImagePullError):
        images.resolve("test/image:1")


def test_a_damaged_image_is_told_as_such(images: Images, layout: ImageLayout, make: Callable) -> None:
    built = make("FROM scratch\nENV A=1\n")
    layout.blob_path(built.digest).write_text("{}")
    with pytest.raises(ImagePullError, match="damaged") as refused:
        images.resolve("test/image:1")
    assert built.digest in str(refused.value)


def test_many_threads_and_stores_unpack_once(layout: ImageLayout) -> None:
    found: list[object] = []

    def resolve() -> None:
        found.append(Images(layout.folder).resolve("podlab/python:3"))

    threads = [threading.Thread(target=resolve) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and all(image == found[0] for image in found)
    assert len([path for path in layout.roots.iterdir() if path.is_dir()]) == 1


def test_a_foreign_image_cannot_borrow_the_home(images: Images, layout: ImageLayout, make: Callable) -> None:
    built = make("FROM podlab/toolbox\n")
    for wanted in (str(Path.home()), "/", "/etc"):
        manifest = layout.read_document(built.digest)
        config = layout.read_document(manifest["config"]["digest"])
        config["config"]["Labels"][catalogue.PATHS_LABEL] = json.dumps([wanted])
        manifest["config"] = layout.write_document(config, manifest["config"]["mediaType"]).write()
        evil = layout.write_document(manifest, manifest["mediaType"])
        layout.tag({Reference.parse("evil:1"): evil})
        with pytest.raises(ImagePullError, match="Build it again"):
            images.resolve("evil:1")


def test_the_images_of_a_node_are_listed(images: Images) -> None:
    images.resolve("podlab/toolbox:1")
    ((names, size),) = images.list()
    assert "podlab/toolbox:1" in names and "podlab/toolbox:latest" in names
    assert size > 0


def test_an_unknown_policy_is_refused(images: Images) -> None:
    with pytest.raises(ImagePullError, match="pull policy"):
        images.resolve("podlab/toolbox:1", "Sometimes")


_IMPORTS = """
import sys
from podlab.images.pull import Images
heavy = {"rich", "typer", "kubernetes", "asyncio", "aiohttp", "cryptography", "yaml", "ssl", "concurrent.futures"}
print(sorted(heavy & set(sys.modules)))
"""


def test_a_node_that_resolves_images_loads_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", _IMPORTS], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_store_that_cannot_be_written_is_told(layout: ImageLayout, images: Images) -> None:
    (layout.folder / "ingest").chmod(0o500)
    try:
        with pytest.raises(ImagePullError, match="cannot be written"):
            images.resolve("podlab/toolbox:1")
    finally:
        (layout.folder / "ingest").chmod(0o700)
