# ---
# title: Networking and load balancing, the exercises
# chapter: "16"
# minutes: 80
# needs: a cluster with three nodes
# ---

# %% [markdown]
# # 16. Networking and load balancing: exercises
#
# Five situations between a client and the pods that should answer it. The checks ask from inside the cluster, as
# real clients do, and each request carries a number that only its own answer can carry back.
#
# Change only the cells that say `YOUR CODE HERE`. The cell below each of them runs the checks, as often as you
# like. `lab.hint("16.1")` asks you a question that may help. When your work is graded, some further checks run that
# you do not see here; the task says everything they look at.

# %%
from podlab.lab import start

lab = start("16")

# %% [markdown]
# All pods run the serving program of chapter 15: `/recommend/123` answers, and says which pod it was; `/readyz` says
# 503 while there is no model. In your manifests the container keeps its image, command, environment (16.5 changes
# `PORT`) and mounts, and is alone in its pod.
#
# To try something: `lab.apply(...)`, then a client inside the cluster, `client = lab.visitor()`, with
# `client.visit("http://serving/recommend/1", 20)` and `client.resolve("serving")`. `lab.get("endpointslices")` shows
# who is behind a Service.

# %% [markdown]
# ## Exercise 16.1: One address for whoever is ready
#
# Three pods serve. They carry the labels `app: movies` and `part: serving`, listen on port 8080, call that port
# `web`, and have a readiness probe. Another pod, with `app: movies` and `part: ingest`, runs the same program.
#
# Write a Service `serving` that clients ask at port 80.
#
# - It spreads requests over the serving pods that are ready, whoever comes or goes, and over nothing else.
#
# Then predict three shares, in percent: what a replica answers on average while all three are ready
# (`share_of_three`); what a ready one answers on average while one is not ready (`share_of_two`); and what the
# busiest replica answers to a client that sends all its requests over one open connection (`share_when_kept`).

# %% answer="16.1"
manifest_16_1 = """
apiVersion: v1
kind: Service
metadata:
  name: serving
spec:
  ### BEGIN SOLUTION
  selector: {app: movies, part: serving}
  ports:
  - {port: 80, targetPort: 8080}
  ### END SOLUTION
"""
share_of_three = None
share_of_two = None
share_when_kept = None
### BEGIN SOLUTION
share_of_three, share_of_two, share_when_kept = 33.3, 50, 100
### END SOLUTION

# %% checks="16.1"

# %% alternative="16.1" title="the port by its name, one label that is enough"
manifest_16_1 = manifest_16_1.replace("targetPort: 8080", "targetPort: web").replace("app: movies, ", "")
share_of_three = 33

# %% alternative="16.1" title="reached from outside too, and at a second port"
manifest_16_1 = manifest_16_1.replace(
    "  - {port: 80, targetPort: 8080}",
    "  - {name: http, port: 80, targetPort: web}\n  - {name: other, port: 8080, targetPort: 8080}\n  type: NodePort",
)
share_when_kept = 99

# %% wrong="16.1" title="a label that other parts have too"
# fails only-serving: The selector is too wide
manifest_16_1 = manifest_16_1.replace(", part: serving", "")

# %% wrong="16.1" title="no targetPort"
# fails answers: at a port on which nobody listens
manifest_16_1 = manifest_16_1.replace(", targetPort: 8080", "")

# %% wrong="16.1" title="a selector that fits nobody"
# fails answers: selector fits no pod
manifest_16_1 = manifest_16_1.replace("part: serving", "role: serving")

# %% wrong="16.1" title="pods count whether they are ready or not"
# fails unready-none: whether they are ready or not
manifest_16_1 = manifest_16_1.replace("  ports:", "  publishNotReadyAddresses: true\n  ports:")

# %% wrong="16.1" title="a Service that remembers its clients"
# fails spreads: remembers its clients
# fails newcomer: has not passed
manifest_16_1 = manifest_16_1.replace("  ports:", "  sessionAffinity: ClientIP\n  ports:")

# %% wrong="16.1" title="balancing requests and not connections"
# fails predicted: The pod is chosen once for each connection
share_when_kept = 33.3

# %% [markdown]
# ## Exercise 16.2: Why does nobody answer?
#
# The movie site has a rule: a Service leads to the pods whose label `app` is the Service's own name, at the port
# that these pods call `web`. Six Services were written in a hurry.
#
# Write `find_fault(service, pods, slices)`. It gets a Service, all pods of the namespace, and the EndpointSlices of
# that Service, as the API has them. It returns a dictionary of two values. `"fault"` is one of `"selector"`,
# `"port"`, `"pods"` (the Service is right, its pods are not ready), and `"none"`. `"change"` is `None`, or what to
# put into the Service's `spec`: `{"selector": {...}}` or `{"ports": [...]}`.
#
# - After the change the Service answers from its own pods only.
# - A Service that is not at fault is left alone. A number that is right is no fault.
#
# `lab.apply(practice(lab.seed))` puts your six up.

