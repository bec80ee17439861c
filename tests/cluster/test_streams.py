"""kubectl and the Python client against pods of a real cluster: logs, exec, attach, cp, port-forward, top."""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import struct
import subprocess
import termios
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from forwarding import forwarded
from kubernetes import client, config
from kubernetes.stream import portforward, stream

from podlab.cluster import Cluster
from podlab.waiting import until

NAMESPACE = "streams"
SERVER = (
    "import http.server, os\n"
    "os.chdir('/tmp'); open('blob', 'wb').write(bytes(range(256)) * 4000)\n"
    "print('serving', flush=True)\n"
    "server = http.server.ThreadingHTTPServer(('127.0.0.1', 8080), http.server.SimpleHTTPRequestHandler)\n"
    "open('up', 'w').close()\n"
    "server.serve_forever()\n"
)
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "labels": {"app": "web"}},
    "spec": {
        "terminationGracePeriodSeconds": 1,
        "initContainers": [{"name": "setup", "image": "podlab/toolbox:1", "command": ["echo", "set up"]}],
        "containers": [
            {
                "name": "main",
                "image": "podlab/python:3",
                "command": ["python3", "-c", SERVER],
                "env": [{"name": "COLOUR", "value": "blue"}],
                # A kubelet asks from outside, where the server does not listen.
                "readinessProbe": {"exec": {"command": ["test", "-e", "/tmp/up"]}, "periodSeconds": 1},
            },
            {
                "name": "talker",
                "image": "podlab/toolbox:1",
                "command": ["sh", "-c", "seq 1000; echo err >&2; sleep 1d"],
            },
            {
                "name": "reader",
                "image": "podlab/toolbox:1",
                "stdin": True,
                "command": ["sh", "-c", "while read line; do echo got $line; done"],
            },
            {"name": "shell", "image": "podlab/toolbox:1", "stdin": True, "tty": True, "command": ["sh"]},
        ],
    },
}

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def run(shared: Cluster, programs: dict[str, Path]) -> Run:
    """Runs kubectl in the namespace and gives everything that came of it."""

    def run(*arguments: str, environment: dict[str, str] | None = None, **more) -> subprocess.CompletedProcess:
        more = {"capture_output": True, "text": True, "timeout": 600, **more}
        return subprocess.run(
            kubectl_command(shared, programs, *arguments), env=os.environ | (environment or {}), check=False, **more
        )

    return run


def kubectl_command(shared: Cluster, programs: dict[str, Path], *arguments: str) -> list[str]:
    return [str(programs["kubectl"]), "--kubeconfig", str(shared.kubeconfig), "-n", NAMESPACE, *arguments]


@pytest.fixture(scope="module", autouse=True)
def pod(run: Run) -> Iterator[None]:
    """The namespace with the pod `web`, which no test harms."""
    assert run("create", "namespace", NAMESPACE).returncode == 0
    create(run, POD)
    ready = run("wait", "--for=condition=Ready", "pod/web", "--timeout=240s")
    assert ready.returncode == 0, ready.stderr + run("describe", "pod", "web").stdout
    yield
    run("delete", "namespace", NAMESPACE, "--wait=false")


def create(run: Run, manifest: dict) -> None:
    made = run("create", "-f", "-", input=json.dumps(manifest))
    assert made.returncode == 0, made.stderr


def small_pod(name: str, script: str, **spec: object) -> dict:
    container = {"name": "main", "image": "podlab/toolbox:1", "command": ["sh", "-c", script]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container], **spec},
    }


#: Clients that speak WebSockets all the way to the node, and older ones that speak SPDY.
TRANSPORTS = pytest.mark.parametrize("websockets", ["true", "false"], ids=["websocket", "spdy"])


