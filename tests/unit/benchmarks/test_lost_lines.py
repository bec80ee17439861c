"""The account of lines that the log store has not: which, what happened around them, where they still are."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[3] / "benchmarks"))

import lost_lines
from lost_lines import Event, Gap

from podlab.addons.programs.packing import packed


def test_what_is_missing_are_gaps_between_what_was_found() -> None:
    found = {number: 100.0 + number for number in (2, 3, 6, 7, 12)}
    assert lost_lines.gaps(0, 10, found) == [Gap(0, 2, None, 102), Gap(4, 6, 103, 106), Gap(8, 10, 107, None)]
    assert lost_lines.gaps(2, 4, found) == []
    assert lost_lines.gaps(5, 8, {}) == [Gap(5, 8)]


def test_what_happened_around_a_gap_is_told_with_it_and_nothing_else() -> None:
    early, late = Event(0, 10, "a store"), Event(1000, 1010, "a spool")
    pod, stall = Event(500, 500, "the pod"), Event(290, 510, "nothing ran")
    gap = Gap(4, 6, since=480, until=490)
    assert lost_lines.around(gap, [early, pod, stall, late], 0, 2000) == [pod, stall]
    # Without a line behind it the pod's end is the gap's.
    assert lost_lines.around(Gap(4, 6, since=480), [early, late], 0, 900) == [late]
    words = lost_lines.told(gap, [pod], {4}, {4, 5, 6})
    assert words[0].startswith("2 lines missing, 4 to 5, of 00:08:00.00 to 00:08:10.00")
    assert "1 in the node's log files, 2 in a spool" in words[0] and words[1:] == [
        "  00:08:20.00 to 00:08:20.00: the pod"
    ]


def test_lines_are_found_in_all_files_of_a_pod_and_in_the_spools(tmp_path: Path) -> None:
    def line(number: int) -> str:
        return json.dumps({"message": "some words", "life": "w1-2", "n": number})

    folder = tmp_path / "node-1" / "host" / "var" / "log" / "pods" / "place_w1-2_uid" / "main"
    folder.mkdir(parents=True)
    for name, number in (("0.log", 7), ("0.log.20260102-030405", 6)):
        text = f"2026-01-02T03:04:05.000000000Z stdout F {line(number)}\n2026-01-02T03:04:05.0Z stdout F other words\n"
        (folder / name).write_text(text)
    assert lost_lines.in_files(tmp_path, "place", "w1-2") == {6, 7}
    assert lost_lines.in_files(tmp_path, "place", "w1-20") == set()
    blocks = tmp_path / "node-2" / "pods" / "uid" / "volumes" / "spool" / "blocks"
    blocks.mkdir(parents=True)
    (blocks / "0000000000000001").write_bytes(b"/insert?a=b\n" + packed(f"{line(8)}\n{line(9)}\n".encode()))
    (blocks / "0000000000000002.half").write_bytes(b"/ins")
    assert lost_lines.in_spools(tmp_path) == {"w1-2": {8, 9}}
