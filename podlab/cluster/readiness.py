"""Whether a cluster that somebody else runs can take a pod, asked with the official client."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from podlab import proxies
from podlab.errors import ClusterError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

#: What helps against credentials that are too old.
FRESH = (
    "Get a fresh kubeconfig from those who run the cluster (in a cloud: log in again), then take the cluster up anew: "
    "`podlab cluster down --forget --name NAME`, `podlab cluster up --provider existing --name NAME`."
)


@contextmanager
def client(kubeconfig: Path, context: str | None = None, *, called: str = "") -> Iterator[ApiClient]:
    """A client of the official library; ClusterError if the cluster does not answer or refuses.

    `called`: what errors call the kubeconfig, where it is a copy of one that the user knows.
    """
    import urllib3
    from kubernetes import client as library
    from kubernetes import config

    called = called or str(kubeconfig)
    try:
        made = proxies.api_client(kubeconfig, context)
        made.configuration.retries = False
        with library.ApiClient(made.configuration) as api:
            need_credentials(api, kubeconfig, called)
            yield api
    except config.ConfigException as error:
        raise ClusterError(f"{called} leads to no cluster: {error}.") from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        ended = f" Besides, {found}." if (found := expired(kubeconfig)) else ""
        raise ClusterError(
            f"The cluster of {called} does not answer: {reason}.{ended}",
            hint=FRESH if ended or "expired" in str(reason) else "Is it running, and is this its kubeconfig?",
        ) from error
    except library.ApiException as error:
        if error.status == 401:
            raise ClusterError(unauthorized(kubeconfig, called), hint=FRESH) from error
        raise ClusterError(f"The cluster of {called} refuses: {error.status} {error.reason}.{_said(error)}") from error


def _said(error: Any) -> str:
    """The API server's own sentence, where it has sent one."""
    try:
        return f" {json.loads(error.body)['message']}"
    except (ValueError, KeyError, TypeError):
        return ""


def unauthorized(kubeconfig: Path, called: str = "") -> str:
    """What is said where the API server answers 401; `called` as in `client`."""
    why = expired(kubeconfig) or "they may have expired or been withdrawn"
    return f"The cluster of {called or kubeconfig} does not take its credentials (401 Unauthorized): {why}."


def need_credentials(api: ApiClient, kubeconfig: Path, called: str = "") -> None:
    """ClusterError where a program was to give the credentials and has given none: we would be taken for anybody."""
    given, plugin = api.configuration, _user(kubeconfig).get("exec")
    if plugin and not (given.api_key or given.cert_file):
        raise ClusterError(
            f"{plugin['command']}, from which {called or kubeconfig} gets its credentials, gave none.",
            hint="Run it by hand to see why; in a cloud, log in again.",
        )


def _user(kubeconfig: Path) -> dict[str, Any]:
    """The user of a kubeconfig's current context; empty where there is none, which is another error's to say."""
    try:
        config = yaml.safe_load(kubeconfig.read_text())
        contexts = {entry["name"]: entry["context"] for entry in config["contexts"]}
        users = {entry["name"]: entry["user"] for entry in config["users"]}
        return users[contexts[config["current-context"]]["user"]] or {}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError):
        return {}


def expired(kubeconfig: Path) -> str:
    """Which credential in the kubeconfig's current context is too old, and since when; "" if none is known to be."""
    try:
        user = _user(kubeconfig)
        ends = {"client certificate": _end_of_certificate(user), "token": _end_of_token(user)}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return ""  # what is wrong with it is another error's to say
    now = datetime.now(UTC)
    late = [f"its {what} expired at {end:%Y-%m-%d %H:%M} UTC" for what, end in ends.items() if end and end < now]
    return " and ".join(late)


def _end_of_certificate(user: dict[str, Any]) -> datetime | None:
    from cryptography import x509

    if data := user.get("client-certificate-data"):
        return x509.load_pem_x509_certificate(base64.b64decode(data)).not_valid_after_utc
    if path := user.get("client-certificate"):
        return x509.load_pem_x509_certificate(Path(path).read_bytes()).not_valid_after_utc
    return None


def _end_of_token(user: dict[str, Any]) -> datetime | None:
    """When a token ends that says so itself (a JSON web token); None for others."""
    token = user.get("token") or (Path(user["tokenFile"]).read_text() if user.get("tokenFile") else "")
    parts = token.strip().split(".")
    if len(parts) != 3:
        return None
    end = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))).get("exp")
    return datetime.fromtimestamp(end, UTC) if end else None


def not_ready(api: ApiClient, nodes: Sequence[str]) -> tuple[str, str]:
    """The cluster's version, and what still keeps a pod of namespace `default` from running ("" if nothing does)."""
    from kubernetes import client as library

    version = library.VersionApi(api).get_code(_request_timeout=5).git_version
    core: Any = library.CoreV1Api(api)  # its models say of every field that it may be missing
    found = {node.metadata.name: node for node in core.list_node(_request_timeout=5).items}
    for name in nodes:
        node = found.get(name)
        if node is None:
            return version, f"{name} has not registered"
        ready = next((one for one in node.status.conditions or [] if one.type == "Ready"), None)
        if ready is None or ready.status != "True":
            return version, f"{name}: {(ready and ready.message) or 'not Ready'}"
    accounts = core.list_namespaced_service_account("default", _request_timeout=5).items
    return version, "" if accounts else "the namespace default has no service account yet"