def transport(websockets: str) -> dict[str, str]:
    return {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": websockets, "KUBECTL_PORT_FORWARD_WEBSOCKETS": websockets}


# logs


def test_logs(run: Run) -> None:
    assert run("logs", "web", "-c", "setup").stdout == "set up\n"
    whole = ""

    def complete() -> bool:
        nonlocal whole
        whole = run("logs", "web", "-c", "talker").stdout
        return "err" in whole and "1000" in whole

    until(complete, "all output in the log", timeout=60, interval=0.2)
    assert sorted(whole.split(), key=lambda word: (not word.isdigit(), int(word) if word.isdigit() else 0)) == [
        *(str(number) for number in range(1, 1001)),
        "err",
    ]
    assert len(run("logs", "web", "-c", "talker", "--tail=10").stdout.splitlines()) == 10
    assert run("logs", "web", "-c", "talker", "--limit-bytes=7").stdout == whole[:7]
    stamped = run("logs", "web", "-c", "talker", "--timestamps", "--tail=1").stdout
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z \w+\n", stamped)
    assert run("logs", "web", "-c", "talker", "--since-time=2040-01-01T00:00:00Z").stdout == ""
    assert "set up" in run("logs", "web", "--all-containers").stdout


@pytest.mark.embedded("a kubelet has the choice with the gate PodLogsQuerySplitStreams only")
def test_one_stream_of_a_log(run: Run) -> None:
    """Asked of the node itself: the API server passes the choice on only with the gate PodLogsQuerySplitStreams."""
    node = run("get", "pod", "web", "-o", "jsonpath={.spec.nodeName}").stdout
    path = f"/api/v1/nodes/{node}/proxy/containerLogs/{NAMESPACE}/web/talker?stream=Stderr"
    until(lambda: run("get", "--raw", path).stdout == "err\n", "the one line on stderr", timeout=60, interval=0.2)


def test_errors_about_logs_are_the_kubelets(run: Run) -> None:
    missing = run("logs", "web", "-c", "main", "-p")
    assert 'previous terminated container "main" in pod "web" not found' in missing.stderr
    assert "container nobody is not valid for pod web" in run("logs", "web", "-c", "nobody").stderr
    broken = small_pod("broken", "true")
    broken["spec"]["containers"][0]["image"] = "podlab/no-such-image"
    create(run, broken)

    def refused() -> bool:
        return "is waiting to start: trying and failing to pull image" in run("logs", "broken").stderr

    until(refused, "the refusal of a log that cannot be", timeout=240, interval=0.3)


def test_follow_ends_with_the_container(run: Run) -> None:
    script = "until [ -e /tmp/go ]; do sleep 0.1; done; for n in 1 2 3 4 5 6; do echo $n; sleep 0.3; done"
    create(run, small_pod("counter", script, restartPolicy="Never"))
    assert run("wait", "--for=condition=Ready", "pod/counter", "--timeout=240s").returncode == 0
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(run, "logs", "-f", "counter")
        assert run("exec", "counter", "--", "touch", "/tmp/go").returncode == 0
        followed = following.result()
    assert (followed.returncode, followed.stdout) == (0, "1\n2\n3\n4\n5\n6\n")


def test_previous_log_of_a_restarted_container(run: Run) -> None:
    script = (
        "n=$(cat /v/n 2>/dev/null || echo 0); echo $((n+1)) > /v/n; echo attempt $n; [ $n -gt 0 ] && sleep 1d; exit 1"
    )
    manifest = small_pod("restarted", script, volumes=[{"name": "v", "emptyDir": {}}])
    manifest["spec"]["containers"][0]["volumeMounts"] = [{"name": "v", "mountPath": "/v"}]
    create(run, manifest)
    until(lambda: "attempt 0" in run("logs", "-p", "restarted").stdout, "the previous log", timeout=240, interval=0.5)
    until(lambda: run("logs", "restarted").stdout == "attempt 1\n", "the second attempt", timeout=240, interval=0.5)
    assert run("logs", "-p", "restarted").stdout == "attempt 0\n"


# exec and attach


@TRANSPORTS
def test_exec(run: Run, websockets: str) -> None:
    environment = transport(websockets)
    script = "echo $COLOUR; hostname; echo to stderr >&2; exit 3"
    done = run("exec", "web", "-c", "main", "--", "sh", "-c", script, environment=environment)
    assert (done.stdout, done.returncode) == ("blue\nweb\n", 3)
    assert done.stderr == "to stderr\ncommand terminated with exit code 3\n"
    echoed = run("exec", "-i", "web", "-c", "main", "--", "cat", input="hello\n", environment=environment)
    assert (echoed.stdout, echoed.returncode) == ("hello\n", 0)


def test_exec_of_what_is_not_there(run: Run) -> None:
    done = run("exec", "web", "-c", "main", "--", "no-such-program")
    assert done.returncode == 1
    assert "no-such-program" in done.stderr
    assert run("exec", "web", "-c", "setup", "--", "true").returncode == 1


def test_exec_with_a_lot_of_stdin(run: Run) -> None:
    blob = "x" * 5_000_000
    assert run("exec", "-i", "web", "-c", "main", "--", "wc", "-c", input=blob).stdout.strip() == str(len(blob))


def test_twenty_commands_at_once(run: Run) -> None:
    with ThreadPoolExecutor(10) as pool:
        done = list(pool.map(lambda n: run("exec", "web", "-c", "main", "--", "echo", str(n)).stdout, range(20)))
    assert done == [f"{number}\n" for number in range(20)]


class Terminal:
    """kubectl on a terminal of its own."""

    def __init__(self, command: list[str], rows: int, columns: int, environment: dict[str, str]) -> None:
        self._master, slave = os.openpty()
        self.resize(rows, columns)
        self._process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env=os.environ | environment,
        )
        os.close(slave)
        self._text = ""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def shows(self, pattern: str) -> None:
        """Wait until the terminal shows something new that matches."""
        os.set_blocking(self._master, False)

        def seen() -> bool:
            try:
                self._text += os.read(self._master, 65536).decode(errors="replace")
            except OSError:
                pass
            if match := re.search(pattern, self._text):
                self._text = self._text[match.end() :]
            return bool(match)

        until(seen, f"{pattern!r} on the terminal", timeout=240, state=lambda: self._text)

    def end(self) -> int:
        """The exit status."""
        status = self._process.wait(timeout=30)
        os.close(self._master)
        return status

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@contextmanager
def terminal(shared: Cluster, programs: dict[str, Path], *arguments: str, **environment: str) -> Iterator[Terminal]:
    made = Terminal(kubectl_command(shared, programs, *arguments), 33, 99, environment)
    try:
        yield made
    finally:
        made.close()


