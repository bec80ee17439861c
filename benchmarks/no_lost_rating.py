"""Acknowledged ratings that are lost while services and the broker are killed at random: none may be.

Half of the senders give their ratings to ingestion, half fill in the form of the site. They repeat every rating, with
its id, until it is acknowledged. Each kill counts only if work was in flight: the same request was under way before and
after the signal. At the end the acknowledged are counted in the store.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import sqlite3
import tempfile
import threading
import time
from pathlib import Path

import httpx
from common import Figure, announce, finish, machine, options, say, table

from movies.contracts import Rating
from movies.runner import BROKER, Running, start
from movies.ui.composing import rating
from podlab import waiting

VICTIMS = ("ingestion", "features", "training", "serving", "ui", BROKER)
_SENDERS = 4
_FIRST_USER = 1_000_000
_PATIENCE = 180


class Sender(threading.Thread):
    """Sends ratings to ingestion one after the other; `waits` while request number `attempt` is under way."""

    through = "ingestion"

    def __init__(self, url: str, user: int) -> None:
        super().__init__(daemon=True)
        self.url, self.user = url, user
        self.acknowledged: set[str] = set()
        self.waits, self.attempt, self.refused = False, 0, 0
        self.enough = threading.Event()

    def run(self) -> None:
        with httpx.Client(timeout=5, trust_env=False) as client:
            for number in itertools.count():
                event = rating(self.user, number % 100 + 1, 4, f"{self.user}n{number}")
                while not self._sent(client, event):
                    if self.enough.is_set():
                        return
                self.acknowledged.add(event.id)
                if self.enough.is_set():
                    return

    def post(self, client: httpx.Client, event: Rating) -> bool:
        """Send a rating; whether it was acknowledged."""
        told = event.model_dump(mode="json", exclude_none=True)
        return client.post(f"{self.url}/events", json=told).status_code == 200

    def _sent(self, client: httpx.Client, event: Rating) -> bool:
        self.attempt += 1
        self.waits = True
        try:
            if self.post(client, event):
                return True
        except httpx.HTTPError:
            pass
        finally:
            self.waits = False
        self.refused += 1
        self.enough.wait(0.05)  # or the senders would take the time that the restart needs
        return False


class Visitor(Sender):
    """Sends them by the form of the site, whose answer to an acknowledged one leads back to the movie."""

    through = "ui"

    def post(self, client: httpx.Client, event: Rating) -> bool:
        """Fill in the form of a movie."""
        form = {"user": event.user, "stars": event.stars, "nonce": event.id.rpartition(".")[2]}
        return client.post(f"{self.url}/movies/{event.movie}/rating", data=form).status_code == 303


def kill(running: Running, victim: str, senders: list[Sender]) -> bool:
    """Kill a process while a request is under way, start it again, and wait until ratings are taken again."""
    touched = [one for one in senders if victim != "ui" or one.through == "ui"]
    waiting.until(
        lambda: any(one.waits for one in touched), "a request is under way", timeout=_PATIENCE, interval=0.001
    )
    pid, under_way = running.pid(victim), {one: one.attempt for one in touched if one.waits}
    os.kill(pid, signal.SIGKILL)
    bitten = any(one.waits and one.attempt == attempt for one, attempt in under_way.items())
    running.kill(victim)  # has ended: is only taken note of
    then = {one: len(one.acknowledged) for one in senders}
    running.restart(victim, seconds=_PATIENCE)
    if victim == BROKER:
        running.wait_ready(["ingestion"], seconds=_PATIENCE)
    waiting.until(
        lambda: all(len(one.acknowledged) > then[one] + 1 for one in senders), "work goes on", timeout=_PATIENCE
    )
    return bitten


def stored(folder: Path) -> list[str]:
    """Ids of our ratings in the store of features."""
    with sqlite3.connect(f"file:{folder / 'features' / 'features.sqlite'}?mode=ro", uri=True) as store:
        return [id_ for (id_,) in store.execute("SELECT id FROM event WHERE user >= ?", (_FIRST_USER,))]


def main() -> None:
    given = options(__doc__, kills=(200, 5, "processes to kill"), seed=(0, 0, "of the choice of victims"))
    here = machine()
    announce("no-lost-rating", here)
    rng = random.Random(given.seed)
    kills = dict.fromkeys(VICTIMS, 0)
    in_flight = 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="movies-") as made:
        folder = Path(made)
        quick = {"MOVIES_DRAIN_SECONDS": "0", "MOVIES_TRAIN_AFTER": "0"}
        with start("processes", folder, ratings=3_000, environment=quick, seconds=_PATIENCE) as running:
            kinds = [(Sender, Visitor)[number % 2] for number in range(_SENDERS)]
            senders = [kind(running.url(kind.through), _FIRST_USER + number) for number, kind in enumerate(kinds)]
            for sender in senders:
                sender.start()
            for number in range(given.kills):
                victim = VICTIMS[number] if number < len(VICTIMS) else rng.choice(VICTIMS)
                in_flight += kill(running, victim, senders)
                kills[victim] += 1
                if (number + 1) % 10 == 0:
                    say(f"  {number + 1} kills, {sum(len(one.acknowledged) for one in senders)} ratings acknowledged")
            for sender in senders:
                sender.enough.set()
            for sender in senders:
                sender.join()
            status = f"{running.url('features')}/status"
            waiting.until(
                lambda: httpx.get(status, trust_env=False).json()["behind"] == 0,
                "features has read the whole log", timeout=_PATIENCE, ignore=(httpx.HTTPError, KeyError),
            )  # fmt: skip
        found = stored(folder)
    acknowledged = set().union(*(one.acknowledged for one in senders))
    lost, twice = acknowledged - set(found), len(found) - len(set(found))
    rows = [("acknowledged", len(acknowledged)), ("lost", len(lost)), ("stored twice", twice)]
    rows += [("refused or cut off, then sent again", sum(one.refused for one in senders))]
    rows += [("kills with a request under way", in_flight)] + [(f"kills of {name}", kills[name]) for name in VICTIMS]
    table("Ratings under random kills", ("what", "count"), rows)
    met = not lost and not twice and in_flight >= 0.9 * given.kills
    more = {"kills": given.kills, "kills_in_flight": in_flight, "acknowledged": len(acknowledged)}
    more |= {"seconds": round(time.monotonic() - began)}
    finish(Figure("no-lost-rating", len(lost), "acknowledged ratings lost", None, "0", met, more), here)


if __name__ == "__main__":
    main()
