"""The runner: every check runs, trouble of the machine is never a wrong answer, what is void is repeated."""

from __future__ import annotations

import dataclasses
import random
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from podlab.checks import calm, faults, results, runner
from podlab.checks.api import ApiAway
from podlab.checks.contract import (
    Exercise,
    HandIn,
    Inconclusive,
    NotGradable,
    Refused,
    Result,
    Verdict,
    failed,
    passed,
)
from podlab.course.cluster_and_api import handing_over
from podlab.course.logs import scenes as logs
from podlab.course.monitoring import scenes as monitoring
from podlab.errors import GradingError


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("PODLAB_HOME", str(tmp_path))


PASS = passed("this", "that")
FAIL = failed("this", "not that", cause="because", next_step="do")


class Surroundings:
    """A world without a cluster: what the runner needs of one."""

    cluster = "none"

    def __init__(self, steady: bool = True) -> None:
        self.seed, self.nonce, self.random, self.is_steady = 7, "abcd", random.Random(7), steady

    def steady(self) -> bool:
        return self.is_steady

    def deadline(self, seconds: float) -> float:
        return seconds


class Worlds:
    """Counts the worlds that were opened and closed."""

    def __init__(self, *worlds: Surroundings) -> None:
        self.worlds, self.opened, self.closed = list(worlds), 0, 0

    @contextmanager
    def __call__(self):
        world = self.worlds[min(self.opened, len(self.worlds) - 1)] if self.worlds else Surroundings()
        self.opened += 1
        try:
            yield world
        finally:
            self.closed += 1


def exercise(*functions, stage=lambda answer, world: "scene", closing=None, hidden=(), needs=None) -> Exercise:
    made = Exercise("15.1", "T", 10, (HandIn("text"),), stage, closing=closing)
    for function in functions:
        name = function.__name__.replace("_", "-")
        made.check(name, name, weight=1, hidden=name in hidden, needs=(needs or {}).get(name, ()))(function)
    return made


def good(scene, world):
    assert scene == "scene"
    return PASS


def bad(scene, world):
    return FAIL


@pytest.fixture(autouse=True)
def waits(monkeypatch) -> list[float]:
    """The seconds of patience with which a calm machine was waited for; here it always is one."""
    waited: list[float] = []
    monkeypatch.setattr(calm.Meter, "share", lambda _meter: 0.0)
    monkeypatch.setattr(calm, "wait", lambda patience: waited.append(patience) or True)
    return waited


def run(made, worlds=None, answer=None, **options):
    return runner.run(made, {"text": "x"} if answer is None else answer, worlds or Worlds(), **options)


@pytest.mark.parametrize("number", [float("nan"), float("-inf"), -(10**400)])
def test_a_prediction_that_cannot_be_compared_is_a_failure_in_words(number):
    def near(scene, world):
        return FAIL if abs(scene - 2.5) > 1 else PASS

    made = exercise(near, stage=lambda answer, world: answer["text"])
    made = dataclasses.replace(made, handed_in=(HandIn("text", "prediction"),))
    report = run(made, answer={"text": number})
    assert report.score == 0 and report.result("near").verdict is Verdict.FAIL
    assert "nan, infinite, or far too large" in report.result("near").observed
    assert run(made, answer={"text": 2}).passed


@pytest.mark.parametrize(
    ("kind", "value", "right", "words"),
    [
        ("choice", ["nothing"], "nothing", "one of the texts"),
        ("choice", {"nothing": 1}, "nothing", "one of the texts"),
        ("choice", 7, "nothing", "one of the texts"),
        ("prediction", [2.5], 2.5, "a number"),
        ("prediction", "2.5", 2.5, "a number"),
        ("prediction", True, 2.5, "a number"),
    ],
)
def test_an_answer_of_the_wrong_type_is_a_failure_in_words(kind, value, right, words):
    def known(scene, world):
        return PASS if scene in {"nothing": 1, 2.5: 2} else FAIL  # a list cannot be looked up: a TypeError

    made = exercise(known, stage=lambda answer, world: answer["text"])
    made = dataclasses.replace(made, handed_in=(HandIn("text", kind),))
    report = run(made, answer={"text": value})
    found = report.result("known")
    assert report.score == 0 and found.verdict is Verdict.FAIL
    assert words in found.expected and found.observed == f"it is a {type(value).__name__}"
    assert run(made, answer={"text": right}).passed


