"""Certificates: who signed them, whom they name, what they may be used for, and who may read the keys."""

from __future__ import annotations

import ipaddress
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from podlab.cluster.embedded import certificates, identities
from podlab.network import addresses


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return certificates.all_files([1, 2])


def load(files: dict[str, bytes], name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(files[f"{name}.crt"])


def subject(certificate: x509.Certificate, kind: x509.ObjectIdentifier) -> list[str]:
    return [str(attribute.value) for attribute in certificate.subject.get_attributes_for_oid(kind)]


@pytest.mark.parametrize(
    ("name", "common_name", "organizations"),
    [
        ("admin", "podlab-admin", ["system:masters"]),
        ("controller-manager", "system:kube-controller-manager", []),
        ("scheduler", "system:kube-scheduler", []),
        ("kube-proxy", "system:kube-proxy", []),
        ("node-2-client", "system:node:node-2", ["system:nodes"]),
        ("kubelet-client", identities.KUBELET_CLIENT, []),
    ],
)
def test_identities(files: dict[str, bytes], name: str, common_name: str, organizations: list[str]) -> None:
    certificate = load(files, name)
    assert subject(certificate, NameOID.COMMON_NAME) == [common_name]
    assert subject(certificate, NameOID.ORGANIZATION_NAME) == organizations
    uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(uses) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_every_certificate_is_signed_by_its_authority(files: dict[str, bytes]) -> None:
    requests = {**certificates.CONTROL_PLANE, **certificates.node_requests(1), **certificates.node_requests(2)}
    for name, request in requests.items():
        load(files, name).verify_directly_issued_by(load(files, request.authority))


def test_the_front_proxy_is_not_trusted_as_a_client_of_the_cluster(files: dict[str, bytes]) -> None:
    with pytest.raises(ValueError, match="issuer"):
        load(files, "front-proxy").verify_directly_issued_by(load(files, "ca"))


def test_no_certificate_but_the_authorities_may_sign(files: dict[str, bytes]) -> None:
    for name in {file.removesuffix(".crt") for file in files if file.endswith(".crt")}:
        constraints = load(files, name).extensions.get_extension_for_class(x509.BasicConstraints).value
        assert constraints.ca == (name in ("ca", "front-proxy-ca")), name


def names_of(certificate: x509.Certificate) -> tuple[set[str], set[str]]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    hosts = set(names.get_values_for_type(x509.DNSName))
    return hosts, {str(address) for address in names.get_values_for_type(x509.IPAddress)}


def test_the_api_server_is_reached_by_host_service_and_backbone(files: dict[str, bytes]) -> None:
    hosts, numbers = names_of(load(files, "apiserver"))
    assert {"localhost", "kubernetes.default.svc"} <= hosts
    assert numbers == {"127.0.0.1", addresses.API_SERVICE, addresses.BACKBONE}


def test_a_node_serves_under_its_own_name_and_address_only(files: dict[str, bytes]) -> None:
    hosts, numbers = names_of(load(files, "node-2-serving"))
    assert hosts == {"node-2"}
    assert {ipaddress.ip_address(number) for number in numbers} == {ipaddress.ip_address(addresses.node_address(2))}


def test_kinds_of_keys(files: dict[str, bytes]) -> None:
    for name, contents in files.items():
        if name.endswith(".key"):
            key = serialization.load_pem_private_key(contents, password=None)
            expected = rsa.RSAPrivateKey if name == "service-account.key" else ec.EllipticCurvePrivateKey
            assert isinstance(key, expected), name


def test_two_clusters_share_nothing(files: dict[str, bytes]) -> None:
    other = certificates.all_files([1])
    with pytest.raises(InvalidSignature):
        load(other, "admin").verify_directly_issued_by(load(files, "ca"))


def test_files_are_private_and_later_nodes_are_signed_by_the_old_authority(tmp_path: Path) -> None:
    pki = tmp_path / "pki"
    certificates.ensure(pki, [1])
    before = {file.name: file.read_bytes() for file in pki.iterdir()}
    certificates.ensure(pki, [1, 2])
    after = {file.name: file.read_bytes() for file in pki.iterdir()}
    assert {name: after[name] for name in before} == before, "what was there must not change"
    load(after, "node-2-client").verify_directly_issued_by(load(before, "ca"))
    assert stat.S_IMODE(pki.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in pki.iterdir()} == {0o600}
