"""The log store of checks that need no cluster: a real VictoriaLogs."""

from __future__ import annotations

import pytest

from podlab.cluster.embedded import binaries
from podlab.course.logs.store import Store
from podlab.waiting import until


@pytest.mark.skipif(binaries.find("victoria-logs") is None, reason="`podlab binaries ensure victoria-logs` gets it")
def test_lines_that_are_counted_are_found_also_those_of_streams_that_are_new() -> None:
    store = Store()
    try:
        for turn in range(1, 6):
            new = [{"message": "line", "@timestamp": "0", "pod": f"pod-{turn}-{number}"} for number in range(5)]
            store.ask.bulk(new, ["pod"])

            def all_of_them(turn: int = turn) -> bool:
                counted = store.ask.count("*")
                assert len(store.ask.query("*", limit=0)) >= counted
                return counted == 5 * turn

            until(all_of_them, "the lines being counted", timeout=60, interval=0.01)
    finally:
        store.close()
