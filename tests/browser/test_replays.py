"""Records to go through in a browser: the same facts as in words, by keyboard, accessible in either theme."""

from __future__ import annotations

import pytest

from podlab.widgets.calls import Count, Hop, Scrape
from podlab.widgets.copies import Copies, Copy, Look
from podlab.widgets.flow import Flow, Moment
from podlab.widgets.gantt import Planner
from podlab.widgets.journey import Journal, Step
from podlab.widgets.lifecycle import Life, Lifecycle, Request
from podlab.widgets.live import FlowView, JourneyView
from podlab.widgets.ring import Election
from podlab.widgets.service_graph import ServiceGraph
from podlab.widgets.timeline import Bar, Mark, Timeline

pytestmark = pytest.mark.browser


def election():
    view = Election("Who leads", seed=3)
    view.until(8)
    view.pause("leader")
    view.until(9)
    view.kill("n2")
    view.until(9.5)
    return view


def timeline():
    bars = [Bar("n1", 0, 2, "alive", "good"), Bar("n1", 2, 3, "slow", "doubt"), Bar("n2", 0, 3, "dead", "gone")]
    return Timeline(bars, [Mark("n1", 1.0, "heartbeat 1")], "What it took them for")


def journey():
    told = [("you", "Deployment", "created"), ("scheduler", "Pod", "bound to node-1"), ("node", "Pod", "Running")]
    steps = [Step(100.0 + at, who, kind, "web", f"u{at}", str(at), what) for at, (who, kind, what) in enumerate(told)]
    return JourneyView(Journal(steps), "From a manifest to a pod")


def flow():
    moments = [
        Moment(1.0, {"web-a": 5, "web-b": 4}, 0, "", ("web-a", "web-b"), ()),
        Moment(2.0, {"web-a": 6, "web-b": 1}, 2, "status 503", ("web-a",), ("web-b",)),
    ]
    return FlowView(Flow(moments), "web", "Requests to web")


def graph():
    first = {("visitors", "ui"): Count(ok=4, within={0.1: 4.0, 1.0: 4.0, float("inf"): 4.0}, what="requests")}
    last = {
        ("visitors", "ui"): Count(ok=24, within={0.1: 20.0, 1.0: 24.0, float("inf"): 24.0}, what="requests"),
        ("ui", "serving"): Count(ok=30, failed=5, not_made=3, within={0.1: 30.0, 1.0: 35.0, float("inf"): 35.0}),
        ("ui", "ingestion"): Count(ok=2, within={0.1: 2.0, float("inf"): 2.0}),
        ("ingestion", "broker"): Count(ok=2, what="events"),
    }
    states = {"ui": "ready", "ingestion": "ready", "serving": "not ready", "features": "away"}
    view = ServiceGraph({}, scrapes=[Scrape(0.0, first, states), Scrape(8.0, last, states)])
    view.hops = [Hop("visitors", "ui", "POST /rating"), Hop("ui", "ingestion", "POST /events")]
    view.refresh()
    return view


def copies():
    calm, busy = Copy({"features": 0.1}, 0.2, 90), Copy({"ui": 0.6, "serving": 0.3}, 0.95, 96)
    told = [Look(1.0, 5, (0.01,) * 5, 0, (calm, calm)), Look(1.0, 60, (0.2,) * 41, 1, (busy, calm))]
    return Copies(["one", "two"], looks=told)


def lifecycle():
    life = Life()
    for at, state in ((0, "absent"), (1, "starting"), (2, "unready"), (3, "ready"), (6, "draining"), (8, "gone")):
        life.look("serving", at, state)
    life.look("serving-2", 0, "ready")
    life.look("serving-2", 9, "ready")
    life.mark("serving", 5.9, "SIGTERM")
    life.requests += [Request(0.1 * number, "serving-2", "status 503" if number == 40 else "") for number in range(90)]
    return Lifecycle(life, "One serving for another")


WIDGETS = [election, timeline, journey, flow, graph, copies, lifecycle]


@pytest.fixture(params=WIDGETS, ids=["ring", *(make.__name__ for make in WIDGETS[1:])])
def widget(request):
    return request.param()


def shown(open_page, widget, theme="light", frozen=False):
    return open_page("replay.js", widget.view, theme, "replay.css", frozen)


def test_the_page_says_what_the_words_say(open_page, widget):
    page = shown(open_page, widget)
    assert widget.summary() in page.get_attribute(".podlab-replay", "aria-label")
    head, rows = widget.table()
    page.evaluate("document.querySelector('details').open = true")
    assert page.locator("table tr").count() == len(rows) + 1
    cells = page.eval_on_selector_all("table td", "all => all.map(e => e.textContent)")
    assert cells == [cell for row in rows for cell in row] and len(head) == len(rows[0])
    assert page.locator(".stage svg[role=img]").count() == 1
    assert page.problems == []


def test_the_signs_of_a_legend_stand_apart(open_page):
    page = shown(open_page, flow())
    legend = page.locator(".stage text", has_text="ready endpoint")
    wide = legend.evaluate("e => e.getComputedTextLength()")
    legend.evaluate("e => { e.textContent = e.textContent.replace(/ +/g, ' '); }")
    assert wide > legend.evaluate("e => e.getComputedTextLength()") + 5


