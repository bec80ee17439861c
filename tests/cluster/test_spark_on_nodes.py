"""Spark in pods: executors that are killed in the middle, that come and go with the work, that find no room."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from forwarding import as_told, forwarded, page

from podlab import addons
from podlab import cluster as clusters
from podlab.addons import spark
from podlab.checks.api import Api
from podlab.cluster import Cluster
from podlab.errors import AddonError
from podlab.images import making
from podlab.node.quantity import milli
from podlab.spark import missing
from podlab.waiting import until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=f"{', '.join(missing())} not on this machine: pip install '.[spark]'"),
]

_ADDONS = Path(__file__).resolve().parents[2] / "docs" / "addons.md"
#: Not a verdict on speed.
PATIENCE = 600
PROGRAM = """
import json, time
from pyspark import TaskContext
from pyspark.sql import SparkSession
from measured import measured
spark = SparkSession.builder.getOrCreate()
context = spark.sparkContext
print("session", flush=True)

def held(partition, some):
    if partition == 0 and TaskContext.get().attemptNumber() == 0:
        time.sleep(36000)
    return ((number % 7, 1) for number in some)

pairs = context.parallelize(range(2000), 8).mapPartitionsWithIndex(held)
run = measured(context, pairs.reduceByKey(lambda one, other: one + other, 2).collect)
print("result", json.dumps([sorted(run.value), sorted(run.lost)]), flush=True)
spark.stop()
"""


@pytest.fixture(scope="module")
def api(shared: Cluster) -> Iterator[Api]:
    addons.enable("spark", shared.name)
    yield Api.connect(shared.kubeconfig)
    addons.disable("spark", shared.name)
    assert addons.status("spark", shared.name).state == "disabled"


def result(output: str) -> list:
    (line,) = (line for line in output.splitlines() if line.startswith("result "))
    return json.loads(line.removeprefix("result "))


def test_an_executor_is_killed_in_the_middle_and_the_result_is_the_same(api: Api) -> None:
    made = spark.submit(api, PROGRAM)
    try:
        made.until_printed("session", PATIENCE)

        def holder() -> str:
            """The executor that has the task that never ends by itself."""
            (first,) = made.rest("stages/0/0/taskList?length=100&status=running")
            return f"{made.name}-exec-{first['executorId']}" if first["index"] == 0 else ""

        victim = until(
            holder, "one task in hand", timeout=PATIENCE, interval=0.3, ignore=(Exception,), state=made.state
        )
        made.kill(victim)
        counts, lost = result(made.wait(PATIENCE))
        assert counts == [[key, len(range(key, 2000, 7))] for key in range(7)]
        assert victim.rsplit("-", 1)[1] in lost
    finally:
        made.delete()
    until(lambda: not made.executors(), "the end of the executors", timeout=PATIENCE, state=made.state)


def test_a_program_that_fails_says_its_last_lines(api: Api) -> None:
    made = spark.submit(api, "raise SystemExit('nothing to count')")
    try:
        with pytest.raises(AddonError, match="nothing to count"):
            made.until_printed("a word that it never says", PATIENCE)
        with pytest.raises(AddonError, match="nothing to count"):
            made.wait(PATIENCE)
    finally:
        made.delete()


def test_a_program_that_takes_longer_than_it_may_is_ended_with_its_pods(api: Api, shared: Cluster, tmp_path) -> None:
    file = tmp_path / "endless.py"
    file.write_text("import threading\nthreading.Event().wait()\n")
    command = [sys.executable, "-m", "podlab", "spark", "run", "--timeout=2", f"--name={shared.name}", str(file)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert run.returncode != 0 and "within 2 s" in run.stderr, run
    # Those of the test before may have a grace, too.
    until(lambda: not api.list("Pod", spark.NAMESPACE), "the end of all pods", timeout=PATIENCE)


#: Tasks ask the driver whether they may end, and the driver is told so through the API server.
HELD = """
import json, os, threading, time, urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pyspark.sql import SparkSession

events = {name: threading.Event() for name in ("work", "finish", "leave")}

