# ---
# title: Split and conquer
# chapter: "01"
# minutes: 50
# needs: processes of this machine, no cluster
# ---

# %% [markdown]
# # 01. Split and conquer
#
# *Why are 4 workers not 4 times faster?*
#
# The movie site wants to know which movies are alike. For one process that is too much work, so we divide it: break
# the problem down, hand the pieces to workers, let them run at the same time, and put the results together. That is
# all of distributed computing in one sentence, and each half of it goes wrong in its own way.
#
# In this chapter we run one job with four workers, find it disappointing, and take away one reason after the other
# until we know what a worker is worth. You will be asked for predictions. Make them before you run the cell that
# measures.

# %%
from podlab.lab import start

lab = start("01")

# %% [markdown]
# ## One loop
#
# Here are 120 movies and what 150 people think of each. To find what is like a movie, we compare its ratings with
# those of every other movie. It is plain arithmetic, and one movie does not need the result of another: the best
# kind of job to divide.

# %%
import os
import random
import time

chance = random.Random(1)
ratings = [[chance.randint(1, 5) for _ in range(150)] for _ in range(120)]


def most_alike(movie):
    mine = ratings[movie]
    apart = [sum((a - b) ** 2 for a, b in zip(mine, other)) for other in ratings]
    apart[movie] = 10**9
    return apart.index(min(apart))


# %% [markdown]
# The squares of the differences, added up, say how far apart two movies are. Now all movies, one after the other,
# with a watch beside it:

# %%
began = time.perf_counter()
alone = [most_alike(movie) for movie in range(120)]
one_loop = time.perf_counter() - began
print(f"{one_loop:.2f} s, {1000 * one_loop / 120:.1f} ms for a movie")

# %% [markdown]
# ## Four workers
#
# `farm` starts worker processes and hands them chunks of the job. A process, not a thread: threads of one Python
# process take turns at its interpreter. The processes are copies of this one, so they know `ratings` already. Each
# tells over a socket when it is free, is told which chunk to do, and sends the results back.
#
# **Predict.** How many times faster than the loop will four workers be? Put a number in place of `None`.

# %%
lab.predict("speed-up with 4 workers", None, "times")

# %%
from podlab.distributed.farm import amdahl, cut, farm

chunks = cut(range(120), 10)
four = farm(most_alike, chunks, workers=4)
assert list(four.results) == alone
lab.reconcile("speed-up with 4 workers", round(one_loop / four.seconds, 2))

# %% [markdown]
# The chart shows who did what and when. Go through it with the slider, or with `step`, and look for gaps.

# %%
lab.gantt(four, "Four workers")

# %% [markdown]
# The results are the same, and nobody was idle: the rows of the chart are full. Where did the time go?
#
# Compare the length of one bar with what ten movies took in the loop. If this machine has fewer than four cores, the
# workers are all busy and each is slow: they wait for a core in the middle of their work, and a bar does not show it.

# %%
bar = sum(span.end - span.begin for span in four.spans) / len(four.spans)
print(f"{len(os.sched_getaffinity(0))} cores; ten movies took {one_loop / 12:.3f} s alone, {bar:.3f} s in a worker")

# %% [markdown]
# **First reason: workers share something.** Here it is cores; it could be a disk, a database, a network cable. More
# workers than the shared thing can bear make nothing faster.
#
# On a cluster each worker would have cores of its own. To see what is left to go wrong *then*, we now let a task
# wait in place of computing: it asks another machine, say, and that takes 10 ms. Waiting needs no core. From here on
# the numbers come out about the same on any machine, and they are still measured with real processes.

# %%
from podlab.waiting import pause


def ask(seconds):
    pause(seconds)
    return seconds


waits = [0.01] * 60
calm = farm(ask, cut(waits, 5), workers=4)
print(calm, "-", round(sum(waits) / calm.seconds, 2), "times faster than one worker")

