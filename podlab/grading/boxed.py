"""The bench at grading: the learner's functions are called in a box, as `checks.calls` calls them in a process."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Callable, Sequence
from typing import IO, Any

from podlab.checks.bench import Bench
from podlab.errors import RuntimeRefused
from podlab.grading.house import Box, House

#: A box for calls waits in this; what is called is started beside it.
#: The kernel reaps what a call has left behind, since the signal of its end is ignored.
_IDLE = (
    *("python3", "-I", "-S", "-c"),
    "import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\nwhile True: signal.pause()",
)


class BoxedCode(contextlib.AbstractContextManager["BoxedCode"]):
    """Starts the learner's code in one box, made when it is first needed, of the house that `house` gives then."""

    def __init__(self, house: Callable[[], House]) -> None:
        self._house = house
        self._stack = contextlib.ExitStack()
        self._box: Box | None = None

    def __exit__(self, *_error: object) -> None:
        """End the box and what is in it."""
        self._box = None
        self._stack.close()

    def start(self, arguments: Sequence[str], stdin: Any, stdout: Any, results: int, _folder: str) -> Boxed:
        """Start Python in the box (checks.calls.Start)."""
        try:
            return Boxed(self._needed(), arguments, stdin, stdout, results)
        except RuntimeRefused:
            # What was called before has taken its box along, by all its memory say: its fault, and its failure.
            self.__exit__()
            return Boxed(self._needed(), arguments, stdin, stdout, results)

    def _needed(self) -> Box:
        if self._box is None:
            self._box = self._stack.enter_context(self._house().box(_IDLE, log=False))
        return self._box


class BoxedBench(Bench):
    """A Bench whose learner's code runs in one box of `house`, new for each run of an exercise and `afresh`."""

    def __init__(self, house: House, **settings: Any) -> None:
        self._code = BoxedCode(lambda: house)
        super().__init__(start=self._code.start, **settings)

    def __exit__(self, *error: object) -> None:
        """End the box and what is in it."""
        self._code.__exit__(*error)

    def afresh(self) -> None:
        """End the box: the next code gets another one."""
        self._code.__exit__()


class Boxed:
    """A process in a box (checks.calls.Started). Its results go to descriptor 2: a box takes three descriptors."""

    def __init__(self, box: Box, arguments: Sequence[str], stdin: Any, stdout: Any, results: int) -> None:
        self._box = box
        self.stdin: IO[bytes] | None = None
        self.stdout: IO[bytes] | None = None
        self.returncode: int | None = None
        self._ending: socket.socket | None = None
        theirs: list[int] = []
        try:
            source, sink = self._input(stdin, theirs), self._output(stdout, theirs)
            # In a box no process but its own ones are counted, so that theirs can be limited: see caller.py.
            command = ["python3", *(("2" if each == str(results) else each) for each in arguments), str(box.processes)]
            self._process = box.execute(command, (source, sink, results))
            self._ending = box.ending(self._process)
        except BaseException:
            self._close()
            raise
        finally:
            for descriptor in theirs:
                os.close(descriptor)

    @property
    def over(self) -> int:
        """Readable when it has ended."""
        assert self._ending is not None
        return self._ending.fileno()

    def _input(self, stdin: Any, theirs: list[int]) -> int:
        if stdin != subprocess.PIPE:
            return stdin.fileno()
        source, own = os.pipe()
        theirs.append(source)
        self.stdin = os.fdopen(own, "wb")
        return source

    def _output(self, stdout: Any, theirs: list[int]) -> int:
        if stdout != subprocess.PIPE:
            theirs.append(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))
            return theirs[-1]
        own, sink = os.pipe()
        theirs.append(sink)
        self.stdout = os.fdopen(own, "rb")
        return sink

    def end(self) -> None:
        """End it, and what it has left behind if no other code runs in the box."""
        if self.returncode is None:
            self.returncode = self._box.kill(self._process)
        self._close()

    def _close(self) -> None:
        for stream in (self.stdin, self.stdout, self._ending):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
