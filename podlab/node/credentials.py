"""What a pod's volumes hold of its identity: tokens, trust anchors, keys with certificates. Renewed in time."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from podlab.errors import WaitTimeout
from podlab.node import clock
from podlab.node.api import ApiClient, NotFound, Object
from podlab.node.objects import authorized, service_account_token
from podlab.node.volume_files import Bundle, Certificate, Needs, Token, VolumeError
from podlab.waiting import until_async

#: A token is renewed after this part of its life, and a day after it was made at the latest (as the kubelet does).
TOKEN_PART, TOKEN_LONGEST = 0.8, 24 * 3600.0
#: Seconds that a pod's start waits for a signer before it says that it waits.
SIGNER_PATIENCE = 5.0
#: Seconds after which a request that nobody answered, and that is gone, is made again.
REQUEST_LIFE = 600.0

_CERTIFICATES = "/apis/certificates.k8s.io/v1"
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


@dataclass(slots=True)
class _KeptToken:
    token: str
    renew_at: float


@dataclass(slots=True)
class _Issued:
    key: bytes
    chain: bytes
    renew_at: float


@dataclass(slots=True)
class _Asked:
    key: bytes
    path: str
    at: float


class PodCredentials:
    """The credentials of one pod on one node, remembered until they must be renewed."""

    def __init__(self, api: ApiClient, node: str) -> None:
        self._api = api
        self._node = node
        self._tokens: dict[Token, _KeptToken] = {}
        self._issued: dict[Certificate, _Issued] = {}
        self._asked: dict[Certificate, _Asked] = {}

    async def tokens(self, pod: Mapping[str, Any], wanted: Iterable[Token]) -> dict[Token, str]:
        """A service account token of the pod for each of `wanted`."""
        now = time.time()
        for token in wanted:
            kept = self._tokens.get(token)
            if kept is None or now >= kept.renew_at:
                text, expires = await service_account_token(
                    self._api, dict(pod), audience=token.audience, seconds=token.seconds
                )
                life = (clock.parse(expires) or now + token.seconds) - now
                self._tokens[token] = _KeptToken(text, now + min(life * TOKEN_PART, TOKEN_LONGEST))
        return {token: self._tokens[token].token for token in wanted}

    async def bundles(self, wanted: Needs) -> dict[Bundle, bytes]:
        """The PEM trust anchors of each bundle, without duplicates; VolumeError if there are none."""
        listed: dict[str, list[Object]] = {}
        for signer in {bundle.signer for bundle in wanted.bundles if not bundle.name and bundle.signer}:
            query = {"fieldSelector": f"spec.signerName={signer}"}
            answer = await self._api.get(f"{_CERTIFICATES}/clustertrustbundles", query=query)
            listed[signer] = answer.get("items") or []
        found = {}
        for bundle in sorted(wanted.bundles, key=repr):
            objects = listed.get(bundle.signer or "", ())
            found[bundle] = anchors(bundle, await self._named(bundle) if bundle.name else chosen(bundle, objects))
        return found

    async def _named(self, bundle: Bundle) -> list[Object]:
        try:
            return [await self._api.get(f"{_CERTIFICATES}/clustertrustbundles/{bundle.name}")]
        except NotFound:
            return []

    async def certificates(
        self, pod: Mapping[str, Any], wanted: Iterable[Certificate]
    ) -> dict[Certificate, tuple[bytes, bytes]]:
        """(key, chain) as PEM for each of `wanted`; VolumeError while a signer has not issued one."""
        found = {}
        for certificate in sorted(wanted, key=repr):
            issued = self._issued.get(certificate)
            if issued is None or time.time() >= issued.renew_at:
                issued = await self._certificate(pod, certificate, 0.0 if issued else SIGNER_PATIENCE) or issued
            if issued is None:
                raise VolumeError(f"the signer {certificate.signer} has not issued a certificate yet")
            found[certificate] = (issued.key, issued.chain)
        return found

    async def _certificate(self, pod: Mapping[str, Any], wanted: Certificate, patience: float) -> _Issued | None:
        """What the signer issued within `patience` seconds, or None."""
        asked = self._asked.get(wanted)
        if asked is None:
            asked = self._asked[wanted] = await self._request(pod, wanted)

        async def answered() -> Object | None:
            status = (await authorized(lambda: self._api.get(asked.path))).get("status") or {}
            return status if status.get("conditions") else None

        try:
            what = f"the signer {wanted.signer} answering"
            status = await until_async(answered, what, timeout=patience, interval=0.2)
        except WaitTimeout:
            return None
        except NotFound:
            if time.time() > asked.at + REQUEST_LIFE:
                del self._asked[wanted]
            return None
        for condition in status["conditions"]:
            if condition["type"] in ("Denied", "Failed"):
                why = f"reason={condition.get('reason')!r} message={condition.get('message')!r}"
                raise VolumeError(f"PodCertificateRequest was permanently {condition['type'].lower()}: {why}")
        del self._asked[wanted]
        renew_at = clock.parse(status.get("beginRefreshAt")) or time.time() + 3600
        issued = self._issued[wanted] = _Issued(asked.key, clean_chain(status["certificateChain"]), renew_at)
        return issued

    async def _request(self, pod: Mapping[str, Any], wanted: Certificate) -> _Asked:
        metadata, spec = pod["metadata"], pod["spec"]
        namespace, account = metadata["namespace"], spec.get("serviceAccountName") or "default"
        key, proof = await asyncio.to_thread(key_and_proof, wanted.key_type)
        account_uid = (
            await authorized(lambda: self._api.get(f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}"))
        )["metadata"]["uid"]
        node_uid = (await self._api.get(f"/api/v1/nodes/{self._node}"))["metadata"]["uid"]
        owner = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
        body: Object = {
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "PodCertificateRequest",
            "metadata": {"generateName": "req-", "ownerReferences": [owner]},
            "spec": {
                "signerName": wanted.signer,
                "podName": metadata["name"],
                "podUID": metadata["uid"],
                "serviceAccountName": account,
                "serviceAccountUID": account_uid,
                "nodeName": self._node,
                "nodeUID": node_uid,
                "stubPKCS10Request": base64.b64encode(proof).decode(),
                "unverifiedUserAnnotations": json.loads(wanted.annotations),
            },
        }
        if wanted.seconds is not None:
            body["spec"]["maxExpirationSeconds"] = wanted.seconds
        path = f"{_CERTIFICATES}/namespaces/{namespace}/podcertificaterequests"
        made = await authorized(lambda: self._api.post(path, body))
        return _Asked(key, f"{path}/{made['metadata']['name']}", time.time())


def chosen(bundle: Bundle, objects: Sequence[Object]) -> list[Object]:
    """Those of a signer's ClusterTrustBundles that the label selector matches."""
    selector = json.loads(bundle.selector)
    return [one for one in objects if selector is not None and matches(selector, one["metadata"].get("labels") or {})]


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a LabelSelector matches `labels`; an empty one matches everything."""
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for expression in selector.get("matchExpressions") or ():
        value, values = labels.get(expression["key"]), expression.get("values") or ()
        holds = {
            "In": value is not None and value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not holds[expression["operator"]]:
            return False
    return True


def anchors(bundle: Bundle, objects: Sequence[Object]) -> bytes:
    """The trust anchors of `objects` as PEM, each once; VolumeError if there are none and some are needed."""
    if not objects and not bundle.optional:
        what = f'"{bundle.name}"' if bundle.name else f"of signer {bundle.signer} with these labels"
        raise VolumeError(f"there is no ClusterTrustBundle {what}")
    found = {block for one in objects for block in _blocks(one["spec"]["trustBundle"])}
    return b"".join(sorted(found))


def clean_chain(text: str) -> bytes:
    """A certificate chain without what stands between its certificates."""
    return b"".join(_blocks(text))


def _blocks(text: str) -> list[bytes]:
    """The certificates of a PEM text, one block each, in lines of 64 characters."""
    found = []
    for part in text.split(_BEGIN)[1:]:
        body = "".join(line.strip() for line in part.partition(_END)[0].splitlines() if ":" not in line)
        lines = [body[start : start + 64] for start in range(0, len(body), 64)]
        found.append("\n".join([_BEGIN, *lines, _END, ""]).encode())
    return found


def key_and_proof(kind: str) -> tuple[bytes, bytes]:
    """A new private key (PKCS #8 as PEM) and an empty PKCS #10 request (DER) that proves its possession."""
    from cryptography import x509  # 15 MiB that only pods with certificates need
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    makers: Mapping[str, Callable[[], Any]] = {
        "RSA3072": lambda: rsa.generate_private_key(65537, 3072),
        "RSA4096": lambda: rsa.generate_private_key(65537, 4096),
        "ECDSAP256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "ECDSAP384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "ECDSAP521": lambda: ec.generate_private_key(ec.SECP521R1()),
        "ED25519": ed25519.Ed25519PrivateKey.generate,
    }
    if kind not in makers:
        raise VolumeError(f"unknown key type {kind!r}")
    key = makers[kind]()
    digest = {"ECDSAP384": hashes.SHA384(), "ECDSAP521": hashes.SHA512(), "ED25519": None}.get(kind, hashes.SHA256())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, digest)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem, request.public_bytes(serialization.Encoding.DER)
