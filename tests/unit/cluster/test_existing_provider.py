"""The provider existing, as far as a little API goes: which context is meant, what is asked first, what is ours."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from little_api import LittleApi

from podlab import paths
from podlab.checks import owners
from podlab.cluster import clusters, existing
from podlab.cluster.folder import HOME_LABEL, ClusterFolder, Record
from podlab.cluster.provider import ClusterSpec
from podlab.errors import ClusterError, ClusterExists, ClusterNotFound, EnvironmentUnsuitable, UsageError
from podlab.lab.connection import connect


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
    assert "class, broken" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="user nobody"):
        existing.pick(config(), "broken", tmp_path)


def test_paths_are_made_absolute_and_secrets_of_other_contexts_stay_out(tmp_path: Path) -> None:
    _, parts = existing.pick(config(), "", tmp_path)
    ours = existing.renamed(parts, "mine", tmp_path)
    assert ours["clusters"][0]["cluster"]["certificate-authority"] == str(tmp_path / "ca.crt")
    assert ours["users"][0]["user"] == {"client-certificate": "/abs/u.crt", "client-key": str(tmp_path / "keys/u.key")}
    assert ours["contexts"][0]["context"]["namespace"] == "mine"
    assert [len(ours[key]) for key in ("clusters", "users", "contexts")] == [1, 1, 1]


def test_a_program_that_gives_credentials_is_found_from_the_kubeconfig_and_named_if_it_is_not_there(
    tmp_path: Path,
) -> None:
    """As the kubeconfigs of clouds have it: the token of a program in the kubeconfig's own folder is the one sent."""
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "bin/login", "interactiveMode": "Never"}
    with LittleApi() as api:
        path = api.kubeconfig(tmp_path / "config", user={"exec": plugin | {"installHint": "Get it from the class."}})
        with pytest.raises(UsageError, match="from bin/login, which is not here") as caught:
            taken(path)
        assert caught.value.hint == "Get it from the class." and clusters.list_clusters() == []
        (tmp_path / "bin").mkdir()
        answer = {"apiVersion": plugin["apiVersion"], "kind": "ExecCredential", "status": {"token": "of-the-program"}}
        (tmp_path / "bin" / "login").write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
        (tmp_path / "bin" / "login").chmod(0o700)
        taken(path)
        assert api.tokens == {"of-the-program"}
        assert clusters.status("mine").state == "running"
        (tmp_path / "bin" / "login").write_text("#!/bin/sh\necho 'You are not logged in.' >&2\nexit 1\n")
        api.tokens.clear()
        with pytest.raises(ClusterError, match=r"bin/login, from which .*config \(context class\) gets its") as refused:
            clusters.start("mine")
        assert "gave none" in refused.value.message and "log in again" in (refused.value.hint or "")
        with pytest.raises(ClusterError, match="gave none"):
            connect("mine")
        assert api.tokens == set(), "nobody was asked as anybody"
    for command in ("no-such-login", "/no/such/login"):
        content = config() | {"users": [{"name": "u", "user": {"exec": plugin | {"command": command}}}]}
        with pytest.raises(UsageError, match="which is not here"):
            existing.pick(content, "", tmp_path / "config")


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
    assert "--confirm class" in (caught.value.hint or "")
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


def taken(path: Path, name: str = "mine") -> None:
    existing.ExistingProvider().up(ClusterSpec(name, kubeconfig=str(path), confirmed="class"), silent)


def test_down_deletes_the_namespaces_of_this_user_and_of_nobody_else(tmp_path: Path) -> None:
    with LittleApi() as api:
        taken(api.kubeconfig(tmp_path / "config"))
        api.add("/api/v1/namespaces/ours", "Namespace", labels=owners.labels())
        api.add("/api/v1/namespaces/another-learner", "Namespace", labels=owners.labels() | {HOME_LABEL: "another"})
        api.add("/api/v1/namespaces/not-a-lab", "Namespace")
        existing.ExistingProvider().down("mine", silent)
        assert api.names("/api/v1/namespaces") == {"another-learner", "not-a-lab"}
    assert clusters.list_clusters() == []


class Quick(LittleApi):
    """A cluster in which a namespace that was being deleted is gone before one asks for it."""

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        if method == "DELETE":
            self.objects.pop(path, None)
        return super().answer(method, path, query, body)


def test_a_namespace_that_is_gone_by_itself_is_passed_over(tmp_path: Path) -> None:
    with Quick() as api:
        taken(api.kubeconfig(tmp_path / "config"))
        api.add("/api/v1/namespaces/ours", "Namespace", labels=owners.labels())
        existing.ExistingProvider().down("mine", silent)
    assert clusters.list_clusters() == []


