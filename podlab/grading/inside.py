"""Runs INSIDE the box, as its first process: has the notebook executed in a child and hands out the answers as JSON.

The child is the learner's: an IPython shell, ended when a cell takes too long, replaced when it dies. Nothing that
happens here decides a score. Answers are data, checked for size and type outside; a learner who forges them forges
only what he hands in.

Each line on standard output is one fact: {"answers": {...}}, {"trouble": {...}}, {"outputs": [cell, [...]]}, and at the
end {"end": true, "told": the number of facts before it} or {"failed": text}. What was told before the box died is not
lost.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from podlab.checks import finite

_PR_SET_DUMPABLE = 4
#: Bytes of one message of the child, of all outputs that are handed out, and of everything: the grader reads more.
LARGEST_MESSAGE = 2_000_000
LARGEST_OUTPUTS = 1_000_000
LARGEST_RESULT = 6_000_000
#: Characters of output that one cell may keep, and its number of outputs.
LARGEST_OUTPUT = 20_000
MOST_OUTPUTS = 20
#: The private memory of one process, in bytes: more ends in a MemoryError, which a cell survives. The second is of all
#: processes: the cell is ended before the box would be, which would take the answers to come with it.
PROCESS_MEMORY = 1100 * 1024**2
ALL_MEMORY = 1200 * 1024**2
#: Seconds between two looks at it.
_GLANCE = 0.02
_PAGE = resource.getpagesize()


def main(arguments: list[str]) -> int:
    """Execute the job in the file given; exit status 0 unless this program itself fails."""
    # Same user or not: the learner's processes cannot look into this one, nor into its descriptors.
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
        job = json.loads(Path(arguments[0]).read_text())
        _limit(job["processes"], job["disk"])
        Warden(job).run()
        _say(json.dumps({"end": True, "told": _told}))
    except Exception:
        # Not the learner's doing: a kernel that does not start, a full disk. The grader tries again elsewhere.
        _say(json.dumps({"failed": traceback.format_exc()[-2_000:]}))
    return 0


def _limit(processes: int, disk: int) -> None:
    wanted = {
        resource.RLIMIT_NPROC: processes,
        resource.RLIMIT_FSIZE: disk,
        resource.RLIMIT_NOFILE: 1024,
        resource.RLIMIT_DATA: PROCESS_MEMORY,
        resource.RLIMIT_CORE: 0,
    }
    for which, most in wanted.items():
        _, hard = resource.getrlimit(which)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(which, (most, most))


#: Facts that were handed out, and their bytes.
_told = _bytes = 0


def _tell(fact: dict[str, Any]) -> None:
    """Hand out one fact, unless there was too much before it, of outputs or altogether: a flood is the learner's."""
    global _told, _bytes
    most = LARGEST_OUTPUTS if "outputs" in fact else LARGEST_RESULT
    text = json.dumps(fact)
    if _bytes + len(text) <= most:
        _told, _bytes = _told + 1, _bytes + len(text)
        _say(text)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class _Ended(Exception):
    """The child has ended or was ended; `kind` and the text are the trouble."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Warden:
    """Has one job's cells executed."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.cells: list[dict[str, Any]] = job["cells"]
        self.handed_in = job["handed_in"]
        self.cell_limit = float(job["cell_limit"])
        self.whole_limit = float(job["whole_limit"])
        self.deadline = time.monotonic() + self.whole_limit
        self._child: _Child | None = None
        self._answers: dict[str, Any] = {}

    def run(self) -> None:
        """Run every cell; a child that dies or hangs is replaced, and the cells before (but for answers) run again,
        so that one bad answer does not take the others with it."""
        try:
            for index, cell in enumerate(self.cells):
                if time.monotonic() > self.deadline:
                    self._trouble("timed out", "", f"The notebook did not end within {self.whole_limit:g} s.")
                    break
                self._cell(index, cell)
        finally:
            self._end()

    def _cell(self, index: int, cell: dict[str, Any]) -> None:
        name = cell["name"]
        try:
            if self._child is None:
                self._child = _Child(self.handed_in)
                for earlier in self.cells[:index]:
                    if not earlier["answer"]:
                        self._run(self._child, earlier)
            reply = self._run(self._child, cell)
        except _Ended as ended:
            self._trouble(ended.kind, name, str(ended))
            self._end()
            return
        if cell["answer"]:
            _tell({"outputs": [name, reply["outputs"]]})
        answers = reply.get("answers")
        if isinstance(answers, dict):
            new = {id: answer for id, answer in answers.items() if answer and answer != self._answers.get(id)}
            if new:
                self._answers.update(new)
                _tell({"answers": new})

    def _run(self, child: _Child, cell: dict[str, Any]) -> dict[str, Any]:
        limit = float(cell.get("limit") or self.cell_limit)
        return child.run(cell, max(0.1, min(limit, self.deadline - time.monotonic())), limit)

    @staticmethod
    def _trouble(kind: str, cell: str, text: str) -> None:
        _tell({"trouble": {"kind": kind, "cell": cell, "text": text}})

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.end()