@pytest.mark.parametrize("value", [7, ["x"], {"x": [1]}, [{"manager": ["team"], "manifest": 3}], True])
def test_a_value_of_the_wrong_type_is_told_by_the_check_that_reads_it(value):
    """A value may be of any kind, so it is the exercise that looks."""
    with pytest.raises(Refused) as refused:
        handing_over.stage({handing_over.NAME: value}, Surroundings())
    assert refused.value.result.verdict is Verdict.FAIL
    scene = SimpleNamespace(answer={"value": value})
    assert "as text" in monitoring.asked(scene, "value", 0.0).next_step
    assert "as text" in logs.found(None, scene.answer, "value", {}).next_step


def test_a_failure_stops_no_other_check_and_the_score_is_the_share():
    report = run(exercise(bad, good))
    assert [line.result.verdict for line in report.lines] == [Verdict.FAIL, Verdict.PASS]
    assert report.score == 5.0 and not report.passed and report.attempts == 1


def test_hidden_checks_run_only_when_asked_for():
    made = exercise(good, bad, hidden=("bad",))
    assert run(made).passed
    assert run(made, hidden=True).score == 5.0


def test_a_check_whose_need_has_failed_is_not_run_and_says_so():
    def never(scene, world):
        raise AssertionError("must not run")

    report = run(exercise(bad, never, needs={"never": ("bad",)}))
    result = report.result("never")
    assert result.verdict is Verdict.FAIL and "has not passed" in result.observed and report.score == 0


def test_an_inconclusive_run_is_repeated_in_a_fresh_world_until_it_speaks(waits):
    tries = iter([Inconclusive("the fault did not bite"), Inconclusive("again"), PASS])

    def fickle(scene, world):
        outcome = next(tries)
        if isinstance(outcome, Result):
            return outcome
        raise outcome

    worlds = Worlds()
    report = run(exercise(fickle), worlds)
    assert report.passed and report.attempts == 3 and (worlds.opened, worlds.closed) == (3, 3)
    assert "the fault did not bite" in report.notes[0]
    assert waits == [runner.PATIENCE] * 2  # before each further attempt, and not before the first


def test_a_run_that_speaks_waits_for_nothing(waits):
    assert run(exercise(bad, good)).attempts == 1
    assert waits == []


def test_what_stays_inconclusive_is_an_infrastructure_error_and_never_scored():
    def void(scene, world):
        raise Inconclusive("no traffic")

    worlds = Worlds()
    report = run(exercise(void, good), worlds)
    assert report.score is None and worlds.opened == runner.ATTEMPTS
    assert report.result("void").verdict is Verdict.INFRASTRUCTURE


@pytest.mark.parametrize("error", [ApiAway("the API server does not answer"), KeyError("status"), RecursionError()])
def test_trouble_of_the_machine_and_defects_of_a_check_are_not_the_learners(error):
    def broken(scene, world):
        raise error

    report = run(exercise(broken), attempts=1)
    assert report.score is None and report.result("broken").verdict is Verdict.INFRASTRUCTURE


def test_an_answer_that_turns_out_unusable_in_a_check_has_failed_it_at_once():
    def refused(scene, world):
        raise Refused(FAIL)

    report = run(exercise(refused, good))
    assert report.result("refused") == FAIL and report.attempts == 1
    assert report.result("good").verdict is Verdict.PASS


def test_a_check_that_returns_no_result_is_a_defect():
    report = run(exercise(lambda scene, world: True), attempts=1)
    assert report.lines[0].result.verdict is Verdict.INFRASTRUCTURE


def test_a_world_that_cannot_be_opened_is_no_wrong_answer():
    @contextmanager
    def no_world():
        raise ApiAway("no cluster")
        yield

    report = runner.run(exercise(good), {"text": "x"}, no_world)
    assert report.score is None and "no cluster" in report.lines[0].result.observed


def test_a_failure_on_a_machine_that_got_slower_is_void():
    report = run(exercise(bad), Worlds(Surroundings(steady=False), Surroundings(steady=True)))
    assert report.attempts == 2 and report.score == 0.0
    report = run(exercise(bad), Worlds(Surroundings(steady=False)), attempts=2)
    assert report.score is None


def test_what_fails_each_time_has_failed_whatever_the_machine_does():
    report = run(exercise(good, bad), Worlds(Surroundings(steady=False)))
    assert report.attempts == 3 and report.score == 5.0


@pytest.fixture
def crowded(monkeypatch):
    monkeypatch.setattr(calm.Meter, "share", lambda _meter: 0.99)


def test_a_failure_on_a_crowded_machine_counts_once_it_has_failed_twice(crowded):
    report = run(exercise(good, bad))
    assert report.attempts == 2 and report.score == 5.0 and "busy" in report.notes[0]


