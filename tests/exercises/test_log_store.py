"""The log store of checks that need no cluster: a real VictoriaLogs."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from podlab.addons.prometheus import QueryError
from podlab.cluster.embedded import binaries
from podlab.course.logs.store import Store
from podlab.waiting import until
from podlab.widgets.log_explorer import LogExplorer

pytestmark = pytest.mark.skipif(
    binaries.find("victoria-logs") is None, reason="`podlab binaries ensure victoria-logs` gets it"
)


@pytest.fixture(scope="module")
def two_namespaces() -> Iterator[Store]:
    store = Store()
    try:
        lines = [(space, word) for space in ("ours", "theirs") for word in ("apple", "pear")]
        store.fill([{"message": word, "@timestamp": "0", "app": space} for space, word in lines], ["app"])
        yield store
    finally:
        store.close()


@pytest.mark.parametrize(
    "question",
    [
        "apple or\npear",
        "(apple)or(pear)",
        "apple) or (pear",
        "apple) or pear #",
        'apple #"\n) or (pear) #"',
        '"\\\\" ) or ( "pear"',
        "* | union (*)",
        "* | sort by (_time)",
        'app:in(app:="theirs" | fields app) or app:="ours"',
    ],
)
def test_no_question_finds_more_than_it_may(two_namespaces: Store, question: str) -> None:
    try:
        found = two_namespaces.ask.query(question, within='app:="ours"')
    except QueryError:
        return
    assert {line["app"] for line in found} <= {"ours"}


def test_a_question_within_finds_what_it_should(two_namespaces: Store) -> None:
    ask, now = two_namespaces.ask, time.time()
    found = ask.query("apple or pear | sort by (_msg)", within=f'app:="ours" _time:[{now - 600:.3f}, {now + 60:.3f}]')
    assert [(line["app"], line["_msg"]) for line in found] == [("ours", "apple"), ("ours", "pear")]
    hits = ask.hits("apple or pear | fields app", now - 600, now + 60, within='app:="ours"')
    assert sum(lines for _, lines in hits) == 2


def test_lines_that_are_counted_are_found_also_those_of_streams_that_are_new() -> None:
    store = Store()
    try:
        for turn in range(1, 6):
            new = [{"message": "line", "@timestamp": "0", "pod": f"pod-{turn}-{number}"} for number in range(5)]
            store.ask.bulk(new, ["pod"])

            def all_of_them(turn: int = turn) -> bool:
                counted = store.ask.count("*")
                assert len(store.ask.query("*", limit=0)) >= counted
                return counted == 5 * turn

            until(all_of_them, "the lines being counted", timeout=60, interval=0.01)
    finally:
        store.close()


def test_the_fields_of_lines_are_told_before_pipes_and_within_what_may_be_seen() -> None:
    store = Store()
    try:
        store.fill([{"message": "paid", "@timestamp": "0", "app": "ours", 'an odd "[field]"': 1}], ["app"])
        store.fill([{"message": "no", "@timestamp": "0", "app": "theirs", "secret": 1}], ["app"])
        fields = store.ask.fields("* | stats by (secret) count()", within='app:="ours"')
        assert fields == {"app": 1, 'an odd "[field]"': 1}
        view = LogExplorer(store.ask, base='app:="ours"').filter('an odd "[field]"', "1")
        assert [line["_msg"] for line in view.lines] == ["paid"] and view.fields == ['an odd "[field]"', "app"]
        with pytest.raises(QueryError, match="VictoriaLogs refuses the question"):
            store.ask.fields("((")
    finally:
        store.close()


def test_lines_are_filtered_by_fields_and_values_of_any_signs() -> None:
    odd = [
        "a b",
        'a "quote"',
        "back\\slash",
        "d.o.t.s",
        "漢字",
        "<b>html</b>",
        "two\nlines",
        "a\ttab",
        "*",
        "a:b",
        "(",
        "\x01",
    ]
    store = Store()
    try:
        store.fill([{"message": name, "@timestamp": "0", name: f"of\n{name}"} for name in odd])
        view = LogExplorer(store.ask)
        assert {name: [line["_msg"] for line in view.filter(name, f"of\n{name}").lines] for name in odd} == {
            name: [name] for name in odd
        }
    finally:
        store.close()