class _Child:
    """The learner's process, from this side."""

    def __init__(self, handed_in: dict[str, Any]) -> None:
        orders, self._orders = os.pipe()
        self._results, results = os.pipe()
        self._printed, printed = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                for mine in (self._orders, self._results, self._printed):
                    os.close(mine)
                _learner(orders, results, printed, handed_in)
            finally:
                os._exit(0)
        for theirs in (orders, results, printed):
            os.close(theirs)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._results, selectors.EVENT_READ)
        self._selector.register(self._printed, selectors.EVENT_READ)

    def run(self, cell: dict[str, Any], limit: float, shown: float) -> dict[str, Any]:
        """What the child says of one cell; _Ended when it says nothing within `limit` seconds, or has died."""
        try:
            os.write(self._orders, json.dumps({"source": cell["source"]}).encode() + b"\n")
        except BrokenPipeError:
            raise _Ended("crashed", "The cell ended its own kernel.") from None
        deadline = time.monotonic() + limit
        data, printed = bytearray(), bytearray()
        while b"\n" not in data:
            left = deadline - time.monotonic()
            if left <= 0:
                raise _Ended("timed out", f"The cell did not end within {shown:g} s and was ended.")
            if os.getpid() == 1 and _memory() > ALL_MEMORY:
                raise _Ended("crashed", f"The cell took more than {ALL_MEMORY // 2**20} MB of memory.")
            for key, _ in self._selector.select(min(left, _GLANCE)):
                piece = os.read(key.fd, 65536)
                if key.fd == self._printed:
                    printed += piece[: max(0, LARGEST_OUTPUT - len(printed))]
                    if not piece:
                        self._selector.unregister(key.fd)
                elif not piece:
                    raise _Ended("crashed", "The cell ended its own kernel.")
                else:
                    data += piece
            if len(data) > LARGEST_MESSAGE:
                raise _Ended("crashed", "The cell handed out far more than was asked for.")
        try:
            reply = finite.read(bytes(data).split(b"\n")[0])
        except (ValueError, RecursionError):
            raise _Ended("crashed", "The cell disturbed its own kernel.") from None
        if not isinstance(reply, dict):
            raise _Ended("crashed", "The cell disturbed its own kernel.")
        outputs = reply.get("outputs")
        reply["outputs"] = [_bounded(one) for one in outputs[:MOST_OUTPUTS]] if isinstance(outputs, list) else []
        if printed:
            reply["outputs"].append(_stream("stdout", printed.decode("utf-8", "replace")))
        return reply

    def end(self) -> None:
        """End the child and, where this is the box's first process, everything else in the box."""
        if os.getpid() == 1:
            _kill_all()
        else:
            _kill_group(self.pid)
        self._selector.close()
        for mine in (self._orders, self._results, self._printed):
            os.close(mine)


def _memory() -> int:
    """Bytes of private memory of every process in the box but this one."""
    pages = 0
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and entry.name != "1":
            try:
                with Path("/proc", entry.name, "statm").open() as file:
                    fields = file.read().split()
            except OSError:
                continue
            pages += int(fields[1]) - int(fields[2])
    return pages * _PAGE


def _kill_all() -> None:
    # A bomb forks while it is being killed: again, until nobody is left.
    for _ in range(1000):
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            pass
        try:
            while True:
                os.waitpid(-1, 0)
        except ChildProcessError:
            pass
        if not any(entry.name.isdigit() and entry.name != "1" for entry in Path("/proc").iterdir()):
            return


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    os.waitpid(pid, 0)


def _bounded(output: Any) -> dict[str, Any]:
    """An output that cannot fill the record nor carry markup: plain text only, cut."""
    output = output if isinstance(output, dict) else {}
    kind = output.get("output_type")
    if kind == "stream":
        return _stream("stderr" if output.get("name") == "stderr" else "stdout", output.get("text", ""))
    if kind == "error":
        lines = output.get("traceback")
        return {
            "output_type": "error",
            "ename": _cut(output.get("ename", ""))[:200],
            "evalue": _cut(output.get("evalue", "")),
            "traceback": [_cut(line) for line in lines[-12:]] if isinstance(lines, list) else [],
        }
    return {"output_type": "display_data", "data": {"text/plain": _cut(output.get("text", ""))}, "metadata": {}}


