"""Pods that mean harm and manifests that cannot be: contained, with a reason, and neither neighbour nor node is harmed.

All of them are on one node, beside a neighbour whose probes are asked every second. Tested elsewhere: too much memory
(test_pods) and disk (test_eviction_on_nodes), unknown runtimes and volumes of other types (test_pods), a thousand
ConfigMaps (test_volumes), set clocks (tests/unit/node).
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from lifecycle import PATIENCE, PYTHON, TOOLBOX, Pods, condition, container, pod

from podlab.cluster import Cluster
from podlab.cluster.embedded.folder import cluster_folder
from podlab.node import logs, process_limit
from podlab.waiting import until

pytestmark = [
    pytest.mark.embedded("another provider's nodes bound their pods by themselves"),
    pytest.mark.namespaces("processes and shared memory of pods have no bound of their own"),
]


def program(name: str, code: str, **fields: Any) -> dict[str, Any]:
    """A container that runs Python code, found by `processes(name)` on this machine."""
    return {"name": "main", "image": PYTHON, "command": ["python", "-c", f"{code}\n# {name}"], **fields}


def processes(mark: str) -> list[str]:
    """The processes of this machine with `mark` in their command line; those that have ended have none."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark.encode() in (entry / "cmdline").read_bytes():
                found.append(entry.name)
        except OSError:
            continue
    return found


class Yard(Pods):
    """A namespace whose pods are all on one node, with a neighbour to which nothing may happen."""

    def __init__(self, kubectl: Any, cluster: Cluster, namespace: str, node: str) -> None:
        super().__init__(kubectl, cluster, namespace)
        self.node = node
        probe = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1, "timeoutSeconds": 60}
        serve = ["python", "-m", "http.server", "-d", "/tmp", "8080"]
        main = {"name": "main", "image": PYTHON, "command": serve, "readinessProbe": probe, "livenessProbe": probe}
        self.put(pod("neighbour", main))
        self.ready("neighbour")
        self._before = self._seen()

    def put(self, *manifests: dict[str, Any]) -> None:
        """Apply them, pods on the node of this yard."""
        for manifest in manifests:
            if manifest["kind"] == "Pod":
                manifest["spec"]["nodeName"] = self.node
        self.apply(*manifests)

    def _seen(self) -> list[Any]:
        conditions = self.get("node", self.node)["status"]["conditions"]
        status = self.status("neighbour")
        return [
            condition({"conditions": conditions}, "Ready")["lastTransitionTime"],
            condition(status, "Ready")["lastTransitionTime"],
            [(one["containerID"], one["restartCount"]) for one in status["containerStatuses"]],
        ]

    def unharmed(self) -> None:
        """Fails unless node and neighbour were Ready all the time, and the neighbour answers its node and commands."""
        assert self._seen() == self._before
        assert self.run("exec", "neighbour", "--", "echo", "well") == "well\n"


@pytest.fixture(scope="module")
def yard(shared: Cluster, kubectl: Any, worker: str) -> Iterator[Yard]:
    namespace = f"hostile-{os.getpid()}"
    kubectl(shared, "create", "namespace", namespace)
    yield Yard(kubectl, shared, namespace, worker)
    kubectl(shared, "delete", "namespace", namespace, "--wait=false")


# Processes


def test_a_pod_that_forks_without_end_is_ended_with_a_reason(yard: Yard) -> None:
    code = """
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
"""
    mark = f"{yard.namespace}-bomb"
    limited = {"resources": {"limits": {"memory": "64Mi"}}}
    yard.put(pod("limited", program(mark, code, **limited), restartPolicy="Never"))
    status = yard.phase("limited", "Failed")
    # Which of its limits it meets first is a matter of the machine's.
    terminated = status["containerStatuses"][0]["state"]["terminated"]
    assert terminated["reason"] == "OOMKilled" or status["reason"] == "Evicted"
    yard.put(pod("bomb", program(mark, code)))
    status = yard.phase("bomb", "Failed")
    assert status["reason"] == "Evicted"
    assert f"more than the {process_limit.MOST} that a pod of this node may have" in status["message"]
    assert processes(mark) == []
    yard.unharmed()


def test_what_leaves_its_session_closes_its_files_and_hears_no_signal_goes_with_its_pod(yard: Yard) -> None:
    code = """
import contextlib, os, signal, time
for number in signal.valid_signals():
    with contextlib.suppress(OSError):
        signal.signal(number, signal.SIG_IGN)
print("begun", flush=True)
for number in range(8):
    if os.fork() == 0:
        os.setsid() if number % 2 else os.setpgid(0, 0)
        if os.fork():
            os._exit(0)
        break
os.closerange(0, 1000)
while True:
    time.sleep(1000)
"""
    mark = f"{yard.namespace}-stubborn"
    yard.put(pod("stubborn", program(mark, code), terminationGracePeriodSeconds=2))
    yard.ready("stubborn")
    until(lambda: len(processes(mark)) == 9, "the first and its daemons", timeout=60, state=lambda: processes(mark))
    assert yard.logs("stubborn") == "begun\n"
    assert yard.run("exec", "stubborn", "--", "echo", "here") == "here\n"
    assert yard.delete("stubborn") >= 2
    assert processes(mark) == []
    yard.unharmed()


