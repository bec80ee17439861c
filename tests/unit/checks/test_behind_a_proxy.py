"""Behind a proxy that lets nothing through, a cluster on this machine answers: ours, and the learner's own client."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client, config
from little_api import LittleApi

from podlab import proxies
from podlab.checks.api import Api
from podlab.cluster import Cluster, readiness


@pytest.fixture
def behind_a_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # a port on which nobody listens: whoever connects is refused
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            for spelling in (name, name.upper()):
                monkeypatch.setenv(spelling, f"http://127.0.0.1:{silent.getsockname()[1]}")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(name, "registry.example")
        yield


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Iterator[Path]:
    with LittleApi() as api:
        yield api.kubeconfig(tmp_path / "kubeconfig")


def by_checks(kubeconfig: Path, _: pytest.MonkeyPatch) -> str:
    return Api.connect(kubeconfig).request("GET", "/version")["gitVersion"]


def by_readiness(kubeconfig: Path, _: pytest.MonkeyPatch) -> str:
    with readiness.client(kubeconfig) as api:
        return client.VersionApi(api).get_code().git_version


def by_the_cluster(kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(Cluster, "kubeconfig", kubeconfig)
    return client.VersionApi(Cluster("any").api()).get_code().git_version


def by_code_of_ones_own(kubeconfig: Path, _: pytest.MonkeyPatch) -> str:
    Api.connect(kubeconfig)  # the lab's own
    return client.VersionApi(config.new_client_from_config(str(kubeconfig))).get_code().git_version


@pytest.mark.parametrize("ask", [by_checks, by_readiness, by_the_cluster, by_code_of_ones_own])
def test_a_cluster_here_is_asked_directly(behind_a_proxy, kubeconfig, monkeypatch, ask) -> None:
    assert ask(kubeconfig, monkeypatch) == "v1.37.2"


def test_what_is_exempt_already_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "*")
    proxies.exempt()
    assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == "*"
    monkeypatch.setenv("NO_PROXY", "large.example")
    monkeypatch.setenv("no_proxy", "small.example")
    proxies.exempt()
    proxies.exempt()
    assert os.environ["NO_PROXY"] == "large.example,127.0.0.1,localhost,::1"
    assert os.environ["no_proxy"] == "small.example,127.0.0.1,localhost,::1"
