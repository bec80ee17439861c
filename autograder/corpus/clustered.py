"""Attacks on a submission's own cluster: what it holds as proof, what is not the learner's, and the disk under it."""

from __future__ import annotations

import textwrap

from autograder.corpus.attacks import CRASHED, TIMED_OUT, Attack

NAME = "91-clustered"
STUB = {"91.1": 'manifest_91_1 = ""  # YOUR CODE HERE', "91.2": "value_91_2 = None  # YOUR CODE HERE"}
EXERCISES = tuple(STUB)


def pod(name: str, program: str, image: str = "podlab/python:latest") -> str:
    """A pod that runs a Python program, as YAML."""
    text = textwrap.indent(program.strip(), "      ")
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: {image}
    command: [python3, -S, -c]
    args:
    - |
{text}
---"""


def manifest(*pods: str) -> str:
    """The answer cell that hands these in."""
    return "manifest_91_1 = " + repr("".join(pods))


_STAYS = "import signal\nsignal.signal(signal.SIGTERM, lambda *_: exit(0))\nwhile True: signal.pause()"
RIGHT = {"91.1": manifest(pod("web", _STAYS)), "91.2": "value_91_2 = 42"}

#: Asks the API server with the pod's own token; `tried` are the status codes by what was asked.
_ASKS = """
import json, ssl, urllib.error, urllib.request
own, tried = "/var/run/secrets/kubernetes.io/serviceaccount/", {}
def ask(method, path, body=None, kind="application/merge-patch+json"):
    headers = {"Authorization": "Bearer " + open(own + "token").read(), "Content-Type": kind}
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request("https://kubernetes.default.svc" + path, data, headers, method=method)
    context = ssl.create_default_context(cafile=own + "ca.crt")
    try:
        with urllib.request.urlopen(request, context=context, timeout=10) as answer: code = answer.status
    except urllib.error.HTTPError as error: code = error.code
    except OSError: code = 0
    tried[method + " " + path] = code
here = open(own + "namespace").read()
forged = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
def forge():
    ask("PATCH", f"/api/v1/namespaces/{here}/pods/web/status", forged)
    ask("PATCH", f"/api/v1/namespaces/{here}/pods/mine/status", forged)
    about = {"kind": "Pod", "name": "web", "namespace": here}
    event = {"metadata": {"generateName": "web."}, "involvedObject": about, "reason": "Started", "type": "Normal"}
    ask("POST", f"/api/v1/namespaces/{here}/events", event, "application/json")
    nodes = "/api/v1/nodes"
    ask("GET", nodes)
    for node in ("node-1", "node-2"):
        ask("PATCH", f"{nodes}/{node}", {"metadata": {"labels": {"mine": "yes"}}})
        ask("PATCH", f"{nodes}/{node}/status", {"status": {"capacity": {"pods": "0"}}})
        ask("DELETE", f"{nodes}/{node}")
    for away in ("kube-system", "default"):
        for what in ("secrets", "configmaps", "pods"):
            ask("GET", f"/api/v1/namespaces/{away}/{what}")
        config = {"metadata": {"name": "mine"}, "data": {"a": "b"}}
        ask("POST", f"/api/v1/namespaces/{away}/configmaps", config, "application/json")
    ask("GET", "/api/v1/namespaces")
    relaxed = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}}
    ask("PATCH", f"/api/v1/namespaces/{here}", relaxed)
    ask("DELETE", f"/api/v1/namespaces/{here}/limitranges/podlab-disk")
forge()
"""
_FORGES_ON = _ASKS + "import time\nwhile True:\n    time.sleep(0.2)\n    forge()"
_FROM_THE_BOX = (
    _ASKS
    + """
value_91_2 = 42 if any(200 <= code < 300 for code in tried.values()) else 0
print({path: code for path, code in tried.items() if code != 403})
"""
)
_FILLS = """
number = 0
try:
    while number < 500:
        number += 1
        with open(f"/tmp/{number}", "wb") as file:
            for _ in range(200): file.write(bytes(1_000_000))
except OSError: pass
for folder in ("/", "/var/tmp", "/run", "/opt", "/submission", "/home", "/dev/shm", "/dev/mqueue"):
    try: open(folder + "/full", "wb").write(bytes(200_000_000))
    except OSError: pass
"""
#: The one file of the node that every container may write to.
_EVICTED = """
with open("/dev/termination-log", "wb") as file:
    for _ in range(200): file.write(bytes(1_000_000))
import time
time.sleep(600)
"""
_FILLING_POD = """
import time
number = 0
while True:
    number += 1
    try:
        with open(f"/tmp/{number}", "wb") as file: file.write(bytes(200_000_000))
    except OSError: time.sleep(1)
"""

#: Claims, whose size nothing bounds, in a number to fill any disk.
_CLAIMS = "".join(
    f"""
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: claim-{number}}}
spec:
  accessModes: [ReadWriteOnce]
  resources: {{requests: {{storage: 100Gi}}}}
---"""
    for number in range(30)
)

ATTACKS = (
    Attack("honest", "the right answers", RIGHT, marks={"91.1": 10, "91.2": 10}),
    Attack(
        "forging-pod",
        "a pod of the manifest that forges the status of another, and its Events",
        {"91.1": manifest(pod("forger", _FORGES_ON), pod("web", _STAYS, "podlab/nowhere:1"))},
    ),
    Attack(
        "forging-box",
        "a notebook that forges, and reaches for nodes and other namespaces",
        {**RIGHT, "91.2": _FROM_THE_BOX},
        marks={"91.1": 10},
    ),
    Attack(
        "disk",
        "200 MB files without end, in the notebook and in a pod",
        {"91.1": manifest(pod("web", _STAYS), pod("full", _FILLING_POD)), "91.2": _FILLS + RIGHT["91.2"]},
        marks={"91.1": 10, "91.2": 10},
    ),
    Attack(
        "claims",
        "a manifest with claims without end",
        {**RIGHT, "91.1": manifest(pod("web", _STAYS), _CLAIMS)},
        marks={"91.2": 10},
    ),
    Attack(
        "evicted",
        "a box above its share of the node's disk",
        {**RIGHT, "91.2": _EVICTED + RIGHT["91.2"]},
        marks={"91.1": 10},
        outcomes=(CRASHED, TIMED_OUT),
    ),
)
