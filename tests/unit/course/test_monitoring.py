"""Chapter 21's own parts: histories, the form in which they are written, alerting rules and how they are refused."""

from __future__ import annotations

import itertools
import math
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from podlab.addons.prometheus import QueryError, Series
from podlab.checks.contract import NotGradable
from podlab.course.monitoring import latency, rules
from podlab.course.monitoring.engine import Engine
from podlab.course.monitoring.history import BUCKETS, SCRAPE, History, Traffic, grow, live, scraped
from podlab.course.monitoring.remote_write import STALE, request, snappy, varint
from podlab.course.monitoring.rules import Rule, firing, read, seconds, together


def test_whole_numbers_in_groups_of_seven_bits() -> None:
    assert [varint(number) for number in (0, 1, 127, 128, 300)] == [b"\0", b"\1", b"\x7f", b"\x80\1", b"\xac\2"]


def unsnappy(data: bytes) -> bytes:
    """Literals of a Snappy block."""
    size = shift = at = 0
    while True:
        byte, at = data[at], at + 1
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    out = b""
    while at < len(data):
        assert data[at] == 0xF4, "a literal with a length of two bytes"
        length = struct.unpack("<H", data[at + 1 : at + 3])[0] + 1
        out += data[at + 3 : at + 3 + length]
        at += 3 + length
    assert len(out) == size
    return out


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 200_000])
def test_a_block_holds_what_was_put_in(size: int) -> None:
    data = bytes(number % 251 for number in range(size))
    assert unsnappy(snappy(data)) == data


def test_a_request_has_labels_in_order_and_keeps_the_mark_of_staleness() -> None:
    body = unsnappy(request([({"b": "2", "__name__": "up"}, [(1.5, 4.0), (2.0, STALE)])]))
    assert body.index(b"__name__") < body.index(b"up") < body.index(b"b")
    assert struct.pack("<d", 4.0) + b"\x10" + varint(1500) in body
    assert struct.pack("<Q", 0x7FF0000000000002) + b"\x10" + varint(2000) in body


def read_off(durations: list[float], share: float) -> float:
    """A quantile as histogram_quantile reads it from the buckets, on a straight line."""
    wanted, below, low = share * len(durations), 0, 0.0
    for bound in BUCKETS:
        within = sum(low < one <= bound for one in durations)
        if below + within >= wanted:
            return low + (bound - low) * (wanted - below) / within
        below, low = below + within, bound
    raise AssertionError("no bucket holds it")


@pytest.mark.parametrize("seed", range(20))
def test_a_quantile_that_is_read_from_buckets_is_near_the_true_one(seed: int) -> None:
    chance, made = random.Random(seed), History()
    grow(made, Traffic(0, 600, chance.uniform(10, 14)), chance)
    for path in ("", "/recommend", "/rate"):
        durations = made.durations(300, 600, path)
        assert read_off(durations, 0.95) == pytest.approx(latency.quantile(durations, 0.95), rel=latency.COARSE / 3)


@pytest.fixture
def history() -> History:
    made = History()
    grow(made, Traffic(1000, 1300, 20, errors=0.1), random.Random(1))
    live(made, "shop", ("shop-a", "shop-b", "shop-c"), 1000, 1301, (1200,))
    return made


def test_the_counters_of_all_processes_add_up_to_the_truth(history: History) -> None:
    total = 0.0
    for labels, points in scraped(history):
        if labels["__name__"] == "http_requests_total":
            values = [value for _, value in points[:-1]]
            total += sum(max(0.0, b - a) if b >= a else b for a, b in itertools.pairwise(values))
    seen_last = 1000 + SCRAPE * 60
    true = history.count(1000, seen_last)
    lost = sum(one.pod == "shop-a" and 1195 < one.at <= 1200 for one in history.requests)
    assert true - lost <= total + 2 and total <= true


def test_a_restart_begins_at_zero_and_a_series_ends_with_the_mark(history: History) -> None:
    for labels, points in scraped(history):
        assert points[-1][1] != points[-1][1]
        assert [at for at, _ in points] == sorted(at for at, _ in points)
        if labels["__name__"] == "http_requests_total" and labels["pod"] == "shop-a":
            assert dict(points)[1200.0] == 0.0


def test_the_last_bucket_is_the_count(history: History) -> None:
    found = {
        (labels["__name__"], labels["pod"], labels.get("path"), labels.get("le")): [value for _, value in points[:-1]]
        for labels, points in scraped(history)
    }
    stem = "http_request_duration_seconds"
    assert BUCKETS[-1] == math.inf
    for pod in ("shop-a", "shop-b"):
        assert found[f"{stem}_bucket", pod, "/rate", "+Inf"] == found[f"{stem}_count", pod, "/rate", None]


