# ---
# title: MapReduce from scratch
# chapter: "05"
# minutes: 60
# needs: processes of this machine, no cluster
# ---

# %% [markdown]
# # 05. MapReduce from scratch
#
# *How do you count words on machines that die?*
#
# People put tags on movies, and the site wants to know which words they use: thousands of lines today, billions one
# day. In chapter 01 we divided such a job among workers, and everybody lived. On a thousand machines somebody dies
# every day. Others are slow, which is worse, because nobody can tell them from the dead.
#
# We build the engine that copes with both, one trouble at a time. It is the idea behind Hadoop and Spark.

# %%
from podlab.lab import start

lab = start("05")

# %% [markdown]
# ## One loop
#
# Here are 2,000 lines of tags. A few words come again and again, most are rare, as in any language. We cut the lines
# into 20 splits, since that is how they will be handed out.

# %%
import random
from collections import Counter

chance = random.Random(5)
words = ["good", "love", "war", "funny", "dark", "space", *(f"tag{n}" for n in range(300))]
lines = [" ".join(chance.choices(words, [1 / (n + 1) for n in range(306)], k=6)) for _ in range(2000)]
splits = [lines[at : at + 100] for at in range(0, 2000, 100)]

counts = Counter(word for line in lines for word in line.split())
counts.most_common(4)

# %% [markdown]
# ## Two functions
#
# All that is special about counting words fits into two small functions. `map_words` looks at one line and knows
# nothing of the others. `reduce_words` looks at one word and gets all the numbers that were said of it.

# %%
def map_words(line):
    return [(word, 1) for word in line.split()]


def reduce_words(word, numbers):
    return sum(numbers)


# %% [markdown]
# What is between them is the same for every job: bring together what belongs to the same word. That is the
# **shuffle**. In one process it is a dictionary.

# %%
groups = {}
for line in lines:
    for word, number in map_words(line):
        groups.setdefault(word, []).append(number)
assert {word: reduce_words(word, numbers) for word, numbers in groups.items()} == counts

# %% [markdown]
# Nobody who wrote the two functions had to think of workers. Here is how they run on three of them. Every map task
# reads one split; each value goes to the reducer that is responsible for its word, whoever has found it. Go through
# it step by step, and watch the dots. It is a simulation; from the next cell on the workers are real processes.

# %%
stepper = lab.stepper(workers=3, splits=6)
stepper

# %% [markdown]
# ## One of them dies
#
# With what we have from chapter 01 it takes one line to map on four workers. This time something happens: while
# split 10 is being read, the worker that has it is killed, as by a kernel that needs memory.
#
# **Predict.** Of the 20 splits, how many counts do we have when it is over?

# %%
lab.predict("splits that were counted", None, "splits")

# %%
import os
import signal

from podlab.distributed.farm import cut, farm
from podlab.errors import PodlabError


def count_split(number):
    if number == 10:
        os.kill(os.getpid(), signal.SIGKILL)
    return Counter(word for line in splits[number] for word, _ in map_words(line))


counted = []
try:
    counted = farm(count_split, cut(range(20), 1), workers=4).results
except PodlabError as error:
    print(error)
lab.reconcile("splits that were counted", len(counted))

# %% [markdown]
# None. Nineteen splits were fine, and one death took them all along. If every machine has one bad day in a thousand,
# then of a thousand machines somebody has a bad day

# %%
print(f"on {1 - 0.999**1000:.0%} of all days")

# %% [markdown]
# ## Do it again, but how?
#
# What a dead worker had in hand must be done again by another. That sounds simple. Here a worker writes its words
# into a common file as it reads them, and dies after 50 of 100 lines. A second worker does the split again, from the
# beginning, since nobody knows how far the first one came.
#
# **Predict.** By how many percent are there too many words in the file?

# %%
lab.predict("words too many", None, "%")

# %%
import tempfile
from pathlib import Path

from podlab.distributed.harness import Harness

room = tempfile.TemporaryDirectory()
folder = Path(room.name)


def careless(number, dies):
    with (folder / "common").open("a", buffering=1) as file:
        for at, line in enumerate(splits[number]):
            if dies and at == 50:
                os.kill(os.getpid(), signal.SIGKILL)
            file.write(line + "\n")


with Harness() as harness:
    for dies in (True, False):
        harness.spawn(careless, 10, dies).wait()