# Disk


def test_logs_without_end_are_bounded_and_can_be_read(yard: Yard) -> None:
    line = "x" * 99 + "\n"
    code = f"import os, time\nwhile True: os.write(1, {line!r}.encode() * 10_000); time.sleep(0.01)"
    mark = f"{yard.namespace}-chatty"
    bounded = {"resources": {"limits": {"ephemeral-storage": "8Mi"}}}
    yard.put(
        pod("chatty", program(mark, code), terminationGracePeriodSeconds=1),
        pod("evicted", program(mark + "-evicted", code, **bounded), terminationGracePeriodSeconds=1),
    )
    yard.ready("chatty")
    uid = yard.get("pod", "chatty")["metadata"]["uid"]

    def kept() -> list[Path]:
        logs_of_pods = cluster_folder("shared").path / "nodes" / yard.node / "host/var/log/pods"
        return list(logs_of_pods.glob(f"*_{uid}/main/0.log*"))

    until(lambda: len(kept()) >= logs.FILES, "old logs", timeout=PATIENCE, interval=0.2, state=kept)
    # In the moment of a rotation there is no log, or an empty one, as with a kubelet.
    last = partial(yard.logs, "chatty", "--tail=1", "--limit-bytes=100")
    until(lambda: last() == line, "its last line", timeout=60, ignore=(AssertionError,))
    status = yard.phase("evicted", "Failed")
    assert status["reason"] == "Evicted" and "exceeds the total limit of containers 8Mi" in status["message"]
    assert len(kept()) <= logs.FILES
    # It writes at most 100 MB/s, and a log is looked at every second. One may be set aside or removed meanwhile.
    size = 0
    for path in kept():
        with contextlib.suppress(FileNotFoundError):
            size += path.stat().st_size
    assert size < 2 << 30
    yard.delete("chatty")
    assert processes(mark) == []
    until(lambda: not kept(), "the logs being gone", timeout=60, state=kept)
    yard.unharmed()


def test_folders_in_folders_without_end_go_with_their_pod(yard: Yard) -> None:
    code = """
import os
os.chdir("/deep")
for _ in range(1500):
    os.mkdir("folder")
    os.chdir("folder")
    os.chmod(".", 0o300)
"""
    main = program(f"{yard.namespace}-deep", code, volumeMounts=[{"name": "deep", "mountPath": "/deep"}])
    main["resources"] = {"limits": {"ephemeral-storage": "1Gi"}}
    yard.put(pod("deep", main, volumes=[{"name": "deep", "emptyDir": {}}], restartPolicy="Never"))
    yard.phase("deep", "Succeeded")
    uid = yard.get("pod", "deep")["metadata"]["uid"]
    nodes = cluster_folder("shared").path / "nodes"
    assert list(nodes.glob(f"{yard.node}/pods/{uid}/volumes/deep/folder/folder"))
    yard.delete("deep")
    until(lambda: not list(nodes.glob(f"{yard.node}/pods/{uid}")), "its folder being removed", timeout=PATIENCE)
    yard.unharmed()


def test_shared_memory_and_devices_that_are_full_are_the_pods_own(yard: Yard) -> None:
    script = 'for d in /dev/shm /dev; do cat /dev/zero > $d/full || stat -c "%n %s" $d/full; done; exec sleep 1000'
    yard.put(pod("fills", container(script=script), terminationGracePeriodSeconds=1))

    def said() -> list[str]:
        return [line for line in yard.logs("fills").splitlines() if line.startswith("/dev")]

    until(lambda: len(said()) == 2, "two full devices", timeout=60, state=said, ignore=(AssertionError,))
    for line in said():
        assert int(line.split()[1]) <= 64 << 20, line
    yard.run("exec", "neighbour", "--", "python", "-c", "open('/dev/shm/mine', 'w').write('x' * 100000)")
    yard.unharmed()


# Names


def test_names_as_long_as_the_api_lets_them_be(yard: Yard) -> None:
    # Cut after 63 letters its host name would end in a dot.
    name = ".".join(["p" * 62, "p" * 63, "p" * 63, "p" * 62])
    longest = ".".join(["n" * 63] * 3 + ["n" * 61])
    key, label, value, short = "k" * 253, f"{longest}/{'l' * 63}", "v" * 63, "c" * 63
    path = f"metadata.labels['{label}']"
    main = container(
        short,
        f"hostname; cat /maps/{key} /labels/one; echo; env | grep -c '^kkk'; exec sleep 1000",
        envFrom=[{"configMapRef": {"name": longest}}],
        volumeMounts=[{"name": "m" * 63, "mountPath": "/maps"}, {"name": "labels", "mountPath": "/labels"}],
        ports=[{"name": "p2345678901234x", "containerPort": 80}],
    )
    volumes = [
        {"name": "m" * 63, "configMap": {"name": longest}},
        {"name": "labels", "downwardAPI": {"items": [{"path": "one", "fieldRef": {"fieldPath": path}}]}},
    ]
    made = pod(name, main, volumes=volumes, terminationGracePeriodSeconds=1)
    made["metadata"]["labels"] = {label: value}
    data = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": longest}, "data": {key: "data\n"}}
    yard.put(data, made)
    yard.ready(name)
    wanted = f"{'p' * 62}\ndata\n{value}\n1\n"
    until(lambda: yard.logs(name) == wanted, "all names", timeout=60, state=lambda: yard.logs(name))
    assert yard.run("exec", name, "-c", short, "--", "hostname").strip() == "p" * 62
    yard.delete(name)
    yard.unharmed()


