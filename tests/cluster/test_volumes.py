"""Volumes as pods see them: memory, images, claims and their provisioner, credentials; and what they refuse."""

from __future__ import annotations

import base64
import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from lifecycle import Pods, container, pod

from podlab.cluster import Cluster
from podlab.node.clock import timestamp
from podlab.waiting import until


@pytest.fixture
def pods(shared: Cluster, kubectl: Any, namespace: str) -> Pods:
    return Pods(kubectl, shared, namespace)


def mounts(**targets: str) -> list[dict[str, Any]]:
    return [{"name": name, "mountPath": target} for name, target in targets.items()]


def claim(name: str, **changes: Any) -> dict[str, Any]:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "16Mi"}}, **changes}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


def claimed(name: str) -> dict[str, Any]:
    return {"name": "data", "persistentVolumeClaim": {"claimName": name}}


@pytest.mark.namespaces("a volume in memory is an ordinary folder")
def test_a_volume_in_memory_is_one_and_has_its_size(pods: Pods) -> None:
    script = """
    grep -o '^tmpfs /mem tmpfs' /proc/mounts; stat -c %a /mem /plain
    head -c 9000000 /dev/zero > /mem/file 2>/dev/null || stat -c %s /mem/file
    """
    volumes = [
        {"name": "mem", "emptyDir": {"medium": "Memory", "sizeLimit": "8Mi"}},
        {"name": "plain", "emptyDir": {}},
    ]
    pods.apply(
        pod(
            "memory",
            container(script=script, volumeMounts=mounts(mem="/mem", plain="/plain")),
            volumes=volumes,
            restartPolicy="Never",
        )
    )
    pods.phase("memory", "Succeeded")
    lines = pods.logs("memory").splitlines()
    assert lines[:3] == ["tmpfs /mem tmpfs", "1777", "777"]
    assert lines[-1] == str(8 << 20)


@pytest.mark.embedded("Always asks a registry, and there is none")
@pytest.mark.namespaces("every volume can be written to")
def test_an_image_is_a_volume_that_cannot_be_written(pods: Pods) -> None:
    script = "ls -d /image/usr /part/..; touch /image/new || echo refused"
    main = container(script=script, volumeMounts=mounts(image="/image"))
    main["volumeMounts"].append({"name": "image", "mountPath": "/part", "subPath": "etc"})
    image = {"name": "image", "image": {"reference": "podlab/toolbox", "pullPolicy": "Always"}}
    missing = {"name": "image", "image": {"reference": "nowhere/at-all:1"}}
    pods.apply(
        pod("reader", main, volumes=[image], restartPolicy="Never"),
        pod("without", container(volumeMounts=mounts(image="/image")), volumes=[missing]),
    )
    pods.phase("reader", "Succeeded")
    assert "refused" in pods.logs("reader")
    assert "nowhere/at-all:1 is not in the image store" in pods.event("without", "FailedMount")["message"]


@pytest.mark.embedded("kind's provisioner makes folders of the node, which no group is given")
@pytest.mark.namespaces("a shell's path that comes from a variable is not the volume's")
def test_the_pods_group_owns_its_volumes(pods: Pods) -> None:
    """The ids as root; as an ordinary user the one id owns everything, and the same modes are seen."""
    script = """
    stat -c %a /plain /claimed; stat -Lc %a $T/token; touch /plain/new /claimed/new; cat $T/token > /dev/null; echo done
    """
    token = "/var/run/secrets/kubernetes.io/serviceaccount"
    main = container(script=script, env=[{"name": "T", "value": token}])
    main["volumeMounts"] = mounts(plain="/plain", data="/claimed")
    pods.apply(
        claim("grouped", accessModes=["ReadWriteOncePod"]),
        pod(
            "grouped",
            main,
            volumes=[{"name": "plain", "emptyDir": {}}, claimed("grouped")],
            securityContext={"runAsUser": 1234, "fsGroup": 4321},
            restartPolicy="Never",
        ),
    )
    pods.phase("grouped", "Succeeded")
    assert pods.logs("grouped").split() == ["2777", "2777", "640", "done"]


def volume_of(pods: Pods, name: str) -> dict[str, Any]:
    return pods.get("pv", pods.get("pvc", name)["spec"]["volumeName"])


