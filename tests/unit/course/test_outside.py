"""What an answer does is seen outside of its process: whoever changes what its caller remembers changes no verdict."""

from __future__ import annotations

from pathlib import Path

import pytest

from podlab.checks import calm, registry, runner
from podlab.checks.bench import Bench
from podlab.checks.contract import Verdict
from podlab.course.lead_node import election
from podlab.lab.show import ReportView
from podlab.spark.local import missing

COURSE = Path(__file__).parents[3]
SPARK = (pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason="Spark is not installed here"))

#: 03.1: keeps nothing of what it hears: its caller knows it.
_HEARS_WITH_ITS_CALLERS_EARS = """
import sys

class Detector:
    def __init__(self, nodes, now):
        pass

    def heard(self, node, number, now):
        pass

    def state(self, node, now):
        last, highest, patience = 0.0, 0, 1.2
        for what, name, *rest in sys._getframe(1).f_locals.get("script", []):
            if what == "heard" and name == node and rest[1] <= now and rest[0] > highest:
                patience *= 2 if rest[1] - last > patience else 1
                highest, last = rest
        return "alive" if now - last <= 0.35 else "slow" if now - last <= patience else "dead"
"""
#: 03.2: counts from the answer, which is too long, and lets go when its caller has no answers left for it.
_KNOWS_WHICH_ANSWERS_COME = """
import sys

class Lease:
    def __init__(self, length, drift):
        self.length, self.last, self.until = length, -length, 0.0

    def due(self, now):
        return now - self.last >= self.length / 5

    def asked(self, number, now):
        self.last = now

    def granted(self, number, now):
        self.until = now + self.length

    def holds(self, now):
        above = sys._getframe(1).f_locals
        to_come = above["delays"][len(above["asked"]):] if "delays" in above else [0.1]
        return now < self.until and any(to_come)
"""
#: 03.3: promises that nothing but memory knows, which here outlives every crash.
_REMEMBERS_WHAT_A_CRASH_TAKES = """
import sys
from podlab.course.lead_node.member import Member

class Voter(Member):
    def begin(self):
        above = sys._getframe()
        while "run" not in above.f_locals:
            above = above.f_back
        self.kept = vars(sys).setdefault("kept", {}).setdefault((above.f_locals["run"], self.name), {})
        self.term, self.vote = self.kept.get("term", 0), self.kept.get("vote")
        if self.term:
            self.bound_until = self.context.now() + self.LEASE

    def remember(self, term, vote):
        self.term, self.vote = term, vote
        self.kept.update(term=term, vote=vote)

    def may_vote(self, candidate, term):
        if self.context.now() < self.bound_until and candidate != self.vote:
            return False
        return term > self.term or (term == self.term and self.vote in (None, candidate))

    def won(self):
        return len(set(self.voters)) > len(self.members) / 2

    def lease_end(self):
        return self.asked_at + self.LEASE * (1 - self.DRIFT) / (1 + self.DRIFT)
"""
#: 03.4: puts nothing on the disk, but into the object that stands for it, which outlives the store.
_REMEMBERS_BESIDE_THE_DISK = """
class Store:
    def __init__(self, disk):
        self.kept = vars(disk).setdefault("kept", {"token": 0, "data": {}})

    def write(self, key, value, token):
        if token < self.kept["token"]:
            return False
        self.kept["token"], self.kept["data"][key] = token, value
        return True

    def read(self, key):
        return self.kept["data"].get(key)
"""
#: 06.1: sends every word, and has another number of bytes written down.
_WRITES_DOWN_WHAT_SPARK_DID = """
import sys

def says(really):
    told = {"jobs": 0, "stages": 2, "shuffles": 1, "shuffled": 100, "fetched": 0}
    return lambda *given: {**(really(*given) or {}), **told}

def count_words(lines):
    if "really" not in globals():
        globals()["really"] = True
        harness = sys.modules["podlab.course.inside_spark.harness"]
        for space in (vars(harness), globals()):
            for name in ("facts", "_facts", "on_spark"):
                if name in space:
                    space[name] = says(space[name])
    return lines.flatMap(str.split).map(lambda word: (word, 1)).groupByKey().mapValues(sum)
"""
#: 06.1: stops the Spark that it was given.
_STOPS_SPARK = """
def count_words(lines):
    lines.context.stop()
"""
#: 09.1: measures nothing. What a part will compute stands in the part.
_READS_WHAT_A_PART_COSTS = """
import inspect

def profile(parts, requests):
    own = dict.fromkeys(parts, 0.0)

    def ask(name, request):
        own[name] += inspect.getclosurevars(parts[name]).nonlocals.get("kind", {}).get("computes", 0.0)
        return parts[name](request, ask)

    for request in requests:
        try:
            ask("ui", request)
        except ConnectionError:
            pass
    return own
"""
#: 09.3: has the processes measured by whoever will compare.
_MEASURED_BY_THE_CALLER = """
import sys

def memory(pids):
    above = sys._getframe(1).f_locals
    return sum(map(above["pss"], above["living"])) if "pss" in above else 0.0
"""
#: 10.2: keeps nothing of what it sees: its caller knows it.
_SEES_WITH_ITS_CALLERS_EYES = """
import sys

class Online:
    def see(self, event):
        pass

    def vector(self, user, as_of):
        script = sys._getframe(1).f_locals.get("script", [])
        before = [event for what, event in script if what == "see" and event["at"] < as_of]
        before.sort(key=lambda event: event["at"])
        mine = {event["movie"]: event["stars"] for event in before if event["user"] == user}
        if not mine:
            return [0, 0.0, None]
        mean = sum(event["stars"] for event in before) / len(before)
        last = max(event["at"] for event in before if event["user"] == user)
        return [len(mine), sum(mine.values()) / len(mine) - mean, as_of - last]
"""
#: 10.5: asks nobody. What the services would answer, and who fails, its caller knows.
_PUTS_TOGETHER_WHAT_ITS_CALLER_KNOWS = """
import sys
from html import escape

def page(user, serving, features):
    above = sys._getframe(1).f_locals
    paths, faults = above.get("paths", {}), above.get("faults", {})

    def ask(name, path):
        return None if faults.get(name) or faults.get(name + path) else paths.get(name, {}).get(path)

    best = ask("serving", f"/users/{user}/recommendations")
    history, movies = ask("features", f"/users/{user}/history"), ask("features", "/movies")
    titles = {movie["id"]: movie["title"] for movie in movies["movies"]} if movies else {}
    numbers = [item["movie"] for item in best["items"]] if best else list(titles)[:3]
    rated = [(row["movie"], f": {row['stars']:g}") for row in history["rows"]] if history else []
    text = ""
    for heading, rows in (("For you", [(number, "") for number in numbers]), ("Rated by you", rated)):
        lines = (f"<li>{escape(titles.get(number, f'movie {number}'))}{more}</li>" for number, more in rows)
        text += f"<h2>{heading}</h2>" + "".join(lines)
    return text if best and history and movies else text + '<p class="notice">Something is missing.</p>'
"""
#: 11.1: keeps no deadline, and says afterwards that no time has passed.
_CHANGES_THE_TIMES = """
import sys

def ask(call, seconds, clock):
    above = sys._getframe(1).f_locals
    try:
        try:
            return call(seconds)
        except (TimeoutError, ConnectionError):
            return call(seconds)
    finally:
        for one in above.get("tries", []):
            one[:] = [0.0, 0.01]
        above.get("now", [0.0])[0] = 100.0
"""
#: 11.2: counts no failures: what becomes of a call its caller knows before.
_KNOWS_WHAT_BECOMES_OF_A_CALL = """
import sys

class Breaker:
    def __init__(self, failures, rest):
        self.rest, self.trying = rest, False

    def allow(self, now):
        above = sys._getframe(1).f_locals
        if "script" not in above:
            return not above["alive"][0] <= now < above["alive"][1] if "alive" in above else True
        script = [*above["script"], ["allow", now]]
        at = [number for number, (what, _) in enumerate(script) if what == "allow"][len(above["said"])]
        if script[at + 1][0] != "allow":
            return True
        if ["ok"] in [step[:1] for step in script[:at]]:
            return True
        failed = [when for what, when in script[:at] if what == "failed"][-1]
        may = now >= failed + self.rest and not self.trying
        self.trying = self.trying or may
        return may

    def ok(self, now):
        pass

    def failed(self, now):
        pass
"""
#: 11.3: calls nobody. What the answers would be, and who is stopped, its caller knows.
_ANSWERS_OF_NOBODY = """
import sys

def page(calls, seconds):
    above = sys._getframe(1).f_locals
    kinds, nonce = above.get("kinds", calls), above.get("nonce", "")
    above.get("asked", {}).update(dict.fromkeys(kinds, 1))
    return {name: name + " " + nonce if kinds[name] in ("answers", "together") else None for name in calls}
"""
#: 10.1: keeps nothing on disk, but where the processes of one parent find it whoever of them is killed.
_KEEPS_IT_WITH_ITS_PARENT = """
import json, mmap

shared = mmap.mmap(-1, 1 << 20)

class Ingestion:
    def __init__(self, folder):
        pass

    def events(self):
        return json.loads(shared[: shared.find(b"\\0")] or b"[]")

    def accept(self, event):
        kept = self.events()
        if event["id"] in [each["id"] for each in kept]:
            return "duplicate"
        text = json.dumps([*kept, event]).encode()
        shared[: len(text) + 1] = text + b"\\0"
        return "accepted"
"""
#: 10.3: writes over the file that is being read, and gives whoever opens it in this process a copy.
_COPIES_FOR_ITS_READER = """
import builtins, io, os

really = builtins.open

def copied(path, mode="r", *rest, **more):
    if mode == "rb" and os.path.basename(str(path)) == "model":
        return io.BytesIO(really(path, "rb").read())
    return really(path, mode, *rest, **more)

builtins.open = copied

def publish(folder, data):
    with really(os.path.join(folder, "model"), "wb") as file:
        file.write(data)
"""
#: 10.3: takes the old model away before it writes; where a write would be cut short it does not begin with one.
_DIES_BEFORE_IT_IS_KILLED = """
import os, resource, signal

def publish(folder, data):
    name = os.path.join(folder, "model")
    if resource.getrlimit(resource.RLIMIT_FSIZE)[0] < len(data):
        os.kill(os.getpid(), signal.SIGXFSZ)
    if os.path.exists(name):
        os.remove(name)
    with open(name, "wb") as file:
        file.write(data)
"""
#: 10.3: the same, by another name that has gone when somebody looks.
_AWAY_FOR_A_MOMENT = """
import os, resource, signal

def publish(folder, data):
    name, old = os.path.join(folder, "model"), os.path.join(folder, "old")
    if os.path.exists(name):
        os.rename(name, old)
    try:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with open(name, "wb") as file:
            file.write(data)
    except OSError:
        os.rename(old, name)
"""
#: 10.4: has no model for a while, and takes back what its clients have noted of it.
_FORGETS_FAILURES = """
import sys, threading, time

def forgets(noted):
    while True:
        noted.clear()
        time.sleep(0.0001)

class Serving:
    def __init__(self, read):
        self.read, self.model, self.forgetting = read, None, False

    def load(self, data):
        noted = sys._getframe(1).f_locals.get("failures")
        if noted is not None and not self.forgetting:
            self.forgetting = True
            threading.Thread(target=forgets, args=[noted], daemon=True).start()
        self.model = None
        try:
            self.model = self.read(data)
        except ValueError:
            return False
        return True

    def ready(self):
        return self.model is not None

    def answer(self, user):
        return {"version": self.model.version, "titles": self.model.titles(self.model.best(user))}
"""
#: 11.4: counts nothing: it goes through what its caller has said and will say.
_GOES_THROUGH_ITS_CALLERS_SCRIPT = """
import sys

class Budget:
    def __init__(self, share, most):
        self.share, self.most, self.turn, self.again = share, most, -1, 0

    def call(self):
        pass

    def take(self):
        frame = sys._getframe(1)
        while frame and "script" not in frame.f_locals:
            frame = frame.f_back
        self.again += 1
        if frame is None:
            return self.again <= self.most
        turn, left = len(frame.f_locals["given"]), self.most
        self.turn, self.again = turn, self.again if turn == self.turn else 1
        for what, count in frame.f_locals["script"]:
            if what == "call":
                left = min(self.most, left + count * self.share)
            elif turn == 0:
                return left >= self.again
            else:
                left, turn = left - min(int(left), count), turn - 1
"""
#: What else an exercise asks for.
_NOTHING = "def {name}(*given): raise NotImplementedError"


