"""What a submission's box may ask of its cluster: everything in its namespace that its work needs, and nothing else.

The forged status, the stolen secret, the poisoned webhook: each is asked of the API server itself, as the box.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import PROVIDER

from podlab import cluster
from podlab.checks.api import Api, ApiError
from podlab.checks.world import LEARNER, MOST_DISK, MOST_OBJECTS, make_namespace
from podlab.grading import box

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

BOX = f"system:serviceaccount:{box.NAMESPACE}:learner"
HERE, AWAY = box.NAMESPACE, "kube-system"

#: verb, group, resource, subresource, namespace
ALLOWED = (
    ("create", "", "pods", "", HERE),
    ("create", "apps", "deployments", "", HERE),
    ("patch", "apps", "deployments", "scale", HERE),
    ("get", "", "pods", "log", HERE),
    ("create", "", "services", "", HERE),
    ("list", "", "events", "", HERE),
)
FORBIDDEN = (
    ("patch", "", "pods", "status", HERE),
    ("update", "apps", "deployments", "status", HERE),
    ("patch", "", "services", "status", HERE),
    ("create", "", "events", "", HERE),
    ("patch", "events.k8s.io", "events", "", HERE),
    ("create", "rbac.authorization.k8s.io", "rolebindings", "", HERE),
    ("delete", "", "limitranges", "", HERE),
    ("patch", "", "resourcequotas", "", HERE),
    ("get", "", "secrets", "", AWAY),
    ("list", "", "pods", "", ""),
    ("get", "", "nodes", "", ""),
    ("patch", "", "nodes", "", ""),
    ("get", "", "nodes", "proxy", ""),
    ("create", "", "namespaces", "", ""),
    ("patch", "", "namespaces", "", HERE),
    ("create", "", "persistentvolumes", "", ""),
    ("create", "apiextensions.k8s.io", "customresourcedefinitions", "", ""),
    ("create", "admissionregistration.k8s.io", "mutatingwebhookconfigurations", "", ""),
    ("create", "admissionregistration.k8s.io", "validatingadmissionpolicies", "", ""),
    ("create", "scheduling.k8s.io", "priorityclasses", "", ""),
    ("create", "rbac.authorization.k8s.io", "clusterrolebindings", "", ""),
    ("create", "certificates.k8s.io", "certificatesigningrequests", "", ""),
    ("impersonate", "", "users", "", ""),
)


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with cluster.up("rights-test", nodes=1, provider_name=PROVIDER) as handle:
        api = Api.connect(handle.kubeconfig)
        make_namespace(api, box.NAMESPACE, "submission")
        for item in box.objects("notebook", "image", "{}", box.Limits())[:2]:
            api.apply(item, box.NAMESPACE)
        yield api


def may(api: Api, user: str, question: tuple[str, str, str, str, str]) -> bool:
    """Whether the API server would let `user` do it."""
    verb, group, resource, subresource, namespace = question
    attributes = {"verb": verb, "group": group, "resource": resource, "subresource": subresource}
    spec = {
        "user": user,
        "groups": ["system:authenticated"],
        "resourceAttributes": attributes | {"namespace": namespace},
    }
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
    answer = api.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body=body)
    return bool(answer["status"]["allowed"])


@pytest.mark.parametrize("user", [BOX, LEARNER])
def test_the_box_and_the_learner_may_work_and_not_forge(api: Api, user: str) -> None:
    assert [question for question in ALLOWED if not may(api, user, question)] == []
    assert [question for question in FORBIDDEN if may(api, user, question)] == []


@pytest.mark.parametrize(
    "spec",
    [
        {"hostNetwork": True},
        {"hostPID": True},
        {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]},
        {"containers": [{"name": "c", "image": "i", "securityContext": {"privileged": True}}]},
        {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80, "hostPort": 80}]}]},
    ],
)
def test_no_pod_of_a_submission_reaches_for_its_node(api: Api, spec: dict[str, object]) -> None:
    whole = {"containers": [{"name": "c", "image": "i"}], **spec}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "reaching"}, "spec": whole}
    with pytest.raises(ApiError, match="violates PodSecurity"):
        api.as_user(BOX).apply(pod, box.NAMESPACE)


def test_no_container_of_a_submission_may_fill_the_disk_of_its_node(api: Api) -> None:
    def pod(name: str, **container: object) -> dict[str, object]:
        spec = {"containers": [{"name": "c", "image": "i", **container}]}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}

    made = api.as_user(BOX).apply(pod("modest"), box.NAMESPACE)
    assert made["spec"]["containers"][0]["resources"]["limits"] == {"ephemeral-storage": MOST_DISK}
    much = {"limits": {"ephemeral-storage": "100Gi"}}
    with pytest.raises(ApiError, match="maximum ephemeral-storage usage per Container is 512Mi"):
        api.as_user(BOX).apply(pod("greedy", resources=much), box.NAMESPACE)


def test_a_flood_of_claims_is_refused_at_its_bound(api: Api) -> None:
    def claim(number: int) -> dict[str, object]:
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        meta = {"name": f"claim-{number}"}
        return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec}

    make_namespace(api, "flooded", "flooded")
    learner = api.as_user(LEARNER)
    with pytest.raises(ApiError, match="exceeded quota"):
        for number in range(200):
            learner.apply(claim(number), "flooded")
    assert len(api.list("PersistentVolumeClaim", "flooded")) == int(MOST_OBJECTS["persistentvolumeclaims"])
