"""A small client of the Kubernetes API: plain JSON, no time to import, no library's own cost in the figures."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

Object = dict[str, Any]


class Refused(Exception):
    """The API server answered with an error; `status` is the HTTP status."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"{status}: {body[:400]}")
        self.status = status


class Api:
    """One user of one API server. Each thread has a connection of its own."""

    def __init__(self, server: str, context: ssl.SSLContext) -> None:
        url = urlsplit(server)
        self._host, self._port, self._context = url.hostname or "", url.port, context
        self._mine = threading.local()

    @classmethod
    def of_kubeconfig(cls, path: Path) -> Api:
        """The current user of a kubeconfig that podlab wrote (JSON with its certificates in it)."""
        config = json.loads(path.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]

        def data(where: Object, key: str) -> str:
            return base64.b64decode(where[key]).decode()

        context = ssl.create_default_context(cadata=data(cluster, "certificate-authority-data"))
        with tempfile.NamedTemporaryFile("w") as pair:
            pair.write(data(user, "client-certificate-data") + "\n" + data(user, "client-key-data"))
            pair.flush()
            context.load_cert_chain(pair.name)
        return cls(cluster["server"], context)

    def get(self, path: str, **query: object) -> Object:
        """GET; Refused unless it is found."""
        return self._json("GET", path, None, query)

    def post(self, path: str, body: Object) -> Object:
        """Create an object."""
        return self._json("POST", path, body, {})

    def put(self, path: str, body: Object) -> Object:
        """Replace an object."""
        return self._json("PUT", path, body, {})

    def delete(self, path: str, **query: object) -> Object:
        """Delete an object or a collection."""
        return self._json("DELETE", path, None, query)

    def text(self, path: str, **query: object) -> str:
        """GET of something that is not JSON, such as a log."""
        return self._request("GET", path, None, query).decode(errors="replace")

    def watch(self, path: str, **query: object) -> Iterator[Object]:
        """Events of a watch, until the server or `timeoutSeconds` ends it; has a connection of its own."""
        connection = self._connect()
        try:
            connection.request("GET", _target(path, {**query, "watch": "1"}))
            response = connection.getresponse()
            if response.status != 200:
                raise Refused(response.status, response.read().decode())
            while line := response.readline():
                yield json.loads(line)
        finally:
            connection.close()

    def _json(self, method: str, path: str, body: Object | None, query: dict[str, object]) -> Object:
        return json.loads(self._request(method, path, body, query))

    def _request(self, method: str, path: str, body: Object | None, query: dict[str, object]) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if data else {}
        for fresh in (False, True):
            connection = self._connection(fresh)
            try:
                connection.request(method, _target(path, query), data, headers)
                response = connection.getresponse()
                content = response.read()
                break
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                # A kept connection may have been closed by the server meanwhile; a new one tells the truth.
                if fresh or not isinstance(error, ConnectionResetError | BrokenPipeError):
                    raise
        if response.status >= 400:
            raise Refused(response.status, content.decode(errors="replace"))
        return content

    def _connection(self, fresh: bool) -> http.client.HTTPSConnection:
        if fresh or not hasattr(self._mine, "connection"):
            self._mine.connection = self._connect()
        return self._mine.connection

    def _connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self._host, self._port, context=self._context, timeout=600)


def _target(path: str, query: dict[str, object]) -> str:
    return path + (f"?{urlencode(query)}" if query else "")


PODS = "/api/v1/namespaces/default/pods"
SERVICES = "/api/v1/namespaces/default/services"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


def pod(name: str, container: Object, *, grace: int = 0, **spec: object) -> Object:
    """A pod with the label app=NAME."""
    containers = [{"name": "main", "imagePullPolicy": "IfNotPresent", **container}]
    metadata = {"name": name, "labels": {"app": name}}
    return {"metadata": metadata, "spec": {"terminationGracePeriodSeconds": grace, "containers": containers, **spec}}


def deployment(name: str, replicas: int, container: Object, *, grace: int = 1) -> Object:
    """A Deployment whose pods carry the label app=NAME."""
    labels = {"app": name}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "terminationGracePeriodSeconds": grace,
                    "containers": [{"name": "main", "imagePullPolicy": "IfNotPresent", **container}],
                },
            },
        },
    }


def node_port(name: str, port: int) -> Object:
    """A Service of type NodePort for the pods of that Deployment."""
    ports = [{"port": port, "targetPort": port}]
    return {"metadata": {"name": name}, "spec": {"type": "NodePort", "selector": {"app": name}, "ports": ports}}


def is_ready(pod: Object) -> bool:
    """Whether a pod's condition Ready is true."""
    conditions = pod.get("status", {}).get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
