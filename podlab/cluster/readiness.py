"""Whether a cluster that somebody else runs can take a pod, asked with the official client."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from podlab.errors import ClusterError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient


@contextmanager
def client(kubeconfig: Path, context: str | None = None) -> Iterator[ApiClient]:
    """A client of the official library; ClusterError if the cluster does not answer or refuses."""
    import urllib3
    from kubernetes import client as library
    from kubernetes import config

    try:
        made = config.new_client_from_config(config_file=str(kubeconfig), context=context)
        made.configuration.retries = False
        with library.ApiClient(made.configuration) as api:
            yield api
    except config.ConfigException as error:
        raise ClusterError(f"{kubeconfig} leads to no cluster: {error}.") from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise ClusterError(
            f"The cluster of {kubeconfig} does not answer: {reason}.", hint="Is it running, and is this its kubeconfig?"
        ) from error
    except library.ApiException as error:
        raise ClusterError(f"The cluster of {kubeconfig} refuses: {error.status} {error.reason}.") from error


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
