"""A notebook without a box, for machines that refuse namespaces and have no containers: only with --unsafe.

It runs as an ordinary process of the instructor's account, in an empty folder with a cleared environment and limits
on time and memory. It could read what the account can read and stay behind if it wants to: for work of trusted people.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from podlab.grading import execution
from podlab.grading.execution import Executed, Limits
from podlab.grading.house import ENVIRONMENT

#: The number of processes that the account may have in all, its own ones included.
PROCESSES = 16_384
_ROOT = str(Path(__file__).resolve().parents[2])


def run(text: str, limits: Limits) -> Executed:
    """What came out of a job (see execution.job) that ran here."""
    with tempfile.TemporaryDirectory(prefix="podlab-unboxed-") as folder:
        job, log = Path(folder, "job.json"), Path(folder, "log")
        job.write_text(text)
        places = {"HOME": folder, "PODLAB_HOME": f"{folder}/podlab", "IPYTHONDIR": folder, "MPLCONFIGDIR": folder}
        environment = {**ENVIRONMENT, **places, "PYTHONPATH": _ROOT, "PATH": os.environ.get("PATH", os.defpath)}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "podlab.grading.inside", str(job)],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            try:
                ended = str(process.wait(limits.whole))
            except subprocess.TimeoutExpired:
                ended = "timed out"
            finally:
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
                process.wait()
        with log.open(errors="replace") as lines:
            return execution.executed(lines.read(execution.LARGEST_RESULT), ended)
