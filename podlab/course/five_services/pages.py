"""Exercise 10.5: a page that is put together from other services' answers, and stands when they fall."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, Exercise, HandIn, Hint
from podlab.checks.talks import TalkEnded
from podlab.course.five_services.ingestion import LESSON
from podlab.course.outside import outside
from podlab.course.plain import Problem, judged, short, shown

NAME = "page"
#: How many movies of the catalogue stand in for recommendations.
FALLBACK = 3
FOR_YOU, RATED = "For you", "Rated by you"

#: Follows the learner's cell: the services are on this machine, behind no proxy.
_NO_PROXY = """
import os as _os
for _name in [each for each in _os.environ if each.lower().endswith("_proxy")]:
    del _os.environ[_name]
"""


@dataclass
class Seen(HTMLParser):
    """What a reader sees of a page: items under each heading, notices, and elements that do not belong there."""

    html: str
    items: dict[str, list[str]] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._heading, self._into = "", ""
        self.feed(self.html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element begins."""
        if tag in ("script", "img", "b") or any(name.startswith("on") for name, _ in attrs):
            self.strange.append(tag)
        if tag == "h2":
            self._heading, self._into = "", "heading"
        elif tag == "li":
            self.items.setdefault(self._heading.strip(), []).append("")
            self._into = "item"
        elif tag == "p" and ("class", "notice") in attrs:
            self.notices.append("")
            self._into = "notice"

    def handle_endtag(self, tag: str) -> None:
        """An element ends."""
        if tag in ("h2", "li", "p"):
            self._into = ""

    def handle_data(self, data: str) -> None:
        """Text, with its entities resolved."""
        if self._into == "heading":
            self._heading += data
        elif self._into == "item":
            self.items[self._heading.strip()][-1] += data
        elif self._into == "notice":
            self.notices[-1] += data

    def listed(self, heading: str) -> list[str]:
        """The items under a heading, without spaces around them."""
        return [" ".join(one.split()) for one in self.items.get(heading, [])]


@dataclass(frozen=True)
class Menu:
    """What the two services answer about one user, and what a page has to say of it."""

    user: int
    titles: dict[int, str]
    recommended: list[int]
    rated: dict[int, float]

    @classmethod
    def made(cls, chance: random.Random, titles: list[str] | None = None) -> Menu:
        """Some movies, of which a few are recommended and a few are rated."""
        names = titles or [f"{chance.choice(('Blue', 'Late', 'Lost'))} {chance.getrandbits(20):05x}" for _ in range(12)]
        numbers = chance.sample(range(1, 900), len(names))
        picked = chance.sample(numbers, min(len(numbers), 6))
        rated = {number: chance.randint(1, 10) / 2 for number in picked[3:]}
        return cls(chance.randint(1, 500), dict(zip(numbers, names, strict=True)), picked[:3], rated)

    def paths(self) -> dict[str, dict[str, Any]]:
        """The menu of each service: path -> answer."""
        items = [{"movie": number, "score": 1.0 - place / 10} for place, number in enumerate(self.recommended)]
        rows = [{"movie": number, "stars": stars} for number, stars in self.rated.items()]
        return {
            "serving": {f"/users/{self.user}/recommendations": {"user": self.user, "items": items}},
            "features": {
                f"/users/{self.user}/history": {"user": self.user, "rows": rows},
                "/movies": {"movies": [{"id": number, "title": title} for number, title in self.titles.items()]},
            },
        }

    @property
    def for_you(self) -> list[str]:
        """Titles of the recommended movies, best first."""
        return [self.titles[number] for number in self.recommended]

    @property
    def rated_lines(self) -> list[str]:
        """Title and stars of what was rated."""
        return [f"{self.titles[number]}: {stars:g}" for number, stars in self.rated.items()]


def opened(scene: str, bench: Bench, menu: Menu, **faults: str) -> tuple[Seen | None, dict[str, Any]]:
    """What is seen of the page, and how it was made: what was asked, and the error if there is no page.

    `faults` by service, or service and path (with __ for /): see programs/menus.py.
    """
    with outside(bench, "menus") as services:
        at = services.tell("begin", menu.paths(), {name.replace("__", "/"): fault for name, fault in faults.items()})
        arguments = [menu.user, at["serving"], at["features"]]
        told = bench.call(scene + _NO_PROXY, NAME, *arguments, seconds=20)
        asked = services.tell("asked")
    if told.kind not in ("value", "raised", "unfit") or "NotImplementedError" in told.error:
        raise TalkEnded(told, shown(NAME, arguments))
    if isinstance(told.value, str):
        return Seen(told.value), {"asked": asked, "error": ""}
    return None, {"asked": asked, "error": told.error or f"returned a {type(told.value).__name__}"}


