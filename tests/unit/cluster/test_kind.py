"""The provider kind, as far as it goes without a container runtime: configuration, images, what ailments mean."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from ipaddress import IPv4Network
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from podlab.addons.catalogue import find
from podlab.addons.objects import objects
from podlab.cluster.kind import configuration, faults, runtime
from podlab.cluster.kind.provider import _STEP, _TRACE, KindProvider, kind_name
from podlab.cluster.kind.runtime import Node, Runtime
from podlab.cluster.provider import ClusterSpec
from podlab.commands.movies_pods import SITE_PORT
from podlab.errors import ClusterError, EnvironmentUnsuitable, UsageError


def rendered(spec: ClusterSpec, image: str | None = None, taken: Collection[int] = ()) -> configuration.Configuration:
    return configuration.render(configuration.read(), spec, image, taken, "mark")


@given(st.integers(1, 10))
def test_one_control_plane_and_the_rest_workers(nodes: int) -> None:
    roles = [node["role"] for node in rendered(ClusterSpec(nodes=nodes))["nodes"]]
    assert roles == ["control-plane", *["worker"] * (nodes - 1)]


def test_the_committed_configuration_is_of_one_image_by_digest_and_on_loopback() -> None:
    committed = configuration.read()
    assert len({node["image"] for node in committed["nodes"]}) == 1
    assert "@sha256:" in committed["nodes"][0]["image"]
    assert committed["networking"]["kubeProxyMode"] == "nftables"
    assert committed["networking"]["apiServerAddress"] == "127.0.0.1"
    assert {one["listenAddress"] for one in committed["nodes"][0]["extraPortMappings"]} == {"127.0.0.1"}


def test_another_node_image_is_every_node_s() -> None:
    assert {node["image"] for node in rendered(ClusterSpec(), "own/node:1")["nodes"]} == {"own/node:1"}


def test_a_port_that_another_cluster_has_is_left_out() -> None:
    ports = configuration.host_ports(configuration.read())
    assert configuration.host_ports(rendered(ClusterSpec(), taken=ports[:1])) == ports[1:]


def test_the_ports_of_lessons_the_movie_site_and_ingress_are_mapped_and_no_others() -> None:
    (service,) = (one for one in objects(find("ingress"), own=False) if one["kind"] == "Service")
    ports = {one["nodePort"] for one in service["spec"]["ports"]}
    assert set(configuration.host_ports(configuration.read())) == {30080, SITE_PORT, *ports}
    # Kubernetes gives these to a Service of its own accord only when it has no others left.
    assert all(30000 <= port < 30086 for port in (SITE_PORT, *ports))


def test_every_node_says_whose_it_is() -> None:
    mounts = [node["extraMounts"] for node in rendered(ClusterSpec(nodes=3))["nodes"]]
    assert mounts == [[{"hostPath": "/dev/null", "containerPath": "/podlab/mark", "readOnly": True}]] * 3


def test_the_lab_profile_has_short_timers_and_upstream_none() -> None:
    lab = rendered(ClusterSpec(profile="lab"))["kubeadmConfigPatches"]
    upstream = rendered(ClusterSpec(profile="upstream"))["kubeadmConfigPatches"]
    assert lab[: len(upstream)] == upstream
    grace = yaml.safe_load(lab[-1])["controllerManager"]["extraArgs"]
    assert grace == [{"name": "node-monitor-grace-period", "value": "16s"}]


def test_a_loaded_image_is_never_verified_at_its_registry() -> None:
    kubelet = yaml.safe_load(rendered(ClusterSpec(profile="upstream"))["kubeadmConfigPatches"][0])
    assert kubelet["imagePullCredentialsVerificationPolicy"] == "NeverVerify"


def test_rendering_leaves_the_committed_configuration_alone() -> None:
    base = configuration.read()
    configuration.render(base, ClusterSpec(nodes=1), "x", configuration.host_ports(base), "mark")
    assert base == configuration.read()


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (" • Ensuring node image (kindest/node:v1.37.0) 🖼  ...", "Ensuring node image"),
        (" ✓ Preparing nodes 📦 📦 📦 ", "Preparing nodes"),
        (" ✓ Installing CNI 🔌", "Installing CNI"),
        ("Creating cluster", "Creating cluster"),
    ],
)
def test_the_steps_of_kind_are_named(line: str, name: str) -> None:
    found = _STEP.match(line)
    assert found and found["name"].strip() == name


@pytest.mark.parametrize(
    ("said", "word", "cure"),
    [
        ("permission denied while trying to connect to the Docker daemon socket", "may not", "usermod"),
        ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock.", "does not run", "systemctl start"),
        (
            "failed to connect to the docker API at unix:///var/run/docker.sock; check",
            "does not run",
            "systemctl start",
        ),
        ("The command 'docker' could not be found in this WSL 2 distro.", "not for this", "WSL integration"),
        ("Cannot connect to Podman. Please verify your connection", "does not run", "podman machine"),
        ("write /var/lib/x: no space left on device", "full", "docker system df"),
        ("exec /usr/local/bin/entrypoint: exec format error", "another kind of processor", "PODLAB_KIND_IMAGE"),
        ("could not find an available, non-overlapping IPv4 address pool among the defaults", "VPN", "network prune"),
    ],
)
def test_known_ailments_come_with_their_cure(said: str, word: str, cure: str) -> None:
    error = runtime.failure("docker", "info", said)
    assert isinstance(error, EnvironmentUnsuitable)
    assert word in error.message and said.rstrip(".") in error.message and cure in (error.hint or "")


def test_an_unknown_failure_shows_the_last_line() -> None:
    error = runtime.failure("docker", "run", "one\nthe reason\n\n")
    assert isinstance(error, ClusterError) and "the reason" in error.message
    assert "it said nothing" in runtime.failure("docker", "run", "").message


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            "WARNING: cgroup v1\nERROR: failed to load\nCommand Output: ctr: why\n",
            "ERROR: failed to load Command Output: ctr: why",
        ),
        ("ERROR: failed to load\nWARNING: cgroup v1", "ERROR: failed to load"),
        ('time="now" level=warning msg="cgroup v1"\nError: why', "Error: why"),
        ("WARNING: nothing else", "WARNING: nothing else"),
        ("one\nlast", "last"),
    ],
)
def test_the_reason_of_a_failure_is_the_line_that_says_error_and_not_a_warning(said: str, expected: str) -> None:
    assert runtime.reason(said) == expected


def test_what_makes_kind_crawl_is_told_with_the_cure() -> None:
    limits = {"max_user_instances": 128, "max_user_watches": 8192}
    told = dict(runtime.ailments({"MemTotal": 1 << 30, "CgroupVersion": "1"}, limits))
    assert all(told.values())
    notes = " ".join(map(" ".join, told.items()))
    assert "1024 MiB" in notes and "--nodes 1" in notes and "cgroup v1" in notes
    assert "max_user_instances is 128" in notes and "fs.inotify.max_user_instances=512" in notes
    assert "max_user_watches is 8192" in notes and "fs.inotify.max_user_watches=524288" in notes
    assert list(runtime.ailments({"MemTotal": 8 << 30, "CgroupVersion": "2"}, runtime.INOTIFY)) == []
    assert list(runtime.ailments({"host": {"memTotal": 8 << 30, "cgroupVersion": "v2"}}, {})) == []


ROUTES = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
br-0c0ffee\t000012AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
tun0\t00000000\t01000A0A\t0003\t0\t0\t0\t00000080\t0\t0\t0
"""


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        ("", []),
        ("tun0\t000012AC\t0\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n", ["172.18.0.0/16 is reached through tun0"]),
        ("wg0\t0080F40A\t0\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n", ["10.244.128.0/24 is reached through wg0"]),
        ("wg0\t0000000A\t0\t0001\t0\t0\t0\t000000FF\t0\t0\t0\n", ["10.0.0.0/8 is reached through wg0"] * 2),
    ],
)
def test_a_route_to_kinds_own_addresses_is_told_and_the_runtimes_own_is_not(route: str, expected: list[str]) -> None:
    told = list(runtime.overlaps(ROUTES + route, [IPv4Network("172.18.0.0/16"), *runtime.INSIDE]))
    assert [trouble.partition(",")[0] for trouble, _ in told] == expected
    assert all("Disconnect" in cure for _, cure in told)


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("Linux version 6.6.87-microsoft-standard-WSL2 (root@x)", True),
        ("Linux version 6.12.1 (builder@x)", False),
        (None, False),
    ],
)
def test_in_wsl_a_failure_says_what_is_different_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str | None, expected: bool
) -> None:
    monkeypatch.setattr(runtime, "_VERSION", tmp_path / "version")
    if version:
        (tmp_path / "version").write_text(version)
    assert ("wsl --shutdown" in (runtime.failure("docker", "info", "permission denied").hint or "")) is expected
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(runtime.VARIABLE, raising=False)
    with pytest.raises(EnvironmentUnsuitable) as caught:
        runtime.find()
    assert ("integration of this distribution" in (caught.value.hint or "")) is expected