# %%
from podlab.course.networking.diagnosis import practice

# %% answer="16.2"
def find_fault(service, pods, slices):
    """What is wrong with a Service, and the change that mends it."""
    ### BEGIN SOLUTION
    name = service["metadata"]["name"]
    endpoints = [endpoint for item in slices for endpoint in item.get("endpoints") or []]
    behind = {endpoint["targetRef"]["name"] for endpoint in endpoints}
    apps = {pod["metadata"]["labels"].get("app") for pod in pods if pod["metadata"]["name"] in behind}
    if apps != {name}:
        return {"fault": "selector", "change": {"selector": {"app": name}}}
    asked = {port["port"] for item in slices for port in item.get("ports") or []}
    own = [pod for pod in pods if pod["metadata"]["labels"].get("app") == name]
    listened = {
        port["containerPort"]
        for pod in own
        for container in pod["spec"]["containers"]
        for port in container["ports"]
        if port["name"] == "web"
    }
    if asked != listened:
        return {"fault": "port", "change": {"ports": [{"port": 80, "targetPort": "web"}]}}
    if not any(endpoint["conditions"]["ready"] for endpoint in endpoints):
        return {"fault": "pods", "change": None}
    return {"fault": "none", "change": None}
    ### END SOLUTION
    raise NotImplementedError

# %% checks="16.2"

# %% alternative="16.2" title="from the Service and the pods alone"
def find_fault(service, pods, slices):
    name, spec = service["metadata"]["name"], service["spec"]
    fits = [pod for pod in pods if spec["selector"].items() <= pod["metadata"]["labels"].items()]
    if not fits or any(pod["metadata"]["labels"]["app"] != name for pod in fits):
        return {"fault": "selector", "change": {"selector": {"app": name}}}
    if spec["ports"][0]["targetPort"] not in (8080, "web"):
        return {"fault": "port", "change": {"ports": [{"port": 80, "targetPort": 8080}]}}
    ready = [entry for entry in fits[0]["status"]["conditions"] if entry["type"] == "Ready"]
    return {"fault": "none" if ready[0]["status"] == "True" else "pods", "change": None}

# %% alternative="16.2" title="everything that is not right is written anew"
def find_fault(service, pods, slices):
    right = {"app": service["metadata"]["name"]}
    behind = [endpoint for item in slices for endpoint in item.get("endpoints") or []]
    ports = [port["port"] for item in slices for port in item.get("ports") or []]
    anew = {"selector": right, "ports": [{"port": 80, "protocol": "TCP", "targetPort": "web"}]}
    if service["spec"]["selector"] != right:
        return {"fault": "selector", "change": anew}
    if ports != [8080]:
        return {"fault": "port", "change": anew}
    return {"fault": "none" if behind[0]["conditions"]["ready"] else "pods", "change": None}

# %% wrong="16.2" title="whatever does not answer has a wrong selector"
# fails number: It has a ready endpoint, at a port that the pod does not have
# fails asleep: It has an endpoint that is not ready
# fails misnamed: no pod has a port of that name
def find_fault(service, pods, slices):
    name = service["metadata"]["name"]
    ready = [each for item in slices for each in item.get("endpoints") or [] if each["conditions"]["ready"]]
    if len(ready) == 1 and all(port["port"] == 8080 for item in slices for port in item.get("ports") or []):
        return {"fault": "none", "change": None}
    return {"fault": "selector", "change": {"selector": {"app": name}}}

# %% wrong="16.2" title="only the port's number is looked at, and only whether there is an endpoint"
# fails wide: Its endpoints are pods of several parts
def find_fault(service, pods, slices):
    endpoints = [endpoint for item in slices for endpoint in item.get("endpoints") or []]
    if not endpoints:
        return {"fault": "selector", "change": {"selector": {"app": service["metadata"]["name"]}}}
    if [port["port"] for item in slices for port in item.get("ports") or []] != [8080]:
        return {"fault": "port", "change": {"ports": [{"port": 80, "targetPort": "web"}]}}
    return {"fault": "none" if endpoints[0]["conditions"]["ready"] else "pods", "change": None}

