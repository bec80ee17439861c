"""Plays a story of exercise 10.1: each life of the service is a process of its own, asked over a socket and killed.

The service runs there, in an interpreter of its own; what became of its process, this one sees. Standard library only.
"""

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile

import outside  # noqa: F401 - nobody looks into this process

#: `python -c _LIFE SOCKET FOLDER`: the service, made of the source that comes first, answers a line for each line.
_LIFE = r"""
import json, signal, socket, sys, types

link = socket.socket(fileno=int(sys.argv[1]))
lines = link.makefile("r")
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
module, stall = types.ModuleType("answer"), None
sys.modules["answer"] = module
source = json.loads(next(lines))
for line in lines:
    what, value = json.loads(line)
    told = {}
    try:
        if what == "start":
            exec(compile(source, "<answer>", "exec"), vars(module))
            stall = module.Ingestion(sys.argv[2])
        elif what == "events":
            told["value"] = list(stall.events())
        else:
            told["value"] = stall.accept(value)
    except Exception as error:
        told["error"] = type(error).__name__ + (": " + str(error)[:150] if str(error) else "")
    link.sendall(json.dumps(told, default=repr).encode() + b"\n")
"""


class Late(Exception):
    """Raised where the service does not answer."""


class Life:
    """One process with the service in it, which has `patience` seconds for an answer."""

    def __init__(self, source, folder, patience):
        self._link, theirs = socket.socketpair()
        self._link.settimeout(patience)
        command = [sys.executable, "-c", _LIFE, str(theirs.fileno()), folder]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
        )
        theirs.close()
        self._lines = self._link.makefile("r")
        self._link.sendall(json.dumps(source).encode() + b"\n")

    def ask(self, what, value):
        """Its answer as a dictionary; {"died": signal} where it has ended. Late if none comes."""
        try:
            self._link.sendall(json.dumps([what, value]).encode() + b"\n")
            line = self._lines.readline()
        except TimeoutError:
            raise Late from None
        except OSError:
            line = ""
        if line.endswith("\n"):
            told = json.loads(line)
            return told if isinstance(told, dict) else {"value": told}
        return {"died": max(0, -self._process.wait())}

    def limit(self, size):
        """End it by the kernel as soon as a file gets longer."""
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (size, hard))

    def end(self):
        """Kill it."""
        self._process.kill()
        self._process.wait()
        self._link.close()


def play(source, script, patience):
    """What each step of a script came to: [what, value] with start, send, events, die, kill, limit, and so on.

    None where an answer did not come within `patience` seconds.

    die: kept, and killed before anybody has the answer. limit: bytes that the largest file may grow, or, below 0, that
    a file may have. until dead: a list of events, sent until the process has ended; go on: so many of those that are
    left.
    """
    folder = tempfile.mkdtemp(dir=os.getcwd())  # noqa: PTH109
    said, life, left = [], None, []
    try:
        for what, value in script:
            if what in ("start", "kill") and life:
                life.end()
                life = None
            if what == "kill":
                said.append({})
                continue
            if what == "start":
                life = Life(source, folder, patience)
            if what == "go on":
                said.extend(life.ask("send", event) for event in left[:value])
            elif what == "limit":
                life.limit(_largest(folder) + value if value > 0 else -value)
                said.append({})
            elif what == "die":
                told = life.ask("send", value)
                life.end()
                said.append(told if "error" in told or "died" in told else {"died": signal.SIGKILL})
            elif what == "until dead":
                answers = []
                for place, event in enumerate(value):
                    answers.append(life.ask("send", event))
                    if "died" in answers[-1]:
                        left = value[place:]
                        break
                said.append({"answers": answers})
            else:
                said.append(life.ask(what, value))
    except Late:
        return None
    finally:
        if life:
            life.end()
    return said


def _largest(folder):
    files = [os.path.join(at, name) for at, _, names in os.walk(folder) for name in names]  # noqa: PTH118
    return max((os.path.getsize(file) for file in files if os.path.isfile(file)), default=0)  # noqa: PTH113, PTH202
