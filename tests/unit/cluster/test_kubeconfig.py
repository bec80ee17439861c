"""Kubeconfigs: merged only by name, nothing of the user's lost, private files, broken ones left alone."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from podlab.cluster import user_kubeconfig
from podlab.cluster.folder import context_name
from podlab.errors import ClusterError


def config(name: str, server: str = "https://127.0.0.1:1") -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": server}}],
        "users": [{"name": name, "user": {"token": "t"}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }


OURS = config(context_name("lab"))


def test_merge_keeps_everything_and_the_current_context() -> None:
    theirs = {**config("work"), "preferences": {"colors": True}, "extensions": [{"name": "x"}]}
    result = user_kubeconfig.merged(theirs, OURS)
    assert [c["name"] for c in result["contexts"]] == ["work", "podlab-lab"]
    assert result["current-context"] == "work"
    assert result["preferences"] == {"colors": True}
    assert result["extensions"] == [{"name": "x"}]


def test_merge_into_nothing_sets_the_context() -> None:
    assert user_kubeconfig.merged({}, OURS)["current-context"] == "podlab-lab"


names = st.lists(st.text("abc-", min_size=1, max_size=6), max_size=4, unique=True)


@given(names)
def test_merging_twice_is_merging_once_and_can_be_undone(known: list[str]) -> None:
    theirs: dict[str, Any] = {"apiVersion": "v1", "kind": "Config", "current-context": "".join(known[:1])}
    for key in ("clusters", "users", "contexts"):
        theirs[key] = [{"name": name} for name in known]
    once = user_kubeconfig.merged(theirs, OURS)
    assert user_kubeconfig.merged(once, OURS) == once
    rest = user_kubeconfig.without(once, "lab")
    assert {**rest, "current-context": ""} == {**theirs, "current-context": ""}


def test_the_file_is_replaced_with_a_backup_and_dates_stay_text(tmp_path: Path) -> None:
    path = tmp_path / "config"
    old = "# mine\nclusters: []\nusers:\n- name: a\n  user: {token: x, expiry: 2026-01-01T00:00:00Z, n: 0o17}\n"
    path.write_text(old)
    backup = user_kubeconfig.merge_into(path, OURS)
    assert backup is not None
    assert backup.read_text() == old
    assert yaml.load(path.read_text(), yaml.BaseLoader)["users"][0]["user"]["expiry"] == "2026-01-01T00:00:00Z"
    assert path.stat().st_mode & 0o077 == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config", "config.podlab-backup"]


def test_each_merge_keeps_what_was_before_it(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(first := yaml.safe_dump(config("work")))
    backups = [user_kubeconfig.merge_into(path, OURS)]
    second = path.read_text()
    assert user_kubeconfig.merge_into(path, OURS) is None, "nothing changes"
    backups.append(user_kubeconfig.merge_into(path, config(context_name("other"))))
    assert [backup.name for backup in backups if backup] == ["config.podlab-backup", "config.podlab-backup-2"]
    assert [backup.read_text() for backup in backups if backup] == [first, second]
    assert all(backup.stat().st_mode & 0o077 == 0 for backup in backups if backup)


def test_a_file_that_cannot_be_written_is_left_as_it_is_without_a_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config"
    path.write_text(old := yaml.safe_dump(config("work")))

    def read_only(**_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "mkstemp", read_only)  # root may write everywhere
    with pytest.raises(OSError, match="Read-only file system"):
        user_kubeconfig.merge_into(path, OURS)
    assert path.read_text() == old
    assert [file.name for file in tmp_path.iterdir()] == ["config"]


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_text(yaml.safe_dump(config("work")))
    (tmp_path / "config").symlink_to(tmp_path / "real")
    user_kubeconfig.merge_into(tmp_path / "config", OURS)
    assert (tmp_path / "config").is_symlink()
    assert "podlab-lab" in (tmp_path / "real").read_text()


@pytest.mark.parametrize("text", ["[1, 2]", "clusters: {a: b}", "a: [", "users: [1]", "\x00"])
def test_a_broken_file_is_refused_and_left_as_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(ClusterError, match="kubeconfig"):
        user_kubeconfig.merge_into(path, OURS)
    assert path.read_text() == text
    assert [file.name for file in tmp_path.iterdir()] == ["config"]


def test_removing_what_was_not_merged_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("contexts: []   # untouched\n")
    assert not user_kubeconfig.remove_from(path, "lab")
    assert path.read_text() == "contexts: []   # untouched\n"


def test_where_kubectl_would_write(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PODLAB_HOME", str(tmp_path / "podlab"))
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'one'}:{tmp_path / 'two'}")
    assert user_kubeconfig.user_file() == tmp_path / "one"
    monkeypatch.delenv("KUBECONFIG")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_kubeconfig.user_file() == tmp_path / ".kube" / "config"


def test_the_file_of_a_lab_is_not_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In JupyterLab KUBECONFIG names the file of the lab's cluster, into which nothing is merged."""
    monkeypatch.setenv("PODLAB_HOME", str(tmp_path / "podlab"))
    monkeypatch.setenv("HOME", str(tmp_path))
    labs = tmp_path / "podlab" / "data" / "clusters" / "default" / "kubeconfig"
    monkeypatch.setenv("KUBECONFIG", str(labs))
    assert user_kubeconfig.user_file() == tmp_path / ".kube" / "config"
    monkeypatch.setenv("KUBECONFIG", f"{labs}:{tmp_path / 'mine'}")
    assert user_kubeconfig.user_file() == tmp_path / "mine"