# %% wrong="16.2" title="named, and not mended"
# fails typo: The fault was named, and the change does not mend it
def find_fault(service, pods, slices):
    name = service["metadata"]["name"]
    fits = [pod for pod in pods if service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()]
    if [pod["metadata"]["labels"]["app"] for pod in fits] != [name]:
        return {"fault": "selector", "change": None}
    return {"fault": "none", "change": None}

# %% wrong="16.2" title="every number is a fault"
# fails well: It has a ready endpoint at the right port, and it answers
def find_fault(service, pods, slices):
    right = {"app": service["metadata"]["name"]}
    endpoints = [endpoint for item in slices for endpoint in item.get("endpoints") or []]
    if service["spec"]["selector"] != right:
        return {"fault": "selector", "change": {"selector": right}}
    if service["spec"]["ports"][0]["targetPort"] != "web":
        return {"fault": "port", "change": {"ports": [{"port": 80, "targetPort": "web"}]}}
    return {"fault": "none" if endpoints[0]["conditions"]["ready"] else "pods", "change": None}

# %% wrong="16.2" title="what is not ready is changed too"
# fails asleep: The Service is not at fault here
def find_fault(service, pods, slices):
    change = {"selector": {"app": service["metadata"]["name"]}, "ports": [{"port": 80, "targetPort": "web"}]}
    endpoints = [endpoint for item in slices for endpoint in item.get("endpoints") or []]
    if service["spec"]["selector"] != change["selector"]:
        return {"fault": "selector", "change": change}
    if [port["port"] for item in slices for port in item.get("ports") or []] != [8080]:
        return {"fault": "port", "change": change}
    return {"fault": "none" if endpoints[0]["conditions"]["ready"] else "pods", "change": change}

# %% [markdown]
# ## Exercise 16.3: Each by its own name
#
# Three shards hold the ratings. They are members of one group and must find each other: not any of them, but each.
# The manifest makes three pods `shard-0`, `shard-1` and `shard-2`. Give them names.
#
# - `shard-1.shards` leads to that pod, and to no other; likewise for each shard, from any namespace (with the full
#   name). A name that no shard has leads nowhere.
# - `shards` gives the addresses of all three.
# - A shard that is not ready is found all the same: members look for each other while they start.
# - When a shard is deleted, its name leads to its successor.

# %% answer="16.3"
manifest_16_3 = """
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: shard
spec:
  replicas: 3
  podManagementPolicy: Parallel
  selector:
    matchLabels: {app: shard}
  template:
    metadata:
      labels: {app: shard}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: serving
        image: podlab/python:3
        imagePullPolicy: IfNotPresent
        command: ["python3", "-S", "/program/serving.py"]
        readinessProbe:
          httpGet: {path: /readyz, port: 8080}
          periodSeconds: 1
          failureThreshold: 2
          timeoutSeconds: 2
        volumeMounts:
        - {name: program, mountPath: /program}
      volumes:
      - name: program
        configMap: {name: serving-program}
  ### BEGIN SOLUTION
  serviceName: shards
---
apiVersion: v1
kind: Service
metadata:
  name: shards
spec:
  clusterIP: None
  publishNotReadyAddresses: true
  selector: {app: shard}
  ports:
  - {port: 8080}
  ### END SOLUTION
"""

# %% checks="16.3"

# %% alternative="16.3" title="a Deployment for each shard, with hostname and subdomain"
parts = manifest_16_3.split("---")
one = (
    parts[0]
    .replace("kind: StatefulSet", "kind: Deployment")
    .replace("  name: shard\n", "  name: shard-NUMBER\n")
    .replace("replicas: 3", "replicas: 1")
    .replace("  podManagementPolicy: Parallel\n", "")
    .replace("  serviceName: shards\n", "")
    .replace("{app: shard}", "{app: shard, number: 'NUMBER'}")
    .replace("      terminationGrace", "      hostname: shard-NUMBER\n      subdomain: shards\n      terminationGrace")
)
manifest_16_3 = "---".join([one.replace("NUMBER", str(number)) for number in range(3)] + [parts[1]])

# %% alternative="16.3" title="the Service first, its port named, and another Service for clients"
sets, service = manifest_16_3.split("---")
service = service.replace("- {port: 8080}", "- {name: peers, port: 8080, targetPort: 8080}")
front = service.replace("name: shards", "name: ratings").replace("clusterIP: None", "type: ClusterIP")
front = front.replace("  publishNotReadyAddresses: true\n", "")
manifest_16_3 = "---".join([service, front, sets])

# %% wrong="16.3" title="a Service with an address"
# fails all-names: an address of its own
manifest_16_3 = manifest_16_3.replace("  clusterIP: None\n", "")