def test_every_node_of_the_ring_is_drawn_with_its_role_and_term(open_page):
    widget = election()
    page = shown(open_page, widget)
    titles = page.eval_on_selector_all(".stage circle title", "all => all.map(e => e.textContent)")
    for member in widget.state.members.values():
        assert f"{member.name}: {member.role(widget.now)}, term {member.term}" in titles


def test_the_slider_goes_through_time_by_keyboard(open_page, widget):
    page = shown(open_page, widget)
    page.focus("input[type=range]")
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("window.sent.some(m => m.type === 'seek')")
    assert page.evaluate("window.sent").pop() == {"type": "seek", "position": widget.position - 1}


def test_what_strikes_the_group_is_sent_by_its_buttons_and_select(open_page):
    page = shown(open_page, election())
    page.get_by_label("Strike").select_option("n4")
    page.get_by_role("button", name="Kill").click()
    page.get_by_role("button", name="Heal the network").click()
    assert page.evaluate("window.sent")[1:] == [
        {"type": "set", "name": "target", "value": "n4"},
        {"type": "do", "name": "kill"},
        {"type": "do", "name": "heal"},
    ]


def test_the_load_is_chosen_with_a_slider_by_keyboard(open_page):
    page = shown(open_page, copies())
    page.get_by_label("Pages per second").press("ArrowRight")
    page.wait_for_function("window.sent.some(m => m.type === 'set')")
    assert page.evaluate("window.sent").pop() == {"type": "set", "name": "rate", "value": 1}


def test_two_sliders_that_are_moved_one_after_the_other_are_both_heard(open_page):
    page = shown(open_page, Planner())
    for label in ("Workers", "Tasks in a chunk"):
        page.get_by_role("slider", name=label).press("ArrowRight")
    page.wait_for_function("window.sent.filter(m => m.type === 'set').length === 2")
    assert {message["name"] for message in page.evaluate("window.sent")[1:]} == {"workers", "chunk"}


def test_a_slider_that_has_the_focus_follows_the_news_once_its_move_is_sent(open_page, widget):
    page = shown(open_page, widget)
    page.focus("input[type=range]")
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("window.sent.some(m => m.type === 'seek')")
    page.evaluate("view => window.update(view)", {**widget.view, "position": 0})
    assert page.input_value("input[type=range]") == "0"


def test_of_many_news_the_last_is_said_aloud_when_its_turn_comes(open_page):
    widget = journey()
    page = shown(open_page, widget, frozen=True)
    for told in ("two writes", "three writes"):
        page.evaluate("view => window.update(view)", {**widget.view, "summary": told})
    assert page.text_content("[role=status]") == widget.summary(), "at most one in two seconds"
    page.clock.run_for(2000)
    assert page.text_content("[role=status]") == "three writes"


def test_the_speed_is_chosen(open_page):
    widget = journey()
    widget.seek(0)
    page = shown(open_page, widget, frozen=True)
    page.get_by_label("Speed").select_option("slow")
    page.get_by_role("button", name="Play").click()
    page.clock.run_for(900)
    assert len(page.evaluate("window.sent")) == 1
    page.clock.run_for(200)
    assert page.evaluate("window.sent").pop() == {"type": "seek", "position": 1}
    page.get_by_label("Speed").select_option("fast")
    page.clock.run_for(450)
    assert len(page.evaluate("window.sent")) == 6


def test_a_live_picture_shows_the_age_of_its_news_and_turns_grey(open_page):
    view = {**journey().view, "mode": "live", "now": 100.0, "heard": 100.0, "error": ""}
    page = open_page("replay.js", view, css="replay.css", frozen=True)
    assert page.inner_text(".age") == "live, 0 s old" and page.locator(".stale").count() == 0
    page.evaluate("view => window.update(view)", {**view, "heard": 91.0})
    assert page.inner_text(".age") == "live, 9 s old" and page.locator(".stale").count() == 1
    page.evaluate("view => window.update(view)", {**view, "error": "the API server does not answer"})
    assert "no news: the API server does not answer" in page.inner_text(".age")
    page.evaluate("window.fail = true")
    page.clock.run_for(1000)
    page.wait_for_selector(".mark:has-text('Run the cell again')")


def test_a_picture_whose_kernel_is_gone_says_so_and_what_to_do(open_page, widget):
    page = shown(open_page, widget)
    page.evaluate("window.fail = true")
    page.get_by_role("button", name="One step back").click()
    page.wait_for_selector(".mark:has-text('Run the cell again')")
    page.evaluate("window.end()")
    assert page.problems == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(open_page, axe, widget, theme):
    page = shown(open_page, widget, theme)
    page.evaluate("document.querySelector('details').open = true")
    page.add_script_tag(content=axe)
    found = page.evaluate("async () => (await axe.run(document)).violations")
    assert [f"{one['id']}: {[n['html'][:120] for n in one['nodes']][:3]}" for one in found] == []
