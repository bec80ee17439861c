"""`podlab lab`: the learner's own copies, and JupyterLab itself, on loopback and with its token."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from podlab import waiting
from podlab.checks import runner
from podlab.commands import lab
from podlab.course import workspace
from podlab.errors import EnvironmentUnsuitable, UsageError

NOTEBOOK = json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


@pytest.fixture
def course(tmp_path: Path) -> Path:
    folder = tmp_path / "course"
    for path in ("manuscript", "notebooks", "release/15"):
        (folder / path).mkdir(parents=True)
    (folder / "notebooks" / "00-start-here.ipynb").write_text(NOTEBOOK)
    (folder / "notebooks" / "15-lesson.ipynb").write_text(NOTEBOOK)
    (folder / "release" / "15" / "15.ipynb").write_text(NOTEBOOK)
    (folder / "notebooks" / ".ipynb_checkpoints").mkdir()
    (folder / "notebooks" / ".ipynb_checkpoints" / "x.ipynb").write_text(NOTEBOOK)
    return folder


LESSON = Path("notebooks/15-lesson.ipynb")


def test_a_learner_works_on_copies(course):
    copies = workspace.prepare(course)
    assert [str(path) for path in copies.made] == [
        "notebooks/00-start-here.ipynb",
        "notebooks/15-lesson.ipynb",
        "release/15/15.ipynb",
    ]
    assert (course / "work" / "release" / "15" / "15.ipynb").read_text() == NOTEBOOK
    assert workspace.prepare(course) == workspace.Copies()


def test_what_the_learner_changed_is_never_overwritten(course):
    workspace.prepare(course)
    (course / "work" / LESSON).write_text("mine")
    assert workspace.prepare(course) == workspace.Copies()
    (course / LESSON).write_text("newer")
    assert workspace.prepare(course) == workspace.Copies(kept=[LESSON])
    assert (course / "work" / LESSON).read_text() == "mine"


def test_a_copy_that_was_not_changed_follows_the_course(course):
    workspace.prepare(course)
    (course / LESSON).write_text("newer")
    assert workspace.prepare(course) == workspace.Copies(updated=[LESSON])
    assert (course / "work" / LESSON).read_text() == "newer"


def test_a_copy_that_was_deleted_comes_back(course):
    workspace.prepare(course)
    (course / "work" / LESSON).unlink()
    assert workspace.prepare(course).made == [LESSON]


def test_a_lost_record_loses_no_work(course):
    workspace.prepare(course)
    (course / "work" / LESSON).write_text("mine")
    (course / "work" / workspace.RECORD).write_text("broken")
    assert workspace.prepare(course).kept == [LESSON]
    assert (course / "work" / LESSON).read_text() == "mine"


def test_copies_that_were_made_before_a_failure_follow_the_course_too(course):
    (course / "work").mkdir()
    (course / "work" / "release").write_text("a file in its place")
    with pytest.raises(EnvironmentUnsuitable):
        workspace.prepare(course)
    (course / "work" / "release").unlink()
    (course / LESSON).write_text("newer")
    assert workspace.prepare(course).updated == [LESSON]
    assert (course / "work" / LESSON).read_text() == "newer"


def test_a_folder_that_cannot_be_written_is_said(course):
    (course / "work").write_text("a file in its place")
    with pytest.raises(EnvironmentUnsuitable, match="cannot be made in"):
        workspace.prepare(course)


def test_without_a_start_page_the_first_lesson_opens(course):
    workspace.prepare(course)
    assert lab.start_page(course / "work").name == "00-start-here.ipynb"
    (course / "work" / "notebooks" / "00-start-here.ipynb").unlink()
    assert lab.start_page(course / "work").name == "15-lesson.ipynb"
    (course / "work" / LESSON).unlink()
    with pytest.raises(UsageError, match="podlab build"):
        lab.start_page(course / "work")


def test_root_is_told_to_jupyterlab_and_nobody_else():
    page = Path("/w/notebooks/p.ipynb")
    assert "--allow-root" in lab.command(Path("/w"), page, True, [])
    others = lab.command(Path("/w"), page, False, ["--no-browser"])
    assert "--allow-root" not in others
    assert others[-1] == "--no-browser" and "--ServerApp.ip=127.0.0.1" in others


def test_commands_in_notebooks_meet_the_cluster_of_the_lab(tmp_path, monkeypatch):
    monkeypatch.setenv("PODLAB_HOME", str(tmp_path))
    given = {"PATH": "/usr/bin:/opt/k", "KUBECONFIG": "/etc/production"}
    made = lab.surroundings(given, "default", Path("/opt/k/kubectl"))
    assert made["PATH"] == f"{Path(sys.executable).parent}:/opt/k:/usr/bin"
    assert made["KUBECONFIG"] == str(tmp_path / "data" / "clusters" / "default" / "kubeconfig")
    assert lab.surroundings({"PODLAB_KUBECONFIG": "/mine"}, "default", None)["KUBECONFIG"] == "/mine"


def test_a_cluster_that_does_not_come_up_behind_jupyterlab_says_why(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PODLAB_HOME", str(tmp_path))
    lab._bring_up("No_Name")
    (log,) = (tmp_path / "data").glob("lab-*.log")
    said = ""

    def told() -> bool:
        nonlocal said
        said += "".join(capsys.readouterr())
        return f"This is also in {log}" in said

    waiting.until(told, "the report", timeout=120)
    assert "Cluster 'No_Name' is coming up behind JupyterLab." in said
    assert "did not come up. " in said and "cannot be the name of a cluster" in said and "Traceback" not in said
    assert "cannot be the name of a cluster" in log.read_text()
    assert log.stat().st_mode & 0o077 == 0


@pytest.mark.slow
def test_jupyterlab_serves_the_copies_on_loopback_and_only_with_its_token(course, tmp_path):
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "PODLAB_HOME": str(tmp_path / "home"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
        "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
    }
    arguments = ["lab", "--no-cluster", f"--course={course}", "--no-browser", "--ServerApp.port=0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "podlab", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        info = waiting.until(lambda: _server(tmp_path / "runtime", process), "JupyterLab's answer", timeout=300)
        assert info["url"].startswith("http://127.0.0.1:") and len(info["token"]) >= 32
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{info['url']}api/contents/notebooks", timeout=60)
        assert refused.value.code == 403
        with urllib.request.urlopen(f"{info['url']}api/contents/notebooks?token={info['token']}", timeout=60) as reply:
            names = {entry["name"] for entry in json.load(reply)["content"]}
        assert names == {"00-start-here.ipynb", "15-lesson.ipynb"}
        file = f"{info['url']}api/contents/notebooks/15-lesson.ipynb?token={info['token']}"
        readers = [threading.Thread(target=_read_until_it_ends, args=(file,)) for _ in range(4)]
        for reader in readers:
            reader.start()
    finally:
        process.send_signal(signal.SIGTERM)
        # Its end does not wait for requests that are under way: they never end.
        said, _ = process.communicate(timeout=120)
    for reader in readers:
        reader.join()
    assert f"127.0.0.1:{info['port']}/lab/tree/notebooks/00-start-here.ipynb?token=" in said


def _read_until_it_ends(file: str) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException):
        while True:
            urllib.request.urlopen(file, timeout=60).read()


def _server(runtime: Path, process: subprocess.Popen[str]) -> dict | None:
    assert process.poll() is None, process.communicate()[0]
    for path in runtime.glob("jpserver-*.json"):
        info = json.loads(path.read_text() or "{}")
        if info.get("port"):
            with urllib.request.urlopen(f"{info['url']}api", timeout=5):
                return info
    return None


#: As nbgrader's server extension for JupyterLab's Validate button reads its settings.
_PATIENCE = """
from nbgrader.apps import NbGrader
from nbgrader.preprocessors import Execute
app = NbGrader()
app.load_config_file()
print(Execute(config=app.config).timeout)
"""


def test_the_validate_button_waits_for_a_check_that_waits_for_a_calm_machine(tmp_path):
    settings = lab.surroundings({"HOME": str(tmp_path), "PODLAB_KUBECONFIG": "/mine"}, "default", None)
    done = subprocess.run(
        [sys.executable, "-c", _PATIENCE], cwd=tmp_path, env=settings, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) > 5 * runner.PATIENCE
