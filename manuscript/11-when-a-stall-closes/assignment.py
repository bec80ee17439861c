# ---
# title: When a stall closes, the exercises
# chapter: "11"
# minutes: 90
# needs: processes of this machine, no cluster
# ---

# %% [markdown]
# # 11. When a stall closes: exercises
#
# Four things that a caller owes: a limit to its patience, a rest for who is in trouble, an answer of its own when none
# comes, and a budget of second tries.
#
# Change only the cells that say `YOUR CODE HERE`. The cell below each of them runs the checks, as often as you like;
# `lab.hint("11.1")` asks you a question that may help. When your work is graded, some further checks run that you do
# not see here; the task says everything they look at.
#
# In 11.1 and 11.2 time is a number that the checks move: your code never sleeps, and it must not use a clock of its
# own; 11.4 needs none. In 11.3 real processes are stopped with a real signal.
#
# A cell with an answer must make sense by itself: write the imports that it needs into it.

# %%
from podlab.lab import start

lab = start("11")

# %% [markdown]
# ## Exercise 11.1: Once more, but not for ever
#
# `call(patience)` asks a service and waits at most `patience` seconds. It returns the answer, or raises
# `TimeoutError` when the time is over, or `ConnectionError` when the service refuses, which may be at once. `clock()`
# tells the time in seconds.
#
# Write `ask(call, seconds, clock)`, which returns the first answer it gets.
#
# - After `TimeoutError` or `ConnectionError` it tries **once** more: two tries at most.
# - All of it ends within `seconds`. A try gets no more patience than what is left, and when nothing is left there is
#   no second try.
# - When it gives up, it raises what the last try raised.
# - Any other exception says that the question is wrong: it goes through, at once.

# %% answer="11.1"
def ask(call, seconds, clock):
    ### BEGIN SOLUTION
    end = clock() + seconds
    try:
        return call(seconds)
    except (TimeoutError, ConnectionError):
        left = end - clock()
        if left <= 0:
            raise
    return call(left)
    ### END SOLUTION
    raise NotImplementedError

# %% checks="11.1"

# %% alternative="11.1" title="each try gets half"
def ask(call, seconds, clock):
    end = clock() + seconds
    try:
        return call(seconds / 2)
    except (TimeoutError, ConnectionError):
        if end - clock() <= 0:
            raise
        return call(min(seconds / 2, end - clock()))

# %% alternative="11.1" title="a loop with a deadline"
def ask(call, seconds, clock):
    begun, last = clock(), None
    for _ in range(2):
        left = seconds - (clock() - begun)
        if left <= 0:
            break
        try:
            return call(left)
        except (TimeoutError, ConnectionError) as trouble:
            last = trouble
    raise last

# %% wrong="11.1" title="every try gets all the seconds"
# fails deadline: Each try gets all the seconds
# -     return call(left)
# +     return call(seconds)

# %% wrong="11.1" title="it gives up at once"
# fails answers: gives up at the first trouble
def ask(call, seconds, clock):
    return call(seconds)

# %% wrong="11.1" title="as long as there is time"
# fails tries: cut off after
def ask(call, seconds, clock):
    end = clock() + seconds
    while True:
        try:
            return call(end - clock())
        except (TimeoutError, ConnectionError):
            if clock() >= end:
                raise

# %% wrong="11.1" title="the trouble is swallowed"
# fails tries: caught and forgotten
def ask(call, seconds, clock):
    end = clock() + seconds
    for _ in range(2):
        try:
            if end > clock():
                return call(end - clock())
        except (TimeoutError, ConnectionError):
            pass
    return None

# %% wrong="11.1" title="everything is tried again"
# fails question: taken for a trouble that passes
# -     except (TimeoutError, ConnectionError):
# +     except Exception:

# %% wrong="11.1" title="a try without time"
# fails nothing-left: no time for its answer
# -         if left <= 0:
# -             raise
# -     return call(left)
# +     return call(max(0, left))