def test_a_failure_that_is_known_is_believed_at_once_whatever_the_machine_does(crowded):
    told = []

    def convinced(lines):
        told.append([line.result for line in lines])
        return True

    report = run(exercise(good, bad), Worlds(Surroundings(steady=False)), convinced=convinced)
    assert report.attempts == 1 and report.score == 5.0 and told == [[PASS, FAIL]]
    assert run(exercise(good, bad), convinced=lambda _lines: False).attempts == 2


def test_a_certain_failure_is_believed_at_once_and_so_is_what_needs_that_check(crowded):
    def unwritten(scene, world):
        return failed("x", "not written", cause="c", next_step="n", certain=True)

    report = run(exercise(good, unwritten, bad, needs={"bad": ["unwritten"]}), Worlds(Surroundings(steady=False)))
    assert report.attempts == 1 and report.result("bad").certain
    doubted = run(exercise(bad, unwritten))
    assert doubted.attempts == 2 and doubted.score == 0.0


def test_what_is_known_says_nothing_where_a_check_proved_nothing(crowded):
    def unclear(scene, world):
        raise Inconclusive("no answer")

    report = run(exercise(bad, unclear), convinced=lambda _lines: True)
    assert report.attempts == 3 and report.score is None


def test_a_failure_on_a_crowded_machine_that_does_not_come_again_costs_nothing(crowded):
    outcomes = iter([FAIL, PASS])

    def shaken(scene, world):
        return next(outcomes)

    report = run(exercise(good, shaken))
    assert report.passed and report.attempts == 2


def test_a_run_that_proves_nothing_does_not_make_a_failure_forgotten(crowded):
    outcomes = iter([FAIL, Inconclusive("no answer"), FAIL])

    def fickle(scene, world):
        outcome = next(outcomes)
        if isinstance(outcome, Result):
            return outcome
        raise outcome

    report = run(exercise(fickle))
    assert report.attempts == 3 and report.score == 0.0


def test_a_crowded_machine_on_which_something_else_fails_each_time_is_never_scored(crowded):
    first, second = iter([FAIL, PASS, FAIL]), iter([PASS, FAIL, PASS])

    def one(scene, world):
        return next(first)

    def other(scene, world):
        return next(second)

    report = run(exercise(one, other))
    assert report.score is None and report.attempts == 3
    assert {line.result.verdict for line in report.lines} == {Verdict.INFRASTRUCTURE}


def test_a_pass_is_not_doubted(crowded):
    report = run(exercise(good), Worlds(Surroundings(steady=False)))
    assert report.passed and report.attempts == 1


def test_not_gradable_costs_nothing():
    def here(scene, world):
        raise NotGradable("no nodes to kill")

    report = run(exercise(good, here))
    assert report.score == 10.0 and report.result("here").verdict is Verdict.NOT_GRADABLE


def test_an_answer_that_is_refused_fails_everywhere_with_the_one_reason():
    def stage(answer, world):
        raise Refused(FAIL)

    report = run(exercise(good, good_too, stage=stage))
    assert report.score == 0.0 and {line.result.observed for line in report.lines} == {"not that"}


def good_too(scene, world):
    return PASS


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({}, "no such name"),
        ({"text": None}, "no such name"),
        ({"text": 3}, "it is a int"),
        ({"text": ["a"]}, "it is a list"),
        ({"text": "  "}, "holds 2"),
        ({"text": "x" * 70_000}, "holds 70000"),
    ],
)
def test_an_answer_of_the_wrong_shape_is_told_what_is_wrong_without_any_world(answer, words):
    worlds = Worlds()
    report = run(exercise(good), worlds, answer)
    assert report.score == 0.0 and words in report.lines[0].result.observed and worlds.opened == 0


def test_the_scene_is_closed_whatever_happens():
    closed = []

    def explode(scene, world):
        raise ApiAway("gone")

    run(exercise(explode, closing=lambda scene, world: closed.append(scene)), attempts=2)
    assert closed == ["scene", "scene"]


def test_a_report_survives_json_and_its_score_is_computed_not_read():
    report = run(exercise(good, bad))
    data = results.to_json(report)
    data["score"] = 10.0
    again = results.from_json(data)
    assert again == report and again.score == 5.0


def test_long_texts_are_cut_and_unfit_evidence_is_dropped():
    def talkative(scene, world):
        return Result(Verdict.PASS, "x" * 9000, "y", evidence={"a": object()})

    line = results.to_json(run(exercise(talkative)))["lines"][0]
    assert len(line["expected"]) <= 2000 and line["evidence"] == {}
    results.validate(results.to_json(run(exercise(talkative))))


