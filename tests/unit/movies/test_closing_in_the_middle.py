"""What is closed while a thread still writes waits for it: SQLite would take the whole process down otherwise."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from movies.bus.files import FileBus
from movies.data.tables import Interactions
from movies.errors import BrokerError, MoviesError, Unavailable
from movies.store import Store
from podlab.waiting import until

ROWS = [(f"e{number}", number % 50 + 1, number % 90 + 1, 4.0, None, number) for number in range(20_000)]

#: Run apart, since what it looks for is the end of its process.
CLOSING = """
import sys, threading
from pathlib import Path
from movies.errors import Unavailable
from movies.store import Store
from tests.unit.movies.test_closing_in_the_middle import ROWS
for round in range(30):
    store = Store(Path(sys.argv[1]) / f"{round}.sqlite")
    begun = threading.Event()
    def write():
        begun.set()
        try:
            store.add(ROWS, 1)
        except Unavailable:
            pass
    thread = threading.Thread(target=write)
    thread.start()
    begun.wait()
    store.close()
    thread.join()
"""


def test_a_store_that_is_closed_in_the_middle_of_writing(tmp_path):
    done = subprocess.run([sys.executable, "-c", CLOSING, str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_store_that_is_closed_writes_nothing_and_can_be_closed_again(tmp_path):
    store = Store(tmp_path / "x.sqlite")
    assert store.add(ROWS[:10], 10) == 10
    store.close()
    store.close()
    with pytest.raises(Unavailable):
        store.add(ROWS[10:20], 20)
    again = Store(tmp_path / "x.sqlite")
    assert again.counts() == (10, 10) and again.position == 10
    again.close()


def test_filling_a_store_ends_between_two_blocks_when_it_is_closed(tmp_path):
    store, first, closing = Store(tmp_path / "x.sqlite"), threading.Event(), threading.Event()
    block = Interactions.of([1], [1], [4.0], [float("nan")], [1])

    def blocks():
        yield block
        first.set()
        closing.wait(60)
        while True:
            yield block

    ended = []

    def fill():
        try:
            store.restart("v1", blocks())
        except MoviesError as error:
            ended.append(error)

    thread = threading.Thread(target=fill)
    thread.start()
    first.wait(60)
    closer = threading.Thread(target=store.close)
    closer.start()
    until(lambda: store.closing, "the store being closed", timeout=60)
    closing.set()
    thread.join(60)
    closer.join(60)
    assert isinstance(ended[0], Unavailable)
    again = Store(tmp_path / "x.sqlite")
    assert again.counts() == (0, 0) and again.dataset is None, "all of it, or nothing"
    again.close()


async def test_a_log_is_closed_when_what_was_given_up_is_done(tmp_path):
    for number in range(20):
        bus = FileBus(tmp_path / str(number))
        await bus.open()
        giving_up = [asyncio.create_task(bus.publish("s", bytes(200_000), id=str(one))) for one in range(5)]
        await asyncio.wait(giving_up, timeout=0)  # each has begun
        for task in giving_up:
            task.cancel()
        await bus.close()
        await asyncio.gather(*giving_up, return_exceptions=True)
        with pytest.raises(BrokerError, match="closed"):
            await bus.publish("s", b"x")
