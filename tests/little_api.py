"""A little Kubernetes API: objects in a dictionary, rights that are refused; no controllers, no pods that run.

with LittleApi(forbidden={"namespaces"}) as api:
    api.kubeconfig(path)
"""

from __future__ import annotations

import http.server
import itertools
import json
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import yaml

Object = dict[str, Any]

#: Group version -> (plural, kind, whether it lives in a namespace).
KINDS = {
    "v1": [
        ("namespaces", "Namespace", False),
        ("nodes", "Node", False),
        *(
            (kind.lower() + "s", kind, True)
            for kind in (
                *("Pod", "Service", "Secret", "ConfigMap", "PersistentVolumeClaim", "ReplicationController"),
                "ServiceAccount",
            )
        ),
    ],
    "apps/v1": [(f"{kind.lower()}s", kind, True) for kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet")],
    "batch/v1": [("jobs", "Job", True), ("cronjobs", "CronJob", True)],
    "policy/v1": [("poddisruptionbudgets", "PodDisruptionBudget", True)],
    "networking.k8s.io/v1": [("ingresses", "Ingress", True), ("networkpolicies", "NetworkPolicy", True)],
    "autoscaling/v2": [("horizontalpodautoscalers", "HorizontalPodAutoscaler", True)],
}


class LittleApi:
    """The server. `objects`: by path; `forbidden`: plurals that nobody may touch; `refuse`: a status for everything.

    `users` and `tokens`: as whom, and with which, it was asked. `whole`: lists that were read with all that is in them.
    """

    def __init__(self, *, version: str = "v1.37.2", forbidden: Iterable[str] = (), refuse: int = 0) -> None:
        self.version, self.forbidden, self.refuse = version, set(forbidden), refuse
        self.objects: dict[str, Object] = {}
        self.users: set[str] = set()
        self.tokens: set[str] = set()
        self.whole: list[str] = []
        self._numbers = itertools.count(1)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def kubeconfig(self, path: Path, *, name: str = "class", user: Object | None = None) -> Path:
        """Write a kubeconfig that leads here, with one context of that name."""
        content = {
            "contexts": [{"name": name, "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": self.address}}],
            "users": [{"name": "u", "user": user or {}}],
            "current-context": name,
        }
        path.write_text(yaml.safe_dump(content))
        return path

    def add(self, path: str, kind: str, **metadata: Any) -> None:
        """Put an object there, as if somebody else had made it."""
        self.objects[path] = {"kind": kind, "metadata": {"name": path.rpartition("/")[2], **metadata}}

    def names(self, folder: str) -> set[str]:
        """What is in a collection now."""
        return {path.rpartition("/")[2] for path in self.objects if path.rpartition("/")[0] == folder}

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Object]:
        """Status and body of one request."""
        if self.refuse:
            return self.refuse, {"message": "Unauthorized"}
        if path.rstrip("/") == "/version":
            major, minor = self.version.removeprefix("v").split(".")[:2]
            return 200, {"major": major, "minor": minor, "gitVersion": self.version, **dict.fromkeys(_VERSION, "")}
        if path.endswith("/selfsubjectaccessreviews"):
            asked = body["spec"]["resourceAttributes"]["resource"]
            return 201, body | {"status": {"allowed": asked not in self.forbidden}}
        version = path.removeprefix("/apis/").removeprefix("/api/")
        if version in KINDS:
            every = {"singularName": "", "verbs": ["get", "list"]}
            return 200, {"resources": [{"name": p, "kind": k, "namespaced": n, **every} for p, k, n in KINDS[version]]}
        if path == "/apis":
            groups = [version for version in KINDS if "/" in version]
            rows = [{"name": one.partition("/")[0], "preferredVersion": {"groupVersion": one}} for one in groups]
            return 200, {"groups": rows}
        if plural := next((part for part in path.split("/") if part in self.forbidden), ""):
            asked = {"GET": "list", "POST": "create", "DELETE": "delete"}.get(method, "patch")
            said = f'{plural} is forbidden: User "me" cannot {asked} resource "{plural}" in API group ""'
            return 403, {"reason": "Forbidden", "message": said}
        if method == "POST":
            return self._put(f"{path}/{body['metadata']['name']}", body, new=True)
        if path.endswith("/scale") and path.removesuffix("/scale") not in self.objects:
            return 404, {"reason": "NotFound", "message": f"{path} not found"}
        if method in ("PUT", "PATCH"):
            return self._put(path, body, new=False)
        if method == "DELETE":
            return (200, {}) if self.objects.pop(path, None) else (404, {"message": "not found"})
        if path in self.objects:
            return 200, self.objects[path]
        if any(path.endswith(f"/{plural}") for rows in KINDS.values() for plural, _, _ in rows):
            return 200, {"items": [one for each, one in self.objects.items() if _fits(each, one, path, query)]}
        return 404, {"reason": "NotFound", "message": f"{path} not found"}

    def _put(self, path: str, body: Object, *, new: bool) -> tuple[int, Object]:
        there = self.objects.get(path, {"metadata": {}})
        wanted = body["metadata"].get("resourceVersion")
        if (new and path in self.objects) or (wanted and wanted != there["metadata"].get("resourceVersion")):
            return 409, {"reason": "Conflict", "message": f"{path} has been changed"}
        if there.get("immutable") and body.get("data") != there.get("data"):
            return 422, {"reason": "Invalid", "message": "data: Forbidden: field is immutable when `immutable` is set"}
        self.objects[path] = body | {"metadata": body["metadata"] | {"resourceVersion": str(next(self._numbers))}}
        return 201, self.objects[path]


_VERSION = ("buildDate", "compiler", "gitCommit", "gitTreeState", "goVersion", "platform")


def _fits(path: str, item: Object, collection: str, query: dict[str, str]) -> bool:
    key, _, value = query.get("labelSelector", "").partition("=")
    labels = item["metadata"].get("labels") or {}
    return path.rpartition("/")[0] == collection and (not key or (key in labels and value in ("", labels[key])))


def _handler(api: LittleApi) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            api.users.add(self.headers.get("Impersonate-User", ""))
            api.tokens.add(self.headers.get("Authorization", "").removeprefix("Bearer "))
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            status, answer = api.answer(self.command, parts.path, query, json.loads(data) if data else None)
            if "items" in answer:
                if "as=PartialObjectMetadataList" in self.headers.get("Accept", ""):
                    answer = {"items": [{"metadata": item["metadata"]} for item in answer["items"]]}
                else:
                    api.whole.append(parts.path)
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

        def log_message(self, *_: object) -> None:
            pass

    return Handler
