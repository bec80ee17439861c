"""The parts of a world that need no cluster: YAML, descriptions of pods, owners, seeds, answers, windows."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction

import numpy
import pytest

from podlab.checks import answers, owners, registry, runner, seeds
from podlab.checks.api import Api, ApiAway, documents
from podlab.checks.bench import Bench
from podlab.checks.contract import Exercise, HandIn
from podlab.checks.traffic import Record, Window
from podlab.checks.world import container, describe, is_ready, restarts
from podlab.errors import GradingError, UsageError


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no object"),
        ({"kind": "Pod"}, "text is wanted, not dict"),
        ("a: [", "not YAML in line 1"),
        ("- a\n- b", "is a list"),
        ("just words", "is a str"),
        ("kind: Pod\nmetadata: {name: x}", "no apiVersion"),
        ("apiVersion: v1\nkind: Pod", "no metadata"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\n---\n- 3", "is a list"),
        ("apiVersion: v1\nkind: List\nmetadata: {}\nitems: [3]", "is a int"),
        ("apiVersion: v1\nkind: Pod\nmetadata: name", "metadata is a str"),
        ("!!python/object/apply:os.system [id]", "not YAML"),
        ("apiVersion: v1\nkind: [Pod]\nmetadata: {name: x}", "kind is a list"),
        ("apiVersion: v1\nkind: Pod\nmetadata: &m {name: x, again: *m}", "part of"),
        (
            "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
            + "".join(f"{y}: &{y} [{', '.join([f'*{x}'] * 10)}]\n" for x, y in zip("abcdef", "bcdefg", strict=True)),
            "aliases",
        ),
    ],
)
def test_text_that_is_no_manifest_is_told_why(text, words):
    with pytest.raises(ValueError, match=words):
        documents(text)


def test_lists_are_unfolded_and_empty_documents_skipped():
    text = (
        "---\n---\napiVersion: v1\nkind: List\nitems:\n"
        "- {apiVersion: v1, kind: Pod, metadata: {name: a}}\n- {apiVersion: v1, kind: Pod, metadata: {name: b}}\n"
    )
    assert [item["metadata"]["name"] for item in documents(text)] == ["a", "b"]


def pod(**status):
    return {"metadata": {"name": "p", "uid": "u"}, "spec": {"nodeName": "node-1"}, "status": status}


def test_a_pod_in_words_names_what_a_learner_must_see():
    waiting = {"state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}, "restartCount": 2}
    words = describe(pod(phase="Running", containerStatuses=[waiting]))
    assert words == "p on node-1 (Running, not ready, 2 restarts, CrashLoopBackOff: back-off 10s)"
    unplaced = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}
    assert "not scheduled: 0/3 nodes" in describe(pod(phase="Pending", conditions=[unplaced]))
    assert describe({}) == "there is no such pod"


def test_readiness_and_restarts_come_from_the_status():
    ready = pod(conditions=[{"type": "Ready", "status": "True"}], containerStatuses=[{"restartCount": 1}])
    assert is_ready(ready) and restarts(ready) == 1 and container(ready) == {"restartCount": 1}
    assert not is_ready(pod()) and restarts(pod()) == 0 and container(pod(), 3) == {}


def test_a_process_is_known_while_it_lives_and_dead_afterwards():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    label = owners.own(child.pid)
    assert label and not owners.dead(label) and label != owners.own()
    child.communicate(b"\n")
    assert owners.dead(label)
    assert not owners.dead("0123456789-1-1"), "a process of another machine is never called dead"
    assert not owners.dead("unknown")
    assert not owners.dead(owners.own(os.getpid()) or "")


def test_seeds_differ_between_learners_and_exercises_and_are_the_same_every_time():
    assert seeds.seed_for("ada", "15.1") == seeds.seed_for("ada", "15.1")
    found = {seeds.seed_for(who, what) for who in ("ada", "bob") for what in ("15.1", "15.2")}
    assert len(found) == 4


def test_a_learner_keeps_one_name(monkeypatch, tmp_path):
    monkeypatch.setenv("PODLAB_HOME", str(tmp_path))
    monkeypatch.delenv("PODLAB_LEARNER", raising=False)
    assert seeds.learner() == seeds.learner() and len(seeds.learner()) == 12
    monkeypatch.setenv("PODLAB_LEARNER", "ada")
    assert seeds.learner() == "ada"


def test_answers_are_plain_values_and_anything_else_is_left_out():
    def square(number):
        return number * number

    exercise = Exercise(
        "15.1", "T", 1, (HandIn("a"), HandIn("b", "value"), HandIn("f", "function"), HandIn("c", "value")), print
    )
    loop: list[object] = []
    loop.append(loop)
    names = {"a": "text", "b": (1, 2.5, None), "f": square, "c": loop, "secret": 1}
    found = answers.collect([exercise], names)["15.1"]
    assert found["a"] == "text" and found["b"] == [1, 2.5, None] and "return number * number" in found["f"]
    assert set(found) == {"a", "b", "f"}
    assert answers.collect([exercise], {"a": float("nan"), "b": object()})["15.1"] == {}
    assert answers.collect([exercise], {"a": "x" * 300_000})["15.1"] == {}


def test_what_is_no_function_is_told_by_what_it_is():
    @functools.cache
    def square(number):
        return number * number

    exercise = Exercise("15.1", "T", 1, (HandIn("f", "function"),), print, cluster=False)
    exercise.check("one", "One", weight=1)(lambda scene, bench: print())

    def told(value):
        (line,) = runner.run(exercise, answers.collect([exercise], {"f": value})["15.1"], lambda: Bench(seed=1)).lines
        return line.result.observed

    assert "return number * number" in answers.collect([exercise], {"f": square})["15.1"]["f"]
    assert told(5) == "it is a int" and told("def f(): pass") == "it is a str"
    assert told(type("Empty", (), {"__module__": "__main__"})) == "it is a type without a function in it"
    assert told(functools.partial(print, 1)) == "it is a partial without a function in it"


def test_every_kind_of_number_can_be_handed_in():
    class Own(Decimal):
        def __float__(self):
            raise RuntimeError("no")

    exercise = Exercise("15.1", "T", 1, (HandIn("a", "prediction"), HandIn("b", "value")), print)
    for number in (Decimal("2.5"), Fraction(5, 2), numpy.float32(2.5), numpy.longdouble(2.5)):
        assert answers.collect([exercise], {"a": number, "b": [number]})["15.1"] == {"a": 2.5, "b": [2.5]}
    assert answers.collect([exercise], {"a": numpy.int64(2), "b": {"x": numpy.bool_(True)}})["15.1"] == {
        "a": 2,
        "b": {"x": True},
    }
    assert answers.collect([exercise], {"a": Decimal("NaN"), "b": Own(1)})["15.1"] == {}


def record(sent, status=200, who="a"):
    return Record(sent, status, who if status else "", "i", "" if status else "timed out", 0.1)


def test_a_window_counts_failures_and_shares():
    window = Window([record(1), record(2, 503), record(3, 0), record(4, who="b")])
    assert len(window.failed) == 2 and window.share() == {"a": 2, "": 1, "b": 1}
    assert "4 requests, 2 failed" in window.summary() and "nobody 1" in window.summary()
    assert len(window.since(2).until(4)) == 2 and Window([]).summary() == "no request"


def test_unknown_chapters_exercises_and_hidden_folders_are_named(tmp_path):
    with pytest.raises(UsageError, match="no chapter '99'"):
        registry.chapter("99")
    with pytest.raises(UsageError, match=r"15\.1, 15\.2"):
        registry.exercise("15.9")
    with pytest.raises(GradingError, match="no hidden checks"):
        registry.chapter("15", tmp_path)


def test_a_kubeconfig_that_is_missing_or_broken_is_no_traceback(tmp_path):
    broken = tmp_path / "config"
    broken.write_text("not: [a kubeconfig")
    for path in (tmp_path / "none", broken):
        with pytest.raises(ApiAway, match="podlab cluster up"):
            Api.connect(path)


def test_an_api_server_that_is_away_is_said_to_be_away(tmp_path):
    config = tmp_path / "config"
    config.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
        "clusters: [{name: c, cluster: {server: 'https://127.0.0.1:9'}}]\n"
        "users: [{name: u, user: {token: t}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n"
    )
    with pytest.raises(ApiAway, match="does not answer"):
        Api.connect(config).request("GET", "/version")


def test_a_date_stays_text_as_in_kubernetes():
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {day: 2026-01-02}"
    assert documents(text)[0]["data"] == {"day": "2026-01-02"}
