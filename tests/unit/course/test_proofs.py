"""What checks take for a proof: neither a machine that stands still for a moment nor an answer that is late decides."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from podlab.checks import answers, registry
from podlab.checks.bench import Bench
from podlab.checks.contract import Inconclusive, Result, Verdict
from podlab.checks.traffic import Record, Reply, Window
from podlab.checks.world import Room, World
from podlab.course import manuscript
from podlab.course.closed_stall import page
from podlab.course.inside_spark import asking
from podlab.course.lead_node import detector
from podlab.course.monitoring import scaling
from podlab.course.networking import diagnosis, moving, sticky
from podlab.course.scenes import Life, time_to_ready, unhealthy, why_not_ready
from podlab.course.self_healing import hanging, node_loss, slow_start, traffic
from podlab.course.split_and_conquer import dispatch

MANUSCRIPT = Path(__file__).parents[3] / "manuscript"


def reference(exercise: str) -> str:
    """The program of an exercise as its manuscript answers it."""
    for document in manuscript.documents(MANUSCRIPT):
        if document.part == "assignment" and str(document.about["chapter"]) == exercise.split(".")[0]:
            names = next(
                case.names
                for case in manuscript.cases(document)
                if case.exercise == exercise and case.kind == "reference"
            )
            (source,) = answers.collect([registry.exercise(exercise)], names)[exercise].values()
            assert isinstance(source, str)
            return source
    raise LookupError(exercise)


def checked(exercise: str, check: str, source: str, old: str, new: str) -> Result:
    """The result of one check on the reference with `new` in place of `old`."""
    assert old in source
    (found,) = [each for each in registry.exercise(exercise).checks if each.id == check]
    with Bench(seed=1) as bench:
        return found.function(source.replace(old, new), bench)


def records(text: str, step: float = 1.0) -> list[Record]:
    """One request a step: a letter is the pod that answered, - is none."""
    return [
        Record(number * step, 0 if pod == "-" else 200, "" if pod == "-" else pod, "", "", 0.0)
        for number, pod in enumerate(text)
    ]


def test_a_program_that_ends_a_moment_after_its_listener_has_lost_what_was_under_way() -> None:
    old = 'idle.wait_for(lambda: under_way == 0, float(os.environ["STOP_SECONDS"]))'
    result = checked("12.3", "in-flight", reference("12.3"), old, "threading.Event().wait(0.3)")
    assert result.verdict is Verdict.FAIL and "got no answer" in result.observed


def test_a_program_that_listens_for_a_part_of_the_drain_only_is_found_out() -> None:
    old = 'threading.Event().wait(float(os.environ["DRAIN_SECONDS"]))'
    new = 'threading.Event().wait(0.2 * float(os.environ["DRAIN_SECONDS"]))'
    result = checked("12.3", "unready", reference("12.3"), old, new)
    assert result.verdict is Verdict.FAIL and "It stops listening at once" in result.cause


NAPS = """
import os, signal, time

