# ---
# title: Five services
# chapter: "10"
# minutes: 55
# needs: processes of this machine, no cluster
# ---

# %% [markdown]
# # 10. Five services
#
# *What is each stall's menu?*
#
# In a food court nobody walks into another stall's kitchen. There is a menu, and what is on it is promised. How the
# noodles are made is nobody's business, so the stall may change it tomorrow.
#
# The movie site is five stalls and a broker that carries events between them. In this chapter we read the menus, and
# then we test what each stall promises by doing to it what happens on bad days: it hears everything twice, it is
# killed in mid-sentence, it gets its model changed while people wait.

# %%
from podlab.lab import start

lab = start("10")

# %% [markdown]
# All six run on this machine, each as a process of its own. They are told that training waits for us after its first
# model (`TRAIN_AFTER`).

# %%
import shutil
import tempfile
from pathlib import Path

from movies import runner

folder = Path(tempfile.mkdtemp(prefix="movies-"))
site = runner.start("processes", folder, ratings=2000, environment={"MOVIES_TRAIN_AFTER": "0"}, seconds=300)
print(", ".join(f"{name} is process {site.pid(name)}" for name in site.names))

# %% [markdown]
# None of them can look into another's memory: all that they know of each other is what they say.
#
# ## The menus
#
# Every service publishes its menu in a form that programs read, OpenAPI. Here is what each has besides what all have:

# %%
import httpx

client = httpx.Client(timeout=60, trust_env=False)


def get(service, path, **query):
    return client.get(site.url(service) + path, params=query).raise_for_status().json()


for stall in ("ingestion", "features", "training", "serving"):
    menu = get(stall, "/openapi.json")["paths"]
    print(f"{stall:10}", *(path for path, methods in menu.items() if "operation" not in str(methods)), sep="\n    ")

# %% [markdown]
# That is the contract. A service may be written anew, in another language, as long as this stays true. And what is not
# on the menu cannot be had: serving has no way to write into the ratings, so it cannot spoil them.
#
# ## Ingestion
#
# Ingestion takes ratings in. Whoever sends one waits for the answer; if none comes, there is no telling whether the
# rating was kept and only the answer got lost. So a careful sender sends it again. This is called *at least once*, and
# it is half of the solution. The other half is the `id` that the sender gives each event.
#
# **Predict.** We send one rating five times. By how many events does the log grow?

# %%
lab.predict("events in the log", None, "events")

# %%
import secrets

movies = get("features", "/movies")["movies"]


def rating(number, stars=4.0, **more):
    return {"id": secrets.token_hex(8), "kind": "rating", "user": 3, "movie": movies[number]["id"], "stars": stars, **more}


def send(event):
    return client.post(site.url("ingestion") + "/events", json=event)


before, event = get("ingestion", "/status")["position"], rating(0)
print(*(send(event).text for _ in range(5)), sep="\n")
lab.reconcile("events in the log", get("ingestion", "/status")["position"] - before)

# %% [markdown]
# The same place in the log for all, except that the later ones say `duplicate`. A sender need not care. To send again
# has become harmless: the operation is **idempotent**.
#
# An event that cannot be right is refused, with a reason, and sending it again will not help:

# %%
for wrong in (rating(0, stars=7.0), rating(0) | {"movie": 999_999}, rating(0, at="2199-01-01T00:00:00Z")):
    answer = send(wrong)
    print(answer.status_code, answer.json()["reason"], "-", answer.json()["detail"])

# %% [markdown]
# Now a bad day. A sender has 60 ratings, and ingestion will be killed while it sends them. The sender knows only one
# thing to do: send again until there is an answer. Three times on its way it says *strike*, and goes on.

# %%
import threading

from podlab.waiting import until

tries, strike = [], threading.Semaphore(0)


def answered(event):
    tries.append(event["id"])
    try:
        return send(event).status_code == 200
    except httpx.HTTPError:
        return False


def sender():
    for number in range(60):
        if number in (10, 25, 40):
            strike.release()
        event = rating(number)
        until(lambda: answered(event), "an answer of ingestion", timeout=300, interval=0.05)

# %% [markdown]
# At each *strike* ingestion is killed, as a crash would do it, and started again.
#
# **Predict.** How many of the 60 ratings will be missing in the end, or be there twice?

# %%
lab.predict("ratings lost or doubled", None, "ratings")

