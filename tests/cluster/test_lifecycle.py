"""A cluster's life: up, stop, start, down, side by side, as anybody; and its sudden death, which leaves nothing."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import traces
import yaml
from conftest import PLAIN
from deployments import web

import podlab
from podlab import cluster as clusters
from podlab.cluster import Cluster
from podlab.cluster.provider import StepReport
from podlab.commands import lab
from podlab.errors import ClusterError, ClusterExists, ClusterNotFound, EnvironmentUnsuitable, StepFailed, UsageError
from podlab.waiting import until

pytestmark = [pytest.mark.embedded("its subject are the processes of the embedded cluster")]

NOBODY = 65534


def supervisor(cluster: Cluster) -> int:
    pid = next(one.pid for one in cluster.status.components if one.name == "supervisor")
    assert pid
    return pid


def folder_of(cluster: Cluster, home: Path) -> Path:
    return home / "data" / "clusters" / cluster.name


def left(pids: set[int]) -> list[int]:
    """Those that are still alive."""
    if PLAIN:  # the warden ends when it sees that the supervisor has
        until(lambda: not any(map(traces.alive, pids)), "the end of the warden", timeout=240)
    return [pid for pid in pids if traces.alive(pid)]


def test_up_runs_the_control_plane_and_down_leaves_nothing(make, kubectl, home: Path) -> None:  # type: ignore[no-untyped-def]
    before = traces.in_use()
    cluster = make()
    folder = folder_of(cluster, home)
    assert kubectl(cluster, "get", "--raw", "/readyz") == "ok"
    assert kubectl(cluster, "get", "serviceaccount", "default", "-o", "name").strip() == "serviceaccount/default"
    status = cluster.status
    assert status.state == "running"
    assert status.version.startswith("v1.")
    running = traces.processes(cluster)
    assert {one.pid for one in status.components} <= running
    with traces.namespaces(running) as spaces:
        spaces -= before
        assert bool(spaces) is not PLAIN
        cluster.down()
        assert not left(running)
        assert not spaces & traces.in_use()
    assert not traces.listeners(folder)
    assert not folder.exists()
    with pytest.raises(ClusterNotFound):
        clusters.status(cluster.name)


@pytest.mark.namespaces("their kernel ends what is in them; test_plain.py has what ends it elsewhere")
def test_sigkill_of_the_supervisor_leaves_no_process_and_no_namespace(make, home: Path) -> None:  # type: ignore[no-untyped-def]
    cluster = make(nodes=1)
    running = traces.processes(cluster)
    assert len(running) >= 7, "supervisor, four components, machine, agent"
    with traces.namespaces(running) as spaces:
        os.kill(supervisor(cluster), signal.SIGKILL)
        until(lambda: not any(map(traces.alive, running)), "every process ending", timeout=240)
        assert not spaces & traces.in_use()
    assert not traces.listeners(folder_of(cluster, home))
    assert cluster.status.state == "stopped"
    cluster.start()
    assert cluster.status.state == "running"


def test_stop_and_start_keep_every_object(make, kubectl, start) -> None:  # type: ignore[no-untyped-def]
    cluster = make()
    kubectl(cluster, "create", "configmap", "kept", "--from-literal=a=b")
    uid = kubectl(cluster, "get", "configmap", "kept", "-o", "jsonpath={.metadata.uid}")
    server = cluster.status.server
    running = traces.processes(cluster)
    cluster.stop()
    assert not left(running)
    assert cluster.status.state == "stopped"
    cluster.stop()  # a stopped one is left as it is
    start(cluster)
    assert cluster.status.server == server, "kubeconfigs that were copied must go on working"
    assert kubectl(cluster, "get", "configmap", "kept", "-o", "jsonpath={.metadata.uid}") == uid
    before = supervisor(cluster)
    start(cluster)  # a running one, too
    assert supervisor(cluster) == before


def test_a_cluster_comes_up_behind_jupyterlab(make, capsys) -> None:  # type: ignore[no-untyped-def]
    cluster = make()
    cluster.stop()
    lab._bring_up(cluster.name)
    until(lambda: f"Cluster {cluster.name!r} is up." in capsys.readouterr().out, "the report", timeout=240)
    assert cluster.status.state == "running"


def test_a_port_that_was_taken_meanwhile_is_replaced(make, kubectl) -> None:  # type: ignore[no-untyped-def]
    cluster = make()
    port = int(cluster.status.server.rpartition(":")[2])
    cluster.stop()
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
        cluster.start()
        assert not cluster.status.server.endswith(f":{port}")
        assert kubectl(cluster, "get", "--raw", "/readyz") == "ok"


@pytest.mark.parametrize("component", ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"])
def test_a_killed_component_is_restarted_and_says_so(shared, kubectl, component: str) -> None:  # type: ignore[no-untyped-def]
    kubectl(shared, "create", "configmap", f"before-{component}")
    before = next(one for one in shared.status.components if one.name == component)
    shared.components.kill(component)

    def back() -> bool:
        after = next(one for one in shared.status.components if one.name == component)
        return after.state == "running" and after.pid != before.pid and after.restarts > before.restarts

    until(back, f"{component} running again", timeout=240, state=lambda: shared.status.components)
    said = next(one.message for one in shared.status.components if one.name == component)
    assert "SIGKILL" in said
    until(
        lambda: kubectl(shared, "get", "--raw", "/readyz") == "ok",
        "the API server being ready",
        timeout=60,
        ignore=(AssertionError,),
    )
    assert kubectl(shared, "get", "configmap", f"before-{component}", "-o", "name")
    kubectl(shared, "delete", "configmap", f"before-{component}")


def test_a_second_up_is_refused_and_harms_nothing(shared) -> None:  # type: ignore[no-untyped-def]
    before = supervisor(shared)
    with pytest.raises(ClusterExists, match="shared exists already"):
        clusters.up(shared.name)
    assert supervisor(shared) == before


def test_two_clusters_side_by_side_do_not_know_each_other(make, shared, kubectl) -> None:  # type: ignore[no-untyped-def]
    other = make(nodes=1)
    kubectl(other, "create", "namespace", "only-here")
    assert "only-here" not in kubectl(shared, "get", "namespaces")
    assert other.status.server != shared.status.server
    assert {other.name, shared.name} <= set(clusters.list_clusters())
    # The certificate of one is worth nothing at the other.
    config = json.loads(other.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = shared.status.server
    config["clusters"][0]["cluster"].pop("certificate-authority-data")
    config["clusters"][0]["cluster"]["insecure-skip-tls-verify"] = True
    stolen = other.kubeconfig.with_name("stolen")
    stolen.write_text(json.dumps(config))
    with pytest.raises(AssertionError, match=r"Unauthorized|logged in"):
        kubectl(other, "--kubeconfig", str(stolen), "get", "pods")


def test_nothing_is_readable_by_others_or_reachable_from_elsewhere(shared, home: Path) -> None:  # type: ignore[no-untyped-def]
    folder = folder_of(shared, home)
    assert folder.stat().st_mode & 0o077 == 0
    for file in (*folder.glob("*"), *folder.glob("pki/*"), *folder.glob("logs/*"), *folder.glob("run/*")):
        if not file.is_symlink():
            assert file.stat().st_mode & 0o077 == 0, file
    pids = traces.processes(shared)
    listening = subprocess.run(["ss", "-tlnpH"], capture_output=True, text=True, check=False)
    if listening.returncode:
        pytest.skip("this machine has no ss")
    for line in listening.stdout.splitlines():
        if any(f"pid={pid}," in line for pid in pids):
            assert line.split()[3].startswith("127.0.0.1:"), line


def test_anonymous_requests_learn_nothing(shared) -> None:  # type: ignore[no-untyped-def]
    import ssl
    import urllib.error
    import urllib.request

    context = ssl.create_default_context(cadata=_authority(shared))

    def get(path: str) -> int:
        try:
            return urllib.request.urlopen(shared.status.server + path, context=context, timeout=10).status
        except urllib.error.HTTPError as error:
            return error.code

    assert get("/readyz") == 200
    assert get("/api/v1/namespaces") == 401
    assert get("/openapi/v2") == 401


def _authority(cluster: Cluster) -> str:
    import base64

    config = json.loads(cluster.kubeconfig.read_text())
    return base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"]).decode()


def test_down_while_coming_up(home: Path) -> None:
    begun = threading.Event()
    failures: list[BaseException] = []

    def report(step: StepReport) -> None:
        if step.name == "API server":
            begun.set()

    def come_up() -> None:
        try:
            clusters.up("early", nodes=1, progress=report)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=come_up)
    thread.start()
    assert begun.wait(60)
    clusters.down("early")
    thread.join(60)
    assert not thread.is_alive()
    assert isinstance(failures[0], StepFailed)
    assert "while it came up" in str(failures[0])
    assert not (home / "data" / "clusters" / "early").exists()
    assert not traces.listeners(home / "data" / "clusters" / "early")


def test_a_component_that_fails_is_named_and_nothing_is_left(home: Path, monkeypatch, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    broken = tmp_path / "etcd"
    script = "#!/bin/sh\n[ \"$1\" = --version ] && exec echo 'etcd Version: 3.7.0'\n"
    broken.write_text(script + "echo the disk is on fire\nexit 7\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PODLAB_ETCD", str(broken))
    with pytest.raises(StepFailed) as caught:
        clusters.up("broken", nodes=1)
    said = str(caught.value)
    assert "etcd exited with status 7 after" in said
    assert "the disk is on fire" in said
    log = Path(said.rpartition("Full log: ")[2].split()[0])
    assert "the disk is on fire" in log.read_text()
    assert not (home / "data" / "clusters" / "broken").exists()
    assert not traces.listeners(home / "data" / "clusters" / "broken")
    with pytest.raises(ClusterNotFound):
        clusters.status("broken")


@pytest.mark.parametrize("name", ["", "A", "-a", "a_b", "../x", "x" * 41, "a/b"])
def test_names_that_cannot_be(home: Path, name: str) -> None:
    with pytest.raises((UsageError, ClusterNotFound)):
        clusters.up(name)
    with pytest.raises((UsageError, ClusterNotFound)):
        clusters.down(name)


def test_an_unknown_component_or_node_or_profile_is_answered_with_the_known_ones(shared) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError, match="kube-scheduler"):
        shared.components.kill("kube-schedular")
    with pytest.raises(UsageError, match="node-1, node-2, node-3"):
        shared.nodes.kill("node-9")
    with pytest.raises(UsageError, match="etcd"):
        shared.logs("etc")
    with pytest.raises(UsageError, match="upstream"):
        clusters.up("x", profile="fast")
    assert "etcd" not in clusters.list_clusters()


def test_a_fault_of_a_stopped_cluster_says_how_to_start_it(make) -> None:  # type: ignore[no-untyped-def]
    cluster = make()
    cluster.stop()
    with pytest.raises(ClusterError, match="podlab cluster start"):
        cluster.components.kill("etcd")


def test_kubeconfig_is_merged_on_request_and_taken_out_by_down(make, home: Path, monkeypatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    own = tmp_path / "config"
    own.write_text("current-context: work\ncontexts: [{name: work, context: {}}]\n")
    monkeypatch.setenv("KUBECONFIG", str(own))
    cluster = make()
    assert "podlab" not in own.read_text(), "never without being asked"
    assert cluster.kubeconfig.stat().st_mode & 0o777 == 0o600
    target, backup = clusters.merge_kubeconfig(cluster.name)
    assert target == own
    assert backup
    assert "podlab" not in backup.read_text()
    merged = yaml.safe_load(own.read_text())
    assert merged["current-context"] == "work"
    assert [c["name"] for c in merged["contexts"]] == ["work", f"podlab-{cluster.name}"]
    cluster.down()
    after = yaml.safe_load(own.read_text())
    assert [c["name"] for c in after["contexts"]] == ["work"]


@contextlib.contextmanager
def small_disk(size: str) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="pls-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "none", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        folder.rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_is_said_before_anything_is_made(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    with small_disk("20m") as folder:
        monkeypatch.setenv("PODLAB_HOME", str(folder))
        with pytest.raises(EnvironmentUnsuitable, match="are free"):
            clusters.up("full")
        assert clusters.list_clusters() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_disk_that_fills_up_fails_the_step_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    from podlab.cluster.embedded import provider

    monkeypatch.setattr(provider, "SPACE", 0)
    with small_disk("20m") as folder:
        monkeypatch.setenv("PODLAB_HOME", str(folder))
        with pytest.raises(StepFailed, match=r"(?s)etcd.*no space left on device"):
            clusters.up("full", nodes=1)
        assert not (folder / "data" / "clusters" / "full").exists()


def _nobodys_python() -> list[str] | None:
    """A command that runs this Python version with our packages as a user without rights, if there is one."""
    packages = [path for path in sys.path if path.endswith("site-packages")]
    environment = f"PYTHONPATH={':'.join([str(Path(podlab.__file__).parents[1]), *packages])}"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "env", environment]
    for python in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        probe = [*become, python, "-c", "import aiohttp, cryptography, podlab.cluster.embedded.provider"]
        with contextlib.suppress(OSError):
            if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
                return [*become, python]
    return None


@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests run as an ordinary user already")
def test_an_ordinary_user_can_do_the_same(programs: dict[str, Any]) -> None:
    python = _nobodys_python()
    if python is None:
        pytest.skip("no Python of this version is readable for an ordinary user (.ci/as-new-user tests that)")
    folder = Path(tempfile.mkdtemp(prefix="pln-"))
    tools = folder / "bin"
    try:
        tools.mkdir()
        for name, path in programs.items():
            shutil.copy(path, tools / name)
            (tools / name).chmod(0o755)
        folder.chmod(0o755)
        (folder / "home").mkdir(mode=0o700)
        os.chown(folder / "home", NOBODY, NOBODY)
        settings = [f"HOME={folder}/home", f"PODLAB_HOME={folder}/home", f"PODLAB_BINARIES={tools}"]
        code = "import sys; from podlab.cli import main; sys.argv[0] = 'podlab'; main()"
        command = [*python[:-1], *settings, python[-1], "-c", code, "cluster"]

        def run(*arguments: str) -> str:
            done = subprocess.run(
                [*command, *arguments], capture_output=True, text=True, check=False, cwd="/", env={"PATH": os.defpath}
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        run("up", "--nodes", "1")
        try:
            found = json.loads(run("status", "--json"))
            assert found["state"] == "running"
            for one in found["components"]:
                owner = Path(f"/proc/{one['pid']}").stat().st_uid
                assert owner == NOBODY, one["name"]
            kubectl = [str(programs["kubectl"]), "--kubeconfig", f"{folder}/home/data/clusters/default/kubeconfig"]
            subprocess.run([*kubectl, "apply", "-f", "-"], input=web("default", 1), text=True, check=True)
            subprocess.run([*kubectl, "rollout", "status", "deployment/web", "--timeout=240s"], check=True)
        finally:
            run("down")
        assert run("list") == ""
        assert not (folder / "home" / "data" / "clusters" / "default").exists()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_what_the_api_server_reads_is_not_written_again_under_it(make) -> None:
    """It once was: a reader that came in the wrong moment found an empty file, and the API server ended."""
    made = make()
    first = next(line for line in made.logs("kube-apiserver").read_text().splitlines() if line.startswith("I"))
    began = datetime.strptime(f"{datetime.now().year}{first[1:21]}", "%Y%m%d %H:%M:%S.%f").timestamp()
    pki = made.kubeconfig.parent / "pki"
    late = {path.name for path in pki.iterdir() if path.stat().st_mtime > began}
    assert not late
