# ---
# title: The monolith
# chapter: "09"
# minutes: 45
# needs: processes of this machine, no cluster
# ---

# %% [markdown]
# # 09. The monolith
#
# *Why must everything scale when one part is hot?*
#
# In part I the recommender was a loop, and then a loop on many processes. From here on it is a site that people use:
# they rate movies, and it says what they should watch next. It has five parts. To begin with, all five live in **one
# process** behind one port: a monolith.
#
# That is no insult. It is the simplest thing that works, and many sites never need another. In this chapter we measure
# what one costs, where its time goes, and what happens when it is no longer enough.

# %%
from podlab.lab import start

lab = start("09")

# %% [markdown]
# Here is the site, as one process of this machine, in a folder of its own. It is told two things: not to train a new
# model while we measure (`TRAIN_AFTER`), and to say which of its parts uses the processor (`PROFILE`).

# %%
import tempfile
from pathlib import Path

from movies import runner

told = {"MOVIES_TRAIN_AFTER": "0", "MOVIES_PROFILE": "1"}
folders, copies = [], []


def start_a_copy():
    folders.append(Path(tempfile.mkdtemp(prefix="movies-")))
    copies.append(runner.start("monolith", folders[-1], ratings=2000, environment=told, seconds=300))


start_a_copy()
print(copies[0].address, "is process", copies[0].pid("monolith"))

# %% [markdown]
# One process has everything: ingestion takes ratings in, features knows what everybody has done, training makes the
# model, serving recommends, and the pages show it. Where one part needs another, it calls a function.

# %%
import httpx

client = httpx.Client(timeout=120, trust_env=False, headers={"Accept": "text/html"})
page = client.get(f"{copies[0].address}/?user=3")
print(page.status_code, f"{len(page.content) / 1024:.0f} KiB, for user 3")

# %% [markdown]
# ## What a request costs
#
# A request takes time, but not all of that time costs anything: while the process waits, somebody else may use the
# processor. What counts is **processor time**, and the kernel keeps account of it for each process. `cost` reads that
# account before and after some requests.

# %%
import os


