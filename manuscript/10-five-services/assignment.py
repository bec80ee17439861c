# ---
# title: Five services, the exercises
# chapter: "10"
# minutes: 120
# needs: processes of this machine, no cluster
# ---

# %% [markdown]
# # 10. Five services: exercises
#
# One for each stall: ingestion that keeps every event once, features without a future, a model that is made and
# published properly, serving that changes its model under load, and a page that is put together from the others.
#
# Change only the cells that say `YOUR CODE HERE`. The cell below each of them runs the checks, as often as you
# like. `lab.hint("10.1")` asks you a question that may help.
#
# A cell with an answer must make sense by itself: write the imports that it needs into it.

# %% [markdown]
# The checks do to your code what happens to services: processes are killed between two steps or in the middle of a
# write, neighbours refuse connections or break off. When your work is graded, some further checks run that you do not see
# here; the task says everything they look at.

# %%
from podlab.lab import start

lab = start("10")

# %% [markdown]
# ## Exercise 10.1: Keep it once
#
# Senders of events send **at least once**: whoever gets no answer sends the same event again, later, perhaps to another
# process. Write a class `Ingestion(folder)` that keeps its events in files of `folder`.
#
# - `accept(event)` returns `"accepted"` for a new event, and `"duplicate"` for one whose `id` is known; then nothing
#   changes. An event is `{"id": "9f1c…", "user": 3, "movie": 7, "stars": 4.5}`.
# - `events()` returns a list of all events that are kept, as they were sent, in the order in which they were accepted.

# %% [markdown]
# What holds on bad days:
#
# - An event is **kept before it is acknowledged**: the process may be killed at any moment after `accept` has returned.
# - A new `Ingestion(folder)`, in a new process, goes on where the old one was, and knows all ids. The old one may have
#   been killed between writing and answering, or **in the middle of a write**: then half a line is all that is there.
# - If the `id` is no text, or `stars` is no number from 0.5 to 5, `accept` returns `"refused"` and keeps nothing.
#
# Only one process at a time has the folder.

# %% answer="10.1"
import json
import os


class Ingestion:
    """Keeps each event once, in a file of the folder."""

    ### BEGIN SOLUTION
    def __init__(self, folder):
        path = os.path.join(folder, "events")
        self.kept = []
        whole = 0
        if os.path.exists(path):
            with open(path, "rb") as file:
                for line in file:
                    if line.endswith(b"\n"):
                        self.kept.append(json.loads(line))
                        whole += len(line)
            os.truncate(path, whole)
        self.known = {event["id"] for event in self.kept}
        self.file = open(path, "ab")

    def accept(self, event):
        stars = event.get("stars")
        if not isinstance(event.get("id"), str) or not isinstance(stars, int | float) or not 0.5 <= stars <= 5:
            return "refused"
        if event["id"] in self.known:
            return "duplicate"
        self.file.write(json.dumps(event).encode() + b"\n")
        self.file.flush()
        self.known.add(event["id"])
        self.kept.append(event)
        return "accepted"

    def events(self):
        return list(self.kept)

    ### END SOLUTION


# %% checks="10.1"

# %% alternative="10.1" title="a database that knows how to be killed"
import json
import os
import sqlite3


class Ingestion:
    def __init__(self, folder):
        self.base = sqlite3.connect(os.path.join(folder, "events.db"))
        self.base.execute("pragma synchronous = off")
        self.base.execute("create table if not exists events (place integer primary key, id text unique, event text)")
        self.base.commit()

    def accept(self, event):
        id, stars = event.get("id"), event.get("stars")
        if type(id) is not str or type(stars) not in (int, float) or stars < 0.5 or stars > 5:
            return "refused"
        with self.base:
            done = self.base.execute("insert or ignore into events (id, event) values (?, ?)", (id, json.dumps(event)))
        return "accepted" if done.rowcount else "duplicate"

    def events(self):
        return [json.loads(text) for (text,) in self.base.execute("select event from events order by place")]


# %% alternative="10.1" title="a line break first, and lines that are no event are passed over"
import json
import os


