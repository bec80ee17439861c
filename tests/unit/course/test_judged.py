"""Checks that call a function: what no machine makes is believed at once on a busy one; all else is looked at again."""

from __future__ import annotations

import pytest

from podlab.checks import calm, runner
from podlab.checks.bench import Bench
from podlab.checks.contract import Exercise, HandIn
from podlab.course.plain import Problem, computed, judged, values

WRONG = "def double(x): return x"
RAISES = "def double(x): return [][x]"
NO_VALUE = "def double(x): return {x}"
NO_PYTHON = "def double(x): return missing\nmissing.x"
UNWRITTEN = "def double(x): raise NotImplementedError"
HANGS = "import time\ndef double(x): time.sleep(600)"
ENDS = "import os\ndef double(x): os._exit(0)"


def doubled(source, bench):
    (value,) = values(bench, source, "double", [[4]], seconds=2)
    return "8" if value == 8 else Problem(f"it is {value}", "It is not doubled.", "2 * x")


def attempts(judge, answer):
    made = Exercise("01.1", "T", 2, (HandIn("double", "function"),), lambda a, _: a["double"], cluster=False)
    made.check("doubles", "It doubles", weight=1)(judge("twice as much")(doubled))
    report = runner.run(made, {"double": answer}, lambda: Bench(seed=5))
    assert report.score == 0.0
    return report.attempts


@pytest.fixture(autouse=True)
def crowded(monkeypatch):
    monkeypatch.setattr(calm.Meter, "share", lambda _meter: 0.99)
    monkeypatch.setattr(calm, "wait", lambda _patience: False)
    monkeypatch.setattr(Bench, "steady", lambda _bench: True)


@pytest.mark.parametrize("answer", [WRONG, RAISES, NO_VALUE, NO_PYTHON])
def test_a_wrong_value_is_believed_at_once_where_only_values_decide(answer):
    assert (attempts(computed, answer), attempts(judged, answer)) == (1, 2)


@pytest.mark.parametrize("answer", [HANGS, ENDS])
def test_a_call_that_did_not_come_back_is_looked_at_again(answer):
    assert (attempts(computed, answer), attempts(judged, answer)) == (2, 2)


def test_what_is_not_written_yet_is_so_on_any_machine():
    assert (attempts(computed, UNWRITTEN), attempts(judged, UNWRITTEN)) == (1, 1)
