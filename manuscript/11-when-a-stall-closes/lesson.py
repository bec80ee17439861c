# ---
# title: When a stall closes
# chapter: "11"
# minutes: 55
# needs: processes of this machine, no cluster
# ---

# %% [markdown]
# # 11. When a stall closes
#
# *Must the whole court close?*
#
# In a food court the noodle stall may close, and people eat something else. The movie site is a court of five stalls:
# ingestion, features, training, serving, and the pages that people see. Now serving, which knows what somebody should
# watch, stops answering. It does not crash, which everybody would notice. It just does not answer any more.
#
# In this chapter we do that to a real site, watch what becomes of its pages, and find out which four habits keep them
# coming. You will be asked for predictions. Make them before you run the cell that measures.

# %%
from podlab.lab import start

lab = start("11")

# %% [markdown]
# The whole recommender, as processes of this machine: a broker and five services, with a few thousand generated
# ratings. Switches for faults are on.

# %%
import shutil
import tempfile
from pathlib import Path

from movies import runner

folder = Path(tempfile.mkdtemp(prefix="movies-"))
site = runner.start("processes", folder, ratings=2000, environment={"MOVIES_FAULTS": "1"}, seconds=300)
print(site.address, "-", ", ".join(site.names))

# %% [markdown]
# The site can be opened in a browser while the notebook runs: that is the address, on this machine.
#
# ## What a page is made of
#
# We visit it as a program. `visit` fetches the first page of user 3 and says how long that took, and whether there
# were recommendations of this user's own on it. `harm` throws the switches for faults; for now we leave them alone.

# %%
import time

import httpx

from podlab.waiting import until

browser = httpx.Client(headers={"Accept": "text/html"}, timeout=60, trust_env=False)
client = httpx.Client(timeout=60, trust_env=False)


def visit():
    began = time.perf_counter()
    page = browser.get(f"{site.address}/?user=3")
    return page.status_code, time.perf_counter() - began, "For you</h2>" in page.text


def harm(service, **faults):
    client.put(f"{site.url(service)}/faults", json=faults).raise_for_status()


for _ in range(5):
    status, healthy, own = visit()
print(f"status {status}, {1000 * healthy:.0f} ms, recommendations of its own: {own}")

# %% [markdown]
# To make that page, the service of the pages (`ui`) asks other services. It counts those calls, and tells them to
# Prometheus, or to us:

# %%
import re
from collections import Counter


def calls():
    """Calls of ui so far: (to whom, how they ended) -> how many."""
    text = client.get(f"{site.url('ui')}/metrics").text
    found = re.findall(r'movies_calls_total\{outcome="(\w+)",service="ui",to="(\w+)"\} ([\d.e+]+)', text)
    return Counter({(to, outcome): int(float(count)) for outcome, to, count in found})


before = calls()
visit()
for (to, outcome), count in sorted((calls() - before).items()):
    print(f"{count} calls to {to}: {outcome}")

# %% [markdown]
# Two questions to serving (what should user 3 watch, what is popular), two to features (what has user 3 rated, what
# is known of that). All four are asked **at the same time**: the page takes about as long as the slowest of them, not
# as long as all together. That is the first habit.
#
# Here is the whole court, drawn from what every service counts. It looks once a second from now on. On each way stand
# the calls of the last ten seconds, and the time within which 95 of 100 of them ended (p95). Keep it in sight while you
# go on: in JupyterLab, a right click on it offers *Create New View for Cell Output*.

# %%
graph = lab.graph({name: site.url(name) for name in site.names if name != "broker"})
graph.start()
until(lambda: visit()[2] and graph.length > 1, "a few visits", timeout=60)
graph

# %% [markdown]
# ## A stall closes
#
# Now the fault. A wedged service accepts connections and answers nothing, as one does whose threads wait for each
# other.

# %%
harm("serving", wedged=True)

# %% [markdown]
# **Predict.** Nobody in this system waits longer than a second for another, but it does try again where that may
# help. How many seconds will the next page take? Or will it not come at all? Then put `never`.

# %%
lab.predict("page without serving", None, "s")

# %%
status, seconds, own = visit()
print(f"status {status}, recommendations of its own: {own}")
lab.reconcile("page without serving", round(seconds, 2))

