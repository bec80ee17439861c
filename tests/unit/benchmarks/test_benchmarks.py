"""The benchmarks' own tools: a measure that cannot see a fault is worth nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from podlab import waiting
from podlab.widgets import timeline, views

FOLDER = Path(__file__).parents[3] / "benchmarks"
sys.path.insert(0, str(FOLDER))

import cluster_cycles  # noqa: E402
import common  # noqa: E402
import faults_200  # noqa: E402
import kept  # noqa: E402
import kind_vs_embedded  # noqa: E402
import processes  # noqa: E402
import simulator  # noqa: E402
import widget_latency  # noqa: E402
from pods_100 import seconds  # noqa: E402
from pods_300_under_load import linear  # noqa: E402


@pytest.fixture
def child(tmp_path: Path):
    """A process that listens on a TCP port and a Unix socket; says the port."""
    program = f"""
import socket, sys
tcp, unix = socket.socket(), socket.socket(socket.AF_UNIX)
tcp.bind(("127.0.0.1", 0)); tcp.listen()
unix.bind({str(tmp_path / "s")!r}); unix.listen()
print(tcp.getsockname()[1], flush=True)
sum(range(3_000_000))
print("worked", flush=True)
sys.stdin.read()
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    port = int(process.stdout.readline())
    yield process, port, str(tmp_path / "s")
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_a_process_its_sockets_and_its_use_are_seen_and_gone(child) -> None:
    process, port, path = child
    identity = processes.identity(process.pid)
    assert identity is not None
    assert process.pid in processes.descendants(processes.stat(process.pid) and int(processes.stat(process.pid)[1]))
    assert port in processes.listening_ports()
    assert path in processes.unix_sockets()
    assert process.stdout.readline() == b"worked\n"
    used = processes.used(process.pid)
    assert used.resident > 2**20 and used.processes == 1
    waiting.until(lambda: processes.used(process.pid).cpu > 0, "some CPU time", timeout=60)
    process.kill()
    process.wait()
    assert processes.identity(process.pid) is None
    assert port not in processes.listening_ports()
    assert path not in processes.unix_sockets()
    assert processes.used(process.pid) == processes.Used()


