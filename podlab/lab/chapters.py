"""The map of the course: its chapters, the question each opens with, and what there is of them already."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any


@dataclass(frozen=True)
class Chapter:
    """One chapter of the plan. What there is of it says its card, which `make build` writes."""

    number: str
    title: str
    question: str

    @property
    def card(self) -> Mapping[str, Any]:
        """Notebook, minutes, needs and exercises; empty while the chapter is not written."""
        return self._read("cards")

    @property
    def disruptive(self) -> bool:
        """Whether the chapter takes nodes away, and with them the pods of whatever else runs on its cluster."""
        return bool(self.card.get("disruptive"))

    @property
    def measured(self) -> Mapping[str, Any]:
        """Seconds that the machine takes for "lesson" and "exercises", and which machine, as far as that is known."""
        return self._read("measured")

    @property
    def ready(self) -> bool:
        """Whether the chapter can be worked through."""
        return bool(self.card.get("notebook"))

    def _read(self, folder: str) -> Mapping[str, Any]:
        file = resources.files("podlab").joinpath(f"course/{folder}/{self.number}.json")
        return json.loads(file.read_text()) if file.is_file() else {}


PARTS: dict[str, tuple[Chapter, ...]] = {
    "Before you start": (Chapter("00", "Start here", "Is my machine ready?"),),
    "I. Distributed computing": (
        Chapter("01", "Split and conquer", "Why are 4 workers not 4 times faster?"),
        Chapter("02", "Messages get lost", "Did my request arrive?"),
        Chapter("03", "The lead node", "Who is in charge when the one in charge dies?"),
        Chapter("04", "Many things at once", "Where did my updates go?"),
        Chapter("05", "MapReduce from scratch", "How do you count words on machines that die?"),
        Chapter("06", "Inside Apache Spark", "What does Spark do with my map and reduce?"),
        Chapter("07", "Agreement", "Can two nodes disagree for ever?"),
        Chapter("08", "The benefits, measured", "Is it worth it?"),
    ),
    "II. Microservices": (
        Chapter("09", "The monolith", "Why must everything scale when one part is hot?"),
        Chapter("10", "Five services", "What is each stall's menu?"),
        Chapter("11", "When a stall closes", "Must the whole court close?"),
        Chapter("12", "Fit for a cluster", "What must a service do before someone else may run it?"),
        Chapter("13", "Containers", "What is in the box?"),
    ),
    "III. Kubernetes": (
        Chapter("14", "A cluster and its API", "Who does what when I say apply?"),
        Chapter("15", "Self-healing", "What happens when I kill it?"),
        Chapter("16", "Networking and load balancing", "How do pods find each other, and who gets the request?"),
        Chapter("17", "Simplified deployment", "How do I change a running system without anyone noticing?"),
        Chapter("18", "Resource management", "Who sits where?"),
        Chapter("19", "Effortless scaling", "How many is enough?"),
        Chapter("20", "State and jobs", "What must not be lost?"),
        Chapter("21", "Monitoring with Prometheus", "How would I know?"),
        Chapter("22", "Logging with the ELK stack", "What happened to request 7f3a?"),
        Chapter("23", "Who may do what", "What can a stolen token do?"),
        Chapter("24", "Write your own controller", "Can I teach Kubernetes a new word?"),
        Chapter("25", "Something is broken", "Where do I look first?"),
        Chapter("26", "Chaos capstone", "Does it survive a bad day?"),
        Chapter("27", "Toward internet scale", "What breaks first at 1,000 nodes?"),
    ),
}


def find(number: str) -> Chapter:
    """The chapter of a number; one without a card if the plan has none."""
    plan = (chapter for chapters in PARTS.values() for chapter in chapters)
    return next((chapter for chapter in plan if chapter.number == number), Chapter(number, "", ""))


def needs_cluster(number: str) -> bool:
    """Whether a chapter works on a cluster; Part I and the movie site of Part II run as plain processes."""
    for part, chapters in PARTS.items():
        if any(chapter.number == number for chapter in chapters):
            return not part.startswith(("I. ", "II. "))
    return True


def written() -> list[str]:
    """The numbers of the chapters that are there."""
    return [chapter.number for chapters in PARTS.values() for chapter in chapters if chapter.ready]


def tiles() -> list[dict[str, str]]:
    """What JupyterLab's launcher offers: the lessons that are there, then their exercises; paths as in work/."""
    there = [chapter for chapters in PARTS.values() for chapter in chapters if chapter.ready]
    lessons = [_tile(chapter, "lesson", f"notebooks/{chapter.card['notebook']}.ipynb") for chapter in there]
    return lessons + [
        _tile(chapter, "exercises", "release/{0}/{0}.ipynb".format(chapter.card["notebook"]))
        for chapter in there
        if chapter.card.get("exercises")
    ]


def _tile(chapter: Chapter, kind: str, path: str) -> dict[str, str]:
    caption = chapter.question if kind == "lesson" else f"{chapter.number}. {chapter.title}: exercises"
    return {"kind": kind, "number": chapter.number, "title": chapter.title, "caption": caption, "path": path}