class Ingestion:
    def __init__(self, folder):
        self.path = os.path.join(folder, "log")
        self.file = open(self.path, "ab")
        self.file.write(b"\n")
        self.file.flush()
        self.ids = {event["id"] for event in self.events()}

    def accept(self, event):
        good = isinstance(event["id"], str) and isinstance(event["stars"], (int, float))
        if not good or not 0.5 <= event["stars"] <= 5:
            return "refused"
        if event["id"] not in self.ids:
            self.file.write(json.dumps(event).encode() + b"\n")
            self.file.flush()
            self.ids.add(event["id"])
            return "accepted"
        return "duplicate"

    def events(self):
        found = []
        with open(self.path) as file:
            for line in file:
                try:
                    found.append(json.loads(line))
                except ValueError:
                    pass
        return found


# %% wrong="10.1" title="nobody asks how much was written"
# fails torn: was acknowledged and is not there
# -         self.file = open(path, "ab")
# +         self.file = open(path, "ab", buffering=0)

# %% wrong="10.1" title="in memory"
# fails acknowledged: in the memory of the process
# -         self.file.write(json.dumps(event).encode() + b"\n")
# -         self.file.flush()

# %% wrong="10.1" title="in a buffer"
# fails acknowledged: or in a buffer
# -         self.file.flush()

# %% wrong="10.1" title="ids are known to the process only"
# fails between: is kept 2 times
# -         self.known = {event["id"] for event in self.kept}
# +         self.known = set()

# %% wrong="10.1" title="the id is noted before the event is kept"
# fails torn: was acknowledged and is not there
import json
import os


class Ingestion:
    def __init__(self, folder):
        self.path, self.ids = os.path.join(folder, "events"), os.path.join(folder, "ids")
        for path in (self.path, self.ids):
            if not os.path.exists(path):
                open(path, "w").close()
        with open(self.path, "rb+") as file:
            whole = file.read().rpartition(b"\n")
            file.truncate(len(whole[0]) + len(whole[1]))

    def accept(self, event):
        if not isinstance(event["id"], str) or not isinstance(event["stars"], float | int):
            return "refused"
        if not 0.5 <= event["stars"] <= 5:
            return "refused"
        if event["id"] in open(self.ids).read().split():
            return "duplicate"
        with open(self.ids, "a") as file:
            file.write(event["id"] + "\n")
        with open(self.path, "a") as file:
            file.write(json.dumps(event) + "\n")
        return "accepted"

    def events(self):
        return [json.loads(line) for line in open(self.path)]


# %% wrong="10.1" title="half a line is not expected"
# fails torn: the files that an earlier life has left
# fails poison: without being looked at
# -                     if line.endswith(b"\n"):
# -                         self.kept.append(json.loads(line))
# -                         whole += len(line)
# -             os.truncate(path, whole)
# +                     self.kept.append(json.loads(line))
#
# -         if not isinstance(event.get("id"), str) or not isinstance(stars, int | float) or not 0.5 <= stars <= 5:
# -             return "refused"

# %% wrong="10.1" title="the same user and movie count as the same event"
# fails replays: was answered with 'duplicate'
# -         self.known = {event["id"] for event in self.kept}
# +         self.known = {(event["user"], event["movie"]) for event in self.kept}
#
# -         if event["id"] in self.known:
# +         if (event["user"], event["movie"]) in self.known:
#
# -         self.known.add(event["id"])
# +         self.known.add((event["user"], event["movie"]))

# %% wrong="10.1" title="every sending is kept"
# fails replays: not 'duplicate'
# -         if event["id"] in self.known:
# -             return "duplicate"

# %% wrong="10.1" title="the latest first"
# fails keeps: kept in another order
# -         self.kept.append(event)
# +         self.kept.insert(0, event)

# %% [markdown]
# ## Exercise 10.2: Twice the same, and no future
#
# Features are what a model sees of a user. They are computed twice: **offline**, for training, about many moments of
# the past; and **online**, for an answer now. Here a vector has three numbers, from what happened **strictly before** a
# moment `as_of`:
#
# 1. how many different movies the user has rated,
# 2. the mean of the user's stars, minus the mean of **all** stars that anybody has given before `as_of`. Of a movie
#    that the user has rated more than once the rating dated latest holds; in the mean of all every rating counts,
# 3. the seconds from the user's last rating to `as_of`.

