"""Asking Spark in processes of their own: with a learner's code beside it, or for the truth about Spark itself.

Spark and what is measured are in a process of ours: what the learner's code changes in its own changes no number.
"""

from __future__ import annotations

import atexit
import json
import threading
from contextlib import ExitStack
from dataclasses import replace
from importlib import resources

from podlab.checks.bench import Bench
from podlab.checks.calls import Called
from podlab.checks.contract import Inconclusive, Json, NotGradable
from podlab.checks.talks import Talk, TalkEnded
from podlab.spark.local import missing

#: Seconds for an answer on an idle machine.
PATIENCE = 90.0
#: Seconds for the start of Spark. It is no part of anybody's answer, and on a busy machine it takes minutes.
START = 600.0
#: Seconds after which a Spark that nobody asks ends.
IDLE = 120.0
_PACKAGES = ("podlab", "podlab.spark", "podlab.course", "podlab.course.inside_spark")
_MODULES = (
    ("podlab.spark", "local"),
    ("podlab.spark", "measured"),
    ("podlab.course.inside_spark", "harness"),
    ("podlab.course.inside_spark", "desk"),
)
#: Makes our modules out of their texts, since a box has no podlab.
_LOADER = """

def _load(modules, packages):
    import sys, types
    for name in packages:
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = []
    for name, text in modules.items():
        made = sys.modules[name] = types.ModuleType(name)
        exec(compile(text, name, "exec"), vars(made))
    return sys.modules["podlab.course.inside_spark.harness"], sys.modules["podlab.course.inside_spark.desk"]

"""


def available() -> None:
    """Raise NotGradable if Spark is not installed here."""
    if lacks := missing():
        raise NotGradable(f"{' and '.join(lacks)} not installed here. Get them with: pip install {' '.join(lacks)}")


def _text() -> str:
    modules = {
        f"{package}.{name}": resources.files(package).joinpath(f"{name}.py").read_text() for package, name in _MODULES
    }
    # After the learner's source, so that the numbers of its lines stay as they are.
    loaded = f"_load({json.dumps(modules)}, {json.dumps(_PACKAGES)})"
    lines = (
        f"_harness, _desk = {loaded}",
        "is_written, join_spark, on_spark, collected = _harness.bind(globals())",
        "tasks_of, again_on_spark, warm = _desk.tasks_of, _desk.again, _harness.warm",
        "keep, give, look, facts = _harness.keep, _harness.give, _harness.look, _harness.facts",
    )
    return _LOADER + "\n".join(lines) + "\n"


class Beside:
    """A conversation with a learner's code that has Spark beside it, in a process of ours."""

    def __init__(self, bench: Bench, source: str) -> None:
        available()
        self._bench, self._stack, self._source = bench, ExitStack(), source + _text()

    def __enter__(self) -> Beside:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _opened(self, source: str, *options: str) -> Talk:
        seconds = self._bench.deadline(PATIENCE)
        return self._stack.enter_context(Talk(source, seconds=seconds, start=self._bench.start, options=options))

    def start(self, name: str, arguments: int) -> Called:
        """Start Spark; how it went. Inconclusive if Spark does not start.

        Not ok if the function is not written yet, or if the learner's code hangs, which is no trouble of the machine.
        """
        called = self._opened(self._source).call("is_written", name, arguments, seconds=START)  # it may start a Spark
        if not called.ok:
            return called
        self._stack.close()
        self._bench.afresh()
        self._keeper = self._opened(_text(), "-P")  # takes no module from the folder that it is in
        kept = self._keeper.call("keep", seconds=START)
        if not kept.ok:
            raise Inconclusive(f"Spark {kept.error}")
        self._code = self._opened(self._source)
        return self._code.call("join_spark", *kept.value, seconds=START)

    def call(self, name: str, *given: tuple[list[Json], int]) -> Called:
        """How a call of the learner's function with an RDD for each (records, partitions) went.

        Its value has the records, and what Spark says that it did; or what was `returned` that is no RDD.
        """
        try:
            rdds = self._keeper.ask("give", [list(one) for one in given])
            called = self._code.call("on_spark", name, rdds)
            self._keeper.ask("look")
            if not called.ok:
                return called
            if isinstance(called.value, dict) and "returned" in called.value:
                return replace(called, value={"returned": str(called.value["returned"])[:60]})
            called = self._code.call("collected")
            self._keeper.ask("look")
            if not called.ok:
                return called
            if not isinstance(called.value, list):
                return replace(called, value={"returned": type(called.value).__name__})
            return replace(called, value={"records": called.value, **self._keeper.ask("facts")})
        except TalkEnded as ended:
            if ended.called.kind == "late":
                raise Inconclusive(f"Spark {ended.called.error}") from ended
            # It has answered before: whatever ended it was done from beside it.
            return replace(ended.called, error="stopped the Spark that it was given, or ended it")


class _Desk:
    """One Spark of this process for the truth about Spark; it starts when it is asked, and ends when nobody asks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._talk: Talk | None = None
        self._known: dict[str, Json] = {}
        self._timer: threading.Timer | None = None
        atexit.register(self.close)

    def ask(self, bench: Bench, name: str, *arguments: Json) -> Json:
        """What Spark does; Inconclusive if it cannot be asked."""
        available()
        key = json.dumps([name, arguments])
        with self._lock:
            if key not in self._known:
                self._known[key] = self._asked(bench, name, arguments)
            return self._known[key]

    def _asked(self, bench: Bench, name: str, arguments: tuple[Json, ...]) -> Json:
        if self._timer is not None:
            self._timer.cancel()
        if self._talk is None:
            self._talk = Talk(_text(), seconds=bench.deadline(PATIENCE)).__enter__()
            self._talk.call("warm", seconds=START)
        try:
            return self._talk.ask(name, *arguments)
        except TalkEnded as ended:
            self._end()
            raise Inconclusive(f"Spark could not be asked: {ended}") from ended
        finally:
            self._timer = threading.Timer(IDLE, self.close)
            self._timer.daemon = True
            self._timer.start()

    def close(self) -> None:
        """End Spark; what it said is remembered."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._talk is not None:
            self._talk.__exit__()
            self._talk = None


DESK = _Desk()
