"""Clusters for the exercises of a run, in a home of their own; nothing of them is left at the end.

One is for answers that leave nodes alone, which run side by side; the others for those that lose a node.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeGuard, cast

import packages_for_kind
import pytest
from desk import Desk
from providers import PROVIDER

from podlab import cluster as clusters
from podlab.cluster import Cluster
from podlab.cluster.embedded import binaries
from podlab.course import manuscript

Give = Callable[[str], Cluster]


@pytest.fixture(scope="session", autouse=True)
def still_environment() -> Iterator[None]:
    """Answers are checked in threads that start processes, while pytest writes each test's name to the environment.

    The C library may move the environment then, and a start at that moment fails with EFAULT (seen once in 579 tests).
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("_pytest.runner._update_current_test_var", lambda _item, _when: None)
        yield


@pytest.fixture(scope="session")
def cluster_for() -> Iterator[Give]:
    """cluster_for("quiet"): a running cluster of that name, made when first asked for; three nodes take pods."""
    nodes = 4 if PROVIDER == "kind" else 3  # kind's control plane takes none
    lock = threading.Lock()
    made: dict[str, Cluster] = {}

    def give(name: str) -> Cluster:
        with lock:
            if name not in made:
                made[name] = clusters.up(name, nodes=nodes, provider_name=PROVIDER)
        return made[name]

    located = binaries.locate([name for name in binaries.PROGRAMS if name not in binaries.ALL])
    programs = binaries.ensure() | {name: found.path for name, found in located.items() if found}
    # A short path: sockets are in it.
    folder = Path(tempfile.mkdtemp(prefix="ple-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PODLAB_HOME", str(folder))
        for name, path in programs.items():
            patch.setenv(binaries.variable(name), str(path))
        for name in ("PODLAB_KUBECONFIG", "PODLAB_NAMESPACE", "PODLAB_CLUSTER", "KUBECONFIG"):
            patch.delenv(name, raising=False)
        packages_for_kind.give(folder)
        try:
            yield give
        finally:
            for name in made:
                with contextlib.suppress(Exception):
                    clusters.down(name)
            shutil.rmtree(folder, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The answers, which are checked meanwhile, are looked at last, in the order in which the desk begins."""
    answers = sorted(filter(is_an_answer, items), key=lambda item: item.callspec.params["case"].exercise, reverse=True)
    items[:] = [*(item for item in items if not is_an_answer(item)), *answers]


def is_an_answer(item: pytest.Item) -> TypeGuard[pytest.Function]:
    return isinstance(item, pytest.Function) and item.originalname == "test_answer"


@pytest.fixture(scope="session", autouse=True)
def desk(request: pytest.FixtureRequest, still_environment: None) -> Iterator[Desk | None]:
    """Has begun with all answers that this run has selected, while other tests of the folder run; None without any."""
    chosen = [item for item in request.session.items if is_an_answer(item) and not item.get_closest_marker("skip")]
    cases = [cast(manuscript.Case, item.callspec.params["case"]) for item in chosen]
    if not cases:
        yield None
        return
    found = Desk(request.getfixturevalue("cluster_for"), cases)
    yield found
    found.close()
