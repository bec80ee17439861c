"""Feedback on its way back: a folder for each learner, and one zip in the form in which Moodle takes feedback files."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from podlab import paths
from podlab.errors import GradingError
from podlab.grading import receipts
from podlab.grading.bookkeeping import Books


@dataclass(frozen=True)
class HandedBack:
    """What was copied: how many learners' pages, into which folder and which archive; whose page was not."""

    learners: int
    folder: Path
    archive: Path
    #: Their pages say 0 points where nothing is judged yet.
    held: Sequence[str] = ()


def hand_back(books: Books, to: Path, waiting: Collection[str] = ()) -> HandedBack:
    """Copy every learner's page of feedback to `to`/ASSIGNMENT/LEARNER/; only pages, nothing of the gradebook.

    Pages of those whose grades wait for a person (`waiting`) are held back, and taken away where they were copied once.
    """
    pages = {
        page.parents[1].name: page
        for page in sorted((books.folder / "feedback").glob(f"*/{books.assignment}/{books.assignment}.html"))
    }
    if not pages:
        raise GradingError(f"There is no feedback on {books.assignment}.", hint="Run `podlab grade` first.")
    held = sorted(who for who in waiting if pages.pop(who, None))
    numbers = _moodle_numbers(books)
    folder = to / books.assignment
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for learner in held:
        (folder / learner / f"{books.assignment}.html").unlink(missing_ok=True)
    archive = to / f"{books.assignment}.zip"
    with paths.whole_file(archive, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for learner, page in pages.items():
            own = folder / learner
            own.mkdir(exist_ok=True, mode=0o700)
            shutil.copyfile(page, own / page.name)
            packed.write(page, f"{numbers.get(learner, learner)}/{page.name}")
    return HandedBack(len(pages), folder, archive, held)


def _moodle_numbers(books: Books) -> dict[str, str]:
    """The folder that Moodle expects for each learner whose work came from it: name, number, kind of submission."""
    if books.term is None:
        return {}
    found = {}
    for learner, receipt in receipts.counting(receipts.read(books.folder, books.assignment)).items():
        # At the learner's own number, where it comes first: what follows is the file's name, which may say anything.
        mark = f"_{receipt.number}_assignsubmission_file_"
        head, found_it, _ = receipt.origin.partition(mark)
        if found_it:
            found[learner] = f"{head.rpartition('/')[2].rpartition(':')[2]}{mark}"
    return found
