"""Acknowledged ratings that are lost while services and the broker are killed at random: none may be.

Senders repeat every rating, with its id, until it is acknowledged. Each kill counts only if work was in flight: the
same request was under way before and after the signal. At the end the acknowledged are counted in the store.
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

from movies.runner import BROKER, Running, start
from podlab import waiting

VICTIMS = ("ingestion", "features", "training", "serving", BROKER)
_SENDERS = 4
_FIRST_USER = 1_000_000
_PATIENCE = 180


class Sender(threading.Thread):
    """Sends ratings one after the other; `waits` while request number `attempt` is under way."""

    def __init__(self, url: str, user: int) -> None:
        super().__init__(daemon=True)
        self.url, self.user = url, user
        self.acknowledged: set[str] = set()
        self.waits, self.attempt, self.refused = False, 0, 0
        self.enough = threading.Event()

    def run(self) -> None:
        with httpx.Client(timeout=5, trust_env=False) as client:
            for number in itertools.count():
                id_ = f"{self.user}-{number}"
                event = {"id": id_, "kind": "rating", "user": self.user, "movie": number % 100 + 1, "stars": 4}
                while not self._sent(client, event):
                    if self.enough.is_set():
                        return
                self.acknowledged.add(id_)
                if self.enough.is_set():
                    return

    def _sent(self, client: httpx.Client, event: dict[str, object]) -> bool:
        self.attempt += 1
        self.waits = True
        try:
            if client.post(self.url, json=event).status_code == 200:
                return True
        except httpx.HTTPError:
            pass
        finally:
            self.waits = False
        self.refused += 1
        self.enough.wait(0.05)  # or the senders would take the time that the restart needs
        return False


def kill(running: Running, victim: str, senders: list[Sender]) -> bool:
    """Kill a process while a request is under way, start it again, and wait until ratings are taken again."""
    waiting.until(
        lambda: any(one.waits for one in senders), "a request is under way", timeout=_PATIENCE, interval=0.001
    )
    pid, under_way = running.pid(victim), {one: one.attempt for one in senders if one.waits}
    os.kill(pid, signal.SIGKILL)
    bitten = any(one.waits and one.attempt == attempt for one, attempt in under_way.items())
    running.kill(victim)  # has ended: is only taken note of
    then = sum(len(one.acknowledged) for one in senders)
    running.restart(victim, seconds=_PATIENCE)
    if victim == BROKER:
        running.wait_ready(["ingestion"], seconds=_PATIENCE)
    waiting.until(
        lambda: sum(len(one.acknowledged) for one in senders) > then + 2 * _SENDERS, "work goes on", timeout=_PATIENCE
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
            url = f"{running.url('ingestion')}/events"
            senders = [Sender(url, _FIRST_USER + number) for number in range(_SENDERS)]
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
    more = {"kills": given.kills, "acknowledged": len(acknowledged), "seconds": round(time.monotonic() - began)}
    finish(Figure("no-lost-rating", len(lost), "acknowledged ratings lost", None, "0", met, more), here)


if __name__ == "__main__":
    main()
