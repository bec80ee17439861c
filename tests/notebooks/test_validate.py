"""JupyterLab's Validate button, which runs nbgrader's validator: before a learner hands in, without any cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from answered import COURSE, answered

from podlab.checks import registry

pytestmark = pytest.mark.slow

#: An assignment that needs no cluster.
ASSIGNMENT = "03-the-lead-node"
RELEASED = (COURSE / "release" / ASSIGNMENT / f"{ASSIGNMENT}.ipynb").read_text()


def validated(folder: Path, notebook: str) -> str:
    """What the validator says of a notebook."""
    (folder / "mine.ipynb").write_text(notebook)
    done = subprocess.run(
        [sys.executable, "-m", "nbgrader", "validate", "mine.ipynb"],
        cwd=folder,
        env=os.environ | {"PODLAB_HOME": str(folder / "home")},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_perfect_notebook_passes(tmp_path: Path) -> None:
    assert "Success! Your notebook passes all the tests." in validated(tmp_path, answered(ASSIGNMENT, RELEASED))


def test_a_notebook_as_it_was_released_fails_in_every_exercise(tmp_path: Path) -> None:
    said = validated(tmp_path, RELEASED)
    exercises = registry.chapter(ASSIGNMENT[:2])
    assert f"VALIDATION FAILED ON {len(exercises)} CELL(S)" in said
    assert all(f'lab.score("{exercise}")' in said for exercise in exercises)
    assert said.count("Partial credit") == len(exercises), said
