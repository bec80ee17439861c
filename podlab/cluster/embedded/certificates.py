"""The certificates of one cluster: its own authority, servers, clients and the service-account key pair.

Pure functions make keys and certificates; `write` is the only one that touches the disk (files 0600).
Elliptic-curve keys (P-256) everywhere, because they take no time to make; RSA for service-account tokens,
which learners decode with tools that expect RS256.

Run as a program (`python -m podlab.cluster.embedded.certificates FOLDER 1 2 3`) it writes the files, so that
the supervisor can make certificates beside its own start without keeping `cryptography` in memory.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from podlab.cluster.embedded.identities import CONTROL_PLANE, Request, node_name, node_requests

#: Validity. Clusters are short-lived; a year avoids surprises and needs no renewal machinery.
LIFETIME = datetime.timedelta(days=365)
#: Certificates begin a little in the past, so that a clock that is corrected backwards does no harm.
SKEW = datetime.timedelta(minutes=10)


@dataclass(frozen=True)
class Pair:
    """A certificate with its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def pem(self) -> tuple[bytes, bytes]:
        """Certificate and key as PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM), _private_pem(self.key)


def new_authority(common_name: str) -> Pair:
    """A new self-signed certificate authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(common_name, None)
    usage = x509.KeyUsage(True, False, True, False, False, True, True, False, False)
    builder = _builder(subject, subject, key).add_extension(x509.BasicConstraints(True, None), critical=True)
    return Pair(builder.add_extension(usage, critical=True).sign(key, hashes.SHA256()), key)


def issue(request: Request, authority: Pair) -> Pair:
    """A new key and certificate as `request` says, signed by `authority`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(request.common_name, request.organization)
    uses = [ExtendedKeyUsageOID.SERVER_AUTH] if request.server else []
    uses += [ExtendedKeyUsageOID.CLIENT_AUTH] if request.client else []
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    builder = (
        _builder(subject, authority.certificate.subject, key)
        .add_extension(x509.BasicConstraints(False, None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(_authority_identifier(authority), critical=False)
    )
    if request.names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_general_name(n) for n in request.names]), critical=False
        )
    return Pair(builder.sign(authority.key, hashes.SHA256()), key)


def service_account_keys() -> tuple[bytes, bytes]:
    """Private and public RSA key (2048 bits) as PEM, for signing and checking service-account tokens."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return _private_pem(key), public


def all_files(nodes: Iterable[int]) -> dict[str, bytes]:
    """File name -> contents of a new cluster's pki folder, with the certificates of the given nodes."""
    authorities = {name: new_authority(name) for name in ("ca", "front-proxy-ca")}
    requests = dict(CONTROL_PLANE)
    for index in nodes:
        requests.update(node_requests(index))
    pairs = {name: issue(request, authorities[request.authority]) for name, request in requests.items()}
    files: dict[str, bytes] = {}
    for name, pair in {**authorities, **pairs}.items():
        files[f"{name}.crt"], files[f"{name}.key"] = pair.pem()
    files["service-account.key"], files["service-account.pub"] = service_account_keys()
    return files


def node_files(index: int, pki: Path) -> dict[str, bytes]:
    """File name -> contents of the certificates of one more node, signed by the authority kept in `pki`."""
    certificate = x509.load_pem_x509_certificate((pki / "ca.crt").read_bytes())
    key = serialization.load_pem_private_key((pki / "ca.key").read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{pki / 'ca.key'} is not an elliptic-curve key")
    files: dict[str, bytes] = {}
    for name, request in node_requests(index).items():
        files[f"{name}.crt"], files[f"{name}.key"] = issue(request, Pair(certificate, key)).pem()
    return files


def write(files: Mapping[str, bytes], pki: Path) -> None:
    """Write `files` into the private folder `pki`, each with mode 0600."""
    pki.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, contents in files.items():
        descriptor = os.open(pki / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(contents)


def ensure(pki: Path, nodes: Sequence[int]) -> None:
    """Make what is missing in `pki`: everything for a new cluster, only new nodes' files for an old one."""
    if not (pki / "service-account.pub").exists():
        write(all_files(nodes), pki)
        return
    for index in nodes:
        if not (pki / f"{node_name(index)}-serving.key").exists():
            write(node_files(index, pki), pki)


def _subject(common_name: str, organization: str | None) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organization:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(attributes)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    start = datetime.datetime.now(datetime.UTC) - SKEW
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + LIFETIME)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _authority_identifier(authority: Pair) -> x509.AuthorityKeyIdentifier:
    identifier = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier.value)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _private_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


if __name__ == "__main__":
    ensure(Path(sys.argv[1]), [int(index) for index in sys.argv[2:]])