@TRANSPORTS
def test_exec_on_a_terminal(shared: Cluster, programs: dict[str, Path], websockets: str) -> None:
    arguments = ("exec", "-it", "web", "-c", "main", "--", "sh")
    with terminal(shared, programs, *arguments, **transport(websockets)) as screen:
        screen.shows(r"[#$] ")
        screen.type("stty size; tty; echo $TERM\n")
        screen.shows(r"33 99\r\n/dev/pts/\d+\r\nxterm")
        screen.resize(44, 132)
        screen.type("while ! stty size | grep '44 132'; do :; done\n")
        screen.shows(r"44 132\r\n.*[#$] ")
        # What it prints proves that it, and no longer the shell that starts it, is interrupted.
        screen.type("sh -c 'echo $((41 + 1)); exec sleep 1000'\n")
        screen.shows(r"\r\n42\r\n")
        screen.type("\x03")
        screen.shows(r"[#$] ")
        screen.type("exit 4\n")
        assert screen.end() == 4


def test_attach(shared: Cluster, programs: dict[str, Path]) -> None:
    command = kubectl_command(shared, programs, "attach", "-i", "-q", "web", "-c", "reader")
    attached = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    assert attached.stdin
    assert attached.stdout
    for word in ("one", "two"):
        attached.stdin.write(f"{word}\n")
        attached.stdin.flush()
        assert attached.stdout.readline() == f"got {word}\n"
    attached.kill()
    attached.communicate()


def test_attach_to_a_terminal(shared: Cluster, programs: dict[str, Path]) -> None:
    with terminal(shared, programs, "attach", "-it", "-q", "web", "-c", "shell") as screen:
        # kubectl first sends a wrong size, so that the program draws itself anew.
        screen.type("while ! stty size | grep '33 99'; do :; done\n")
        screen.shows(r"\n33 99\r\n")


