"""The steps of expressions: a real Prometheus reads them, and reads back what was written of them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from podlab.addons.prometheus import Series
from podlab.checks.contract import NotGradable
from podlab.course.monitoring.engine import Engine
from podlab.widgets.promql_steps import duration, steps, told


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    try:
        found = Engine()
    except NotGradable as error:
        pytest.skip(str(error))
    yield found
    found.close()


@pytest.mark.parametrize(
    ("expression", "walk"),
    [
        (
            'topk(2, sum by (pod) (rate(x{app="a b"}[1m] offset 5m))) / 2 > 1',
            [
                ('x{app="a b"}', "the newest value"),
                ('x{app="a b"}[1m] offset 5m', "all values of the last 1m of each of these series, 5m ago"),
                ('rate(x{app="a b"}[1m] offset 5m)', "growth per second"),
                ('sum by (pod) (rate(x{app="a b"}[1m] offset 5m))', "adds up the series, for each pod"),
                ('topk(2, sum by (pod) (rate(x{app="a b"}[1m] offset 5m)))', "keeps the 2 series with the largest"),
                ('topk(2, sum by (pod) (rate(x{app="a b"}[1m] offset 5m))) / 2', "left divided by 2"),
                ('topk(2, sum by (pod) (rate(x{app="a b"}[1m] offset 5m))) / 2 > 1', "keeps those for which left > 1"),
            ],
        ),
        (
            "min_over_time(sum(x)[30s:5s])",
            [
                ("x", "the newest value"),
                ("sum(x)", "adds up the series"),
                ("sum(x)[30s:5s]", "a query over a query: asked every 5s of the last 30s"),
                ("min_over_time(sum(x)[30s:5s])", "the smallest of the values that each series had"),
            ],
        ),
        (
            "max(a) - on (pod) group_left (node) irate(b[1m])",
            [
                ("a", "the newest value"),
                ("max(a)", "the largest of the series"),
                ("b", "the newest value"),
                ("b[1m]", "all values of the last 1m"),
                ("irate(b[1m])", "between the last two values"),
                ("max(a) - on (pod) group_left (node) irate(b[1m])", "left minus right, where pod is the same"),
            ],
        ),
    ],
)
def test_the_innermost_selector_comes_first_and_the_whole_last(
    engine: Engine, expression: str, walk: list[tuple[str, str]]
) -> None:
    found = steps(engine.ask.parse(expression))
    assert [step.expression for step in found] == [part for part, _ in walk]
    assert all(said in step.words for step, (_, said) in zip(found, walk, strict=True)), found


@pytest.mark.parametrize(
    "expression",
    [
        "(a + b) * 2 ^ -c",
        'label_replace(x, "a", "$1", "b", "(.*)\\\\d\\"")',
        '{__name__=~"a.*", b!="c"}',
        '{"a.b", c="d"}',
        "a unless ignoring (x) b or vector(0)",
        "a > bool 2 and on () b",
        "x @ 100 offset -1m - x @ end()",
        "rate(x[1h30m:] offset 1m)",
        'count_values without (pod) ("v", x)',
        "quantile by (a, b) (0.9, x)",
        "absent_over_time(x[5m])",
        "nosuch{}",
    ],
)
def test_what_is_written_of_an_expression_is_the_same_to_prometheus(engine: Engine, expression: str) -> None:
    tree = engine.ask.parse(expression)
    found = steps(tree)
    assert engine.ask.parse(found[-1].expression) == tree
    for step in found:
        engine.ask.parse(step.expression)
        engine.ask.query_range(step.drawn, 0, 1, 1)


def test_it_says_what_time_it_is(engine: Engine) -> None:
    before = time.time()
    assert before - 0.001 <= engine.ask.now() <= time.time() + 0.001, "in milliseconds"


def test_a_number_alone_has_no_steps(engine: Engine) -> None:
    assert steps(engine.ask.parse("(1)")) == []


def test_results_in_words() -> None:
    one, two = Series({"pod": "a"}, [(0.0, 1.0), (1.0, 2.5)]), Series({"pod": "b"}, [(0.0, 1.0)])
    assert told([]) == "no series"
    assert told([one, two]) == '2 series, such as {pod="a"} with 2 values: 2.5'
    assert told([Series({}, [(0.0, 3.0)])]) == "3"
    assert told([Series({}, one.points)]) == "one series with 2 values, the last 2.5"


def test_durations_as_promql_writes_them() -> None:
    assert [duration(each) for each in (0, 5, 90_000, -60_000, 86_400_000)] == ["0s", "5ms", "1m30s", "-1m", "1d"]
