"""What every world can do with a learner's code: call it, or talk with it, in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence

from podlab.checks.calls import Called, Start, call_each, start_here
from podlab.checks.contract import Json
from podlab.checks.talks import ISOLATED, Talk


class Code:
    """Calls with deadlines that fit this machine. `start` starts Python for the learner's code; default: here."""

    start: Start = staticmethod(start_here)

    def deadline(self, seconds: float) -> float:
        """`seconds` as meant for an idle machine, stretched to this one as measured."""
        raise NotImplementedError

    def call(self, source: str, name: str, *arguments: Json, seconds: float = 5.0) -> Called:
        """One call of the learner's `name`, in a process of its own, with `seconds` stretched to this machine."""
        return self.call_each(source, name, [arguments], seconds=seconds)[0]

    def call_each(
        self, source: str, name: str, calls: Sequence[Sequence[Json]], *, seconds: float = 5.0
    ) -> list[Called]:
        """Calls with each list of arguments, in order, in one process; see podlab.checks.calls."""
        return call_each(source, name, calls, seconds=self.deadline(seconds), start=self.start)

    def talk(self, source: str, *, seconds: float = 5.0) -> Talk:
        """A conversation with the learner's code; see podlab.checks.talks."""
        return Talk(source, seconds=self.deadline(seconds), start=self.start)

    def ours(self, program: str, *, seconds: float = 5.0) -> Talk:
        """A conversation with a program of ours (standard library only) that runs where the learner's code runs.

        It imports nothing that the learner's code may have left there.
        """
        return Talk(program, seconds=self.deadline(seconds), start=self.start, options=ISOLATED)