# %% [markdown]
# A user who has rated nothing before has `[0, 0.0, None]`. An event is
# `{"user": 3, "movie": 7, "stars": 4.5, "at": 1700}`; no two have the same `at`.
#
# - `offline(events, user, as_of)` returns the vector as a list. `events` are in any order, and may reach past `as_of`.
# - `Online()` gets events by `see(event)` as they arrive, some of them late and out of order. `vector(user, as_of)`
#   returns the vector for any moment, also for one long past.


# %% answer="10.2"
def offline(events, user, as_of):
    """The vector of a user as of a moment."""
    ### BEGIN SOLUTION
    before = sorted((event for event in events if event["at"] < as_of), key=lambda event: event["at"])
    mine = {event["movie"]: event for event in before if event["user"] == user}
    if not mine:
        return [0, 0.0, None]
    own = sum(event["stars"] for event in mine.values()) / len(mine)
    everybody = sum(event["stars"] for event in before) / len(before)
    return [len(mine), own - everybody, as_of - max(event["at"] for event in mine.values())]
    ### END SOLUTION
    raise NotImplementedError


class Online:
    """Sees events as they arrive, and knows the vector of any user as of any moment."""

    ### BEGIN SOLUTION
    def __init__(self):
        self.seen = []

    def see(self, event):
        self.seen.append(event)

    def vector(self, user, as_of):
        return offline(self.seen, user, as_of)

    ### END SOLUTION


# %% checks="10.2"

# %% alternative="10.2" title="kept by user, in the order of dates"
import bisect


def offline(events, user, as_of):
    service = Online()
    for event in events:
        service.see(event)
    return service.vector(user, as_of)


class Online:
    def __init__(self):
        self.everybody, self.users = [], {}

    def see(self, event):
        bisect.insort(self.everybody, (event["at"], event["stars"]))
        bisect.insort(self.users.setdefault(event["user"], []), (event["at"], event["movie"], event["stars"]))

    def vector(self, user, as_of):
        mine = [one for one in self.users.get(user, []) if one[0] < as_of]
        if not mine:
            return [0, 0.0, None]
        latest = {movie: stars for _, movie, stars in mine}
        stars = [stars for at, stars in self.everybody if at < as_of]
        return [len(latest), sum(latest.values()) / len(latest) - sum(stars) / len(stars), as_of - mine[-1][0]]


# %% alternative="10.2" title="a plain loop"
def offline(events, user, as_of):
    total = count = 0
    latest, last = {}, None
    for event in events:
        if event["at"] >= as_of:
            continue
        total, count = total + event["stars"], count + 1
        if event["user"] == user:
            last = event["at"] if last is None else max(last, event["at"])
            if event["movie"] not in latest or latest[event["movie"]]["at"] < event["at"]:
                latest[event["movie"]] = event
    if last is None:
        return [0, 0.0, None]
    own = sum(event["stars"] for event in latest.values()) / len(latest)
    return [len(latest), own - total / count, as_of - last]


# %% wrong="10.2" title="everybody's mean is of all time"
# fails future: has leaked into it
# -     everybody = sum(event["stars"] for event in before) / len(before)
# +     everybody = sum(event["stars"] for event in events) / len(events)

# %% wrong="10.2" title="the moment itself counts as before"
# fails future: exactly at `as_of` is not before it
# -     before = sorted((event for event in events if event["at"] < as_of), key=lambda event: event["at"])
# +     before = sorted((event for event in events if event["at"] <= as_of), key=lambda event: event["at"])

# %% wrong="10.2" title="running totals"
# fails same: running totals that it cannot take back
class Online:
    def __init__(self):
        self.total = self.count = 0
        self.mine, self.last = {}, {}

    def see(self, event):
        self.total += event["stars"]
        self.count += 1
        self.mine.setdefault(event["user"], {})[event["movie"]] = event["stars"]
        self.last[event["user"]] = event["at"]

    def vector(self, user, as_of):
        mine = self.mine.get(user)
        if not mine:
            return [0, 0.0, None]
        own = sum(mine.values()) / len(mine)
        return [len(mine), own - self.total / self.count, as_of - self.last[user]]


# %% wrong="10.2" title="what arrives last holds"
# fails late: by their date
# -     before = sorted((event for event in events if event["at"] < as_of), key=lambda event: event["at"])
# +     before = [event for event in events if event["at"] < as_of]
#
# -     return [len(mine), own - everybody, as_of - max(event["at"] for event in mine.values())]
# +     return [len(mine), own - everybody, as_of - max(event["at"] for event in before if event["user"] == user)]