def test_a_runtime_that_is_not_known_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(runtime.VARIABLE, "lxc")
    with pytest.raises(UsageError, match="lxc"):
        runtime.find()


def test_without_any_runtime_the_embedded_cluster_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(runtime.VARIABLE, raising=False)
    with pytest.raises(EnvironmentUnsuitable) as caught:
        runtime.find()
    assert "podlab cluster up" in (caught.value.hint or "")


def test_a_docker_that_does_not_run_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if shutil.which("docker") is None:
        pytest.skip("docker's client is not installed")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody-listens")
    monkeypatch.setenv(runtime.VARIABLE, "docker")
    with pytest.raises(EnvironmentUnsuitable, match="does not run") as caught:
        runtime.find()
    assert "docker" in (caught.value.hint or "").lower()


def test_up_says_what_cannot_be_before_it_looks_for_a_runtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PODLAB_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    for spec, word in ((ClusterSpec(nodes=11), "11 nodes"), (ClusterSpec(profile="slow"), "slow")):  # type: ignore
        with pytest.raises(UsageError, match=word):
            KindProvider().up(spec, lambda step: None)
    with pytest.raises(EnvironmentUnsuitable):
        KindProvider().up(ClusterSpec(name="k"), lambda step: None)
    assert not (tmp_path / "data" / "clusters" / "k").exists(), "nothing is left of a cluster that never was"


