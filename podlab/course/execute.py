"""Run notebooks unattended with papermill, and prove what papermill does not: that every cell ran, to the end."""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podlab import imports
from podlab.errors import PodlabError

#: Seconds that one cell may take, and the whole start of a kernel.
CELL_TIMEOUT = 600
START_TIMEOUT = 120
#: Seconds for a kernel to say that it is idle once it has answered. nbclient's 4 are few on a busy machine: the last
#: cell's kernel was then interrupted in the middle of its work, and outputs that came later were lost.
IDLE_TIMEOUT = 120
#: The last cell. papermill asks the kernel who it is and ends it with its answer, which Jupyter does with an interrupt
#: first: it often met the kernel with a foot still in that answer, and "KeyboardInterrupt" was on the terminal. After
#: this cell no message lets interrupts in.
SENTINEL = "get_ipython().kernel.pre_handler_hook = lambda: None\nprint({!r})"


class ExecutionFailed(PodlabError):
    """A notebook did not run to its end, or a grade cell did not give full points."""


@dataclass(frozen=True)
class Execution:
    """One notebook that ran to its end: seconds, and cells of code."""

    notebook: Path
    seconds: float
    cells: int


def execute(notebook: Path, output: Path, *, environment: Mapping[str, str] | None = None) -> Execution:
    """Run a copy of `notebook` from a fresh kernel and write it, executed, to `output`.

    Kernels are reached over IPC (Unix sockets), so that many may run side by side without ports. Raises
    ExecutionFailed, naming the cell, when anything did not run as it should. Grade cells must give their points,
    since what is executed is the instructor's notebook.
    """
    sentinel = f"ran to the end {secrets.token_hex(8)}"
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="podlab-run-") as folder, _environment(environment or {}):
        copy = Path(folder) / notebook.name
        copy.write_text(_with_sentinel(notebook, sentinel))
        error = _papermill(copy, output, Path(folder))
    run = _read(output) if output.is_file() else None
    if problems := list(_problems(run, sentinel, error)):
        raise ExecutionFailed(
            f"{notebook.name} did not run to its end. {problems[0]}",
            hint=f"The executed copy is {output}.",
        )
    assert run is not None
    run["cells"].pop()
    _write(run, output)
    cells = sum(cell["cell_type"] == "code" for cell in run["cells"])
    return Execution(notebook, round(time.monotonic() - began, 1), cells)


def _papermill(copy: Path, output: Path, folder: Path) -> str:
    """Run with papermill; the message of what it complained of, or ''."""
    imports.without_extras()
    import papermill
    from papermill.exceptions import PapermillException
    from traitlets.config import Config

    config = Config()
    config.KernelManager.transport = "ipc"
    config.KernelManager.ip = str(folder / "k")
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(
            str(copy),
            str(output),
            kernel_name="python3",
            progress_bar=False,
            log_output=False,
            execution_timeout=CELL_TIMEOUT,
            start_timeout=START_TIMEOUT,
            iopub_timeout=IDLE_TIMEOUT,
            raise_on_iopub_timeout=True,
            cwd=str(folder),
            config=config,
            store_widget_state=False,
        )
    except PapermillException as error:
        return str(error).strip()[-1500:]
    except Exception as error:  # a dead kernel or a time-out reaches us as many types
        return f"{type(error).__name__}: {str(error)[-1500:]}"
    return ""


def _with_sentinel(notebook: Path, sentinel: str) -> str:
    import json

    data = json.loads(notebook.read_text())
    data["cells"].append(
        {
            "cell_type": "code",
            "execution_count": None,
            "id": "podlab-sentinel",
            "metadata": {},
            "outputs": [],
            "source": [SENTINEL.format(sentinel)],
        }
    )
    return json.dumps(data)


def _problems(run: dict[str, Any] | None, sentinel: str, error: str) -> Iterator[str]:
    """What papermill hides: a cell that never ran, an early end, an error that was let pass, a lost point."""
    if run is None:
        yield f"There is no executed copy. {error}"
        return
    # papermill puts cells of its own in front of a cell that failed.
    ours = [cell for cell in run["cells"] if "papermill-error-cell-tag" not in cell["metadata"].get("tags", ())]
    codes = [(number, cell) for number, cell in enumerate(ours, 1) if cell["cell_type"] == "code"]
    for number, cell in codes:
        for output in cell["outputs"]:
            if output["output_type"] == "error":
                yield f"Cell {number} raised {output['ename']}: {str(output['evalue'])[:500]}"
            if output["output_type"] == "stream" and output["name"] == "stderr":
                yield f"Cell {number} wrote to stderr: {''.join(output['text'])[:300]}"
    if error:
        yield error
    for number, cell in codes:
        source = "".join(cell["source"])
        if source.strip() and cell["execution_count"] is None:
            yield f"Cell {number} was never run."
        if cell["metadata"].get("papermill", {}).get("exception"):
            yield f"Cell {number} is marked as failed."
        yield from _points(number, cell)
    last = "".join(text for output in codes[-1][1]["outputs"] for text in output.get("text", ""))
    if sentinel not in last:
        yield "The last cell never ran: the kernel had ended before it."


def _points(number: int, cell: Mapping[str, Any]) -> Iterator[str]:
    entry = cell["metadata"].get("nbgrader", {})
    if not entry.get("grade"):
        return
    given = [
        "".join(output["data"].get("text/plain", ""))
        for output in cell["outputs"]
        if output["output_type"] == "execute_result"
    ]
    if given != [str(float(entry["points"]))]:
        shown = " ".join(
            "".join(output["data"].get("text/plain", ""))
            for output in cell["outputs"]
            if output["output_type"] == "display_data"
        )
        yield f"Cell {number} gave {given or 'nothing'} of {entry['points']} points for the reference. {shown[:1500]}"


def _read(path: Path) -> dict[str, Any]:
    import nbformat

    return nbformat.read(path, as_version=4)


def _write(run: dict[str, Any], path: Path) -> None:
    import nbformat

    nbformat.write(run, path)


@contextmanager
def _environment(extra: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the kernels, which inherit ours; progress goes to a folder that is thrown away."""
    with tempfile.TemporaryDirectory(prefix="podlab-progress-") as folder:
        wanted = {"PODLAB_PROGRESS": folder, "PODLAB_LEARNER": "unattended", **extra}
        before = {key: os.environ.get(key) for key in wanted}
        os.environ.update(wanted)
        try:
            yield
        finally:
            for key, value in before.items():
                if value is None:
                    os.environ.pop(key, None)
                else:
                    os.environ[key] = value