# %% [markdown]
# That is close to four. So dividing works, if every worker has what it needs. There was one more cost that we do not
# see in that number: processes have to be started before they can work.

# %%
print(f"to have 4 workers ready took {1000 * calm.start:.0f} ms, the job {1000 * calm.seconds:.0f} ms")

# %% [markdown]
# For a job of half a second the start matters, for an hour it does not. That is why workers are kept: a pool of
# processes, a cluster of nodes that stays up while jobs come and go.
#
# ## Cutting the work
#
# How large should a chunk be? Each chunk costs a message: who is free must say so, be told what to do, and report.
# Between machines that takes milliseconds. We let every message take 8 ms and cut the same 60 tasks of 10 ms into
# chunks of 1, 3, 5, 15 and 30.
#
# **Predict.** Which of these sizes is the fastest with four workers?

# %%
lab.predict("best chunk", None, "tasks")

# %%
sizes = {size: farm(ask, cut(waits, size), 4, message=0.008) for size in (1, 3, 5, 15, 30)}
for size, run in sizes.items():
    print(f"chunks of {size:2}: {run.seconds:.3f} s, busy {100 * run.busy:.0f} %")
lab.reconcile("best chunk", min(sizes, key=lambda size: sizes[size].seconds))

# %% [markdown]
# Too small, and the workers spend their time on messages. Too large, and there are not chunks enough for everybody:
# with chunks of 30 two workers had nothing to do at all. Even between, it matters whether the chunks come out even.
# Four workers have fifteen tasks each here, and a chunk of fifteen is one message for each. Look at the run with
# chunks of 5: three rounds, and in the last one everyone is still at work.

# %%
lab.gantt(sizes[5], "Chunks of 5")

# %% [markdown]
# ## Pieces that are not equal
#
# So far every task took the same time. Real tasks do not: the most popular movie has twice as many ratings as the
# second, three times as many as the third, and so on. Here are 48 tasks like that, and again four workers. First we
# deal them like cards, before anybody has begun: worker 0 gets tasks 0, 4, 8 and so on.

# %%
uneven = [0.2 / rank for rank in range(1, 49)]
dealt = farm(ask, cut(uneven, 1), 4, order="dealt")
print(f"a quarter of the work is {sum(uneven) / 4:.2f} s; dealt like cards it took {dealt.seconds:.2f} s")
lab.gantt(dealt, "Dealt like cards")

# %% [markdown]
# Everybody had twelve tasks, and worker 0 had the longest of every round. The job ends when its last worker ends. All
# others have been idle for a while by then, and that time is paid for. Now nobody gets anything beforehand: whoever
# is free asks for the next chunk.
#
# **Predict.** By how many percent does that shorten the job?

# %%
lab.predict("saved by asking", None, "%")

# %%
asked = farm(ask, cut(uneven, 1), 4, order="asked")
print(lab.reconcile("saved by asking", round(100 * (1 - asked.seconds / dealt.seconds))))
lab.gantt(asked, "Whoever is free asks")

# %% [markdown]
# Asking evens out what nobody knew beforehand. But it has a weak spot. The same tasks once more, in the opposite
# order, so that the longest one is the last that anybody asks for:

# %%
reverse = farm(ask, cut(uneven[::-1], 1), 4, order="asked")
print(f"longest first {asked.seconds:.2f} s, longest last {reverse.seconds:.2f} s")

# %% [markdown]
# While the long one runs, nothing is left to hand to the others. If lengths are known, the long tasks go first.
# Exercise 01.3 is about that.
#
# ## A straggler
#
# Machines are not equal either. A disk fails slowly, a neighbour uses the same cores, a node is older than the
# others. Let worker 0 take four times as long as the others for everything it does.

# %%
for size in (15, 5, 1):
    run = farm(ask, cut(waits, size), 4, slow={0: 4})
    print(f"chunks of {size:2}: {run.seconds:.2f} s, worker 0 did {sum(s.items for s in run.spans if s.worker == 0)}")