# %% wrong="10.2" title="ratings in place of movies"
# fails offline: Movies are counted, not ratings
# -     mine = {event["movie"]: event for event in before if event["user"] == user}
# +     mine = {event["at"]: event for event in before if event["user"] == user}

# %% wrong="10.2" title="online has a mean of its own users"
# fails online: Online.vector of user
# -         return offline(self.seen, user, as_of)
# +         return offline([event for event in self.seen if event["user"] == user], user, as_of)

# %% [markdown]
# ## Exercise 10.3: The same bytes, all of them or none
#
# Write the two ends of a training run.
#
# `train(rows, seed)` returns a model as **bytes**: a JSON object with each title and its score.
#
# - A row is `(user, title, stars)`. A score begins with a random number from 2 to 4 and moves a twentieth of the way
#   to each of the title's ratings, five times through all rows.
# - The same rows and seed make **the same bytes**, in any process, in whichever order the rows arrive. Another seed
#   makes other bytes.

# %% [markdown]
# `publish(folder, data)` makes `data` the content of the file `model` in `folder`.
#
# - Whoever reads the file finds a whole model at any moment, the old one or the new one; who has begun to read the old
#   one reads it to its end.
# - If the process is killed in the middle, the old model stays, and the next `publish`, by another process, works.
#   Only one process publishes at a time.

# %% answer="10.3"
import json
import os
import random


def train(rows, seed):
    ### BEGIN SOLUTION
    chance, rows = random.Random(seed), sorted(rows)
    scores = {title: chance.uniform(2, 4) for title in sorted({title for _, title, _ in rows})}
    for _ in range(5):
        for _, title, stars in rows:
            scores[title] += (stars - scores[title]) / 20
    return json.dumps(scores).encode()
    ### END SOLUTION
    raise NotImplementedError


def publish(folder, data):
    """Make data the content of the file model, all of it or nothing."""
    ### BEGIN SOLUTION
    beside = os.path.join(folder, "model.new")
    with open(beside, "wb") as file:
        file.write(data)
    os.replace(beside, os.path.join(folder, "model"))
    ### END SOLUTION


# %% checks="10.3"

# %% alternative="10.3" title="title by title, and a name that nobody else has"
import json
import random
import tempfile
from pathlib import Path


def train(rows, seed):
    scores = {}
    for title in sorted({row[1] for row in rows}):
        score = random.Random(f"{seed} {title}").uniform(2, 4)
        for stars in 5 * sorted(row[2] for row in rows if row[1] == title):
            score += (stars - score) / 20
        scores[title] = round(score, 6)
    return json.dumps(scores, sort_keys=True).encode()


def publish(folder, data):
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        file.write(data)
    Path(file.name).rename(Path(folder) / "model")


# %% alternative="10.3" title="a link that moves"
import hashlib
import os


def publish(folder, data):
    name = hashlib.sha256(data).hexdigest()
    with open(os.path.join(folder, name), "wb") as file:
        file.write(data)
    link = os.path.join(folder, "next")
    if os.path.lexists(link):
        os.remove(link)
    os.symlink(name, link)
    os.replace(link, os.path.join(folder, "model"))


# %% wrong="10.3" title="titles in the order of a set"
# fails again: or the order of a set
# -     scores = {title: chance.uniform(2, 4) for title in sorted({title for _, title, _ in rows})}
# +     scores = {title: chance.uniform(2, 4) for title in {title for _, title, _ in rows}}

# %% wrong="10.3" title="random numbers of nobody"
# fails again: unseeded random numbers
# -     scores = {title: chance.uniform(2, 4) for title in sorted({title for _, title, _ in rows})}
# +     scores = {title: random.uniform(2, 4) for title in sorted({title for _, title, _ in rows})}

# %% wrong="10.3" title="rows as they come"
# fails any-order: Rows are used in the order in which they arrived
# -     chance, rows = random.Random(seed), sorted(rows)
# +     chance = random.Random(seed)

# %% wrong="10.3" title="a seed of its own"
# fails seed: The seed is not used
# -     chance, rows = random.Random(seed), sorted(rows)
# +     chance, rows = random.Random(0), sorted(rows)

# %% wrong="10.3" title="it learns nothing"
# fails learns: little to do with the stars
# -     for _ in range(5):
# +     for _ in range(0):

