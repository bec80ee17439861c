"""Replays: of runs without a cluster, of the moment at which a check failed, of records that were saved in a file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from podlab.checks.contract import Verdict
from podlab.lab.connection import LabError
from podlab.lab.pictures import Pictures
from podlab.lab.show import Note
from podlab.paths import whole_file

#: Of the files that `save` writes.
FORMAT = 1


class Replays(Pictures):
    """Each shows a record and keeps it for `lab.snapshot`. The widget that comes back can be driven from code."""

    def gantt(self, run: Any, title: str = "Who did what") -> Any:
        """Who did which chunk when, of a run that `farm` gave (or a simulated one that `plan` gave)."""
        from podlab.widgets.gantt import Gantt

        return self._keep(Gantt(run, title, mode="real run" if any(span.pid for span in run.spans) else "simulation"))

    def planner(self, title: str = "Plan a job", **values: Any) -> Any:
        """A job to play with: workers, chunks, skew, a straggler. A simulation."""
        from podlab.widgets.gantt import Planner

        return self._keep(Planner(title, **values))

    def speedup(self, measured: Mapping[int, float], serial: float, title: str = "Speed-up") -> Any:
        """Measured speed-ups by number of workers, beside Amdahl's law for the share that is `serial`."""
        from podlab.widgets.gantt import SpeedUp

        return self._keep(SpeedUp(measured, serial, title))

    def election(self, title: str = "An election", **values: Any) -> Any:
        """Five nodes that elect a leader, in simulated time, with faults of your choice; see podlab.widgets.ring."""
        from podlab.widgets.ring import Election

        return self._keep(Election(title, **values))

    def ring(self, record: Any, title: str = "The group", *, mode: str = "real run") -> Any:
        """The record of an election that has happened, simulated or real."""
        from podlab.widgets.ring import Ring

        return self._keep(Ring(record, title, mode=mode))

    def shuffle(self, result: Any, title: str = "MapReduce") -> Any:
        """A MapReduce job step by step, from the events of its engine."""
        from podlab.widgets.shuffle import Shuffle

        return self._keep(Shuffle(result.events, title))

    def stepper(self, title: str = "MapReduce to play with", **values: Any) -> Any:
        """A small MapReduce job to play with: kill a mapper, slow one down, take the backups away. A simulation."""
        from podlab.widgets.shuffle import Stepper

        return self._keep(Stepper(title, **values))

    def stages(self, run: Any, title: str = "Stages") -> Any:
        """The stages of a Spark run that `podlab.spark.measured` gave, with shuffled bytes and lost executors."""
        from podlab.widgets.stages import Stages

        return self._keep(Stages(run, title))

    def timeline(self, spans: Iterable[tuple[str, float, float, str, bool]], title: str = "What happened") -> Any:
        """What was measured, as bars along one time: (row, begin, end, words, whether it is as it should be)."""
        from podlab.widgets.timeline import Bar, Timeline

        bars = [Bar(row, begin, end, words, "good" if well else "late") for row, begin, end, words, well in spans]
        return self._keep(Timeline(bars, [], title, mode="real run"))

    def copies(self, addresses: Sequence[str], title: str = "Copies of the whole") -> Any:
        """Copies of the monolith (URLs) and a slider, `set(rate=…)`, that asks them for real pages; `stop()` ends it.

        They are started with MOVIES_PROFILE=1, and tell which of their parts uses the processor.
        """
        from podlab.widgets.copies import Copies

        view = Copies(addresses, title=title)
        return self._keep(view, view)

    def graph(self, addresses: Mapping[str, str], logs: Sequence[Path] = (), title: str = "Who asks whom") -> Any:
        """The graph of services (name -> URL), drawn from their metrics at each `look()`; `start()` looks by itself.

        `logs` are files of JSON lines in which `follow(trace)` finds the way of one request.
        """
        from podlab.widgets.service_graph import ServiceGraph

        view = ServiceGraph(addresses, logs, title)
        view.look()
        return self._keep(view, view)

    def save(self, view: Any, file: str) -> Note:
        """Write the record that a picture shows into a file; `lab.replay(file)` opens it.

        Those of a namespace (map, staircase, journey, flow) and of a run (gantt, ring, shuffle) have one; UsageError
        for others, LabError for a file that cannot be written.
        """
        from podlab.widgets import replays

        kept = {**replays.kept(view), "podlab": FORMAT, "title": view.title}
        try:
            with whole_file(Path(file)) as out:
                json.dump(kept, out)
        except OSError as error:
            raise LabError(
                f"{file} cannot be written: {error.strerror}.", hint="Give a name in a folder of your own."
            ) from None
        return Note(f'{view.title} is in {file}. lab.replay("{file}") shows it again, without a cluster, too.')

    def replay(self, what: str) -> Any:
        """A record to go through: that of an exercise's last failed check ("15.2"), or one from a file of `save`."""
        what = str(what)
        return self._failed(what) if re.fullmatch(r"\d\d\.\d+", what) else self._saved(what)

    def _saved(self, file: str) -> Any:
        from podlab.widgets import replays

        try:
            kept = json.loads(Path(file).read_text())
            if kept["podlab"] != FORMAT:
                raise ValueError("another format")
            # A title of its own: it takes no live picture's place.
            view = replays.of(kept, f"{kept['title']} ({Path(file).name})", "")
        except OSError as error:
            raise LabError(
                f"{file} cannot be read: {error.strerror}.", hint="lab.save(view, file) makes one."
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise LabError(f"{file} holds no record that lab.save has written, or is damaged.") from None
        return self._keep(view)

    def _failed(self, exercise: str) -> Any:
        report = self._last.get(exercise)
        if report is None:
            raise LabError(f"Exercise {exercise} has not been checked here.", hint=f'First lab.check("{exercise}").')
        for line in report.lines:
            kept = line.result.evidence.get("replay")
            if kept and line.result.verdict is Verdict.FAIL:
                from podlab.widgets import replays

                return self._keep(replays.of(kept, line.title, f"{line.result.observed}"))
        raise LabError(f"No failed check of exercise {exercise} has a picture to show.")