# %% [markdown]
# A page, with status 200, in about a second. What is on it?

# %%
text = browser.get(f"{site.address}/?user=3").text
print(*re.findall(r"<h2[^>]*>(.*?)</h2>", text), sep="\n")
print(*re.findall(r'<div class="notice trouble".*?<p>(.*?)</p>', text, re.DOTALL), sep="\n")

# %% [markdown]
# Popular titles stand in for recommendations: the site keeps what it last heard, so this needs nobody. And it says
# that something is missing. A **fallback** is an answer of one's own: worse than the real one, better than none. That
# is the second habit. Not everything has one. If *ingestion* does not answer, the site does not pretend that a rating
# is kept.
#
# ## The first pages
#
# The page came after a second because the site stopped waiting then. That is a **deadline**, the third habit. Without
# one, how long would we have waited? As long as the service is wedged; and so would the next visitor, and the next,
# until all that the site can do at once is waiting.
#
# But a second is long. Here are twelve more visits, one after the other:

# %%
began, visits = time.perf_counter(), []
for number in range(1, 13):
    begin = time.perf_counter() - began
    _, seconds, _ = visit()
    visits.append((f"visit {number}", begin, begin + seconds, f"{seconds:.2f} s", seconds < 0.5))
lab.timeline(visits, "Twelve visits to a site without serving")

# %% [markdown]
# Most of them come at once, and now and then there is one that takes a second. Nothing has been mended, serving is as
# dead as before. So the site cannot have asked it.
#
# ## Left alone
#
# It has not. After five failures in a row `ui` leaves a service alone for two seconds; then it lets **one** call
# through, to see whether the service is back. This is a **circuit breaker**, the fourth habit, named after the one
# that cuts the current before the cable burns.
#
# **Predict.** We visit the page 60 times more, as fast as it comes. Each visit has two questions for serving. How
# many of these 120 calls will still be sent?

# %%
lab.predict("calls to a dead service", None, "calls")

# %%
before = calls()
began = time.perf_counter()
for _ in range(60):
    visit()
took = time.perf_counter() - began
made = calls() - before
print(f"60 pages in {took:.1f} s; {made['serving', 'open']} calls to serving were not made")
lab.reconcile("calls to a dead service", made["serving", "failed"])

# %% [markdown]
# And the picture, of the last ten seconds:

# %%
graph.look()
graph

# %% [markdown]
# The way from `ui` to `serving` is the one that is dashed: what was sent on it failed, after as long as anybody here
# waits. The visitors' way is not, though they asked the same `ui` at the same time: no page failed, and few were late.
# And `serving` is away for whoever looks at it.
#
# The breaker does two things at once. Pages do not wait for a service that will not answer. And the service, should
# it come back, is not run over by all who have waited.
#
# The site has a page about itself. It asks past the breaker, so it sees what is there now:

# %%
status_page = client.get(f"{site.address}/status", headers={"Accept": "application/json"}).json()
for part in status_page["parts"]:
    print(f"{part['name']:10} {part['state']:8} {'; '.join(part['troubles'])}")

# %% [markdown]
# ## Open again
#
# Serving gets well. Nobody tells the site.
#
# **Predict.** After how many seconds will recommendations be on the page again?

# %%
lab.predict("until recommendations are back", None, "s")

# %%
harm("serving", wedged=False)
began = time.perf_counter()
until(lambda: visit()[2], "recommendations on the page", timeout=120)
print(lab.reconcile("until recommendations are back", round(time.perf_counter() - began, 2)))
graph.look()
print(graph.summary())

# %% [markdown]
# At most the rest that the breaker had begun, and one page. A longer rest would spare the dead service more, and keep
# visitors longer without it: a number to choose, not to find.

# %% [markdown]
# ## A storm of tries
#
# One habit can do harm. To try again helps when a trouble is short: a packet lost, a process restarted. When it is
# not, every try is more load on a service that has too much already, and tries multiply. By how much? Serving itself
# counts what it has refused.

# %%
def arrived():
    """Requests that serving has refused so far (status 500)."""
    text = client.get(f"{site.url('serving')}/metrics").text
    found = re.findall(r'movies_requests_total\{code="500",[^}]*\} ([\d.e+]+)', text)
    return sum(int(float(count)) for count in found)


