"""Services, DNS and node ports seen from inside pods and from the host."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import PLAIN, PROVIDER
from deployments import TROUBLE, web

from podlab.cluster import Cluster
from podlab.waiting import until

#: What a client pod can be told to do; each prints JSON.
_PREAMBLE = """
import json, os, socket, struct, sys
def connect(host, port):
    try:
        with socket.create_connection((host, port), 5) as made:
            return "answered"
    except OSError as error:
        return os.strerror(error.errno) if error.errno else type(error).__name__
def get(host, port=80):
    with socket.create_connection((host, port), 5) as made:
        made.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
        text = b""
        while piece := made.recv(4096):
            text += piece
    return text.split(b"\\r\\n\\r\\n", 1)[1].decode().split()
def addresses(name):
    try:
        return sorted({each[4][0] for each in socket.getaddrinfo(name, None, socket.AF_UNSPEC, socket.SOCK_STREAM)})
    except socket.gaierror as error:
        return error.errno == socket.EAI_NONAME and "unknown" or str(error)
"""

#: Answers datagrams with its name, and counts nothing.
UDP_SERVER = """
import os, socket
made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
made.bind(("", 9000))
while True:
    _, peer = made.recvfrom(2048)
    made.sendto((os.environ["HOSTNAME"] + " " + peer[0]).encode(), peer)
"""

Client = Callable[[str], Any]


def pod(name: str, program: str, **labels: str) -> dict[str, Any]:
    container = {"name": "main", "image": "podlab/python:3", "command": ["python3", "-S", "-c", program]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
    }


def service(name: str, selector: dict[str, str], port: int, target: int, **spec: Any) -> dict[str, Any]:
    ports = [{"name": "main", "port": port, "targetPort": target, "protocol": spec.pop("protocol", "TCP")}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": selector, "ports": ports, **spec},
    }


@pytest.fixture
def put(shared: Cluster, kubectl: Any, namespace: str) -> Callable[..., None]:
    """put(object, ...) creates or changes objects in the test's namespace."""

    def apply(*objects: dict[str, Any]) -> None:
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        kubectl(shared, "-n", namespace, "apply", "-f", "-", stdin=text)

    return apply


@pytest.fixture
def client(shared: Cluster, kubectl: Any, namespace: str, put: Callable[..., None]) -> Iterator[Client]:
    """client(expression) -> its value, computed by Python in a pod of the test's namespace."""
    put(pod("client", "import time\nwhile True: time.sleep(1000)"))
    kubectl(shared, "-n", namespace, "wait", "--for=condition=Ready", "pod/client", "--timeout=240s")

    def run(expression: str) -> Any:
        program = f"{_PREAMBLE}\nprint(json.dumps({expression}))"
        return json.loads(kubectl(shared, "-n", namespace, "exec", "client", "--", "python3", "-S", "-c", program))

    yield run


@pytest.fixture
def rolled_out(shared: Cluster, kubectl: Any, namespace: str) -> int:
    """A Deployment and Service `web` of three pods; its node port."""
    kubectl(shared, "apply", "-f", "-", stdin=web(namespace))
    kubectl(shared, "-n", namespace, "rollout", "status", "deployment/web", "--timeout=240s")
    made = json.loads(kubectl(shared, "-n", namespace, "get", "service", "web", "-o", "json"))
    return made["spec"]["ports"][0]["nodePort"]


def eventually(question: Callable[[], Any], expected: Any, what: str) -> None:
    last: list[Any] = []

    def met() -> bool:
        last[:] = [question()]
        return last == [expected]

    until(met, what, timeout=240, interval=0.1, state=lambda: last, ignore=(AssertionError,))


