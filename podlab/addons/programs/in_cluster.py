"""The API server as a pod's program sees it: the service account's token, the cluster's certificate."""

from __future__ import annotations

import json
import os
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TIMEOUT = 10.0

Object = dict[str, Any]


class ApiServer:
    """GET requests with this pod's own rights. `base` and `account` are given in tests."""

    def __init__(self, base: str = "", account: Path = ACCOUNT) -> None:
        host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        self._base = base or f"https://{host}:{port}"
        self._account = account
        authority = account / "ca.crt"
        self._tls = ssl.create_default_context(cafile=str(authority)) if authority.exists() else None

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Object:
        """Return the decoded answer; OSError (urllib.error.HTTPError with the status) if there is none."""
        url = self._base + path + (f"?{urllib.parse.urlencode(query)}" if query else "")
        request = urllib.request.Request(url, headers={"Accept": "application/json"})
        token = self._account / "token"
        if token.exists():  # read each time: the kubelet renews it
            request.add_header("Authorization", f"Bearer {token.read_text().strip()}")
        with urllib.request.urlopen(request, timeout=TIMEOUT, context=self._tls) as answer:
            found: Object = json.load(answer)
        return found

    def list(self, path: str, query: Mapping[str, str] | None = None) -> list[Object]:
        """The items of a collection, from the API server's cache (resourceVersion 0)."""
        return self.get(path, {"resourceVersion": "0", **(query or {})}).get("items") or []
