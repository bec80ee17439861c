"""Charts of jobs, as a browser draws them: every control reaches Python, nothing offends axe."""

from __future__ import annotations

import pytest

from podlab.distributed.farm import cut, plan
from podlab.spark.measured import Run, Stage, Task
from podlab.widgets.gantt import Gantt, Planner, SpeedUp
from podlab.widgets.replay import Replay
from podlab.widgets.shuffle import Stepper
from podlab.widgets.stages import Stages

pytestmark = pytest.mark.browser


def run():
    return plan(cut([0.1] * 12, 2), 3, message=0.01)


def spark_run():
    first = [Task(0, 0, "0", "SUCCESS", 0, 1), Task(1, 0, "1", "FAILED", 0, 0.5), Task(1, 1, "0", "SUCCESS", 1, 2)]
    last = [Task(0, 0, "0", "SUCCESS", 2, 3)]
    stages = [Stage(0, 0, "map", "SKIPPED", [], 3), Stage(1, 0, "reduceByKey", "COMPLETE", first, 2, 700, parents=(0,))]
    stages.append(Stage(2, 0, "collect", "COMPLETE", last, 1, 0, 700, parents=(1,)))
    return Run([], 1, stages, {"1": (0.5, "Command exited with code 137")})


VIEWS = {
    "stages": lambda: Stages(spark_run()),
    "gantt": lambda: Gantt(run(), "Who did what", mode="simulation"),
    "planner": lambda: Planner(workers=3, chunk=4, skew=1.0),
    "stepper": lambda: Stepper(kill=2, slow=6.0),
    "speedup": lambda: SpeedUp({1: 1.0, 2: 1.6, 4: 2.5}, 0.2),
}


@pytest.fixture
def driven(open_page):
    """driven(view): a page in which what is sent to the widget is done, and drawn."""

    def show(view: Replay, theme: str = "light"):
        page = open_page("replay.js", view.view, theme, "replay.css")
        done = 0

        def catch_up():
            nonlocal done
            sent = page.evaluate("window.sent")
            for message in sent[done:]:
                view._on_message(view, message, [])
            done = len(sent)
            page.evaluate("view => window.update(view)", view.view)

        page.catch_up = catch_up
        return page

    return show


@pytest.mark.parametrize("name", VIEWS)
def test_the_page_shows_what_the_words_say(driven, name):
    view = VIEWS[name]()
    page = driven(view)
    assert view.summary() in page.get_attribute(".podlab-replay", "aria-label")
    assert view.summary() in page.get_attribute(".stage svg", "aria-label")
    head, rows = view.table()
    assert page.locator("table th").all_text_contents() == head
    assert page.locator("table tr").count() == len(rows) + 1
    assert page.locator(".bar").is_hidden() == (view.length == 0)
    assert page.problems == []


def test_the_keyboard_goes_through_the_record(driven):
    view = VIEWS["gantt"]()
    page = driven(view)
    page.focus("text=One step back")
    page.keyboard.press("Enter")
    page.catch_up()
    assert view.position == view.length - 1
    assert page.get_attribute("input[type=range]", "aria-valuetext") == view.moment()
    page.focus("text=One step on")
    page.keyboard.press("Enter")
    page.catch_up()
    assert view.position == view.length and page.problems == []


def test_a_control_on_the_page_does_what_set_does(driven):
    view = VIEWS["planner"]()
    page = driven(view)
    page.select_option(".controls select", "asked")
    page.catch_up()
    asked = Planner(workers=3, chunk=4, skew=1.0, hand_out="asked")
    assert view.summary() == asked.summary() == page.inner_text(".words")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", VIEWS)
def test_axe_finds_nothing(driven, axe, name, theme):
    page = driven(VIEWS[name](), theme)
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    page.add_script_tag(content=axe)
    found = page.evaluate("async () => (await axe.run(document)).violations")
    assert [f"{one['id']}: {[n['html'][:120] for n in one['nodes']][:3]}" for one in found] == []
