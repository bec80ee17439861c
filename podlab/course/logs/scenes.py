"""What the exercises on questions share: a look at what a question finds, and what to say where it finds nothing."""

from __future__ import annotations

from collections.abc import Mapping

from podlab.addons.logs import Line, Logs
from podlab.addons.prometheus import QueryError
from podlab.checks.contract import Answer
from podlab.course.plain import Problem, short

LESSON = "notebooks/22-logging.ipynb"
STREAM = ("_stream", "_stream_id")


def found(logs: Logs, answer: Answer, name: str, values: Mapping[str, str]) -> list[Line] | Problem:
    """What the learner's question finds, once its words in capitals are replaced; a Problem if it is no question."""
    text = answer.get(name)
    if not isinstance(text, str) or not text.strip():
        return Problem(f"{name} is {short(text)}", "There is no question yet.", f"Write LogsQL into {name}, as text.")
    for word, value in values.items():
        text = text.replace(word, value)
    try:
        return logs.query(text, limit=0)
    except QueryError as error:
        return Problem(
            error.message, "VictoriaLogs cannot read the question.", "The words behind it say where it stopped."
        )