@pytest.mark.embedded("it looks into the node's folder on this machine")
def test_a_claim_keeps_its_data_until_it_is_given_up(shared: Cluster, pods: Pods, home: Path) -> None:
    writer = container(script="mkdir -p /data; echo kept > /data/file", volumeMounts=mounts(data="/data"))
    writer["volumeMounts"].append({"name": "data", "mountPath": "/sub", "subPath": "a/b"})
    pods.apply(claim("kept"), pod("writer", writer, volumes=[claimed("kept")], restartPolicy="Never"))
    pods.phase("writer", "Succeeded")
    volume = volume_of(pods, "kept")
    where = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"][0]["matchExpressions"][0]["values"]
    assert where == [pods.get("pod", "writer")["spec"]["nodeName"]]
    pods.delete("writer")

    reader = container(script="cat /data/file", volumeMounts=mounts(data="/data"))
    pods.apply(pod("reader", reader, volumes=[claimed("kept")], restartPolicy="Never"))
    pods.phase("reader", "Succeeded")
    assert pods.logs("reader") == "kept\n"
    assert pods.get("pod", "reader")["spec"]["nodeName"] == where[0]

    folder = home / f"data/clusters/{shared.name}/nodes/{where[0]}/host" / volume["spec"]["local"]["path"][1:]
    assert (folder / "file").read_text() == "kept\n"
    pods.delete("reader")
    pods.run("delete", "pvc", "kept")
    name = volume["metadata"]["name"]
    until(lambda: name not in pods.run("get", "pv", "-o", "name"), "the volume going", timeout=60, interval=0.2)
    assert not folder.exists()


@pytest.mark.embedded("it looks into the node's folder on this machine")
def test_a_retained_volume_stays_when_its_claim_goes(shared: Cluster, pods: Pods, home: Path) -> None:
    pods.apply(
        claim("mine"),
        pod("owner", container(script="touch /d/x", volumeMounts=mounts(data="/d")), volumes=[claimed("mine")]),
    )
    until(lambda: pods.get("pvc", "mine")["spec"].get("volumeName"), "the claim being bound", timeout=60, interval=0.2)
    name = volume_of(pods, "mine")["metadata"]["name"]
    pods.run("patch", "pv", name, "-p", '{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}')
    pods.delete("owner")
    pods.run("delete", "pvc", "mine")
    until(
        lambda: pods.get("pv", name)["status"]["phase"] == "Released",
        "the volume being released",
        timeout=60,
        interval=0.2,
    )
    assert list((home / f"data/clusters/{shared.name}/nodes").glob(f"*/host/var/lib/podlab/volumes/{name}"))
    pods.run("delete", "pv", name)


def test_a_claim_of_one_pod_keeps_the_next_one_waiting_until_it_is_gone(pods: Pods) -> None:
    def user(name: str) -> dict[str, Any]:
        return pod(name, container(volumeMounts=mounts(data="/d")), volumes=[claimed("alone")])

    pods.apply(claim("alone", accessModes=["ReadWriteOncePod"]), user("first"))
    pods.ready("first")
    pods.apply(user("second"))
    assert "ReadWriteOncePod" in pods.event("second", "FailedScheduling")["message"]
    assert pods.status("second")["phase"] == "Pending" and not pods.get("pod", "second")["spec"].get("nodeName")
    pods.delete("first")
    pods.ready("second")


def test_a_pod_sees_a_thousand_config_maps(pods: Pods) -> None:
    names = [f"map-{number}" for number in range(1000)]
    pods.apply(
        *({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {name: name}} for name in names)
    )
    all_of_them = {"name": "all", "projected": {"sources": [{"configMap": {"name": name}} for name in names]}}
    main = container(script="cat /all/map-* | wc -c; ls /all | wc -l", volumeMounts=mounts(all="/all"))
    pods.apply(pod("reader", main, volumes=[all_of_them], restartPolicy="Never"))
    pods.phase("reader", "Succeeded")
    assert pods.logs("reader").split() == [str(sum(map(len, names))), "1000"]


@pytest.mark.embedded("the words are those of podlab's own provisioner")
def test_what_the_provisioner_cannot_do_is_said(pods: Pods) -> None:
    pods.apply(
        claim("shared", accessModes=["ReadWriteMany"]),
        pod("wanting", container(volumeMounts=mounts(data="/data")), volumes=[claimed("shared")]),
    )
    assert "ReadWriteMany is not supported" in pods.event("shared", "ProvisioningFailed")["message"]


# Credentials

SIGNER = "example.com/tests"