def _stream(name: str, text: Any) -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": _cut(text)}


def _cut(text: Any) -> str:
    text = text if isinstance(text, str) else str(text)
    return text if len(text) <= LARGEST_OUTPUT else text[:LARGEST_OUTPUT] + "\n... (cut)"


# The learner's side


def _learner(orders: int, results: int, printed: int, handed_in: dict[str, Any]) -> None:
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (printed, 1), (printed, 2)):
        os.dup2(source, target)
    if (warden := os.getppid()) == 1:
        # In a box that can be ended by nothing else from inside; its end would look like the machine's trouble.
        from podlab.node.runtime.sandbox import seccomp

        seccomp.guard(warden)
    # Only the shell's own pipe to the warden stays; programs that a cell starts get none of it.
    shell = _shell()
    exercises = [
        SimpleNamespace(id=id, handed_in=[SimpleNamespace(name=name, kind=kind) for name, kind in items])
        for id, items in handed_in.items()
    ]
    for order in _lines(orders):
        outputs = _execute(shell, order["source"])
        text = json.dumps({"outputs": outputs, "answers": _answers(exercises, shell.user_ns)})
        data = text.encode() + b"\n"
        while data:
            data = data[os.write(results, data) :]


def _lines(descriptor: int) -> Iterator[Any]:
    with os.fdopen(descriptor, "rb") as stream:
        for line in stream:
            yield json.loads(line)


def _shell() -> Any:
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    class Shell(InteractiveShell):
        """A shell without a terminal: no history, no colours, nobody to ask."""

        def enable_gui(self, gui: Any = None) -> None:
            """Pictures are never shown here."""

        def init_sys_modules(self) -> None:
            """`__main__` is where the learner's names are, as in a kernel."""
            super().init_sys_modules()
            sys.modules["__main__"] = self.user_module

    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    config.InteractiveShell.autocall = 0
    return Shell.instance(config=config)


class _Kept:
    """A text stream that keeps the beginning of what is written."""

    encoding, errors, closed = "utf-8", "replace", False

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.room = LARGEST_OUTPUT

    def write(self, text: str) -> int:
        if self.room > 0:
            self.parts.append(str(text)[: self.room])
            self.room -= len(text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Nothing waits."""

    def isatty(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 1


def _execute(shell: Any, source: str) -> list[dict[str, Any]]:
    """Run a cell and return its outputs."""
    from IPython.core.displayhook import CapturingDisplayHook
    from IPython.core.displaypub import CapturingDisplayPublisher

    out, err = _Kept(), _Kept()
    shown: list[Any] = []
    before = sys.stdout, sys.stderr, shell.display_pub, sys.displayhook
    publisher = CapturingDisplayPublisher()
    shell.display_pub = publisher
    sys.stdout, sys.stderr, sys.displayhook = out, err, CapturingDisplayHook(shell=shell, outputs=shown)
    error = None
    try:
        ran = shell.run_cell(source, store_history=False, silent=False)
        error = ran.error_before_exec or ran.error_in_exec
    except BaseException as trouble:
        error = trouble
    finally:
        sys.stdout, sys.stderr, shell.display_pub, sys.displayhook = before
    outputs = [
        {"output_type": "stream", "name": name, "text": "".join(stream.parts)}
        for name, stream in (("stdout", out), ("stderr", err))
        if stream.parts
    ]
    for entry in [*publisher.outputs[:MOST_OUTPUTS], *shown[:MOST_OUTPUTS]]:
        data = entry.get("data", {}) if isinstance(entry, dict) else {}
        outputs.append({"output_type": "display_data", "text": str(data.get("text/plain", ""))[:LARGEST_OUTPUT]})
    if error is not None:
        outputs.append({"output_type": "error", "ename": type(error).__name__, "evalue": _words(error)})
    return outputs


def _words(error: BaseException) -> str:
    try:
        return str(error)[:LARGEST_OUTPUT]
    except BaseException as worse:
        return f"(its text raised {type(worse).__name__})"


def _answers(exercises: list[Any], names: dict[str, Any]) -> dict[str, Any]:
    """The answers that are bound so far; one that resists is left out."""
    from podlab.checks import answers

    found: dict[str, Any] = {}
    for exercise in exercises:
        try:
            found.update(answers.collect([exercise], names))
        except BaseException:
            continue  # an answer that fights being read is none
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
