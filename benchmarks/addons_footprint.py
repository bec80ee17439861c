"""addons-footprint: how long each add-on takes to start, and how much memory its programs then have.

The programs must be there (`podlab binaries ensure prometheus alertmanager victoria-logs vlagent`; OpenSearch's jars
come with its first enabling): building them is not what is measured. Of each add-on: seconds of `podlab addon enable`
on a cluster that never had it, and after `settle` seconds the resident and proportional memory of its containers,
asked of the machine itself. The value is the memory of all add-ons together; there is no floor.
"""

from __future__ import annotations

import time
from pathlib import Path

from clusters import NAME, running, supervisor
from common import Figure, announce, finish, machine, options, say, table
from processes import descendants, used

from podlab import addons
from podlab.addons import opensearch
from podlab.cluster.embedded import binaries
from podlab.spark import missing
from podlab.waiting import pause

MIB = 2**20
#: What a container runs with Python is named by its file.
SCRIPTS = tuple(sorted({name for addon in addons.TABLE.values() for name in addon.programs}))


def program(pid: int) -> str:
    """What a process runs, in one word: the name of its program, or of the Python file."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    if "org.opensearch.bootstrap.OpenSearch" in words:
        return "opensearch"
    for name in SCRIPTS:
        if any(word.endswith(f"{name}.py") for word in words):
            return name.replace("_", "-")
    return Path(words[0]).name


def measure(name: str, settle: int) -> tuple[float, list[tuple[str, str, int, float, float]]]:
    """Seconds until an add-on was ready, and (add-on, program, processes, resident, proportional) of each program."""
    say(f"  {name}")
    before = set(descendants(supervisor()))
    began = time.monotonic()
    addons.enable(name, NAME)
    seconds = time.monotonic() - began
    pause(settle)
    found: dict[str, list[float]] = {}
    for pid in set(descendants(supervisor())) - before:
        if word := program(pid):
            memory = used(pid)
            row = found.setdefault(word, [0, 0, 0])
            row[0] += 1
            row[1] += memory.resident / MIB
            row[2] += memory.proportional / MIB
    known = {name} | {image.name for image in addons.TABLE[name].images} | {one.replace("_", "-") for one in SCRIPTS}
    return seconds, [(name, word, int(row[0]), row[1], row[2]) for word, row in sorted(found.items()) if word in known]


def main() -> None:
    """Measure and tell."""
    given = options(__doc__, nodes=(2, 1, "nodes"), settle=(30, 2, "seconds to settle before the look"))
    here = machine()
    announce("addons-footprint", here)
    located = binaries.locate([image.name for addon in addons.TABLE.values() for image in addon.images])
    names = [addon.name for addon in addons.TABLE.values() if addon.images or addon.own_image]
    lacking = {name for name in names if any(located[one.name] is None for one in addons.TABLE[name].images)}
    lacking |= {"opensearch"} if opensearch.lacks_java() or opensearch.find() is None else set()
    lacking |= {"spark"} if missing() else set()
    names = [name for name in names if name not in lacking]
    for name in sorted(lacking):
        say(f"  {name}: its programs are not on this machine; left out")
    seconds, rows = {}, []
    with running(given.nodes):
        for name in names:
            seconds[name], part = measure(name, given.settle)
            rows += part
    title = f"MiB on {given.nodes} nodes, {given.settle} s after the add-on was ready"
    table(title, ("add-on", "program", "processes", "resident", "proportional"), rows)
    table("until ready", ("add-on", "seconds"), list(seconds.items()))
    figure = Figure("addons-footprint", sum(row[3] for row in rows), "MiB")
    figure.more = {
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "resident": {row[1]: round(row[3], 1) for row in rows},
    }
    finish(figure, here)


if __name__ == "__main__":
    main()