# %% wrong="10.3" title="written over"
# fails reader: The file that is being read is written over
# -     beside = os.path.join(folder, "model.new")
# +     beside = os.path.join(folder, "model")
#
# -     os.replace(beside, os.path.join(folder, "model"))

# %% wrong="10.3" title="the old one goes first"
# fails cut: The old model is gone
# -     beside = os.path.join(folder, "model.new")
# +     beside = os.path.join(folder, "model")
# +     if os.path.exists(beside):
# +         os.remove(beside)
#
# -     os.replace(beside, os.path.join(folder, "model"))

# %% wrong="10.3" title="what is left lies in the way"
# fails goes-on: is in the way
# -     with open(beside, "wb") as file:
# +     with open(beside, "xb") as file:

# %% [markdown]
# ## Exercise 10.4: A new model, and nobody notices
#
# Write a class `Serving(read)`. Its methods are called in many threads at the same time.
#
# - `read(data)` makes a model of bytes. That may take long, and raises `ValueError` where the bytes are damaged. A model
#   has a number `model.version`; `model.best(user)` gives movie numbers, and `model.titles(numbers)` their titles. A
#   model knows only its own numbers.
# - `load(data)` reads a model and takes it into use. It returns `True`, or `False` where it was refused: damaged, or of
#   a lower version than the one that is in use by then. A refused model changes nothing.
# - `ready()` says whether there is a model in use.
# - `answer(user)` returns `{"version": ..., "titles": [...]}`, all of it from **one** model. While a new one is being
#   read, the old one answers, without waiting.

# %% answer="10.4"
import threading


class Serving:
    """Answers from the model in use, also while another one is loaded."""

    ### BEGIN SOLUTION
    def __init__(self, read):
        self.read, self.model, self.changing = read, None, threading.Lock()

    def load(self, data):
        try:
            model = self.read(data)
        except ValueError:
            return False
        with self.changing:
            if self.model is not None and model.version < self.model.version:
                return False
            self.model = model
        return True

    def ready(self):
        return self.model is not None

    def answer(self, user):
        model = self.model
        return {"version": model.version, "titles": model.titles(model.best(user))}

    ### END SOLUTION


# %% checks="10.4"

# %% alternative="10.4" title="the whole answer is a function that is changed"
import threading


class Serving:
    def __init__(self, read):
        self.read, self.version, self.answer, self.lock = read, None, None, threading.Lock()

    def load(self, data):
        try:
            model = self.read(data)
        except ValueError:
            return False

        def answer(user):
            return {"version": model.version, "titles": model.titles(model.best(user))}

        with self.lock:
            if self.version is not None and self.version > model.version:
                return False
            self.version, self.answer = model.version, answer
            return True

    def ready(self):
        return self.version is not None


# %% alternative="10.4" title="a list of models, the last one is in use"
class Serving:
    def __init__(self, read):
        self.read, self.models = read, []

    def load(self, data):
        try:
            model = self.read(data)
        except ValueError:
            return False
        if self.models and self.models[-1].version > model.version:
            return False
        self.models = [*self.models, model]
        return True

    def ready(self):
        return len(self.models) > 0

    def answer(self, user):
        model = self.models[-1]
        numbers = model.best(user)
        return dict(version=model.version, titles=model.titles(numbers))


# %% wrong="10.4" title="everybody waits for the loading"
# fails loading: waits for the loading
# -         try:
# -             model = self.read(data)
# -         except ValueError:
# -             return False
# -         with self.changing:
# +         with self.changing:
# +             try:
# +                 model = self.read(data)
# +             except ValueError:
# +                 return False
#
# -         model = self.model
# +         with self.changing:
# +             model = self.model

# %% wrong="10.4" title="away with the old one"
# fails loading: put away first
# fails damaged: put away before the new one is read
# -         try:
# +         self.model = None
# +         try:

# %% wrong="10.4" title="a damaged model ends the loading"
# fails damaged: The error goes through
# fails traffic: load: _Damaged
# -         except ValueError:
# -             return False
# +         except ValueError:
# +             raise

# %% wrong="10.4" title="the model is looked at again and again"
# fails between: looks at self.model more than once
# -         model = self.model
# -         return {"version": model.version, "titles": model.titles(model.best(user))}
# +         numbers = self.model.best(user)
# +         return {"version": self.model.version, "titles": self.model.titles(numbers)}

