from __future__ import annotations

from typing import Any

import pytest

from podlab.addons.prometheus import QueryError, Series
from podlab.errors import UsageError
from podlab.widgets.promql import LOOKS, Playground, alerts
from podlab.widgets.promql_steps import told_apart


def selector(name: str, range_: int = 0) -> dict[str, Any]:
    """The node of a selector, in Prometheus' words."""
    named = {"name": name, "matchers": [{"name": "__name__", "type": "=", "value": name}]}
    common = {"offset": 0, "timestamp": None, "startOrEnd": None, **named}
    return {"type": "matrixSelector" if range_ else "vectorSelector", "range": range_, **common}


class Fake:
    """Gives the prepared series, or refuses; what is asked is `rate(x[1m])`, or a name."""

    def __init__(self, *series: Series) -> None:
        self.series, self.asked, self.away = list(series), [], False

    def now(self) -> float:
        return 1300.0

    def parse(self, expression: str) -> dict[str, Any]:
        if expression == "rate(x[1m])":
            return {"type": "call", "func": {"name": "rate"}, "args": [selector("x", 60000)]}
        return selector(expression)

    def query(self, expression: str, at: float) -> list[Series]:
        return [Series(one.labels, one.points[-1:]) for one in self.series]

    def query_range(self, expression: str, begin: float, end: float, step: float) -> list[Series]:
        self.asked.append((expression, begin, end, step))
        if self.away or expression == "wrong(":
            raise QueryError("Prometheus refuses the question: parse error")
        return self.series


def line(name: str, *values: float) -> Series:
    return Series({"pod": name}, [(1000.0 + 5 * number, value) for number, value in enumerate(values)])


def playground(*series: Series) -> Playground:
    return Playground(Fake(*series), "rate(x[1m])", 5)  # type: ignore[arg-type]


def test_picture_words_and_table_say_the_same() -> None:
    shown = playground(line("a", 1, 2, 3), line("b", 4, 4, 4))
    assert '{pod="a"} 3, {pod="b"} 4' in shown.summary()
    assert shown.view["rows"] == [['{pod="a"}', "3", "1", "3"], ['{pod="b"}', "4", "4", "4"]]
    assert shown.to_svg().count("<path") == 4, "two lines and two samples of the legend"
    assert "3. rate(x[1m]): growth per second" in shown.to_text() and "growth per second" in shown.to_svg()


def test_an_expression_is_asked_anew_and_a_refusal_is_shown_with_its_words() -> None:
    shown = playground(line("a", 1))
    shown.set(expression="wrong(")
    assert "parse error" in shown.view["mark"] and "refused" in shown.view["summary"]
    shown.set(expression="x", minutes=10)
    assert shown.view["mark"] == "" and shown._prometheus.asked[-1] == ("x", 700.0, 1300.0, 5.0)
    shown.do("again")
    with pytest.raises(UsageError):
        shown.set(expression=3)
    with pytest.raises(UsageError):
        shown.set(expression="  ")


def test_many_series_and_none_and_numbers_that_are_none() -> None:
    many = playground(*(line(f"p{number}", number) for number in range(9)))
    assert f"and {9 - len(LOOKS)} more" in many.summary()
    assert "no series" in playground().summary() and playground().to_svg()
    assert playground(line("a", float("nan"), 1, float("inf"))).to_svg()


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([{"pod": "a", "node": "1", "job": "x"}, {"pod": "b", "node": "2", "job": "x"}], ['{pod="a"}', '{pod="b"}']),
        ([{"code": "200", "job": "x"}, {"code": "500", "job": "x"}], ['{code="200"}', '{code="500"}']),
        (
            [{"pod": "a", "code": "1"}, {"pod": "a", "code": "2"}, {"pod": "b", "code": "1"}],
            ['{code="1", pod="a"}', '{code="2", pod="a"}', '{code="1", pod="b"}'],
        ),
        ([{"__name__": "up", "job": "x"}], ['up{job="x"}']),
        ([{}], ["the result"]),
        ([], []),
    ],
)
def test_a_series_is_called_by_what_tells_it_from_the_others(labels, names) -> None:
    assert told_apart([Series(one, [(0.0, 1.0)]) for one in labels]) == names


def test_no_line_is_drawn_over_a_gap() -> None:
    broken = Series({}, [(1000.0, 1.0), (1005.0, 1.0), (1200.0, 1.0), (1205.0, 1.0)])
    assert playground(broken).to_svg().count("<path") == 3


