# ---
# title: Split and conquer, the exercises
# chapter: "01"
# minutes: 60
# needs: processes of this machine, no cluster
# ---

# %% [markdown]
# # 01. Split and conquer: exercises
#
# Four small pieces of every parallel program: cut the work, hand it out, hand it out well when tasks differ, and
# know beforehand what it will bring.
#
# Change only the cells that say `YOUR CODE HERE`. The cell below each of them runs the checks, as often as you
# like. Your functions are called in processes of their own, with lists and numbers that differ from learner to learner,
# and again when your work is graded, so there are many right answers. `lab.hint("01.1")` asks you a question that may
# help. When your work is graded, some further checks run that you do not see here; the task says everything they look
# at.
#
# A cell with an answer must make sense by itself: write the imports that it needs into it.

# %%
from podlab.lab import start

lab = start("01")

# %% [markdown]
# ## Exercise 01.1: Cut it into pieces
#
# Write `split(items, parts)`, which returns a list of exactly `parts` lists.
#
# - Every item is in exactly one of them, also where items are equal.
# - The lengths of any two pieces differ by **one** at most. With fewer items than pieces, some pieces are empty.
# - `items` may be empty. It is not changed. The order within and among pieces is up to you.

# %% answer="01.1"
def split(items, parts):
    ### BEGIN SOLUTION
    cuts = [len(items) * number // parts for number in range(parts + 1)]
    return [items[begin:end] for begin, end in zip(cuts, cuts[1:])]
    ### END SOLUTION
    raise NotImplementedError

# %% checks="01.1"

# %% alternative="01.1" title="every parts-th item"
def split(items, parts):
    return [items[first::parts] for first in range(parts)]

# %% alternative="01.1" title="quotient and rest"
def split(items, parts):
    size, rest = divmod(len(items), parts)
    pieces, at = [], 0
    for number in range(parts):
        end = at + size + (1 if number < rest else 0)
        pieces.append(list(items[at:end]))
        at = end
    return pieces

# %% alternative="01.1" title="like cards"
from itertools import cycle


def split(items, parts):
    pieces = [[] for _ in range(parts)]
    for piece, item in zip(cycle(pieces), items):
        piece.append(item)
    return pieces

# %% wrong="01.1" title="the rest is dropped"
# fails covers: the rest was dropped
# fails repeated: never by values
def split(items, parts):
    size = len(items) // parts
    return [items[size * number : size * (number + 1)] for number in range(parts)]

# %% wrong="01.1" title="the size rounded up"
# fails pieces: pieces were made of a fixed size
# fails edges: a rest is taken for granted
def split(items, parts):
    size = max(1, -(-len(items) // parts))
    return [items[at : at + size] for at in range(0, len(items), size)]

# %% wrong="01.1" title="the last piece takes the rest"
# fails even: One piece takes the whole rest
def split(items, parts):
    size = len(items) // parts
    pieces = [items[size * number : size * (number + 1)] for number in range(parts - 1)]
    return [*pieces, items[size * (parts - 1) :]]

# %% wrong="01.1" title="a set of items"
# fails covers: are missing
def split(items, parts):
    items = list(set(items))
    return [items[first::parts] for first in range(parts)]

# %% wrong="01.1" title="items are taken out of the list"
# fails unchanged: pop or del
def split(items, parts):
    pieces = [[] for _ in range(parts)]
    number = 0
    while items:
        pieces[number % parts].append(items.pop())
        number += 1
    return pieces

# %% [markdown]
# ## Exercise 01.2: Hand it to processes
#
# Write `dispatch(work, chunks, workers)`. `work` is a function that takes one chunk and returns a result; it can be
# sent to other processes. Return the list of results, **in the order of the chunks**.
#
# - `workers` other processes do the work, at the same time: no more, and no fewer if there are chunks enough.
# - Every chunk is worked on once. Whoever is free takes the next one, so a long chunk holds up nobody but its worker.
# - If `work` raises an exception, so does `dispatch`. When `dispatch` returns, its processes are gone.
#
# Use what Python has: `concurrent.futures`, `multiprocessing`.

# %% answer="01.2"
from concurrent.futures import ProcessPoolExecutor


def dispatch(work, chunks, workers):
    ### BEGIN SOLUTION
    with ProcessPoolExecutor(workers) as pool:
        return list(pool.map(work, chunks))
    ### END SOLUTION
    raise NotImplementedError

# %% checks="01.2"

# %% alternative="01.2" title="a multiprocessing pool"
import multiprocessing


def dispatch(work, chunks, workers):
    with multiprocessing.Pool(workers) as pool:
        results = pool.map(work, chunks, chunksize=1)
        pool.close()
        pool.join()
    return results

# %% alternative="01.2" title="results as they come, put in order afterwards"
from concurrent.futures import ProcessPoolExecutor, as_completed


def dispatch(work, chunks, workers):
    results = [None] * len(chunks)
    with ProcessPoolExecutor(max_workers=workers) as pool:
        numbers = {pool.submit(work, chunk): number for number, chunk in enumerate(chunks)}
        for future in as_completed(numbers):
            results[numbers[future]] = future.result()
    return results

# %% wrong="01.2" title="a loop"
# fails processes: by the calling process itself
# fails at-once: waited for before the next one starts
def dispatch(work, chunks, workers):
    return [work(chunk) for chunk in chunks]

# %% wrong="01.2" title="threads"
# fails processes: or in threads
from concurrent.futures import ThreadPoolExecutor


def dispatch(work, chunks, workers):
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(work, chunks))

# %% wrong="01.2" title="one process after the other"
# fails at-once: waited for before the next one starts
from concurrent.futures import ProcessPoolExecutor


def dispatch(work, chunks, workers):
    results = []
    with ProcessPoolExecutor(workers) as pool:
        for chunk in chunks:
            results.append(pool.submit(work, chunk).result())
    return results

# %% wrong="01.2" title="results as they come"
# fails once: in the order in which they arrived
from concurrent.futures import ProcessPoolExecutor, as_completed


def dispatch(work, chunks, workers):
    with ProcessPoolExecutor(workers) as pool:
        found = [future.result() for future in as_completed([pool.submit(work, chunk) for chunk in chunks])]
    return found[1:] + found[:1]

# %% wrong="01.2" title="a process for every chunk"
# fails at-once: A process is made for every chunk
from concurrent.futures import ProcessPoolExecutor


def dispatch(work, chunks, workers):
    with ProcessPoolExecutor(max(1, len(chunks))) as pool:
        return list(pool.map(work, chunks))

# %% wrong="01.2" title="a pool that is kept"
# fails gone: A pool is kept
# - def dispatch(work, chunks, workers):
# + POOLS = []
# +
# +
# + def dispatch(work, chunks, workers):
#
# -     with ProcessPoolExecutor(workers) as pool:
# -         return list(pool.map(work, chunks))
# +     POOLS.append(ProcessPoolExecutor(workers))
# +     return list(POOLS[-1].map(work, chunks))

# %% wrong="01.2" title="dealt beforehand"
# fails next-free: dealt beforehand
from concurrent.futures import ProcessPoolExecutor


def mine(work, some):
    return [work(chunk) for chunk in some]


def dispatch(work, chunks, workers):
    with ProcessPoolExecutor(workers) as pool:
        parts = list(pool.map(mine, [work] * workers, [chunks[first::workers] for first in range(workers)]))
    return [parts[number % workers][number // workers] for number in range(len(chunks))]

# %% wrong="01.2" title="a chunk that fails is left out"
# fails raises: let the exception through
from concurrent.futures import ProcessPoolExecutor


def dispatch(work, chunks, workers):
    with ProcessPoolExecutor(workers) as pool:
        futures = [pool.submit(work, chunk) for chunk in chunks]
        return [future.result() for future in futures if future.exception() is None]

# %% [markdown]
# ## Exercise 01.3: Long tasks and short ones
#
# Training a model for one genre takes a second, for another a minute, and you know how long each takes. Write
# `assign(seconds, workers)`: `seconds[i]` is the length of task `i`. Return a list of `workers` lists with the
# numbers of the tasks that each worker does.
#
# - Every task is dealt once. With fewer tasks than workers some lists are empty.
# - The last worker ends at most **10 %** later than in the *longest-first* deal: the longest task first, each to the
#   worker who has least so far. The order in which tasks come makes no difference.

# %% answer="01.3"
def assign(seconds, workers):
    ### BEGIN SOLUTION
    mine = [[] for _ in range(workers)]
    loads = [0.0] * workers
    for task in sorted(range(len(seconds)), key=lambda task: -seconds[task]):
        least = loads.index(min(loads))
        mine[least].append(task)
        loads[least] += seconds[task]
    return mine
    ### END SOLUTION
    raise NotImplementedError

# %% checks="01.3"

# %% alternative="01.3" title="a heap of workers"
import heapq


def assign(seconds, workers):
    heap = [(0.0, worker, []) for worker in range(workers)]
    for length, task in sorted(((length, task) for task, length in enumerate(seconds)), reverse=True):
        load, worker, mine = heapq.heappop(heap)
        heapq.heappush(heap, (load + length, worker, [*mine, task]))
    return [mine for _, _, mine in heap]

# %% alternative="01.3" title="longest first, then swapped where that helps"
def assign(seconds, workers):
    deal = {worker: [] for worker in range(workers)}

    def load(worker):
        return sum(seconds[task] for task in deal[worker])

    for task in sorted(range(len(seconds)), key=seconds.__getitem__)[::-1]:
        deal[min(deal, key=load)].append(task)
    for _ in range(20):
        most, least = max(deal, key=load), min(deal, key=load)
        fitting = [task for task in deal[most] if load(least) + seconds[task] < load(most)]
        if not fitting:
            break
        task = max(fitting, key=seconds.__getitem__)
        deal[most].remove(task)
        deal[least].append(task)
    return list(deal.values())

# %% wrong="01.3" title="the same number of tasks for everyone"
# fails skewed: equal numbers of tasks are not equal work
def assign(seconds, workers):
    cuts = [len(seconds) * number // workers for number in range(workers + 1)]
    return [list(range(begin, end)) for begin, end in zip(cuts, cuts[1:])]

# %% wrong="01.3" title="like cards"
# fails skewed: equal numbers of tasks are not equal work
# fails real: All long tasks went to one worker
def assign(seconds, workers):
    return [list(range(first, len(seconds), workers)) for first in range(workers)]

# %% wrong="01.3" title="to whoever has least, in the order in which tasks come"
# fails long-last: dealt in the order in which they come
def assign(seconds, workers):
    mine, loads = [[] for _ in range(workers)], [0.0] * workers
    for task, length in enumerate(seconds):
        least = loads.index(min(loads))
        mine[least].append(task)
        loads[least] += length
    return mine

# %% wrong="01.3" title="shortest first"
# fails long-last: Deal the longest tasks first
def assign(seconds, workers):
    mine, loads = [[] for _ in range(workers)], [0.0] * workers
    for task in sorted(range(len(seconds)), key=lambda task: seconds[task]):
        least = loads.index(min(loads))
        mine[least].append(task)
        loads[least] += seconds[task]
    return mine

# %% wrong="01.3" title="to the first who has room, and what fits nowhere to the last"
# fails equal: one worker gets all that is left over
def assign(seconds, workers):
    room = max([sum(seconds) / workers, *seconds], default=0)
    mine, loads = [[] for _ in range(workers)], [0.0] * workers
    for task in sorted(range(len(seconds)), key=lambda task: -seconds[task]):
        fitting = [worker for worker in range(workers) if loads[worker] + seconds[task] <= room]
        worker = fitting[0] if fitting else workers - 1
        mine[worker].append(task)
        loads[worker] += seconds[task]
    return mine

# %% wrong="01.3" title="seconds in place of numbers"
# fails once: numbers of tasks
# fails few: has not passed
def assign(seconds, workers):
    return [sorted(seconds)[first::workers] for first in range(workers)]

# %% [markdown]
# ## Exercise 01.4: Predict the speed-up
#
# A job begins with **0.2 s** that cannot be divided. Then there are **60 tasks of 0.02 s** each, in **chunks of 5**;
# whoever is free asks for the next chunk. Each chunk costs **0.02 s** more for its message. One process alone
# needs no messages, and 0.2 + 60 × 0.02 = 1.4 s. Starting the workers is not counted.
#
# How many times faster is the job with 2, 4 and 16 workers? A prediction counts if it is within 10 % of
# what is measured with real processes (their tasks wait, so the number of cores makes no difference). Nor may
# one be above its ceiling, or lower with more workers.
#
# With 16 workers, which change helps most? Choose `"halve the messages"`, `"halve the chunks"` (from 5 tasks to 3),
# `"halve the serial part"` or `"twice as many workers"`.

# %% answer="01.4"
speedup_2 = None
speedup_4 = None
speedup_16 = None
best_change = None
### BEGIN SOLUTION
speedup_2 = 1.52
speedup_4 = 2.5
speedup_16 = 4.38
best_change = "halve the serial part"
### END SOLUTION

# %% checks="01.4"

# %% alternative="01.4" title="computed in rounds"
def speedup(workers):
    rounds = -(-12 // workers)
    return 1.4 / (0.2 + rounds * (0.02 + 5 * 0.02))


speedup_2, speedup_4, speedup_16 = speedup(2), speedup(4), speedup(16)

# %% alternative="01.4" title="rounded"
speedup_2, speedup_4, speedup_16 = 1.5, 2.4, 4.3

# %% wrong="01.4" title="the perfect speed-up"
# fails with-2: the perfect speed-up
# fails with-4: the perfect speed-up
# fails with-16: the perfect speed-up
# fails possible: more than is possible
speedup_2, speedup_4, speedup_16 = 2, 4, 16

# %% wrong="01.4" title="Amdahl's law alone"
# fails with-2: forgets the messages
# fails with-4: forgets the messages
# fails with-16: forgets the messages
speedup_2, speedup_4, speedup_16 = 1.75, 2.8, 5.09

# %% wrong="01.4" title="every message is paid by everyone"
# fails with-4: counted twice
speedup_4 = 1.4 / (0.2 + 12 * 0.02 + 3 * 0.1)

# %% wrong="01.4" title="more workers always help"
# fails best-change: not what most of the time goes to
best_change = "twice as many workers"

# %% wrong="01.4" title="smaller chunks always help"
# fails best-change: halve the chunks
best_change = "halve the chunks"

# %% [markdown]
# ## How far you are

# %%
lab.progress()
