"""The hidden checks of chapter 10. They never enter a learner's kernel, a release or a feedback's source."""

from __future__ import annotations

import signal

from podlab.checks.bench import Bench
from podlab.checks.contract import Inconclusive
from podlab.checks.hidden import Hidden
from podlab.course.five_services import features, ingestion, pages, serving, training
from podlab.course.plain import Problem, computed, judged, short

CHECKS = Hidden()
add = CHECKS.add


@CHECKS("10.1", "torn", "Killed in the middle of a write", weight=3, needs=["acknowledged"])
@judged("a process that is killed in the middle of writing leaves half a line: the next one goes on, and loses nothing")
def torn(scene: str, bench: Bench) -> str | Problem:
    """The kernel ends the process when a file gets too long: after a part of a line, or at once."""
    sent = ingestion.events(bench.random, 160)
    for limit in (30, -20):
        begin = [["start", None], *(["send", one] for one in sent[:5]), ["limit", limit], ["until dead", sent[5:150]]]
        again = [["start", None], ["go on", 1], ["go on", 1], ["kill", None], ["start", None], ["events", None]]
        story = ingestion.played(scene, bench, [*begin, *again])
        tried = next((told["answers"] for told in story.said if "answers" in told), [{}])
        if tried[-1].get("died") == signal.SIGXFSZ:
            count = 5 + len(tried)
            return (
                story.trouble()
                or ingestion.miscounted(story.kept, sent[:count])
                or f"killed in the middle of event {count}; all {count} are there"
            )
    raise Inconclusive("no write was cut short")


@CHECKS("10.1", "poison", "What cannot be is refused", weight=1, needs=["keeps"])
@judged(
    "stars that are no number from 0.5 to 5, or an id that is no text, are answered with 'refused'; nothing is kept"
)
def poison(scene: str, bench: Bench) -> str | Problem:
    """Poison among good events."""
    good = ingestion.events(bench.random, 3)
    bad = [good[0] | {"id": f"bad-{number}", "stars": stars} for number, stars in enumerate((0, 5.5, "4", None, -1))]
    bad.append(good[0] | {"id": 17})
    stream = [good[0], *bad[:3], good[1], *bad[3:], good[2]]
    story = ingestion.played(scene, bench, [["start", None], *(["send", one] for one in stream), ["events", None]])
    for (event, answer), told in zip(story.answers(), story.said[1:], strict=False):
        if event in bad and answer != "refused":
            came = f"raised {told['error']}" if told.get("error") else f"was answered with {short(answer)}"
            return Problem(
                f"an event with id {event['id']!r} and stars {event['stars']!r} {came}",
                "An event is kept, or ends the service, without being looked at.",
                "Check id and stars before anything else, also their types.",
            )
    return story.trouble() or ingestion.miscounted(story.kept, good) or f"{len(bad)} refused, 3 kept"


@CHECKS("10.2", "late", "Late events, out of order", weight=2, needs=["offline", "online"])
@computed(
    "an event counts as of its date, whenever it arrives: online and offline give the same for any order of arrival"
)
def late(scene: features.Scene, bench: Bench) -> str | Problem:
    """A history that arrives shuffled."""
    events = features.history(bench.random, 25)
    asked = features.moments(bench.random, events)
    mixed = bench.random.sample(events, len(events))
    online = features.on(scene, bench, [*(["see", one] for one in mixed), *(["ask", each] for each in asked)])
    return (
        features.differs(features.off(scene, bench, mixed, asked), events, asked, "offline, events out of order,")
        or features.differs(online, events, asked, "Online, events out of order,")
        or f"{len(asked)} moments, in no order of arrival"
    )


@CHECKS("10.3", "seed", "The seed is used", weight=1, needs=["again"])
@judged("another seed makes another model, as it draws other first values")
def seed(scene: training.Scene, bench: Bench) -> str | Problem:
    """Two seeds."""
    rows, _ = training.ratings(bench.random)
    if training.trained(scene, bench, rows, 1) == training.trained(scene, bench, rows, 2):
        return Problem(
            "seeds 1 and 2 made the same bytes",
            "The seed is not used: random numbers come from a fixed one, or there are none.",
            "random.Random(seed), made once at the beginning of train.",
        )
    return "two seeds, two models"


@CHECKS("10.3", "goes-on", "After a crash, on it goes", weight=2, needs=["cut"])
@judged("what a killed publisher has left behind does not keep the next one from publishing")
def goes_on(scene: training.Scene, bench: Bench) -> str | Problem:
    """Killed twice in the middle, then published."""
    steps = [("publish", 1), ("cut", 2), ("cut", 2), ("read", 0), ("publish", 3), ("read", 0)]
    told = training.published(scene, bench, steps)
    training.cut_short(told[2], told[3], 2)
    if told[5] != 3:
        return Problem(
            f"two publishers were killed in the middle; the next one published model 3, and a reader finds {told[5]}",
            "The half-written file of the dead one is in the way.",
            "Open your own file so that it may be there already, or give it a name that nobody else has.",
        )
    return "killed twice, then published"


