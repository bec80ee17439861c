"""The views as a browser draws them: the same counts and words as the text twin, usable by keyboard, accessible."""

from __future__ import annotations

import pytest

from podlab.widgets.model import STATES, Record
from podlab.widgets.views import ClusterMap, Staircase

pytestmark = pytest.mark.browser


def pod(uid, state="running", on="node-1", restarts=0):
    return {
        "metadata": {"uid": uid, "name": f"serving-{uid}", "labels": {"app": "serving"}}
        | ({"deletionTimestamp": "2026-01-01T00:00:00Z"} if state == "terminating" else {}),
        "spec": {"nodeName": on},
        "status": {
            "phase": {"pending": "Pending", "succeeded": "Succeeded", "failed": "Failed"}.get(state, "Running"),
            "conditions": [{"type": "Ready", "status": str(state == "running")}],
            "containerStatuses": [
                {
                    "restartCount": restarts,
                    "state": {"waiting": {"reason": "CrashLoopBackOff"}} if state == "crashloop" else {"running": {}},
                }
            ],
        },
    }


def node(name, ready="True"):
    return {"metadata": {"name": name}, "spec": {}, "status": {"conditions": [{"type": "Ready", "status": ready}]}}


def full_record():
    record = Record()
    for number, ready in enumerate(("True", "True", "Unknown"), 1):
        record.apply("node", "ADDED", node(f"node-{number}", ready), 100.0)
    for number, state in enumerate(STATES):
        record.apply("pod", "ADDED", pod(f"u{number}", state, f"node-{number % 3 + 1}", number), 101.0 + number)
    record.apply("pod", "ADDED", pod("free", "pending", ""), 120.0)
    record.apply("pod", "MODIFIED", pod("u0", "notready", "node-1", 1), 121.0)
    record.apply("pod", "MODIFIED", pod("u0", "running", "node-1", 1), 124.5)
    return record


def test_the_map_shows_what_the_words_say(open_page):
    view = ClusterMap(full_record(), "The site")
    page = open_page("cluster_map.js", view.view)
    labels = page.eval_on_selector_all("button.tile", "all => all.map(e => e.getAttribute('aria-label'))")
    assert len(labels) == len(view.view["pods"])
    for entry in view.view["pods"]:
        said = [label for label in labels if label.startswith(f"{entry['name']}: {STATES[entry['state']][1]}")]
        assert len(said) == 1, labels
    assert view.view["summary"] in page.get_attribute(".podlab-map", "aria-label")
    assert page.locator(".node").count() == 4 and page.locator(".node.lost").count() == 1
    assert page.locator("table tr").count() == len(view.view["pods"]) + 1
    assert page.problems == []


def test_tiles_are_kept_by_uid_when_the_state_changes(open_page):
    record = full_record()
    view = ClusterMap(record, "The site")
    page = open_page("cluster_map.js", view.view)
    page.evaluate("window.kept = document.querySelector('[data-uid=u1]')")
    record.apply("pod", "MODIFIED", pod("u1", "terminating", "node-2"), 130.0)
    record.apply("pod", "DELETED", pod("u2"), 131.0)
    view.refresh()
    page.evaluate("view => window.update(view)", view.view)
    assert page.evaluate("document.querySelector('[data-uid=u1]') === window.kept")
    assert page.locator("[data-uid=u2]").count() == 0
    assert "terminating" in page.get_attribute("[data-uid=u1]", "class")
    assert page.problems == []


def test_a_pod_that_finds_its_node_or_goes_does_not_take_the_keyboards_place_with_it(open_page):
    record = full_record()
    view = ClusterMap(record, "The site")
    page = open_page("cluster_map.js", view.view)

    def after(*change):
        record.apply("pod", *change, 130.0)
        view.refresh()
        page.evaluate("view => window.update(view)", view.view)
        return page.evaluate("document.activeElement.dataset.uid")

    page.focus("[data-uid=free]")
    assert after("MODIFIED", pod("free", "running", "node-1")) == "free"
    assert after("DELETED", pod("free")) in [entry["uid"] for entry in view.view["pods"]]
    assert page.evaluate("document.activeElement.tabIndex") == 0
    assert page.problems == []


