"""The work of exercise 01.2, as it is in the learner's processes: it asks the witness, who sees which process asks."""

from __future__ import annotations

from podlab.course.way import Way


class Work(Way):
    """Called with a chunk [number, seconds]: returns its result when the witness (programs/witness.py) has it done."""

    def __call__(self, chunk: list[float]) -> str:
        return str(self.ask(int(chunk[0])))
