"""Registering an aggregated API: a certificate of its own for the pod behind it, and the APIService that trusts it."""

from __future__ import annotations

import base64
import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Object = dict[str, Any]

_LIFE = datetime.timedelta(days=365)


def certificate(host: str) -> tuple[bytes, bytes]:
    """A self-signed certificate of `host` for a year and its key, as PEM. Made anew at each enabling."""
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


def custom_metrics() -> list[Object]:
    """The Secret and the APIService of custom.metrics.k8s.io."""
    name, namespace = "custom-metrics", "monitoring"
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