def test_the_keyboard_reaches_every_tile_and_one_tab_stop_leads_to_them(open_page):
    page = open_page("cluster_map.js", ClusterMap(full_record(), "The site").view)
    assert page.locator("button.tile[tabindex='0']").count() == 1
    page.focus("button.tile[tabindex='0']")
    reached = set()
    for _ in range(page.locator("button.tile").count()):
        reached.add(page.evaluate("document.activeElement.dataset.uid"))
        page.keyboard.press("ArrowRight")
    assert len(reached) == page.locator("button.tile").count()
    assert page.inner_text(".detail") == page.evaluate("document.activeElement.title")


def test_the_buttons_send_what_the_calls_do(open_page):
    view = {**ClusterMap(full_record(), "The site").view, "mode": "live"}
    page = open_page("cluster_map.js", view)
    page.click("text=Pause")
    page.evaluate("view => window.update(view)", {**view, "mode": "paused"})
    assert page.inner_text(".age").startswith("paused at change")
    page.click("text=One step back")
    page.click("text=Back to now")
    sent = page.evaluate("window.sent")
    assert [message["type"] for message in sent] == ["open", "pause", "seek", "live"]
    assert sent[2]["position"] == view["length"] - 1


def test_old_news_turn_grey_and_say_why(open_page):
    view = {**ClusterMap(full_record(), "The site").view, "mode": "live"}
    page = open_page("cluster_map.js", {**view, "heard": view["now"] - 9}, frozen=True)
    assert page.locator(".podlab-map.stale").count() == 1 and "live, 9 s old" in page.inner_text(".age")
    page.evaluate("view => window.update(view)", {**view, "error": "the API server does not answer"})
    assert "no news: the API server does not answer" in page.inner_text(".age")


def test_when_the_view_is_taken_away_it_says_so_and_lets_go(open_page):
    page = open_page("cluster_map.js", ClusterMap(full_record(), "The site").view)
    page.evaluate("window.end()")
    assert page.evaluate("window.off") and page.evaluate("window.sent")[-1] == {"type": "close"}


@pytest.mark.parametrize(("view", "script"), [(ClusterMap, "cluster_map.js"), (Staircase, "stairs.js")])
def test_what_a_check_saw_stands_beside_the_moment(open_page, view, script):
    shown = view(full_record(), "The site")
    assert not open_page(script, shown.view).locator(".mark").is_visible()
    shown.mark = "two pods on one node"
    shown.seek(4)
    page = open_page(script, shown.view)
    assert page.locator(".mark").inner_text() == shown.mark and shown.mark in shown.to_text()
    assert page.problems == []


def test_the_staircase_shows_restarts_and_the_time_of_each_outage(open_page):
    view = Staircase(full_record(), "Restarts", app="serving")
    page = open_page("stairs.js", view.view)
    assert view.view["summary"] in page.get_attribute("svg", "aria-label")
    assert page.locator("svg text", has_text="3.5 s").count() == 1
    assert page.locator("table tr").count() == len(view.view["stairs"]) + 1
    assert page.problems == []


def test_the_staircase_says_what_its_signs_mean_how_old_it_is_and_that_its_kernel_is_gone(open_page):
    view = Staircase(full_record(), "Restarts", app="serving").view
    page = open_page("stairs.js", view, frozen=True)
    assert page.inner_text(".age") == "recorded" and view["summary"] == page.text_content("[role=status]")
    assert "one step up for each" in page.inner_text(".legend") and "not ready" in page.inner_text(".legend")
    page.evaluate("view => window.update(view)", {**view, "mode": "live"})
    assert page.inner_text(".age") == "live, 0 s old" and page.locator(".stale").count() == 0
    page.evaluate("view => window.update(view)", {**view, "mode": "live", "heard": view["now"] - 9})
    assert page.inner_text(".age") == "live, 9 s old" and page.locator(".stale").count() == 1
    page.evaluate("window.fail = true")
    page.clock.run_for(1000)
    page.wait_for_selector(".mark:has-text('Run the cell again')")
    assert page.problems == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("script", ["cluster_map.js", "stairs.js"])
def test_axe_finds_nothing(open_page, axe, script, theme):
    kind = ClusterMap if script == "cluster_map.js" else Staircase
    page = open_page(script, kind(full_record(), "The site").view, theme)
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    page.add_script_tag(content=axe)
    found = page.evaluate("async () => (await axe.run(document)).violations")
    told = [f"{entry['id']}: {[n['html'][:120] for n in entry['nodes']][:3]}" for entry in found]
    assert told == []
