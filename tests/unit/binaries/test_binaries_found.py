"""Binaries that are on the machine already: explicit paths, PATH, versions."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from release_server import put

from podlab.cluster.embedded import binaries
from podlab.cluster.embedded.binaries import versions
from podlab.errors import BinaryError, UsageError

numbers = st.integers(min_value=0, max_value=200)


@given(major=numbers, minor=numbers, patch=numbers, name=st.sampled_from(binaries.ALL))
def test_a_version_is_read_from_what_the_real_binaries_print(major, minor, patch, name):
    number = f"{major}.{minor}.{patch}"
    printed = {
        "etcd": f"etcd Version: {number}\nGit SHA: 0\nGo Version: go1.26.8\n",
        "kubectl": f'{{"clientVersion": {{"gitVersion": "v{number}", "goVersion": "go1.26.8"}}}}',
    }.get(name, f"Kubernetes v{number}\n")
    version = versions.parse(name, printed)
    assert version == f"v{number}"
    assert (versions.objection(name, version) is None) == ((major, minor) >= versions.floor(name))


@pytest.mark.parametrize("name", binaries.ALL)
@pytest.mark.parametrize("output", ["", "usage: nothing", "{}", '{"clientVersion": 1}', "[]", "go1.26.8"])
def test_output_without_a_version_has_none(name, output):
    assert versions.parse(name, output) is None


def test_nothing_is_found_on_an_empty_machine():
    assert binaries.locate() == dict.fromkeys(binaries.ALL)


def test_one_variable_names_one_file_and_wins_over_the_folder(machine, monkeypatch):
    for name in binaries.ALL:
        put(machine / "folder", name, "v3.7.0" if name == "etcd" else "v1.37.2")
    own = put(machine / "other", "kube-apiserver", "v1.37.2")
    monkeypatch.setenv("PODLAB_BINARIES", str(machine / "folder"))
    monkeypatch.setenv("PODLAB_KUBE_APISERVER", str(own))
    found = binaries.ensure()
    assert found["kube-apiserver"] == own
    assert found["etcd"] == machine / "folder" / "etcd"
    assert list(found) == list(binaries.ALL)


def test_an_explicit_binary_that_is_too_old_is_refused_with_both_versions(machine, monkeypatch):
    old = put(machine / "old", "kube-apiserver", "v1.35.9")
    monkeypatch.setenv("PODLAB_KUBE_APISERVER", str(old))
    with pytest.raises(BinaryError) as caught:
        binaries.find("kube-apiserver")
    for part in (str(old), "v1.35.9", "1.36 or newer", "PODLAB_KUBE_APISERVER"):
        assert part in str(caught.value)


@pytest.mark.parametrize("key", ["PODLAB_BINARIES", "PODLAB_ETCD"])
def test_an_explicit_path_that_is_not_there_is_named(machine, monkeypatch, key):
    monkeypatch.setenv(key, str(machine / "nowhere"))
    with pytest.raises(BinaryError, match=f"{key} is {machine / 'nowhere'}"):
        binaries.find("etcd")


def test_an_explicit_file_that_says_no_version_is_refused(machine, monkeypatch):
    path = machine / "etcd"
    path.write_text("#!/bin/sh\necho broken; exit 3\n")
    path.chmod(0o755)
    monkeypatch.setenv("PODLAB_ETCD", str(path))
    with pytest.raises(BinaryError, match=r"did not say a version of etcd \(status 3\): broken"):
        binaries.find("etcd")


def test_an_explicit_file_that_may_not_be_run_is_refused_with_what_to_do(machine, monkeypatch):
    locked = put(machine / "locked", "kubectl", "v1.37.2")
    locked.chmod(0o600)
    monkeypatch.setenv("PODLAB_KUBECTL", str(locked))
    with pytest.raises(BinaryError) as caught:
        binaries.find("kubectl")
    assert f"{locked} could not be run" in str(caught.value)
    assert "Errno" not in str(caught.value)
    assert "may run" in caught.value.hint


def test_a_control_plane_of_several_versions_is_refused(machine, monkeypatch):
    for name in binaries.ALL:
        put(machine / "folder", name, "v3.7.0" if name == "etcd" else "v1.37.2")
    put(machine / "folder", "kube-scheduler", "v1.36.1")
    monkeypatch.setenv("PODLAB_BINARIES", str(machine / "folder"))
    with pytest.raises(BinaryError, match=r"not of one version: .*kube-scheduler v1\.36\.1"):
        binaries.ensure()


def test_path_is_used_when_its_versions_will_do(machine):
    for name in binaries.ALL:
        put(machine / "bin", name, "v3.6.4" if name == "etcd" else "v1.36.0")
    located = binaries.locate()
    assert {one.source for one in located.values()} == {"PATH"}
    assert located["etcd"].version == "v3.6.4"
    assert binaries.find("kube-scheduler") == machine / "bin" / "kube-scheduler"


def test_an_old_kubectl_on_path_is_skipped_and_named(machine):
    path = put(machine / "bin", "kubectl", "v1.30.1")
    said = []
    assert binaries.locate(["kubectl"], said.append) == {"kubectl": None}
    assert [report.kind for report in said] == ["note"]
    assert str(path) in said[0].detail and "v1.30.1" in said[0].detail and "1.36" in said[0].detail


@pytest.mark.parametrize(
    "on_path",
    [
        {"kube-apiserver": "v1.36.0"},
        {"kube-apiserver": "v1.36.0", "kube-scheduler": "v1.36.0"},
        {"kube-apiserver": "v1.36.0", "kube-scheduler": "v1.36.0", "kube-controller-manager": "v1.37.0"},
    ],
)
def test_path_gives_the_control_plane_only_as_a_whole(machine: Path, on_path):
    for name, version in on_path.items():
        put(machine / "bin", name, version)
    said: list[binaries.Report] = []
    located = binaries.locate(progress=said.append)
    assert all(one is None for one in located.values())
    assert any("v1.36.0" in report.detail and "one version" in report.detail for report in said)
    assert binaries.find("kube-apiserver") is None


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match="kubelet: no such binary"):
        binaries.ensure(["kubelet"])