# %% [markdown]
# With large chunks everyone waits for the slow one, with small ones it simply does less. So small chunks are an
# insurance, and messages are its price. The lead node that hands out chunks needs no idea which machine is slow. In
# chapter 05 it goes one step further, and gives the last chunks of a slow worker to a second one as well.

# %% [markdown]
# ## The part that cannot be divided
#
# Before the workers can begin, somebody reads the list of movies. At the end somebody sorts what came out. Let that
# take 0.2 s in all, beside 1.2 s that can be divided. With ever more workers, the 1.2 s shrink. The 0.2 s stay.
#
# **Predict.** With 16 workers, how many times faster than one process is the whole job?

# %%
lab.predict("speed-up with 16 workers", None, "times")

# %%
def whole_job(workers):
    began = time.perf_counter()
    pause(0.2)
    return time.perf_counter() - began + farm(ask, cut([0.02] * 60, 1), workers).seconds


measured = {workers: round(1.4 / whole_job(workers), 2) for workers in (1, 2, 4, 8, 16)}
lab.reconcile("speed-up with 16 workers", measured[16])

# %% [markdown]
# Far from sixteen. Was it the messages, or the machine? In the picture the squares are what we have measured, and the
# line is the most that anybody could have had.

# %%
lab.speedup(measured, serial=0.2 / 1.4)

# %% [markdown]
# The line is **Amdahl's law**: if the share *s* of a job cannot be divided, *w* workers make it at most
# 1 / (s + (1 − s) / w) times faster, and no number of them gets beyond 1 / s. The law knows nothing of messages,
# rounds and stragglers, so the squares lie below the line, never above.

# %%
for workers in (4, 16, 64, 1000):
    print(f"{workers:4} workers: at most {amdahl(0.2 / 1.4, workers):.2f} times")

# %% [markdown]
# Between 64 workers and 1,000 there is next to nothing, but someone pays for 936 machines. When more workers stop
# helping, the serial part is what to work on.
#
# ## To play with
#
# This planner computes such charts without running anything. Find the settings that make the job slowest with 16
# workers, then change *one* of them and make it fast. `planner.set(workers=16, chunk=4)` does what the sliders do.

# %%
planner = lab.planner(workers=4, chunk=2, skew=1.0, straggler=2.0)
planner

# %% [markdown]
# One such change, made from code: with the settings above, who decides which worker gets which chunk?

# %%
for hand_out in ("dealt", "asked"):
    planner.set(hand_out=hand_out)
    print(f"{hand_out}: {planner.summary()}")

# %% [markdown]
# ## What we have seen
#
# - Four workers are four times faster only if they share nothing, wait for nobody, and everything can be divided.
# - Starting workers and sending messages costs time. Chunks that are too small drown in it, chunks that are too large
#   leave workers idle.
# - A job ends with its last worker. When work is *asked* for, uneven tasks and slow machines even out by themselves.
# - What cannot be divided sets the limit, however many workers there are.

# %% [markdown]
# ## Three questions to test yourself
#
# 1. A job takes 100 s on one machine and 30 s on four. What share of it cannot be divided, if nothing else is wrong?
# 2. Why do small chunks help against a straggler, and why not make them as small as possible?
# 3. Kubernetes takes care that a number of workers run, and restarts those that die. Which of the reasons of this
#    chapter can it do something about, and which stay with the program?
#
# ## To read on
#
# - [concurrent.futures](https://docs.python.org/3/library/concurrent.futures.html): pools of processes in Python
# - [multiprocessing](https://docs.python.org/3/library/multiprocessing.html): processes, queues and pipes
# - [Amdahl's law](https://en.wikipedia.org/wiki/Amdahl%27s_law)
#
# Now do it yourself: [the exercises of this chapter](../release/01-split-and-conquer/01-split-and-conquer.ipynb) check themselves, as often as you like.
