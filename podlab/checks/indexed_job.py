"""A MapReduce job as Indexed Jobs of Kubernetes: a pod for each task, and the shuffle through a claim.

The tasks are those of `podlab.distributed.mapreduce`; in place of its coordinator stands the Job controller, which
makes a pod for every number that has not succeeded, a few at a time. It knows nothing of phases: the reduce Job is made
when the map Job is complete. A claim of one node's disk keeps all pods on that node; a claim of a network file system
(ReadWriteMany) would not.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from podlab.checks.api import Api, Object
from podlab.checks.pods import hindrance, printed
from podlab.checks.world import PYTHON_IMAGE
from podlab.errors import LaboratoryError, UsageError
from podlab.waiting import until

#: Label of all that a job has in the cluster; its value is the job's name.
LABEL = "podlab.dev/mapreduce"
#: Not a verdict on speed.
PATIENCE = 600.0
#: A ConfigMap holds one MiB.
MOST_BYTES = 1_000_000
_FAILURES = "metadata.annotations['batch.kubernetes.io/job-index-failure-count']"


@dataclass
class Done:
    """What came out: the pairs, the bytes that the map tasks wrote to be shuffled, and the pods that were needed."""

    pairs: list[tuple[Any, Any]] = field(repr=False)
    bytes: int
    pods: int
    #: How many of them were lost.
    failed: int
    #: How many numbers each of the two Jobs had.
    phases: tuple[int, ...] = ()


@dataclass
class IndexedJob:
    """A MapReduce job in a namespace: `program` is the text that defines `job`, a Job of `mapreduce_tasks`.

    `splits` are lists of JSON records, together less than a megabyte. In the program ATTEMPT of the environment says
    how many pods of this task were lost before. `workers` pods run at a time.
    """

    api: Api
    namespace: str
    program: str
    splits: Sequence[Sequence[Any]]
    workers: int = 2
    reducers: int = 2
    name: str = field(default_factory=lambda: f"mapreduce-{secrets.token_hex(3)}")

    def prepare(self) -> None:
        """Bring program, splits and the claim into the cluster. UsageError if the splits are too large for that."""
        texts = {str(number): json.dumps(list(split)) for number, split in enumerate(self.splits)}
        size = sum(len(text.encode()) for text in texts.values())
        if size > MOST_BYTES:
            raise UsageError(
                f"The splits have {size} bytes, and they go through a ConfigMap, which holds {MOST_BYTES}.",
                hint="Take fewer records, or let each map task read its own from a volume.",
            )
        files = {
            "job.py": self.program,
            "mapreduce_tasks.py": resources.files("podlab.distributed").joinpath("mapreduce_tasks.py").read_text(),
            "task_pod.py": resources.files("podlab.checks").joinpath("programs/task_pod.py").read_text(),
        }
        claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}}
        for thing in (
            self._object("v1", "ConfigMap", self.name, data=files),
            self._object("v1", "ConfigMap", f"{self.name}-splits", data=texts),
            self._object("v1", "PersistentVolumeClaim", self.name, spec=claim),
        ):
            self.api.apply(thing, self.namespace)

    def run(self, patience: float = PATIENCE) -> Done:
        """Both phases, after `prepare`; LaboratoryError with a pod's last lines if a task raised or kept dying."""
        failed = 0
        told: dict[str, list[Object]] = {}
        for kind, count in (("map", len(self.splits)), ("reduce", self.reducers)):
            self.api.apply(self.manifest(kind), self.namespace)
            failed += self._ended(kind, count, patience)
            told[kind] = self._succeeded(kind)
        pairs = [
            tuple(json.loads(line)) for pod in told["reduce"] for line in self.log(pod["metadata"]["name"]).splitlines()
        ]
        written = sum(json.loads(_message(pod))["bytes"] for pod in told["map"])
        phases = tuple(len(pods) for pods in told.values())
        return Done(pairs, written, sum(phases) + failed, failed, phases)

    def manifest(self, kind: str) -> Object:
        """The Job of a phase, map or reduce."""
        count = len(self.splits) if kind == "map" else self.reducers
        container = {
            "name": "task",
            "image": PYTHON_IMAGE,
            "imagePullPolicy": "IfNotPresent",
            "command": ["python3", "-u", "/program/task_pod.py", kind, str(len(self.splits)), str(self.reducers)],
            "env": [{"name": "ATTEMPT", "valueFrom": {"fieldRef": {"fieldPath": _FAILURES}}}],
            "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
            "volumeMounts": [{"name": name, "mountPath": f"/{name}"} for name in ("program", "splits", "shuffle")],
        }
        spec = {
            "completionMode": "Indexed",
            "completions": count,
            "parallelism": min(self.workers, count),
            "backoffLimitPerIndex": 3,
            # A program that raises does so again; a pod that is lost may succeed in another place.
            "podFailurePolicy": {
                "rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1]}}],
            },
            "template": {
                "metadata": {"labels": {LABEL: self.name, "phase": kind}},
                "spec": {
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": 1,
                    "containers": [container],
                    "volumes": [
                        {"name": "program", "configMap": {"name": self.name}},
                        {"name": "splits", "configMap": {"name": f"{self.name}-splits"}},
                        {"name": "shuffle", "persistentVolumeClaim": {"claimName": self.name}},
                    ],
                },
            },
        }
        return self._object("batch/v1", "Job", f"{self.name}-{kind}", spec=spec)

    def pods(self, kind: str) -> list[Object]:
        """The pods of a phase, whatever their state."""
        return self.api.list("Pod", self.namespace, labelSelector=f"{LABEL}={self.name},phase={kind}")

    def log(self, pod: str) -> str:
        """What a pod has printed so far."""
        return printed(self.api, pod, self.namespace)

    def kill(self, pod: str) -> None:
        """End a pod at once, without a word of warning."""
        self.api.delete("Pod", pod, self.namespace, grace=0)

    def delete(self) -> None:
        """Take away all that it has made."""
        for kind in ("map", "reduce"):
            self.api.delete("Job", f"{self.name}-{kind}", self.namespace)
        for kind, name in (
            ("ConfigMap", self.name),
            ("ConfigMap", f"{self.name}-splits"),
            ("PersistentVolumeClaim", self.name),
        ):
            self.api.delete(kind, name, self.namespace)

    def _object(self, version: str, kind: str, name: str, **rest: Any) -> Object:
        metadata = {"name": name, "labels": {LABEL: self.name}}
        return {"apiVersion": version, "kind": kind, "metadata": metadata, **rest}

    def _ended(self, kind: str, count: int, patience: float) -> int:
        """Wait for the end of a phase and return how many pods were lost."""
        name = f"{self.name}-{kind}"

        def ended() -> Object | None:
            status = (self.api.get("Job", name, self.namespace) or {}).get("status") or {}
            over = {one["type"]: one for one in status.get("conditions") or () if one["status"] == "True"}
            return status | {"over": over} if over.keys() & {"Complete", "Failed"} else None

        status = until(
            ended, f"the end of the Job {name}", timeout=patience, interval=0.2, state=lambda: self._state(kind, count)
        )
        if why := status["over"].get("Failed"):
            bad = [pod for pod in self.pods(kind) if pod["status"].get("phase") == "Failed"]
            last = "\n".join(self.log(bad[0]["metadata"]["name"]).strip().splitlines()[-10:]) if bad else ""
            raise LaboratoryError(
                f"The Job {name} failed: {why.get('message', why.get('reason'))}. Its pod's last lines:\n{last}",
                hint=f"kubectl describe job --namespace {self.namespace} {name}",
            )
        return int(status.get("failed", 0))

    def _state(self, kind: str, count: int) -> str:
        pods = self.pods(kind)
        told = [f"{pod['metadata']['name']} {hindrance(pod) or pod['status'].get('phase', '')}" for pod in pods]
        return f"{count} tasks; " + "; ".join(told)

    def _succeeded(self, kind: str) -> list[Object]:
        """One pod that succeeded for each number, in order."""
        by_number = {
            int(pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"]): pod
            for pod in self.pods(kind)
            if pod["status"].get("phase") == "Succeeded"
        }
        return [pod for _, pod in sorted(by_number.items())]


def _message(pod: Object) -> str:
    """What the task left in its pod's status."""
    return pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"]