def test_a_new_namespace_is_seen_while_somebody_holds_it() -> None:
    before = processes.namespaces(processes.alive())
    held = subprocess.Popen(
        ["unshare", "--user", "--net", "sh", "-c", "echo on; read line"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    if held.stdout.readline() != b"on\n":
        pytest.skip("this kernel gives no user namespaces")
    new = processes.namespaces([held.pid]) - before
    assert {name.partition(":")[0] for name in new} == {"user", "net"}
    assert new <= processes.namespaces(processes.alive())
    held.communicate(b"\n")
    assert not new & processes.namespaces(processes.alive())


def test_an_orphan_is_left_until_it_has_ended_whether_anybody_takes_notice_or_not() -> None:
    started = cluster_cycles.before()
    parent = subprocess.Popen(
        ["unshare", "--user", "--net", "sh", "-c", "sleep 1000 > /dev/null & echo $!; read line"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    if not (said := parent.stdout.readline()):
        pytest.skip("this kernel gives no user namespaces")
    orphan = int(said)
    members = {processes.identity(parent.pid), processes.identity(orphan)}
    at_first = cluster_cycles.Seen(members, processes.namespaces([orphan]) - started.namespaces)
    seen = cluster_cycles.Seen().and_before(at_first)
    parent.stdin.close()
    os.waitid(os.P_PID, parent.pid, os.WEXITED | os.WNOWAIT)
    left = cluster_cycles.left(seen, started)
    assert left["processes"] == [str(orphan)]
    assert {name.partition(":")[0] for name in left["namespaces"]} == {"user", "net"}
    os.kill(orphan, signal.SIGKILL)
    # Neither it, whose parent is another one now, nor its first parent, which waits for us, counts any more.
    waiting.until(lambda: not any(cluster_cycles.left(seen, started).values()), "nothing being left", timeout=60)
    assert processes.stat(parent.pid)[0] == "Z"
    parent.wait()
    parent.stdout.close()


def test_a_server_whose_parents_are_not_the_clusters_is_one_too_many() -> None:
    program = ["python", "-c", f"print(flush=True); input() # {faults_200.MARK}"]
    assert faults_200.servers() == []
    with subprocess.Popen(program, executable=sys.executable, stdin=-1, stdout=-1) as orphan:
        orphan.stdout.readline()
        assert faults_200.servers() == [orphan.pid]
        orphan.communicate(b"\n")
    assert faults_200.servers() == []


def test_a_burner_computes_until_it_is_enough() -> None:
    with processes.burning(1) as (burner,):
        waiting.until(lambda: processes.used(burner).cpu > 0.05, "some CPU time", timeout=60)
    assert processes.identity(burner) is None


def test_strangers_are_those_from_before_and_their_children() -> None:
    program = "import subprocess, sys; p = subprocess.Popen(['cat']); print(p.pid, flush=True); p.wait()"
    with (
        subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as old,
        subprocess.Popen(["cat"], stdin=subprocess.PIPE) as new,
    ):
        child = int(old.stdout.readline())
        known = {processes.identity(old.pid)}
        found = processes.strangers(known)
        assert {old.pid, child} <= found
        assert new.pid not in found and os.getpid() not in found
        assert old.pid not in processes.strangers({(old.pid, 1)})
        old.communicate(b"")
        new.communicate(b"")


def test_parts_are_told_by_command_lines() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()", "-m", "podlab.node.agent"], stdin=subprocess.PIPE) as one:
        waiting.until(lambda: processes.part(one.pid) == "agents", "the command line", timeout=60)
        one.communicate(b"\n")
    with subprocess.Popen(["/bin/cat", "-", "/dev/null"], executable="/bin/cat", stdin=subprocess.PIPE) as other:
        assert processes.part(other.pid) == "pods"
        other.communicate(b"")
    with subprocess.Popen(["/opt/kube-apiserver", "-"], executable="/bin/cat", stdin=subprocess.PIPE) as server:
        waiting.until(lambda: processes.part(server.pid) == "kube-apiserver", "the command line", timeout=60)
        server.communicate(b"")


@pytest.mark.parametrize(
    ("title", "part"),
    [
        ("podlab-zygote node-1", "machines"),
        ("podlab-keeper node-1", "machines"),
        ("podlab.node.agent --configuration x", "agents"),
    ],
)
def test_parts_are_told_by_titles(title: str, part: str) -> None:
    with subprocess.Popen([title, "-"], executable="/bin/cat", stdin=subprocess.PIPE) as one:
        waiting.until(lambda: processes.part(one.pid) == part, "the command line", timeout=60)
        one.communicate(b"")


def test_sums_of_parts() -> None:
    found = {"etcd": processes.Used(1, 2, 3.0, 1), "agents": processes.Used(10, 20, 30.0, 2)}
    assert processes.total(found, ("etcd", "agents", "missing")) == processes.Used(11, 22, 33.0, 3)
    assert processes.Used(cpu=5.0).since(processes.Used(cpu=3.5)) == 1.5


@pytest.mark.parametrize(("percent", "value"), [(50, 50), (99, 99), (100, 100), (1, 1), (0, 1)])
def test_percentiles_are_nearest_ranks(percent: float, value: int) -> None:
    assert common.percentile(list(range(100, 0, -1)), percent) == value
    assert common.percentile([7], percent) == 7


def test_runs_are_made_in_turn() -> None:
    order: list[str] = []
    results = common.interleave(2, a=lambda: order.append("a"), b=lambda: order.append("b") or 1)
    assert order == ["a", "b", "a", "b"]
    assert results == {"a": [None, None], "b": [1, 1]}


def test_times_with_nanoseconds() -> None:
    assert seconds("1970-01-01T00:00:01.500000001Z") == pytest.approx(1.500000001, abs=1e-9)
    assert seconds("1970-01-01T00:00:02Z") == 2.0


@pytest.mark.parametrize(("met", "status"), [(True, 0), (None, 0), (False, 1)])
def test_the_last_line_is_json_and_the_status_tells_the_limit(
    met: bool | None, status: int, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as ended:
        common.finish(common.Figure("x", 3.0, "s", 2.0, "at most 2", met, {"more": 1}), common.machine())
    assert ended.value.code == status
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"name": "x", "value": 3.0, "unit": "s", "floor": 2.0, "ratio": 1.5, "more": 1}.items() <= line.items()
    assert line["machine"]["cores"] >= 1 and line["machine"]["memory"] > 0


@pytest.mark.parametrize("name", ["cluster_up", "cluster_memory", "cluster_cycles", "pods_100"])
def test_every_benchmark_says_what_it_measures(name: str) -> None:
    done = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py"), "--help"], capture_output=True, text=True, check=True
    )
    assert name.replace("_", "-") in done.stdout
    assert "--small" in done.stdout


def test_a_change_that_was_overtaken_counts_until_a_later_one_is_shown() -> None:
    assert widget_latency.latencies([0.0, 60.0, 120.0, 180.0], {1: 10.0, 4: 500.0}) == [10.0, 440.0, 380.0, 320.0]


def test_the_rate_of_changes_is_that_at_which_they_were_made() -> None:
    assert widget_latency.rate_of([0.0, 50.0, 200.0]) == 10.0


def test_the_modules_of_the_widgets_are_all_weighed() -> None:
    shown = {view._esm for view in (views.ClusterMap, views.Staircase, timeline.Timeline)}
    assert sorted(widget_latency.modules().values()) == sorted(len(str(text).encode()) for text in shown)


def test_wrong_stores_of_chapter_03_are_caught_in_simulated_elections_and_right_ones_are_not() -> None:
    right = simulator.answers("03.4", "Store", "reference") | simulator.answers("03.4", "Store", "alternative")
    assert len(right) >= 3
    assert [simulator.runs_until_wrong(made, 20, 0) for made in right.values()] == [None] * len(right)
    wrong = simulator.answers("03.4", "Store")
    caught = {title: simulator.runs_until_wrong(made, simulator.MOST, 0) for title, made in wrong.items()}
    assert len(caught) >= 3 and all(caught.values()), caught


def test_ports_of_the_floor_are_free_ones() -> None:
    from by_hand import _free_port

    with socket.socket() as mine:
        mine.bind(("127.0.0.1", _free_port()))


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of results, an empty one, and the page beside it."""
    monkeypatch.setattr(kept, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(kept, "PAGE", tmp_path / "benchmarks.md")
    monkeypatch.setattr(kept, "CLUSTERS", tmp_path / "clusters.md")
    kept.CLUSTERS.write_text(f"# Before\n\n{kept._BEGIN}old\n{kept._END}\n\nAfter.\n")
    monkeypatch.setattr(common, "_record", False)
    return tmp_path / "results"


def test_a_result_is_kept_when_asked_for_and_stands_on_the_page(results: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["cluster_up.py", "--record"])
    common.options("cluster-up: how long.", repeats=(5, 2, "runs"))
    figure = common.Figure("cluster-up", 3.14159, "s", 6.0, "at most 1.5 x floor", False)
    with pytest.raises(SystemExit) as ended:
        common.finish(figure, common.machine())
    assert ended.value.code == 1
    assert json.loads((results / "cluster-up.json").read_text())["ratio"] == 0.5236
    (row,) = [line for line in kept.PAGE.read_text().splitlines() if line.startswith("| cluster-up ")]
    assert "| 3.142 s | 6 | 0.5236 | **no** |" in row and "at most 1.5 x floor" in row
    assert "\n- pods-100: a Deployment of 100" in kept.PAGE.read_text()  # not kept yet
    assert f"\n- cluster-up: {kept.UNSAID}" in kept.PAGE.read_text()  # why it is missed
    other = kept.CLUSTERS.read_text()
    assert other.startswith("# Before\n") and other.endswith("\n\nAfter.\n") and "old" not in other
    assert "answers through its Service | 3.1 s | not yet measured |" in other


def test_figures_of_one_run_take_the_place_of_single_ones(results: Path) -> None:
    results.mkdir()
    both = {"name": "kind-vs-embedded", "embedded": {"start": 4.08, "ready": 2.0}, "kind": {"start": 31.4}}
    both["embedded"]["gone"], both["kind"]["gone"] = 99.6, 9.96
    (results / "kind-vs-embedded.json").write_text(json.dumps(both))
    text = kept.clusters()
    assert "| start, until a pod could run | 4.1 s | 31 s |" in text
    assert "until all are gone | 100 s | 10 s |" in text, "no 1e+02"
    assert "until all are Ready | 2 s | not yet measured |" in text and "through its Service" not in text


def test_nothing_is_kept_unasked(results: Path, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["cluster_up.py"])
    common.options("cluster-up: how long.", repeats=(5, 2, "runs"))
    with pytest.raises(SystemExit):
        common.finish(common.Figure("cluster-up", 1.0, "s"), common.machine())
    assert not results.exists() and not kept.PAGE.exists()


@pytest.mark.parametrize("other", [["--small"], ["--repeats", "1"]])
def test_a_run_with_other_numbers_is_not_kept(results: Path, monkeypatch, capsys, other: list[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["cluster_up.py", "--record", *other])
    with pytest.raises(SystemExit):
        common.options("cluster-up: how long.", repeats=(5, 2, "runs"))
    assert "only a run with the default numbers is kept" in capsys.readouterr().err


class SlowToHear:
    """A site whose rules follow a change of an endpoint only after some requests, one of which fails."""

    def __init__(self) -> None:
        self.api = self
        self.rules: list[str] = []
        self.changes: list[str] = []

    def get(self, _path: str, **_query: object) -> dict[str, object]:
        return {"items": [{"metadata": {"name": name}, "status": {"podIP": name.upper()}} for name in "abc"]}

    def post(self, path: str, body: dict) -> dict:
        if path == kind_vs_embedded.SLICES:
            return self.put(path, body)
        assert "selector" not in body["spec"], "the endpoints are ours to change"
        return {"spec": {"ports": [{"nodePort": 30000}]}}

    def put(self, _path: str, body: dict) -> dict:
        assert body["metadata"].get("resourceVersion", "") == (str(len(self.changes)) if self.changes else "")
        self.changes.append(body["endpoints"][0]["addresses"][0].lower())
        self.rules = [*self.changes[-2:-1] * 2, "", self.changes[-1]]
        return {"metadata": {"resourceVersion": str(len(self.changes))}}

    def ask(self, port: int) -> str:
        answer = self.rules.pop(0) if len(self.rules) > 1 else self.rules[0]
        if not answer:
            raise ConnectionError
        return answer


def test_an_endpoint_has_changed_when_the_other_pod_answers() -> None:
    site = SlowToHear()
    seconds = kind_vs_embedded.moved(site, 4)  # type: ignore[arg-type]
    assert site.changes == ["a", "b", "a", "b", "a"]
    assert len(seconds) == 4 and min(seconds) > 0 and site.rules == ["a"], "it asked until the last rule was met"


def test_every_benchmark_gives_its_result_the_name_by_which_it_is_called() -> None:
    for name in kept.benchmarks():
        text = (FOLDER / f"{name.replace('-', '_')}.py").read_text()
        assert re.search(rf'Figure\(\s*"{name}"', text), f"{name}: its Figure has another name"


def test_the_page_is_what_the_results_say() -> None:
    assert kept.PAGE.read_text() == kept.page(), "stale: run `python benchmarks/kept.py`"
    assert kept._BEGIN + kept.clusters() + kept._END in kept.CLUSTERS.read_text(), "run `python benchmarks/kept.py`"


def test_each_goal_that_is_missed_has_its_reason_and_no_other_has() -> None:
    results = [json.loads(path.read_text()) for path in kept.RESULTS.glob("*.json")]
    missed = {line["name"] for line in results if line["met"] is False}
    assert missed == set(tomllib.loads((FOLDER / "missed.toml").read_text()))
    assert kept.UNSAID not in kept.page()


@pytest.mark.parametrize(
    ("at_last", "right"),
    [((6.2, 122.0), True), ((5.0, 110.0), True), ((6.2, 150.0), False), ((30.0, 122.0), False)],
)
def test_growth_of_cpu_and_memory_is_judged_without_what_they_start_from(
    at_last: tuple[float, float], right: bool
) -> None:
    assert linear([(10, 0.4, 62.0), (30, 0.8, 66.0), (100, 2.2, 80.0), (300, *at_last)]) is right
