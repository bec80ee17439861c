"""Call a learner's code in a process of its own, whatever it does: hang, exit, recurse, print, raise, return nonsense.

The code comes as text, as it was handed in. Every call ends in exactly one `Called`. Nothing of the checker is in
that process: what comes back is data.
"""

from __future__ import annotations

import json
import os
import secrets
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import IO, Any, Literal, Protocol

from podlab.checks import finite
from podlab.checks.contract import Json, Result, failed
from podlab.checks.places import place
from podlab.node.runtime.sandbox import kernel

#: Bytes of what the code prints that are kept; it may print more.
KEPT_OUTPUT = 4_000
#: Bytes of results that are read, of private memory that one process of the code may take (more ends in a MemoryError,
#: before a box of the grader is full), and of a file that it may write.
MOST_RESULTS = 8 * 1024 * 1024
MOST_MEMORY = 1100 * 1024**2
MOST_FILE = 256 * 1024**2
#: Bytes that a pipe may hold.
PIPE = 1024 * 1024

Kind = Literal["value", "raised", "unfit", "unusable", "late", "ended", "huge"]

#: What each kind of trouble most likely comes from, and what to try.
_ADVICE: dict[str, tuple[str, str]] = {
    "raised": ("The code does not expect these arguments.", "Call it with them in a cell of your own."),
    "unfit": (
        "It returns something else than numbers, text, lists and dictionaries with text as keys.",
        "Turn it into one of these before you return it: list(...), dict(...), int(...).",
    ),
    "unusable": (
        "The cell cannot be run by itself: a name is missing, or a line is not Python.",
        "Restart the kernel, run the cell with your answer alone, and see what it says.",
    ),
    "late": ("A loop that does not end, or a wait for something that does not come.", "Which condition ends it?"),
    "ended": ("The code ends the process that runs it (exit, os._exit, too much memory).", "Return; do not exit."),
    "huge": ("It returns or collects far more than was asked for.", "What does it return for a small argument?"),
}
#: The same for what was raised, where its name says more.
_RAISED = {
    "RecursionError": ("The function calls itself without an end.", "For which arguments does it not call itself?"),
    "SystemExit": _ADVICE["ended"],
    "MemoryError": _ADVICE["huge"],
}


@dataclass(frozen=True)
class Called:
    """How one call went. `value` is what it returned if `kind` is value; `error` says in words what else happened."""

    kind: Kind
    value: Json = None
    error: str = ""
    seconds: float = 0.0
    #: Whether the call changed the arguments that it was given.
    changed: bool = False
    #: What was printed during all calls, cut.
    output: str = ""

    @property
    def ok(self) -> bool:
        """Whether it returned a plain value."""
        return self.kind == "value"

    def trouble(self, expected: str, shown: str) -> Result:
        """The failed Result for a call that did not return; `shown` is the call as the learner would write it."""
        cause, next_step = _ADVICE[self.kind]
        if self.kind == "raised":
            name = [*self.error.split(), "", ""][1].rstrip(":")
            cause, next_step = _RAISED.get(name, (cause, next_step))
        printed = f"; it had printed: {self.output[-200:]}" if self.output.strip() else ""
        return failed(expected, f"{shown} {self.error}{printed}", cause=cause, next_step=next_step)


class Started(Protocol):
    """A process with the learner's code. `stdout` is there when it was asked for as a pipe, `stdin` likewise."""

    stdin: IO[bytes] | None
    stdout: IO[bytes] | None
    returncode: int | None

    @property
    def over(self) -> int:
        """A descriptor that becomes readable when the process itself has ended: its children may hold the pipes on."""

    def end(self) -> None:
        """End it and everything that it started, and close its descriptors; may be called twice."""


#: Starts Python with these arguments: (arguments, stdin, stdout as of Popen, descriptor for results, folder).
Start = Callable[[Sequence[str], Any, Any, int, str], Started]


class Here(subprocess.Popen[bytes]):
    """The learner's code in a process of this machine."""

    def __init__(self, command: Sequence[str], **settings: Any) -> None:
        super().__init__(command, **settings)
        self.over = kernel.pidfd_open(self.pid)

    def end(self) -> None:
        """End the process and everything in its session."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.wait()
        if self.stdout is not None:
            self.stdout.close()
        if self.over >= 0:
            os.close(self.over)
            self.over = -1


def start_here(arguments: Sequence[str], stdin: Any, stdout: Any, results: int, folder: str) -> Started:
    """Start this interpreter in a session of its own; where `start` is asked for, the grader gives one into a box."""
    return Here(
        [sys.executable, *arguments],
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.STDOUT,
        pass_fds=(results,),
        start_new_session=True,
        cwd=folder,
    )


def arguments_of_caller(results: int) -> list[str]:
    """The interpreter's arguments for programs/caller.py, which writes to the descriptor `results`."""
    program = resources.files("podlab.checks").joinpath("programs/caller.py").read_text()
    return ["-c", program, str(results), str(MOST_MEMORY), str(MOST_FILE)]


