"""The box in which a submission's code runs beside a cluster: a pod of that cluster, with a learner's rights.

It is made by the same code that runs every container of the cluster: own user, network, PID, mount, IPC and UTS
namespaces, no view of the host's files, read-only root, a small tmpfs as its only writable place, no privileges, memory
and time limits, gone with the cluster. Its service account may edit one namespace and nothing else.
"""

from __future__ import annotations

import json
import secrets
import signal

from podlab.checks.api import AGAIN, Api, Object
from podlab.checks.world import LEARNER_ROLE, OURS, PYTHON_IMAGE, make_namespace
from podlab.errors import WaitTimeout
from podlab.grading.execution import LARGEST_RESULT, BoxError, Executed, Limits, executed
from podlab.grading.house import ENVIRONMENT, NOBODY, Bounds
from podlab.waiting import until

NAMESPACE = "submission"
#: Bytes of its log and of whatever else lies on the node's disk: `inside.py` says less.
DISK = "64Mi"


def run(api: Api, image: str, job: str, limits: Limits) -> Executed:
    """Execute a job in a new box and return what came out; BoxError when no box could be had.

    A box that is ended by the kernel, for want of memory or time, returns what is known until then.
    """
    if api.get("Namespace", NAMESPACE) is None:
        make_namespace(api, NAMESPACE, "submission")
    name = f"notebook-{secrets.token_hex(3)}"
    for item in objects(name, image, job, limits):
        api.apply(item, NAMESPACE)
    try:
        pod = until(
            lambda: _ended(api.get("Pod", name, NAMESPACE)),
            "the notebook's box ending",
            timeout=limits.whole + 60,
            interval=0.25,
            state=lambda: (api.get("Pod", name, NAMESPACE) or {}).get("status"),
        )
    except WaitTimeout as error:
        raise BoxError(str(error)) from error
    why = _why(pod)
    return executed(_log(api, name), why)


def _ended(pod: Object | None) -> Object | None:
    return pod if pod and pod.get("status", {}).get("phase") in ("Succeeded", "Failed") else None


def _log(api: Api, name: str) -> str:
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{name}/log"
    response = api.raw("GET", path, query={"limitBytes": LARGEST_RESULT}, again=AGAIN)
    if response.status >= 400:
        raise BoxError(f"The box's output cannot be read: status {response.status}.")
    return response.data.decode("utf-8", "replace")


def _why(pod: Object) -> str:
    """How the box ended; BoxError when it never ran."""
    status = pod.get("status", {})
    states = status.get("containerStatuses") or [{}]
    ended = (states[0].get("state") or {}).get("terminated") or {}
    reason = status.get("reason") or ended.get("reason") or "ended"
    if reason == "Evicted" and not status.get("message", "").startswith("The node was low"):
        # Above its own limits. Where the node is short of something, others may have taken it.
        return "out of disk"
    if reason in ("StartError", "ContainerCannotRun", "Evicted", "NodeLost"):
        raise BoxError(f"The box did not run: {reason} {ended.get('message') or status.get('message', '')}".strip())
    if reason == "Error" and ended.get("exitCode") == 128 + signal.SIGKILL:
        # Nothing in the box can do that to its first process.
        raise BoxError("The notebook's box was killed from outside.")
    others = {"DeadlineExceeded": "timed out", "OOMKilled": "out of memory"}
    return others.get(reason) or str(ended.get("exitCode", reason))


def objects(name: str, image: str, job: str, limits: Limits) -> list[Object]:
    """The box and what it stands on: identity, rights, job, pod."""
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "box",
        "clusters": [
            {
                "name": "box",
                "cluster": {
                    "server": "https://kubernetes.default.svc",
                    "certificate-authority": "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
                },
            }
        ],
        "users": [{"name": "learner", "user": {"tokenFile": "/var/run/secrets/kubernetes.io/serviceaccount/token"}}],
        "contexts": [{"name": "box", "context": {"cluster": "box", "user": "learner", "namespace": NAMESPACE}}],
    }
    environment = ENVIRONMENT | {
        "PODLAB_KUBECONFIG": "/submission/kubeconfig",
        "PODLAB_NAMESPACE": NAMESPACE,
        "PODLAB_LAB_IMAGE": PYTHON_IMAGE,
    }
    bounds = Bounds()
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "learner", "labels": {OURS: "box"}},
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "learner-box", "labels": {OURS: "box"}},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": LEARNER_ROLE},
            "subjects": [{"kind": "ServiceAccount", "name": "learner", "namespace": NAMESPACE}],
        },
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "labels": {OURS: "box"}},
            "data": {"job.json": job, "kubeconfig": json.dumps(kubeconfig)},
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {OURS: "box"}},
            "spec": {
                "restartPolicy": "Never",
                "serviceAccountName": "learner",
                "terminationGracePeriodSeconds": 1,
                "activeDeadlineSeconds": int(limits.whole),
                "enableServiceLinks": False,
                "containers": [
                    {
                        "name": "notebook",
                        "image": image,
                        "imagePullPolicy": "IfNotPresent",
                        "command": ["python3", "-m", "podlab.grading.inside", "/submission/job.json"],
                        "env": [{"name": key, "value": value} for key, value in environment.items()],
                        "securityContext": {
                            "runAsUser": NOBODY,
                            "runAsGroup": NOBODY,
                            "runAsNonRoot": True,
                            "readOnlyRootFilesystem": True,
                            "allowPrivilegeEscalation": False,
                            "capabilities": {"drop": ["ALL"]},
                            "seccompProfile": {"type": "RuntimeDefault"},
                        },
                        "resources": {
                            "limits": {"memory": str(bounds.memory), "ephemeral-storage": DISK},
                            "requests": {"memory": "256Mi", "cpu": "100m"},
                        },
                        "volumeMounts": [
                            {"name": "submission", "mountPath": "/submission", "readOnly": True},
                            {"name": "scratch", "mountPath": "/tmp"},
                            {"name": "scratch", "mountPath": "/dev/shm"},
                        ],
                    }
                ],
                "volumes": [
                    {"name": "submission", "configMap": {"name": name}},
                    {"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": str(bounds.disk)}},
                ],
            },
        },
    ]
