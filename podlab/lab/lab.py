"""The lab: one chapter, in one namespace of one kernel, with the verbs that a learner needs."""

from __future__ import annotations

import re

from podlab.errors import PodlabError
from podlab.lab.connection import LabError, bring_up, connect
from podlab.lab.course_map import CourseMap
from podlab.lab.harm import HarmVerbs
from podlab.lab.learning import Learning, columns
from podlab.lab.notebook import display_it
from podlab.lab.pictures import Pictures
from podlab.lab.replays import Replays
from podlab.lab.seeing import Seeing
from podlab.lab.show import ON_PAPER, Listing

#: The labs of this kernel by chapter: a cell that is run again starts over with a clean slate.
_LABS: dict[str, Lab] = {}


def start(chapter: str, *, cluster: str | None = None, up: bool = False) -> Lab:
    """Open the lab of a chapter ("15") and return it: own namespace, clean slate, seed of this learner.

    Without a running cluster the lab says so, with the command that starts one (`up=True` starts it here), and
    everything that needs none still works. Chapters that run as plain processes do not look for one.
    """
    if not (isinstance(chapter, str) and re.fullmatch(r"\d\d", chapter)):
        raise LabError(f"{chapter!r} is not a chapter.", hint='Write two digits in quotes, such as start("15").')
    if earlier := _LABS.pop(chapter, None):
        earlier.close()
    lab = Lab(chapter, cluster)
    _LABS[chapter] = lab
    try:
        if up:
            bring_up(cluster)
        if up or lab.on_cluster:
            lab.open(connect(cluster))
    except PodlabError as error:
        lab.away = str(error)
    welcome = lab.welcome()
    welcome.html += ON_PAPER  # every lesson and every assignment begins with it
    display_it(welcome)
    return lab


class Lab(Seeing, Replays, Pictures, HarmVerbs, Learning):
    """One chapter's lab. `print(lab)` says where it is; `lab.check`, `lab.hint`, `lab.reset` are the main verbs."""

    def doctor(self) -> Listing:
        """What this machine has and lacks for the course, and how to get it."""
        from podlab import doctor

        rows = [
            {"row": [entry.check, entry.state, " ".join(filter(None, (entry.found, entry.meaning, entry.remedy)))]}
            for entry in doctor.diagnose()
        ]
        return Listing(rows, columns("CHECK", "STATE", "FOUND"), "findings")

    def course(self) -> CourseMap:
        """The map of the course: what is there, what it needs, how long it takes, and how far you have come."""
        return CourseMap()
