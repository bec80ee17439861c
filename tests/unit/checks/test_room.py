"""Waiting in a room: silence proves nothing, and a crowded machine has more time."""

from __future__ import annotations

import types

import pytest

from podlab.checks import calm, world
from podlab.checks.api import ApiAway
from podlab.checks.traffic import Silent
from podlab.errors import WaitTimeout


class Looks:
    """In place of `until`: so many looks at a condition within each deadline, without time."""

    def __init__(self, looks: int) -> None:
        self._looks = looks
        self.deadlines: list[float] = []

    def __call__(self, condition, what, *, timeout, interval):
        self.deadlines.append(timeout)
        for _ in range(self._looks):
            if found := condition():
                return found
        raise WaitTimeout(what)


@pytest.fixture
def room(monkeypatch) -> world.Room:
    """A room of a world on a calm machine whose deadlines are as they are written."""
    monkeypatch.setattr(calm.Meter, "share", lambda _meter: 0.2)
    api = types.SimpleNamespace(as_user=lambda user: None)
    return world.Room(types.SimpleNamespace(api=api, namespaces=(), deadline=float), "r", "n")  # type: ignore[arg-type]


@pytest.fixture
def looks(monkeypatch) -> Looks:
    made = Looks(3)
    monkeypatch.setattr(world, "until", made)
    return made


def answers(*outcomes):
    """A condition with these outcomes, one after the other; exceptions are raised."""
    left = iter(outcomes)

    def look():
        outcome = next(left)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return look


def test_what_comes_true_is_returned_and_what_does_not_is_nothing(room, looks):
    assert room.eventually(answers(0, 7), "seven", 10) == 7
    assert room.eventually(answers(0, 0, 0), "seven", 10) is None
    assert looks.deadlines == [10, 10]


def test_a_crowded_machine_has_three_times_as_long(room, looks, monkeypatch):
    monkeypatch.setattr(calm.Meter, "share", lambda _meter: 0.95)
    assert room.eventually(answers(0, 0, 0, 0, 7), "seven", 10) == 7
    assert looks.deadlines == [10, 20]
    assert room.eventually(answers(*[0] * 6), "seven", 10) is None


@pytest.mark.parametrize("silence", [ApiAway("no answer"), Silent(503, "ProberAway", "no answer")])
def test_silence_is_looked_through_but_never_taken_for_a_no(room, looks, silence):
    assert room.eventually(answers(silence, silence, 7), "seven", 10) == 7
    assert room.eventually(answers(silence, 0, 0), "seven", 10) is None
    with pytest.raises(type(silence), match="no answer"):
        room.eventually(answers(0, 0, silence), "seven", 10)


def test_a_defect_of_a_condition_is_told_at_once(room, looks):
    with pytest.raises(KeyError):
        room.eventually(answers(KeyError("x"), 7), "seven", 10)