def test_only_known_faults_and_nodes() -> None:
    node = Node("podlab-x-worker", "1", "worker", True, False, 1)
    nobody = Runtime("docker", "/nowhere")
    with pytest.raises(UsageError, match="slow"):
        faults.do(nobody, [node], "node.slow", node.name)
    with pytest.raises(UsageError, match="podlab-x-worker"):
        faults.do(nobody, [node], "node.kill", "node-2")


def test_the_name_in_kind_says_whose_it_is() -> None:
    assert kind_name("default") == "podlab-default"


@pytest.mark.parametrize(
    "line",
    [
        "k8s.io/kubernetes/cmd/kubeadm/app.Run",
        "        k8s.io/kubernetes@v1.37.2/cmd/kubeadm/kubeadm.go:25",
        "  main.main",
        "  runtime.goexit",
        "        runtime/asm_amd64.s:1771",
        "github.com/spf13/cobra.(*Command).execute",
        "",
    ],
)
def test_the_stack_of_a_failed_program_is_not_what_is_shown(line: str) -> None:
    assert _TRACE.match(line)


@pytest.mark.parametrize(
    "line",
    [
        "ERROR: failed to create cluster: failed to init node with kubeadm: exit status 1",
        "[kubelet-check] The kubelet is not healthy after 4m0.001s",
        "error: error execution phase wait-control-plane: failed while waiting for the kubelet to start",
        " \u2717 Starting control-plane",
    ],
)
def test_what_a_failed_program_says_is_shown(line: str) -> None:
    assert not _TRACE.match(line)
