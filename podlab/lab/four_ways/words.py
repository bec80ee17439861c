"""The job that is done in four ways: the words of slow lines are counted.

This text also goes into pods, where podlab is not: it needs nothing but the standard library.
"""

import operator
import time
from pathlib import Path

#: Seconds that a line takes: the work is waiting, so that what is measured beside it is the way's own cost.
WAIT = 0.002
#: The partition whose first holder is killed, if one is.
HELD = 4


def words_of(lines):
    """The pairs of some lines, slowly."""
    for line in lines:
        time.sleep(WAIT)
        yield from ((word, 1) for word in line.split())


def hold(marker=""):
    """Say so, and do not return: who is killed now has a task in hand.

    Makes the file `marker`, and returns if somebody takes it away; without one never.
    """
    print("held", flush=True)
    if marker:
        Path(marker).touch()
    while not marker or Path(marker).exists():
        time.sleep(0.1)


def counted(context, lines, splits, reducers, kill, marker=""):
    """The counts as an RDD of Spark. With `kill` the first attempt of the partition HELD is held after its work."""

    def part(number, some):
        from pyspark import TaskContext

        yield from words_of(some)
        if kill and number == HELD and TaskContext.get().attemptNumber() == 0:
            hold(marker)

    return context.parallelize(lines, splits).mapPartitionsWithIndex(part).reduceByKey(operator.add, reducers)