# %% wrong="16.3" title="serviceName and the Service differ"
# fails own-name: serviceName of the StatefulSet and the name of the Service differ
# fails only-members: has not passed
manifest_16_3 = manifest_16_3.replace("serviceName: shards", "serviceName: shard")

# %% wrong="16.3" title="only ready shards are found"
# fails found-while-starting: DNS leaves out the pods that are not ready
manifest_16_3 = manifest_16_3.replace("  publishNotReadyAddresses: true\n", "")

# %% wrong="16.3" title="a Deployment"
# fails own-name: The pods do not have the names
manifest_16_3 = (
    manifest_16_3.replace("kind: StatefulSet", "kind: Deployment")
    .replace("  podManagementPolicy: Parallel\n", "")
    .replace("  serviceName: shards\n", "")
)

# %% wrong="16.3" title="bare pods"
# fails follows: pods without an owner do not come back
head, service = manifest_16_3.split("---")
spec = head[head.index("    spec:\n") + len("    spec:\n") : head.index("  serviceName")]
pod = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: shard-N\n  labels: {app: shard}\nspec:\n"
pod += "  hostname: shard-N\n  subdomain: shards\n"
pod += "".join(line[4:] for line in spec.splitlines(keepends=True) if "###" not in line)
manifest_16_3 = "---\n".join([pod.replace("-N", f"-{number}") for number in range(3)] + [service])

# %% [markdown]
# ## Exercise 16.4: The pod that knows you
#
# The serving pods (label `app: serving`, port 8080) learn something about each client and keep it for a little
# while. Write a Service `serving` at port 80.
#
# - A client that comes back within **4 seconds** is answered by the pod that knows it. Different clients have
#   different pods.
# - A client that stays away for **12 seconds** or more is forgotten, and treated by chance again.
# - When the pod of a client cannot serve, the client is answered by another.

# %% answer="16.4"
manifest_16_4 = """
apiVersion: v1
kind: Service
metadata:
  name: serving
spec:
  selector: {app: serving}
  ports:
  - {port: 80, targetPort: 8080}
  ### BEGIN SOLUTION
  sessionAffinity: ClientIP
  sessionAffinityConfig:
    clientIP: {timeoutSeconds: 8}
  ### END SOLUTION
"""

# %% checks="16.4"

# %% alternative="16.4" title="a little longer, and the port by its name"
manifest_16_4 = manifest_16_4.replace("timeoutSeconds: 8", "timeoutSeconds: 9").replace("8080", "web")

# %% alternative="16.4" title="a little shorter, and reached from outside too"
manifest_16_4 = manifest_16_4.replace("timeoutSeconds: 8", "timeoutSeconds: 7") + "  type: NodePort\n"

# %% wrong="16.4" title="switched on, and no time given"
# fails forgotten: by default for three hours
manifest_16_4 = manifest_16_4.replace("  sessionAffinityConfig:\n    clientIP: {timeoutSeconds: 8}\n", "")

# %% wrong="16.4" title="too short"
# fails remembered: for too short a time
manifest_16_4 = manifest_16_4.replace("timeoutSeconds: 8", "timeoutSeconds: 2")

# %% wrong="16.4" title="held by a pod that cannot serve"
# fails healthy: by one that cannot serve
manifest_16_4 = manifest_16_4.replace("  ports:", "  publishNotReadyAddresses: true\n  ports:")

# %% wrong="16.4" title="one pod that knows everybody"
# fails spread: The Service leads to one pod only
# fails healthy: without a readiness probe
manifest_16_4 = manifest_16_4.replace("selector: {app: serving}", "selector: {app: single}") + """---
apiVersion: apps/v1
kind: Deployment
metadata: {name: single}
spec:
  selector: {matchLabels: {app: single}}
  template:
    metadata: {labels: {app: single}}
    spec:
      containers:
      - name: serving
        image: podlab/python:3
        imagePullPolicy: IfNotPresent
        command: ["python3", "-S", "/program/serving.py"]
        volumeMounts:
        - {name: program, mountPath: /program}
      volumes:
      - name: program
        configMap: {name: serving-program}
"""

# %% wrong="16.4" title="the time without the switch"
# fails sticks: nothing remembers the client
manifest_16_4 = manifest_16_4.replace("  sessionAffinity: ClientIP\n", "")

# %% [markdown]
# ## Exercise 16.5: A port moves
#
# The next version of the program listens on port 9090. The second manifest is the first with the new number in it.
# Make both such that nobody notices the change.
#
# - While pods that listen on the old port are still there, they are asked at the old port, and the new ones at the
#   new port. In the end only new ones are left.
# - **No request is lost**: not while the pods are replaced, nor when a pod is added (a new one loads its model for
#   some seconds and opens its port then), nor when one is told to go. A request that takes **3 seconds** and was under
#   way when its pod was told to go is answered.
#
# The program ends at once when it gets SIGTERM. You cannot change it; what the container does before, you can.