# %% [markdown]
# Whoever asks serving may try three times before giving up. So may a service that was asked by another one, and the one
# before that. What such a service does is the same for all: it takes a question, and tries it three times.

# %%
def serving_asked():
    client.get(f"{site.url('serving')}/popular").raise_for_status()


def tries_three_times(question):
    def asked():
        for number in range(3):
            try:
                return question()
            except httpx.HTTPStatusError:
                if number == 2:
                    raise

    return asked


# %% [markdown]
# We let serving refuse every request, at once, and a question pass through three services in a row.
#
# **Predict.** How many requests will arrive at serving for **one** question?

# %%
lab.predict("requests for one question", None, "requests")

# %%
harm("serving", failing=1.0)
first_service = tries_three_times(tries_three_times(tries_three_times(serving_asked)))
before = arrived()
try:
    first_service()
except httpx.HTTPStatusError as error:
    print(error.response.status_code)
lab.reconcile("requests for one question", arrived() - before)

# %% [markdown]
# Three times three times three. This is how a short trouble becomes a long one: the service comes back, is met by 27
# times its usual load, and falls over again.
#
# Our services do otherwise. Only one of them tries again, only once, only within the deadline; and there is a
# **budget**: over time, a tenth of all calls may be tries. While little goes wrong everybody gets a second try. When
# everything goes wrong, hardly anybody does.

# %%
before = arrived()
visits = [visit() for _ in range(40)]
print(f"{len(visits)} pages while serving refuses everything: {arrived() - before} requests arrived")

# %% [markdown]
# Fewer than one for each page, since the breaker is open most of the time.
#
# ## To play with
#
# Slow is worse than dead: a dead service is noticed at once. Try `harm("serving", slow=0.3)`, then `slow=0.9`, and
# visit the page a few times. What would you like the deadline to be? `harm("serving")` makes it well.

# %%
harm("serving")
until(lambda: visit()[2], "recommendations on the page", timeout=120)
for slow in (0.0, 0.3, 0.9):
    harm("serving", slow=slow)
    results = [visit() for _ in range(4)]
    print(f"slow by {slow} s:", *(f"{seconds:.2f} s{' with' if own else ' without'}" for _, seconds, own in results))

# %% [markdown]
# As long as answers come within the deadline, the breaker sees nothing wrong, and each page is as slow as the slowest
# of its parts. Then everything ends, and its files go:

# %%
graph.stop()
site.stop()
shutil.rmtree(folder)

# %% [markdown]
# ## What we have seen
#
# - Ask at the same time what does not depend on one another.
# - Give the whole question a **deadline**, and every call of it what is left.
# - Have a **fallback** where a worse answer is better than none, and say that it is one.
# - Try again rarely: once, in one place, within the deadline, and on a **budget**.
# - Leave alone who fails, and let one call find out when it is over: a **circuit breaker**.
#
# None of this mends the service. That is somebody else's task: in chapter 15 Kubernetes restarts what is wedged, and
# sends no requests to what is not ready. But until it has, and wherever it cannot know, the callers are on their own.

# %% [markdown]
# ## Three questions to test yourself
#
# 1. A page needs four services. Each answers in time in 99 of 100 cases. How often does a visitor see a complete page,
#    and how often a page, if three of the four have a fallback?
# 2. Why does the breaker let *one* call through after the rest, and not all?
# 3. Two copies of `ui` run, each with breakers of its own. Is it bad that they do not know of each other?
#
# ## To read on
#
# - [Circuit breaker](https://martinfowler.com/bliki/CircuitBreaker.html), Martin Fowler
# - [Handling overload](https://sre.google/sre-book/handling-overload/) and
#   [Addressing cascading failures](https://sre.google/sre-book/addressing-cascading-failures/), Google SRE book
# - [httpx: timeouts](https://www.python-httpx.org/advanced/timeouts/)
# - `movies/calls.py` and `movies/ui/composing.py`: how the site does it, in 150 lines each
#
# Now do it yourself: [the exercises of this chapter](../release/11-when-a-stall-closes/11-when-a-stall-closes.ipynb) check themselves, as often as you like.
