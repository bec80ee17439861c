"""One recommender of real processes for all tests that do not need one of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from movies.runner import Running, start

PATIENCE = 300


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A broker and five services. Every test uses users and ids of its own and leaves all parts running."""
    quick = {"MOVIES_DRAIN_SECONDS": "0.2", "MOVIES_TRAIN_AFTER": "0", "MOVIES_CALL_SECONDS": "30"}
    folder = tmp_path_factory.mktemp("processes")
    with start("processes", folder, ratings=3_000, environment=quick, seconds=PATIENCE) as made:
        yield made