# %% wrong="10.4" title="whoever is ready last"
# fails backwards: ready last wins
# -             if self.model is not None and model.version < self.model.version:
# -                 return False

# %% wrong="10.4" title="refused, and nobody is told"
# fails backwards: load returns False where it changes nothing
# -             if self.model is not None and model.version < self.model.version:
# -                 return False
# -             self.model = model
# +             if self.model is None or model.version >= self.model.version:
# +                 self.model = model

# %% wrong="10.4" title="an older model is an error"
# fails backwards: load returns False where it changes nothing
# -             if self.model is not None and model.version < self.model.version:
# -                 return False
# +             if self.model is not None and model.version < self.model.version:
# +                 raise ValueError("too old")

# %% wrong="10.4" title="the first model for ever"
# fails reload: The first model stays in use
# -             self.model = model
# +             self.model = self.model or model

# %% wrong="10.4" title="ready from the start"
# fails answers: ready() says whether there is a model
# -         return self.model is not None
# +         return True

# %% [markdown]
# ## Exercise 10.5: A page of many parts
#
# Write `page(user, serving, features)`, which returns a page as HTML. `serving` and `features` are addresses such as
# `http://127.0.0.1:8004`. Their menu, all of it GET and JSON:
#
# | ask | get |
# |---|---|
# | serving `/users/{user}/recommendations` | `{"items": [{"movie": 17, "score": 0.9}, …], …}`, best first |
# | features `/users/{user}/history` | `{"rows": [{"movie": 4, "stars": 3.5}, …], …}` |
# | features `/movies` | `{"movies": [{"id": 17, "title": "Up"}, …]}` |

# %% [markdown]
# What the page has:
#
# - Under `<h2>For you</h2>` the page has a list, an `<li>` for each recommended movie with its title. Under
#   `<h2>Rated by you</h2>` it has one `<li>` for each row: title, colon, space, and the stars (`f"{stars:g}"`).
# - A title is text, whatever it contains.
# - A service may be away, answer with an error, break off in the middle or talk nonsense. The page comes all the same,
#   with what is there, and with `<p class="notice">` and a sentence in it. If nothing is missing there is no notice.
# - Without recommendations the first three movies of `/movies` stand in. Without `/movies` a movie is called
#   `movie 17`. Without the history that list is empty.

# %% answer="10.5"
import json
from html import escape
from http.client import HTTPException
from urllib.request import urlopen


def page(user, serving, features):
    ### BEGIN SOLUTION
    def ask(address):
        try:
            with urlopen(address) as answer:
                return json.load(answer)
        except (OSError, HTTPException, ValueError):
            return None

    recommended = ask(f"{serving}/users/{user}/recommendations")
    history = ask(f"{features}/users/{user}/history")
    catalogue = ask(f"{features}/movies")
    titles = {movie["id"]: movie["title"] for movie in catalogue["movies"]} if catalogue else {}
    numbers = [item["movie"] for item in recommended["items"]] if recommended else list(titles)[:3]
    rows = history["rows"] if history else []

    def name(number):
        return escape(titles.get(number, f"movie {number}"))

    parts = ["<h2>For you</h2><ul>", *(f"<li>{name(number)}</li>" for number in numbers), "</ul>"]
    parts += [
        "<h2>Rated by you</h2><ul>",
        *(f"<li>{name(row['movie'])}: {row['stars']:g}</li>" for row in rows),
        "</ul>",
    ]
    if None in (recommended, history, catalogue):
        parts.append('<p class="notice">Something is missing here for the moment.</p>')
    return "\n".join(parts)
    ### END SOLUTION
    raise NotImplementedError


# %% checks="10.5"

# %% alternative="10.5" title="each part by itself, with httpx"
import html

import httpx


