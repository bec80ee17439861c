"""Exercise 01.2: who does what is the kernel's word, and no answer can put its own in its place."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from podlab.checks import calm, registry, runner
from podlab.checks.bench import Bench
from podlab.checks.contract import Report, Verdict
from podlab.course.outside import outside
from podlab.course.split_and_conquer.work import Work
from podlab.lab.show import ReportView
from podlab.waiting import until

COURSE = Path(__file__).parents[3]
PLAN = {"seconds": [0.0] * 3, "patience": 30.0}

#: Writes down that three processes have done everything, where the work itself once wrote it. No process works.
_WRITES_IT_DOWN = """
import json

def dispatch(work, chunks, workers):
    number = len(chunks)
    first, rest = list(range(number))[:workers], list(range(number))[workers:]
    told = [("begin", each) for each in first]
    for free, taken in zip([*first[1:], *rest], rest):
        told += [("end", free), ("begin", taken)]
    ended = {each for event, each in told if event == "end"}
    told += [("end", each) for each in reversed(range(number)) if each not in ended]
    path, nonce, fails = (getattr(work, name, "") for name in ("path", "nonce", "fails"))
    with open(path or "evidence", "w") as file:
        for at, (event, each) in enumerate(told):
            line = {"event": event, "chunk": each, "pid": 2**30 + each % workers, "at": float(at)}
            print(json.dumps(line), file=file)
    if fails in range(number):
        raise ValueError("forged")
    return [nonce + "-" + str(each) for each in range(number)]
"""
#: Finds what stands before an answer of its process, in the frames above, and answers itself.
_ANSWERS_FOR_THE_PROCESS = """
import json, os, sys, time

def dispatch(work, chunks, workers):
    frame = sys._getframe()
    while "seal" not in frame.f_locals:
        frame = frame.f_back
    lines = [{"event": "begin", "chunk": each, "pid": 2**30 + each % workers, "at": 0.0} for each in range(len(chunks))]
    value = {"value": ["0-%d" % each for each in range(len(chunks))], "lines": lines, "caller": 1, "own": 1, "left": [],
             "most": workers, "error": ""}
    text = frame.f_locals["seal"] + json.dumps({"kind": "value", "value": value, "seconds": 1}) + "\\n"
    os.write(int(sys.argv[1]), text.encode())
    os.close(int(sys.argv[1]))
    time.sleep(600)
"""
#: Has each connection made by a process that ends at once, and asks there itself.
_ASKS_FOR_THE_DEAD = """
import json, os, socket
from concurrent.futures import ThreadPoolExecutor

def connected(address):
    here, there = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        witness = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        witness.connect("\\0" + address)
        socket.send_fds(there, [b"x"], [witness.fileno()])
        os._exit(0)
    _, (descriptor,), _, _ = socket.recv_fds(here, 1, 1)
    os.waitpid(pid, 0)
    return socket.socket(fileno=descriptor)

def dispatch(work, chunks, workers):
    def ask(number):
        with connected(work.address) as witness:
            witness.send(json.dumps([number]).encode())
            answer = json.loads(witness.recv(1000))
        if "error" in answer:
            raise ValueError(answer["text"])
        return answer["value"]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(ask, range(len(chunks))))
"""
#: Ends whoever sees it: the listener's pid is the kernel's word to its clients, too.
_ENDS_THE_WITNESS = """
import os, signal, socket, struct

def dispatch(work, chunks, workers):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as witness:
        witness.connect("\\0" + work.address)
        pid, _, _ = struct.unpack("3i", witness.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    os.kill(pid, signal.SIGKILL)
    return []
"""


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure is believed at once: what becomes of a forged answer does not depend on how busy the machine is."""
    monkeypatch.setattr(calm, "CROWDED", 1.0)


def judged(source: str) -> Report:
    exercise = registry.exercise("01.2", COURSE / "autograder" / "hidden")
    return runner.run(exercise, {"dispatch": source}, lambda: Bench(seed=1), hidden=True)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        pytest.param(_WRITES_IT_DOWN, "of chunks 0 to 8 these were worked on: []", id="writes it down"),
        pytest.param(_ANSWERS_FOR_THE_PROCESS, "of chunks 0 to 8 these were worked on: []", id="answers itself"),
        pytest.param(_ASKS_FOR_THE_DEAD, "dispatch(work, chunks, 3) raised", id="asks for the dead"),
        pytest.param(_ENDS_THE_WITNESS, "ended a process that was not its own", id="ends the witness"),
    ],
)
def test_forged_evidence_earns_nothing(source: str, said: str) -> None:
    report = judged(source)
    told = ReportView(report).text
    assert report.score == 0, told
    assert {line.result.verdict for line in report.lines} == {Verdict.FAIL}, told
    assert said in report.result("once").observed, told


#: Asks for each of some chunks, and says what it was told: `python -c _ASKS ADDRESS CHUNK...`
_ASKS = """
import socket, sys
for chunk in sys.argv[2:]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as witness:
        witness.connect(chr(0) + sys.argv[1])
        witness.send(f"[{chunk}]".encode())
        print(witness.recv(1000).decode(), flush=True)
"""


def asking(address: str, *chunks: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-S", "-c", _ASKS, address, *map(str, chunks)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_whoever_asks_is_who_the_kernel_says() -> None:
    with Bench(seed=1) as bench, outside(bench, "witness") as witness:
        address = witness.tell("begin", PLAN | {"fails": 2})
        asking(address, -1).communicate()
        with asking(address, 0, 1, 2, 7) as process:
            told, _ = process.communicate()
        seen = witness.tell("seen")
    assert [line["pid"] for line in seen["lines"]] == [process.pid] * 6
    assert [line["event"] for line in seen["lines"]] == ["begin", "end"] * 3
    assert seen["caller"] not in (None, process.pid) and seen["most"] == 1
    answers = [json.loads(line) for line in told.splitlines()]
    assert [answer.get("value") for answer in answers] == [*seen["results"][:2], None, None]
    assert [answer.get("text") for answer in answers[2:]] == ["chunk 2 cannot be done", "there is no such chunk"]


def test_chunks_of_the_living_only_are_in_hand_and_get_a_result() -> None:
    with Bench(seed=1) as bench, outside(bench, "witness") as witness:
        address = witness.tell("begin", PLAN | {"together": 2})
        with asking(address, 0) as first:
            until(lambda: witness.tell("seen")["lines"], "the first asking", timeout=60)
            first.kill()
        with asking(address, 1) as second:
            until(lambda: len(witness.tell("seen")["lines"]) > 1, "the second asking", timeout=60)
            assert witness.tell("seen")["most"] == 1, "one of the two has ended"
            assert Work(address)([2, 0.0]) == witness.tell("seen")["results"][2]
            second.communicate()
        lines = witness.tell("seen")["lines"]
    assert sorted(line["chunk"] for line in lines if line["event"] == "end") == [1, 2]
