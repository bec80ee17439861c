"""The stalls of exercise 11.3: real processes, some of which are stopped in mid-air. What a page asks comes here."""

import os
import signal
import socket
import threading
import time

from outside import serve

#: name -> what it does: answers, refuses, stopped, or together (only when all have been asked).
KINDS: dict = {}
#: name -> the way to its process, and its pid.
STALLS: dict = {}
ASKED: dict = {}
BEGUN: dict = {}
ANSWERED: dict = {}
SETTING: dict = {}
STOOD = [0.0]
_CAME, _LATE = threading.Event(), threading.Event()


def begin(kinds, seconds, factor, nonce):
    """Open the stalls for a page that has so many seconds, and at most `factor` times as many; the address of all."""
    KINDS.update(kinds)
    SETTING.update(seconds=seconds, factor=factor, nonce=nonce, together=threading.Barrier(len(kinds)))
    for name, kind in kinds.items():
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            try:
                for other, _ in STALLS.values():
                    other.close()
                ours.close()
                while theirs.recv(100):
                    theirs.sendall(b"here")
            finally:
                os._exit(0)
        theirs.close()
        STALLS[name] = ours, pid
        if kind == "stopped":
            os.kill(pid, signal.SIGSTOP)
            os.waitpid(pid, os.WUNTRACED)  # returns when it stands still
    return serve(_call, _got)


def watch():
    """From now on the page is waited for."""
    SETTING["watchman"] = threading.Thread(target=_watch)
    SETTING["watchman"].start()


def over():
    """The page is there: whether it was late, and how often each stall was asked until then.

    `waited` and `stood` are shares of the page's seconds: until an answer was there, by name; and for which this
    process stood still.
    """
    ended, late, asked = time.monotonic(), _LATE.is_set(), dict(ASKED)
    waited = {name: (ANSWERED.get(name, ended) - at) / SETTING["seconds"] for name, at in BEGUN.items()}
    _CAME.set()
    SETTING["watchman"].join()
    return {"late": late, "asked": asked, "waited": waited, "stood": max(STOOD)}


def _call(_pid, name):
    if not _LATE.is_set():
        ASKED[name] = ASKED.get(name, 0) + 1
    if KINDS[name] == "refuses":
        raise ConnectionError(f"{name} refuses")
    try:
        if KINDS[name] == "together":
            SETTING["together"].wait()  # until it is too late
        BEGUN[name] = time.monotonic()
        link, _ = STALLS[name]
        link.sendall(b"what")
        there = link.recv(100)
    except (threading.BrokenBarrierError, OSError):
        there = b""
    if not there:
        raise ConnectionError(f"{name} is gone")
    return f"{name} {SETTING['nonce']}"


def _got(_pid, name):
    ANSWERED.setdefault(name, time.monotonic())


def _watch():
    # In steps: when this process stands still altogether, only one of them is long.
    step = SETTING["seconds"] / 20
    for _ in range(20 * SETTING["factor"]):
        begun = time.monotonic()
        came = _CAME.wait(step)
        STOOD.append((time.monotonic() - begun) / SETTING["seconds"])
        if came:
            break
    else:
        _LATE.set()
    # From here on it is too late: everybody who waits is let go.
    SETTING["together"].abort()
    for link, pid in STALLS.values():
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        link.shutdown(socket.SHUT_RDWR)
