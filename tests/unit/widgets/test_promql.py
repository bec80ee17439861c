from __future__ import annotations

import pytest

from podlab.addons.prometheus import QueryError, Series
from podlab.errors import UsageError
from podlab.widgets.promql import LOOKS, Playground, explained, told_apart


class Fake:
    """Gives the prepared series, or refuses."""

    def __init__(self, *series: Series) -> None:
        self.series, self.asked = list(series), []

    def query_range(self, expression: str, begin: float, end: float, step: float) -> list[Series]:
        self.asked.append((expression, begin, end, step))
        if expression == "wrong(":
            raise QueryError("Prometheus refuses the question: parse error")
        return self.series


def line(name: str, *values: float) -> Series:
    return Series({"pod": name}, [(1000.0 + 5 * number, value) for number, value in enumerate(values)])


def playground(*series: Series) -> Playground:
    return Playground(Fake(*series), "rate(x[1m])", 5, now=lambda: 1300.0)  # type: ignore[arg-type]


def test_picture_words_and_table_say_the_same() -> None:
    shown = playground(line("a", 1, 2, 3), line("b", 4, 4, 4))
    assert '{pod="a"} 3, {pod="b"} 4' in shown.summary()
    assert shown.view["rows"] == [['{pod="a"}', "3", "1", "3"], ['{pod="b"}', "4", "4", "4"]]
    assert shown.to_svg().count("<path") == 4, "two lines and two samples of the legend"
    assert "rate: growth per second" in shown.view["help"]


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


def test_what_stands_in_braces_is_not_explained() -> None:
    assert explained('x{path="sum or rate("}') == []
    assert [told.split(":")[0] for told in explained("sum by (pod) (rate(x[5m])) > 1")][1:3] == ["rate", "sum"]


def test_the_same_lines_in_matplotlib() -> None:
    figure = playground(line("a", 1, 2), line("b", 3, 4)).figure()
    assert [list(one.get_ydata()) for one in figure.axes[0].lines] == [[1, 2], [3, 4]]
