"""One task of a MapReduce job, in a pod of an Indexed Job: its number is the pod's completion index.

Beside it lie mapreduce_tasks.py and job.py, the program that defines `job`. Arguments: map or reduce, the number of map
tasks, the number of reducers.
"""

import dataclasses
import json
import os
import sys
from pathlib import Path

from job import job
from mapreduce_tasks import map_task, reduce_task

SHUFFLE = Path("/shuffle")


def main(kind: str, maps: int, reducers: int) -> None:
    """Do the task; what it was like goes into the pod's status, and a reducer prints its lines."""
    wanted = dataclasses.replace(job, reducers=reducers)
    number, attempt = int(os.environ["JOB_COMPLETION_INDEX"]), os.environ["HOSTNAME"]
    if kind == "map":
        split = json.loads(Path(f"/splits/{number}").read_text())
        done = map_task(wanted, split, SHUFFLE, number, attempt)
        names = [f"map-{number}-{reducer}" for reducer in range(reducers)]
    else:
        done = reduce_task(wanted, maps, SHUFFLE, number, attempt)
        names = [f"part-{number:05d}"]
    # Renamed when whole: nobody reads what a killed attempt has left, and another attempt writes the same bytes.
    for name in names:
        (SHUFFLE / f"{name}.{attempt}").replace(SHUFFLE / name)
    if kind == "reduce":
        print((SHUFFLE / names[0]).read_text(), end="")
    Path("/dev/termination-log").write_text(json.dumps({"bytes": done["bytes"], "records": done["records"]}))


main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
