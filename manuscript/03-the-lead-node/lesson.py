# ---
# title: The lead node
# chapter: "03"
# minutes: 55
# needs: processes of this machine, no cluster
# ---

# %% [markdown]
# # 03. The lead node
#
# *Who is in charge when the one in charge dies?*
#
# Somebody has to hand out the chunks of chapter 01, publish the model of the movie site, decide which of two requests
# was first. The easy way is to put one node in charge. It works until that node dies. Then another must take over,
# but not while the first one is still at work: two leads are worse than none.
#
# In this chapter a group of five elects its own leader. We kill it, freeze it and cut it off: sometimes with real
# processes, sometimes in a simulation that runs the very same code and needs no waiting.

# %%
from podlab.lab import start

lab = start("03")

# %% [markdown]
# ## Is it dead or only slow
#
# A worker counts its heartbeats, one every 50 ms, in memory that we see, too (`RawValue`). Let us be far away from it:
# that count is all we know. We stop the worker with the signal `SIGSTOP`, which freezes a process where it stands, let
# it go on with `SIGCONT`, and kill it at last. `heard` strikes, and counts the beats of some time after that.

# %%
from multiprocessing import RawValue

from podlab.distributed.harness import Harness
from podlab.waiting import pause


def beat(beats):
    while True:
        beats.value += 1
        pause(0.05)


def heard(beats, strike, seconds):
    strike()
    before = beats.value
    pause(seconds)
    return beats.value - before


# %% [markdown]
# **Predict.** The process is frozen for 0.4 s. From outside, what tells it from a dead one in that time: `heartbeats`,
# the `time` of the last one, or `nothing`?

# %%
lab.predict("what tells frozen from dead", None)

# %%
beats, seen = RawValue("i"), {}
with Harness() as harness:
    worker = harness.spawn(beat, beats, name="worker")
    for strike in (worker.stop, worker.resume, worker.kill):
        seen[strike.__name__] = heard(beats, strike, 0.4)
        print(f"{strike.__name__:6}: {seen[strike.__name__]} heartbeats in 0.4 s - it {worker.describe()}")
lab.reconcile("what tells frozen from dead", "nothing" if seen["stop"] == seen["kill"] else "heartbeats")

# %% [markdown]
# Both are silent. `describe` knows more, since it asks the kernel of the same machine; across a network nobody can.
# A **failure detector** can only wait and then suspect. If it waits for too short a time it takes the slow for dead, if
# for too long the group stands still. Exercise 03.1 is such a detector, and it learns from its mistakes.

# %% [markdown]
# ## A lease is a promise with an end
#
# If we cannot know whether the leader is dead, we arrange matters so that we need not know. The others promise it:
# *for two seconds we follow nobody else*. That is a **lease**. While it lasts the leader may act; it asks for a new one
# well before that. If it dies, freezes or is cut off, the promise runs out and the others are free. A node needs
# nothing but its own clock.
#
# Here is a group that does so. Each node has a role, a **term** (the number of the election) and a timer, drawn as an
# arc: blue for what is left of a lease, orange for what is left until a node would stand for election.

# %%
ring = lab.election("Five nodes", seed=7)
ring.until(6)
ring

# %% [markdown]
# It is a simulation, and you can strike. Choose a moment with the slider, a node with the menu, and a fault with the
# buttons; `ring.kill("leader")` does the same. Strike at an earlier moment, and history forks: what came later is
# forgotten.
#
# **Predict.** The leader dies at 6 s. The promise is for 2 s, and nodes wait up to 0.5 s before they stand. How many
# seconds is the group without a leader?

# %%
lab.predict("seconds without a leader", None, "s")

# %%
from podlab.distributed.histories import leases

ring.kill("leader")
ring.until(11)
first, second = leases(ring.record)[:2]
lab.reconcile("seconds without a leader", round(second.begin - 6, 2))

# %% [markdown]
# Where did that time go? In the picture each node has a lane, and a lease is a bar in it. The first bar ends with the
# crash. Find the beginning of the second, and what happened between the two.

# %%
ring

# %% [markdown]
# First the promises to the dead leader had to end, then one of the others was the first to stand. All of that is the
# price of not knowing. It may be less than the two seconds of a promise: the last one was made some time before the
# crash.
#
# ## One promise and any two majorities
#
# Who gives the promises? The nodes themselves. A node that wants to lead asks all of them, and leads if a **majority**,
# three of five, has promised. The rule behind it is small: any two majorities of five nodes share at least one node,
# and that node keeps its word to the first leader before it gives it to the second.