# %% [markdown]
# ## Exercise 11.2: Leave it alone for a while
#
# Write a class `Breaker(failures, rest)`. Before each call its owner asks `allow(now)`; after a call that was allowed
# it says `ok(now)` or `failed(now)`. `now` is a time in seconds, which never goes back.
#
# - After `failures` failures **in a row** the breaker opens: `allow` is `False` for `rest` seconds, counted from the
#   last failure.
# - When the rest is over, **one** call may try. Until it is known what became of it, `allow` is `False` for others.
# - If it is answered, everything is as in the beginning. If it fails, another `rest` begins, and then one tries again.

# %% answer="11.2"
class Breaker:
    """Asked before each call (allow), told after it (ok or failed)."""

    ### BEGIN SOLUTION
    def __init__(self, failures, rest):
        self.failures, self.rest = failures, rest
        self.in_a_row, self.until, self.trying = 0, 0.0, False

    def allow(self, now):
        if self.in_a_row < self.failures:
            return True
        if self.trying or now < self.until:
            return False
        self.trying = True
        return True

    def ok(self, now):
        self.in_a_row, self.trying = 0, False

    def failed(self, now):
        self.in_a_row += 1
        self.until, self.trying = now + self.rest, False
    ### END SOLUTION

# %% checks="11.2"

# %% alternative="11.2" title="three states by name"
class Breaker:
    def __init__(self, failures, rest):
        self.most, self.rest = failures, rest
        self.state, self.count, self.since = "closed", 0, None

    def allow(self, now):
        if self.state == "open" and now - self.since >= self.rest:
            self.state = "half-open"
            return True
        return self.state == "closed"

    def ok(self, now):
        self.state, self.count = "closed", 0

    def failed(self, now):
        self.count += 1
        if self.state == "half-open" or self.count >= self.most:
            self.state, self.since = "open", now

# %% alternative="11.2" title="the last failures in a list"
class Breaker:
    def __init__(self, failures, rest):
        self.failures, self.rest = failures, rest
        self.times, self.tried = [], False

    def allow(self, now):
        if len(self.times) < self.failures:
            return True
        may = not self.tried and now >= self.times[-1] + self.rest
        self.tried = self.tried or may
        return may

    def ok(self, now):
        self.times, self.tried = [], False

    def failed(self, now):
        self.times, self.tried = [*self.times, now][-self.failures :], False

# %% wrong="11.2" title="one failure more than that"
# fails opens: It does not open, or not for so long
# -         if self.in_a_row < self.failures:
# +         if self.in_a_row <= self.failures:

# %% wrong="11.2" title="all failures count"
# fails in-a-row: not those in a row
# -         self.in_a_row, self.trying = 0, False
# +         if self.trying:
# +             self.in_a_row, self.trying = 0, False

# %% wrong="11.2" title="after the rest all may go"
# fails one-tries: All who waited run at once
# -         if self.trying or now < self.until:
# -             return False
# -         self.trying = True
# -         return True
# +         return now >= self.until

# %% wrong="11.2" title="it never closes again"
# fails one-tries: Nobody is ever allowed again
# -         if self.trying or now < self.until:
# -             return False
# -         self.trying = True
# -         return True
# +         return False

# %% wrong="11.2" title="after the rest everything is forgotten"
# fails one-tries: 10 of 10 calls
# fails hardly-any: would have been enough
# -         if self.trying or now < self.until:
# -             return False
# -         self.trying = True
# -         return True
# +         if now < self.until:
# +             return False
# +         self.in_a_row = 0
# +         return True

# %% wrong="11.2" title="whoever tries is never let go"
# fails again: nobody may try after it
# -         self.until, self.trying = now + self.rest, False
# +         self.until = now + self.rest

# %% wrong="11.2" title="one success is not enough to close"
# fails recovers: does not close again
# -         self.in_a_row, self.trying = 0, False
# +         if self.in_a_row < self.failures:
# +             self.in_a_row = 0
# +         else:
# +             self.until, self.trying = now + self.rest, False

