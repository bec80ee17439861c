"""Registering an aggregated API: a certificate of its own for the pod behind it, and the APIService that trusts it."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Callable, Mapping
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Object = dict[str, Any]
#: (kind, name, namespace) -> what is there.
Get = Callable[[str, str, str], Object | None]

_LIFE, _LAST = datetime.timedelta(days=3650), datetime.timedelta(days=365)


def certificate(host: str) -> tuple[bytes, bytes]:
    """A self-signed certificate of `host` for ten years and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + _LIFE)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made.public_bytes(serialization.Encoding.PEM), secret


def lasting(data: Mapping[str, str]) -> bool:
    """Whether a Secret's data is a certificate and its key, good for another year."""
    try:
        public = x509.load_pem_x509_certificate(base64.b64decode(data["tls.crt"]))
        private = serialization.load_pem_private_key(base64.b64decode(data["tls.key"]), None)
    except (KeyError, ValueError):
        return False
    ends = public.not_valid_after_utc
    return private.public_key() == public.public_key() and ends > datetime.datetime.now(datetime.UTC) + _LAST


def custom_metrics(get: Get = lambda *_: None) -> list[Object]:
    """The Secret and the APIService of custom.metrics.k8s.io: around the certificate that `get` finds, if it lasts."""
    name, namespace = "custom-metrics", "monitoring"
    encoded = (get("Secret", name, namespace) or {}).get("data") or {}
    if not lasting(encoded):
        public, private = certificate(f"{name}.{namespace}.svc")
        encoded = {"tls.crt": base64.b64encode(public).decode(), "tls.key": base64.b64encode(private).decode()}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": name, "namespace": namespace},
        "data": encoded,
    }
    service = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": "v1beta2.custom.metrics.k8s.io"},
        "spec": {
            "group": "custom.metrics.k8s.io",
            "version": "v1beta2",
            "groupPriorityMinimum": 100,
            "versionPriority": 200,
            "service": {"name": name, "namespace": namespace, "port": 443},
            "caBundle": encoded["tls.crt"],
        },
    }
    return [secret, service]
