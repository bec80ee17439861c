"""The provider existing, as far as it goes without a cluster: which context is meant, and what is asked first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from podlab.cluster import existing
from podlab.cluster.provider import ClusterSpec
from podlab.errors import ClusterError, ClusterNotFound, UsageError


def config(server: str = "https://127.0.0.1:6443", name: str = "class") -> dict[str, Any]:
    return {
        "contexts": [
            {"name": name, "context": {"cluster": "c", "user": "u", "namespace": "mine"}},
            {"name": "broken", "context": {"cluster": "c", "user": "nobody"}},
        ],
        "clusters": [{"name": "c", "cluster": {"server": server, "certificate-authority": "ca.crt"}}],
        "users": [{"name": "u", "user": {"client-certificate": "/abs/u.crt", "client-key": "keys/u.key"}}],
        "current-context": name,
    }


def written(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "config"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def silent(_step: Any) -> None:
    pass


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("PODLAB_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.parametrize(
    ("content", "word"),
    [("{", "cannot be read"), ("[]", "no contexts"), ("contexts: []", "no contexts"), ("\0", "cannot be read")],
)
def test_what_is_no_kubeconfig_is_refused_by_name(tmp_path: Path, content: str, word: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(UsageError, match=word) as caught:
        existing.read(path)
    assert str(path) in caught.value.message


def test_a_kubeconfig_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no kubeconfig"):
        existing.read(tmp_path / "none")


def test_the_current_context_is_meant_unless_one_is_named(tmp_path: Path) -> None:
    assert existing.pick(config(), "", tmp_path)[0] == "class"
    with pytest.raises(UsageError, match="no context other") as caught:
        existing.pick(config(), "other", tmp_path)
    assert "class, broken" in caught.value.hint
    with pytest.raises(UsageError, match="user nobody"):
        existing.pick(config(), "broken", tmp_path)


def test_paths_are_made_absolute_and_secrets_of_other_contexts_stay_out(tmp_path: Path) -> None:
    _, parts = existing.pick(config(), "", tmp_path)
    ours = existing.renamed(parts, "mine", tmp_path)
    assert ours["clusters"][0]["cluster"]["certificate-authority"] == str(tmp_path / "ca.crt")
    assert ours["users"][0]["user"] == {"client-certificate": "/abs/u.crt", "client-key": str(tmp_path / "keys/u.key")}
    assert ours["contexts"][0]["context"]["namespace"] == "mine"
    assert [len(ours[key]) for key in ("clusters", "users", "contexts")] == [1, 1, 1]


@pytest.mark.parametrize(
    ("server", "name", "expected"),
    [
        ("https://127.0.0.1:6443", "kind-lab", False),
        ("https://10.0.0.5:6443", "class", False),
        ("https://cluster.local:6443", "class", False),
        ("https://127.0.0.1:6443", "shop-prod-eu", True),
        ("https://127.0.0.1:6443", "reproduction", False),
        ("https://203.0.114.9:6443", "class", True),
        ("https://k8s.example.org", "class", True),
    ],
)
def test_what_looks_like_production_is_named_so(server: str, name: str, expected: bool, tmp_path: Path) -> None:
    context, parts = existing.pick(config(server, name), "", tmp_path)
    assert existing.looks_like_production(context, parts) is expected
    assert ("others depend on" in existing.question(context, parts, tmp_path)) is expected


@pytest.mark.parametrize("confirmed", ["", "clas", "yes"])
def test_nothing_is_made_before_the_full_name_was_given(tmp_path: Path, home: Path, confirmed: str) -> None:
    path = written(tmp_path, config())
    with pytest.raises(UsageError, match="This would use the context class") as caught:
        existing.ExistingProvider().up(ClusterSpec("mine", kubeconfig=str(path), confirmed=confirmed), silent)
    assert "--confirm class" in caught.value.hint
    assert not list((home / "data" / "clusters").glob("*"))


def test_a_cluster_that_does_not_answer_leaves_nothing(tmp_path: Path, home: Path) -> None:
    path = written(tmp_path, config("http://127.0.0.1:9", "class") | {"users": [{"name": "u", "user": {}}]})
    text = path.read_text().replace("    certificate-authority: ca.crt\n", "")
    path.write_text(text)
    with pytest.raises(ClusterError):
        existing.ExistingProvider().up(ClusterSpec("mine", kubeconfig=str(path), confirmed="class"), silent)
    assert not list((home / "data" / "clusters").glob("*"))


def test_a_cluster_that_nobody_took_up() -> None:
    for verb in ("stop", "down", "start"):
        with pytest.raises(ClusterNotFound):
            getattr(existing.ExistingProvider(), verb)("none", silent)