# Garbage on sockets


def answer(path: Path, *parts: bytes) -> bytes:
    """What a Unix socket answers to these bytes, sent one after the other, until it hangs up; nothing if it refuses."""
    heard = b""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(60)
        peer.connect(str(path))
        try:
            for part in parts:
                peer.sendall(part)
                if part.startswith(b"CONNECT 1"):
                    heard = peer.recv(1000)
            peer.shutdown(socket.SHUT_WR)
            while piece := peer.recv(65536):
                heard += piece
        except ConnectionError:
            pass
    return heard


def test_garbage_on_the_sockets_of_a_node_harms_nobody(shared: Cluster, yard: Yard) -> None:
    chance, run = random.Random(1), cluster_folder(shared.name).run
    egress, runtime = run / "egress.sock", run / f"{yard.node}.sock"
    where = 'jsonpath={.status.addresses[?(@.type=="InternalIP")].address}'
    connect = f"CONNECT {yard.run('get', 'node', yard.node, '-o', where)}:10250 HTTP/1.1\r\n\r\n".encode()

    def running() -> list[Any]:
        return [(one.name, one.pid, one.restarts) for one in shared.status.components]

    before = running()
    for garbage in (
        b"",
        b"\0" * 100_000,
        chance.randbytes(100_000),
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00" + chance.randbytes(600),
        struct.pack(">IB", 1 << 31, 0) + chance.randbytes(100),
        struct.pack(">IB", 20, 3) + b'{"op": "list"}',
    ):
        assert answer(egress, garbage)[:12] in (b"HTTP/1.1 400", b"") and answer(runtime, garbage) == b""
        assert answer(egress, connect, garbage).startswith(b"HTTP/1.1 200")
    yard.unharmed()
    assert running() == before


# Manifests


def test_what_cannot_be_is_refused_in_words(yard: Yard) -> None:
    def mounted(path: str, **source: Any) -> dict[str, Any]:
        main = container(volumeMounts=[{"name": "v", "mountPath": path}])
        return pod("", main, volumes=[{"name": "v", **(source or {"emptyDir": {}})}])

    wrong = {
        "argument list too long": pod("", container(env=[{"name": "LONG", "value": "x" * 200_000}])),
        "/etc/hostname: not a directory": pod("", container(workingDir="/etc/hostname")),
        'exec: "/etc": is a directory': pod("", {"name": "main", "image": TOOLBOX, "command": ["/etc"]}),
        "a variable is no text, or contains a zero byte": pod("", container(script="a\0b")),
        "/dev/vda is no device": mounted("/v", hostPath={"path": "/dev/vda", "type": "BlockDevice"}),
        "/etc/shadow is not a file": mounted("/v", hostPath={"path": "/etc/shadow", "type": "File"}),
        "volume type csi is not supported by this node": mounted("/v", csi={"driver": "ebs.csi.aws.com"}),
        "it has no huge pages": mounted("/v", emptyDir={"medium": "HugePages"}),
        "mountPath /v/.. of container": mounted("/v/.."),
        "no volume can be at / or in /proc": mounted("/proc/sys"),
    }
    for number, made in enumerate(wrong.values()):
        made["metadata"] = {"name": f"wrong-{number}"}
        made["spec"]["restartPolicy"] = "Never"
    yard.put(*wrong.values())

    def contains(said: Callable[[], str], words: str) -> bool:
        return words in said()

    def why(name: str) -> str:
        states = [one["state"] for one in yard.status(name).get("containerStatuses", ())]
        return "".join(state.get(kind, {}).get("message", "") for state in states for kind in ("waiting", "terminated"))

    for words, made in wrong.items():
        said = partial(why, made["metadata"]["name"])
        until(partial(contains, said, words), words, timeout=PATIENCE, state=said)
    yard.unharmed()


def test_what_a_privileged_pod_cannot_do_either_is_refused_to_its_program(yard: Yard) -> None:
    code = """
import os, stat, time
for attempt in (
    lambda: os.mknod("/tmp/disk", stat.S_IFBLK | 0o600, os.makedev(8, 0)),
    lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()),
    lambda: os.open("/dev/mem", os.O_RDONLY),
):
    try:
        print(attempt())
    except OSError as error:
        print(error.strerror)
"""
    main = program("reacher", code, securityContext={"privileged": True})
    yard.put(pod("reacher", main, restartPolicy="Never"))
    yard.phase("reacher", "Succeeded")
    assert yard.logs("reacher").splitlines() == [*["Operation not permitted"] * 2, "No such file or directory"]
    yard.unharmed()
