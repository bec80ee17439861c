# ---
# title: The monolith, the exercises
# chapter: "09"
# minutes: 60
# needs: processes of this machine, no cluster
# ---

# %% [markdown]
# # 09. The monolith: exercises
#
# Find the part that uses the processor, reckon what copies of it cost, and measure what real copies take.
#
# Change only the cells that say `YOUR CODE HERE`. The cell below each of them runs the checks, as often as you
# like, with real processes and other numbers each time. `lab.hint("09.1")` asks you a question that may help. When your
# work is graded, some further checks run that you do not see here; the task says everything they look at.
#
# A cell with an answer must make sense by itself: write the imports that it needs into it.

# %%
from podlab.lab import start

lab = start("09")

# %% [markdown]
# ## Exercise 09.1: Who uses the processor?
#
# A monolith is a dictionary `parts`: name → function. A part is called as `parts[name](request, ask)`, and asks others
# by `ask(name, request)`, which returns their answer, or raises what they raise. Write `profile(parts, requests)`: it
# sends each request to the part `"ui"`, one after the other, and returns a dictionary: every part → the seconds of
# **processor time** that it has used **itself**, over all requests.
#
# - What a part asks others to do is their time, not its own. A part that waits uses no processor.
# - A part that is never asked has `0.0`. A part may raise: its time counts all the same. If `ui` itself raises, the next
#   request goes on.

# %% answer="09.1"
import time


def profile(parts, requests):
    ### BEGIN SOLUTION
    own, inner = dict.fromkeys(parts, 0.0), [0.0]

    def ask(name, request):
        begin = time.process_time()
        inner.append(0.0)
        try:
            return parts[name](request, ask)
        finally:
            took = time.process_time() - begin
            own[name] += took - inner.pop()
            inner[-1] += took

    for request in requests:
        try:
            ask("ui", request)
        except Exception:
            pass
    return own
    ### END SOLUTION
    raise NotImplementedError

# %% checks="09.1"

# %% alternative="09.1" title="the clock is handed over at each change"
import contextlib
import time


def profile(parts, requests):
    own, stack, last = {name: 0.0 for name in parts}, [], [0.0]

    def turn():
        now = time.thread_time()
        if stack:
            own[stack[-1]] += now - last[0]
        last[0] = now

    def ask(name, request):
        turn()
        stack.append(name)
        try:
            return parts[name](request, ask)
        finally:
            turn()
            stack.pop()

    for request in requests:
        with contextlib.suppress(Exception):
            ask("ui", request)
    return own

# %% alternative="09.1" title="altogether, less what was asked"
import time


def profile(parts, requests):
    total, below = dict.fromkeys(parts, 0.0), dict.fromkeys(parts, 0.0)

    def asker(caller):
        def ask(name, request):
            begin = time.process_time()
            try:
                return parts[name](request, asker(name))
            finally:
                took = time.process_time() - begin
                total[name] += took
                if caller:
                    below[caller] += took

        return ask

    for request in requests:
        try:
            asker(None)("ui", request)
        except Exception as error:
            print(error)
    return {name: total[name] - below[name] for name in parts}

# %% wrong="09.1" title="by the clock on the wall"
# fails waiting: in which it only waits
# -         begin = time.process_time()
# +         begin = time.perf_counter()
#
# -             took = time.process_time() - begin
# +             took = time.perf_counter() - begin

# %% wrong="09.1" title="altogether"
# fails own: of the parts that it asks
# -             own[name] += took - inner.pop()
# +             own[name] += took

# %% wrong="09.1" title="what raises is not counted"
# fails broken: ingestion computed for
# -             return parts[name](request, ask)
# -         finally:
# +             answer = parts[name](request, ask)
# +         except Exception:
# +             inner.pop()
# +             raise
# +         else:
#
# -             inner[-1] += took
# +             inner[-1] += took
# +             return answer

# %% wrong="09.1" title="the first error of ui ends it"
# fails goes-on: ends all of them
# -         try:
# -             ask("ui", request)
# -         except Exception:
# -             pass
# +         ask("ui", request)

# %% wrong="09.1" title="each part by itself"
# fails all: not 20
import time


def profile(parts, requests):
    own = dict.fromkeys(parts, 0.0)
    for name in parts:
        begin = time.process_time()
        for request in requests:
            parts[name](request, lambda other, request: None)
        own[name] = time.process_time() - begin
    return own

# %% [markdown]
# ## Exercise 09.2: The whole, or its parts
#
# `plan(parts, rate, frame)` says what it takes to answer `rate` requests per second. `parts` is a dictionary: name →
# `[milliseconds, MiB]`, the processor time that each request needs in this part, and the memory that it takes. Every
# process takes `frame` MiB besides (Python, the web server). A process works on one request at a time, all of the time.
#
# It returns `{"whole": {"copies": 3, "mib": 900}, "split": {"copies": {"ui": 1, …}, "mib": 700}, "cheaper": "split"}`:
#
# - `whole`: the fewest copies of the monolith, with all parts in each, and their memory,
# - `split`: the fewest copies of each part, at least one, each in a process of its own, and their memory,
# - `cheaper`: which takes less memory; `whole` if both take the same. All numbers are whole numbers.

