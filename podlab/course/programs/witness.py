"""Sees which process works on which chunk: the processes of exercise 01.2 ask here for what a chunk gives.

A result is drawn here and given to a living process when its chunk is done. Events are in the order in which they were
seen: no clock is compared.
"""

import os
import threading
import time

from outside import serve

#: Asked for by the process that calls the learner's function, so that it is known.
NO_CHUNK = -1
#: What has been seen: {"event": "begin", "end" or "gave up", "chunk": number, "pid", "at": seconds}.
LINES: list = []
#: chunk -> the process that works on it.
IN_HAND: dict = {}
SEEN: dict = {"caller": None, "most": 0}
PLAN: dict = {}
RESULTS: list = []
_NEWS = threading.Condition()


def begin(plan):
    """Begin to see; the address to ask at. The plan: `seconds` that each chunk lasts once it may go on, and rules.

    Chunks wait at their begin until `together` of them have been in hand at once, and chunk `last` until all others
    have ended. Whoever has waited `patience` seconds without any news gives up, for all. Chunk `fails` gives an error.
    """
    PLAN.update({"together": 0, "last": None, "fails": None, **plan})
    RESULTS[:] = [f"{os.urandom(4).hex()}-{number}" for number in range(len(PLAN["seconds"]))]
    return serve(_result)


def seen():
    """All that was seen: the caller's pid, the most chunks in hand at once, the lines, and what each chunk gives."""
    with _NEWS:
        return {**SEEN, "lines": LINES, "results": RESULTS}


def left():
    """The pids of those who worked and still live. Whoever is on its way out is waited for."""
    worked = {line["pid"] for line in LINES} - {SEEN["caller"]}
    end, pause = time.monotonic() + PLAN["patience"], threading.Event()
    while (living := sorted(filter(lives, worked))) and time.monotonic() < end:
        pause.wait(0.02)
    return living


def lives(pid):
    """Whether there is such a process, and it has not ended."""
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _result(pid, number):
    """What a chunk gives, once it is done."""
    if number == NO_CHUNK:
        SEEN["caller"] = SEEN["caller"] or pid
        return None
    if number not in range(len(RESULTS)):
        raise ValueError("there is no such chunk")
    with _NEWS:
        IN_HAND[number] = pid
        SEEN["most"] = max(SEEN["most"], sum(map(lives, IN_HAND.values())))
        _tell("begin", number, pid)
        _await(number, pid)
    threading.Event().wait(PLAN["seconds"][number])
    with _NEWS:
        IN_HAND.pop(number, None)
        if not lives(pid):
            raise ValueError("nobody works on it any more")
        _tell("end", number, pid)
    if number == PLAN["fails"]:
        raise ValueError(f"chunk {number} cannot be done")
    return RESULTS[number]


def _tell(event, number, pid):
    LINES.append({"event": event, "chunk": number, "pid": pid, "at": time.monotonic()})
    _NEWS.notify_all()


def _await(number, pid):
    while not _may_go_on(number):
        known = len(LINES)
        if not _NEWS.wait_for(lambda known=known: len(LINES) > known, PLAN["patience"]):
            _tell("gave up", number, pid)


def _may_go_on(number):
    if any(line["event"] == "gave up" for line in LINES):
        return True
    if number == PLAN["last"]:
        return sum(line["event"] == "end" for line in LINES) >= len(RESULTS) - 1
    return SEEN["most"] >= PLAN["together"]
