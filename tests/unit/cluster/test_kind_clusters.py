"""The life of a kind cluster on a machine made of files: what is ours, what is not, and what goes wrong."""

from __future__ import annotations

import json
import resource
import socket
from pathlib import Path

import pytest
import yaml
from fake_containers import NODES, Machine, container

from podlab import paths
from podlab.cluster.folder import ClusterFolder
from podlab.cluster.kind import configuration, images, provider, runtime
from podlab.cluster.kind.provider import KindProvider, kind_name
from podlab.cluster.provider import ClusterSpec, StepReport
from podlab.errors import ClusterError, ClusterExists, EnvironmentUnsuitable, ImageError, StepFailed
from podlab.images.build import build
from podlab.images.image import architecture
from podlab.images.layout import ImageLayout
from podlab.images.reference import Reference

SPEC = ClusterSpec("k", nodes=2)


def silent(_step: StepReport) -> None:
    pass


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


@pytest.mark.parametrize("name", runtime.RUNTIMES)
def test_a_cluster_lives_and_goes_with_each_runtime(machine: Machine, name: str) -> None:
    state = machine.install(name)
    KindProvider().up(SPEC, silent)
    found = KindProvider().status("k")
    assert (found.state, found.version, found.details["runtime"]) == ("running", "v1.37.0", name)
    assert [one.name for one in found.components] == NODES
    log = (state / "log").read_text()
    assert f"kind load {kind_name('k')}" in log and ("--multi-image-archive" in log) == (name == "podman")
    for base in ("python", "toolbox"):  # as pods ask for it: a short name would be Podman's localhost/...
        assert f"--tag docker.io/podlab/{base}:latest" in log
    KindProvider().stop("k", silent)
    assert KindProvider().status("k").state == "stopped"
    KindProvider().down("k", silent)
    assert names(state / "containers") == names(state / "volumes") == []
    assert not (paths.clusters() / "k").exists()


def test_the_runtime_of_a_cluster_is_the_one_that_made_it(machine: Machine) -> None:
    podman = machine.install("podman")
    KindProvider().up(SPEC, silent)
    docker = machine.install("docker")
    assert KindProvider().status("k").state == "running"
    machine.uninstall("podman")
    with pytest.raises(EnvironmentUnsuitable, match="made with podman, which is not on the PATH"):
        KindProvider().down("k", silent)
    assert names(podman / "containers") and names(docker / "containers") == []


def test_a_cluster_of_the_name_that_is_not_ours_is_left_alone(machine: Machine) -> None:
    state = machine.install("docker")
    theirs = state / "containers" / "theirs"
    theirs.write_text(json.dumps(container(kind_name("k"), "another-mark")))
    with pytest.raises(ClusterExists, match="was not made here; it is left alone"):
        KindProvider().up(SPEC, silent)
    assert theirs.exists() and not (paths.clusters() / "k").exists()


def test_who_loses_a_race_deletes_its_own_nodes_and_not_the_winners(machine: Machine) -> None:
    state = machine.install("docker")
    machine.rival(container(kind_name("k"), "another-mark"))
    machine.mood("a rival is first")
    with pytest.raises(StepFailed, match="already in use"):
        KindProvider().up(SPEC, silent)
    assert names(state / "containers") == ["theirs"] and not (paths.clusters() / "k").exists()


def test_down_deletes_no_cluster_that_was_made_by_hand_after_ours_was_gone(machine: Machine) -> None:
    state = machine.install("docker")
    KindProvider().up(SPEC, silent)
    for one in (state / "containers").iterdir():
        one.unlink()
    theirs = state / "containers" / "theirs"
    theirs.write_text(json.dumps(container(kind_name("k"))))
    with pytest.raises(ClusterError, match="are gone"):
        KindProvider().load_image("k", "podlab/x")
    said: list[str] = []
    KindProvider().down("k", lambda step: said.append(step.detail))
    assert theirs.exists() and not (paths.clusters() / "k").exists()
    assert "podlab-k of docker was not made here: left alone" in said


def test_what_fails_is_deleted_again(machine: Machine) -> None:
    state = machine.install("docker")
    machine.mood("fails")
    with pytest.raises(StepFailed, match="a reason"):
        KindProvider().up(SPEC, silent)
    assert names(state / "containers") == [] and not (paths.clusters() / "k").exists()


