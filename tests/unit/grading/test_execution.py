"""What a box has said is read whole, or not at all: what the machine has lost of it costs nobody points."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from podlab.grading import box, inside
from podlab.grading.execution import BoxError, Limits, executed
from podlab.grading.house import Bounds

ONE, TWO = {"answers": {"01.1": {"x": 1}}}, {"answers": {"01.2": {"y": 2}}}
END = {"end": True, "told": 2}


def lines(*facts: Any) -> str:
    return "".join(json.dumps(fact) + "\n" for fact in facts)


def test_what_has_arrived_whole_is_taken() -> None:
    found = executed(lines(ONE, TWO, END), "0")
    assert found.answers == {"01.1": {"x": 1}, "01.2": {"y": 2}} and not found.troubles


@pytest.mark.parametrize(
    "output",
    [
        "",
        lines(ONE, TWO),
        lines(ONE, END),
        lines(END),
        lines(ONE) + lines(TWO)[:-8] + "\n" + lines(END),
        lines(ONE, TWO, END).replace('"told": 2', '"tol'),
        lines(ONE, TWO, {"end": True}),
    ],
)
def test_what_is_lost_is_the_machines_trouble(output: str) -> None:
    with pytest.raises(BoxError, match="is lost"):
        executed(output, "0")


@pytest.mark.parametrize(("ended", "kind"), [("out of memory", "crashed"), ("139", "crashed"), ("timed out",) * 2])
def test_a_box_that_was_ended_keeps_the_answers_so_far(ended: str, kind: str) -> None:
    found = executed(lines(ONE), ended)
    assert found.answers == {"01.1": {"x": 1}} and [each["kind"] for each in found.troubles] == [kind]


def test_no_number_in_an_answer_is_anything_but_finite() -> None:
    with pytest.raises(BoxError):
        executed('{"answers": {"01.1": {"x": NaN}}}\n{"end": true, "told": 1}\n', "0")


def test_an_answer_that_is_nested_too_deep_to_read_has_arrived() -> None:
    deep = '{"answers": ' + "[" * 5_000 + "]" * 5_000 + "}\n"
    assert not executed(deep + lines({"end": True, "told": 1}), "0").troubles


def test_the_status_of_a_pod_is_how_its_box_ended() -> None:
    def pod(reason: str, code: int) -> dict[str, Any]:
        return {"status": {"containerStatuses": [{"state": {"terminated": {"reason": reason, "exitCode": code}}}]}}

    assert [box._why(pod("Completed", 0)), box._why(pod("Error", 1))] == ["0", "1"]
    assert box._why(pod("OOMKilled", 128 + signal.SIGKILL)) == "out of memory"


def test_a_box_above_its_own_disk_has_crashed_and_one_on_a_full_node_is_the_machines_trouble() -> None:
    def evicted(message: str) -> dict[str, Any]:
        return {"status": {"reason": "Evicted", "message": message}}

    own = evicted("Pod ephemeral local storage usage exceeds the total limit of containers 64Mi. ")
    found = executed(lines(ONE), box._why(own))
    assert found.answers == {"01.1": {"x": 1}} and [each["kind"] for each in found.troubles] == ["crashed"]
    with pytest.raises(BoxError, match="did not run: Evicted The node was low on resource"):
        box._why(evicted("The node was low on resource: ephemeral-storage. "))


def test_the_box_beside_a_cluster_may_write_to_its_small_tmpfs_only() -> None:
    pod = box.objects("notebook", "image", "{}", Limits())[-1]["spec"]
    (container,) = pod["containers"]
    context = container["securityContext"]
    assert context["readOnlyRootFilesystem"] and context["runAsNonRoot"] and not context["allowPrivilegeEscalation"]
    writable = {mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    (scratch,) = [volume for volume in pod["volumes"] if volume["name"] in writable]
    assert scratch["emptyDir"] == {"medium": "Memory", "sizeLimit": str(Bounds().disk)}
    assert container["resources"]["limits"]["ephemeral-storage"] == box.DISK


def job(tmp_path: Path, *cells: str) -> Path:
    file = tmp_path / "job.json"
    facts = {
        "cells": [{"name": f"answer-{number}", "source": text, "answer": True} for number, text in enumerate(cells)],
        "handed_in": {"01.1": [["x", "value"]]},
        "cell_limit": 60,
        "whole_limit": 300,
        "processes": 16_384,
        "disk": 1024**2,
    }
    file.write_text(json.dumps(facts))
    return file


def test_a_flood_is_cut_where_it_is_told_and_looks_like_no_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = (
        "import sys\nfrom podlab.grading import inside\ninside.LARGEST_OUTPUTS, inside.LARGEST_RESULT = 3_000, 6_000\n"
        "sys.exit(inside.main(sys.argv[1:]))"
    )
    flood = "print('o' * 2_000)\nx = {number} * 2_000"
    file = job(tmp_path, *(flood.format(number=repr(str(number))) for number in range(4)), "x = 7")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    ran = subprocess.run([sys.executable, "-c", program, file], capture_output=True, text=True, check=True, timeout=300)
    assert len(ran.stdout) < 6_200
    assert executed(ran.stdout, "0").answers == {"01.1": {"x": 7}}
    assert json.loads(ran.stdout.splitlines()[-1]) == {"end": True, "told": 3}, "of the flood only the first fits"


def test_the_grader_reads_all_that_a_box_may_say() -> None:
    from podlab.grading import execution

    assert inside.LARGEST_OUTPUTS < inside.LARGEST_RESULT < execution.LARGEST_RESULT - 100_000