@pytest.mark.parametrize(("text", "value"), [("30s", 30), ("1m30s", 90), ("0", 0), ("500ms", 0.5), ("2h", 7200)])
def test_durations(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["30", "1.5m", "m", "30 s", ""])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="no duration"):
        seconds(text)


def test_a_file_of_rules_is_read_and_recording_rules_are_refused() -> None:
    text = "groups: [{name: a, rules: [{alert: A, expr: z > 1, for: 1m, labels: {s: p}}]}]"
    assert read(text) == [Rule("A", "z > 1", 60.0, 0.0, {"s": "p"}, {})]
    with pytest.raises(ValueError, match="x is a recording rule"):
        read(text.replace("[{alert", "[{record: x, expr: y}, {alert"))
    for wrong in ("- a", "groups: 1", "a: [", ""):
        with pytest.raises(ValueError):
            read(wrong)


class Answers:
    """An engine whose expression has a result at the given steps."""

    def __init__(self, *steps: float) -> None:
        self.ask = self
        self.steps = steps

    def query_range(self, expression: str, begin: float, end: float, step: float) -> list[Series]:
        return [Series({}, [(at, 1.0) for at in self.steps])]


def times(rule: Rule, *steps: float) -> list[tuple[float, float]]:
    return firing(Answers(*steps), rule, 0.0, 100.0)  # type: ignore[arg-type]


def test_an_alert_fires_when_it_has_held_for_its_time_and_ends_when_it_does_not() -> None:
    assert times(Rule("A", "x", wait=10), 20, 25, 30, 35) == [(30, 40)]
    assert times(Rule("A", "x", wait=20), 20, 25, 30, 35) == []
    assert times(Rule("A", "x"), 20) == [(20, 25)]


def test_a_gap_begins_the_waiting_anew_unless_it_is_told_to_keep_firing() -> None:
    assert times(Rule("A", "x", wait=10), 20, 25, 35, 40, 45) == [(45, 50)]
    assert times(Rule("A", "x", keep=20), 20, 30) == [(20, 50)]


def test_spans_that_touch_are_one() -> None:
    assert together([(5, 9), (0, 3), (3, 6), (20, 21)]) == [(0, 9), (20, 21)]
    assert rules.STEP > 0


def test_why_rules_were_refused_is_read_from_the_log_when_it_has_come(tmp_path: Path) -> None:
    """The answer that they are refused and the log that says why come on two ways."""

    class Log:
        """A log in which the second refusal stands from the third look on, and whole from the fifth."""

        looks = 0

        def __iter__(self) -> Iterator[str]:
            self.looks += 1
            of = 'level=ERROR msg="loading groups failed" err="{}/rules/rules-{}.yaml: 3:1: {}"'.format
            begin, last = 'msg="Loading configuration file"', 'level=ERROR msg="Error reloading config" err="errors"'
            old = [begin, of(tmp_path, 1, "an older fault"), last]
            new = [begin, of(tmp_path, 2, 'could not parse \\"x\\"'), of(tmp_path, 2, "another\\nfault"), last]
            return iter([*old, *new[: 4 if self.looks > 4 else 2 if self.looks > 2 else 0]])

    def reload() -> None:
        raise QueryError("Prometheus keeps its old configuration.")

    (tmp_path / "rules").mkdir()
    engine = object.__new__(Engine)
    engine.folder, engine.said, engine._loads = tmp_path, Log(), 1  # type: ignore[assignment]
    engine.ask = SimpleNamespace(reload=reload)  # type: ignore[assignment]
    with pytest.raises(ValueError, match="Prometheus says") as refused:
        rules.load(engine, "groups: []")
    assert str(refused.value)[17:] == 'rules.yaml: 3:1: could not parse "x"; rules.yaml: 3:1: another\nfault'
    assert not list(tmp_path.glob("rules/*"))


def test_the_place_of_an_expression_that_prometheus_refuses_is_marked() -> None:
    try:
        engine = Engine()
    except NotGradable as error:
        pytest.skip(str(error))
    group = "groups:\n  - name: a\n    rules:\n      - alert: A\n        expr: up\n"
    try:
        for expression, line in (("rate(x[)", "rate(x[)"), ("|\n          sum(x)\n          > rate(x[)", "> rate(x[)")):
            with pytest.raises(ValueError, match="parse error") as refused:
                rules.load(engine, group + f"      - alert: B\n        expr: {expression}\n")
            shown, mark = str(refused.value).splitlines()[1:]
            assert shown.strip() == line and shown[: len(mark)].endswith("[)") and mark.strip() == "^"
        with pytest.raises(ValueError, match="rulez") as refused:
            rules.load(engine, group + "    rulez: []\n")
        assert "^" not in str(refused.value)
    finally:
        engine.close()
