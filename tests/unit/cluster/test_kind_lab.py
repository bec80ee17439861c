"""The kind lab's own small parts, as far as they go without Docker: what it says, and its wrapper of runc."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

LAB = Path(__file__).parents[3] / "cluster" / "kind-lab"


def lab(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PODLAB_HOME": str(home)}
    return subprocess.run([str(LAB / "lab"), *arguments], env=environment, capture_output=True, text=True, check=False)


def test_without_a_verb_it_says_which_there_are(tmp_path: Path) -> None:
    done = lab(tmp_path)
    assert done.returncode == 2
    for verb in ("build", "start", "run COMMAND", "with COMMAND", "stop", "ready"):
        assert f"lab {verb}" in done.stdout


def test_a_cache_without_the_image_is_not_ready_and_asking_makes_nothing(tmp_path: Path) -> None:
    assert lab(tmp_path, "ready").returncode == 1
    assert list(tmp_path.iterdir()) == []


def test_an_image_of_another_recipe_is_not_ready(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "kind-lab" / "v1.37.2"
    folder.mkdir(parents=True)
    for name in ("node-image.tar", "bases.tar"):
        (folder / name).touch()
    (folder / "recipe").write_text("another\n")
    assert lab(tmp_path, "ready").returncode == 1


def test_without_its_docker_it_says_how_to_start_it(tmp_path: Path) -> None:
    done = lab(tmp_path, "run", "true")
    assert done.returncode == 1
    assert "lab start" in done.stderr
    assert lab(tmp_path, "stop").returncode == 0, "there is nothing to stop"


@pytest.fixture
def wrapped(tmp_path: Path):
    """Run the wrapper with a runc that prints its arguments."""
    real = tmp_path / "runc"
    real.write_text('#!/bin/sh\necho "$@"\n')
    real.chmod(0o755)

    def run(*arguments: str) -> str:
        environment = os.environ | {"KIND_LAB_RUNC": str(real)}
        return subprocess.run(
            [str(LAB / "runc"), *arguments], env=environment, capture_output=True, text=True, check=True
        ).stdout

    return run


PROCESS = {"capabilities": {"bounding": ["CAP_CHOWN", "CAP_SYS_RESOURCE"], "ambient": []}, "oomScoreAdj": -998}


def test_a_container_asks_for_nothing_that_cannot_be_given(wrapped, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"process": PROCESS, "root": {"path": "x"}}))
    assert (
        wrapped("--root", "/r", "create", "--bundle", str(tmp_path), "one")
        == f"--root /r create --bundle {tmp_path} one\n"
    )
    written = json.loads((tmp_path / "config.json").read_text())
    assert written == {"process": {"capabilities": {"bounding": ["CAP_CHOWN"], "ambient": []}}, "root": {"path": "x"}}


def test_a_command_in_a_container_too(wrapped, tmp_path: Path) -> None:
    file = tmp_path / "process.json"
    file.write_text(json.dumps(PROCESS | {"oomScoreAdj": 500}))
    wrapped("exec", "--process", str(file), "one")
    assert json.loads(file.read_text()) == {
        "capabilities": {"bounding": ["CAP_CHOWN"], "ambient": []},
        "oomScoreAdj": 500,
    }
    assert wrapped("state", "one") == "state one\n"


def made(*variables: str) -> str:
    """What `make test-kind` would do."""
    command = ["make", "--dry-run", "--no-print-directory", "test-kind", *variables]
    return subprocess.run(command, cwd=LAB.parents[1], capture_output=True, text=True, check=True).stdout


def test_the_conformance_suite_is_built_before_its_tests_which_would_be_passed_over_else() -> None:
    whole = made()
    assert 0 < whole.index("conformance --build-only") < whole.index("lab with")
    one = made("KIND_TESTS=tests/cluster/test_pods.py", "KIND_SELECT=test_a or x[1.")
    assert "--build-only" not in one and '-k "test_a or x[1."' in one
    assert '--junitxml="build/tests/kind-$(basename "$tests" .py).xml"' in one