def differs(seen: Seen | None, told: dict[str, Any], wanted: dict[str, list[str]], when: str) -> Problem | None:
    """A Problem for a page that did not come, or has other lists than wanted."""
    if seen is None:
        return Problem(
            f"{when}: page {told['error']}",
            "An error of one service ends the whole page.",
            "Catch what goes wrong where you ask, once for each question.",
        )
    for heading, lines in wanted.items():
        if (have := seen.listed(heading)) != lines:
            return Problem(
                f"{when}: under “{heading}” the page has {short(have)}, not {short(lines)}",
                "Items are missing, in another order, or under another heading (h2 and li are looked at).",
                "Print the page, and read the list under this heading.",
            )
    return None


def noticed(seen: Seen, wanted: bool, when: str) -> Problem | None:
    """A Problem if there is a notice where there should be none, or none where something is missing."""
    if bool(any(one.strip() for one in seen.notices)) == wanted:
        return None
    return Problem(
        f"{when}: " + (f"the notice {short(seen.notices)}" if seen.notices else 'there is no <p class="notice">'),
        "A page says when something is missing, and only then.",
        "Note while you ask whether something did not come.",
    )


def stage(answer: Answer, _bench: Bench) -> str:
    """The source of the learner's function."""
    return answer[NAME]


EXERCISE = Exercise(
    id="10.5",
    title="A page of many parts",
    points=12,
    handed_in=(HandIn(NAME, "function"),),
    stage=stage,
    cluster=False,
    lesson=f"{LESSON}#The-pages",
    hints=(
        Hint(
            "Serving speaks of movie 17. Whom do you ask for its title?", lambda situation: situation.failed("composed")
        ),
        Hint(
            "Somebody has called a movie <b>Up</b>. What does a browser make of that?",
            lambda situation: situation.failed("escaped"),
        ),
        Hint(
            "Which exceptions may urlopen raise, which json.loads? What do you have when one of them was raised?",
            lambda situation: situation.failed("serving-away", "broken-off"),
        ),
        Hint("Could one small function ask a question and return its answer, or None?"),
    ),
    debrief=(
        "The pages own no data: they put together what others know, and have something to say when one of them is "
        "silent. movies/ui/composing.py asks at the same time and with a deadline as well: that is chapter 11."
    ),
)


@EXERCISE.check("composed", "Put together from both", weight=3)
@judged("titles of the recommended movies, best first, and what the user has rated, with stars; no notice")
def composed(scene: str, bench: Bench) -> str | Problem:
    """All is well."""
    menu = Menu.made(bench.random)
    seen, told = opened(scene, bench, menu)
    wrong = differs(seen, told, {FOR_YOU: menu.for_you, RATED: menu.rated_lines}, "all services are well")
    if wrong or seen is None:
        return wrong or Problem("there is no page", "page returns nothing.", "Return the page as text.")
    return noticed(seen, False, "all services are well") or f"made of {len(told['asked'])} answers"


@EXERCISE.check("escaped", "A title is text", weight=2, needs=["composed"])
@judged("whatever a title contains is shown as text and never becomes an element of the page")
def escaped(scene: str, bench: Bench) -> str | Problem:
    """Titles with all that HTML takes for something else."""
    titles = ["<b>Up</b>", "Tom & Jerry", "<script>alert(1)</script>", "R&amp;D", "a < b", '"><img src=x onerror=y>']
    menu = Menu.made(bench.random, bench.random.sample(titles, len(titles)))
    seen, told = opened(scene, bench, menu)
    if seen is not None and seen.strange:
        return Problem(
            f"a title became an element of the page: {', '.join(seen.strange)}",
            "Titles are put into the page as they are.",
            "html.escape, for each text that is not yours.",
        )
    wrong = differs(seen, told, {FOR_YOU: menu.for_you, RATED: menu.rated_lines}, "titles with signs of HTML")
    return wrong or f"{len(titles)} strange titles are shown as they are"


@EXERCISE.check("serving-away", "Without serving", weight=3, needs=["composed"])
@judged(f"serving is away or fails: the first {FALLBACK} movies of the catalogue stand in, with a notice")
def serving_away(scene: str, bench: Bench) -> str | Problem:
    """A port where nobody listens, and status 500."""
    for fault in ("is away", "fails"):
        menu = Menu.made(bench.random)
        seen, told = opened(scene, bench, menu, serving=fault)
        wanted = {FOR_YOU: list(menu.titles.values())[:FALLBACK], RATED: menu.rated_lines}
        if wrong := differs(seen, told, wanted, f"serving {fault}"):
            return wrong
        if seen and (wrong := noticed(seen, True, f"serving {fault}")):
            return wrong
    return "the page came twice, with a notice"


@EXERCISE.check("features-away", "Without features", weight=2, needs=["composed"])
@judged("features is away: recommendations are there as “movie 17”, nothing is under the ratings, and a notice says so")
def features_away(scene: str, bench: Bench) -> str | Problem:
    """Neither titles nor ratings."""
    menu = Menu.made(bench.random)
    seen, told = opened(scene, bench, menu, features="is away")
    wanted = {FOR_YOU: [f"movie {number}" for number in menu.recommended], RATED: []}
    if wrong := differs(seen, told, wanted, "features is away"):
        return wrong
    return (seen and noticed(seen, True, "features is away")) or "numbers in place of titles, and a notice"
