"""Programs that know nothing of these nodes, as others publish them: served, probed, kept, asked by their own clients.

All are under the Pod Security Standard `restricted`, so none is root, has a capability, or is without a seccomp filter.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from lifecycle import PATIENCE, Pods, container, is_ready, pod

from movies.bus import server as broker
from podlab import paths
from podlab.cluster import Cluster
from podlab.images.build import build
from podlab.images.layout import ImageLayout
from podlab.images.reference import Reference
from podlab.waiting import until

pytestmark = [
    pytest.mark.embedded("the images are built into the store of embedded nodes"),
    pytest.mark.namespaces("programs that are not Python know no address of their pod there"),
]

PROGRAMS = Path(__file__).with_name("programs")


@pytest.fixture(scope="module")
def wheels() -> Path:
    """What is in the wheels of programs/wheels.txt, fetched once for all runs into the user's own cache."""
    pins = PROGRAMS / "wheels.txt"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PODLAB_HOME")
        cache = paths.private(paths.cache() / "test-programs")
    kept = cache / hashlib.sha256(pins.read_bytes()).hexdigest()[:12]
    if not kept.is_dir():
        with tempfile.TemporaryDirectory(prefix="fetch-", dir=cache) as scratch:
            command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
            command += ["--no-compile", "--only-binary=:all:", "--require-hashes", "--requirement", str(pins)]
            command += ["--target", f"{scratch}/whole"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert "DO NOT MATCH THE HASHES" not in done.stderr, done.stderr
            if done.returncode:
                pytest.skip(f"pip cannot fetch {pins.name} here: {done.stderr.strip().splitlines()[-1]}")
            with contextlib.suppress(OSError):  # another run has had the same at the same time
                Path(scratch, "whole").rename(kept)
    return kept


class Room:
    """A namespace under the standard `restricted`: programs/NAME.yaml runs in it, and one pod `client` asks."""

    def __init__(self, pods: Pods) -> None:
        self.pods = pods
        pods.run("label", "namespace", pods.namespace, "pod-security.kubernetes.io/enforce=restricted")

    def image(self, name: str, context: Path) -> str:
        """Build programs/Dockerfile.`name` with the files of `context`; returns the image's name."""
        image = f"programs/{name}:1"
        layout = ImageLayout(paths.cache() / "images")
        build(layout, context, [Reference.parse(image)], file=PROGRAMS / f"Dockerfile.{name}")
        return image

    def apply(self, name: str) -> None:
        self.pods.run("apply", "-f", str(PROGRAMS / f"{name}.yaml"))

    def rolled_out(self, workload: str) -> None:
        """Wait until all pods of `deployment/NAME` or `statefulset/NAME` are ready."""
        self.pods.run("rollout", "status", workload, f"--timeout={PATIENCE}s")

    def client(self, image: str, **spec: Any) -> str:
        """Have the pod `client`, which does nothing by itself; returns its address."""
        rights = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        user = {"runAsUser": 1000, "runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
        main = {**container(), "image": image, "securityContext": rights}
        self.pods.apply(pod("client", main, securityContext=user, **spec))
        return self.pods.ready("client")["podIP"]

    def ask(self, *command: str) -> str:
        """What a command in the pod `client` prints."""
        return self.pods.run("exec", "client", "--", *command).strip()

    def reached(self, *command: str) -> str:
        """What it prints once it can: rules of Services follow endpoints, and a rollout waits for neither."""
        return until(lambda: self.ask(*command), f"an answer to {command}", timeout=PATIENCE, ignore=(AssertionError,))

    def refused(self, *command: str) -> str:
        """What a command in the pod `client` complains about before it fails."""
        with pytest.raises(AssertionError) as caught:
            self.ask(*command)
        return str(caught.value)


@pytest.fixture
def room(shared: Cluster, kubectl: Any, namespace: str) -> Room:
    return Room(Pods(kubectl, shared, namespace))


def test_nginx_serves_on_port_80_without_root_and_sees_who_asks(room: Room, wheels: Path) -> None:
    room.image("nginx", wheels)
    room.apply("nginx")
    address = room.client("podlab/toolbox:1")
    room.rolled_out("deployment/nginx")
    assert room.reached("curl", "-fsS", "http://nginx/") == "served by nginx"
    servers = [one["metadata"]["name"] for one in room.pods.get("pods", "-l", "app=nginx")["items"]]
    expected = {f"{name} {address}" for name in servers}
    answers: set[str] = set()

    def all_answer() -> bool:
        answers.add(room.ask("curl", "-fsS", "http://nginx/who"))
        return answers >= expected

    until(all_answer, f"answers {expected}", timeout=PATIENCE, state=lambda: answers)
    assert answers == expected
    # /dev/stdout is the container's log.
    until(lambda: all(f"{address} - - [" in room.pods.logs(name) for name in servers), "both logs", timeout=PATIENCE)


_VALKEY = """
import sys, valkey
store = valkey.Valkey("valkey", decode_responses=True)
if sys.argv[1] == "write":
    with store.pubsub() as heard:
        heard.subscribe("news")
        assert heard.get_message(timeout=60)["type"] == "subscribe"
        assert store.publish("news", "hello") == 1
        assert heard.get_message(timeout=60)["data"] == "hello"
    for number in range(1000):
        store.incr("counted")
    assert store.bgsave()  # a fork
    print(store.client_info()["addr"].split(":")[0])
elif sys.argv[1] == "saved":
    print(store.info("persistence")["rdb_last_bgsave_status"], store.info("persistence")["rdb_bgsave_in_progress"])
elif sys.argv[1] == "stop":
    store.shutdown(nosave=True)
else:
    print(store.get("counted"), store.info("server")["run_id"])
"""


def test_valkey_keeps_what_it_logged_through_the_end_of_its_container(room: Room, wheels: Path) -> None:
    image = room.image("valkey", wheels)
    room.apply("valkey")
    address = room.client(image)
    room.rolled_out("deployment/valkey")

    room.reached("python3", "-c", _VALKEY, "read")
    assert room.ask("python3", "-c", _VALKEY, "write") == address
    until(lambda: room.ask("python3", "-c", _VALKEY, "saved") == "ok 0", "the snapshot", timeout=PATIENCE)
    counted, first = room.ask("python3", "-c", _VALKEY, "read").split()
    room.ask("python3", "-c", _VALKEY, "stop")
    name = room.pods.get("pods", "-l", "app=valkey")["items"][0]["metadata"]["name"]
    room.pods.wait(name, lambda status: status["containerStatuses"][0]["restartCount"] and is_ready(status), "again")
    again, second = room.reached("python3", "-c", _VALKEY, "read").split()
    assert counted == again == "1000" and first != second


def test_postgres_finds_its_data_in_the_claim_after_its_pod_was_deleted(room: Room, wheels: Path) -> None:
    image = room.image("postgres", wheels)
    room.apply("postgres")
    address = room.client(image)
    room.rolled_out("statefulset/postgres")

    def said(text: str) -> str:
        return room.ask("psql", "postgresql://postgres:only-for-tests@postgres/postgres", "-Atc", text)

    room.reached("pg_isready", "-h", "postgres")
    said("CREATE TABLE films AS SELECT n, md5(n::text) AS title FROM generate_series(1, 100000) AS n")
    # Workers that are given their part in shared memory.
    parallel = "SET debug_parallel_query = on; SET min_parallel_table_scan_size = 0; SET parallel_setup_cost = 0; "
    assert re.search(r"Workers Launched: [1-9]", said(parallel + "EXPLAIN ANALYZE SELECT count(*) FROM films"))
    assert said("SELECT inet_client_addr()") == address
    before = room.pods.get("pod", "postgres-0")["metadata"]["uid"]
    room.pods.delete("postgres-0")

    def again() -> bool:
        found = room.pods.get("pod", "postgres-0")
        return found["metadata"]["uid"] != before and is_ready(found["status"])

    # Not by the rollout's status, which may still count the pod that is gone.
    until(again, "another postgres-0 being ready", timeout=PATIENCE, interval=0.2, ignore=(AssertionError,))
    room.reached("pg_isready", "-h", "postgres")
    assert said("SELECT count(*), sum(n) FROM films") == "100000|5000050000"
    assert "database system was shut down at" in room.pods.logs("postgres-0"), "it was told to end, and did"


_NATS = """
import asyncio, sys, nats
async def main():
    bus = await nats.connect("nats://nats")
    streams = bus.jetstream()
    if sys.argv[1] == "write":
        await streams.add_stream(name="films", subjects=["films.>"], num_replicas=3)
        for number in range(100):
            # Said twice, it is kept once.
            await streams.publish("films.watched", str(number).encode(), headers={"Nats-Msg-Id": str(number)})
        print((await streams.stream_info("films")).cluster.leader)
    else:
        seen = await streams.pull_subscribe("films.>", stream="films")
        print(sum(int(message.data) for message in await seen.fetch(100, timeout=60)))
    await bus.close()
asyncio.run(main())
"""


def test_nats_servers_find_each_other_and_keep_a_stream_without_its_leader(room: Room, tmp_path: Path) -> None:
    shutil.copy(broker.program(), tmp_path / "nats-server")
    room.image("nats", tmp_path)
    room.apply("nats")
    room.client("podlab/python:3")
    room.rolled_out("statefulset/nats")
    # While a leader is elected, requests find nobody.
    leader = room.reached("python3", "-c", _NATS, "write")
    room.pods.delete(leader)
    assert room.reached("python3", "-c", _NATS, "read") == str(sum(range(100)))
    room.rolled_out("statefulset/nats")


_API = """
from kubernetes import client, config, watch
config.load_incluster_config()
namespace = open("/var/run/secrets/kubernetes.io/serviceaccount/namespace").read()
core = client.CoreV1Api()
for event in watch.Watch().stream(core.list_namespaced_pod, namespace, timeout_seconds=60):
    print(event["type"], event["object"].metadata.name)
    break
try:
    core.delete_namespaced_pod("client", namespace)
except client.ApiException as error:
    print(error.status, error.reason)
"""


def test_kubectl_and_the_python_client_may_what_the_role_of_their_pod_says(
    room: Room, programs: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copy(programs["kubectl"], tmp_path / "kubectl")
    image = room.image("kubectl", tmp_path)
    room.apply("watcher")
    room.client(image, serviceAccountName="watcher")
    here = room.pods.namespace
    account = f"system:serviceaccount:{here}:watcher"
    assert room.ask("kubectl", "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}") == account
    assert room.ask("kubectl", "get", "pods", "-o", "name") == "pod/client"
    for command, verb, what, where in (
        ("delete pod client", "delete", "pods", here),
        ("get secrets", "list", "secrets", here),
        ("get pods -n default", "list", "pods", "default"),
    ):
        said = room.refused("kubectl", *command.split())
        assert f'User "{account}" cannot {verb} resource "{what}"' in said and f'namespace "{where}"' in said
    assert room.ask("python3", "-c", _API).splitlines() == ["ADDED client", "403 Forbidden"]
