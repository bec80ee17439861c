"""Predict, check, hint, progress: the verbs of learning."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from podlab.checks import answers, registry, runner, seeds
from podlab.checks.api import Object
from podlab.checks.bench import Bench
from podlab.checks.contract import Answer, Exercise, Situation
from podlab.checks.finite import comparable, plain
from podlab.checks.world import World
from podlab.errors import PodlabError
from podlab.lab import notebook
from podlab.lab.connection import LabError
from podlab.lab.notebook import ProgressLine, display_it
from podlab.lab.place import Place
from podlab.lab.show import Listing, Note, ReportView, Shown

#: Set by the grader: answers are taken out and checked elsewhere, so that nothing is checked in this kernel.
GRADED_OUTSIDE = "PODLAB_GRADED_OUTSIDE"


class Learning(Place):
    """What makes a lab a lesson."""

    def predict(self, key: str, value: float | str | None, unit: str = "") -> Note:
        """Commit a prediction before you measure; it can be changed until the measurement is there.

        LabError for a value that is neither a number nor a text, for a text where there is a unit, and for a key or a
        unit that is no text.
        """
        value = _plain(key, value, unit)
        entry = self._progress.predicted(key, value, unit, anew=key not in self._predicted)
        if value is not None:
            self._predicted.add(key)
        if value is None and entry["value"] is None:
            return Note(f"{key}: no prediction yet. Put yours in place of None and run the cell again.", "warning")
        told = "none" if entry["value"] is None else _quantity(entry["value"], entry["unit"])
        if "measured" in entry:
            return Note(f"{key}: already measured; your prediction stays {told}.")
        return Note(f"{key}: your prediction is {told}.")

    def reconcile(self, key: str, measured: float | str) -> Note:
        """Put a measurement beside your prediction and say how far off it was; LabError as for `predict`."""
        measured = _plain(key, measured)
        entry = self._progress.measured(key, measured)
        self._predicted.add(key)
        unit, value = entry["unit"], entry["value"]
        seen = f"{key}: measured {_quantity(measured, unit)}"
        if value is None:
            return Note(f"{seen}; you made no prediction.")
        if isinstance(value, int | float) and isinstance(measured, int | float) and not isinstance(value, bool):
            off = measured - value
            return Note(f"{seen}, predicted {_quantity(value, unit)}: off by {_quantity(round(abs(off), 2), unit)}.")
        if isinstance(value, str) and isinstance(measured, int | float) and str(measured) != value:
            return Note(f"{seen}, predicted {value!r}: a text, where a number can be compared.")
        verdict = "as predicted" if str(value) == str(measured) else "not as predicted"
        return Note(f"{seen}, predicted {value}: {verdict}.")

    def check(self, exercise: str, answer: Answer | None = None) -> ReportView:
        """Check an exercise ("15.1") on the cluster and show what was expected and observed."""
        found = self._exercise(exercise)
        if os.environ.get(GRADED_OUTSIDE):
            raise LabError("Answers are checked outside this notebook.")
        given = answer if answer is not None else answers.collect([found], notebook.user_names())[exercise]
        world = self._surroundings(found, progress := ProgressLine())
        try:
            report = runner.run(found, given, world, say=progress.say)
        finally:
            progress.end()
        self._last[exercise] = report
        self._progress.scored(exercise, report.score, report.passed)
        return ReportView(report, found.debrief, found.lesson)

    def score(self, exercise: str) -> float:
        """Check an exercise, show the report, and return the points (for nbgrader, whose grade cells need a number)."""
        if os.environ.get(GRADED_OUTSIDE):
            display_it(Note("This answer is checked outside the notebook."))
            return 0.0
        view = self.check(exercise)
        display_it(view)
        if view.report.score is None:
            first = "See `podlab cluster status`" if self._exercise(exercise).cluster else "Close other programs"
            raise LabError(view.verdict, hint=f"{first}, then run this cell again.")
        return float(view.report.score)

    def hint(self, exercise: str) -> Note:
        """The next question on the ladder of hints, chosen by your answer and your last check."""
        found = self._exercise(exercise)
        given = answers.collect([found], notebook.user_names())[exercise]
        report = self._last.get(exercise)
        results = {line.check: line.result for line in report.lines} if report else {}
        situation = Situation(given, results)
        fitting = [number for number, hint in enumerate(found.hints) if hint.when(situation)]
        shown = self._progress.exercise(exercise)["hints"]
        fresh = [number for number in fitting if number not in shown]
        if not fresh:
            return Note(f"You have had every hint that fits your answer. Read again: {found.lesson}")
        self._progress.hinted(exercise, fresh[0])
        more = f"({len(fresh) - 1} more)" if len(fresh) > 1 else "(the last one)"
        return Note(f"{found.hints[fresh[0]].question} {more}")

    def progress(self) -> Shown:
        """What you have reached in this chapter, over all sessions."""
        rows = []
        for id, exercise in registry.chapter(self.chapter).items():
            entry = self._progress.exercise(id)
            best = "none yet" if entry["best"] is None else f"{entry['best']:g} of {exercise.points}"
            done = "passed" if entry["passed_at"] else ""
            rows.append({"row": [id, exercise.title, best, str(entry["attempts"]), str(len(entry["hints"])), done]})
        return Listing(rows, columns("EXERCISE", "TITLE", "BEST", "CHECKED", "HINTS", ""), "exercises")

    def _exercise(self, id: str) -> Exercise:
        try:
            return registry.exercise(id)
        except PodlabError as error:
            raise LabError(error.message, hint=error.hint) from None

    def _surroundings(self, exercise: Exercise, progress: ProgressLine) -> Callable[[], World | Bench]:
        seed, label = seeds.seed_for(self.learner, exercise.id), f"check-{exercise.id.replace('.', '-')}"
        if not exercise.cluster:
            return lambda: Bench(seed=seed, label=label, say=progress.say)
        if exercise.chapter != self.chapter:
            raise LabError(
                f"Exercise {exercise.id} is of chapter {exercise.chapter}, and this lab of chapter {self.chapter}.",
                hint=f'Run lab = start("{exercise.chapter}"), then check again.',
            )
        on = self._need_whole()
        return lambda: World(on.api, seed=seed, label=label, say=progress.say, **on.surroundings)


def columns(*heads: str) -> list[tuple[str, Callable[[Object], str]]]:
    """Columns for items of the form {"row": [...]}."""

    def cell(index: int) -> Callable[[Object], str]:
        return lambda item: item["row"][index]

    return [(head, cell(index)) for index, head in enumerate(heads)]


def _plain(key: Any, value: Any, unit: Any = "") -> Any:
    """The value of a prediction or a measurement as a file can hold it; a text beside a unit is refused."""
    for what, text in (("name", key), ("unit", unit)):
        if not isinstance(text, str):
            raise LabError(f"The {what} {text!r} is no text.", hint=_SUCH_AS)
    value = plain(value)
    if unit and isinstance(value, str):
        raise LabError(
            f"{key}: {value[:40]!r} is a text; what is measured is a number of {unit}.",
            hint=f'Write the number alone, without quotes and unit: lab.predict("{key}", 5, "{unit}").',
        )
    if value is None or isinstance(value, str) or (isinstance(value, int | float) and comparable(value)):
        return value
    kind = "that number" if isinstance(value, int | float) else f"a value of the type {type(value).__name__}"
    raise LabError(f"{key}: {kind} can be compared with nothing.", hint=_SUCH_AS)


_SUCH_AS = 'Give a name and a number or a text, such as lab.predict("time", 5, "s").'


def _quantity(value: Any, unit: str) -> str:
    number = f"{value:.1f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    return f"{number} {unit}".strip()