def page(user, serving, features):
    notices = []

    def part(what, address, read, otherwise):
        try:
            return read(httpx.get(address, timeout=30).raise_for_status().json())
        except (httpx.HTTPError, ValueError):
            notices.append(f"<p class='notice'>{what} cannot be had now.</p>")
            return otherwise

    titles = part("Titles", f"{features}/movies", lambda told: {one["id"]: one["title"] for one in told["movies"]}, {})
    numbers = part(
        "Recommendations",
        f"{serving}/users/{user}/recommendations",
        lambda told: [one["movie"] for one in told["items"]],
        list(titles)[:3],
    )
    rows = part("Your ratings", f"{features}/users/{user}/history", lambda told: told["rows"], [])
    for_you = [titles.get(number, f"movie {number}") for number in numbers]
    rated = [f"{titles.get(row['movie'], 'movie %d' % row['movie'])}: {row['stars']:g}" for row in rows]
    lists = "".join(
        f"<h2>{head}</h2><ol>" + "".join(f"<li>{html.escape(line)}</li>" for line in lines) + "</ol>"
        for head, lines in (("For you", for_you), ("Rated by you", rated))
    )
    return "<!doctype html><title>Movies</title>" + "".join(notices) + lists


# %% alternative="10.5" title="all three asked at the same time"
import json
from concurrent.futures import ThreadPoolExecutor
from html import escape
from urllib.request import urlopen


def page(user, serving, features):
    addresses = [f"{serving}/users/{user}/recommendations", f"{features}/users/{user}/history", f"{features}/movies"]

    def ask(address):
        try:
            return json.loads(urlopen(address).read())
        except Exception:
            return {}

    with ThreadPoolExecutor(3) as pool:
        best, history, catalogue = pool.map(ask, addresses)
    movies = catalogue.get("movies", [])
    titles = {movie["id"]: movie["title"] for movie in movies}
    items = best.get("items", [{"movie": movie["id"]} for movie in movies[:3]])
    lines = "<h2>For you</h2>\n<ul>"
    for item in items:
        lines += "<li>" + escape(titles.get(item["movie"], "movie " + str(item["movie"]))) + "\n"
    lines += "</ul><h2>Rated by you</h2>\n<ul>"
    for row in history.get("rows", []):
        lines += "<li>" + escape(titles.get(row["movie"], "movie " + str(row["movie"]))) + f": {row['stars']:g}\n"
    lines += "</ul>"
    if not (best and history and catalogue):
        lines = '<p class="notice">This page is not complete.</p>' + lines
    return lines


# %% wrong="10.5" title="it takes the good weather for granted"
# fails serving-away: ends the whole page
# -             return None
# +             raise

# %% wrong="10.5" title="titles as they are"
# fails escaped: put into the page as they are
# -         return escape(titles.get(number, f"movie {number}"))
# +         return titles.get(number, f"movie {number}")

# %% wrong="10.5" title="nothing is said"
# fails serving-away: there is no <p class="notice">
# -     if None in (recommended, history, catalogue):
# -         parts.append('<p class="notice">Something is missing here for the moment.</p>')

# %% wrong="10.5" title="only refusals are expected"
# fails broken-off: ends the whole page
# - from urllib.request import urlopen
# + from urllib.error import URLError
# + from urllib.request import urlopen
#
# -         except (OSError, HTTPException, ValueError):
# +         except URLError:

# %% wrong="10.5" title="all of features or nothing"
# fails one-path: the page has
# -     catalogue = ask(f"{features}/movies")
# +     catalogue = ask(f"{features}/movies")
# +     if None in (history, catalogue):
# +         history = catalogue = None

# %% wrong="10.5" title="who stands in for those who stand in"
# fails all-away: ends the whole page
# -     numbers = [item["movie"] for item in recommended["items"]] if recommended else list(titles)[:3]
# +     best = recommended["items"] if recommended else [{"movie": movie["id"]} for movie in catalogue["movies"][:3]]
# +     numbers = [item["movie"] for item in best]

# %% wrong="10.5" title="in the order of the catalogue"
# fails composed: in another order
# -     numbers = [item["movie"] for item in recommended["items"]] if recommended else list(titles)[:3]
# +     best = [item["movie"] for item in recommended["items"]] if recommended else list(titles)[:3]
# +     numbers = [number for number in titles if number in best]

# %% wrong="10.5" title="without titles nothing"
# fails features-away: in another order, or under another heading
# -     parts = ["<h2>For you</h2><ul>", *(f"<li>{name(number)}</li>" for number in numbers), "</ul>"]
# +     numbers = [number for number in numbers if number in titles]
# +     parts = ["<h2>For you</h2><ul>", *(f"<li>{name(number)}</li>" for number in numbers), "</ul>"]
