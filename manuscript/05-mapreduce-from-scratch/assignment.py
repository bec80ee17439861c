# ---
# title: MapReduce from scratch, the exercises
# chapter: "05"
# minutes: 90
# needs: processes of this machine, no cluster
# ---

# %% [markdown]
# # 05. MapReduce from scratch: exercises
#
# Five pieces of an engine: the two functions that a user writes, a mean that survives being cut up, the choice of a
# reducer, and the two decisions of a coordinator whose workers die or stand still.
#
# Change only the cells that say `YOUR CODE HERE`. The cell below each of them runs the checks, as often as you
# like. Your code is called in processes of its own, with data that differ from learner to learner. In 05.4 and 05.5 it
# decides for real worker processes, some of which are killed or stopped. `lab.hint("05.1")` asks you a question that may
# help. Grading takes other data again, and runs some further checks that you do not see here; the task says everything
# they look at.
#
# A cell with an answer must make sense by itself: write the imports that it needs into it.

# %%
from podlab.lab import start

lab = start("05")

# %% [markdown]
# ## Exercise 05.1: Count words
#
# A line holds a title or some tags. Write the two functions of the job that counts words over all lines.
#
# - `map_words(line)` yields, or returns a list of, pairs `(word, number)`.
# - `reduce_words(word, numbers)` returns how often the word occurs. The numbers come from many lines, in any order,
#   and some of them may be sums already: the engine may use your reducer on each split beforehand.
# - A word is a longest run of characters for which `isalnum()` is true; it is counted under its `casefold()`. So
#   `"Good!"` and `"GOOD"` are one word, `"love-story"` is two, and a line may have none. Lines and words may be very
#   long, and in any language.

# %% answer="05.1"
def map_words(line):
    ### BEGIN SOLUTION
    spaced = "".join(one if one.isalnum() else " " for one in line)
    return [(word.casefold(), 1) for word in spaced.split()]
    ### END SOLUTION
    raise NotImplementedError


def reduce_words(word, numbers):
    ### BEGIN SOLUTION
    return sum(numbers)
    ### END SOLUTION
    raise NotImplementedError

# %% checks="05.1"

# %% alternative="05.1" title="a regular expression"
import re


def map_words(line):
    return [(word.casefold(), 1) for word in re.findall(r"[^\W_]+", line)]


# %% alternative="05.1" title="added up in the line"
from collections import Counter
from itertools import groupby


def map_words(line):
    runs = ("".join(run) for letters, run in groupby(line, str.isalnum) if letters)
    return list(Counter(run.casefold() for run in runs).items())


def reduce_words(word, numbers):
    total = 0
    for number in numbers:
        total += number
    return total

# %% wrong="05.1" title="split at spaces"
# fails words: punctuation stays on them
# fails huge: has not passed
# fails cut-again: Words are not cut
def map_words(line):
    return [(word.casefold(), 1) for word in line.split()]

# %% wrong="05.1" title="the letters a to z"
# fails unicode: is missing
import re


def map_words(line):
    return [(word, 1) for word in re.findall(r"[a-z0-9]+", line.lower())]

# %% wrong="05.1" title="lower in place of casefold"
# fails unicode: not folded by casefold
import re


def map_words(line):
    return [(word.lower(), 1) for word in re.findall(r"[^\W_]+", line)]

# %% wrong="05.1" title="empty words"
# fails nothing: Splitting leaves empty texts
import re


def map_words(line):
    return [(word.casefold(), 1) for word in re.split(r"[\W_]+", line)]

# %% wrong="05.1" title="counted in place of added"
# fails partial: counted and not added up
def reduce_words(word, numbers):
    return len(list(numbers))

# %% wrong="05.1" title="words without numbers"
# fails words: no pair of a word and a number
import re


def map_words(line):
    return re.findall(r"[^\W_]+", line.casefold())

# %% [markdown]
# ## Exercise 05.2: A mean that can be combined
#
# A record is `[movie, stars]`. We want the mean of every movie's stars, and we want to send little: so each mapper
# combines what it has of a movie into one value before it is sent.
#
# - `map_rating(record)` gives one pair `(movie, value)`. What a value is, you decide: numbers, a list, a dictionary.
# - `combine_ratings(movie, values)` makes one value of many, and it stays small, however many there were. The engine
#   may use it on some splits, on none, or on values that were combined already.
# - `mean_rating(movie, values)` returns the mean of all ratings that the values stand for.

