"""A learner's code in a process of its own: whatever it does ends in one Called, and harms nobody."""

from __future__ import annotations

import textwrap
from types import SimpleNamespace

import pytest

from podlab.checks import answers, calls, calm, finite, runner
from podlab.checks.bench import Bench
from podlab.checks.contract import Exercise, HandIn, Inconclusive, Verdict, failed, passed
from podlab.course import manuscript
from podlab.course.fit_for_a_cluster import room as fit_for_a_cluster
from podlab.course.five_services import features
from podlab.course.inside_spark import joins
from podlab.course.map_reduce import means
from podlab.course.networking import spread
from podlab.course.plain import Problem
from podlab.distributed.harness import process_state
from podlab.waiting import until

SOURCE = """
import os, sys, time
def f(what):
    if what == "set": return {1}
    if what == "keys": return {1: "a number as a key would come back as text"}
    if what == "nan": return float("nan")
    if what == "long": return [10**400]
    if what == "raise": return [][1]
    if what == "recurse": return f(what)
    if what == "exit": sys.exit(3)
    if what == "end": os._exit(3)
    if what == "hang":
        while True: pass
    if what == "huge": return "x" * 9_000_000
    if what == "print": print("x" * 5_000_000)
    if what == "memory": return len("x" * (1300 << 20))  # less than a box of the grader has
    if what == "file":
        with open("large", "wb") as file: file.truncate(1 << 30)
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
        ("long", "unfit", "returned a list: [1000"),
        ("raise", "raised", "IndexError: list index out of range in line 8"),
        ("recurse", "raised", "RecursionError"),
        ("exit", "raised", "SystemExit: 3"),
        ("end", "ended", "ended its own process"),
        ("hang", "late", "did not return within 1 s"),
        ("huge", "huge", "gave more than 8 MB back"),
        ("memory", "raised", "MemoryError"),
        ("file", "raised", "File too large"),
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


@pytest.mark.parametrize(
    "line",
    [
        b'{"kind": "value", "value": NaN}',
        b'{"kind": "value", "value": [{"x": -Infinity}]}',
        b'{"kind": "value", "value": 1e999}',
        b'{"kind": "value", "value": %s}' % (b"9" * 400),
        b'{"kind": "value", "seconds": %s}' % (b"9" * 400),
        b'{"kind": "value", "seconds": "nan"}',
        b'{"kind": "value", "seconds": "1e999"}',
    ],
)
def test_a_number_that_cannot_be_compared_is_no_reply(line):
    assert calls.reply(b"seal" + line, "seal") is None
    assert calls.reply(b'seal{"kind": "value"}', "seal") == calls.Called("value")


def test_every_other_number_is_read_as_it_was_written():
    assert finite.read("[0, -1, 1.5, 1e308, 123456789012345678901234567890, true]") == [
        0,
        -1,
        1.5,
        1e308,
        123456789012345678901234567890,
        True,
    ]


def test_a_patched_json_gets_nothing_that_is_no_number_past_a_comparison():
    source = 'import json\ndef f():\n    json.dumps = lambda *a, **k: \'{"kind": "value", "value": NaN}\''
    assert calls.call(source, "f", seconds=30).kind == "ended"


@pytest.mark.parametrize("number", ["float('nan')", "float('inf')", "10**400", "10**5000"])
def test_a_prediction_that_is_no_finite_number_is_not_handed_in(number):
    exercise = Exercise("01.1", "T", 1, (HandIn("p", "prediction"),), lambda a, w: None, cluster=False)
    assert answers.collect([exercise], {"p": eval(number)}) == {"01.1": {}}


def test_nan_is_near_to_nothing_in_the_checks_that_compare_with_a_measured_value(monkeypatch):
    """Second to the reader: what gets here would have to be forged."""
    nan = float("nan")
    assert features.same([1, 0.0, None], [1, 0.0, None]) and not features.same([1, nan, None], [1, 0.0, None])

    mean = SimpleNamespace(means=lambda bench, groups: {"m": nan})
    assert isinstance(means.compared(mean, None, {"m": []}, [("m", 4.0)], "at once"), Problem)

    joined = SimpleNamespace(
        facts=lambda trial: {"records": [["m", ["Title", nan]]]},
        given={"t": (([("m", 4.0)], 1), ([("m", "Title")], 1))},
    )
    assert isinstance(joins.right(joined, "t"), Problem)

    monkeypatch.setattr(spread, "play", lambda scene: None)
    monkeypatch.setattr(spread, "names", lambda pods: ["a", "b", "c"])
    monkeypatch.setattr(spread, "share", lambda window, name: 100 / 3)
    told = dict.fromkeys(spread.PREDICTIONS, 100 / 3)
    for wrong, verdict in (({}, Verdict.PASS), ({"share_of_two": nan}, Verdict.FAIL)):
        scene = SimpleNamespace(answer={**told, **wrong}, pods=[], victim="a", window=1, clear=1, kept=1)
        assert spread.predicted(scene, None).verdict is verdict


def test_what_was_printed_is_told_with_the_error():
    called = calls.call("def f():\n    print('as far as here')\n    return [][1]", "f", seconds=30)
    assert "it had printed: as far as here" in called.trouble("a list", "f()").observed


@pytest.mark.parametrize("source", ["def f(:", "x = 1", "import no_such_module", "raise SystemExit"])
def test_a_source_that_cannot_be_used_says_so_for_every_call(source):
    found = calls.call_each(source, "f", [[1], [2]], seconds=30)
    assert [called.kind for called in found] == ["unusable"] * 2 and "the cell raised" in found[0].error


def test_processes_that_the_code_started_end_with_it():
    called = calls.call(SOURCE, "f", "child", seconds=30)
    until(lambda: process_state(called.value) in ("Z", "X", "gone"), "the child's end", timeout=60)


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
        (["int"], 0.0, "it is a int"),
    ],
)
def test_an_exercise_without_a_cluster_is_judged_on_a_bench(answer, score, words):
    report = runner.run(bench_exercise(), {"double": answer}, lambda: Bench(seed=5))
    assert report.score == score and words in report.lines[0].result.observed


ENDS_ITS_PARENT = "import os, signal\ndef serve():\n    os.kill(os.getppid(), signal.SIGKILL)"


def test_a_program_that_ends_what_has_started_it_fails_at_once_and_is_told_why(monkeypatch):
    monkeypatch.setattr(calm.Meter, "share", lambda _meter: 0.0)
    monkeypatch.setattr(Bench, "steady", lambda _bench: True)
    made = Exercise("01.1", "T", 2, (HandIn("serve", "program"),), lambda a, w: a["serve"], cluster=False)

    @made.check("serves", "It serves", weight=1)
    @fit_for_a_cluster.played("serve", "it answers")
    def serves(room, bench):
        return room.serve("/").ask("/").text

    report = runner.run(made, {"serve": ENDS_ITS_PARENT}, lambda: Bench(seed=5))
    result = report.result("serves")
    assert (result.verdict, report.score, report.attempts) == (Verdict.FAIL, 0.0, 1), result
    assert "the process that had started it was ended" in result.observed


def test_a_room_that_has_ended_before_any_program_ran_is_not_the_programs_doing():
    with fit_for_a_cluster.Room(Bench(seed=5), "", "serve") as room:
        room._talk._process.end()
        with pytest.raises(Inconclusive):
            room.start()


def test_nobody_looks_into_the_process_that_holds_a_room():
    """Its files in /proc are not its user's then: a program cannot write answers in its place."""
    source = (
        fit_for_a_cluster._PROGRAM.read_text() + "\ndef dumpable(): return ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)\n"
    )
    with Bench(seed=5).talk(source, seconds=30) as talk:
        assert talk.ask("dumpable") == 0


def test_two_threads_that_print_at_once_lose_neither_line():
    # What `print` makes of it when the other thread comes between a text and the end of its line.
    assert finite.objects('{"user": "a"}{"user": "b"}') == [{"user": "a"}, {"user": "b"}]
    assert finite.objects('{"user": "a"} and words {"user": "b"}') == [{"user": "a"}]
    assert finite.objects('{"user": NaN}') == finite.objects("[" * 100_000) == finite.objects("") == []
