"""A learner's code in a process of its own: whatever it does ends in one Called, and harms nobody."""

from __future__ import annotations

import textwrap

import pytest

from podlab.checks import answers, calls, runner
from podlab.checks.bench import Bench
from podlab.checks.contract import Exercise, HandIn, Verdict, failed, passed
from podlab.course import manuscript
from podlab.distributed.harness import process_state
from podlab.waiting import until

SOURCE = """
import os, sys, time
def f(what):
    if what == "set": return {1}
    if what == "keys": return {1: "a number as a key would come back as text"}
    if what == "nan": return float("nan")
    if what == "raise": return [][1]
    if what == "recurse": return f(what)
    if what == "exit": sys.exit(3)
    if what == "end": os._exit(3)
    if what == "hang":
        while True: pass
    if what == "huge": return "x" * 9_000_000
    if what == "print": print("x" * 5_000_000)
    if what == "memory": return len("x" * (1300 << 20))  # less than a box of the grader has
    if what == "child":
        return os.fork() or time.sleep(600)
    return [what, (1, None)]
def g(data):
    data.append(1)
"""


@pytest.mark.parametrize(
    ("what", "kind", "words"),
    [
        ("set", "unfit", "returned a set: {1}"),
        ("keys", "unfit", "returned a dict"),
        ("nan", "unfit", "returned a float: nan"),
        ("raise", "raised", "IndexError: list index out of range in line 7"),
        ("recurse", "raised", "RecursionError"),
        ("exit", "raised", "SystemExit: 3"),
        ("end", "ended", "ended its own process"),
        ("hang", "late", "did not return within 1 s"),
        ("huge", "huge", "gave more than 8 MB back"),
        ("memory", "raised", "MemoryError"),
        ("print", "value", ""),
        ("x", "value", ""),
    ],
)
def test_every_call_ends_in_one_way_and_says_which(what, kind, words):
    called = calls.call(SOURCE, "f", what, seconds=1.0 if what == "hang" else 30.0)
    assert called.kind == kind and words in called.error, called
    assert len(called.output) <= calls.KEPT_OUTPUT
    if not called.ok:
        result = called.trouble("a list", f"f({what!r})")
        assert (
            result.verdict is Verdict.FAIL and result.cause and result.next_step and f"f({what!r})" in result.observed
        )


def test_values_come_back_plain_and_changed_arguments_are_noticed():
    first, second = calls.call_each(SOURCE, "f", [["a"], ["b"]], seconds=30)
    assert (first.value, second.value) == (["a", [1, None]], ["b", [1, None]]) and not first.changed
    assert calls.call(SOURCE, "g", [1], seconds=30).changed


def test_what_was_done_before_an_end_counts():
    kinds = [called.kind for called in calls.call_each(SOURCE, "f", [["a"], ["end"], ["b"]], seconds=30)]
    assert kinds == ["value", "ended", "ended"]


def test_a_child_that_holds_the_pipe_is_not_waited_for():
    """By the pipe alone the end of the process is not seen: the second call came too late in place of ended."""
    first, second = calls.call_each(SOURCE, "f", [["child"], ["end"]], seconds=30)
    assert first.ok and second.kind == "ended", second


def test_lines_that_are_no_answers_do_not_end_a_call():
    """In a box, what Python itself says when it starts comes this way."""
    source = "import os, sys\ndef f():\n    os.write(int(sys.argv[1]), b'a warning\\n' * 9)\n    return 7"
    assert calls.call(source, "f", seconds=30).value == 7


def test_what_was_printed_is_told_with_the_error():
    called = calls.call("def f():\n    print('as far as here')\n    return [][1]", "f", seconds=30)
    assert "it had printed: as far as here" in called.trouble("a list", "f()").observed


@pytest.mark.parametrize("source", ["def f(:", "x = 1", "import no_such_module", "raise SystemExit"])
def test_a_source_that_cannot_be_used_says_so_for_every_call(source):
    found = calls.call_each(source, "f", [[1], [2]], seconds=30)
    assert [called.kind for called in found] == ["unusable"] * 2 and "the cell raised" in found[0].error


def test_processes_that_the_code_started_end_with_it():
    called = calls.call(SOURCE, "f", "child", seconds=30)
    until(lambda: process_state(called.value) in ("Z", "X", "gone"), "the child's end", timeout=10)


def names_of(*cells):
    space = {}
    for cell in cells:
        space |= manuscript._run(manuscript.Document(None, "x", "lesson", {}, ()), textwrap.dedent(cell), space)
    return space


def test_a_function_travels_with_its_cell_its_imports_and_what_it_uses_from_other_cells():
    names = names_of(
        "import math\nLIMIT = 3\ndef helper(x):\n    return math.floor(x) + LIMIT",
        "from collections import Counter\ndef answer(x):\n    return [helper(x), Counter('aa')['a']]\nprint('noise')",
    )
    exercise = Exercise("01.1", "T", 1, (HandIn("answer", "function"),), lambda a, w: None, cluster=False)
    text = answers.collect([exercise], names)["01.1"]["answer"]
    assert "noise" not in text
    assert calls.call(text, "answer", 2.5, seconds=30).value == [5, 2]


def test_a_class_travels_too_and_a_library_function_by_its_name():
    names = names_of("class Node:\n    def __init__(self, x):\n        self.x = x\n    def __call__(self): return 1")
    text = answers.source_of(names["Node"], names, "Node")
    assert "class Node" in text
    assert calls.call(answers.source_of(textwrap.dedent, {}, "f"), "f", "  x", seconds=30).value == "x"


def bench_exercise():
    made = Exercise("01.1", "T", 2, (HandIn("double", "function"),), lambda a, w: a["double"], cluster=False)

    @made.check("doubles", "It doubles", weight=1)
    def doubles(source, bench):
        called = bench.call(source, "double", 4)
        if not called.ok:
            return called.trouble("8", "double(4)")
        return passed("8", "8") if called.value == 8 else failed("8", str(called.value), cause="c", next_step="n")

    return made


@pytest.mark.parametrize(
    ("answer", "score", "words"),
    [
        ("def double(x): return 2 * x", 2.0, "8"),
        ("def double(x): return x", 0.0, "4"),
        ("def double(x): return undefined", 0.0, "NameError"),
        (["int"], 0.0, "it is a list"),
    ],
)
def test_an_exercise_without_a_cluster_is_judged_on_a_bench(answer, score, words):
    report = runner.run(bench_exercise(), {"double": answer}, lambda: Bench(seed=5))
    assert report.score == score and words in report.lines[0].result.observed
