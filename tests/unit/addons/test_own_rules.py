"""Rules for the cluster and the add-ons themselves, by a real Prometheus over histories of troubles."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import pytest
from rule_histories import FILES, Key, Seen, Series, always, of, rising, rules, turned

RULES = rules("recording.yaml", "alerting.yaml")
RECORDED = [rule["record"] for rule in RULES if "record" in rule]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}


def requests(code: str) -> Key:
    return of("http_requests_total", app="shop", code=code)


def under(le: str) -> Key:
    return of("http_request_duration_seconds_bucket", app="shop", le=le)


def cpu(container: str) -> Key:
    return of("container_cpu_usage_seconds_total", pod="shop-1", container=container)


def waiting(reason: str) -> Key:
    return of("kube_pod_container_status_waiting_reason", pod="shop-1", container="shop", reason=reason)


def condition(kind: str, status: str) -> Key:
    return of("kube_node_status_condition", node="node-1", condition=kind, status=status)


UP = of("up", job="kubernetes-pods")
RELOADED = of("prometheus_config_last_reload_successful")
SERIES = of("prometheus_tsdb_head_series")
BOUNDS = of("prometheus_target_scrapes_sample_out_of_bounds_total")
ORDER = of("prometheus_target_scrapes_sample_out_of_order_total")
LIMIT = of("prometheus_target_scrapes_exceeded_sample_limit_total")
DROPPED = of("vl_rows_dropped_total", reason="too_small_timestamp")
LONG = of("vl_too_long_lines_skipped_total", node="node-1")
REFUSED = of("spool_refused_blocks_total", node="node-1")
AS_TEXT = of("spool_lines_as_text_total", node="node-1")
QUEUE = of("vm_persistentqueue_blocks_dropped_total", node="node-1", path="/vlagent")
WAITING = of("spool_waiting_blocks", node="node-1")

#: With much that looks like trouble and is none.
HEALTHY: Series = {
    requests("200"): rising(9.6),
    requests("404"): rising(5),
    requests("500"): rising(0.4),
    **{under(le): rising(rate) for le, rate in (("0.1", 5), ("0.5", 9), ("1", 10), ("+Inf", 10))},
    cpu("shop"): rising(0.25),
    cpu("helper"): rising(0.05),
    cpu(""): rising(0.3),
    waiting("CrashLoopBackOff"): always(0),
    waiting("ContainerCreating"): always(1),
    condition("Ready", "true"): always(1),
    condition("Ready", "false"): always(0),
    condition("MemoryPressure", "true"): always(0),
    UP: always(1),
    RELOADED: always(1),
    SERIES: always(20_000),
    BOUNDS: always(7),
    ORDER: always(7),
    LIMIT: always(7),
    DROPPED: always(7),
    LONG: always(7),
    REFUSED: always(7),
    AS_TEXT: always(7),
    QUEUE: always(7),
    WAITING: lambda at: float(at % 60 < 30),
}

ONE_MORE = turned(-60, 7, 8)

#: What is other than healthy, and which alert must fire.
TROUBLES: Mapping[str, tuple[Series, str]] = {
    "none": ({}, ""),
    "failing": ({requests("500"): rising(2)}, "HighErrorRatio"),
    "all-fail": ({requests("200"): always(5), requests("404"): always(5)}, "HighErrorRatio"),
    "nobody-asks": ({requests(code): always(5) for code in ("200", "404", "500")}, ""),
    "down": ({UP: turned(-35, 1, 0)}, "TargetDown"),
    "just-down": ({UP: turned(-25, 1, 0)}, ""),
    "too-many-series": ({LIMIT: ONE_MORE}, "TooManySeries"),
    "too-many-in-all": ({SERIES: turned(-120, 20_000, 80_001)}, "TooManySeriesInAll"),
    "clock-ahead": ({BOUNDS: rising(0.2, since=-200)}, "SamplesLeftOut"),
    "clock-set-back": ({ORDER: rising(0.2, since=-200)}, "SamplesLeftOut"),
    "one-sample-late": ({ORDER: turned(-30, 7, 8)}, ""),
    "wrong-rules": ({RELOADED: turned(-20, 1, 0)}, "ConfigurationRefused"),
    "lines-of-another-time": ({DROPPED: ONE_MORE}, "LogLinesLost"),
    "a-block-refused": ({REFUSED: ONE_MORE}, "LogLinesLost"),
    "a-line-too-long": ({LONG: ONE_MORE}, "LogLinesLost"),
    "no-room-to-wait": ({QUEUE: ONE_MORE}, "LogLinesLost"),
    "fields-refused": ({AS_TEXT: ONE_MORE}, "LogFieldsRefused"),
    "store-away": ({WAITING: turned(-200, 0, 3)}, "LogLinesWait"),
    "store-started-anew": ({WAITING: turned(-100, 0, 3)}, ""),
    "crashing": ({waiting("CrashLoopBackOff"): turned(-60, 0, 1)}, "PodCrashLooping"),
    "node-away": ({condition("Ready", "true"): turned(-30, 1, 0)}, "NodeNotReady"),
}

#: Recorded series, a trouble, the label that tells its values, and these.
RECORDINGS: list[tuple[str, str, str, dict[str, float]]] = [
    ("app:http_requests:rate1m", "none", "app", {"shop": 15}),
    ("app:http_errors:ratio1m", "none", "app", {"shop": 0.4 / 15}),
    ("app:http_errors:ratio1m", "failing", "app", {"shop": 2 / 16.6}),
    ("app:http_errors:ratio1m", "nobody-asks", "app", {}),
    # Of 10 in a second 9 are below 0.5 s; the 9.5th is half as far into the next bucket.
    ("app:http_request_duration_seconds:p95_1m", "none", "app", {"shop": 0.75}),
    # Without the whole of the pod, which has its containers in it.
    ("pod:container_cpu_usage_seconds:rate1m", "none", "pod", {"shop-1": 0.3}),
]


@pytest.fixture(scope="module")
def seen() -> Iterator[Seen]:
    made = Seen(RULES, HEALTHY, {name: other for name, (other, _) in TROUBLES.items()})
    yield made
    made.engine.close()


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_fires_in_its_own_troubles_and_in_no_other(seen: Seen, alert: str) -> None:
    wanted = {trouble for trouble, (_, name) in TROUBLES.items() if name == alert}
    assert wanted, "no trouble is there for it"
    found = seen.firing(ALERTS[alert])
    assert {labels["namespace"] for labels in found} == wanted
    told = set(re.findall(r"\$labels\.(\w+)", ALERTS[alert]["annotations"]["summary"]))
    assert all(told <= set(labels) for labels in found), "its words name what it is about"


@pytest.mark.parametrize(("record", "trouble", "by", "wanted"), RECORDINGS)
def test_what_is_recorded_is_what_was(seen: Seen, record: str, trouble: str, by: str, wanted: dict[str, float]) -> None:
    assert seen.values(record, trouble, by) == pytest.approx(wanted, rel=1e-3)


def test_every_recorded_series_is_tested() -> None:
    assert {record for record, *_ in RECORDINGS} == set(RECORDED)


def test_prometheus_takes_every_file_of_rules(seen: Seen) -> None:
    assert set(FILES) == {"recording.yaml", "alerting.yaml", "movies.yaml"}, "those of movies are in test_movie_rules"
    for text in FILES.values():
        seen.engine.load_rules(text)


def test_prometheus_itself_shows_what_rules_read_of_it(seen: Seen) -> None:
    shown = seen.engine.exchange("GET", "metrics")[1].decode()
    read = {name for rule in RULES for name in re.findall(r"\bprometheus_\w+", rule["expr"])}
    assert read and all(f"\n{name} " in shown for name in read)
