"""Images and pods together: built, missing, malformed, complete without anything of the host, pruned while in use."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Kubectl

from podlab import waiting
from podlab.cluster import Cluster

pytestmark = [pytest.mark.embedded("only embedded nodes have the image store itself")]


def podlab(*arguments: str) -> str:
    """Run `podlab image ...` and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "podlab", "image", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


Pod = Callable[..., None]


@pytest.fixture
def pod(shared: Cluster, kubectl: Kubectl, namespace: str) -> Pod:
    """Create a pod that runs an image: pod("name", "image:tag", command=[...])."""

    def create(name: str, image: str, policy: str = "IfNotPresent", **container: Any) -> None:
        main = {"name": "main", "image": image, "imagePullPolicy": policy, **container}
        spec = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [main]}
        document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        kubectl(shared, "create", "-n", namespace, "-f", "-", stdin=json.dumps(document))

    return create


@pytest.fixture
def see(shared: Cluster, kubectl: Kubectl, namespace: str) -> Callable[[str], dict[str, Any]]:
    """The status of a pod's only container, or {}."""

    def status(name: str) -> dict[str, Any]:
        found = json.loads(kubectl(shared, "get", "pod", name, "-n", namespace, "-o", "json"))["status"]
        return (found.get("containerStatuses") or [{}])[0]

    return status


@pytest.fixture
def ended(
    shared: Cluster, kubectl: Kubectl, namespace: str, see: Callable[[str], dict[str, Any]]
) -> Callable[[str], str]:
    """Wait until a pod has ended well; what it wrote."""

    def wait(name: str) -> str:
        state = waiting.until(
            lambda: see(name).get("state", {}).get("terminated"),
            f"the end of {name}",
            timeout=240,
            state=lambda: see(name),
        )
        log = kubectl(shared, "logs", name, "-n", namespace)
        assert state["exitCode"] == 0, log
        return log

    return wait


def waits(see: Callable[[str], dict[str, Any]], name: str, *reasons: str) -> str:
    """Wait until the pod's container waits for one of the reasons; the message with it."""

    def seen() -> str | None:
        waiting_ = see(name).get("state", {}).get("waiting", {})
        return waiting_.get("message") or "(none)" if waiting_.get("reason") in reasons else None

    return waiting.until(seen, f"{name} waiting with {reasons}", timeout=240, state=lambda: see(name))


def test_an_image_is_built_run_and_built_anew(
    shared: Cluster, kubectl: Kubectl, pod: Pod, ended: Callable, see: Callable, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text("import os, yaml\nprint('first', os.getcwd(), os.environ['MODE'])\n")
    (tmp_path / "Dockerfile").write_text(
        'FROM podlab/python:3\nENV MODE=lab\nWORKDIR /srv\nCOPY app.py .\nCMD ["python", "app.py"]\n'
    )
    digest = podlab("build", str(tmp_path), "-t", "shop/app:1").strip()
    pod("one", "shop/app:1")
    assert ended("one") == "first /srv lab\n"
    assert see("one")["imageID"].endswith(digest)
    (tmp_path / "app.py").write_text("print('second')\n")
    podlab("build", str(tmp_path), "-t", "shop/app:1")
    pod("two", "shop/app:1", policy="Always")
    assert ended("two") == "second\n"


def test_a_missing_image_is_told_and_found_as_soon_as_it_is_built(
    shared: Cluster, kubectl: Kubectl, namespace: str, pod: Pod, see: Callable, ended: Callable, tmp_path: Path
) -> None:
    pod("early", "shop/later:1", command=["echo", "here"])
    message = waits(see, "early", "ErrImagePull", "ImagePullBackOff")
    assert "shop/later:1" in message
    waits(see, "early", "ImagePullBackOff")
    events = ("get", "events", "-n", namespace, "--field-selector=involvedObject.name=early")
    waiting.until(lambda: "podlab image build" in kubectl(shared, *events), "the event that says it", timeout=240)
    (tmp_path / "Dockerfile").write_text("FROM podlab/toolbox\n")
    podlab("build", str(tmp_path), "-t", "shop/later:1")
    assert ended("early") == "here\n"


@pytest.mark.parametrize(
    ("image", "policy", "reason"),
    [("Shop/App", "IfNotPresent", "InvalidImageName"), ("shop/none:1", "Never", "ErrImageNeverPull")],
)
def test_other_reasons_have_their_words(pod: Pod, see: Callable, image: str, policy: str, reason: str) -> None:
    pod("wrong", image, policy)
    assert image in waits(see, "wrong", reason)


def test_a_complete_image_from_a_tar_needs_nothing_of_the_host(
    pod: Pod, ended: Callable, programs: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copy(programs["etcd"], tmp_path / "etcd")
    (tmp_path / "Dockerfile").write_text('FROM scratch\nCOPY --chmod=755 etcd /etcd\nENTRYPOINT ["/etcd"]\n')
    podlab("build", str(tmp_path), "-t", "whole:1")
    podlab("save", "whole:1", "-o", str(tmp_path / "whole.tar"))
    podlab("rm", "whole:1")
    podlab("prune")
    podlab("load", str(tmp_path / "whole.tar"))
    pod("whole", "whole:1", args=["--version"])
    assert ended("whole").startswith("etcd Version:")


def test_prune_takes_nothing_from_a_running_pod(
    shared: Cluster, kubectl: Kubectl, namespace: str, pod: Pod, see: Callable, tmp_path: Path
) -> None:
    (tmp_path / "kept").write_text("still here")
    (tmp_path / "Dockerfile").write_text('FROM podlab/toolbox\nCOPY kept /kept\nCMD ["sleep", "600"]\n')
    podlab("build", str(tmp_path), "-t", "shop/kept:1")
    pod("kept", "shop/kept:1")
    waiting.until(lambda: "running" in see("kept").get("state", {}), "the pod running", timeout=240)
    podlab("rm", "shop/kept:1")
    assert "1 kept, since containers use them" in podlab("prune")
    assert kubectl(shared, "exec", "kept", "-n", namespace, "--", "cat", "/kept") == "still here"
    kubectl(shared, "delete", "pod", "kept", "-n", namespace, "--wait=true")
    waiting.until(lambda: "kept, since" not in podlab("prune"), "the image being free", timeout=240)


def test_nodes_say_which_images_they_have(
    shared: Cluster, kubectl: Kubectl, pod: Pod, ended: Callable, see: Callable
) -> None:
    pod("any", "podlab/toolbox:1", command=["true"])
    ended("any")

    def listed() -> bool:
        nodes = json.loads(kubectl(shared, "get", "nodes", "-o", "json"))["items"]
        return any("podlab/toolbox:1" in image["names"] for node in nodes for image in node["status"].get("images", []))

    waiting.until(listed, "the image in a node's status", timeout=240, interval=1)