def test_a_cluster_whose_namespaces_could_not_be_deleted_is_not_forgotten(tmp_path: Path) -> None:
    with LittleApi() as api:
        path = api.kubeconfig(tmp_path / "config")
        taken(path)
    with pytest.raises(ClusterError, match="not forgotten") as caught:
        existing.ExistingProvider().down("mine", silent)
    assert "--forget --name mine" in (caught.value.hint or "") and f"{path} (context class)" in caught.value.message
    assert clusters.list_clusters() == ["mine"]
    clusters.forget("mine")
    assert clusters.list_clusters() == []


def test_who_may_make_no_namespaces_is_told_what_to_have_made(tmp_path: Path) -> None:
    with LittleApi(forbidden={"namespaces", "users"}) as api:
        taken(api.kubeconfig(tmp_path / "config"))
        (note,) = clusters.status("mine").notes
        assert "create namespaces, impersonate users" in note and "PODLAB_NAMESPACES" in note
        existing.ExistingProvider().down("mine", silent)  # who may not see namespaces has none there


def test_a_name_that_is_taken_is_refused_and_whoever_has_it_keeps_it(tmp_path: Path) -> None:
    ours = ClusterFolder(paths.clusters() / "mine")
    ours.create(Record("mine", "embedded", [1], "lab"))
    with LittleApi() as api:
        path = api.kubeconfig(tmp_path / "config")
        with pytest.raises(ClusterExists, match="mine"):
            taken(path)
        taken(path, "another")
        with pytest.raises(ClusterExists, match="another"):
            taken(path, "another")
        assert clusters.status("another").state == "running" and ours.read().provider == "embedded"


def test_a_cluster_that_is_too_old_is_not_taken(tmp_path: Path) -> None:
    with LittleApi(version="v1.35.9") as api, pytest.raises(EnvironmentUnsuitable, match=r"v1\.35\.9.* 1\.36"):
        taken(api.kubeconfig(tmp_path / "config"))
    assert clusters.list_clusters() == []


def certificate(days: int) -> str:
    """A client certificate that ends in so many days, in base64."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "me")])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=9), now + timedelta(days=days))
    return base64.b64encode(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)).decode()


def token(seconds: int) -> str:
    """A token that ends in so many seconds."""
    end = json.dumps({"exp": int(datetime.now(UTC).timestamp()) + seconds}).encode()
    return f"e30.{base64.urlsafe_b64encode(end).decode().rstrip('=')}.x"


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ({"client-certificate-data": certificate(-1)}, "its client certificate expired at 20"),
        ({"token": token(-5)}, "its token expired at 20"),
        ({"token": token(86_400)}, "may have expired or been withdrawn"),
        ({"token": "no web token"}, "may have expired or been withdrawn"),
        ({"client-certificate-data": certificate(1)}, "may have expired or been withdrawn"),
    ],
)
def test_credentials_that_have_expired_are_called_so(tmp_path: Path, user: dict[str, str], said: str) -> None:
    with LittleApi(refuse=401) as api:
        path = api.kubeconfig(tmp_path / "config", user=user)
        with pytest.raises(ClusterError, match="401 Unauthorized") as caught:
            taken(path)
    assert said in caught.value.message and "fresh kubeconfig" in (caught.value.hint or "")
    assert f"{path} (context class)" in caught.value.message, "our copy is gone by now: the user's file is meant"
    assert clusters.list_clusters() == []


def test_what_is_said_of_expired_credentials_can_be_done(tmp_path: Path) -> None:
    with LittleApi() as api:
        path = api.kubeconfig(tmp_path / "config")
        taken(path)
        api.add("/api/v1/namespaces/ours", "Namespace", labels=owners.labels())
        api.refuse = 401
        with pytest.raises(ClusterError) as caught:
            clusters.start("mine")
        assert "`podlab cluster down --forget --name NAME`" in (caught.value.hint or "")
        with pytest.raises(ClusterError, match="401 Unauthorized") as caught:
            clusters.down("mine")
        assert "--forget --name mine" in (caught.value.hint or "")
        clusters.forget("mine")
        api.refuse = 0  # the fresh one is taken
        taken(path)
        clusters.down("mine")
        assert api.names("/api/v1/namespaces") == set(), "what was left before is deleted after all"


def test_only_a_cluster_of_others_can_be_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "provider_of", lambda _name: clusters.provider("embedded"))
    with pytest.raises(ClusterError, match="would run on"):
        clusters.forget("mine")
