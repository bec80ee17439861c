"""Who may use a node's own API with a bearer token: the API server is asked, as a kubelet's webhook mode does.

The token is reviewed (TokenReview), then what its user wants (SubjectAccessReview): a verb on a part of the node, such
as `get nodes/metrics`. Answers are kept for a while.
Source: https://kubernetes.io/docs/reference/access-authn-authz/kubelet-authn-authz/.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from podlab.node.api import Object

#: Seconds for which an answer holds, as in a kubelet: who a token is, a yes, a no.
KNOWN, ALLOWED, DENIED = 120.0, 300.0, 30.0
#: Answers that are kept at most.
MOST = 1000

#: First part of a path -> the parts of a node of which any may be granted; every other path is the whole node's.
_PARTS: Mapping[str, tuple[str, ...]] = {
    "stats": ("stats",),
    "metrics": ("metrics",),
    "logs": ("log",),
    "pods": ("pods", "proxy"),
    "healthz": ("healthz", "proxy"),
}
_VERBS = {"POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class Unauthenticated(Exception):
    """The token is nobody's."""


class Poster(Protocol):
    """The part of podlab.node.api.ApiClient that is used here."""

    async def post(self, path: str, body: Object) -> Object:
        """Create an object and return what the API server made of it; ApiError otherwise."""


def wanted(method: str, path: str) -> tuple[str, tuple[str, ...]]:
    """The verb of a request, and the parts of the node of which any must be granted."""
    return _VERBS.get(method, "proxy"), _PARTS.get(path.split("/", 2)[1], ("proxy",))


class Webhook:
    """Asks the API server of one cluster for the node `name`."""

    def __init__(self, api: Poster, name: str, now: Callable[[], float] = time.monotonic) -> None:
        self._api, self._name, self._now = api, name, now
        self._kept: dict[tuple[str, ...], tuple[float, Any]] = {}

    async def refusal(self, token: str, method: str, path: str) -> str | None:
        """None if the token's user may do this; else why not. Unauthenticated, and ApiError if nobody can say."""
        user = await self._user(token)
        verb, parts = wanted(method, path)
        for part in parts:
            if await self._allowed(user, verb, part):
                return None
        return f"Forbidden (user={user['username']}, verb={verb}, resource=nodes, subresource(s)=[{' '.join(parts)}])"

    async def _user(self, token: str) -> Object:
        key = ("token", hashlib.sha256(token.encode()).hexdigest())
        if (kept := self._kept_for(key)) is None:
            review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
            answer = await self._api.post("/apis/authentication.k8s.io/v1/tokenreviews", review)
            status = answer.get("status") or {}
            kept = self._keep(key, status.get("user") if status.get("authenticated") else {}, KNOWN)
        if not kept:
            raise Unauthenticated
        found: Object = kept
        return found

    async def _allowed(self, user: Object, verb: str, part: str) -> bool:
        key = ("access", user["username"], user.get("uid", ""), *sorted(user.get("groups") or ()), verb, part)
        if (kept := self._kept_for(key)) is None:
            attributes = {"verb": verb, "version": "v1", "resource": "nodes", "subresource": part, "name": self._name}
            who = {"user": user["username"], "uid": user.get("uid", ""), "groups": user.get("groups") or []}
            if user.get("extra"):
                who["extra"] = user["extra"]
            review = {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "spec": {**who, "resourceAttributes": attributes},
            }
            answer = await self._api.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
            yes = bool((answer.get("status") or {}).get("allowed"))
            kept = self._keep(key, yes, ALLOWED if yes else DENIED)
        return bool(kept)

    def _kept_for(self, key: tuple[str, ...]) -> Any:
        until, answer = self._kept.get(key, (0.0, None))
        return answer if self._now() < until else None

    def _keep(self, key: tuple[str, ...], answer: Any, seconds: float) -> Any:
        while len(self._kept) >= MOST:
            self._kept.pop(next(iter(self._kept)))
        self._kept.pop(key, None)
        self._kept[key] = (self._now() + seconds, answer)
        return answer