def nap(seconds):
    # The whole process stands still; a child of it wakes it up.
    pid = os.fork()
    if pid == 0:
        os.kill(os.getppid(), signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(os.getppid(), signal.SIGCONT)
        os._exit(0)
    os.waitpid(pid, 0)

awake = page

def page(calls, seconds):
    nap(2 * %d * seconds)
    return awake(calls, seconds)
"""


def test_a_process_that_stands_still_is_no_page_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "SECONDS", 0.1)
    with Bench(seed=1) as bench:
        scene = page.Scene(reference("11.3") + NAPS % page.FACTOR)
        with pytest.raises(Inconclusive, match="stood still"):
            scene.page(bench, popular="answers", recommended="stopped", rated="answers")


def test_a_healthy_stall_that_was_not_heard_while_all_stood_still_proves_nothing() -> None:
    run = {"error": "", "value": {"popular": None}, "waited": {}, "stood": 2 * page.STARVED}
    with pytest.raises(Inconclusive):
        page.missing(run, {"popular": "here"})
    assert "should be 'here'" in page.missing(run | {"stood": 0.0}, {"popular": "here"})


@pytest.mark.parametrize(("text", "seconds"), [("aaaa", 0), ("a---b", 2), ("-a--b---", 2), ("", 0), ("----", 3)])
def test_a_site_is_dark_while_requests_are_sent_and_all_fail(text: str, seconds: float) -> None:
    assert node_loss.longest_dark(Window(records(text))) == seconds


def test_a_span_without_any_request_is_not_dark() -> None:
    late = [Record(one.sent + 60, one.status, one.pod, "", "", 0.0) for one in records("a")]
    assert node_loss.longest_dark(Window([*records("a-"), *late])) == 0


def test_a_client_is_remembered_for_as_long_as_was_promised() -> None:
    assert not sticky.moved(records("aaaa"))
    assert sticky.moved(records("aab"), within=1) and sticky.moved(records("aab"))
    assert not sticky.moved(records("aab", step=5), within=4) and sticky.moved(records("aab", step=5))


def test_viewers_of_a_cinema_that_stood_still_prove_nothing() -> None:
    scaling.held_up([Record(0, 503, "a", "", "", scaling.TRAILER + 0.2)])
    with pytest.raises(Inconclusive):
        scaling.held_up([Record(0, 503, "a", "", "", scaling.TRAILER + 2)])


def test_a_story_of_processes_that_were_all_silent_for_long_proves_nothing() -> None:
    peace = [(node, number, at) for number, at in ((1, 0.1), (2, 1.2)) for node in detector.NODES]
    assert detector.undisturbed(detector.Story(peace)).beats == peace
    with pytest.raises(Inconclusive):
        detector.undisturbed(detector.Story([*peace, ("n1", 3, 1.3 + detector.PATIENCE)]))


def test_the_time_until_a_pod_is_ready() -> None:
    state = {"running": {"startedAt": "2026-01-01T00:00:01Z"}}
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:04Z"}
    status = {"conditions": [ready], "containerStatuses": [{"restartCount": 0, "state": state}]}
    assert time_to_ready({"status": status}) == 3
    assert time_to_ready({"status": status | {"conditions": [ready | {"status": "False"}]}}) is None
    assert time_to_ready({"status": status | {"containerStatuses": [{"restartCount": 1, "state": state}]}}) is None


class Stage(Room):
    """A room of three pods without a cluster: `found` are its Events, and the pods answer nothing."""

    def __init__(self, found: list[dict[str, Any]], *, restless: bool = False) -> None:
        self.deleted, self.seen = threading.Event(), threading.Event()
        api = SimpleNamespace(list=lambda *_, **__: found, delete=lambda *_: self.deleted.set())
        super().__init__(World(cast(Any, api), seed=1, namespaces=["stage"]), "stage", "stage")
        self.numbers = itertools.count() if restless else itertools.repeat(0)

    def pods(self) -> list[dict[str, Any]]:
        """With new containers at each look, if they are restless."""
        running = {"containerID": f"c-{next(self.numbers)}", "restartCount": 0, "state": {"running": {}}}
        status = {"conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [running]}
        spec: dict[str, Any] = {"containers": [{}]}
        return [{"metadata": {"name": name, "uid": name}, "spec": spec, "status": status} for name in "abc"]

    def ask(self, *_: Any, **__: Any) -> Reply:
        return Reply(0, {})


class Leaving(Stage):
    """The page is answered when the check has seen which came first, or (`late`) before the node has told anything."""

    def __init__(self, found: list[dict[str, Any]], *, late: bool) -> None:
        super().__init__(found)
        self.awaited = self.deleted if late else self.seen

    def ask(self, *_: Any, method: str = "GET", **__: Any) -> Reply:
        assert method == "POST" or self.awaited.wait(30)
        return Reply(200, {})

    def eventually(self, *arguments: Any, **options: Any) -> Any:
        found = super().eventually(*arguments, **options)
        self.seen.set()
        return found


@pytest.mark.parametrize("year", [1970, 2100])
def test_what_is_seen_first_tells_whether_a_pod_answered_while_it_was_going_whatever_its_nodes_clock(year: int) -> None:
    killing = {"firstTimestamp": f"{year}-01-01T00:00:00Z"}
    assert moving.leave(cast(Any, SimpleNamespace(room=Leaving([killing], late=False)))) == ("a", True)


def test_a_pod_that_answered_before_its_node_began_to_end_it_proves_nothing() -> None:
    with pytest.raises(Inconclusive):
        moving.leave(cast(Any, SimpleNamespace(room=Leaving([], late=True))))


def hung(*, restless: bool) -> hanging.Scene:
    room = Stage([], restless=restless)
    a, b, c = room.pods()
    return hanging.Scene(room, room.world, {pod["metadata"]["uid"]: Life.of(pod) for pod in (a, b, c)}, a, b, c, "")


def test_replicas_that_a_probe_ends_while_they_are_harmed_are_restless() -> None:
    scene = hung(restless=True)
    result = hanging.restarted(scene, scene.world)
    assert result.verdict is Verdict.FAIL and "The probe fails on healthy containers" in result.cause


def test_a_slow_replica_that_was_ended_before_it_could_answer_was_taken_for_dead() -> None:
    scene = hung(restless=True)
    assert hanging.slow_is_not_dead(scene, scene.world).verdict is Verdict.FAIL


def test_a_replica_that_is_silent_and_was_not_ended_proves_nothing() -> None:
    scene = hung(restless=False)
    with pytest.raises(Inconclusive):
        hanging.restarted(scene, scene.world)


def test_probes_are_counted_by_kind() -> None:
    late = "probe failed: it was late"
    found: list[dict[str, Any]] = [{"message": f"Readiness {late}", "count": 3}, {"message": f"Liveness {late}"}]
    assert unhealthy(Stage(found), "a", "Liveness") == 1 and unhealthy(Stage(found), "a") == 4


def _pod(phase: str, ready: bool) -> dict[str, Any]:
    condition = {"type": "Ready", "status": str(ready)}
    return {"metadata": {"name": "web"}, "status": {"phase": phase, "conditions": [condition]}}


@pytest.mark.parametrize(("ready", "said"), [(True, "do not get a place"), (False, "readiness probe")])
def test_a_pod_without_a_place_is_no_fault_of_its_neighbours_probes(ready: bool, said: str) -> None:
    pods = [_pod("Running", ready), _pod("Pending", False)]
    assert said in why_not_ready(cast(Room, SimpleNamespace(pods=lambda: pods)))


@pytest.mark.parametrize(
    ("pod", "words"), [("", "More replicas were taken out"), ("b", "More replicas"), ("a", "The pod counts as Ready")]
)
def test_a_replica_that_is_out_is_not_said_to_get_the_requests_that_others_lose(
    pod: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic, "play", lambda scene: None)
    records = [
        Record(at / 8, 0 if at % 9 == 0 else 200, pod if at % 9 == 0 else "c", "i", "", 0.1) for at in range(160)
    ]
    film = SimpleNamespace(until=lambda moment: {})
    prober = SimpleNamespace(window=lambda start, end=99.0: Window(records).since(start).until(end))
    scene = SimpleNamespace(
        victim={"metadata": {"name": "a"}}, window=None, prober=prober, began=0.0, decided=20.0, became="", film=film
    )
    result = traffic.out_of_traffic(cast(traffic.Scene, scene), cast(World, None))
    assert result.verdict is Verdict.FAIL and result.cause.startswith(words)


def test_a_replica_is_watched_until_a_probe_that_always_fails_would_have_ended_it() -> None:
    def patience(**probe: int) -> int:
        return slow_start._patience({"spec": {"containers": [{"livenessProbe": probe} if probe else {}]}})

    assert patience(periodSeconds=2, failureThreshold=2) == 4 and patience(timeoutSeconds=1) == 30
    assert patience(periodSeconds=2, failureThreshold=600) == 0, "this one cannot end it while it is wedged"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            "import time\ndef hang():\n    time.sleep(1000)\nx = hang()\ndef f(rdd):\n    return rdd",
            "did not return within",
        ),
        ("import time\ndef f(rdd):\n    time.sleep(1000)", "did not return within"),
        ("class SparkAway(Exception):\n    pass\ndef f():\n    raise SparkAway('no')\nx = f()", "SparkAway: no"),
    ],
)
def test_code_that_hangs_beside_spark_is_no_spark_that_does_not_start(
    source: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "available", lambda: None)
    monkeypatch.setattr(asking, "START", 1.0)
    monkeypatch.setattr(asking, "PATIENCE", 1.0 if "x = hang" in source else 60.0)
    with Bench(seed=1) as bench, asking.Beside(bench, source) as beside:
        called = beside.start("f", 1)
    assert not called.ok and words in called.error


@pytest.mark.parametrize(("error", "value"), [("", []), ("IndexError: no", None)])
def test_a_chunk_that_dispatch_has_left_out_is_no_trouble_of_the_machine(error: str, value: list[str] | None) -> None:
    exercise = registry.chapter("01", MANUSCRIPT.parent / "autograder" / "hidden")["01.2"]
    (check,) = [each for each in exercise.checks if each.id == "raises"]
    run = dispatch.Run(value or [], error, caller=1, lines=[], results=[], most=0, left=[])
    scene = SimpleNamespace(dispatched=lambda *_, **__: run)
    result = check.function(scene, cast(World, None))
    assert result.verdict is Verdict.FAIL and "chunk 2 was never begun" in result.observed


def test_a_service_whose_pod_has_not_begun_shows_nothing_of_its_fault_yet() -> None:
    """A right answer called it a wrong selector, as what it was shown said, and lost two points."""
    there = [{"endpoints": [{"addresses": ["10.244.0.9"], "conditions": {"ready": False}}]}]
    slices: dict[str, list[dict[str, Any]]] = {**dict.fromkeys(diagnosis.WORDS, there), "typo": [{"endpoints": []}]}
    assert diagnosis.evident(slices)
    assert not diagnosis.evident({**slices, "asleep": [{"endpoints": None}]})
    assert not diagnosis.evident({**slices, "asleep": []})
