"""Tells the parts of exercise 09.1 how they go on, and notes what each has used: the kernel says it.

How long a part computes is not known in the learner's process: it goes on until it has used enough processor.
"""

import os
import threading
import time

from outside import serve

#: Of a process's clocks the one that counts what all its threads have used (the kernel's CPUCLOCK_SCHED).
USED = 2
SHAPE: dict = {}
CALLS: list = []
ANSWERS: list = []
SECONDS: dict = {}
AT_WORK: list = []


def begin(shape):
    """The address at which parts of this shape ask; None where the kernel does not tell what others have used."""
    try:
        _used(os.getppid())
    except OSError:
        return None
    SHAPE.update(shape)
    SECONDS.update(dict.fromkeys(shape, 0.0))
    return serve(_next)


def seen():
    """Calls as [part, request], what ui has made of each request, and the seconds that each part has used."""
    return {"calls": CALLS, "answers": ANSWERS, "seconds": SECONDS}


def _next(pid, call, *said):
    """What a call of a part has to do next, with its number: (None, part, request) begins one."""
    if call is None:
        call, said = len(AT_WORK), (AT_WORK.append(_part(pid, *said)),)
    return [call, AT_WORK[call].send(*said)]


def _part(pid, name, request):
    kind = SHAPE[name]
    CALLS.append([name, request])
    begun = used = _used(pid)
    while used < begun + kind["computes"]:
        yield "compute"
        used = _used(pid)
    SECONDS[name] += used - begun
    threading.Event().wait(kind["waits"])
    answer = yield {"asks": kind["asks"], "raises": kind.get("raises", False), "tells": name == "ui"}
    ANSWERS.append(answer)
    yield None


def _used(pid):
    return time.clock_gettime((~pid << 3) | USED)