@pytest.mark.parametrize("mood", ["docker stops", "docker stops unsaid", "docker stops while images are loaded"])
def test_a_docker_that_stops_in_the_middle_is_said_and_the_rest_can_be_deleted_later(
    machine: Machine, mood: str
) -> None:
    state = machine.install("docker")
    machine.mood(mood)
    with pytest.raises(EnvironmentUnsuitable, match="does not run") as caught:
        KindProvider().up(SPEC, silent)
    assert "systemctl start docker" in (caught.value.hint or "")
    assert "`podlab cluster down --name k` deletes the rest" in (caught.value.hint or "")
    (state / "down").unlink()
    KindProvider().down("k", silent)
    assert names(state / "containers") == [] and not (paths.clusters() / "k").exists()


def test_a_docker_that_stops_while_nodes_become_ready_is_said_and_not_waited_for(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = machine.install("docker")
    KindProvider().up(SPEC, silent)
    folder = ClusterFolder(paths.clusters() / "k")
    config = yaml.safe_load(folder.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = "http://127.0.0.1:9"
    folder.kubeconfig.write_text(yaml.safe_dump(config))
    found = runtime.find()
    (state / "down").touch()
    monkeypatch.setattr(provider, "READY", 1.0)
    with pytest.raises(EnvironmentUnsuitable, match="does not run"):
        provider._wait_ready(found, folder, NODES, lambda detail: None)


def test_a_runtime_that_answers_oddly_or_late_does_not_hide_why_a_step_failed(machine: Machine) -> None:
    state = machine.install("docker")
    found = runtime.find()
    (state / "info").unlink()
    with pytest.raises(ClusterError, match="no info"):
        found.check()
    found.check_again()
    (state / "down").touch()
    with pytest.raises(EnvironmentUnsuitable, match="does not run"):
        found.check_again()


def test_what_the_doctor_knows_is_in_the_hint_of_a_step_that_fails(machine: Machine) -> None:
    state = machine.install("docker")
    (state / "info").write_text(json.dumps({"MemTotal": 1 << 30}))
    machine.mood("fails")
    with pytest.raises(StepFailed, match="a reason") as caught:
        KindProvider().up(SPEC, silent)
    assert "1024 MiB of memory" in (caught.value.hint or "") and "--nodes 1" in (caught.value.hint or "")


def test_a_port_that_was_taken_while_a_cluster_was_stopped_is_said_with_the_cure(machine: Machine) -> None:
    state = machine.install("docker")
    KindProvider().up(SPEC, silent)
    KindProvider().stop("k", silent)
    for said in ("Bind for 127.0.0.1:30080 failed: port is already allocated", "listen tcp4: address already in use"):
        (state / "taken").write_text(said)
        with pytest.raises(EnvironmentUnsuitable, match="another program has a port") as caught:
            KindProvider().start("k", silent)
        assert said in caught.value.message
        assert "ss -ltnp" in (caught.value.hint or "") and "cluster down" in (caught.value.hint or "")


def test_a_kind_that_hangs_is_ended_with_its_children(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.install("docker")
    machine.mood("hangs")
    monkeypatch.setattr(provider, "CREATE", 3.0)
    with pytest.raises(StepFailed, match="kind had not ended after 3 s") as caught:
        KindProvider().up(SPEC, silent)
    assert "docker info" in (caught.value.hint or "") and not (paths.clusters() / "k").exists()


def test_a_load_that_fails_says_why_and_leaves_nothing(machine: Machine) -> None:
    state = machine.install("docker")
    machine.mood("load fails")
    with pytest.raises(ClusterError, match=r"podlab/python:3.* could not be loaded .* a reason") as caught:
        KindProvider().up(SPEC, silent)
    assert "docker system df" in (caught.value.hint or "") and "deprecated" not in caught.value.message
    assert names(state / "containers") == [] and not (paths.clusters() / "k").exists()


def test_a_node_image_for_another_processor_is_refused_before_anything_is_made(machine: Machine) -> None:
    state = machine.install("docker")
    (state / "architecture").write_text("s390x")
    with pytest.raises(EnvironmentUnsuitable, match=rf"is for s390x, and this machine is {architecture()}") as caught:
        KindProvider().up(SPEC, silent)
    assert provider.IMAGE_VARIABLE in (caught.value.hint or "")
    assert not (paths.clusters() / "k").exists() and names(state / "containers") == []


def test_a_node_image_for_another_processor_that_kind_has_just_fetched_is_said(machine: Machine) -> None:
    state = machine.install("docker")
    machine.mood("fetches a node image for another processor")
    with pytest.raises(EnvironmentUnsuitable, match=rf"is for s390x, and this machine is {architecture()}"):
        KindProvider().up(SPEC, silent)
    assert not (paths.clusters() / "k").exists() and names(state / "containers") == []


def test_a_port_that_is_taken_is_told_with_what_to_do(machine: Machine) -> None:
    machine.install("docker")
    port = configuration.host_ports(configuration.read())[0]
    said: list[str] = []
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            other.bind(("127.0.0.1", port))
        except OSError:
            pass  # somebody else has it, which is as good
        else:
            other.listen()
        KindProvider().up(SPEC, lambda step: said.append(step.detail))
    for told in (" ".join(said), " ".join(KindProvider().status("k").notes)):
        assert f"Port {port} of this machine is taken" in told and "port-forward" in told
    assert not KindProvider().opens("k", port)
    mapped = yaml.safe_load((paths.clusters() / "k" / "kind.yaml").read_text())
    assert all(KindProvider().opens("k", other) for other in configuration.host_ports(mapped))


@pytest.mark.parametrize("older", [False, True])
def test_a_bundled_image_is_made_again_when_its_recipe_is_another(machine: Machine, older: bool) -> None:
    state = machine.install("docker")
    recipe = "0" * 64 if older else images.recipe("python")
    (state / "labels").write_text(json.dumps({"dev.podlab.base": "python", "dev.podlab.recipe": recipe}))
    KindProvider().up(SPEC, silent)
    log = (state / "log").read_text()
    made = f"build --label dev.podlab.recipe={images.recipe('python')} --tag docker.io/podlab/python:latest" in log
    assert made == older


def test_what_podman_says_of_itself_is_understood(machine: Machine) -> None:
    state = machine.install("podman")
    (state / "info").write_text(json.dumps({"host": {"memTotal": 1 << 30, "cgroupVersion": "v1"}}))
    (state / "network").write_text(json.dumps([{"subnets": [{"subnet": "0.0.0.0/0"}]}]))
    notes = dict(runtime.notes(runtime.find()))
    assert any("1024 MiB" in trouble and "podman machine" in cure for trouble, cure in notes.items())
    assert any("cgroup v1" in trouble for trouble in notes)


@pytest.mark.parametrize("name", runtime.RUNTIMES)
def test_a_runtime_whose_disk_is_full_is_said_and_a_cluster_that_runs_goes_on(
    machine: Machine, tmp_path: Path, name: str
) -> None:
    state = machine.install(name)
    machine.mood("the disk is full")
    with pytest.raises(EnvironmentUnsuitable, match=r"its disk is full.*no space left on device") as caught:
        KindProvider().up(SPEC, silent)
    assert f"`{name} system df`" in (caught.value.hint or "")
    assert names(state / "containers") == names(state / "volumes") == [] and not (paths.clusters() / "k").exists()
    machine.mood("")
    KindProvider().up(SPEC, silent)
    machine.mood("the disk is full")
    (tmp_path / "Dockerfile").write_text("FROM scratch\nLABEL a=b\n")
    build(ImageLayout(paths.cache() / "images"), tmp_path, [Reference.parse("test/small:1")])
    with pytest.raises(EnvironmentUnsuitable, match="its disk is full"):
        KindProvider().load_image("k", "test/small:1")
    assert KindProvider().status("k").state == "running" and not list(paths.cache().glob("podlab-image-*"))


def test_a_disk_that_fills_up_is_an_error_that_says_what_to_do(machine: Machine, tmp_path: Path) -> None:
    machine.install("docker")
    context = tmp_path / "context"
    context.mkdir()
    (context / "large").write_bytes(bytes(range(256)) * 4000)
    (context / "Dockerfile").write_text("FROM scratch\nCOPY large /\n")
    build(ImageLayout(paths.cache() / "images"), context, [Reference.parse("test/large:1")])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # as a full disk: writing fails
    try:
        with pytest.raises(ImageError, match="cannot be written") as caught:
            images.carry(runtime.find(), tmp_path / "kind", "podlab-k", "test/large:1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "PODLAB_HOME" in (caught.value.hint or "")
    assert not list(paths.cache().glob("podlab-image-*"))
