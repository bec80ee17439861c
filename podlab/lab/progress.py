"""The learner's progress: scores, hints taken and predictions, in one private JSON file per chapter."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from podlab import paths


class Progress:
    """What is known of one chapter. Several kernels may write at the same time; nothing is lost.

    What cannot be written, for a full disk, is kept here and written with the next change; `tell` hears of it once.
    """

    def __init__(
        self, chapter: str, folder: Path | None = None, tell: Callable[[str], None] = lambda _text: None
    ) -> None:
        given = os.environ.get("PODLAB_PROGRESS")
        self.folder = paths.private(folder or (Path(given) if given else paths.data() / "progress"))
        self.file = self.folder / f"{chapter}.json"
        self._unsaved: list[Callable[[dict[str, Any]], None]] = []
        self._tell = tell
        self._told = False

    def read(self) -> dict[str, Any]:
        """The whole state; empty for a new learner, and for a file that is damaged (which is then kept aside)."""
        try:
            data = self._saved()
        except OSError:
            data = {"exercises": {}, "predictions": {}}
        return self._with_unsaved(data)

    def _with_unsaved(self, data: dict[str, Any]) -> dict[str, Any]:
        for change in self._unsaved:
            change(data)
        return data

    def _saved(self) -> dict[str, Any]:
        empty: dict[str, Any] = {"exercises": {}, "predictions": {}}
        try:
            return empty | _sound(json.loads(self.file.read_text()))
        except FileNotFoundError:
            return empty
        except (ValueError, RecursionError):
            self.file.replace(self.file.with_suffix(f".damaged-{int(time.time())}"))
            return empty

    def change(self, change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Apply `change` to the state and write it whole, under a lock; returns the new state.

        A change that cannot be applied, or not be written as JSON, is dropped, and its error raised.
        """
        self._unsaved.append(change)
        try:
            with self._locked():
                data = self._with_unsaved(self._saved())
                with paths.whole_file(self.file) as file:
                    json.dump(data, file, indent=1)
            self._unsaved.clear()
            return data
        except OSError as error:
            if not self._told:
                self._tell(f"Your progress cannot be saved in {self.folder}: {error.strerror}. You can go on without.")
            self._told = True
            return self.read()
        except Exception:
            self._unsaved.remove(change)  # tried again with every later change, it would fail them all
            raise

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def exercise(self, id: str) -> dict[str, Any]:
        """What is known of one exercise: best, attempts, hints, passed_at."""
        return {"best": None, "attempts": 0, "hints": [], "passed_at": None, **self.read()["exercises"].get(id, {})}

    def scored(self, id: str, score: float | None, passed: bool) -> None:
        """Note one run of the checks; the best score stays."""

        def note(data: dict[str, Any]) -> None:
            entry = data["exercises"].setdefault(id, {})
            entry["attempts"] = entry.get("attempts", 0) + 1
            if score is not None:
                entry["best"] = max(score, entry.get("best") or 0.0)
            if passed and not entry.get("passed_at"):
                entry["passed_at"] = time.time()

        self.change(note)

    def hinted(self, id: str, number: int) -> None:
        """Note that hint `number` was shown."""

        def note(data: dict[str, Any]) -> None:
            shown = data["exercises"].setdefault(id, {}).setdefault("hints", [])
            if number not in shown:
                shown.append(number)

        self.change(note)

    def predicted(self, key: str, value: Any, unit: str, *, anew: bool = False) -> dict[str, Any]:
        """Commit a prediction and return what is committed. None takes no earlier one's place.

        One that was made and then measured stays, unless `anew`: a fresh run of the lesson may predict again.
        """

        def note(data: dict[str, Any]) -> None:
            entry = data["predictions"].get(key, {"value": None})
            settled = "measured" in entry and not anew
            if key not in data["predictions"] or (value is not None and not settled):
                data["predictions"][key] = {"value": value, "unit": unit, "at": time.time()}

        return self.change(note)["predictions"][key]

    def measured(self, key: str, value: Any) -> dict[str, Any]:
        """Put the measurement beside the prediction; returns both."""

        def note(data: dict[str, Any]) -> None:
            data["predictions"].setdefault(key, {"value": None, "unit": "", "at": None})["measured"] = value

        return self.change(note)["predictions"][key]


def _sound(data: Any) -> dict[str, Any]:
    """What a file held, if it is progress: objects of objects; ValueError for any other JSON."""
    parts = [data.get(part, {}) for part in ("exercises", "predictions")] if isinstance(data, dict) else [data]
    if not all(isinstance(part, dict) and all(isinstance(one, dict) for one in part.values()) for part in parts):
        raise ValueError("no progress")
    return data