there, right = len((folder / "common").read_text().split()), len(" ".join(splits[10]).split())
lab.reconcile("words too many", round(100 * (there / right - 1)))

# %% [markdown]
# The job did not fail. It gave a wrong answer, which is worse: nobody would have noticed.
#
# ## Once and only once
#
# The cure has three parts. A task writes under a name of its own **attempt**, which nobody else reads. When it has
# ended, it says so, and the coordinator **renames** the files: a rename happens entirely or not at all. And only the
# **first** attempt of a task counts; what comes later is thrown away. So a task may run as often as it likes.
#
# `podlab.distributed.mapreduce` is an engine that works like this, with real processes and real files, in under
# 400 lines.

# %%
from podlab.distributed.mapreduce import Job, partition, run

calm = run(Job(map_words, reduce_words), splits, folder / "calm", workers=4)
assert dict(calm.pairs()) == counts

# %% [markdown]
# Now the same job, and again a worker dies in the middle of a task. `once` is true the first time only, so that the
# second attempt lives.
#
# **Predict.** There are 20 map tasks and 4 reduce tasks. How many tasks does the coordinator begin in all?

# %%
lab.predict("tasks that are begun", None, "tasks")

# %%
def once(what):
    try:
        (folder / what).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def map_fatal(line):
    if line is splits[3][50] and once("death"):
        os.kill(os.getpid(), signal.SIGKILL)
    return map_words(line)


hurt = run(Job(map_fatal, reduce_words), splits, folder / "hurt", workers=4)
same = [path.read_bytes() for path in hurt.files] == [path.read_bytes() for path in calm.files]
print(f"{hurt.count('lost')} worker lost; the same bytes: {same}")
lab.reconcile("tasks that are begun", hurt.count("start"))

# %% [markdown]
# More tasks were begun than there are, and the same bytes come out. Here is the run, as the engine wrote it down. Find
# the moment at which the worker dies: what becomes of its task, and who takes the empty place?

# %%
lab.shuffle(hurt, "One worker dies")

# %% [markdown]
# Its task waits again, another worker begins it once more, and a new worker is started. Half of split 3 was read twice,
# and the result does not show it.
#
# The coordinator itself may die, too. Then the job is lost: one machine of a thousand is a risk that one can take.
# Chapter 03 has what to do where one cannot.

# %% [markdown]
# ## Send less
#
# Every word of every line travels as a pair. But a mapper has found `good` many times, and could say so in one
# number. That is a **combiner**: it reduces what one map task has, before it is sent.
#
# **Predict.** How many times fewer values does that send?

# %%
lab.predict("fewer values", None, "times")

# %%
def sent(result):
    return sum(sum(event["parts"]) for event in result.events if "parts" in event)


short = run(Job(map_words, reduce_words, combine=reduce_words), splits, folder / "short", workers=4)
assert dict(short.pairs()) == counts
lab.reconcile("fewer values", round(sent(calm) / sent(short), 1))

# %% [markdown]
# Adding allows that: a sum of sums is the sum. Not everything does. Here are the stars of one movie, first 20 of its
# fans, then 180 of everybody else. The job takes the mean, and so does its combiner. We cut the same 200 ratings
# into two splits, at three different places.

# %%
stars = [5.0] * 20 + [chance.choice([1.0, 2.0, 3.0]) for _ in range(180)]


def mean(movie, values):
    return sum(values) / len(values)


def mean_cut_at(place):
    job = Job(lambda one: [("Heat", one)], mean, combine=mean, reducers=1)
    return dict(run(job, [stars[:place], stars[place:]], folder / "mean", workers=2).pairs())["Heat"]


print(f"one loop says {mean('Heat', stars):.2f}")
print({place: round(mean_cut_at(place), 2) for place in (20, 100, 180)})

# %% [markdown]
# The answer depends on where somebody happened to cut. That is how such mistakes are found: cut the same records in
# another way, and compare. What must be combined has to be **associative**; exercise 05.2 is about a mean that is.
#
# ## Who gets which word
#
# A mapper sends each word to the reducer in charge of it, without asking anybody. So all mappers must come to the
# same conclusion. Python has a function that makes a number of a text, and it seems to be made for that:

# %%
import sys

with Harness() as harness:
    for _ in range(4):
        asked = harness.run([sys.executable, "-c", "print(hash('love') % 1000)"], environment={"PYTHONHASHSEED": "random"})
        asked.wait()
        print(f"love goes to {asked.output().strip()}")

