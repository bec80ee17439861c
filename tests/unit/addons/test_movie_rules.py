"""Rules for the movie services, by a real Prometheus over histories: each alert in its own trouble, and in no other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import pytest
from prometheus_client import REGISTRY
from rule_histories import FILES, LENGTH, NOW, Key, Seen, Series, always, of, rising, rules

from movies import compose, web

TEXT = FILES["movies.yaml"]
RULES = rules("movies.yaml")
RECORDED = [rule["record"] for rule in RULES if "record" in rule]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}


def requests(code: str, route: str = "/users/{user}/recommendations") -> Key:
    return of("movies_requests_total", service="serving", method="GET", route=route, code=code)


def under(le: str, service: str = "serving", route: str = "/users/{user}/recommendations") -> Key:
    return of("movies_request_seconds_bucket", service=service, route=route, le=le)


def calls(outcome: str) -> Key:
    return of("movies_calls_total", service="ui", to="serving", outcome=outcome)


def events(outcome: str, source: str) -> Key:
    return of("movies_events_total", service="ingestion", outcome=outcome, source=source)


def ready(instance: str) -> Key:
    return of("movies_ready", service="serving", instance=instance)


POSITION = of("movies_features_position", service="features")
POISON = of("movies_features_poison_total", service="features")
AS_OF = of("movies_model_as_of_seconds", service="serving")

#: With much that looks like trouble and is none.
HEALTHY: Series = {
    requests("200"): rising(10),
    requests("503", "/readyz"): rising(5),
    requests("404"): rising(5),
    **{under(le): rising(15) for le in ("0.25", "1", "2.5", "+Inf")},
    under("1", "features", "/snapshot"): always(0),
    under("+Inf", "features", "/snapshot"): rising(1),
    under("1", route="/readyz"): always(0),
    under("+Inf", route="/readyz"): rising(5),
    of("movies_requests_refused_total", service="serving", reason="slow"): rising(5),
    ready("serving-a"): always(1),
    ready("serving-b"): always(0),
    calls("ok"): rising(10),
    calls("failed"): rising(0.5),
    of("movies_calls_total", service="training", to="features", outcome="ok"): rising(1),
    events("accepted", "http"): rising(1),
    events("refused", "http"): rising(1),
    events("refused", "stream"): always(0),
    POSITION: rising(1),
    POISON: always(0),
    AS_OF: lambda at: NOW + at - 60,
    # Every service shows every metric; who has nothing to say says 0.
    of("movies_features_position", service="ui"): always(0),
    of("movies_model_as_of_seconds", service="ui"): always(0),
}

QUIET: Series = {events("accepted", "http"): always(500)}
OLD: Series = {AS_OF: always(NOW - LENGTH)}
STANDING: Series = {POSITION: rising(1, until=-120)}

#: What is other than healthy, and which alerts of which services must fire.
TROUBLES: Mapping[str, tuple[Series, set[tuple[str, str]]]] = {
    "none": ({}, set()),
    "failing": ({requests("500"): rising(1, since=-120)}, {("MoviesErrors", "serving")}),
    "a-moment-of-errors": ({requests("500"): rising(100, since=-60, until=-55)}, set()),
    "a-moment-of-crowds": (
        {of("movies_requests_refused_total", service="serving", reason="overload"): rising(9, since=-60, until=-55)},
        set(),
    ),
    "starting": ({calls("failed"): rising(10, since=-120, until=-60)}, set()),
    "slow": ({under(le): rising(10) for le in ("0.25", "1")}, {("MoviesSlow", "serving")}),
    "unready": ({ready("serving-a"): always(0)}, {("MoviesNotReady", "serving")}),
    "crowded": (
        {of("movies_requests_refused_total", service="serving", reason="overload"): rising(0.5)},
        {("MoviesOverload", "serving")},
    ),
    "neighbour-fails": ({calls("failed"): rising(3)}, {("MoviesCallsFail", "ui")}),
    "neighbour-left-alone": ({calls("open"): rising(3)}, {("MoviesCallsFail", "ui")}),
    "one-event-set-aside": (
        {events("refused", "stream"): lambda at: float(at > -60)},
        {("MoviesEventsLeftOut", "ingestion")},
    ),
    "one-poison": ({POISON: lambda at: float(at > -60)}, {("MoviesEventsLeftOut", "features")}),
    "features-stand": (STANDING, {("MoviesFeaturesStand", "features")}),
    "nothing-to-follow": ({**STANDING, **QUIET}, set()),
    "old-model": (OLD, {("MoviesModelOld", "serving")}),
    "nothing-to-learn": ({**OLD, **QUIET}, set()),
}

#: Recorded series, a trouble, and its values by service.
RECORDINGS: list[tuple[str, str, dict[str, float]]] = [
    ("service:movies_requests:rate1m", "none", {"serving": 15}),
    ("service:movies_errors:ratio1m", "none", {"serving": 0}),
    ("service:movies_errors:ratio1m", "failing", {"serving": 1 / 16}),
    ("service:movies_overload:ratio1m", "none", {"serving": 0}),
    ("service:movies_overload:ratio1m", "crowded", {"serving": 0.5 / 15}),
    # Of 15 in a second 10 are below 1 s; the 14.25th is as far into the bucket of the other five.
    ("service:movies_request_seconds:p95_1m", "slow", {"serving": 1 + 1.5 * 4.25 / 5}),
    ("service:movies_calls_failed:ratio1m", "none", {"ui": 0.5 / 10.5, "training": 0}),
    ("service:movies_calls_failed:ratio1m", "neighbour-left-alone", {"ui": 3.5 / 13.5, "training": 0}),
    ("instance:movies_model_age:seconds", "none", {"serving": 60}),
]


@pytest.fixture(scope="module")
def seen() -> Iterator[Seen]:
    made = Seen(RULES, HEALTHY, {name: other for name, (other, _) in TROUBLES.items()})
    yield made
    made.engine.close()


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_fires_in_its_own_trouble_and_in_no_other(seen: Seen, alert: str) -> None:
    wanted = {
        (namespace, service) for namespace, (_, alerts) in TROUBLES.items() for name, service in alerts if name == alert
    }
    assert wanted, "no trouble is there for it"
    assert {(labels["namespace"], labels["service"]) for labels in seen.firing(ALERTS[alert])} == wanted


@pytest.mark.parametrize(("record", "trouble", "wanted"), RECORDINGS)
def test_what_is_recorded_is_what_was(seen: Seen, record: str, trouble: str, wanted: dict[str, float]) -> None:
    assert seen.values(record, trouble, "service") == pytest.approx(wanted, rel=1e-3)


def test_every_recorded_series_is_tested() -> None:
    assert {record for record, *_ in RECORDINGS} == set(RECORDED)


def test_prometheus_takes_the_whole_file(seen: Seen) -> None:
    seen.engine.load_rules(TEXT)


def test_the_services_show_what_the_rules_read() -> None:
    assert compose.SERVICES  # their modules are there, and so their metrics
    ends = {"counter": "_total", "histogram": "_bucket"}
    shown = {family.name + ends.get(family.type, "") for family in REGISTRY.collect()}
    read = {name for rule in RULES for name in re.findall(r"(?<!:)\bmovies_\w+", rule["expr"])}
    assert read and read <= shown


def test_what_counts_as_no_request_is_what_the_services_treat_so() -> None:
    found = re.findall(r'route!~"(.*?)"', TEXT)
    assert {frozenset(routes.split("|")) - {"/snapshot"} for routes in found} == {frozenset(web._FREE)}
