"""What the learner's kernel gets of the package is enough to import what a notebook imports, and holds no grader."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from podlab.grading import kernel_image

#: Imports from the folder of the image alone: neither this package as it is installed, nor the working directory.
IMPORT = """
import sys

sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
sys.path.insert(0, sys.argv[1])
import podlab.checks.answers
import podlab.checks.results
import podlab.grading.inside
import podlab.lab

print(podlab.__file__)
"""


def test_a_notebooks_imports_work_in_the_image(tmp_path: Path) -> None:
    kernel_image.write_package(tmp_path / "podlab")
    done = subprocess.run(
        [sys.executable, "-B", "-P", "-c", IMPORT, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == str(tmp_path / "podlab" / "__init__.py"), done.stderr


def test_no_grader_is_in_the_image(tmp_path: Path) -> None:
    kernel_image.write_package(tmp_path / "podlab")
    assert {each.name for each in (tmp_path / "podlab" / "grading").iterdir()} == {"__init__.py", "inside.py"}