# %% [markdown]
# ## Exercise 11.3: The page comes in any case
#
# A page is made of several answers. `calls` is a dictionary: name → function without arguments that asks a service
# and returns its answer (a text). Such a function may take long, may raise `ConnectionError`, or may **never**
# return, since the process behind it is stopped. It can be called in any thread.
#
# Write `page(calls, seconds)`, which returns a dictionary with **every** name: the answer, or `None` where none came.
#
# - All calls are made at the same time, each once.
# - It returns after about `seconds`, also if some or all calls hang; sooner if all have answered.
# - What the others answered is there, whatever became of one.

# %% answer="11.3"
import threading
import time


def page(calls, seconds):
    ### BEGIN SOLUTION
    found = {}

    def fetch(name):
        try:
            found[name] = calls[name]()
        except ConnectionError:
            pass

    threads = [threading.Thread(target=fetch, args=[name], daemon=True) for name in calls]
    for thread in threads:
        thread.start()
    end = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0, end - time.monotonic()))
    return {name: found.get(name) for name in calls}
    ### END SOLUTION
    raise NotImplementedError

# %% checks="11.3"

# %% alternative="11.3" title="futures, and a pool that is not waited for"
from concurrent.futures import ThreadPoolExecutor, wait


def page(calls, seconds):
    pool = ThreadPoolExecutor(len(calls))
    futures = {name: pool.submit(call) for name, call in calls.items()}
    done, _ = wait(futures.values(), timeout=seconds)
    pool.shutdown(wait=False)
    return {name: one.result() if one in done and not one.exception() else None for name, one in futures.items()}

# %% alternative="11.3" title="a queue of answers"
import queue
import threading
import time


def page(calls, seconds):
    answers, found = queue.Queue(), dict.fromkeys(calls)

    def fetch(name, call):
        try:
            answers.put((name, call()))
        except Exception:
            answers.put((name, None))

    for name, call in calls.items():
        threading.Thread(target=fetch, args=(name, call), daemon=True).start()
    end = time.monotonic() + seconds
    try:
        for _ in calls:
            name, answer = answers.get(timeout=max(0.001, end - time.monotonic()))
            found[name] = answer
    except queue.Empty:
        pass
    return found

# %% wrong="11.3" title="all threads ask for the last name"
# fails complete: Answers are lost
# -     def fetch(name):
# -         try:
# +     def fetch():
# +         try:
#
# -     threads = [threading.Thread(target=fetch, args=[name], daemon=True) for name in calls]
# +     threads = []
# +     for name in calls:
# +         threads.append(threading.Thread(target=fetch, daemon=True))

# %% wrong="11.3" title="one after the other"
# fails in-time: waits for the one that hangs
# fails at-once: one after the other
def page(calls, seconds):
    found = {}
    for name, call in calls.items():
        try:
            found[name] = call()
        except ConnectionError:
            found[name] = None
    return found

# %% wrong="11.3" title="a pool in a with block"
# fails in-time: at the end of a with block
from concurrent.futures import ThreadPoolExecutor, wait


def page(calls, seconds):
    with ThreadPoolExecutor(len(calls)) as pool:
        futures = {name: pool.submit(call) for name, call in calls.items()}
        done, _ = wait(futures.values(), timeout=seconds)
        return {name: one.result() if one in done and not one.exception() else None for name, one in futures.items()}

# %% wrong="11.3" title="the time-out takes the page with it"
# fails in-time: takes the whole page with it
from concurrent.futures import ThreadPoolExecutor


def page(calls, seconds):
    pool = ThreadPoolExecutor(len(calls))
    futures = {name: pool.submit(call) for name, call in calls.items()}
    try:
        return {name: future.result(timeout=seconds) for name, future in futures.items()}
    finally:
        pool.shutdown(wait=False)

# %% wrong="11.3" title="a refusal ends the page"
# fails refused: ends the page
from concurrent.futures import ThreadPoolExecutor, wait