# %% answer="09.2"
def plan(parts, rate, frame):
    ### BEGIN SOLUTION
    def copies(milliseconds):
        return max(1, -(-rate * milliseconds // 1000))

    number = copies(sum(ms for ms, _ in parts.values()))
    whole = number * (frame + sum(mib for _, mib in parts.values()))
    each = {name: copies(ms) for name, (ms, _) in parts.items()}
    split = sum(each[name] * (frame + mib) for name, (_, mib) in parts.items())
    return {
        "whole": {"copies": number, "mib": whole},
        "split": {"copies": each, "mib": split},
        "cheaper": "split" if split < whole else "whole",
    }
    ### END SOLUTION
    raise NotImplementedError

# %% checks="09.2"

# %% alternative="09.2" title="with fractions"
from fractions import Fraction
from math import ceil


def plan(parts, rate, frame):
    busy = {name: Fraction(rate * ms, 1000) for name, (ms, _) in parts.items()}
    each = {name: max(1, ceil(share)) for name, share in busy.items()}
    number = max(1, ceil(sum(busy.values())))
    mib = {
        "whole": number * (frame + sum(part[1] for part in parts.values())),
        "split": sum(each[name] * (frame + parts[name][1]) for name in parts),
    }
    copies = {"whole": number, "split": each}
    found = {way: {"copies": copies[way], "mib": mib[way]} for way in mib}
    return found | {"cheaper": min(mib, key=mib.get)}

# %% alternative="09.2" title="one more until it is enough"
def plan(parts, rate, frame):
    def enough(milliseconds):
        copies = 1
        while copies * 1000 < rate * milliseconds:
            copies += 1
        return copies

    one = frame + sum(mib for _, mib in parts.values())
    number = enough(sum(ms for ms, _ in parts.values()))
    each, split = {}, 0
    for name, (ms, mib) in parts.items():
        each[name] = enough(ms)
        split += each[name] * (mib + frame)
    cheaper = "whole" if number * one <= split else "split"
    return {"whole": dict(copies=number, mib=number * one), "split": dict(copies=each, mib=split), "cheaper": cheaper}

# %% wrong="09.2" title="rounded down"
# fails whole: rounded to the nearest or down
# fails measured: one process too few
# -         return max(1, -(-rate * milliseconds // 1000))
# +         return max(1, rate * milliseconds // 1000)

# %% wrong="09.2" title="one to be on the safe side"
# fails whole: is
# fails split: a part without load has none
# fails measured: one process too many
# -         return max(1, -(-rate * milliseconds // 1000))
# +         return 2 + rate * milliseconds // 1000

# %% wrong="09.2" title="one frame for all"
# fails memory: a frame was left out
# -     whole = number * (frame + sum(mib for _, mib in parts.values()))
# +     whole = frame + number * sum(mib for _, mib in parts.values())
#
# -     split = sum(each[name] * (frame + mib) for name, (_, mib) in parts.items())
# +     split = frame + sum(each[name] * mib for name, (_, mib) in parts.items())

# %% wrong="09.2" title="to split is always cheaper"
# fails less-memory: cheaper is 'split', not 'whole'
# -         "cheaper": "split" if split < whole else "whole",
# +         "cheaper": "split",

# %% [markdown]
# ## Exercise 09.3: What copies take together
#
# Write `memory(pids)`, which returns the MiB that these processes take **together**, as a number.
#
# - Processes that were forked from one share its pages until one of them changes a page. What several of them share
#   counts once, not once for each.
# - A process that has ended takes nothing.
#
# The kernel tells it in `/proc/PID/smaps_rollup`, in kB. Which of its lines do you need?

# %% answer="09.3"
def memory(pids):
    ### BEGIN SOLUTION
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as file:
                total += sum(int(line.split()[1]) for line in file if line.startswith("Pss:"))
        except (FileNotFoundError, ProcessLookupError):
            pass
    return total / 1024
    ### END SOLUTION
    raise NotImplementedError

# %% checks="09.3"

# %% alternative="09.3" title="a regular expression"
import re
from pathlib import Path


def memory(pids):
    found = 0.0
    for pid in pids:
        file = Path("/proc") / str(pid) / "smaps_rollup"
        if file.exists():
            found += int(re.search(r"^Pss:\s+(\d+) kB", file.read_text(), re.MULTILINE)[1])
    return round(found / 1024, 1)

# %% alternative="09.3" title="from each mapping"
def memory(pids):
    kilobytes = 0
    for pid in pids:
        try:
            lines = open(f"/proc/{pid}/smaps").readlines()
        except OSError:
            continue
        for line in lines:
            name, _, rest = line.partition(":")
            if name == "Pss":
                kilobytes += int(rest.split()[0])
    return kilobytes / 1024

# %% wrong="09.3" title="resident memory"
# fails shared: counted once for each of them
# fails changed: counted once for each of them
# -                 total += sum(int(line.split()[1]) for line in file if line.startswith("Pss:"))
# +                 total += sum(int(line.split()[1]) for line in file if line.startswith("Rss:"))

# %% wrong="09.3" title="kilobytes for megabytes"
# fails one: These are kB, not MiB
# -     return total / 1024
# +     return total

# %% wrong="09.3" title="only what is not shared"
# fails shared: Something else is added up
# -                 total += sum(int(line.split()[1]) for line in file if line.startswith("Pss:"))
# +                 total += sum(int(line.split()[1]) for line in file if line.startswith("Private_"))

# %% wrong="09.3" title="whoever has ended is an error"
# fails gone: raised
# -             pass
# +             raise

# %% wrong="09.3" title="the first times their number"
# fails own: Something else is added up
def memory(pids):
    with open(f"/proc/{pids[0]}/smaps_rollup") as file:
        return len(pids) * sum(int(line.split()[1]) for line in file if line.startswith("Pss:")) / 1024
