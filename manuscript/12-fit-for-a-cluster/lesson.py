# ---
# title: Fit for a cluster
# chapter: "12"
# minutes: 60
# needs: processes of this machine, no cluster
# ---

# %% [markdown]
# # 12. Fit for a cluster
#
# *What must a service do before someone else may run it?*
#
# So far you have run everything yourself. You knew when a program had started, because you waited for it. When you
# stopped it, you knew that nobody was using it. From the next part on somebody else does that: a cluster starts
# programs when it likes, where it likes, and ends them while people are using them. It knows nothing of them but what
# they say.
#
# In this chapter we end a program that says nothing, and count what that costs. Then we look at what the services of
# the movie site say, and end one of those. You will be asked for predictions. Make them before you run the cell that
# measures.

# %%
from podlab.lab import start

lab = start("12")

# %% [markdown]
# ## A careless program
#
# It answers each request after 50 ms of work, and is ready as long as it listens. A web framework's first example
# does no more.

# %%
import subprocess
import sys
from collections import Counter

from movies import runner

CARELESS = """
import sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if not self.path.endswith("z"):
            threading.Event().wait(0.05)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
ports = dict(zip(("one", "two"), runner.free_ports(2), strict=True))
careless = {name: subprocess.Popen([sys.executable, "-c", CARELESS, f"{port}"]) for name, port in ports.items()}

# %% [markdown]
# We watch both: `lab.strip` asks each of them, twenty times a second, whether it has started and whether it is ready,
# and draws what it hears. `load` sends requests, each to one that was ready when it was last asked. That is what a
# cluster does, too: it asks, and sends requests to those that said yes. `lost` ends a program under this load, and
# counts the requests.

# %%
from podlab.waiting import until


def lost(name, end):
    """Requests sent, and failed, until some time after the end of a program; and what `end` says."""
    strip.mark(name, "SIGTERM")
    status = end()
    until(lambda: strip.state(name) == "gone", f"the end of {name}", timeout=120)
    answered = len(strip.life.requests)
    until(lambda: len(strip.life.requests) > answered + 100, "some more requests", timeout=120)
    sent, failed = strip.unload()
    strip.stop()
    return sent, failed, status


strip = lab.strip({name: f"http://127.0.0.1:{port}" for name, port in ports.items()}, "Two careless programs")
until(lambda: all(strip.state(name) == "ready" for name in ports), "both being ready", timeout=60)
strip.load("/work", clients=6)
until(lambda: len(strip.life.requests) > 100, "some requests", timeout=60)
print(len(strip.life.requests), "requests so far")

# %% [markdown]
# Now one of them has to go. A program is told to end by the signal `SIGTERM`, as `kill` sends it, and every cluster.
# The other one goes on, and can do all the work.
#
# **Predict.** Six clients are asking. How many requests will fail?

# %%
lab.predict("requests that fail", None, "requests")

# %%
sent, failed, _ = lost("one", careless["one"].terminate)
print(lab.reconcile("requests that fail", failed), f"{sent} were sent.")
print(dict(Counter(one.trouble for one in strip.life.requests if one.trouble)))
strip.view

# %% [markdown]
# Whoever was waiting for `one` lost its request: the process was gone before its next line of Python. And between its
# end and the next look at it, others were still sent there.
#
# `RemoteDisconnected` (or a reset) is a request that was cut off, `ConnectionRefusedError` one that came too late. A
# few requests, once. But a cluster ends programs all day: with every new version, every node that is emptied, every
# time there are fewer copies at night.

# %% [markdown]
# ## Told from outside
#
# Before a program can be ended, it has to be started, by somebody who does not read its source. Here is a service of
# the movie site, started with two settings that make no sense.
#
# **Predict.** How many of the two will it complain about before it ends?

# %%
lab.predict("complaints", None, "settings")

# %%
import os
import shutil
import tempfile
from pathlib import Path

for process in careless.values():
    process.kill()
    process.wait()
told = {name: value for name, value in os.environ.items() if not name.startswith("MOVIES_")}
wrong = {"MOVIES_PORT": "http", "MOVIES_CALL_SECONDS": "soon"}
refused = subprocess.run(
    [sys.executable, "-m", "movies", "serve", "serving"], env=told | wrong, capture_output=True, text=True
)
print(f"status {refused.returncode}: {refused.stderr.strip()}")
lab.reconcile("complaints", sum(name in refused.stderr for name in wrong))

# %% [markdown]
# Both, in one sentence, before it does anything else, and with status 2: by an old custom that means *told wrongly*,
# where 1 means that something went wrong. Everything that differs between your laptop and production is told in this
# way, through the **environment**; the program itself is the same everywhere. All that a service can be told is one
# table, in `movies/config.py`; `python -m movies settings` prints it.

# %% [markdown]
# ## Three questions
#
# Now the whole site, with a broker and five services, as in chapter 11.

# %%
folder = Path(tempfile.mkdtemp(prefix="movies-"))
site = runner.start("processes", folder, ratings=2000, environment={"MOVIES_DRAIN_SECONDS": "2"}, seconds=300)
print(site.address, "-", ", ".join(site.names))

# %% [markdown]
# Each service can be asked three questions. They sound alike:
#
# - `/startupz`: is the start over?
# - `/healthz`: does the process work, or should it be started anew?
# - `/readyz`: does it want requests **now**?

# %%
import httpx

client = httpx.Client(timeout=60, trust_env=False)


def three(url):
    """The status of each answer, and why it is not 200."""
    for path in ("/startupz", "/healthz", "/readyz"):
        answer = client.get(url + path)
        print(f"{path:10} {answer.status_code}  {'; '.join(answer.json()['reasons'])}")


three(site.url("ingestion"))

# %% [markdown]
# Ingestion keeps no rating itself: it acknowledges what the broker has on its disk. So it is of no use without the
# broker. We take the broker away.
#
# **Predict.** Which of the three answers of ingestion will change? Write `none`, `all`, or the path.

# %%
lab.predict("what changes without a broker", None)

# %%
site.kill("broker")
url = site.url("ingestion")
until(lambda: client.get(f"{url}/readyz").status_code == 503, "ingestion noticing it", timeout=120)
changed = [path for path in ("/startupz", "/healthz", "/readyz") if client.get(url + path).status_code != 200]
three(url)
lab.reconcile("what changes without a broker", " ".join(changed))

# %% [markdown]
# Only readiness. It says *send me nothing now*, and takes it back when the broker is there again. If liveness said no
# as well, whoever runs the program would start it anew, again and again, which does not bring the broker back. **Say
# that you are dead only where being started anew would help.**

# %%
site.restart("broker", seconds=300)
until(lambda: client.get(f"{url}/readyz").status_code == 200, "ingestion being ready", timeout=120)
three(url)

# %% [markdown]
# ## Told to end
#
# Back to the beginning: a process has to go, under load. This time it is serving, the service that recommends. First
# a second one is started beside it. It is told where the others are by its environment, and that is all it needs.

# %%
port = runner.free_ports(1)[0]
second = told | {
    "MOVIES_PORT": f"{port}",
    "MOVIES_BROKER": site.url("broker").replace("http://", "nats://"),
    "MOVIES_FEATURES_URL": site.url("features"),
    "MOVIES_DATA": str(folder / "serving-2"),
}
strip = lab.strip({"serving": site.url("serving")}, "One serving for another")
strip.load(lambda number: f"/users/{number % 50 + 1}/recommendations", clients=4)
until(lambda: len(strip.life.requests) > 50, "some requests", timeout=120)
with (folder / "logs" / "serving-2.log").open("w") as log:
    other = subprocess.Popen([sys.executable, "-m", "movies", "serve", "serving"], env=second, stdout=log)
strip.watch("serving-2", f"http://127.0.0.1:{port}")
until(lambda: strip.state("serving-2") == "ready", "the second one being ready", timeout=300)
print(strip.view.summary())

# %% [markdown]
# It got no request before it said that it was ready. Now the first one gets its `SIGTERM`, while four clients ask as
# fast as they can.
#
# **Predict.** How many requests will fail this time?

# %%
lab.predict("requests that fail now", None, "requests")

# %%
sent, failed, status = lost("serving", lambda: site.stop_one("serving", seconds=120))
print(lab.reconcile("requests that fail now", failed), f"{sent} were sent. Serving ended with status {status}.")
strip.view

# %% [markdown]
# The grey part is what the careless program lacked. Its four steps are in this order:
#
# 1. `/readyz` says 503, and **everything else goes on**: others need a moment until they know.
# 2. After that moment (`MOVIES_DRAIN_SECONDS`) it takes no new connections.
# 3. What is under way is ended, but not waited for without a limit (`MOVIES_STOP_SECONDS`).
# 4. It ends, with status 0.
#
# This is how a new version takes the place of an old one without anybody noticing. In chapter 17 Kubernetes does it,
# pod by pod; but it can do so only with programs that know these steps.

# %% [markdown]
# ## One story out of many logs
#
# A page of the site is made by several services, each of which writes a log of its own. Somebody calls: *my page was
# odd just now*. Which lines belong to that page?
#
# We ask for a page and send a header along, `traceparent`. It holds two ids: one for the whole story, which everybody
# hands on, and one for the step of whoever asks.

# %%
import secrets

other.terminate()
other.wait()
site.restart("serving", seconds=300)

trace, step = secrets.token_hex(16), secrets.token_hex(8)
page = client.get(f"{site.address}/?user=3", headers={"traceparent": f"00-{trace}-{step}-01"})
print(page.status_code, "trace", trace)

# %% [markdown]
# **Predict.** How many lines, in the logs of all services, will have this id?

# %%
lab.predict("lines of this story", None, "lines")

# %%
import json


def story():
    """All lines with the id, in the logs of all services."""
    logs = [site.log(name).read_text().rpartition("\n")[0] for name in site.names]
    lines = [json.loads(line) for log in logs for line in log.splitlines() if line.startswith("{")]
    return [line for line in lines if line.get("trace_id") == trace]


until(lambda: any(line["service"] == "ui" for line in story()), "the page being logged", timeout=60)
lab.reconcile("lines of this story", len(story()))

# %% [markdown]
# Each line also has the id of its own step (`span_id`) and that of the step that asked for it (`parent_id`). So the
# story can be told in order, whatever the clocks say:

# %%
def tell(parent, depth=0):
    for line in story():
        if line.get("parent_id") == parent and line["message"] == "request":
            print("   " * depth + f"{line['service']}: {line['path']} {line['status']}, {1000 * line['seconds']:.0f} ms")
            tell(line["span_id"], depth + 1)


tell(step)

# %% [markdown]
# The page asked four questions, and one of those who were asked asked on. Nobody had to guess from the time of day.
#
# ## What it says of itself
#
# The last habit: a service counts what it does. Whoever runs it looks at the counts, not at the program.
#
# **Predict.** We send 30 good requests to serving, and 12 for a path that does not exist. By how much does the count
# of requests grow, all together?

# %%
lab.predict("requests counted", None, "requests")

# %%
import re


def counted():
    """Requests by route and status, as serving counts them."""
    text = client.get(f"{site.url('serving')}/metrics").text
    found = re.findall(r'movies_requests_total\{code="(\d+)",[^}]*route="([^"]+)"[^}]*\} ([\d.e+]+)', text)
    return Counter({(route, code): int(float(count)) for code, route, count in found})


before = counted()
for number in range(30):
    client.get(f"{site.url('serving')}/users/{number + 1}/recommendations")
for number in range(12):
    client.get(f"{site.url('serving')}/nowhere/{number}")
new = counted() - before
# Probes and questions about the counts are counted as well, under routes of their own.
ours = {key: count for key, count in new.items() if key[0] not in ("/metrics", "/readyz", "/healthz", "/startupz")}
for (route, code), count in ours.items():
    print(f"{count:3} {route} {code}")
lab.reconcile("requests counted", sum(ours.values()))

# %% [markdown]
# Every one of them, also those that were refused. But the twelve paths that do not exist have **one** line: the
# route is `other`. If each path were a count of its own, anybody could make the service, and whoever collects its
# counts, run out of memory.
#
# Times are counted, too: in buckets, each of which holds the requests that took at most so long.

# %%
text = client.get(f"{site.url('serving')}/metrics").text
route = "/users/{user}/recommendations"
print(*[line for line in text.splitlines() if line.startswith("movies_request_seconds_bucket") and route in line], sep="\n")

# %% [markdown]
# In chapter 21 Prometheus comes by every few seconds, reads these lines, and answers questions about them. Then
# everything ends, and its files go:

# %%
site.stop()
shutil.rmtree(folder)

# %% [markdown]
# ## What we have seen
#
# - Everything that differs from place to place comes from the **environment**. What cannot be used is refused at
#   once, all of it, in words.
# - **Three questions**: has it started, does it work, does it want requests. Only the last may depend on others.
# - **Told to end**: first say so, go on for a while, then close the door, then finish, then go.
# - **Logs** are lines of JSON with an id that every service hands on.
# - **Counts** of everything that was answered, under few names.
#
# None of this is about Kubernetes. A program with these habits can be run by anybody: by systemd, by a colleague, by
# a cluster. What it needs to run is the subject of the next chapter: a box with all of it inside.

# %% [markdown]
# ## Three questions to test yourself
#
# 1. A service loads a model for two minutes at its start. Its liveness says no until that is done. What happens, if
#    whoever runs it looks every ten seconds and is patient three times?
# 2. Would it do to close the listener at once on SIGTERM, and end what is under way? Who would notice?
# 3. Two services log the same trace id, and the clock of one is a minute behind. How do you know who was first?
#
# ## To read on
#
# - [The twelve-factor app: config](https://12factor.net/config) and [disposability](https://12factor.net/disposability)
# - [Kubernetes: liveness, readiness and startup probes](https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/)
#   and [termination of pods](https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination)
# - [W3C Trace Context](https://www.w3.org/TR/trace-context/)
# - [Prometheus: metric types](https://prometheus.io/docs/concepts/metric_types/)
# - `movies/config.py`, `movies/server.py`, `movies/web.py`, `movies/telemetry.py`: how the site does it
#
# The exercises of this chapter are in the assignment `12-fit-for-a-cluster`.