def test_a_pod_reaches_all_pods_of_a_service_by_its_short_name(client: Client, rolled_out: int, namespace: str) -> None:
    names = ("web", f"web.{namespace}", f"web.{namespace}.svc", f"web.{namespace}.svc.cluster.local")
    eventually(lambda: client("addresses('web')") != "unknown", True, "the name of the Service")
    found = client(f"[addresses(name) for name in {names!r}]")
    assert len({tuple(each) for each in found}) == 1 and found[0][0].startswith("10.96.")
    # A node learns of the endpoints one after the other.
    eventually(lambda: len({name for name, _, _ in client("[get('web') for _ in range(60)]")}), 3, "all three pods")
    answers = client("[get('web') for _ in range(60)]")
    # The servers see the pod itself, on whatever node they are.
    assert {peer for _, _, peer in answers} == set(client("addresses(socket.gethostname())"))


def test_the_host_reaches_a_node_port(rolled_out: int, node_address: str, ask: Any) -> None:
    pods: set[str] = set()

    def all_three() -> bool:
        pods.add(ask(rolled_out, node_address)[0])
        return len(pods) == 3

    until(all_three, "answers from three pods", timeout=240, interval=0.05, ignore=TROUBLE, state=lambda: pods)


@pytest.mark.embedded("kind has no load balancer")
def test_the_host_reaches_a_load_balancer_at_an_address_of_its_own(
    rolled_out: int, shared: Cluster, kubectl: Any, namespace: str, ask: Any
) -> None:
    ports = [{"name": "http", "port": 8081, "targetPort": 8080}]
    patch = {"spec": {"type": "LoadBalancer", "ports": ports}}

    def see() -> dict[str, Any]:
        return json.loads(kubectl(shared, "-n", namespace, "get", "service", "web", "-o", "json"))

    kubectl(shared, "-n", namespace, "patch", "service", "web", "--type=merge", "-p", json.dumps(patch))
    (ingress,) = until(
        lambda: see()["status"]["loadBalancer"].get("ingress"), "an address", timeout=240, interval=0.2, state=see
    )
    assert ingress["ip"].startswith("127.") and ingress["ip"] != "127.0.0.1"
    until(lambda: ask(8081, ingress["ip"]), "an answer", timeout=240, interval=0.1, ignore=TROUBLE)
    back = {"spec": {"type": "ClusterIP"}}
    kubectl(shared, "-n", namespace, "patch", "service", "web", "--type=merge", "-p", json.dumps(back))

    def closed() -> bool:
        try:
            ask(8081, ingress["ip"])
        except TROUBLE as error:
            return "refused" in str(error)
        return False

    until(closed, "the closed port", timeout=240, interval=0.1)
    assert see()["status"]["loadBalancer"] == {}


def test_a_service_without_endpoints_refuses_and_a_missing_one_is_unknown(
    client: Client, put: Callable[..., None]
) -> None:
    put(service("empty", {"app": "none"}, 80, 80))
    eventually(lambda: client("connect('empty', 80)"), "Connection refused", "the refusal")
    assert client("addresses('missing.default.svc.cluster.local.')") == "unknown"
    if PROVIDER == "embedded":  # names of the outer world too, about which the nodes of the kind lab can ask nobody
        assert client("addresses('missing')") == "unknown"
        assert client("addresses('missing.elsewhere')") == "unknown"


def test_the_api_server_answers_under_its_own_name(client: Client) -> None:
    assert client("addresses('kubernetes.default')") == ["10.96.0.1"]
    assert client("connect('kubernetes.default.svc', 443)") == "answered"