def call(source: str, name: str, *arguments: Json, seconds: float, start: Start = start_here) -> Called:
    """One call of `name` as the text `source` defines it; see `call_each`."""
    return call_each(source, name, [arguments], seconds=seconds, start=start)[0]


def call_each(
    source: str, name: str, calls: Sequence[Sequence[Json]], *, seconds: float, start: Start = start_here
) -> list[Called]:
    """One Called for each list of arguments, in order, all in one new process that gets `seconds` altogether.

    Whatever processes the code has started in its session end with it.
    """
    seal = new_seal()
    task = json.dumps({"source": source, "name": name, "calls": [list(each) for each in calls], "seal": seal})
    reading, writing = os.pipe()
    began = time.monotonic()
    with tempfile.TemporaryFile() as question, place("call") as folder:
        question.write(task.encode())
        question.seek(0)
        process = start(arguments_of_caller(writing), question, subprocess.PIPE, writing, folder)
        os.close(writing)
        try:
            lines, output, end = _read(process, reading, seal, len(calls), began + seconds)
        finally:
            process.end()
            os.close(reading)
    done = list(_parsed(lines, seal, output))
    if done and done[0].kind == "unusable":
        return [done[0]] * len(calls)
    if len(done) >= len(calls):
        return done[: len(calls)]
    return done + [_missing(end, process.returncode, seconds, output)] * (len(calls) - len(done))


def _read(process: Started, results: int, seal: str, answers: int, deadline: float) -> tuple[bytes, str, str]:
    """Results, the beginning of what was printed, and why reading ended: over, late or huge.

    It is over with the last of the answers, or with the process that gives them; children that hold its pipes are
    not waited for.
    """
    assert process.stdout is not None
    found, printed = bytearray(), bytearray()
    lines, end = 0, ""
    with selectors.DefaultSelector() as selector:
        selector.register(results, selectors.EVENT_READ, found)
        selector.register(process.stdout, selectors.EVENT_READ, printed)
        selector.register(process.over, selectors.EVENT_READ)
        while not end:
            left, seen = deadline - time.monotonic(), len(found)
            over = _take(selector, found, max(0.0, left))
            lines += found.count(b"\n", seen)
            if len(found) > MOST_RESULTS:
                end = "huge"
            elif over or (lines >= answers and sum(1 for _ in _parsed(found, seal, "")) >= answers):
                end = "over"
            elif left <= 0:
                end = "late"
            del printed[KEPT_OUTPUT:]
        _take(selector, found, 0)  # what the process wrote until now is in the pipes
    return bytes(found), printed[:KEPT_OUTPUT].decode("utf-8", "replace"), end


def _take(selector: selectors.BaseSelector, results: bytearray, seconds: float) -> bool:
    """Read what comes first within `seconds`; whether no more results will come: closed, or their process has ended."""
    over = False
    for key, _ in selector.select(seconds):
        if key.data is None:
            over = True
            continue
        piece = os.read(key.fd, PIPE)
        key.data.extend(piece)
        if not piece:
            selector.unregister(key.fileobj)
            over = over or key.data is results
    return over


#: What is said before the error of a call that came to nothing.
_WORDS = {"raised": "raised", "unfit": "returned", "unusable": "cannot be called, since the cell raised"}


def new_seal() -> str:
    """What stands before each line of the caller, drawn for each process: its code can write to where they go."""
    return secrets.token_hex(16)


def _parsed(lines: bytes | bytearray, seal: str, output: str) -> Iterator[Called]:
    for line in lines.split(b"\n"):
        if called := reply(line, seal, output):
            yield called


def reply(line: bytes | bytearray, seal: str, output: str = "") -> Called | None:
    """What one line of the caller says; None for a line that was cut off, or that the learner's code has written."""
    if not line.startswith(seal.encode()):
        return None
    try:
        entry = finite.read(line[len(seal) :])
        kind = entry["kind"]
        if kind != "value" and kind not in _WORDS:
            return None
        error = f"{_WORDS[kind]} {str(entry['error'])[:600]}" if kind in _WORDS else ""
        seconds = float(entry.get("seconds", 0.0))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if not finite.comparable(seconds):  # as text it may have been anything
        return None
    return Called(kind, entry.get("value"), error, seconds, bool(entry.get("changed")), output=output)


def _missing(end: str, status: int | None, seconds: float, output: str) -> Called:
    if end == "late":
        return Called("late", error=f"did not return within {seconds:.0f} s", seconds=seconds, output=output)
    if end == "huge":
        return Called("huge", error=f"gave more than {MOST_RESULTS // 2**20} MB back", output=output)
    return Called("ended", error="ended its own process before it returned", output=output)
