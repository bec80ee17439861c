"""The plain runtime where namespaces are really refused: `PODLAB_TEST_RUNTIME=plain` (`make test-plain`)."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import PLAIN
from lifecycle import PYTHON, TOOLBOX, Pods, container, pod

from podlab.cluster import Cluster
from podlab.cluster.embedded import control, warden
from podlab.cluster.embedded.folder import cluster_folder
from podlab.errors import ClusterError
from podlab.node.runtime.plain.processes import marked
from podlab.waiting import until

pytestmark = pytest.mark.skipif(not PLAIN, reason="these tests are about a machine that refuses namespaces")

SERVE = ["python", "-m", "http.server", "8080"]
#: Asks a URL until `count` different bodies have come; prints them, sorted.
ASK = """
import sys, time, urllib.request
found, end = set(), time.monotonic() + 20
while len(found) < int(sys.argv[2]) and time.monotonic() < end:
    found.add(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode().strip())
print(sorted(found))
"""
#: Answers with the pod's name and the client's address.
NAMES = """
import http.server, socket
class Names(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{socket.gethostname()} {self.client_address[0]}\\n".encode())
http.server.ThreadingHTTPServer(("", 8080), Names).serve_forever()
"""


@pytest.fixture
def pods(shared: Cluster, kubectl: Any, namespace: str) -> Pods:
    """The namespace of this test."""
    return Pods(kubectl, shared, namespace)


def server(name: str, program: str = NAMES) -> dict[str, Any]:
    """A pod that answers on port 8080 when it is ready."""
    probe = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
    main = {"name": "main", "image": PYTHON, "command": ["python", "-IS", "-c", program], "readinessProbe": probe}
    made = pod(name, main, terminationGracePeriodSeconds=1)
    made["metadata"]["labels"] = {"app": "web"}
    return made


def service(**spec: Any) -> dict[str, Any]:
    ports = [{"port": 80, "targetPort": 8080, **spec.pop("ports", {})}]
    spec = {"selector": {"app": "web"}, "ports": ports, **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec}


def test_two_pods_have_the_same_port_and_a_service_reaches_both(pods: Pods, machine: list[str]) -> None:
    pods.apply(server("one"), server("two"), service(type="NodePort"))
    for name in ("one", "two"):
        pods.ready(name)
    until(
        lambda: sum(len(s.get("endpoints") or ()) for s in pods.get("endpointslices")["items"]) == 2,
        "two endpoints",
        timeout=60,
    )
    address = pods.status("one")["podIP"]
    said = pods.run("exec", "one", "--", "python", "-c", ASK, "http://web/", "2")
    assert said.strip() == str([f"one {address}", f"two {address}"]), "the client's own address is seen"
    port = pods.get("service", "web")["spec"]["ports"][0]["nodePort"]
    answer = subprocess.run([*machine, "curl", "-sS", f"http://127.0.0.1:{port}/"], capture_output=True, text=True)
    assert answer.stdout.split()[:1] in (["one"], ["two"]), answer.stderr
    assert pods.run("exec", "two", "--", "sh", "-c", "fetch http://127.0.0.1:8080/").startswith("two ")


def test_a_program_in_a_pod_uses_the_api_with_its_own_account(pods: Pods) -> None:
    program = (
        "from kubernetes import client, config; config.load_incluster_config()\n"
        "try: client.CoreV1Api().list_namespaced_pod('default')\n"
        "except client.ApiException as error: print(error.status, error.body.split('cannot')[0].split('User')[1])"
    )
    main = {"name": "main", "image": PYTHON, "command": ["python", "-c", program]}
    pods.apply(pod("client", main, restartPolicy="Never"))
    pods.phase("client", "Succeeded")
    assert f'403  \\"system:serviceaccount:{pods.namespace}:default\\"' in pods.logs("client")


def test_volumes_are_at_their_paths_for_python_and_in_the_script_of_a_shell(pods: Pods) -> None:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"color": "blue"}}
    mounts = {"volumeMounts": [{"name": "c", "mountPath": "/etc/config"}, {"name": "d", "mountPath": "/data"}]}
    program = "from pathlib import Path; Path('/data/x').write_text(Path('/etc/config/color').read_text() + ' sea')"
    first = {"name": "first", "image": PYTHON, "command": ["python", "-c", program], **mounts}
    volumes = [{"name": "c", "configMap": {"name": "c"}}, {"name": "d", "emptyDir": {}}]
    script = 'for f in "/data/x" /etc/config/color; do cat $f; echo; done'
    pods.apply(
        config,
        pod("v", container(script=script, **mounts), initContainers=[first], restartPolicy="Never", volumes=volumes),
    )
    pods.phase("v", "Succeeded")
    assert pods.logs("v") == "blue sea\nblue\n"


def test_what_a_container_leaves_behind_ends_with_it(pods: Pods) -> None:
    """A child that has left the session, closed its descriptors and cleared its environment."""
    word = f"plain-{os.getpid()}-{pods.namespace}"
    script = f"setsid env -i sh -c 'exec 0<&- 1>&- 2>&-; while :; do sleep 0.1; : {word}; done' & sleep 1; exit 4"
    pods.apply(pod("leaves", container(script=script), restartPolicy="Never"))
    status = pods.phase("leaves", "Failed")
    assert status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 4
    assert [pid for pid in _pids() if word.encode() in _command(pid) and b"kubectl" not in _command(pid)] == []


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"securityContext": {"privileged": True}}, "a privileged container needs namespaces"),
    ],
)
def test_what_cannot_be_run_truthfully_is_refused_in_words(pods: Pods, fields: dict[str, Any], text: str) -> None:
    pods.apply(pod("no", {**container(), "image": PYTHON, **fields}))
    status = pods.waiting("no", "CreateContainerError")
    assert text in status["containerStatuses"][0]["state"]["waiting"]["message"]


def test_nodes_and_status_say_what_they_are(shared: Cluster, kubectl: Any) -> None:
    labels = kubectl(shared, "get", "nodes", "-l", "podlab.dev/runtime=plain", "-o", "name").split()
    assert len(labels) == 3
    reason = kubectl(shared, "get", "node", "node-1", "-o", "jsonpath={.status.conditions[?(@.type=='PlainRuntime')]}")
    assert "NoNamespaces" in reason and "no network policies" in reason
    assert shared.status.details["runtime"].startswith("plain (this machine refuses user namespaces")


def test_a_node_cannot_be_isolated_but_killed_and_brought_back(shared: Cluster, pods: Pods) -> None:
    with pytest.raises(ClusterError, match="cannot be isolated"):
        shared.nodes.isolate("node-3")
    pods.apply(pod("there", nodeName="node-3"))
    pods.ready("there")
    folder = cluster_folder("shared")
    word = f"PODLAB_NODE={folder.node('node-3')}"
    assert marked(word)
    shared.nodes.kill("node-3")
    try:
        until(lambda: not marked(word), "every process of the node ending", timeout=60)
    finally:
        shared.nodes.rejoin("node-3")
    pods.wait("there", lambda s: s["containerStatuses"][0]["restartCount"] == 1, "running again", timeout=60)


def test_sigkill_of_the_supervisor_leaves_no_process(make: Callable[..., Cluster], kubectl: Any) -> None:
    made = make(nodes=1)
    kubectl(made, "run", "sleeper", f"--image={TOOLBOX}", "--", "sleep", "1000")
    kubectl(made, "wait", "--for=condition=Ready", "pod/sleeper", "--timeout=240s")
    folder = cluster_folder(made.name)
    words = warden.words(folder, folder.read())
    assert sum(len(marked(word)) for word in words) > 8
    supervisor = control.connect(folder.control)
    assert supervisor
    os.kill(supervisor.pid, signal.SIGKILL)
    until(lambda: not any(map(marked, words)), "every process of the cluster ending", timeout=60)