# %% answer="16.5"
manifest_16_5_before = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: serving
spec:
  replicas: 2
  selector:
    matchLabels: {app: serving}
  template:
    metadata:
      labels: {app: serving}
    spec:
      terminationGracePeriodSeconds: 15
      containers:
      - name: serving
        image: podlab/python:3
        imagePullPolicy: IfNotPresent
        command: ["python3", "-S", "/program/serving.py"]
        env:
        - {name: PORT, value: "8080"}
        envFrom:
        - configMapRef: {name: serving-settings}
        ports:
        - containerPort: 8080
        volumeMounts:
        - {name: program, mountPath: /program}
      volumes:
      - name: program
        configMap: {name: serving-program}
---
apiVersion: v1
kind: Service
metadata:
  name: serving
spec:
  selector: {app: serving}
  ports:
  - {port: 80, targetPort: 8080}
"""
### BEGIN SOLUTION
guarded = """        ports:
        - {name: web, containerPort: 8080}
        readinessProbe:
          httpGet: {path: /readyz, port: web}
          periodSeconds: 1
          timeoutSeconds: 3
        lifecycle:
          preStop:
            sleep: {seconds: 7}
"""
manifest_16_5_before = manifest_16_5_before.replace("        ports:\n        - containerPort: 8080\n", guarded).replace(
    "targetPort: 8080", "targetPort: web"
)
### END SOLUTION
manifest_16_5_after = manifest_16_5_before.replace("8080", "9090")

# %% checks="16.5"

# %% alternative="16.5" title="a command waits, and never fewer pods than before"
manifest_16_5_before = manifest_16_5_before.replace(
    "sleep: {seconds: 7}", 'exec: {command: [python3, -S, -c, "import time; time.sleep(6)"]}'
).replace("  replicas: 2", "  replicas: 2\n  strategy:\n    rollingUpdate: {maxUnavailable: 0, maxSurge: 2}")
manifest_16_5_after = manifest_16_5_before.replace("8080", "9090")

# %% alternative="16.5" title="the readiness probe by a command, another name for the port"
manifest_16_5_before = (
    manifest_16_5_before.replace("web", "answers")
    .replace(
        "httpGet: {path: /readyz, port: answers}",
        'exec: {command: [python3, -S, -c, "import urllib.request as r;'
        " r.urlopen('http://127.0.0.1:8080/readyz', timeout=3)\"]}",
    )
    .replace("timeoutSeconds: 3", "timeoutSeconds: 5")
)
manifest_16_5_after = manifest_16_5_before.replace("8080", "9090")

# %% wrong="16.5" title="a number for all"
# fails both-ports: A number is right for one version only
manifest_16_5_before = manifest_16_5_before.replace("targetPort: web", "targetPort: 8080")
manifest_16_5_after = manifest_16_5_before.replace("8080", "9090")

# %% wrong="16.5" title="no readiness probe"
# fails arriving: no readiness probe says when it can answer
manifest_16_5_before = manifest_16_5_before.replace(
    "        readinessProbe:\n          httpGet: {path: /readyz, port: web}\n          periodSeconds: 1\n"
    "          timeoutSeconds: 3\n",
    "",
)
manifest_16_5_after = manifest_16_5_before.replace("8080", "9090")

# %% wrong="16.5" title="the program is stopped at once"
# fails leaving: The program ends at once
manifest_16_5_before = manifest_16_5_before.replace(
    "        lifecycle:\n          preStop:\n            sleep: {seconds: 7}\n", ""
)
manifest_16_5_after = manifest_16_5_before.replace("8080", "9090")

# %% wrong="16.5" title="all old pods first, then the new ones"
# fails lossless: for a moment there was none
manifest_16_5_before = manifest_16_5_before.replace("  replicas: 2", "  replicas: 2\n  strategy: {type: Recreate}")
manifest_16_5_after = manifest_16_5_before.replace("8080", "9090")

# %% wrong="16.5" title="the probe stays at the old port"
# fails moves: The new pods do not answer at the new port
manifest_16_5_before = manifest_16_5_before.replace("port: web}\n          period", "port: 8080}\n          period")
manifest_16_5_after = manifest_16_5_before.replace("8080", "9090").replace(
    "port: 9090}\n          period", "port: 8080}\n          period"
)

# %% [markdown]
# ## How far you are

# %%
lab.progress()