def test_headless_services_give_pods_and_their_names(
    client: Client, put: Callable[..., None], shared: Cluster, kubectl: Any, namespace: str
) -> None:
    template = pod("", "import time\nwhile True: time.sleep(1000)", app="db")
    stateful = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "db"},
        "spec": {
            "serviceName": "db",
            "replicas": 2,
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": {"app": "db"}},
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": template["spec"]},
        },
    }
    put(service("db", {"app": "db"}, 5432, 5432, clusterIP="None"), stateful)
    kubectl(shared, "-n", namespace, "rollout", "status", "statefulset/db", "--timeout=240s")
    found = json.loads(kubectl(shared, "-n", namespace, "get", "pods", "-l", "app=db", "-o", "json"))["items"]
    listed = {each["metadata"]["name"]: each["status"]["podIP"] for each in found}
    eventually(lambda: client("addresses('db')"), sorted(listed.values()), "both addresses under one name")
    assert client("addresses('db-0.db')") == [listed["db-0"]]
    assert client("addresses('db-1.db')") == [listed["db-1"]]
    name = client(f"socket.gethostbyaddr({listed['db-1']!r})[0]")
    assert name == f"db-1.db.{namespace}.svc.cluster.local"


def test_session_affinity_keeps_a_client_with_one_pod(
    client: Client, rolled_out: int, put: Callable[..., None]
) -> None:
    put(service("sticky", {"app": "web"}, 80, 8080, sessionAffinity="ClientIP"))
    eventually(lambda: client("connect('sticky', 80)"), "answered", "an endpoint")
    assert len({name for name, _, _ in client("[get('sticky') for _ in range(30)]")}) == 1


def test_udp_services_answer_and_pods_reach_themselves(
    client: Client, put: Callable[..., None], shared: Cluster, kubectl: Any, namespace: str
) -> None:
    # Not called like the pod, whose own name in /etc/hosts would lead past the Service.
    put(pod("echo", UDP_SERVER, app="echo"), service("echoes", {"app": "echo"}, 90, 9000, protocol="UDP"))
    kubectl(shared, "-n", namespace, "wait", "--for=condition=Ready", "pod/echo", "--timeout=240s")
    program = """[
        (made := socket.socket(socket.AF_INET, socket.SOCK_DGRAM)), made.settimeout(2),
        made.connect(("echoes", 90)), made.send(b"?"), made.recv(100).decode().split()
    ][-1]"""
    inside = f"{_PREAMBLE}\nprint(json.dumps({program}))"

    def itself() -> Any:
        return json.loads(kubectl(shared, "-n", namespace, "exec", "echo", "--", "python3", "-S", "-c", inside))

    # The two pods may be on different nodes, each of which learns of the Service at its own time.
    for asked in (lambda: client(program), itself):
        until(
            lambda asked=asked: asked()[0] == "echo",
            "an answer of the UDP Service",
            timeout=240,
            interval=0.2,
            ignore=(AssertionError,),
        )
    # A pod that reached itself under its own address would answer past its Service: a packet's way, where there is one.
    own = kubectl(shared, "-n", namespace, "get", "pod", "echo", "-o", "jsonpath={.status.podIP}")
    assert PLAIN or itself()[1] != own


def test_external_names_are_aliases_of_services(client: Client, rolled_out: int, put: Callable[..., None]) -> None:
    alias = service("alias", {}, 80, 80, type="ExternalName")
    namespace = client("open('/var/run/secrets/kubernetes.io/serviceaccount/namespace').read()")
    alias["spec"] = {"type": "ExternalName", "externalName": f"web.{namespace}.svc.cluster.local"}
    put(alias)
    eventually(lambda: client("addresses('alias') == addresses('web')"), True, "the alias")