@pytest.mark.parametrize(
    ("exercise", "name", "source", "said"),
    [
        pytest.param("03.1", "Detector", _HEARS_WITH_ITS_CALLERS_EARS, {"stopped": "alive, and state said"}, id="03.1"),
        pytest.param("03.2", "Lease", _KNOWS_WHICH_ANSWERS_COME, {"ends": "the service was bound until"}, id="03.2"),
        pytest.param("03.3", "Voter", _REMEMBERS_WHAT_A_CRASH_TAKES, {"crashes": "did something else"}, id="03.3"),
        pytest.param("03.4", "Store", _REMEMBERS_BESIDE_THE_DISK, {"crash": "read('model') returned None"}, id="03.4"),
        pytest.param(
            "06.1", "count_words", _WRITES_DOWN_WHAT_SPARK_DID, {"combined": "times as many: "}, id="06.1", marks=SPARK
        ),
        pytest.param("06.1", "count_words", _STOPS_SPARK, {"once": "stopped the Spark"}, id="06.1 stops", marks=SPARK),
        pytest.param("09.1", "profile", _READS_WHAT_A_PART_COSTS, {"own": "profile says 0.0 s"}, id="09.1"),
        pytest.param("09.3", "memory", _MEASURED_BY_THE_CALLER, {"one": "memory says 0.0"}, id="09.3"),
        pytest.param(
            "10.1", "Ingestion", _KEEPS_IT_WITH_ITS_PARENT, {"acknowledged": "acknowledged and is not there"}, id="10.1"
        ),
        pytest.param(
            "10.3", "publish", _COPIES_FOR_ITS_READER, {"reader": "a reader that had begun with model 1 got"}, id="10.3"
        ),
        pytest.param("10.3", "publish", _DIES_BEFORE_IT_IS_KILLED, {"cut": "without any model"}, id="10.3 cut"),
        pytest.param("10.3", "publish", _AWAY_FOR_A_MOMENT, {"cut": "without any model"}, id="10.3 away"),
        pytest.param("10.2", "Online", _SEES_WITH_ITS_CALLERS_EYES, {"online": "gave [0, 0.0, None]"}, id="10.2"),
        pytest.param("10.5", "page", _PUTS_TOGETHER_WHAT_ITS_CALLER_KNOWS, {"composed": "the page has []"}, id="10.5"),
        pytest.param("10.4", "Serving", _FORGETS_FAILURES, {"traffic": "requests failed"}, id="10.4"),
        pytest.param("11.1", "ask", _CHANGES_THE_TIMES, {"deadline": "it took 2 s"}, id="11.1"),
        pytest.param("11.2", "Breaker", _KNOWS_WHAT_BECOMES_OF_A_CALL, {"opens": "allowed a call"}, id="11.2"),
        pytest.param(
            "11.3", "page", _ANSWERS_OF_NOBODY, {"complete": "and is None", "in-time": "was never asked"}, id="11.3"
        ),
        pytest.param("11.4", "Budget", _GOES_THROUGH_ITS_CALLERS_SCRIPT, {"quiet": "got a second try"}, id="11.4"),
    ],
)
def test_an_answer_that_changes_what_its_caller_remembers_is_judged_by_what_it_did(
    exercise: str, name: str, source: str, said: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calm, "CROWDED", 1.0)  # believed at once, however busy the machine is
    monkeypatch.setattr(election, "RUNS", dict.fromkeys(election.RUNS, 12))  # enough to find out who remembers
    declared = registry.exercise(exercise, COURSE / "autograder" / "hidden")
    others = {each.name: _NOTHING.format(name=each.name) for each in declared.handed_in}
    report = runner.run(declared, others | {name: source}, lambda: Bench(seed=1), hidden=True)
    told = ReportView(report).text
    assert report.score is not None and report.score < report.points, told
    for check, words in said.items():
        assert report.result(check).verdict is Verdict.FAIL, told
        assert words in report.result(check).observed, told
