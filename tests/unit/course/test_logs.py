"""Chapter 22's own parts that need no log store: the incident, container files, the machine that kills a shipper."""

from __future__ import annotations

import random

import pytest

from podlab.course.logs.container_log import written
from podlab.course.logs.incident import Incident, happened, stamp
from podlab.course.logs.shipping import IDLE, Machine, Wrong

BEGIN = 1_795_000_000.0


@pytest.fixture(params=[1, 2, 3])
def incident(request: pytest.FixtureRequest) -> Incident:
    return happened(BEGIN, random.Random(request.param))


def test_what_is_easily_taken_for_the_incident_is_in_its_time(incident: Incident) -> None:
    inside = incident.within(incident.begin, incident.end)
    assert len([one for one in inside if one.status >= 500]) >= 3
    assert [one for one in inside if one.status == 404]
    retried = [one for one in inside if one.status == 200 and any(line.get("status") == 503 for line in one.lines)]
    assert retried
    others = [one for one in incident.requests if one.app == "basket" and incident.begin <= one.at < incident.end]
    assert [one for one in others if one.status >= 500]


def test_a_failed_request_is_spoken_of_by_others_and_some_lines_come_twice(incident: Incident) -> None:
    failed = [one for one in incident.within(incident.begin, incident.end) if one.status >= 500]
    for one in failed:
        texts = [str(line["message"]) for line in incident.lines if line["trace_id"] != one.trace]
        assert any(one.trace in text for text in texts)
    assert len(incident.lines) > sum(len(one.lines) for one in incident.requests)


def test_the_lines_of_a_request_have_times_in_their_order_and_texts_of_their_own(incident: Incident) -> None:
    for one in incident.requests:
        times = [str(line["@timestamp"]) for line in one.lines]
        assert times == sorted(set(times)) and times[-1] == stamp(one.at)
        assert len({line["message"] for line in one.lines}) == len(one.lines)


def test_a_file_of_a_container_holds_every_event_whole() -> None:
    kinds = ("json", "plain", "trace", "long", "broken", "interleaved")
    file = written(BEGIN, random.Random(4), kinds, size=60)
    assert {kind for kind, _ in file.events} == set(kinds)
    texts = "\n".join(line.split(" ", 3)[3] for line in file.lines)
    for kind, event in file.events:
        assert event["time"] and event["stream"] in ("stdout", "stderr")
        if kind in ("plain", "broken"):
            assert str(event["message"]) in texts
    times = [line.split(" ")[0] for line in file.lines]
    assert times == sorted(set(times))
    assert any(" P " in line for line in file.lines)


def machine(**more: object) -> Machine:
    made = Machine(random.Random(1), **more)  # type: ignore[arg-type]
    made.write(10)
    return made


def test_a_machine_takes_what_is_sent_and_knows_what_is_missing() -> None:
    one = machine(away=frozenset({1}))
    assert one.do(["send", one.lines[:3]]) is False and one.got == []
    assert one.do(["send", one.lines[:3]]) is True and one.missing == one.lines[3:]
    one.kill()
    assert one.allowed == 3 and one.kills == 1


def test_the_end_is_seen_only_when_nothing_more_comes() -> None:
    one = machine()
    place = 0
    for _ in range(200):
        place += len(one.do(["read", place]))
    assert one.done and place == len(one.text) and one.idle >= IDLE


def test_a_file_goes_on_growing_until_the_shipper_was_killed_often_enough() -> None:
    one = machine(wanted=1)
    place = 0
    for _ in range(50):
        place += len(one.do(["read", place]))
    assert not one.done and len(one.lines) > 10


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (["ended"], "came to an end"),
        (["read", -1], "reads from"),
        (["send", "text"], "sends"),
        (["send", ["x"] * 21], "21 lines at once"),
        (["sleep", 1], "handed out"),
        ([], "handed out"),
    ],
)
def test_a_step_that_there_is_not_is_refused_in_words(step: list[object], said: str) -> None:
    with pytest.raises(Wrong) as wrong:
        machine().do(step)
    assert said in wrong.value.problem.observed and wrong.value.problem.next_step
