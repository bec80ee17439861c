"""A conversation with a learner's code: it keeps its state, and whatever it does ends in an answer."""

from __future__ import annotations

import pytest

from podlab.checks import runner
from podlab.checks.bench import Bench
from podlab.checks.contract import Inconclusive
from podlab.checks.talks import TalkEnded
from podlab.distributed.harness import process_state

SOURCE = """
import os, time
class Counter:
    def __init__(self, start):
        self.count = start
    def add(self, by):
        self.count += by
        print("noise" * 100_000)
        return self.count
def f(what):
    if what == "end": os._exit(1)
    while what == "hang": pass
    if what == "set": return {1}
    if what == "raise": return [][1]
    if what == "huge": return "x" * 9_000_000
    if what == "pid": return os.getpid()
    if what == "child": return os.fork() or time.sleep(600)
    if what == "slow": time.sleep(3)
    return what
"""


def test_an_object_keeps_its_state_between_questions():
    with Bench(seed=1) as bench, bench.talk(SOURCE, seconds=30) as talk:
        assert talk.make("Counter", 3).ok
        assert [talk.ask("it.add", 2), talk.ask("it.add", 2)] == [5, 7]
        assert talk.make("Counter", 0).ok and talk.ask("it.add", 1) == 1


def test_two_objects_have_names_of_their_own():
    with Bench(seed=1) as bench, bench.talk(SOURCE, seconds=30) as talk:
        assert talk.make("Counter", 3).ok and talk.make("Counter", 10, called="other").ok
        assert [talk.ask("it.add", 1), talk.ask("other.add", 1)] == [4, 11]


def test_what_is_told_may_return_anything_but_has_to_return():
    with Bench(seed=1) as bench, bench.talk(SOURCE, seconds=30) as talk:
        talk.tell("f", "set")
        with pytest.raises(TalkEnded, match=r"f\('raise'\) raised IndexError"):
            talk.tell("f", "raise")


@pytest.mark.parametrize(
    ("what", "kind", "goes_on"),
    [("end", "ended", False), ("hang", "late", False), ("huge", "huge", False), ("set", "unfit", True)],
)
def test_every_question_has_an_answer_and_only_a_lost_process_ends_the_talk(what, kind, goes_on):
    with Bench(seed=1) as bench, bench.talk(SOURCE, seconds=1 if what == "hang" else 30) as talk:
        pid = talk.ask("f", "pid")
        assert talk.call("f", what).kind == kind
        assert talk.call("f", "x").ok is goes_on
    assert process_state(pid) in ("Z", "X", "gone")


def test_a_child_that_holds_the_pipe_is_not_waited_for():
    with Bench(seed=1) as bench, bench.talk(SOURCE, seconds=30) as talk:
        assert talk.call("f", "child").ok
        assert talk.call("f", "end").kind == "ended"


def test_ask_says_what_was_asked_and_what_came():
    with Bench(seed=1) as bench, bench.talk(SOURCE, seconds=30) as talk:
        with pytest.raises(TalkEnded, match=r"f\('raise'\) raised IndexError: list index out of range in line 14"):
            talk.ask("f", "raise")
        with pytest.raises(TalkEnded, match="no attribute"):
            talk.make("Counter", 1)
            talk.ask("it.subtract", 1)


def test_an_answer_that_nobody_waits_for_any_longer_is_not_given_to_the_next_question():
    with Bench(seed=1) as bench, bench.talk(SOURCE, seconds=30) as talk:
        pid = talk.ask("f", "pid")
        with pytest.raises(Inconclusive, match="was ended"), runner._ended_after(0.3, "the check"):
            talk.call("f", "slow")
        assert talk.call("f", "x").kind == "late"
    assert process_state(pid) in ("Z", "X", "gone")


def test_a_source_that_cannot_be_used_says_so():
    with Bench(seed=1) as bench, bench.talk("def f(:", seconds=30) as talk:
        assert talk.call("f", 1).kind == "unusable"
