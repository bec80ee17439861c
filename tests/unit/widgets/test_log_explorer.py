"""The log explorer against a store that gives prepared lines: what it asks, what it shows and says."""

from __future__ import annotations

from collections import Counter

import pytest

from podlab.addons.logs import Line, Logs
from podlab.addons.prometheus import QueryError
from podlab.errors import UsageError
from podlab.widgets.log_explorer import LogExplorer, cells, offered

TRACE = "7f3a" + "0" * 28


def line(at: str, service: str, level: str, message: str, trace: str = TRACE) -> Line:
    return {"_time": f"2026-11-26T10:00:{at}Z", "service": service, "level": level, "_msg": message, "trace_id": trace}


LINES = [
    line("02.500", "features", "info", "looking up"),
    line("01.000", "ui", "info", "asked"),
    line("03.000", "serving", "error", 'no "model" <here>'),
    line("09.000", "ui", "info", "asked by another", "b" * 32),
]


class Prepared(Logs):
    """A store that remembers what it was asked."""

    def __init__(self, lines: list[Line], refuse: str = "") -> None:
        self.lines, self.refuse = lines, refuse
        self.asked: list[tuple[str, str]] = []

    def now(self) -> float:
        return 1000.0

    def query(self, question: str, limit: int = 1000, *, within: str = "") -> list[Line]:
        self.asked.append((question, within))
        if self.refuse:
            raise QueryError(self.refuse)
        if "trace_id:=" in question:
            return sorted((one for one in self.lines if one["trace_id"] in question), key=lambda one: one["_time"])
        return self.lines

    def hits(
        self, question: str, begin: float, end: float, parts: int = 40, *, within: str = ""
    ) -> list[tuple[float, int]]:
        self.asked.append((question, within))
        return [(begin, 3), (begin + 10, 0), (begin + 20, 1)]

    def fields(self, question: str, *, within: str = "") -> dict[str, int]:
        if self.refuse:
            raise QueryError(self.refuse)
        return dict(Counter(name for one in self.lines for name in one if not name.startswith("_")))


def explorer(**more: object) -> LogExplorer:
    return LogExplorer(Prepared(LINES), "visitor", 5, base='ns:="a"', **more)  # type: ignore[arg-type]


def test_lines_are_shown_in_the_order_of_time_and_the_newest_is_chosen() -> None:
    view = explorer()
    assert [row[1] for row in view.table()[1]] == ["ui", "features", "serving", "ui"]
    assert view.chosen and view.chosen["_msg"] == "asked by another"
    assert "4 lines from 3 services" in view.summary() and "1 errors" in view.summary()
    assert view.summary() in view.to_text() and "asked by another" in view.to_text()
    assert "<here>" not in view.to_svg() and "&lt;here&gt;" in view.to_svg()


def test_what_is_asked_keeps_to_the_namespace_and_the_time() -> None:
    whole = 'ns:="a" _time:[700.000, 1000.000]'
    asked = explorer()._logs.asked  # type: ignore[attr-defined]
    assert asked == [("visitor", whole), ("visitor", whole), ("visitor", f'{whole} level:="error"')]
    traced = explorer().follow(TRACE)._logs.asked  # type: ignore[attr-defined]
    assert traced[-1] == (f'trace_id:="{TRACE}" | sort by (_time)', 'ns:="a"')


def test_the_trace_of_the_chosen_line_is_followed_in_order_and_left_again() -> None:
    view = explorer()
    view.seek(2)
    view.do("follow")
    assert view.trace == TRACE and [one["service"] for one in view.lines] == ["ui", "features", "serving"]
    assert view.summary() == "trace 7f3a0000: 3 lines in 2000 ms, ui → features → serving"
    view.do("back")
    assert view.length == 4


def test_a_line_without_a_trace_cannot_be_followed() -> None:
    view = LogExplorer(Prepared([{"_msg": "alone", "_time": "2026-11-26T10:00:01Z"}]))
    with pytest.raises(UsageError, match="no trace"):
        view.follow()


def test_a_filter_by_field_shows_its_values_and_asks_for_one() -> None:
    view = explorer().filter("service")
    assert "service: ui (2), features (1), serving (1)" in view.summary()
    view.set(value="ui")
    assert any('"service":="ui"' in within for _, within in view._logs.asked)  # type: ignore[attr-defined]
    view.set(field="level")
    assert view.value == "any"


def test_the_fields_to_choose_from_are_those_of_the_lines_and_no_others_are_taken() -> None:
    odd: Line = {"_time": "2026-11-26T10:00:01Z", "_msg": "paid", "kubernetes.pod_name": "p", 'amount of "money"': "3"}
    view = LogExplorer(Prepared([odd]))
    (field,) = (one for one in view.controls() if one["name"] == "field")
    assert field["options"] == ["any", 'amount of "money"', "kubernetes.pod_name"]
    view.set(field='amount of "money"', value="3")
    assert any(r'"amount of \"money\"":="3"' in within for _, within in view._logs.asked)  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="has a field 'servise'") as refused:
        view.filter("servise")
    assert "kubernetes.pod_name" in (refused.value.hint or "")


def test_a_field_of_lines_that_went_can_still_be_left() -> None:
    store = Prepared(LINES)
    view = LogExplorer(store).filter("service")
    store.lines = []
    view.ask()
    (field,) = (one for one in view.controls() if one["name"] == "field")
    assert (field["value"], field["options"]) == ("service", ["any", "service"])


def test_of_very_many_fields_those_of_most_lines_are_offered() -> None:
    many = {f"user{number}": 1 for number in range(5000)} | {"service": 9, "kubernetes.pod_name": 9}
    found = offered(many)
    assert len(found) == 100 and found[0] == "service" and found[-1] == "kubernetes.pod_name"


def test_of_very_many_fields_each_can_be_asked_for() -> None:
    many: Line = {"_time": "2026-11-26T10:00:01Z", "_msg": "paid", **{f"user{number}": "1" for number in range(5000)}}
    view = LogExplorer(Prepared([many])).filter("user4999", "1")
    assert any('"user4999":="1"' in within for _, within in view._logs.asked)  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="has a field 'nobody'") as refused:
        view.filter("nobody")
    assert refused.value.hint and len(refused.value.hint) < 400 and "and 4980 more" in refused.value.hint


def test_a_refusal_is_shown_with_the_stores_words() -> None:
    view = LogExplorer(Prepared([], "VictoriaLogs refuses the question"), "| |")
    assert view.mark == "VictoriaLogs refuses the question" and "refused" in view.summary()


def test_rows_of_numbers_are_shown_by_their_fields() -> None:
    assert cells({"service": "ui", "lines": "3"}) == ["", "ui", "", "service=ui, lines=3"]