def test_the_positions_are_the_steps_from_the_innermost_selector_to_the_whole() -> None:
    shown = playground(line("a", 1, 2, 3), line("b", 4, 4, 4))
    assert [step.expression for step, _ in shown.steps] == ["x", "x[1m]", "rate(x[1m])"]
    assert shown.view["moment"] == "step 3 of 3" and shown.summary().startswith("rate(x[1m]): ")
    shown.seek(0)
    assert shown.summary().startswith("x: ") and '2 series, such as {pod="a"}: 3' in shown.walk()[0]
    asked = len(shown._prometheus.asked)
    shown.step()
    assert shown.summary().startswith("x: "), "a window of values has no line of its own: that of its selector is drawn"
    assert len(shown._prometheus.asked) == asked, "all steps are of the same moment, and asked once"
    assert {when[1:3] for when in shown._prometheus.asked} == {(1000.0, 1300.0)}
    shown.ask("y")
    assert shown.length == 0 and shown.view["moment"] == ""


def test_a_step_that_cannot_be_had_is_asked_once_a_visit_and_says_so_only_there() -> None:
    fake = Fake(line("a", 1, 2, 3))
    shown = Playground(fake, "rate(x[1m])", 5)  # type: ignore[arg-type]
    fake.away = True
    shown.seek(0)
    assert [asked[0] for asked in fake.asked] == ["rate(x[1m])", "x"] and "refuses" in shown.view["mark"]
    shown.seek(2)
    assert len(fake.asked) == 2 and shown.view["mark"] == ""
    fake.away = False
    shown.seek(0)
    assert shown.view["mark"] == "" and shown.view["rows"] == [['{pod="a"}', "3", "1", "3"]]


def alert(name: str, state: str, begin: float, end: float, **labels: str) -> Series:
    named = {"__name__": "ALERTS", "alertname": name, "alertstate": state, **labels}
    return Series(named, [(begin + 5 * number, 1.0) for number in range(int((end - begin) / 5))])


TOLD = [
    alert("High", "pending", 1100, 1115, app="shop"),
    alert("High", "firing", 1115, 1200, app="shop"),
    alert("Down", "pending", 1250, 1300, pod="a"),
    alert("Down", "pending", 1200, 1300, pod="b"),
]


def test_alerts_are_a_timeline_of_pending_and_firing() -> None:
    bars = alerts(TOLD, 1300.0, 5.0).bars
    assert [(bar.row, bar.words, bar.begin, bar.end) for bar in bars] == [
        ("High", "pending", -200, -185),
        ("High", "firing", -185, -100),
        ('Down {pod="a"}', "pending", -50, 0),
        ('Down {pod="b"}', "pending", -100, 0),
    ]
    again = Series(TOLD[0].labels, [*TOLD[0].points, (1200.0, 1.0)])
    assert [bar.begin for bar in alerts([again], 1300.0, 5.0).bars] == [-200, -100], "it was over in between"


def test_a_playground_that_is_asked_for_alerts_shows_when_they_were_pending_and_firing() -> None:
    shown = playground(*TOLD).ask("ALERTS", minutes=10)
    assert "High pending for 15 s, High firing for 85 s" in shown.summary()
    assert ["High", "-185.00", "-100.00", "firing"] in shown.view["rows"]
    first = shown.timeline()
    assert first and shown.timeline() is first, "one widget for a step"
    shown.do("again")
    assert first.comm is None and shown.timeline() is not first
    assert shown.to_svg().count("firing</text>") == 1 and "<path" not in shown.to_svg()
    assert [text.get_text() for text in shown.figure().axes[0].texts] == [" pending", " firing", " pending", " pending"]


def test_the_same_lines_in_matplotlib() -> None:
    figure = playground(line("a", 1, 2), line("b", 3, 4)).figure()
    assert [list(one.get_ydata()) for one in figure.axes[0].lines] == [[1, 2], [3, 4]]


def test_the_lines_of_matplotlib_are_broken_where_those_of_the_picture_are() -> None:
    gaps = line("a", 1, float("nan"), 2, float("inf"), *([float("nan")] * 5), 3, 4)
    shown = playground(gaps, line("none", float("nan")))
    (axes,) = shown.figure().axes
    assert [(list(one.get_xdata()), list(one.get_ydata())) for one in axes.lines] == [
        ([-300, -290], [1, 2]),
        ([-255, -250], [3, 4]),
        ([], []),
    ]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ['{pod="a"}', '{pod="none"}']
    assert shown.to_svg().count("<path") == 2 + 2, "two pieces, and two samples of the legend"


def test_the_title_of_matplotlib_is_of_the_step_that_is_drawn() -> None:
    shown = playground(line("a", 1, 2))
    assert shown.figure().axes[0].get_title() == "rate(x[1m])"
    shown.seek(0)
    assert shown.figure().axes[0].get_title() == "x"
    assert playground(*TOLD).ask("ALERTS").figure().axes[0].get_title() == "ALERTS"