def test_traffic_follows_a_rollout_without_a_failed_connection(
    client: Client, rolled_out: int, shared: Cluster, kubectl: Any, namespace: str
) -> None:
    """Pods that stop serving only a while after they have left the Service lose nobody."""
    patient = {"preStop": {"sleep": {"seconds": 20}}}
    patch = {
        "spec": {
            "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {
                "spec": {
                    "terminationGracePeriodSeconds": 30,
                    "containers": [{"name": "server", "lifecycle": patient}],
                }
            },
        }
    }
    kubectl(shared, "-n", namespace, "patch", "deployment", "web", "-p", json.dumps(patch))
    kubectl(shared, "-n", namespace, "rollout", "status", "deployment/web", "--timeout=240s")
    kubectl(shared, "-n", namespace, "rollout", "restart", "deployment/web")
    asked = 0
    seen: set[str] = set()

    def finished() -> bool:
        nonlocal asked
        answers = client("[get('web')[0] for _ in range(50)]")  # an exception in there fails the test
        asked += len(answers)
        seen.update(answers)
        made = json.loads(kubectl(shared, "-n", namespace, "get", "deployment", "web", "-o", "json"))
        status = made["status"]
        return (
            status.get("observedGeneration") == made["metadata"]["generation"]
            and status.get("updatedReplicas") == status.get("replicas") == status.get("availableReplicas") == 3
        )

    until(finished, "the end of the rollout", timeout=90, interval=0.05, state=lambda: (asked, seen))
    assert len(seen) >= 4, "the traffic did not see old and new pods"


#: Answers whoever connects with its name.
_NAMED = """
import os, socket
made = socket.create_server(("", 8080), backlog=16)
while True:
    peer, _ = made.accept()
    with peer:
        peer.recv(4096)
        peer.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\n" + os.environ["HOSTNAME"].encode())
"""


def test_a_host_port_is_one_pods_at_a_time_on_a_node_and_goes_with_it(
    client: Client, put: Callable[..., None], shared: Cluster, kubectl: Any, namespace: str, worker: str
) -> None:
    where = 'jsonpath={.status.addresses[?(@.type=="InternalIP")].address}'
    node, port = kubectl(shared, "get", "node", worker, "-o", where), 18080

    def owner(name: str, **spec: Any) -> dict[str, Any]:
        made = pod(name, _NAMED)
        made["spec"]["containers"][0]["ports"] = [{"containerPort": 8080, "hostPort": port}]
        return {**made, "spec": {**made["spec"], **spec}}

    def status(name: str) -> dict[str, Any]:
        return json.loads(kubectl(shared, "-n", namespace, "get", "pod", name, "-o", "json"))["status"]

    def said(name: str) -> list[str]:
        return [one.get("message", "") for one in status(name).get("conditions") or ()]

    def ready(name: str) -> None:
        kubectl(shared, "-n", namespace, "wait", "--for=condition=Ready", f"pod/{name}", "--timeout=240s")

    here = {"nodeSelector": {"kubernetes.io/hostname": worker}}
    inside = pod("inside", "import time\nwhile True: time.sleep(1000)")
    inside["spec"] |= {**here, "hostNetwork": True}
    put(owner("first", **here), inside)
    ready("first")
    assert client(f"get({node!r}, {port})") == ["first"]
    ready("inside")
    program = f"{_PREAMBLE}\nprint(json.dumps(get('127.0.0.1', {port})))"
    command = ("exec", "inside", "--", "python3", "-S", "-c", program)
    assert json.loads(kubectl(shared, "-n", namespace, *command)) == ["first"], "the node's own loopback"

    put(owner("second", **here))
    until(
        lambda: any("free ports" in each for each in said("second")),
        "the scheduler's refusal",
        timeout=240,
        interval=0.1,
        state=lambda: status("second"),
        ignore=(AssertionError,),
    )
    assert status("second")["phase"] == "Pending"
    kubectl(shared, "-n", namespace, "delete", "pod", "first")
    ready("second")
    eventually(lambda: client(f"get({node!r}, {port})"), ["second"], "the next owner's answer")

    # Last of all: when such a pod has failed the scheduler takes its port for free, whoever else has it.
    put(owner("bound", nodeName=worker))
    eventually(lambda: status("bound")["phase"], "Failed", "the node's refusal of what no scheduler was asked")
    assert status("bound")["reason"] == "NodePorts" and "free ports" in status("bound")["message"]
    assert client(f"get({node!r}, {port})") == ["second"]
    kubectl(shared, "-n", namespace, "delete", "pod", "second")
    eventually(lambda: client(f"connect({node!r}, {port})"), "Connection refused", "the port being closed")