# %%
from itertools import combinations

majorities = list(combinations(["n1", "n2", "n3", "n4", "n5"], 3))
print(len(majorities), "majorities;", min(len(set(a) & set(b)) for a in majorities for b in majorities), "node shared")

# %% [markdown]
# So a group that is cut in two has one leader at most: only one side can have three.
#
# **Predict.** We cut the leader and one other off from the remaining three. Who leads ten seconds later: the side of
# `two`, the side of `three`, or `both`?

# %%
lab.predict("who leads after the cut", None)

# %%
cut = lab.election("Two and three", seed=2)
cut.until(6)
(old,) = cut.state.holders
beside = next(name for name in cut.names if name != old)
cut.isolate(old, beside)
cut.until(16)
(new,) = cut.state.holders
lab.reconcile("who leads after the cut", "two" if new in (old, beside) else "three")

# %% [markdown]
# No message passed between the sides, so nobody can have told the old leader that another was elected. Yet look at the
# lanes: do the bars of the two overlap?

# %%
cut

# %% [markdown]
# They never do. The old leader knows nothing of the election on the other side, but it knows its own clock: its lease
# ran out, because only one node still answered, and it stopped.
#
# ## The same with real processes
#
# What you have seen was a simulation. Here is the same class, `Elector`, as five processes with sockets, files for
# disks and real signals. Its times are shorter, since now we do have to wait. Beside the five stands a store, to which
# whoever leads writes; more of it below.

# %%
import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from podlab.distributed.election import MEMBERS, STORE, Elector, FencedStore
from podlab.distributed.real import RealRun


@contextmanager
def five(lease):
    quick = type("Quick", (Elector,), {"LEASE": lease, "RENEW": lease / 5, "SPREAD": 0.3})
    with tempfile.TemporaryDirectory() as folder, RealRun(Path(folder), seed=1) as run:
        for name in MEMBERS:
            run.add(name, partial(quick, members=MEMBERS, store=STORE))
        run.add(STORE, FencedStore)
        yield run


# %% [markdown]
# Every lease is in the record with its term. So the list of leaders is a dictionary of terms, in order.

# %%
def leaders(run):
    terms = {event["term"]: event["node"] for event in run.record if event["event"] == "lease"}
    return [terms[term] for term in sorted(terms)]


# %% [markdown]
# Three times we wait for a leader. The first we kill with `SIGKILL`, the second we freeze with `SIGSTOP`, the third may
# stay.

# %%
from podlab.distributed.histories import check_fencing, check_leases

with five(lease=0.8) as run:
    for fault in (run.crash, run.pause, None):
        known = len(leaders(run))
        assert run.run_until(lambda run: len(leaders(run)) > known, within=60)
        if fault:
            fault(leaders(run)[-1])
    record = run.record
print(*run.proofs, check_leases(record), sep="\n")

# %% [markdown]
# Every fault comes with a proof: what state the process was in before and after. The last line is the verdict of a
# checker. It reads who held a lease from when to when, and finds no two at a time. The same in lanes:

# %%
lab.ring(record, "Five real processes")

# %% [markdown]
# ## Many bad days
#
# A run with real processes takes seconds, and the mistakes that matter show up once in many runs. This is what the
# simulator is for: time is a number, chance has a seed, and a run of 60 simulated seconds with crashes, freezes,
# partitions and clocks that drift takes milliseconds. A seed that goes wrong goes wrong again, every time.

# %%
import time

from podlab.distributed.election import simulated

began = time.process_time()
days = [simulated(seed) for seed in range(30)]
each = (time.process_time() - began) / len(days)
print(f"{each * 1000:.0f} ms for a run, {60 / each:.0f} runs in a minute of computing")
print(sum(not check_leases(day.record) for day in days), "of", len(days), "runs with two holders")

# %% [markdown]
# Now one small mistake, as it is easily made: a leader that counts its lease from the moment at which the answers are
# there, not from the moment at which it asked. The voters' promises began in between.

# %%
class CountsFromAnswer(Elector):
    def lease_end(self):
        return self.context.now() + self.LEASE * (1 - self.DRIFT) / (1 + self.DRIFT)


for seed in range(200):
    wrong = simulated(seed, elector=CountsFromAnswer)
    verdict = check_leases(wrong.record)
    if not verdict:
        break
print(f"run {seed + 1}:", verdict)