class Door(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith("/set/"):
            events[self.path.removeprefix("/set/")].set()
        self.send_response(200 if events[self.path.rsplit("/", 1)[1]].is_set() else 404)
        self.end_headers()

    def log_message(self, *_words):
        pass

threading.Thread(target=ThreadingHTTPServer(("", 8099), Door).serve_forever, daemon=True).start()
driver = os.environ["POD_IP"]

def held(some):
    while True:
        try:
            urllib.request.urlopen(f"http://{driver}:8099/finish", timeout=30).close()
            break
        except urllib.error.HTTPError:
            time.sleep(0.2)
    return ((number % 7, 1) for number in some)

context = SparkSession.builder.getOrCreate().sparkContext
print("session", flush=True)
events["work"].wait()
counted = context.parallelize(range(2000), 6).mapPartitions(held).reduceByKey(lambda one, other: one + other, 2)
print("result", json.dumps(sorted(counted.collect())), flush=True)
events["leave"].wait()
context.stop()
"""


def tell(made: spark.Application, word: str) -> None:
    """Set one of the events of the driver of HELD."""
    path = f"/api/v1/namespaces/{spark.NAMESPACE}/pods/{made.name}:8099/proxy/set/{word}"
    assert made.api.raw("GET", path, timeout=PATIENCE).status == 200


def wait_for(made: spark.Application, condition, what: str) -> None:
    until(condition, what, timeout=PATIENCE, interval=0.3, state=made.state)


def looked_at(made: spark.Application, cluster: Cluster, programs: dict[str, Path]) -> None:
    """Spark's own pages and its REST interface, in the way that docs/addons.md tells learners of."""
    (words,) = re.findall(r"^kubectl .* port-forward pod/NAME 4040", _ADDONS.read_text(), re.MULTILINE)
    door = as_told(words.replace("NAME", made.name), programs["kubectl"], cluster.kubeconfig)
    with forwarded(door) as here:
        for name in ("jobs", "stages", "executors"):
            assert f"<title>{made.name} - " in page(f"{here}/{name}/")
        assert "dag-viz" in page(f"{here}/stages/stage/?id=0&attempt=0"), "the graph of a stage"
        with urllib.request.urlopen(f"{here}/api/v1/applications", timeout=PATIENCE) as answer:
            assert [one["name"] for one in json.load(answer)] == [made.name]


def test_with_dynamic_allocation_executors_come_with_waiting_tasks_and_go_when_they_are_idle(
    api: Api, shared: Cluster, programs: dict[str, Path]
) -> None:
    short = {f"spark.dynamicAllocation.{name}": "2s" for name in ("executorIdleTimeout", "shuffleTracking.timeout")}
    made = spark.submit(api, HELD, executors=1, most=3, **short)
    try:
        made.until_printed("session", PATIENCE)
        wait_for(made, lambda: len(made.running()) == 1, "one executor, and no work")
        (first,) = made.executors()
        tell(made, "work")
        wait_for(made, lambda: len(made.running()) == 3, "as many executors as may be")
        # All three have a task in hand, and none is idle before it is told to finish.
        wait_for(made, lambda: len(made.rest("stages/0/0/taskList?status=running")) == 3, "three tasks in hand")
        looked_at(made, shared, programs)
        assert first["metadata"]["name"] in made.running()
        tell(made, "finish")
        made.until_printed("result", PATIENCE)
        assert result(made.output()) == [[key, len(range(key, 2000, 7))] for key in range(7)]
        wait_for(made, lambda: len(made.executors()) == 1, "the idle executors going, to the fewest that are wanted")
        tell(made, "leave")
        made.wait(PATIENCE)
    finally:
        made.delete()


COUNT = """
from pyspark.sql import SparkSession
print("sum", SparkSession.builder.getOrCreate().sparkContext.parallelize(range(100), 4).sum())
"""


def test_an_executor_without_room_is_pending_with_the_schedulers_reason_and_the_others_do_the_work(
    api: Api, worker: str
) -> None:
    node = api.get("Node", worker)
    assert node
    most_of_it = f"{int(0.6 * milli(node['status']['allocatable']['cpu']))}m"
    asked = {
        "spark.kubernetes.executor.request.cores": most_of_it,
        "spark.kubernetes.executor.node.selector.kubernetes.io/hostname": worker,
        "spark.scheduler.maxRegisteredResourcesWaitingTime": "1s",
    }
    made, told = spark.submit(api, COUNT, executors=2, **asked), []
    try:
        assert "sum 4950" in made.wait(PATIENCE, tell=told.append)
    finally:
        made.delete()
    assert [line for line in told if "-exec-" in line and "is Pending" in line and "1 Insufficient cpu" in line], told


@pytest.fixture
def theirs(api: Api, shared: Cluster) -> Iterator[str]:
    """The shared cluster as one of others, to which podlab gives no image; at the end the add-on is as before."""
    lender = str(shared.kubeconfig)
    with clusters.up("theirs", provider_name="existing", kubeconfig=lender, confirmed="podlab-shared") as taken:
        yield taken.name
    addons.enable("spark", shared.name)


@pytest.mark.embedded("kind's nodes have no image that was only built here")
def test_on_a_cluster_of_others_all_pods_run_the_image_that_its_user_names(
    api: Api, theirs: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    named = "registry.example.org/ada/spark:4.3"
    (tmp_path / "Dockerfile").write_text(f"FROM {spark.reference()}\n")
    making.put(tmp_path, named)
    monkeypatch.setenv(spark.NAMED, named)
    addons.enable("spark", theirs)
    made = spark.submit(api, "import pyspark; print('Spark', pyspark.__version__)")
    try:
        assert made.wait(PATIENCE).startswith("Spark 4.")
        (driver,) = (pod for pod in api.list("Pod", spark.NAMESPACE) if pod["metadata"]["name"] == made.name)
        (container,) = driver["spec"]["containers"]
        (told,) = (one["value"] for one in container["env"] if one["name"] == "PYSPARK_SUBMIT_ARGS")
        assert container["image"] == named and f"spark.kubernetes.container.image={named} " in told, "executors', too"
    finally:
        made.delete()


@pytest.mark.embedded("on kind it would cost making and loading the image again")
def test_an_image_that_the_nodes_cannot_get_is_said_of_the_driver(
    api: Api, theirs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = "registry.example.org/ada/nothing:1"
    monkeypatch.setenv(spark.NAMED, named)
    addons.enable("spark", theirs)
    made = spark.submit(api, COUNT)
    try:
        waits = until(lambda: made.hindered().get(made.name), "the driver waiting", timeout=PATIENCE, interval=0.2)
        assert "Pull" in waits and named in waits
    finally:
        made.delete()


def test_an_executor_that_no_node_could_hold_is_refused_before_anything_is_made(api: Api) -> None:
    with pytest.raises(AddonError, match="it would stay Pending for ever"):
        spark.submit(api, "print(1)", memory="9000g")
    assert api.list("Pod", spark.NAMESPACE, labelSelector="spark-role=driver") == []