# %% answer="05.2"
def map_rating(record):
    ### BEGIN SOLUTION
    movie, stars = record
    return [(movie, [stars, 1])]
    ### END SOLUTION
    raise NotImplementedError


def combine_ratings(movie, values):
    ### BEGIN SOLUTION
    return [sum(stars for stars, _ in values), sum(count for _, count in values)]
    ### END SOLUTION
    raise NotImplementedError


def mean_rating(movie, values):
    ### BEGIN SOLUTION
    stars, count = combine_ratings(movie, values)
    return stars / count
    ### END SOLUTION
    raise NotImplementedError

# %% checks="05.2"

# %% alternative="05.2" title="dictionaries"
def map_rating(record):
    yield record[0], {"sum": record[1], "count": 1}


def combine_ratings(movie, values):
    return {name: sum(value[name] for value in values) for name in ("sum", "count")}


def mean_rating(movie, values):
    total = combine_ratings(movie, values)
    return total["sum"] / total["count"]

# %% alternative="05.2" title="a mean with its weight"
def map_rating(record):
    movie, stars = record
    yield movie, [stars, 1]


def combine_ratings(movie, values):
    weight = sum(count for _, count in values)
    return [sum(mean * count for mean, count in values) / weight, weight]


def mean_rating(movie, values):
    return combine_ratings(movie, values)[0]

# %% alternative="05.2" title="the pair itself"
# -     return [(movie, [stars, 1])]
# +     return movie, (stars, 1)

# %% wrong="05.2" title="a mean of means"
# fails combined: A mean of means is not the mean
def map_rating(record):
    return [(record[0], record[1])]


def combine_ratings(movie, values):
    return sum(values) / len(values)


def mean_rating(movie, values):
    return sum(values) / len(values)

# %% wrong="05.2" title="all ratings in a list"
# fails small: nothing is saved on the way
def map_rating(record):
    return [(record[0], [record[1]])]


def combine_ratings(movie, values):
    return [stars for some in values for stars in some]


def mean_rating(movie, values):
    stars = combine_ratings(movie, values)
    return sum(stars) / len(stars)

# %% wrong="05.2" title="understands combined values only"
# fails mean: raised TypeError
# fails single: has not passed
def map_rating(record):
    return [(record[0], record[1])]


def combine_ratings(movie, values):
    return [sum(values), len(values)]


def mean_rating(movie, values):
    return sum(stars for stars, _ in values) / sum(count for _, count in values)

# %% wrong="05.2" title="counts values in place of ratings"
# fails again: counted as one rating
def combine_ratings(movie, values):
    return [sum(stars for stars, _ in values), len(values)]


def mean_rating(movie, values):
    return sum(stars for stars, _ in values) / sum(count for _, count in values)

# %% [markdown]
# ## Exercise 05.3: Which reducer gets this key?
#
# Every mapper decides for itself to which reducer it sends a key, without asking anybody. Write
# `partition(key, reducers)`, which returns the number of the reducer, from 0 to `reducers - 1`. A key is any text.
#
# - The same key comes to the same number in **every process**, today and tomorrow.
# - Different keys are spread: of thousands, no reducer gets a third more than an equal share. Keys may look alike, as
#   numbered ones do.

# %% answer="05.3"
import zlib


def partition(key, reducers):
    ### BEGIN SOLUTION
    return zlib.crc32(key.encode()) % reducers
    ### END SOLUTION
    raise NotImplementedError

# %% checks="05.3"

# %% alternative="05.3" title="a digest"
import hashlib


def partition(key, reducers):
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % reducers

# %% alternative="05.3" title="by hand"
def partition(key, reducers):
    number = 5381
    for byte in key.encode():
        number = (number * 31 + byte) * 2654435761 % 2**32
        number ^= number >> 15
    return number % reducers

# %% wrong="05.3" title="hash"
# fails stable: such as hash()
def partition(key, reducers):
    return hash(key) % reducers

# %% wrong="05.3" title="the first letter"
# fails balanced: takes few different values
def partition(key, reducers):
    return ord(key[:1] or " ") % reducers

# %% wrong="05.3" title="the length"
# fails balanced: takes few different values
# fails numbered: Use all of the key's characters
def partition(key, reducers):
    return len(key) % reducers

# %% wrong="05.3" title="the remainder is forgotten"
# fails range: Take the remainder
# fails any-text: Take the remainder
def partition(key, reducers):
    return zlib.crc32(key.encode())

# %% wrong="05.3" title="chance"
# fails stable: or chance
import random


def partition(key, reducers):
    return random.randrange(reducers)