class Signer:
    """A signer for the certificates of pods: an authority, and the answer to one request."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
        self.name = name
        own = self._builder(name, self.key.public_key()).add_extension(x509.BasicConstraints(True, None), True)
        self.pem = self._pem(own.sign(self.key, hashes.SHA256()))

    def _builder(self, subject: x509.Name, key: Any) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        self.begin, self.end = now - datetime.timedelta(minutes=1), now + datetime.timedelta(hours=12)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key)
        number = x509.random_serial_number()
        return builder.serial_number(number).not_valid_before(self.begin).not_valid_after(self.end)

    @staticmethod
    def _pem(certificate: x509.Certificate) -> str:
        return certificate.public_bytes(serialization.Encoding.PEM).decode()

    def status(self, request: dict[str, Any]) -> dict[str, Any]:
        """The status of an answered request."""
        asked = x509.load_der_x509_csr(base64.b64decode(request["spec"]["stubPKCS10Request"]))
        names = x509.SubjectAlternativeName([x509.DNSName(request["spec"]["podName"])])
        made = self._builder(x509.Name([]), asked.public_key()).add_extension(names, True)
        now = timestamp(self.begin.timestamp() + 60)
        return {
            "certificateChain": self._pem(made.sign(self.key, hashes.SHA256())),
            "notBefore": timestamp(self.begin.timestamp()),
            "notAfter": timestamp(self.end.timestamp()),
            "beginRefreshAt": timestamp(self.end.timestamp() - 3600),
            "conditions": [
                {"type": "Issued", "status": "True", "reason": "Test", "message": "m", "lastTransitionTime": now}
            ],
        }


@pytest.fixture
def bundle(pods: Pods) -> Iterator[tuple[str, Signer]]:
    """The name of a ClusterTrustBundle of a signer, and the signer."""
    signer, name = Signer(), f"example.com:tests:{pods.namespace}"
    spec = {"signerName": SIGNER, "trustBundle": signer.pem}
    labels = {"of": pods.namespace}
    made = {"apiVersion": "certificates.k8s.io/v1", "kind": "ClusterTrustBundle"}
    pods.apply({**made, "metadata": {"name": name, "labels": labels}, "spec": spec})
    yield name, signer
    pods.run("delete", "clustertrustbundle", name)


def test_trust_bundles_and_a_certificate_of_the_pods_own(pods: Pods, bundle: tuple[str, Signer]) -> None:
    name, signer = bundle
    labels = {"matchLabels": {"of": pods.namespace}}
    sources = [
        {"clusterTrustBundle": {"name": name, "path": "by-name"}},
        {"clusterTrustBundle": {"signerName": SIGNER, "labelSelector": labels, "path": "by-signer"}},
        {"clusterTrustBundle": {"signerName": SIGNER, "path": "nothing", "optional": True}},
        {"podCertificate": {"signerName": SIGNER, "keyType": "ECDSAP256", "credentialBundlePath": "bundle"}},
    ]
    main = container(script="cd /c; cat by-name; echo; cat by-signer nothing bundle", volumeMounts=mounts(all="/c"))
    volumes = [{"name": "all", "projected": {"sources": sources}}]
    unmet = [{"name": "all", "projected": {"sources": [{"clusterTrustBundle": {"name": "missing", "path": "x"}}]}}]
    pods.apply(
        pod("certified", main, volumes=volumes, restartPolicy="Never"),
        pod("unmet", container(volumeMounts=mounts(all="/c")), volumes=unmet),
    )
    until(lambda: pods.get("podcertificaterequests")["items"], "a request", timeout=60, interval=0.2)
    (request,) = pods.get("podcertificaterequests")["items"]
    patch = json.dumps({"status": signer.status(request)})
    pods.run(
        "patch",
        "podcertificaterequest",
        request["metadata"]["name"],
        "--subresource=status",
        "--type=merge",
        "-p",
        patch,
    )
    pods.phase("certified", "Succeeded")
    by_name, _, rest = pods.logs("certified").partition("\n\n")
    assert by_name.strip() == signer.pem.strip()
    assert rest.startswith(signer.pem)
    pem = rest.removeprefix(signer.pem).encode()
    certificate = x509.load_pem_x509_certificate(pem[pem.index(b"-----BEGIN CERT") :])
    key = serialization.load_pem_private_key(pem, None)
    assert certificate.public_key() == key.public_key()
    assert '"missing"' in pods.event("unmet", "FailedMount")["message"]
