"""Downloading: verified, resumable, safe beside a second set-up, not needed when the cache is warm."""

from __future__ import annotations

import gc
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from release_server import ReleaseServer, script

from podlab import waiting
from podlab.cluster.embedded import binaries
from podlab.cluster.embedded.binaries import build, download, store
from podlab.errors import BinaryError, EnvironmentUnsuitable, disk_errors

KIND = binaries.PROGRAMS["kind"].version


@pytest.fixture(autouse=True)
def nothing_is_left_open() -> Iterator[None]:
    """Files and connections are closed, and nothing else is warned of; the garbage of tests before is theirs."""
    gc.collect()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        yield
        gc.collect()
    assert not [str(one.message) for one in said]


@pytest.fixture
def no_build(monkeypatch):
    """Any attempt to build is a failure of the test."""

    def refuse(names, progress):
        raise AssertionError(f"a build of {names} was tried")

    monkeypatch.setattr(build, "build", refuse)


def path_of(name: str) -> str:
    return download.release(name, store.architecture(), "").url


def test_all_come_verified_from_a_server_of_the_release_shape(server: ReleaseServer, no_build):
    server.publish()
    said: list[binaries.Report] = []
    found = binaries.ensure(progress=said.append)
    for name, path in found.items():
        assert path.read_bytes() == script(name, "v3.7.0" if name == "etcd" else "v1.37.2")
        assert path.stat().st_mode & 0o777 == 0o700
        assert path == binaries.find(name)
    assert {one.source for one in binaries.locate().values()} == {
        f"cache: downloaded from {server.url}{path_of(name)}" for name in binaries.ALL
    }
    done = [r for r in said if r.kind == "progress" and r.step == "download kubectl"]
    assert done[-1].done == done[-1].total == len(server.files[path_of("kubectl")])
    assert not list((store.base() / "downloads").iterdir())


def test_kind_comes_from_its_own_project_verified(server: ReleaseServer, no_build, monkeypatch):
    monkeypatch.delenv(binaries.variable("kind"), raising=False)
    official = download.release("kind", "amd64")
    assert official.url == f"https://github.com/kubernetes-sigs/kind/releases/download/{KIND}/kind-linux-amd64"
    content = f"#!/bin/sh\necho 'kind {KIND} go1.26.0 linux/amd64'\n".encode()
    server.publish_one("kind", content)
    # Its checksum file has the name beside the sum, as the project publishes it.
    what = download.release("kind", store.architecture(), "")
    server.files[what.checksum_url] = server.files[what.checksum_url] + f"  {what.file}\n".encode()
    path = binaries.ensure(["kind"])["kind"]
    assert path.read_bytes() == content and path == binaries.find("kind")
    server.files[what.url] = content + b"#"
    path.unlink()
    with pytest.raises(BinaryError, match="corrupted"):
        binaries.ensure(["kind"])


def test_a_warm_cache_needs_no_network(server: ReleaseServer, no_build, monkeypatch):
    server.publish()
    first = binaries.ensure()
    asked = len(server.log)

    def refuse(*_, **__):
        raise AssertionError("the network was used")

    monkeypatch.setattr(urllib.request, "build_opener", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    said: list[binaries.Report] = []
    assert binaries.ensure(progress=said.append) == first
    assert len(server.log) == asked
    assert said == []


def test_a_corrupted_file_is_refused_by_name_and_checksums_and_removed(server: ReleaseServer, no_build):
    server.publish()
    good = server.files[path_of("kube-scheduler")]
    server.files[path_of("kube-scheduler")] = good[:-1] + b"y"
    with pytest.raises(BinaryError) as caught:
        binaries.ensure(["kube-scheduler"])
    message = str(caught.value)
    assert "kube-scheduler" in message and "corrupted" in message
    assert len(re.findall(r"[0-9a-f]{64}", message)) == 2
    assert server.files[path_of("kube-scheduler") + ".sha256"].decode() in message
    assert not list((store.base() / "downloads").iterdir())
    assert binaries.find("kube-scheduler") is None

    server.files[path_of("kube-scheduler")] = good
    assert binaries.ensure(["kube-scheduler"])["kube-scheduler"].read_bytes() == good


def test_a_file_of_another_version_is_refused_although_its_checksum_is_right(server, no_build):
    server.publish("v1.36.9")
    with pytest.raises(BinaryError, match=r"is v1\.36\.9, but v1\.37\.2 is wanted: refused"):
        binaries.ensure(["kubectl"])
    assert binaries.find("kubectl") is None


def test_a_transfer_that_is_cut_goes_on_where_it_ended(server: ReleaseServer, no_build):
    server.publish()
    server.cuts[path_of("kubectl")] = [100_000, 50_001]
    path = binaries.ensure(["kubectl"])["kubectl"]
    assert server.asked("kubectl") == [None, "bytes=100000-", "bytes=150001-"]
    assert path.read_bytes() == script("kubectl", "v1.37.2")


def test_a_server_without_ranges_still_works_after_a_cut(server: ReleaseServer, no_build):
    server.publish()
    server.ranges = False
    server.cuts[path_of("etcd")] = [100_000]
    assert binaries.ensure(["etcd"])["etcd"].read_bytes() == script("etcd", "v3.7.0")
    assert server.asked("etcd") == [None, "bytes=100000-"]


def _part(name: str) -> Path:
    folder = store.base() / "downloads"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}-{store.wanted(name)}-{store.architecture()}.part"


