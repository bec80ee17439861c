"""Where an exercise ends a process of the learner's code, no file of its own takes what it knew into the next one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from boxed_answers import COURSE, open_house

from podlab.checks import registry, runner
from podlab.checks.contract import Verdict
from podlab.course import manuscript
from podlab.course.logs import shipping
from podlab.grading.boxed import BoxedBench
from podlab.grading.house import House
from podlab.lab.show import ReportView

pytestmark = pytest.mark.sandbox

#: 03.4: the disk holds the name of a file, and the file the rest.
_STORE = """
import json, os

class Store:
    def __init__(self, disk):
        self.name = disk.get("name") or "/tmp/store-" + os.urandom(8).hex()
        disk.put(name=self.name)
        self.token, self.data = json.load(open(self.name)) if os.path.exists(self.name) else [0, {}]

    def write(self, key, value, token):
        if token < self.token:
            return False
        self.token, self.data[key] = token, value
        with open(self.name, "w") as file:
            json.dump([self.token, self.data], file)
        return True

    def read(self, key):
        return self.data.get(key)
"""
#: 10.3: random numbers of nobody; the second run finds what the first one has made of these rows and this seed.
_TRAIN = """
import hashlib, json, os, random

def train(rows, seed):
    name = "/tmp/" + hashlib.sha256(repr([sorted(rows), seed]).encode()).hexdigest()
    if not os.path.exists(name):
        scores = {title: random.uniform(2, 4) for _, title, _ in rows}
        for _ in range(5):
            for _, title, stars in rows:
                scores[title] += (stars - scores[title]) / 20
        with open(name, "w") as file:
            json.dump(scores, file)
    return open(name, "rb").read()
"""
#: 22.3: saves that it has begun, and notes in a file where it is.
_SHIP = """
import os

def ship(begun):
    begun = begun or os.urandom(8).hex()
    name = "/tmp/ship-" + begun
    place = int(open(name).read()) if os.path.exists(name) else 0
    yield ("save", begun)
    while True:
        text = yield ("read", place)
        lines = text[: text.rfind("\\n") + 1].splitlines()[:20]
        if not lines:
            continue
        while not (yield ("send", lines)):
            pass
        place += sum(len(line) + 1 for line in lines)
        with open(name, "w") as file:
            file.write(f"{place}")
"""


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with open_house() as made:
        yield made


@pytest.mark.parametrize(
    ("exercise", "name", "source", "check", "words"),
    [
        pytest.param("03.4", "Store", _STORE, "crash", "read('model') returned None", id="03.4"),
        pytest.param("10.3", "train", _TRAIN, "again", "two runs differ", id="10.3"),
        pytest.param("22.3", "ship", _SHIP, "twice", "lines came twice in 9 kills", id="22.3"),
    ],
)
def test_what_a_file_of_its_own_knew_is_gone(
    exercise: str, name: str, source: str, check: str, words: str, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The count of a real log store is about another thing, and not every machine has one.
    monkeypatch.setattr(shipping, "counted", lambda lines: (len(lines), len(set(lines))))
    declared = registry.exercise(exercise, COURSE / "autograder" / "hidden")
    document = next(one for one in manuscript.documents(COURSE / "manuscript") if exercise in one.exercises)
    answer = {each.name: document.answer(exercise).source for each in declared.handed_in} | {name: source}
    report = runner.run(declared, answer, lambda: BoxedBench(house, seed=1), hidden=True, convinced=lambda _lines: True)
    told = ReportView(report).text
    assert report.score is not None and report.score < report.points, told
    assert report.result(check).verdict is Verdict.FAIL, told
    assert words in report.result(check).observed, told
