"""The Kubernetes API as plain dictionaries, over the official client's connection settings.

Used by checks, labs and widgets. Errors carry the API server's own sentence, since that is what a learner
has to learn to read.
"""

from __future__ import annotations

import json
import logging
import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import urllib3
import yaml

from podlab import proxies
from podlab.errors import PodlabError

if TYPE_CHECKING:
    from kubernetes import client as kubernetes_client

Object = dict[str, Any]

#: urllib3 reports retries through logging, which would end on stderr, and stderr costs points in nbgrader.
logging.getLogger("urllib3").addHandler(logging.NullHandler())
logging.getLogger("urllib3").propagate = False


#: Seconds for the second try of what only reads: with the first, about as long as the API server itself takes at most.
AGAIN = 45.0


class ApiAway(PodlabError):
    """The API server does not answer: nothing can be said of the cluster."""


#: The path of what the API server only hands on, and who answers it.
_BEHIND = re.compile(r"/api/v1/(?:namespaces/[^/]+/)?(pod|service|node)s/([^/]+)/proxy/")

#: What an authorizer says, whichever it is; what is against a rule of the cluster (a quota, say) is 403 as well.
_RIGHT = re.compile(r'cannot \S+ resource "|attempting to grant RBAC permissions')


class ApiError(PodlabError):
    """The API server refused a request; `status` is the HTTP status, `reason` Kubernetes' word for it."""

    def __init__(self, status: int, reason: str, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason
        if self.lacks_right:
            self.hint = (
                "Ask those who run the cluster for this right. docs/clusters.md, “What you may do there”, says what "
                "labs and checks need, and what to do without."
            )

    @property
    def lacks_right(self) -> bool:
        """Whether the user of the kubeconfig lacks a right, which the message names."""
        return self.status == 403 and bool(_RIGHT.search(self.message))

    @property
    def server(self) -> bool:
        """Whether the server, and not what was asked of it, is in the way: it is overloaded, or has failed."""
        return self.status >= 500 or self.status == 429


def permitted(answer: urllib3.BaseHTTPResponse) -> urllib3.BaseHTTPResponse:
    """What came through the API server's proxy; ApiError where that lets the user not through, who lacks the right."""
    if answer.status == 403:
        try:
            said = json.loads(answer.data)
            refused = ApiError(403, said["reason"], said["message"])
        except (ValueError, KeyError, TypeError):
            return answer  # words of the program behind the proxy
        if refused.lacks_right:
            raise refused
    return answer


@dataclass(frozen=True)
class Resource:
    """How a kind is addressed: its group and version, its plural, whether it lives in a namespace."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool

    def path(self, namespace: str | None, name: str | None = None) -> str:
        """Path of the collection, or of one object of it."""
        root = f"/api/{self.api_version}" if "/" not in self.api_version else f"/apis/{self.api_version}"
        place = f"/namespaces/{quote(namespace or 'default')}" if self.namespaced else ""
        return f"{root}{place}/{self.plural}" + (f"/{quote(name)}" if name else "")


class Api:
    """A connection to one cluster, optionally acting as another user (impersonation, so RBAC really decides)."""

    def __init__(
        self,
        api_client: kubernetes_client.ApiClient,
        *,
        user: str | None = None,
        kubeconfig: Path | str | None = None,
    ) -> None:
        self.client = api_client
        self.user = user
        self.kubeconfig = kubeconfig
        self._resources: dict[str, list[Object]] = {}

    @classmethod
    def connect(cls, kubeconfig: Path | str | None = None, context: str | None = None) -> Api:
        """Connect with a kubeconfig file (None: KUBECONFIG, ~/.kube/config); PodlabError if it is unusable."""
        # A third of what a notebook takes to start; many need no cluster.
        from kubernetes import config as kubernetes_config

        try:
            api_client = proxies.api_client(kubeconfig, context, persist_config=False)
        except (kubernetes_config.ConfigException, OSError, yaml.YAMLError) as error:
            raise ApiAway(
                f"No cluster can be reached through {kubeconfig or 'the default kubeconfig'}: {error}.",
                hint=_remedy(kubeconfig),
            ) from error
        return cls(api_client, kubeconfig=kubeconfig)

    def as_user(self, user: str) -> Api:
        """The same connection acting as `user`."""
        return Api(self.client, user=user, kubeconfig=self.kubeconfig)

    def raw(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        timeout: float = 15.0,
        stream: bool = False,
        again: float = 0,
        accept: str = "application/json",
    ) -> urllib3.BaseHTTPResponse:
        """One HTTP exchange, whatever its status; ApiAway when there is no answer within `timeout` seconds.

        `again`: seconds for a second try where the first had no answer in time or its connection had died.
        """
        headers = {"Accept": accept}
        for setting in self.client.configuration.auth_settings().values():
            headers[setting["key"]] = setting["value"]
        if self.user:
            headers["Impersonate-User"] = self.user
            headers["Impersonate-Group"] = "system:authenticated"
        data: bytes | None = None
        if body is not None:
            headers["Content-Type"] = content_type
            data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        url = self.client.configuration.host + path + (f"?{urlencode(query)}" if query else "")
        away: Exception
        for seconds in (timeout, again) if again else (timeout,):
            try:
                return self.client.rest_client.pool_manager.request(
                    method,
                    url,
                    body=data,
                    headers=headers,
                    retries=False,
                    redirect=False,
                    preload_content=not stream,
                    # To connect is to shake hands, too, for which a busy server needs a processor.
                    timeout=urllib3.Timeout(connect=max(5.0, seconds), read=seconds),
                )
            except (urllib3.exceptions.ReadTimeoutError, urllib3.exceptions.ProtocolError) as error:
                away = error
            except (urllib3.exceptions.HTTPError, ssl.SSLError, OSError) as error:
                away = error
                break
        behind = _BEHIND.match(path)
        if behind and isinstance(away, urllib3.exceptions.ReadTimeoutError):
            kind, what = behind.groups()
            raise ApiAway(
                f"The {kind} {what} did not answer within {seconds:g} s, asked through the API server's proxy.",
                hint="It may be busy, or hang; or else it is the API server itself: see `podlab cluster status`.",
            ) from away
        raise ApiAway(
            f"The API server at {self.client.configuration.host} does not answer: {_short(away)}.",
            hint=_remedy(self.kubeconfig),
        ) from away

    def request(self, method: str, path: str, **options: Any) -> Object:
        """One exchange whose answer is an object; ApiError with the server's words for any refusal.

        What only reads is tried once more, unless the caller says how long it may take.
        """
        if method == "GET" and "timeout" not in options:
            options["again"] = AGAIN
        response = self.raw(method, path, **options)
        try:
            answer = json.loads(response.data) if response.data else {}
        except ValueError:
            answer = {"message": response.data.decode("utf-8", "replace")[:500]}
        if response.status >= 400:
            reason = answer.get("reason", "") if isinstance(answer, dict) else ""
            text = answer.get("message", "") if isinstance(answer, dict) else str(answer)
            # The API server calls an unknown field in a server-side apply its own error (500); it is the sender's.
            status = 400 if "field not declared in schema" in text else response.status
            raise ApiError(status, reason, text or f"HTTP {response.status} for {method} {path}")
        return answer

    def resource(self, kind: str, api_version: str | None = None) -> Resource:
        """How `kind` is addressed: any of Pod, pod, pods, po. Searches the common groups without `api_version`."""
        wanted = kind.lower()
        for version in [api_version] if api_version else COMMON_VERSIONS:
            for entry in self._discover(version):
                if "/" in entry["name"]:
                    continue
                names = {entry["kind"].lower(), entry["name"], entry.get("singularName", "")}
                if wanted in names | set(entry.get("shortNames", ())):
                    return Resource(version, entry["kind"], entry["name"], entry["namespaced"])
        where = f"{api_version} has" if api_version else "The API has"
        raise ApiError(404, "NotFound", f"{where} no kind {kind!r}.")

    def _discover(self, api_version: str) -> list[Object]:
        if api_version not in self._resources:
            path = f"/api/{api_version}" if "/" not in api_version else f"/apis/{api_version}"
            try:
                self._resources[api_version] = self.request("GET", path).get("resources", [])
            except ApiError as error:
                if error.status != 404:
                    raise
                return []
        return self._resources[api_version]

    def get(self, kind: str, name: str, namespace: str | None = None) -> Object | None:
        """One object, or None if there is none of that name."""
        try:
            return self.request("GET", self.resource(kind).path(namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def list(self, kind: str, namespace: str | None = None, **query: str) -> list[Object]:
        """The objects of a kind, in one namespace or (None) in all."""
        resource = self.resource(kind)
        path = resource.path(namespace) if namespace else everywhere(resource)
        return self.request("GET", path, query=query or None).get("items", [])

    def apply(self, document: Object, namespace: str, *, manager: str = "podlab", dry_run: bool = False) -> Object:
        """Server-side apply of one object; unknown fields are refused by name (fieldValidation=Strict)."""
        resource = self.resource(str(document.get("kind", "")), str(document.get("apiVersion", "")) or None)
        name = (document.get("metadata") or {}).get("name")
        if not name:
            raise ApiError(422, "Invalid", f"The {resource.kind} has no metadata.name.")
        query = {"fieldManager": manager, "force": "true", "fieldValidation": "Strict"}
        if dry_run:
            query["dryRun"] = "All"
        place = (document["metadata"].get("namespace") or namespace) if resource.namespaced else None
        return self.request(
            "PATCH",
            resource.path(place, name),
            query=query,
            body=document,
            content_type="application/apply-patch+yaml",
            again=AGAIN,  # applied twice it is the same
        )

    def delete(self, kind: str, name: str, namespace: str | None = None, *, grace: int | None = None) -> bool:
        """Ask for the deletion of one object; False if there was none. Does not wait."""
        body: Object = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        if grace is not None:
            body["gracePeriodSeconds"] = grace
        try:
            self.request("DELETE", self.resource(kind).path(namespace, name), body=body)
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True

    def watch(self, kind: str, namespace: str | None, version: str, seconds: int = 30) -> Iterator[Object]:
        """Watch events after `version` for at most `seconds`; ends, or raises ApiAway, and then one must list again."""
        resource = self.resource(kind)
        path = resource.path(namespace) if namespace else everywhere(resource)
        query = {
            "watch": "true",
            "resourceVersion": version,
            "timeoutSeconds": seconds,
            "allowWatchBookmarks": "true",
        }
        response = self.raw("GET", path, query=query, timeout=seconds + 30, stream=True)
        if response.status >= 400:
            try:
                told = json.loads(response.data)
            except ValueError:
                told = {}
            raise ApiError(response.status, told.get("reason", ""), told.get("message", f"HTTP {response.status}"))
        rest = b""
        try:
            for piece in response.stream(65536):
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    if line:
                        yield json.loads(line)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ApiAway(f"The watch of {resource.plural} ended: {_short(error)}.") from error
        finally:
            response.release_conn()
            response.close()


#: Where a kind is looked for when a learner says only "pods" or "deploy".
COMMON_VERSIONS = (
    "v1",
    "apps/v1",
    "batch/v1",
    "policy/v1",
    "networking.k8s.io/v1",
    "autoscaling/v2",
    "rbac.authorization.k8s.io/v1",
    "discovery.k8s.io/v1",
    "coordination.k8s.io/v1",
    "storage.k8s.io/v1",
    "scheduling.k8s.io/v1",
    "apiextensions.k8s.io/v1",
)


def everywhere(resource: Resource) -> str:
    """Path of the collection in all namespaces."""
    root = f"/api/{resource.api_version}" if "/" not in resource.api_version else f"/apis/{resource.api_version}"
    return f"{root}/{resource.plural}"


def _remedy(kubeconfig: Path | str | None) -> str:
    """What brings the cluster back to which a kubeconfig leads."""
    from podlab.cluster import clusters

    if name := clusters.of_kubeconfig(kubeconfig):
        return clusters.remedy(name)
    leads = f"Does the cluster run to which {kubeconfig or 'the default kubeconfig'} leads, and is the file right?"
    return f"{leads} `podlab cluster up` makes one of your own."


def _short(error: BaseException) -> str:
    text = str(error).split("\n")[0]
    return text.rsplit("object at", 1)[-1].split(">: ")[-1].rstrip(".)")[:200] or type(error).__name__


class _Loader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: what looks like a date is text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in entries if tag != "tag:yaml.org,2002:timestamp"]
    for first, entries in yaml.SafeLoader.yaml_implicit_resolvers.items()
}

#: Values that one text may hold when its aliases are written out.
MOST_VALUES = 20_000


def documents(text: str) -> list[Object]:
    """The objects of a YAML text, Lists unfolded; ValueError says in plain words what is wrong and where."""
    if not isinstance(text, str):
        raise ValueError(f"YAML text is wanted, not {type(text).__name__}")
    try:
        found = [document for document in yaml.load_all(text, _Loader) if document is not None]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ValueError(f"the text is not YAML{where}: {getattr(error, 'problem', None) or error}") from error
    except (RecursionError, ValueError) as error:
        raise ValueError(f"the text is not YAML: {str(error)[:200] or 'nested too deeply'}") from error
    if _values(found, {}, ()) > MOST_VALUES:
        raise ValueError(f"the text holds more than {MOST_VALUES} values once its aliases are written out")
    objects: list[Object] = []
    for document in found:
        is_list = isinstance(document, dict) and document.get("kind") == "List"
        for item in (document.get("items") or []) if is_list else [document]:
            objects.append(_object(item))
    if not objects:
        raise ValueError("there is no object in the text")
    return objects


def _object(item: Any) -> Object:
    if not isinstance(item, dict):
        raise ValueError(f"a document is a {type(item).__name__}, not an object with apiVersion and kind")
    for key, kind in (("apiVersion", str), ("kind", str), ("metadata", dict)):
        if not item.get(key):
            raise ValueError(f"an object has no {key}")
        if not isinstance(item[key], kind):
            raise ValueError(f"an object's {key} is a {type(item[key]).__name__}")
    return item


def _values(node: Any, known: dict[int, int], above: tuple[int, ...]) -> int:
    """How many values `node` holds with shared parts counted each time; ValueError if it holds itself."""
    if not isinstance(node, dict | list):
        return 1
    if id(node) in above:
        raise ValueError("the text is not YAML for an object: an alias refers to what it is part of")
    if id(node) not in known:
        parts = [*node.values(), *node.keys()] if isinstance(node, dict) else node
        known[id(node)] = 1 + sum(_values(part, known, (*above, id(node))) for part in parts)
    return known[id(node)]
