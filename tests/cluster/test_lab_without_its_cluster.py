"""A cluster ends under an open lab: the message has the command that brings it back, and then all goes on."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Make

from podlab import cluster as clusters
from podlab.errors import PodlabError
from podlab.lab import start

pytestmark = pytest.mark.embedded("what kind's stop and start leave has tests of its own")


def test_the_command_in_the_message_brings_the_cluster_back_and_the_lab_goes_on(
    make: Make, machine: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PODLAB_PROGRESS", str(tmp_path))
    monkeypatch.delenv("PODLAB_KUBECONFIG", raising=False)

    def told(text: str) -> None:
        """Run the last command that is told, as it stands there."""
        words = re.findall(r"`podlab (.*?)`", text)[-1].split()
        subprocess.run([*machine, sys.executable, "-m", "podlab", *words], check=True, capture_output=True, timeout=300)

    name = make(nodes=1).name
    lab = start("15", cluster=name)
    lab.predict("time", 5, "s")
    lab._progress.scored("15.1", 2.5, False)
    lab.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kept}\ndata: {word: hello}")
    clusters.stop(name)
    with pytest.raises(PodlabError) as away:
        lab.pods()
    bring_back = f"`podlab cluster start --name {name}`"
    assert bring_back in str(away.value)
    assert lab.check("15.1", {"manifest_15_1": "kind: Deployment"}).report.score is None
    capsys.readouterr()
    start("14", cluster=name)
    assert bring_back in capsys.readouterr().out

    told(str(away.value))
    assert lab.get("configmap", "kept")["data"] == {"word": "hello"}
    assert "5 s" in lab.reconcile("time", 6).text and lab._progress.exercise("15.1")["best"] == 2.5
    lab.close()

    clusters.down(name)
    capsys.readouterr()
    again = start("15", cluster=name)
    said = capsys.readouterr().out
    assert f"`podlab cluster up --name {name}`" in said
    told(said)
    capsys.readouterr()
    again = start("15", cluster=name)
    assert "Chapter 15 is open" in capsys.readouterr().out
    assert "stays 5 s" in again.predict("time", None).text
    again.close()