def page(calls, seconds):
    pool = ThreadPoolExecutor(len(calls))
    futures = {name: pool.submit(call) for name, call in calls.items()}
    done, _ = wait(futures.values(), timeout=seconds)
    pool.shutdown(wait=False)
    return {name: future.result() if future in done else None for name, future in futures.items()}

# %% wrong="11.3" title="the first answer is waited for"
# fails all-stopped: waits for somebody without a limit
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait


def page(calls, seconds):
    pool = ThreadPoolExecutor(len(calls))
    futures = {name: pool.submit(call) for name, call in calls.items()}
    wait(futures.values(), return_when=FIRST_COMPLETED)
    done, _ = wait(futures.values(), timeout=seconds)
    pool.shutdown(wait=False)
    return {name: one.result() if one in done and not one.exception() else None for name, one in futures.items()}

# %% wrong="11.3" title="who did not answer is left out"
# fails in-time: is not there
# -     return {name: found.get(name) for name in calls}
# +     return dict(found)

# %% [markdown]
# ## Exercise 11.4: Tries on a budget
#
# Two tries for each question are still twice the load when everything fails. Write a class `Budget(share, most)`, which
# its owner shares among all its questions: it says `call()` before each first try, and asks `take()` before a second.
#
# - In the beginning the budget holds `most` tries.
# - Each `call()` adds `share` of a try, such as 0.125; but it never holds more than `most`.
# - `take()` takes one whole try and returns `True`, or, if there is none, takes nothing and returns `False`.
# - Each service that is asked gets a budget of its own.

# %% answer="11.4"
class Budget:
    """Told of each call (call), asked before a second try (take)."""

    ### BEGIN SOLUTION
    def __init__(self, share, most):
        self.share, self.most = share, most
        self.left = most

    def call(self):
        self.left = min(self.most, self.left + self.share)

    def take(self):
        if self.left < 1:
            return False
        self.left -= 1
        return True
    ### END SOLUTION

# %% checks="11.4"

# %% alternative="11.4" title="what was used is counted"
class Budget:
    def __init__(self, share, most):
        self.share, self.most, self.used = share, most, 0.0

    def call(self):
        self.used = max(0.0, self.used - self.share)

    def take(self):
        may = self.used + 1 <= self.most
        self.used += may
        return may

# %% alternative="11.4" title="filled when it is asked"
class Budget:
    def __init__(self, share, most):
        self.share, self.most, self.left, self.calls = share, most, most, 0

    def call(self):
        self.calls += 1

    def take(self):
        self.left, self.calls = min(self.most, self.left + self.share * self.calls), 0
        if self.left >= 1:
            self.left -= 1
            return True
        return False

# %% wrong="11.4" title="everybody gets a second try"
# fails storm: A try costs nothing
# fails full: saved has no limit
# -         if self.left < 1:
# -             return False
# -         self.left -= 1
# -         return True
# +         return True

# %% wrong="11.4" title="a month is saved up"
# fails full: saved has no limit
# -         self.left = min(self.most, self.left + self.share)
# +         self.left += self.share

# %% wrong="11.4" title="it begins with nothing"
# fails quiet: empty in the beginning
# -         self.left = most
# +         self.left = 0

# %% wrong="11.4" title="calls earn nothing"
# fails quiet: calls do not fill it
# fails storm: Calls earn too little
# -         self.left = min(self.most, self.left + self.share)
# +         pass

# %% wrong="11.4" title="a refusal costs a try, too"
# fails storm: a refusal costs something
# -         if self.left < 1:
# -             return False
# -         self.left -= 1
# -         return True
# +         self.left -= 1
# +         return self.left >= 0

# %% wrong="11.4" title="one purse for all services"
# fails apart: stands where all budgets see it
class Budget:
    left = 0

    def __init__(self, share, most):
        self.share, self.most = share, most
        Budget.left = most

    def call(self):
        Budget.left = min(self.most, Budget.left + self.share)

    def take(self):
        if Budget.left < 1:
            return False
        Budget.left -= 1
        return True
