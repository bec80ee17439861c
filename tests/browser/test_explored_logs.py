"""The log explorer in a browser: the same lines as in words, its buttons, accessible in either theme."""

from __future__ import annotations

import pytest

from podlab.addons.logs import refusal
from podlab.addons.prometheus import QueryError
from podlab.widgets.log_explorer import LogExplorer

pytestmark = pytest.mark.browser


class Store:
    """Three lines of one trace."""

    def now(self):
        return 1000.0

    def query(self, question, limit=1000, *, within=""):
        told = [("ui", "info", "asked"), ("serving", "error", "no model"), ("ui", "error", "sent away")]
        return [
            {"_time": f"2026-11-26T10:00:0{at}.000Z", "service": who, "level": level, "_msg": what, "trace_id": "7f3a"}
            for at, (who, level, what) in enumerate(told)
        ]

    def hits(self, question, begin, end, parts=40, *, within=""):
        return [(begin, 0), (begin + 30, 2), (begin + 60, 1)]

    def fields(self, question, *, within=""):
        return {"service": 3, "level": 3, "trace_id": 3}


def logs():
    return LogExplorer(Store(), 'app:="shop"', 5)


def trace():
    return logs().follow("7f3a")


@pytest.fixture(params=[logs, trace], ids=["logs", "trace"])
def widget(request):
    return request.param()


def shown(open_page, widget, theme="light"):
    return open_page("replay.js", widget.view, theme, "replay.css")


def test_the_page_says_what_the_words_say(open_page, widget):
    page = shown(open_page, widget)
    assert widget.summary() in page.get_attribute(".podlab-replay", "aria-label")
    page.evaluate("document.querySelector('details').open = true")
    cells = page.eval_on_selector_all("table td", "all => all.map(e => e.textContent)")
    assert cells == [cell for row in widget.table()[1] for cell in row]
    assert page.locator(".stage svg[role=img]").count() == 1
    assert page.problems == []


def test_a_trace_is_followed_and_a_field_is_chosen_from_the_page(open_page):
    page = shown(open_page, logs())
    page.get_by_role("button", name="Follow the trace").click()
    page.get_by_label("Field").select_option("level")
    assert page.evaluate("window.sent")[1:] == [
        {"type": "do", "name": "follow"},
        {"type": "set", "name": "field", "value": "level"},
    ]


def test_the_fields_to_choose_from_are_those_of_the_last_question(open_page):
    store = Store()
    view = LogExplorer(store, "*", 5)
    page = shown(open_page, view)
    store.fields = lambda *_, **__: {"<b>price</b>": 3, "level": 3}
    view.filter("level")
    page.get_by_label("Field").focus()
    page.evaluate("view => window.update(view)", view.view)
    assert page.get_by_label("Field").locator("option").all_text_contents() == ["any", "<b>price</b>", "level"]
    page.get_by_label("Field").blur()
    view.filter("<b>price</b>")
    page.evaluate("view => window.update(view)", view.view)
    assert page.get_by_label("Field").input_value() == "<b>price</b>"
    assert page.problems == []


def test_a_place_that_is_marked_stands_below_what_is_wrong_there(open_page):
    class Refusing(Store):
        def query(self, question, limit=1000, *, within=""):
            raise QueryError(refusal(question, f"bad; context: [{question[:9]}]"))

    page = shown(open_page, LogExplorer(Refusing(), "a:( | ill | x", 5))
    below = """() => {
      const text = document.querySelector(".mark").firstChild, words = text.data;
      const at = (place) => {
        const range = document.createRange();
        range.setStart(text, place), range.setEnd(text, place + 1);
        return range.getBoundingClientRect();
      };
      const wrong = at(words.lastIndexOf("l | x")), mark = at(words.indexOf("^"));
      return [Math.round(mark.left - wrong.left), mark.top > wrong.top];
    }"""
    assert page.evaluate(below) == [0, True]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(open_page, axe, widget, theme):
    page = shown(open_page, widget, theme)
    page.evaluate("document.querySelector('details').open = true")
    page.add_script_tag(content=axe)
    found = page.evaluate("async () => (await axe.run(document)).violations")
    assert [f"{one['id']}: {[n['html'][:120] for n in one['nodes']][:3]}" for one in found] == []
