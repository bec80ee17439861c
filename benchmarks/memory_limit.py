"""memory-limit: how far a hog with a memory limit of 64 MiB gets, and whether its neighbours notice.

The hog takes as fast as it can and writes down after each step what the kernel says that it holds. Floor: the limit.
It must end in OOMKilled before 96 MiB, each time, and no neighbour may restart.
"""

from __future__ import annotations

from api import DEPLOYMENTS, PODS, Api, deployment, pod
from clusters import running, until_ready
from common import Figure, announce, finish, machine, median, options, say, table

from podlab import waiting

LIMIT, MOST = 64, 96
MIB = 2**20
_HOG = """
import mmap, os
held, page = [], os.sysconf("SC_PAGE_SIZE")
statm = os.open("/proc/self/statm", os.O_RDONLY)
while True:
    piece = mmap.mmap(-1, STEP)
    piece.write(b"x" * STEP)
    held.append(piece)
    os.write(1, b"%d\\n" % (int(os.pread(statm, 100, 0).split()[1]) * page))
"""


def hog(api: Api, name: str, step: int) -> tuple[float, str]:
    """The most that a hog has held in MiB, and how it ended."""
    container = {
        "image": "podlab/python:3",
        "command": ["python", "-c", _HOG.replace("STEP", str(step))],
        "resources": {"limits": {"memory": f"{LIMIT}Mi"}},
    }
    api.post(PODS, pod(name, container, restartPolicy="Never"))

    def ended() -> str:
        statuses = api.get(f"{PODS}/{name}")["status"].get("containerStatuses") or [{}]
        return statuses[0].get("state", {}).get("terminated", {}).get("reason", "")

    reason = waiting.until(ended, f"the end of {name}", timeout=120, interval=0.05)
    lines = api.text(f"{PODS}/{name}/log").split()
    api.delete(f"{PODS}/{name}", gracePeriodSeconds=0)
    return max(map(int, lines), default=0) / MIB, reason


def main() -> None:
    """Measure and tell."""
    given = options(
        __doc__, hogs=(20, 3, "hogs, one after the other"), step=(1024, 1024, "KiB a step"), nodes=(1, 1, "nodes")
    )
    here = machine()
    announce("memory-limit", here)
    neighbour = {"image": "podlab/toolbox:1", "command": ["sleep", "infinity"]}
    with running(given.nodes) as api:
        api.post(DEPLOYMENTS, deployment("neighbour", 3, neighbour))
        until_ready(api, "neighbour", 3)
        found = []
        for number in range(given.hogs):
            found.append(hog(api, f"hog-{number}", given.step * 1024))
            say(f"  {number + 1}: {found[-1][0]:.0f} MiB, {found[-1][1]}")
        pods = api.get(PODS, labelSelector="app=neighbour")["items"]
        restarts = sum(one["restartCount"] for each in pods for one in each["status"]["containerStatuses"])
    peaks = [peak for peak, _ in found]
    killed = sum(reason == "OOMKilled" for _, reason in found)
    rows = [
        ("most that a hog held, MiB: least", min(peaks)),
        ("median", median(peaks)),
        ("most", max(peaks)),
        (f"ended in OOMKilled, of {given.hogs}", killed),
        ("restarts of 3 neighbours", restarts),
    ]
    table(f"Hogs with a limit of {LIMIT} MiB", ("", ""), rows)
    figure = Figure("memory-limit", max(peaks), "MiB", LIMIT, f"less than {MOST} MiB, all OOMKilled, no neighbour hurt")
    figure.met = max(peaks) < MOST and killed == given.hogs and restarts == 0
    figure.more = {"median": round(median(peaks), 1)}
    finish(figure, here)


if __name__ == "__main__":
    main()