@pytest.mark.parametrize(
    "change",
    [
        {"score": -1},
        {"points": 10.5},
        {"lines": []},
        {"extra": 1},
        {"exercise": "../../etc"},
        {"nonce": "x" * 100},
    ],
)
def test_a_forged_or_broken_report_is_refused(change):
    data = {**results.to_json(run(exercise(good))), **change}
    with pytest.raises(GradingError):
        results.from_json(data)


def test_nobody_harms_nodes_while_others_check_and_nobody_checks_while_nodes_are_harmed(monkeypatch):
    monkeypatch.setattr(faults, "PATIENCE", 0.3)
    with faults.undisturbed("c"), faults.undisturbed("c"), faults.undisturbed("other"):
        with faults.exclusive("other2"):
            pass
        with pytest.raises(Inconclusive, match="checking on this cluster"), faults.exclusive("c"):
            pass
    with faults.exclusive("c"), pytest.raises(Inconclusive, match="breaking nodes"), faults.undisturbed("c"):
        pass
    with faults.exclusive("none"):
        assert run(exercise(good), attempts=1).score is None
        quiet = exercise(good)
        quiet.disruptive = True
        assert run(quiet).passed


def test_who_waits_is_told_for_whom(monkeypatch):
    monkeypatch.setattr(faults, "PATIENCE", 0.3)
    said = []
    with faults.exclusive("c", "the lab of chapter 15"):
        assert faults.harmed_by("c") == "the lab of chapter 15"
        with pytest.raises(Inconclusive, match="chapter 15 has been breaking"), faults.undisturbed("c", said.append):
            pass
        with pytest.raises(Inconclusive), faults.exclusive("c", say=said.append):
            pass
    with faults.undisturbed("c", said.append):
        assert faults.harmed_by("c") == ""
    assert len(said) == 2 and all("chapter 15" in line and "rejoin_node" in line for line in said)


#: Another process that has whole nodes, says so, and lets go when it is told to.
OTHER = """
from podlab.checks import faults
with faults.undisturbed("c", lambda text: print("waits", flush=True)):
    print("has them", flush=True)
    input()
"""


def test_who_wants_to_harm_nodes_is_not_kept_waiting_by_those_who_come_later():
    def another():
        return subprocess.Popen([sys.executable, "-c", OTHER], stdin=-1, stdout=-1, text=True)

    waiting, harming, go_on = threading.Event(), threading.Event(), threading.Event()

    def harm():
        with faults.exclusive("c", say=lambda _text: waiting.set()):
            harming.set()
            go_on.wait()

    with another() as first:
        assert first.stdout.readline() == "has them\n"
        thread = threading.Thread(target=harm)
        thread.start()
        assert waiting.wait(60)
        with another() as second:
            assert second.stdout.readline() == "waits\n"
            first.stdin.close()
            assert harming.wait(60)
            go_on.set()
            # It may say once more that it waits, for the node this time.
            assert "has them\n" in iter(second.stdout.readline, "")
            second.stdin.close()
        thread.join()


def test_a_process_that_has_whole_nodes_gets_them_again_though_somebody_waits_to_harm_them():
    waiting = threading.Event()

    def harm():
        with faults.exclusive("c", say=lambda _text: waiting.set()):
            pass

    with faults.undisturbed("c"):
        thread = threading.Thread(target=harm)
        thread.start()
        assert waiting.wait(60)
        with faults.undisturbed("c"):
            pass
    thread.join()


KILLED = """
import os, signal
from podlab.checks import faults
with faults.exclusive("c", "somebody") as note:
    note("node-2")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nodes_that_a_killed_process_has_harmed_are_brought_back_once(monkeypatch):
    subprocess.run([sys.executable, "-c", KILLED], check=False)
    back = []
    monkeypatch.setattr(faults, "of_cluster", lambda _name: SimpleNamespace(rejoin=back.append))
    assert faults.harmed_by("c") == ""
    faults.mend("c")
    faults.mend("c")
    with faults.exclusive("c", "me") as note:
        note("node-1")
        faults.mend("c")
    faults.mend("c")
    assert back == ["node-2"]


@pytest.mark.parametrize("where", ["check", "stage"])
def test_what_hangs_ends_as_the_machines_trouble_and_the_other_checks_are_made(where):
    def hangs(scene, world):
        if scene == where:
            threading.Event().wait()
        return PASS

    clock = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)[1]

    def well(scene, world):
        return PASS

    made = exercise(hangs, well, stage=lambda answer, world: hangs("stage", world) and "check")
    report = run(made, attempts=1, longest=0.2)
    assert report.score is None and report.result("hangs").verdict is Verdict.INFRASTRUCTURE
    assert "did not end within" in report.result("hangs").observed
    assert report.lines[1].result.passed is (where == "check")
    assert (signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)[1]) == clock