# %% [markdown]
# ## Exercise 05.4: A coordinator whose workers die
#
# Write the class that decides. `Coordinator(tasks)` has the tasks 0 to `tasks - 1`. The workers are real processes;
# what happens to them is told to your object by these calls:
#
# - `next(worker)`: the worker is free. Return the number of a task, or `None` if there is nothing for it now. It asks
#   again later. A task is in one pair of hands only.
# - `ended(worker, task)`: the worker has done a task. Return `True` if this result counts, `False` if one of the same
#   task has counted already. Workers that were given up may come back with a result.
# - `lost(worker)`: the worker is gone, with whatever it had in hand. Perhaps it had nothing, or never asked.
# - `finished()`: `True` when every task has counted, `False` before.

# %% answer="05.4"
class Coordinator:
    def __init__(self, tasks):
        """Tasks 0 to tasks - 1 wait."""
        ### BEGIN SOLUTION
        self.tasks = tasks
        self.waiting = list(range(tasks))
        self.hands = {}
        self.counted = set()
        ### END SOLUTION

    def next(self, worker):
        ### BEGIN SOLUTION
        if not self.waiting:
            return None
        self.hands[worker] = self.waiting.pop(0)
        return self.hands[worker]
        ### END SOLUTION
        raise NotImplementedError

    def ended(self, worker, task):
        ### BEGIN SOLUTION
        self.hands.pop(worker, None)
        if task in self.counted:
            return False
        self.counted.add(task)
        if task in self.waiting:
            self.waiting.remove(task)
        return True
        ### END SOLUTION
        raise NotImplementedError

    def lost(self, worker):
        """What it had in hand waits again."""
        ### BEGIN SOLUTION
        task = self.hands.pop(worker, None)
        if task is not None and task not in self.counted:
            self.waiting.insert(0, task)
        ### END SOLUTION

    def finished(self):
        ### BEGIN SOLUTION
        return len(self.counted) == self.tasks
        ### END SOLUTION
        raise NotImplementedError

# %% checks="05.4"

# %% alternative="05.4" title="a state for each task"
class Coordinator:
    def __init__(self, tasks):
        self.state = ["waiting"] * tasks

    def next(self, worker):
        for task, state in enumerate(self.state):
            if state == "waiting":
                self.state[task] = ("in hand", worker)
                return task

    def ended(self, worker, task):
        first = self.state[task] != "counted"
        self.state[task] = "counted"
        return first

    def lost(self, worker):
        self.state = ["waiting" if state == ("in hand", worker) else state for state in self.state]

    def finished(self):
        return all(state == "counted" for state in self.state)

# %% alternative="05.4" title="from the last to the first"
class Coordinator:
    def __init__(self, tasks):
        self.open, self.holders = set(range(tasks)), {}

    def next(self, worker):
        free = self.open - set(self.holders.values())
        if not free:
            return None
        self.holders[worker] = max(free)
        return self.holders[worker]

    def ended(self, worker, task):
        self.holders.pop(worker, None)
        counts = task in self.open
        self.open.discard(task)
        return counts

    def lost(self, worker):
        self.holders.pop(worker, None)

    def finished(self):
        return not self.open

# %% wrong="05.4" title="nobody is ever lost"
# fails crash: was not put back
# fails last: was not put back
# -         if task is not None and task not in self.counted:
# -             self.waiting.insert(0, task)

# %% wrong="05.4" title="every end counts"
# fails once: counted twice
# -         if task in self.counted:
# -             return False

# %% wrong="05.4" title="finished when nothing waits"
# fails all: that is not the end
# -         return len(self.counted) == self.tasks
# +         return not self.waiting

# %% wrong="05.4" title="a task stays on the list until it has counted"
# fails all: stays on the list
# -         if not self.waiting:
# -             return None
# -         self.hands[worker] = self.waiting.pop(0)
# +         self.hands[worker] = next((task for task in range(self.tasks) if task not in self.counted), None)

# %% wrong="05.4" title="all that a lost worker has ever done is done again"
# fails idle: which had counted already
# -         self.hands = {}
# +         self.hands, self.given = {}, {}
#
# -         self.hands[worker] = self.waiting.pop(0)
# +         self.hands[worker] = self.waiting.pop(0)
# +         self.given.setdefault(worker, []).append(self.hands[worker])
#
# -         task = self.hands.pop(worker, None)
# -         if task is not None and task not in self.counted:
# -             self.waiting.insert(0, task)
# +         self.waiting += self.given.pop(worker, [])