@pytest.mark.parametrize("left", ["another beginning", "too long", "complete"])
def test_what_an_earlier_run_left_is_used_or_replaced(server: ReleaseServer, no_build, left):
    server.publish()
    content = script("kubectl", "v1.37.2")
    leftover = {"another beginning": b"z" * 5000, "too long": content + b"more", "complete": content}[left]
    _part("kubectl").write_bytes(leftover)
    assert binaries.ensure(["kubectl"])["kubectl"].read_bytes() == content
    expected = {
        "another beginning": ["bytes=5000-", None],
        "too long": [f"bytes={len(content) + 4}-", None],
        "complete": [],
    }
    assert server.asked("kubectl") == expected[left]


def test_a_proxy_is_used(server: ReleaseServer, no_build, monkeypatch):
    server.publish()
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("PODLAB_MIRROR", "http://mirror.invalid/")
    assert binaries.ensure(["kubectl"])["kubectl"].read_bytes() == script("kubectl", "v1.37.2")


def test_a_damaged_cache_is_noticed_reported_and_fetched_anew(server: ReleaseServer, no_build):
    server.publish()
    path = binaries.ensure(["kubectl"])["kubectl"]
    good = path.read_bytes()
    path.write_bytes(good[:-1] + b"y")
    assert binaries.find("kubectl") is None
    said: list[binaries.Report] = []
    assert binaries.ensure(["kubectl"], said.append)["kubectl"].read_bytes() == good
    assert "damaged" in said[0].detail and len(re.findall(r"[0-9a-f]{64}", said[0].detail)) == 2


def test_a_file_that_was_only_touched_is_not_damaged(server: ReleaseServer, no_build):
    server.publish()
    path = binaries.ensure(["kubectl"])["kubectl"]
    os.utime(path, (0, 0))
    assert binaries.find("kubectl") == path


def _ensure_elsewhere(*names: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "podlab", "binaries", "ensure", *names],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_set_ups_at_once_do_the_work_once(server: ReleaseServer):
    server.publish()
    server.go_on.clear()
    first = _ensure_elsewhere("kubectl", "etcd")
    assert server.in_the_middle.wait(60)
    second = _ensure_elsewhere("kubectl", "etcd")
    said = second.stderr.readline()
    assert f"process {first.pid}" in said and "waiting" in said
    server.go_on.set()
    outputs = [process.communicate(timeout=60) for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0] and outputs[0][0].count("\n") == 2
    assert server.asked("kubectl") == server.asked("etcd") == [None]


def test_after_a_set_up_was_killed_the_next_one_goes_on(server: ReleaseServer, no_build):
    server.publish()
    server.go_on.clear()
    first = _ensure_elsewhere("kubectl")
    assert server.in_the_middle.wait(60)
    waiting.until(lambda: _part("kubectl").exists() and _part("kubectl").stat().st_size, "a part", timeout=60)
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=60)
    size = _part("kubectl").stat().st_size
    server.go_on.set()
    assert binaries.ensure(["kubectl"])["kubectl"].read_bytes() == script("kubectl", "v1.37.2")
    assert server.asked("kubectl") == [None, f"bytes={size}-"]


def test_a_server_that_is_not_there_is_said_once_and_left_to_the_build(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: refused at once
        monkeypatch.setenv("PODLAB_MIRROR", f"http://127.0.0.1:{taken.getsockname()[1]}")
        said = []
        assert download.fetch(binaries.ALL, said.append) == list(binaries.ALL)
    assert len(said) == 1 and "Connection refused" in said[0].detail


def test_a_release_that_lacks_one_file_is_left_to_the_build(server: ReleaseServer):
    assert download.fetch(["kubectl"], lambda report: None) == ["kubectl"]


def test_a_full_disk_is_said_before_the_transfer(server: ReleaseServer, no_build, monkeypatch):
    server.publish()
    monkeypatch.setattr(download, "MARGIN", 1 << 60)
    with pytest.raises(EnvironmentUnsuitable, match=r"MiB free, but the download needs \d+ MiB"):
        binaries.ensure(["kubectl"])


def test_a_disk_that_fills_up_while_writing_is_an_error_that_says_so(tmp_path):
    path = Path("/dev/full")
    refused = pytest.raises(EnvironmentUnsuitable, match=r"/dev/full cannot be used: No space left.*PODLAB_HOME")
    with refused, disk_errors(path), path.open("wb", buffering=0) as file:
        file.write(b"x")


def test_a_home_that_cannot_be_written_is_an_error_that_says_what_to_do(monkeypatch):
    monkeypatch.setenv("PODLAB_HOME", "/sys/podlab")
    with pytest.raises(EnvironmentUnsuitable, match=r"/sys/podlab.* cannot be made.*PODLAB_HOME"):
        binaries.ensure(["kubectl"])


SUM = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SUM, SUM),
        (SUM + "\n", SUM),
        (f"{SUM}  kubectl\n", SUM),
        (f"{SUM} *kubectl\n", SUM),
        (f"{'f' * 64}  kubelet\n{SUM}  kubectl\n", SUM),
        (f"{SUM}  kubelet\n", None),
        (f"{SUM}\n{SUM}\n", None),
        ("<html>not found</html>", None),
        (SUM[:-1], None),
        ("", None),
    ],
)
def test_a_checksum_is_found_in_both_published_forms(text, expected):
    assert download.checksum_in(text, "kubectl") == expected


def test_official_addresses():
    assert download.release("kubectl", "arm64").url == ("https://dl.k8s.io/release/v1.37.2/bin/linux/arm64/kubectl")
    etcd = download.release("etcd", "amd64")
    assert etcd.url == ("https://github.com/etcd-io/etcd/releases/download/v3.7.0/etcd-v3.7.0-linux-amd64.tar.gz")
    assert etcd.checksum_url.endswith("/v3.7.0/SHA256SUMS")
