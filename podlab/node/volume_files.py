"""The files of configMap, secret, downwardAPI and projected volumes. Pure; what they hold comes from outside."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from podlab.node import fields
from podlab.node.atomic import File
from podlab.node.environment import data_of
from podlab.node.fields import Place

DEFAULT_MODE = 0o644
#: A credential is for the pod's user, or its fsGroup, alone where the pod names one (kubelet's rule).
PRIVATE_MODE = 0o600
#: Life of a service account token that does not say, in seconds (Kubernetes' default for projected volumes).
TOKEN_SECONDS = 3600


class VolumeError(Exception):
    """A volume cannot be filled (now): becomes a FailedMount event, and is tried again."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token that a volume needs: its audience (None: the API server's) and its life in seconds."""

    audience: str | None
    seconds: int


@dataclass(frozen=True, slots=True)
class Bundle:
    """Trust anchors that a volume needs: one ClusterTrustBundle by name, or all of a signer by labels.

    `selector` is a LabelSelector as JSON: "null" matches nothing, "{}" everything.
    """

    name: str | None
    signer: str | None
    selector: str
    optional: bool


@dataclass(frozen=True, slots=True)
class Certificate:
    """A key with a certificate chain for the pod that a volume needs; `annotations` is JSON."""

    volume: str
    index: int
    signer: str
    key_type: str
    seconds: int | None
    annotations: str


@dataclass(frozen=True)
class Needs:
    """What must be fetched before `files` can be called."""

    objects: set[tuple[str, str]] = field(default_factory=set)
    tokens: set[Token] = field(default_factory=set)
    bundles: set[Bundle] = field(default_factory=set)
    certificates: set[Certificate] = field(default_factory=set)


@dataclass(frozen=True)
class Fetched:
    """What was fetched: objects (None: there is none), tokens, PEM trust anchors, (key, chain) of certificates."""

    objects: Mapping[tuple[str, str], Mapping[str, Any] | None] = field(default_factory=dict)
    tokens: Mapping[Token, str] = field(default_factory=dict)
    bundles: Mapping[Bundle, bytes] = field(default_factory=dict)
    certificates: Mapping[Certificate, tuple[bytes, bytes]] = field(default_factory=dict)


def _sources(volume: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], int]]:
    """The (kind, source, index) triples of a volume: one, or those of a projected one."""
    if "projected" in volume:
        for index, source in enumerate(volume["projected"].get("sources") or ()):
            for kind in source:
                yield kind, source[kind], index
        return
    for kind in ("configMap", "secret", "downwardAPI"):
        if kind in volume:
            yield kind, volume[kind], 0


def is_file_volume(volume: Mapping[str, Any]) -> bool:
    """Whether the volume consists of files that the node writes."""
    return any(kind in volume for kind in ("configMap", "secret", "downwardAPI", "projected"))


def _object_name(kind: str, source: Mapping[str, Any]) -> tuple[str, str]:
    if kind == "configMap":
        return "configmaps", source["name"]
    return "secrets", source.get("secretName") or source.get("name") or ""


def _token(source: Mapping[str, Any]) -> Token:
    return Token(source.get("audience") or None, int(source.get("expirationSeconds") or TOKEN_SECONDS))


def _bundle(source: Mapping[str, Any]) -> Bundle:
    selector = json.dumps(source.get("labelSelector"), sort_keys=True)
    return Bundle(source.get("name"), source.get("signerName"), selector, bool(source.get("optional")))


def _certificate(volume: Mapping[str, Any], source: Mapping[str, Any], index: int) -> Certificate:
    annotations = json.dumps(source.get("userAnnotations") or {}, sort_keys=True)
    seconds = source.get("maxExpirationSeconds")
    return Certificate(volume["name"], index, source["signerName"], source["keyType"], seconds, annotations)


