"""The bar that every picture with a time has: what moves by itself can be paused, all by keyboard."""

from __future__ import annotations

import pytest
from test_replays import copies, election, flow, graph, journey, lifecycle
from test_widget_views import full_record

from podlab.widgets.views import ClusterMap, Staircase

pytestmark = pytest.mark.browser

MOVING = {
    "map": ("cluster_map.js", lambda: ClusterMap(full_record(), "The site")),
    "staircase": ("stairs.js", lambda: Staircase(full_record(), "Restarts", app="serving")),
    "journey": ("replay.js", journey),
    "flow": ("replay.js", flow),
    "strip": ("replay.js", lifecycle),
    "graph": ("replay.js", graph),
    "copies": ("replay.js", copies),
}


@pytest.fixture(params=MOVING)
def opened(request, open_page):
    """opened(mode): a page with a picture of each kind, frozen in time; page.show(...) changes what Python says."""
    script, make = MOVING[request.param]
    css = "replay.css" if script == "replay.js" else "cluster_map.css"
    view = make().view

    def show(mode, **more):
        said = {**view, "mode": mode, "follows": mode == "live"}
        page = open_page(script, said, css=css, frozen=True, **more)
        page.show = lambda **change: page.evaluate("view => window.update(view)", {**said, **change})
        page.length = said["length"]
        return page

    return show


def focused(page):
    return page.evaluate("document.activeElement.textContent || document.activeElement.getAttribute('aria-label')")


def sent(page):
    return page.evaluate("window.sent.slice(1)")


def test_a_picture_that_moves_is_paused_stepped_through_and_goes_on_by_keyboard_alone(opened):
    page = opened("live")
    page.get_by_role("button", name="Pause", exact=True).focus()
    page.keyboard.press("Space")
    assert sent(page) == [{"type": "pause"}]
    page.show(mode="paused", follows=False)
    assert focused(page) == "Play", "the key that paused it is the one with which it goes on"
    way = []
    for _ in range(4):
        page.keyboard.press("Tab")
        way.append(focused(page))
    assert way == ["One step back", "Moment in the record", "One step on", "Back to now"]
    page.keyboard.press("Enter")
    assert sent(page)[-1] == {"type": "live"}
    page.show(mode="live", follows=True)
    assert focused(page) == "Pause", "the button that went away has not lost the keyboard's place"
    assert page.problems == []


def test_a_paused_picture_plays_what_has_come_meanwhile_until_it_is_at_now(opened):
    page = opened("paused")
    assert page.inner_text(".age").startswith("paused at ")
    page.get_by_role("button", name="Play").click()
    page.clock.run_for(450)
    assert sent(page) == [{"type": "seek", "position": page.length + 1}], "its end may have moved"
    page.show(mode="paused", follows=False, position=page.length + 1, length=page.length + 3)
    page.clock.run_for(400)
    assert sent(page)[-1] == {"type": "seek", "position": page.length + 2}
    page.show(mode="live", follows=True, position=page.length + 3, length=page.length + 3)
    before = len(sent(page))
    page.clock.run_for(2000)
    assert [one for one in sent(page)[before:] if one["type"] == "seek"] == []
    assert page.get_by_role("button", name="Pause", exact=True).is_visible()


def test_what_was_recorded_plays_from_its_beginning_and_has_no_now(opened):
    page = opened("recorded")
    assert not page.get_by_role("button", name="Back to now").is_visible()
    page.get_by_role("button", name="Play").click()
    page.show(mode="recorded", follows=False, position=0)
    page.clock.run_for(450)
    assert sent(page) == [{"type": "seek", "position": 0}, {"type": "seek", "position": 1}]
    page.get_by_role("button", name="Pause", exact=True).click()
    page.clock.run_for(2000)
    assert len(sent(page)) == 2 and page.problems == []


def test_who_wants_less_motion_gets_a_slow_one_until_another_is_chosen(opened):
    page = opened("recorded", reduced_motion="reduce")
    assert page.eval_on_selector(".bar select", "e => e.selectedOptions[0].text") == "slow"


def test_what_is_computed_and_what_is_asked_has_nothing_to_pause(open_page):
    view = election().view
    page = open_page("replay.js", {**view, "mode": "live", "follows": False}, css="replay.css")
    assert page.get_by_role("button", name="Play").is_visible() and page.locator("text=Back to now").is_hidden()