def test_run_with_stdin_to_its_end(run: Run) -> None:
    """stdinOnce: the container's stdin ends with the client's."""
    arguments = ("run", "sorted", "--image=podlab/toolbox:1", "--restart=Never", "--rm", "-iq", "--", "sort")
    done = run(*arguments, input="b\na\n")
    assert (done.stdout, done.returncode) == ("a\nb\n", 0), done.stderr


# cp and port-forward


def test_copy_there_and_back(run: Run, tmp_path: Path) -> None:
    blob = os.urandom(3_000_000)
    (tmp_path / "a").write_bytes(blob)
    assert run("cp", str(tmp_path / "a"), "web:/tmp/a", "-c", "main").returncode == 0
    assert run("cp", "web:/tmp/a", str(tmp_path / "b"), "-c", "main").returncode == 0
    assert (tmp_path / "b").read_bytes() == blob


@TRANSPORTS
def test_port_forward_to_the_pods_own_loopback(shared: Cluster, programs: dict[str, Path], websockets: str) -> None:
    def fetch(url: str) -> int:
        with urllib.request.urlopen(url, timeout=240) as answer:
            return len(answer.read())

    command = kubectl_command(shared, programs, "port-forward", "pod/web", ":8080")
    with forwarded(command, **transport(websockets)) as url, ThreadPoolExecutor(10) as pool:
        assert list(pool.map(fetch, [f"{url}/blob"] * 20)) == [1_024_000] * 20


def test_port_forward_to_a_closed_port(shared: Cluster, programs: dict[str, Path]) -> None:
    command = kubectl_command(shared, programs, "port-forward", "pod/web", ":9")
    with forwarded(command) as url, pytest.raises(OSError):
        urllib.request.urlopen(url, timeout=240).read()


# The Python client


@pytest.fixture
def core(shared: Cluster) -> client.CoreV1Api:
    # The client changes its own class when it streams: a fresh one per test.
    return client.CoreV1Api(config.new_client_from_config(str(shared.kubeconfig)))


def test_python_client_exec(core: client.CoreV1Api) -> None:
    given = {"name": "web", "namespace": NAMESPACE, "container": "main", "stdout": True, "stderr": True}
    command = ["sh", "-c", "read x; echo got $x; exit 9"]
    session = stream(core.connect_get_namespaced_pod_exec, command=command, stdin=True, _preload_content=False, **given)
    session.write_stdin("abc\n")
    session.run_forever(timeout=30)
    assert session.returncode == 9
    assert session.read_stdout() == "got abc\n"


def test_python_client_port_forward(core: client.CoreV1Api) -> None:
    forward = portforward(core.connect_get_namespaced_pod_portforward, "web", NAMESPACE, ports="8080")
    end = forward.socket(8080)
    end.setblocking(True)
    end.sendall(b"GET /blob HTTP/1.0\r\n\r\n")
    received = b""
    while data := end.recv(65536):
        received += data
    assert received.startswith(b"HTTP/1.0 200 OK")
    assert received.endswith(bytes(range(256)) * 4000)
    assert forward.error(8080) is None


def test_python_client_logs(core: client.CoreV1Api) -> None:
    assert core.read_namespaced_pod_log("web", NAMESPACE, container="setup") == "set up\n"


# Metrics


@pytest.mark.usefixtures("metrics_server")
def test_top(run: Run) -> None:
    def shown(*what: str) -> dict[str, list[str]]:
        lines = run("top", *what, "--no-headers").stdout.splitlines()
        return {line.split()[0]: line.split()[1:] for line in lines}

    until(lambda: "web" in shown("pods"), "the pod in `kubectl top`", timeout=240, interval=1)
    until(lambda: len(shown("nodes")) == 3, "the nodes in `kubectl top`", timeout=240, interval=1)
    assert re.fullmatch(r"\d+Mi", shown("pods")["web"][1])
    containers = run("top", "pods", "web", "--containers", "--no-headers").stdout
    assert {line.split()[1] for line in containers.splitlines()} == {"main", "talker", "reader", "shell"}
    assert "web" in shown("pods", "-l", "app=web")
    assert shown("pods", "-l", "app=other") == {}


