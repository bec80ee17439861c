from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from podlab import paths
from podlab.cluster.folder import ClusterFolder, Record
from podlab.cluster.provider import ClusterSpec
from podlab.commands.image import app, size
from podlab.errors import DockerfileError, UsageError


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODLAB_HOME", str(tmp_path / "home"))


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_build_list_save_remove_prune_load(context: Path, tmp_path: Path) -> None:
    (context / "a").write_text("x")
    (context / "My.dockerfile").write_text("FROM podlab/toolbox\nCOPY a /a\n")
    out = run("build", str(context), "-t", "a:1", "-t", "b:2", "-f", str(context / "My.dockerfile"))
    assert "[2/2] COPY a /a" in out and "sha256:" in out
    rows = {f"{row['name']}:{row['tag']}": row for row in json.loads(run("list", "--json"))}
    assert rows["a:1"]["kind"] == "on podlab/toolbox" and rows["podlab/python:3"]["kind"] == "bundled"
    assert "podlab/toolbox" in run("list")
    assert json.loads(run("inspect", "a:1"))["digest"] == rows["a:1"]["digest"]
    assert "runs only here" in run("save", "a:1", "-o", str(tmp_path / "a.tar"))
    assert "Removed a:1" in run("rm", "a:1", "b:2")
    assert "Removed 3 blobs" in run("prune")
    assert "Loaded a:1" in run("load", str(tmp_path / "a.tar"))


def test_a_bad_dockerfile_and_an_unknown_name_are_errors_for_people(context: Path) -> None:
    (context / "Dockerfile").write_text("FROM scratch\nRUN x\n")
    with pytest.raises(DockerfileError, match="line 2: RUN"):
        run("build", str(context), "-t", "a:1")
    for command in (["inspect", "x"], ["rm", "x"], ["save", "x", "-o", "/dev/null"]):
        with pytest.raises(UsageError, match="x:latest"):
            run(*command)


@pytest.mark.parametrize(
    ("provider", "told"),
    [
        (None, ""),
        ("embedded", ""),
        ("kind", "To the nodes of mine: podlab cluster load-image web:1\n"),
        ("existing", "The nodes of mine pull from registries only"),
    ],
)
def test_a_build_says_how_the_nodes_of_the_cluster_in_use_get_the_image(
    context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider: str | None, told: str
) -> None:
    monkeypatch.setenv("PODLAB_CLUSTER", "mine")
    if provider:
        ClusterFolder(paths.clusters() / "mine").create(Record.of(ClusterSpec("mine"), provider))
    (context / "Dockerfile").write_text("FROM scratch\n")
    said = run("build", str(context), "-t", "web:1")
    assert told in said and ("nodes of" in said) == bool(told)
    assert "nodes of" not in run("build", str(context), "-t", "web:1", "--quiet")
    run("save", "web:1", "-o", str(tmp_path / "web.tar"))
    assert told in run("load", str(tmp_path / "web.tar"))


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0 B"), (999, "999 B"), (42_090, "42.1 kB"), (5_000_000, "5.0 MB"), (3 * 10**9, "3.00 GB")]
)
def test_sizes_for_people(count: int, shown: str) -> None:
    assert size(count) == shown