# %% [markdown]
# The record of that run can be gone through like any other. We look at the very moment.

# %%
shown = lab.ring(wrong.record, "Two leaders", mode="simulation")
shown.until(verdict.evidence[1].begin + 0.001)
shown

# %% [markdown]
# Two bars overlap: for a moment two nodes lead, and both believe it in good faith. In one run with real processes you
# would hardly have seen it. Go back from that moment with the button, step by step, and find the message that was slow.
#
# ## The write that comes too late
#
# One hole is left. A leader looks at its clock, sees that its lease is good, and is frozen before it sends its write.
# It wakes up minutes later and sends it. No lease can prevent that: the check was right when it was made. So every
# write carries the term as a **fencing token**, and the store refuses a token lower than the highest one it has seen.

# %%
late = [event for day in days for event in day.record if event["event"] == "write" and not event["accepted"]]
print(f"{len(late)} late writes in {len(days)} runs; the first by {late[0]['writer']} with token {late[0]['token']}")
print(sum(not check_fencing(day.record) for day in days), "runs in which a late write was accepted")

# %% [markdown]
# The store needs no clock and knows of no election. It is the last line, and the only one that cannot be overtaken.
#
# ## How long without a leader
#
# A shorter lease makes recovery faster. What does it cost? In the simulator we kill a leader at 10 s with leases of 1,
# 2 and 4 s, and then freeze one for 1.5 s instead. Chance has its share in each run, so we take the middle of nine.

# %%
from statistics import median

from podlab.widgets.group import Group, Settings


def struck(lease, seed, *verbs):
    """What leases began after the leader was struck at 10 s, and again 1.5 s later."""
    group = Group(Settings(seed=seed, lease=lease, renew=lease / 4, seconds=20))
    (leader,) = group.state(10).holders
    for moment, verb in zip((10, 11.5), verbs):
        group.strike(moment, verb, leader)
    return [one for one in leases(group.record) if one.begin > 10]


for lease in (1.0, 2.0, 4.0):
    alone = median(struck(lease, seed, "crash")[0].begin - 10 for seed in range(9))
    lost = sum(bool(struck(lease, seed, "pause", "resume")) for seed in range(9))
    print(f"lease {lease} s: {alone:.2f} s without a leader; after a freeze of 1.5 s {lost} of 9 have lost the lead")

# %% [markdown]
# There is the trade: patience with the slow, or speed with the dead. Is it so only in the simulator? One run for each
# lease, with real processes and a real `SIGKILL`:

# %%
for lease in (1.0, 2.0, 4.0):
    with five(lease) as run:
        assert run.run_until(leaders, within=60)
        known = leaders(run)
        run.crash(known[-1])
        assert run.run_until(lambda run: len(leaders(run)) > len(known), within=60)
        record = run.record
    crash = next(event["time"] for event in record if event["event"] == "crash")
    began = min(one.begin for one in leases(record) if one.begin > crash)
    print(f"lease {lease} s: {began - crash:.2f} s without a leader")

# %% [markdown]
# A longer lease costs more time here, too: the waiting is in the promise, not in the machine. Exercise 03.5 asks for
# numbers.
#
# ## What we have seen
#
# - Nobody can tell a slow node from a dead one. A detector waits, suspects, and may be wrong.
# - A lease needs no such knowledge: the promise ends by itself, on each node's own clock.
# - Any two majorities share a node. If it keeps its promises, also after a crash, the group has one leader at most.
# - What a former leader still sends is refused by the store, by its token.
# - One seed is one run. Mistakes that need bad luck are found by looking at thousands of bad days.

# %%
lab.snapshot()

# %% [markdown]
# ## Three questions to test yourself
#
# 1. A group of four: how many nodes are a majority, how many may be lost, and what does the fourth node bring?
# 2. The clocks of all nodes are one hour apart, but run at the same speed. What happens to the leases, and why?
# 3. Kubernetes runs several schedulers, of which one leads. What must a scheduler do when its lease may have run out?
#
# ## To read on
#
# - [Leases in Kubernetes](https://kubernetes.io/docs/concepts/architecture/leases/): heartbeats of nodes, and leaders
# - [Raft](https://raft.github.io/): terms and majorities, with a picture to play with
# - [Signals](https://man7.org/linux/man-pages/man7/signal.7.html): SIGSTOP, SIGCONT and SIGKILL
#
# Now do it yourself: [the exercises of this chapter](../release/03-the-lead-node/03-the-lead-node.ipynb) check themselves, as often as you like.