@CHECKS("10.4", "between", "A model that changes in mid-request", weight=2, needs=["loading"])
@judged("a request that has begun with one model ends with it, version and all")
def between(scene: str, bench: Bench) -> str | Problem:
    """A load between the two questions that a request has for its model."""
    told = serving.called(scene, bench, "_between", bench.random.randint(1, 900), serving.patience(bench))
    if told["answer"] != 1:
        return Problem(
            f"model 2 came in the middle of a request to model 1: {short(told['answer'])}",
            "One request looks at self.model more than once.",
            "model = self.model, once, at the beginning of answer.",
        )
    if told["afterwards"] != 2:
        return Problem(
            f"after a request during which model 2 was loaded, the next answer was {short(told['afterwards'])}",
            "A request puts the model back that it began with.",
            "answer should change nothing.",
        )
    return "it ended with model 1; the next one got model 2"


@CHECKS("10.4", "backwards", "Never back to an older model", weight=1, needs=["loading"])
@judged("a model whose reading took so long that a newer one is in use is refused: load returns False")
def backwards(scene: str, bench: Bench) -> str | Problem:
    """Model 3 overtakes model 2."""
    told = serving.called(scene, bench, "_backwards", bench.random.randint(1, 900), serving.patience(bench))
    if not told["stood"]:
        raise Inconclusive("model 2 was not being read when model 3 came")
    if told["afterwards"] != 3:
        return Problem(
            f"model 3 overtook model 2, read more slowly; in the end the answer was {short(told['afterwards'])}",
            "Whoever is ready last wins.",
            "Before the assignment: is the version that you have read higher than the one in use?",
        )
    # Whoever loads one model after the other was not overtaken, and may say True.
    if told["overtaken"] == 3 and told["said"] != [False]:
        if not told["said"]:
            raise Inconclusive("the loading of model 2 did not end")
        return Problem(
            f"model 3 overtook model 2, and what came of loading model 2 was {short(told['said'][0])}",
            "A model that is not taken into use was refused, for whatever reason.",
            "load returns False where it changes nothing.",
        )
    return "model 3 stayed"


@CHECKS("10.5", "broken-off", "Half an answer is none", weight=2, needs=["serving-away"])
@judged("an answer that breaks off, or is no JSON, is as if none had come")
def broken_off(scene: str, bench: Bench) -> str | Problem:
    """Real bytes, too few of them or the wrong ones."""
    for fault in ("breaks off", "talks nonsense"):
        menu = pages.Menu.made(bench.random)
        seen, told = pages.opened(scene, bench, menu, serving=fault)
        wanted = {pages.FOR_YOU: list(menu.titles.values())[: pages.FALLBACK], pages.RATED: menu.rated_lines}
        if wrong := pages.differs(seen, told, wanted, f"serving {fault}"):
            return wrong
        if seen and (wrong := pages.noticed(seen, True, f"serving {fault}")):
            return wrong
    return "the page came without it, twice"


@CHECKS("10.5", "one-path", "Only the history is missing", weight=1, needs=["features-away"])
@judged("if features fails to tell the history only, the titles are there all the same")
def one_path(scene: str, bench: Bench) -> str | Problem:
    """One path of features fails, the other answers."""
    menu = pages.Menu.made(bench.random)
    seen, told = pages.opened(scene, bench, menu, **{f"features__users__{menu.user}__history": "fails"})
    wanted = {pages.FOR_YOU: menu.for_you, pages.RATED: []}
    if wrong := pages.differs(seen, told, wanted, "the history fails"):
        return wrong
    return (seen and pages.noticed(seen, True, "the history fails")) or "titles without ratings, and a notice"


@CHECKS("10.5", "all-away", "Without both", weight=1, needs=["serving-away", "features-away"])
@judged("serving and features are away: the page comes with two empty lists and a notice")
def all_away(scene: str, bench: Bench) -> str | Problem:
    """Nobody listens anywhere."""
    menu = pages.Menu.made(bench.random)
    seen, told = pages.opened(scene, bench, menu, serving="is away", features="is away")
    if wrong := pages.differs(seen, told, {pages.FOR_YOU: [], pages.RATED: []}, "both are away"):
        return wrong
    return (seen and pages.noticed(seen, True, "both are away")) or "two empty lists, and a notice"