# %% [markdown]
# Four processes, and `love` goes to different places. Each reducer would report a part of its count as the whole. The
# hash of a text is made differently in every process, so that nobody can send a site keys that all collide. It works
# in a test with one process, and goes wrong on a cluster. The engine uses a checksum of the bytes:

# %%
[partition(word, 1000) for word in ("love", "war", "good")]

# %% [markdown]
# That is the same everywhere. Exercise 05.3 asks for such a function, and for one that spreads the words evenly.

# %% [markdown]
# ## A worker that does not die
#
# The dead are easy: a connection closes, and the coordinator knows. Now one worker is only slow. Each line takes 1 ms
# from here on, and whoever gets split 7 first needs two seconds more for it, as on a disk that is about to fail.
#
# Near the end idle workers could do the late task as well: a **backup**. Whoever ends first counts.
#
# **Predict.** By how many percent does the slow one lengthen the job, if there are backups?

# %%
lab.predict("a straggler with backups", None, "%")

# %%
from podlab.waiting import pause


def map_slow(line):
    if slow and line is splits[7][0] and once(trouble):
        pause(2)
    pause(0.001)
    return map_words(line)


took, results = {}, {}
for trouble, slow, backups in (("nobody slow", False, True), ("slow", True, False), ("slow, backed up", True, True)):
    job = Job(map_slow, reduce_words, combine=reduce_words)
    results[trouble] = run(job, splits, folder / f"run {trouble}", workers=4, backups=backups)
    took[trouble] = results[trouble].events[-1]["time"]
lab.reconcile("a straggler with backups", round(100 * (took["slow, backed up"] / took["nobody slow"] - 1)))

# %% [markdown]
# What does the slow one cost without backups? Here are all real runs of this lesson; in the last three each line took
# 1 ms more. The picture is of the last run. Find the task that two workers did at the same time.

# %%
for trouble, real in {"calm": calm, "a worker dies": hurt, "combined": short, **results}.items():
    print(f"{trouble}: {real.events[-1]['time']:.2f} s, {sent(real)} values sent")
lab.shuffle(results["slow, backed up"], "A straggler and its backup")

# %% [markdown]
# Without a backup the whole job waits for one worker. With one it costs little, and the engine needs no idea why the
# worker is slow, or whether it is dead. It is safe for the reason that we know: only the first attempt counts.
#
# ## To play with
#
# Here is the small simulated job again. Which of these troubles costs most, and what does the combiner change? Set
# them yourself: `stepper.set(kill=2, slow=6, backups="no", combine="yes")`.

# %%
for troubles in ({}, {"kill": 2}, {"slow": 6}, {"slow": 6, "backups": "no"}, {"slow": 6, "combine": "yes"}):
    stepper.set(**{"kill": 0, "slow": 1, "backups": "yes", "combine": "no"} | troubles)
    print(troubles, stepper.summary())

# %% [markdown]
# ## What we have seen
#
# - A job that is written as map and reduce can be cut anywhere. What is between them, the shuffle, is the engine's.
# - A task that may run twice must not leave anything behind but its result. A name for each attempt, a rename, and
#   the first one counts: so every record is counted once, whoever dies.
# - Combining sends less, if the function is associative. Cutting the same data in another way finds out.
# - The place of a key must be the same in every process; `hash` is not.
# - Nobody can tell the slow from the dead. Backups make it unimportant.

# %% [markdown]
# ## Three questions to test yourself
#
# 1. A map task has ended, and then the disk with its files is lost. Which tasks have to run again?
# 2. Why may a task send no mail and write into no database, if it is to be done again after a crash?
# 3. Half of all words in some data are `the`. Which of the means of this chapter helps its reducer, and which do not?
#
# ## To read on
#
# - [MapReduce: Simplified Data Processing on Large Clusters](https://research.google/pubs/pub62/), the paper of 2004
# - [PYTHONHASHSEED](https://docs.python.org/3/using/cmdline.html#envvar-PYTHONHASHSEED) in Python's documentation
# - [rename](https://man7.org/linux/man-pages/man2/rename.2.html): what Linux promises about it
#
# Now do it yourself: [the exercises of this chapter](../release/05-mapreduce-from-scratch/05-mapreduce-from-scratch.ipynb) check themselves, as often as you like.