def processor(copy):
    """Processor seconds that a copy has used so far."""
    fields = Path(f"/proc/{copy.pid('monolith')}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cost(path, count=50):
    """Processor milliseconds of one request, as the mean of `count`."""
    before = processor(copies[0])
    for _ in range(count):
        client.get(copies[0].address + path).raise_for_status()
    return 1000 * (processor(copies[0]) - before) / count

# %% [markdown]
# Five questions to the monolith, each for one of its parts or for all of them:
#
# - `history`: what has user 3 rated? (features)
# - `recommend`: what should user 3 watch? (serving, which asks features)
# - `popular`: what do people like? (serving)
# - `status`: how many events are there? (ingestion)
# - `page`: the first page, which needs most of the above.
#
# **Predict.** Which of the first four costs most?

# %%
lab.predict("the dearest part", None)

# %%
PATHS = {
    "history": "/features/users/3/history",
    "recommend": "/serving/users/3/recommendations",
    "popular": "/serving/popular",
    "status": "/ingestion/status",
}
costs = {name: cost(path) for name, path in PATHS.items()}
lab.reconcile("the dearest part", max(costs, key=costs.get))

# %% [markdown]
# ## One part is hot
#
# The same as a picture, with the page below. A bar is as long as the processor was busy for one request:

# %%
costs["page"] = cost("/?user=3")
spans = [(name, 0.0, ms / 1000, f"{ms:.1f} ms", ms < 0.5 * costs["page"]) for name, ms in costs.items()]
lab.timeline(spans, "Processor time of one request")

# %% [markdown]
# What people ask for most is the page, and the page is what costs. Something is in every bar: the web server itself,
# and no request costs less. But a page is made by several parts. Which of them does the work?
#
# For every 5 ms of processor time the monolith looks which part it is working for, and counts. Below it is drawn as a
# box with its five parts, and with a **slider**: so many pages per second, asked for by real clients.
#
# **Predict.** Which of `ui`, `serving`, `features`, `ingestion` and `training` uses most of the processor?

# %%
lab.predict("the hot part", None)

# %%
from podlab.waiting import until


def under_load(box, rate, looks=4):
    """Ask for so many pages per second, until there were some looks; the same as to move the slider and wait."""
    before = len(box.looks)
    box.set(rate=rate)
    until(lambda: len(box.looks) > before + looks, f"{looks} looks at {rate} pages/s", timeout=120)


box = lab.copies([copies[0].address], "One copy")
for rate in (5, 25):
    under_load(box, rate)
    print(box.summary())
box.set(rate=0)
box

# %% [markdown]
# Which bar grew most when more pages were asked for? The same in seconds of the processor, part by part:

# %%
used = {part: round(seconds, 2) for part, seconds in box.parts().items() if part != "other"}
print(used)
lab.reconcile("the hot part", max(used, key=used.get))

# %% [markdown]
# A dear question is not yet a hot part: `features` works for two, since the page asks it, and serving asks it for the
# same user. A part is **hot** when it gets most of the work. `other` is what belongs to none of them: the web server,
# the log of events, the interpreter.
#
# Now move the slider. With more visitors some bars grow, and those of ingestion and training stay where they are. Go on
# until the picture says *too many*, and put it back to 0. Exercise 09.1 asks you to find out who is hot by yourself,
# from inside.

# %% [markdown]
# When is it too many? `pages` measures that: four clients ask for one page after the other, and share what copies there
# are. It tells how many pages came in a second, and what each of them cost.

# %%
import time
from concurrent.futures import ThreadPoolExecutor


def visit(number):
    client.get(f"{copies[number % len(copies)].address}/?user={number % 40 + 1}").raise_for_status()


def pages(number=120, clients=4):
    """Pages per second, and processor milliseconds for each, with so many clients that share all copies."""
    before, began = sum(map(processor, copies)), time.perf_counter()
    with ThreadPoolExecutor(clients) as visitors:
        list(visitors.map(visit, range(number)))
    return number / (time.perf_counter() - began), 1000 * (sum(map(processor, copies)) - before) / number

# %% [markdown]
# **Predict.** One request after the other, without pause: how many pages per second can one copy make at most, if it
# has one processor for itself? Reckon it from the bars of the first picture.

# %%
lab.predict("pages per second", None, "pages/s")

# %%
rate, each = pages()
print(f"{each:.1f} ms of the processor for each page: {1000 / each:.0f} pages/s with a processor of its own")
lab.reconcile("pages per second", round(1000 / each, 1))

# %% [markdown]
# That is the ceiling, since Python computes on one processor at a time in one process. What came about with four
# clients, on this machine and with all else that it has to do, was this:

# %%
print(f"{rate:.0f} pages/s, and the process was busy for {100 * rate * each / 1000:.0f} % of the time")

# %% [markdown]
# ## What a copy takes
#
# More visitors come. A monolith has one answer to that: more of it. First, what does one take? Of memory the kernel
# keeps account as well. `Pss` counts what a process has for itself, and its share of what it has in common with others.

# %%
def memory(copy):
    """MiB of a copy."""
    lines = Path(f"/proc/{copy.pid('monolith')}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


alone = memory(copies[0])
print(f"one copy takes {alone:.0f} MiB")

# %% [markdown]
# ## Scale the whole
#
# **Predict.** A second copy is started. How many MiB will the two take together?

# %%
lab.predict("memory of two", None, "MiB")

# %%
start_a_copy()
pages(40)  # so that both have done something
lab.reconcile("memory of two", round(sum(map(memory, copies))))

# %% [markdown]
# Nearly twice as much: they have the files of programs in common, and nothing else. Each has all five parts in it, the
# cold ones too. And what does a page cost now?

# %%
_, each_of_two = pages()
print(f"one copy:   {each:.1f} ms for each page, {alone:.0f} MiB")
print(f"two copies: {each_of_two:.1f} ms for each page, {sum(map(memory, copies)):.0f} MiB")

# %% [markdown]
# A page costs as much of the processor as before. The load of a moment ago, spread over both:

# %%
both = lab.copies([copy.address for copy in copies], "Two copies")
under_load(both, 25)
both.stop()
both

# %% [markdown]
# Every part is there twice, also those that have nothing to do, and each box has about half of the work. A copy makes
# nothing cheaper. It makes room for more requests at the same time, where there are processors for them, and we pay for
# that room with a whole copy. If only serving is hot, four fifths of the parts are copied for nothing. In exercise 09.2
# you reckon when that begins to matter.

# %% [markdown]
# ## Two that know nothing of each other
#
# There is another price. User 3 rates a movie, and that request happens to reach the first copy.
#
# **Predict.** Will the second copy know of it? `yes` or `no`.

# %%
lab.predict("the second copy knows", None)

# %%
event = {"id": "chapter-09", "kind": "rating", "user": 3, "movie": 7, "stars": 5.0}
kept = client.post(copies[0].address + "/ingestion/events", json=event).raise_for_status().json()
histories = [
    client.get(f"{copy.address}/features/users/3/history", params={"at_least": at_least}).json()["rows"]
    for copy, at_least in zip(copies, (kept["position"], 0), strict=True)
]
found = [any(row["movie"] == 7 and row["stars"] == 5.0 for row in rows) for rows in histories]
print("first copy:", found[0], " second copy:", found[1])
lab.reconcile("the second copy knows", "yes" if found[1] else "no")

# %% [markdown]
# Each copy keeps its own log in its own folder. A visitor who is sent now to one and now to the other would see ratings
# come and go. Before anything can be copied, what it knows has to live somewhere else: that is what the broker is for
# in chapter 10, and why four of its five services keep nothing.
#
# Then everything ends, and its files go:

# %%
import shutil

box.stop()
for copy, folder in zip(copies, folders, strict=True):
    copy.stop()
    shutil.rmtree(folder)

# %% [markdown]
# ## What we have seen
#
# - A request costs **processor time**, not the time that it takes. The kernel knows how much.
# - The parts of a monolith are used unevenly; what is asked most and costs most is **hot**.
# - A copy of the whole takes the memory of the whole. A page does not get cheaper by it.
# - What a process keeps to itself makes copies of it strangers.
#
# A monolith has its own merits: one thing to start, calls that cannot get lost, and no waiting for others. Chapter 10
# gives these up for services that can be copied one by one.

# %% [markdown]
# ## Three questions to test yourself
#
# 1. A request takes 200 ms and uses 20 ms of the processor. How many can one process answer per second, one at a time,
#    and how many at best?
# 2. Ten copies of a monolith run. Which of its parts would you rather have once only, and why?
# 3. Why is the sum of RSS of forked processes more than what they take, and when does that become true in time?

# %% [markdown]
# ## To read on
#
# - [MonolithFirst](https://martinfowler.com/bliki/MonolithFirst.html), Martin Fowler
# - [proc(5)](https://man7.org/linux/man-pages/man5/proc.5.html): what the kernel tells about processes
# - [The Python profilers](https://docs.python.org/3/library/profile.html)
# - `movies/compose.py`: how the same parts become one process or five
#
# The exercises of this chapter are in the assignment `09-the-monolith`.
