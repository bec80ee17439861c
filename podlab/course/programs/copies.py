"""Makes the processes of exercise 09.3, and asks the kernel what they take. Standard library only.

The processes are not this one's children but those of another program, which knows nothing of this one's answers: the
learner's code is to look into them.
"""

import json
import os
import subprocess
import sys

import outside  # noqa: F401 - nobody looks into this process

#: Says the pids of itself, which holds `shared` MiB, and of processes forked from it, each with `own` MiB more.
_FIRST = r"""
import json, mmap, os, signal, sys
copies, shared, own, changed, ended = json.loads(sys.argv[1])
MIB = 1024 * 1024

def filled(mib):
    held = mmap.mmap(-1, max(1, mib) * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for page in range(0, mib * MIB, 4096):
        held[page] = 1
    return held

base, pids = filled(shared), [os.getpid()]
for _ in range(copies):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        mine = filled(own)
        for page in range(0, changed * MIB, 4096):
            base[page] = 2
        os.write(writing, b"x")
        signal.pause()
        os._exit(0)
    os.read(reading, 1)
    pids.append(pid)
for pid in pids[len(pids) - ended:]:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
print(json.dumps(pids), flush=True)
signal.pause()
"""
LIVING: list = []


def begin(copies, shared, own, changed, ended):
    """Make the processes, and end the last `ended` of them; all pids, or None where the kernel does not tell."""
    if not os.path.exists("/proc/self/smaps_rollup"):  # noqa: PTH110
        return None
    command = [sys.executable, "-I", "-S", "-c", _FIRST, json.dumps([copies, shared, own, changed, ended])]
    first = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert first.stdout is not None
    pids = json.loads(first.stdout.readline())
    LIVING[:] = pids[: len(pids) - ended]
    return pids


def pss():
    """MiB that the living ones take together: each page counts once. Whoever was ended from outside takes nothing."""
    return sum(map(_pss, LIVING))


def rss():
    """MiB that they take, a page counted once for each who has it."""
    return sum(map(_rss, LIVING))


def _pss(pid):
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:  # noqa: PTH123
            return sum(int(line.split()[1]) for line in file if line.startswith("Pss:")) / 1024
    except OSError:
        return 0.0


def _rss(pid):
    try:
        with open(f"/proc/{pid}/statm") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * 4096 / 1024**2
    except OSError:
        return 0.0
