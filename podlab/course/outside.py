"""What a learner's processes ask, and a program of ours answers: a world that is not in their hands.

A program in programs/ has functions that the checker asks for (`begin`), and one that answers the learner's processes.
These get a `Way` to it (way.py). The kernel says who asks, and what was asked and answered is not their word.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import resources
from typing import Any

from podlab.checks.code import Code
from podlab.checks.contract import Inconclusive, Json
from podlab.checks.talks import Talk, TalkEnded

_PROGRAMS = resources.files("podlab.course").joinpath("programs")


class Outside:
    """The checker's side of a running program."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._begun = False

    def tell(self, name: str, *arguments: Json) -> Any:
        """Have one of the program's functions called. That it ends is the doing of the learner's code beside it."""
        try:
            told = self._talk.ask(name, *arguments)
        except TalkEnded as ended:
            if self._begun and ended.called.kind in ("ended", "huge"):
                error = "ended a process that was not its own: the one that sees what it does"
                raise TalkEnded(replace(ended.called, kind="ended", error=error), "your code") from ended
            raise Inconclusive(f"the program beside the answer did not {name}: {ended.called.error[:300]}") from ended
        self._begun = True
        return told


@contextmanager
def outside(bench: Code, name: str, seconds: float = 20.0) -> Iterator[Outside]:
    """The program programs/NAME.py, running where the learner's code runs; each thing told has `seconds`."""
    with bench.ours(text(name), seconds=seconds) as talk:
        yield Outside(talk)


def answered(talk: Talk, name: str, *arguments: Json) -> dict[str, Any]:
    """What a driver of ours says in the learner's process, as a dictionary: data of the learner's, like any answer."""
    called = talk.call(name, *arguments)
    if not called.ok:
        raise TalkEnded(called, "your code")
    return called.value if isinstance(called.value, dict) else {}


def text(name: str) -> str:
    """A program with the module that it imports."""
    shared = _PROGRAMS.joinpath("outside.py").read_text()
    return (
        "import sys, types\n"
        "sys.modules['outside'] = types.ModuleType('outside')\n"
        f"exec({shared!r}, vars(sys.modules['outside']))\n"
        f"{_PROGRAMS.joinpath(f'{name}.py').read_text()}"
    )