@pytest.mark.usefixtures("metrics_server")
def test_a_busy_container_shows(run: Run) -> None:
    create(run, small_pod("busy", "while :; do :; done"))

    def cores() -> float:
        path = f"/apis/metrics.k8s.io/v1beta1/namespaces/{NAMESPACE}/pods/busy"
        answer = run("get", "--raw", path)
        if answer.returncode:
            return 0
        return int(json.loads(answer.stdout)["containers"][0]["usage"]["cpu"].removesuffix("n")) / 1e9

    # Little of a processor is left on a busy machine; a sleeping container would show none at all.
    until(lambda: cores() > 0.01, "a busy container's CPU", timeout=240, interval=1, state=cores)
    run("delete", "pod", "busy", "--wait=false")


@pytest.mark.usefixtures("metrics_server")
@pytest.mark.slow
def test_autoscaler_reads_the_metrics(run: Run) -> None:
    container = {"name": "main", "image": "podlab/toolbox:1", "command": ["sh", "-c", "while :; do :; done"]}
    container["resources"] = {"requests": {"cpu": "10m"}}  # type: ignore[assignment]
    labels = {"app": "burner"}
    template = {"metadata": {"labels": labels}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]}}
    spec = {"selector": {"matchLabels": labels}, "template": template, "replicas": 1}
    create(run, {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "burner"}, "spec": spec})
    assert run("autoscale", "deployment", "burner", "--min=1", "--max=2", "--cpu=50%").returncode == 0

    def replicas() -> str:
        return run("get", "deployment", "burner", "-o", "jsonpath={.status.replicas}").stdout

    describe = lambda: run("describe", "hpa", "burner").stdout  # noqa: E731
    until(lambda: replicas() == "2", "the autoscaler adding a pod", timeout=120, interval=1, state=describe)
    run("delete", "hpa/burner", "deployment/burner", "--wait=false")


def test_nodes_own_metrics_through_the_api_server(run: Run) -> None:
    node = run("get", "pod", "web", "-o", "jsonpath={.spec.nodeName}").stdout
    line = f'container_memory_working_set_bytes{{container="main",namespace="{NAMESPACE}",pod="web"}}'
    path = f"/api/v1/nodes/{node}/proxy/metrics/resource"
    # A kubelet looks at its containers now and then.
    until(lambda: line in run("get", "--raw", path).stdout, "the memory of a young container", timeout=60, interval=0.5)
    summary = json.loads(run("get", "--raw", f"/api/v1/nodes/{node}/proxy/stats/summary").stdout)
    (pod,) = (
        entry
        for entry in summary["pods"]
        if entry["podRef"]["namespace"] == NAMESPACE and entry["podRef"]["name"] == "web"
    )
    assert pod["network"]["rxBytes"] >= 0
    assert summary["node"]["memory"]["availableBytes"] > 0
    assert run("get", "--raw", f"/api/v1/nodes/{node}/proxy/healthz").stdout == "ok"


def test_a_pod_may_not_use_the_nodes_api(run: Run) -> None:
    """Without a credential it is nobody; with the token of its service account it is known, and may not."""
    node = run("get", "pod", "web", "-o", "jsonpath={.status.hostIP}").stdout
    program = (
        "import ssl,urllib.request,urllib.error\n"
        "context = ssl._create_unverified_context()\n"
        "token = open('/var/run/secrets/kubernetes.io/serviceaccount/token').read()\n"
        "for headers in ({}, {'Authorization': 'Bearer ' + token}, {'Authorization': 'Bearer x' + token}):\n"
        f"    request = urllib.request.Request('https://{node}:10250/pods', headers=headers)\n"
        "    try: print(urllib.request.urlopen(request, context=context, timeout=60).status)\n"
        "    except urllib.error.HTTPError as error: print(error.code)\n"
    )
    assert run("exec", "web", "-c", "main", "--", "python3", "-c", program).stdout == "401\n403\n401\n"


def test_nothing_listens_on_the_host_for_the_nodes_api() -> None:
    with socket.socket() as probe:
        probe.settimeout(2)
        assert probe.connect_ex(("127.0.0.1", 10250)) != 0