def needs(volumes: Iterable[Mapping[str, Any]]) -> Needs:
    """What all of `volumes` need."""
    found = Needs()
    for volume in volumes:
        for kind, source, index in _sources(volume):
            match kind:
                case "configMap" | "secret":
                    found.objects.add(_object_name(kind, source))
                case "serviceAccountToken":
                    found.tokens.add(_token(source))
                case "clusterTrustBundle":
                    found.bundles.add(_bundle(source))
                case "podCertificate":
                    found.certificates.add(_certificate(volume, source, index))
    return found


def files(pod: Mapping[str, Any], volume: Mapping[str, Any], place: Place, fetched: Fetched) -> dict[str, File]:
    """The files of one volume by relative path; VolumeError says what is missing or unsupported."""
    whole = volume.get("projected") or next((source for _, source, _ in _sources(volume)), {})
    mode = whole.get("defaultMode", DEFAULT_MODE)
    result: dict[str, File] = {}
    for kind, source, index in _sources(volume):
        match kind:
            case "configMap" | "secret":
                result |= _from_object(kind, source, mode, fetched.objects)
            case "downwardAPI":
                result |= _downward(pod, source, mode, place)
            case "serviceAccountToken":
                result[source["path"]] = _credential(fetched.tokens[_token(source)].encode(), mode, pod)
            case "clusterTrustBundle":
                result[source["path"]] = _credential(fetched.bundles[_bundle(source)], mode, pod)
            case "podCertificate":
                key, chain = fetched.certificates[_certificate(volume, source, index)]
                for field_name, content in (
                    ("credentialBundlePath", key + chain),
                    ("keyPath", key),
                    ("certificateChainPath", chain),
                ):
                    if source.get(field_name):
                        result[source[field_name]] = _credential(content, mode, pod)
            case _:
                raise VolumeError(f"projected source {kind} is not supported by this node")
    return result


def fs_group(pod: Mapping[str, Any]) -> int | None:
    """The group that owns the pod's volumes, if it names one."""
    return (pod["spec"].get("securityContext") or {}).get("fsGroup")


def _credential(content: bytes, mode: int, pod: Mapping[str, Any]) -> File:
    """A file with a secret of the pod: for its user or fsGroup alone where it names one."""
    security = pod["spec"].get("securityContext") or {}
    users = {
        (container.get("securityContext") or {}).get("runAsUser", security.get("runAsUser"))
        for container in [*(pod["spec"].get("initContainers") or ()), *pod["spec"]["containers"]]
    }
    user = users.pop() if len(users) == 1 else None
    private = user is not None or fs_group(pod) is not None
    return File(content, PRIVATE_MODE if private else mode, user)


def _from_object(
    kind: str,
    source: Mapping[str, Any],
    mode: int,
    objects: Mapping[tuple[str, str], Mapping[str, Any] | None],
) -> dict[str, File]:
    key = _object_name(kind, source)
    optional = bool(source.get("optional"))
    found = objects.get(key)
    if found is None:
        if optional:
            return {}
        raise VolumeError(f'{key[0].removesuffix("s")} "{key[1]}" not found')
    data = data_of(key[0], found)
    items = source.get("items")
    if not items:
        return {name: File(content, mode) for name, content in data.items()}
    chosen: dict[str, File] = {}
    for item in items:
        if item["key"] not in data:
            if optional:
                continue
            raise VolumeError(f"references non-existent {kind.lower()} key: {item['key']}")
        chosen[item["path"]] = File(data[item["key"]], item.get("mode", mode))
    return chosen


def _downward(pod: Mapping[str, Any], source: Mapping[str, Any], mode: int, place: Place) -> dict[str, File]:
    chosen: dict[str, File] = {}
    for item in source.get("items") or ():
        try:
            if "fieldRef" in item:
                text = fields.field(pod, item["fieldRef"]["fieldPath"], place)
            else:
                text = fields.resource_of(pod, item["resourceFieldRef"], place)
        except ValueError as error:
            raise VolumeError(str(error)) from error
        chosen[item["path"]] = File(text.encode(), item.get("mode", mode))
    return chosen