# %% wrong="05.4" title="lost workers must have had a task"
# fails idle: raised KeyError
# -         task = self.hands.pop(worker, None)
# +         task = self.hands.pop(worker)

# %% wrong="05.4" title="whoever was given up is not believed"
# fails early: its result did not count
# -         self.hands.pop(worker, None)
# +         if self.hands.get(worker) != task:
# +             return False
# +         self.hands.pop(worker)

# %% wrong="05.4" title="what came back is still on the list"
# fails early: which had counted already
# -         if task in self.waiting:
# -             self.waiting.remove(task)

# %% [markdown]
# ## Exercise 05.5: Backups for a straggler
#
# A worker that is dead is lost. One that stands still is not: it has its task in hand, and perhaps for ever. Write
# `choose(waiting, running, typical)`, which says what a free worker gets.
#
# - `waiting`: the numbers of the tasks in nobody's hands. While there are any, return one of them.
# - `running`: what is in hand, as `{"task": 4, "worker": "w1", "seconds": 0.8}`, in any order. A task with a backup is
#   in it twice. `typical`: the seconds that a task usually takes, or `None` if none has ended yet.
# - If nothing waits: of the tasks that are in **one** pair of hands only, take the one that has been in hand longest.
#   Return it if that is more than **twice** the typical time, otherwise `None`: the worker asks again later.

# %% answer="05.5"
def choose(waiting, running, typical):
    ### BEGIN SOLUTION
    if waiting:
        return waiting[0]
    if typical is None:
        return None
    held = [each["task"] for each in running]
    late = [
        (each["seconds"], each["task"])
        for each in running
        if each["seconds"] > 2 * typical and held.count(each["task"]) == 1
    ]
    return max(late)[1] if late else None
    ### END SOLUTION
    raise NotImplementedError

# %% checks="05.5"

# %% alternative="05.5" title="sorted"
from collections import Counter


def choose(waiting, running, typical):
    if waiting:
        return min(waiting)
    hands = Counter(each["task"] for each in running)
    for each in sorted(running, key=lambda each: each["seconds"], reverse=True):
        if typical and hands[each["task"]] < 2 and each["seconds"] > 2 * typical:
            return each["task"]

# %% alternative="05.5" title="a loop"
def choose(waiting, running, typical):
    if len(waiting) > 0:
        return waiting[-1]
    best, longest = None, 0 if typical is None else 2 * typical
    for one in running:
        twice = any(other is not one and other["task"] == one["task"] for other in running)
        if typical is not None and not twice and one["seconds"] > longest:
            best, longest = one["task"], one["seconds"]
    return best

# %% wrong="05.5" title="never a backup"
# fails straggler: Nobody gets a backup
def choose(waiting, running, typical):
    return waiting[0] if waiting else None

# %% wrong="05.5" title="the late ones first"
# fails waiting: while there are tasks that nobody has begun
def choose(waiting, running, typical):
    late = [each for each in running if typical and each["seconds"] > 2 * typical]
    if late:
        return max(late, key=lambda each: each["seconds"])["task"]
    return waiting[0] if waiting else None

# %% wrong="05.5" title="whatever is in hand"
# fails patient: Work is done twice
def choose(waiting, running, typical):
    if waiting:
        return waiting[0]
    return max(running, key=lambda each: each["seconds"])["task"] if running else None

# %% wrong="05.5" title="a third pair of hands"
# fails two: gets a third
def choose(waiting, running, typical):
    if waiting:
        return waiting[0]
    late = [each for each in running if typical and each["seconds"] > 2 * typical]
    return max(late, key=lambda each: each["seconds"])["task"] if late else None

# %% wrong="05.5" title="nobody while the latest has a backup"
# fails two: the late one behind it was passed over
# -     return max(late)[1] if late else None
# +     latest = max(running, key=lambda each: each["seconds"], default={"task": None})["task"]
# +     return latest if latest in [task for _, task in late] else None

# %% wrong="05.5" title="no backup within the first second"
# fails real: The job waits for a worker that may never go on
# -         if each["seconds"] > 2 * typical and held.count(each["task"]) == 1
# +         if each["seconds"] > max(2 * typical, 1) and held.count(each["task"]) == 1

# %% wrong="05.5" title="the one begun last"
# fails straggler: or another task than the latest
def choose(waiting, running, typical):
    if waiting:
        return waiting[0]
    late = [each for each in running if typical and each["seconds"] > 2 * typical]
    return min(late, key=lambda each: each["seconds"])["task"] if late else None

# %% [markdown]
# ## How far you are

# %%
lab.progress()
