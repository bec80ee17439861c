"""Make the learners' notebooks with nbgrader's own generate_assignment, in a folder that holds nothing else."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

from podlab import imports
from podlab.course.manuscript import STUB
from podlab.errors import GradingError


def settings(course_folder: Path) -> Any:
    """nbgrader's configuration for generating a release; the grader uses the same, so that checksums agree."""
    from traitlets.config import Config

    config = Config()
    config.CourseDirectory.root = str(course_folder)
    config.ClearSolutions.code_stub = {"python": STUB}
    return config


def release(source: Path) -> str:
    """The text of the release of one instructor's notebook (source/NAME/NAME.ipynb).

    Only this one file is shown to nbgrader, since it copies everything beside it into the release.
    """
    imports.without_extras()
    from nbgrader.converters import GenerateAssignment
    from nbgrader.coursedir import CourseDirectory

    name = source.stem
    with tempfile.TemporaryDirectory(prefix="podlab-release-") as folder:
        alone = Path(folder) / "source" / name / source.name
        alone.parent.mkdir(parents=True)
        alone.write_text(source.read_text())
        config = settings(Path(folder))
        config.GenerateAssignment.no_database = True
        # SaveCells writes to a gradebook and changes nothing in the notebook; here is no gradebook.
        config.GenerateAssignment.preprocessors = [
            step for step in GenerateAssignment.preprocessors.default_args[0] if step.__name__ != "SaveCells"
        ]
        directory = CourseDirectory(config=config)
        directory.assignment_id = name
        converter = GenerateAssignment(coursedir=directory, config=config)
        converter.log = logging.getLogger("podlab.release")
        converter.log.setLevel(logging.ERROR)
        try:
            converter.start()
        except Exception as error:
            raise GradingError(f"nbgrader could not make the release of {source}: {error}") from error
        made = Path(folder) / "release" / name / source.name
        return made.read_text()


def releases(course: Path) -> dict[Path, str]:
    """The release of every assignment in source/, by path relative to `course`."""
    return {
        Path("release", source.parent.name, source.name): release(source)
        for source in sorted((course / "source").glob("*/*.ipynb"))
    }
