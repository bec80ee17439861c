"""Pods whose images come from a registry: the CNCF distribution registry on this machine's loopback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from lifecycle import Pods, container, pod
from registries import Registry, running

from podlab.cluster import Cluster

pytestmark = [pytest.mark.embedded("the registry is on this machine's loopback, which only embedded nodes reach")]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry of one's own."""
    with running(tmp_path_factory.mktemp("registry")) as made:
        yield made


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