# %%
before, sending = get("ingestion", "/status")["position"], threading.Thread(target=sender)
sending.start()
for _ in range(3):
    strike.acquire()
    site.kill("ingestion")
    site.restart("ingestion")
sending.join()
grown = get("ingestion", "/status")["position"] - before
print(f"{len(tries)} times sent, {grown} events in the log")
lab.reconcile("ratings lost or doubled", abs(grown - 60))

# %% [markdown]
# Where are the ids kept, if ingestion was killed three times? Not in ingestion: it keeps nothing. The **broker** writes
# an event to disk before it says yes, and knows the ids of the last hour. Ingestion answers only after the broker has.

# %% [markdown]
# ## Features
#
# A model is trained on the past and asked in the present. Both times it must see a user in the same way. If the two are
# computed by two programs they will differ one day, and nobody will notice, except that recommendations get worse.
#
# Worse is to train on what was not known then: a model that explains a choice of last year by a rating of today looks
# wonderful. Features therefore take a moment, `as_of`, and look only at what was strictly before it.

# %%
import time

now = int(time.time())
for when, as_of in (("yesterday", now - 86_400), ("now", now + 60)):
    seen = get("features", "/users/3/features", as_of=as_of)
    print(f"as of {when}: {seen['ratings']} ratings, and {seen['last_30_days']} in the 30 days before")

# %% [markdown]
# The ratings of a moment ago are in the second line, and in the first there is nothing of them. (A movie that is rated
# again is still one movie with a rating.)
#
# **Predict.** User 3 gives half a star to ten more movies, now. One more event arrives late: it is dated two days ago.
# By how many does the number of ratings *as of yesterday* change?

# %%
lab.predict("ratings as of yesterday", None, "ratings")

# %%
from datetime import UTC, datetime

earlier = get("features", "/users/3/features", as_of=now - 86_400)["ratings"]
positions = [send(rating(number, stars=0.5)).json()["position"] for number in range(61, 71)]
# at_least: the answer waits until the event at this place of the log is in it
rated = {row["movie"] for row in get("features", "/users/3/history", at_least=positions[-1])["rows"]}
new = next(number for number, movie in enumerate(movies) if movie["id"] not in rated)
late = send(rating(new, at=datetime.fromtimestamp(now - 2 * 86_400, UTC).isoformat())).json()
get("features", "/users/3/history", at_least=late["position"])
changed = get("features", "/users/3/features", as_of=now - 86_400)["ratings"] - earlier
lab.reconcile("ratings as of yesterday", changed)

# %% [markdown]
# What happens later changes nothing earlier. But an event counts as of its own date, whenever it arrives.
#
# ## Training
#
# Training takes a snapshot of all rows and makes a model. It publishes the model as one object, and then moves a
# pointer to it. The name of a model is the hash of its bytes. A run is begun by POST and goes on by itself; `/runs`
# says how far it is.

# %%
def train():
    number = client.post(site.url("training") + "/runs").json()["number"]

    def ended():
        run = next(run for run in get("training", "/runs")["runs"] if run["number"] == number)
        return run if run["state"] != "running" else None

    return until(ended, f"the end of training run {number}", timeout=300)

# %% [markdown]
# **Predict.** We train twice, with no new ratings in between. How will the second run end: `published`, `unchanged` or
# `failed`?

# %%
lab.predict("the second run", None)

# %%
runs = [train(), train()]
print(*(f"run {run['number']}: {run['state']}, model {run['version']}, {run['seconds']:.1f} s" for run in runs), sep="\n")
lab.reconcile("the second run", runs[-1]["state"])

# %% [markdown]
# The same rows gave the same bytes. A model that can be made again can be compared, and blamed. It takes care: sums on
# several threads come in no fixed order, sets have none, and a clock never shows the same time twice.
#
# ## Serving
#
# Serving watches the pointer. A new model is fetched, checked by length and hash, and taken into use by one assignment.
# We shall have four clients, each of which asks for its own user without pause, and notes which model has answered.

# %%
from collections import Counter

statuses, versions, over = Counter(), Counter(), threading.Event()


def ask_on(user):
    while not over.is_set():
        answer = client.get(f"{site.url('serving')}/users/{user}/recommendations")
        statuses[answer.status_code] += 1
        versions[answer.json().get("model")] += 1

# %% [markdown]
# Meanwhile there is news twice, and each time a new model, until somebody has had an answer of it.
#
# **Predict.** Four clients ask while two new models come. How many of their requests fail?

# %%
lab.predict("failed requests", None, "requests")

# %%
clients = [threading.Thread(target=ask_on, args=[user]) for user in (1, 2, 3, 4)]
for each in clients:
    each.start()
for number in (80, 81):
    get("features", "/users/3/history", at_least=send(rating(number)).json()["position"])
    version = train()["version"]
    until(lambda: versions[version], f"answers of model {version}", timeout=120)
over.set()
for each in clients:
    each.join()
print(dict(statuses), dict(versions))
lab.reconcile("failed requests", sum(statuses.values()) - statuses[200])

# %% [markdown]
# Old model or new model, each request had one of them to its end. Nobody waited for the loading, since the new one was
# made ready on the side.

# %% [markdown]
# ## The pages
#
# The last stall cooks nothing. It puts on a tray what the others have, for whom it has to ask them. Each service counts
# its calls and tells them to whoever asks for its metrics. From these we draw who asks whom. A first look:

# %%
addresses = {name: site.url(name) for name in site.names if name != "broker"}
graph = lab.graph(addresses, [site.log(name) for name in site.names])
graph

# %% [markdown]
# **Predict.** Twenty visits to the first page of user 3. How many calls will the pages make to the other services?

# %%
lab.predict("calls for twenty pages", None, "calls")

# %%
pages = [client.get(f"{site.address}/?user=3", headers={"Accept": "text/html"}).raise_for_status() for _ in range(20)]
graph.look()
lab.reconcile("calls for twenty pages", int(sum(count.made for way, count in graph.ways.items() if way[0] == "ui")))

# %% [markdown]
# The picture above has changed. Every line in it is made of requests that happened, and says how many, and within which
# time 95 of 100 of them ended (p95). Serving asks features too: what a user did is nowhere else.
#
# The pages are also where a request begins, and gets an id that travels with it. Every service writes a line of JSON for
# each request, with that id. We give a movie five stars on the site:

# %%
form = {"user": "3", "stars": "5", "nonce": secrets.token_hex(8)}
page = client.post(f"{site.address}/movies/{movies[90]['id']}/rating", data=form)
trace = page.headers["x-trace-id"]
until(lambda: any(hop.what == "event stored" for hop in graph.follow(trace)), "the rating in features", timeout=60)
for hop in graph.follow(trace):
    print(f"{hop.caller:10} → {hop.service:10} {hop.what}")
graph.look()
lab.snapshot()

# %% [markdown]
# The pages asked ingestion; ingestion gave it to the broker; and features, which nobody had asked, stored it when it
# came by. The id went along, over HTTP and through the broker, and the picture has the steps as numbers.
#
# Then everything ends, and its files go:

# %%
site.stop()
shutil.rmtree(folder)

# %% [markdown]
# ## What we have seen
#
# - A service is what it promises: a menu that programs can read.
# - What it counts and writes is enough to draw who asks whom, and to follow one request by its id.
# - **Ingestion**: senders repeat themselves, ids make that harmless, and nothing is acknowledged before it is kept.
# - **Features**: one definition for then and now, and nothing of the future in it.
# - **Training**: the same rows make the same bytes; a model is published whole or not at all.
# - **Serving**: the new model is made ready on the side, and taken into use between two requests.
# - **The pages**: they own nothing, and put together what is there.

# %% [markdown]
# What has it cost? In the monolith of chapter 09 a question to the features was a call of a function. Here it is a
# message to somebody who may be slow, or dead. That is the next chapter.
#
# ## Three questions to test yourself
#
# 1. The broker forgets ids after an hour. What may happen to a sender that was offline for a day, and who saves it?
# 2. Why does a model get its name from its bytes, and not from the time at which it was made?
# 3. Features answers with `at_least` only when an event is in its store. Which surprise of a user does that prevent?

# %% [markdown]
# ## To read on
#
# - [JetStream: message deduplication](https://docs.nats.io/nats-concepts/jetstream) and its delivery guarantees
# - [OpenAPI](https://spec.openapis.org/oas/latest.html), what a menu looks like to a program
# - [Trace Context](https://www.w3.org/TR/trace-context/), how an id travels
# - [Rules of Machine Learning](https://developers.google.com/machine-learning/guides/rules-of-ml), rules 29 to 37 on
#   training and serving alike
# - `movies/contracts.py`, `movies/features.py` and `movies/services/`: how the site does it
#
# The exercises of this chapter are in the assignment `10-five-services`.
