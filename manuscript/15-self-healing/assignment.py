# ---
# title: Self-healing, the exercises
# chapter: "15"
# minutes: 75
# needs: a cluster with three nodes
# ---

# %% [markdown]
# # 15. Self-healing: exercises
#
# Four manifests of the same site. Each has a weakness; you add what is missing. A check does not read your text for
# keywords: it runs your manifest in a namespace of its own, does harm to it, and watches what happens. So there
# are several right answers.
#
# Change only the cells that say `YOUR CODE HERE`. The cell below each of them runs the checks, as often as you
# like, and shows what was expected and what was observed. `lab.hint("15.1")` asks you a question that may help.
# When your work is graded, some further checks run that you do not see here; the task says everything they look at.

# %%
from podlab.lab import start

lab = start("15")

# %% [markdown]
# The program in the pods listens on port 8080.
#
# | page | what it does |
# |---|---|
# | `/recommend/123` | what should user 123 watch? |
# | `/healthz` | says yes, if the program can still work: it needs the same lock as real work |
# | `/readyz` | says yes, if there is a model to serve; status 503 while the model is reloaded |
#
# In 15.1 to 15.3 the container stays as it is given, with its image, command, environment and mounts, and alone in its
# pod; what you add stands around it.
#
# To try a manifest, apply it, look, and throw a switch: `lab.apply(manifest_15_1)`, `lab.pods()`, `lab.events()`,
# `lab.trouble(lab.pods()[0], "wedge")`. The switches are `wedge` (hangs for ever), `stall` (hangs for some seconds),
# `slow` (answers late), `unready` (has no model for a while) and `crash`. `lab.reset()` empties your namespace.

# %% [markdown]
# ## Exercise 15.1: A process that hangs
#
# Three replicas serve. Now and then one of them hangs: it accepts connections and never answers again. Make sure
# that Kubernetes notices and mends it.
#
# - A replica that hangs answers again within **30 seconds**, in the same pod.
# - A healthy replica is never restarted. An answer may take up to **2 seconds** and is still right.
# - A single pause of **3 seconds** (say, a garbage collector at work) is forgiven.

# %% answer="15.1"
manifest_15_1 = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: serving
spec:
  replicas: 3
  selector:
    matchLabels: {app: serving}
  template:
    metadata:
      labels: {app: serving}
    spec:
      terminationGracePeriodSeconds: 3
      containers:
      - name: serving
        image: podlab/python:3
        imagePullPolicy: IfNotPresent
        command: ["python3", "-S", "/program/serving.py"]
        envFrom:
        - configMapRef: {name: serving-settings}
        volumeMounts:
        - {name: program, mountPath: /program}
        ### BEGIN SOLUTION
        livenessProbe:
          httpGet: {path: /healthz, port: 8080}
          periodSeconds: 2
          timeoutSeconds: 3
          failureThreshold: 3
        ### END SOLUTION
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

# %% checks="15.1"

# %% alternative="15.1" title="a command in the container asks"
manifest_15_1 = manifest_15_1.replace(
    "          httpGet: {path: /healthz, port: 8080}\n",
    "          exec:\n"
    "            command: [python3, -S, -c, \"import urllib.request as r;"
    " r.urlopen('http://127.0.0.1:8080/healthz', timeout=4)\"]\n",
).replace("timeoutSeconds: 3", "timeoutSeconds: 5")

# %% alternative="15.1" title="a named port, the real page, and readiness beside it"
manifest_15_1 = manifest_15_1.replace(
    "        livenessProbe:\n          httpGet: {path: /healthz, port: 8080}\n",
    "        ports:\n        - {name: web, containerPort: 8080}\n"
    "        readinessProbe:\n          httpGet: {path: /readyz, port: web}\n          timeoutSeconds: 3\n"
    "        livenessProbe:\n          httpGet: {path: /recommend/1, port: web}\n          initialDelaySeconds: 1\n",
)

# %% alternative="15.1" title="a strict liveness probe that asks rarely, and a readiness probe that asks often"
manifest_15_1 = manifest_15_1.replace(
    "          periodSeconds: 2\n          timeoutSeconds: 3\n",
    "          periodSeconds: 5\n          timeoutSeconds: 2\n",
).replace(
    "        livenessProbe:",
    "        readinessProbe:\n          httpGet: {path: /readyz, port: 8080}\n          periodSeconds: 2\n"
    "          timeoutSeconds: 5\n        livenessProbe:",
)

# %% wrong="15.1" title="readiness in place of liveness"
# fails restarted: that is what a readiness probe does
# fails only-the-sick: has not passed
manifest_15_1 = manifest_15_1.replace("livenessProbe", "readinessProbe")

# %% wrong="15.1" title="a TCP probe"
# fails restarted: an open port
manifest_15_1 = manifest_15_1.replace("httpGet: {path: /healthz, port: 8080}", "tcpSocket: {port: 8080}")

# %% wrong="15.1" title="timeoutSeconds left at its default"
# fails slow-is-not-dead: timeoutSeconds, which is 1 if you do not set it
manifest_15_1 = manifest_15_1.replace("          timeoutSeconds: 3\n", "")

# %% wrong="15.1" title="one failure is enough"
# fails short-pause: One failed question is enough
manifest_15_1 = manifest_15_1.replace("failureThreshold: 3", "failureThreshold: 1").replace(
    "timeoutSeconds: 3", "timeoutSeconds: 2"
)

# %% wrong="15.1" title="one failure is enough, and other probes ask for the same page"
# fails short-pause: One failed question is enough
manifest_15_1 = (
    manifest_15_1.replace("failureThreshold: 3", "failureThreshold: 1")
    .replace("timeoutSeconds: 3", "timeoutSeconds: 2")
    .replace(
        "        livenessProbe:",
        "        readinessProbe:\n          httpGet: {path: /healthz, port: 8080}\n          periodSeconds: 1\n"
        "          timeoutSeconds: 5\n        livenessProbe:",
    )
)

# %% wrong="15.1" title="the probe asks a port at which nobody listens"
# fails restarted: The probe fails on healthy containers
manifest_15_1 = manifest_15_1.replace("path: /healthz, port: 8080", "path: /healthz, port: 9090").replace(
    "timeoutSeconds: 3", "timeoutSeconds: 1"
).replace("periodSeconds: 2", "periodSeconds: 1")

# %% wrong="15.1" title="the probe asks such a port, and ends the healthy while the others are harmed"
# fails restarted: The probe fails on healthy containers
manifest_15_1 = manifest_15_1.replace("path: /healthz, port: 8080", "path: /healthz, port: 9090").replace(
    "timeoutSeconds: 3\n          failureThreshold: 3", "timeoutSeconds: 1\n          failureThreshold: 4"
)

# %% wrong="15.1" title="the probe asks such a port, and is patient"
# fails restarted: The probe fails on healthy containers
manifest_15_1 = manifest_15_1.replace("path: /healthz, port: 8080", "path: /healthz, port: 9090").replace(
    "timeoutSeconds: 3", "timeoutSeconds: 1"
).replace("periodSeconds: 2", "periodSeconds: 5")

# %% wrong="15.1" title="a misspelt field"
# fails restarted: A field is misspelt
manifest_15_1 = manifest_15_1.replace("livenessProbe", "livenesProbe")

# %% [markdown]
# ## Exercise 15.2: A replica that cannot serve for a while
#
# The same site, already guarded against hanging. A replica reloads its model now and then; for up to half a minute
# it answers 503 then, on `/recommend/…` and on `/readyz`. A new replica takes **3 seconds** to load its model
# before it opens its port.
#
# - Within **10 seconds** a replica that is not ready gets no requests any more; the others answer all of them.
# - It is not restarted, and within **12 seconds** of being ready again it gets requests again.
# - When a replica is added, no request fails while it starts.

# %% answer="15.2"
manifest_15_2 = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: serving
spec:
  replicas: 3
  selector:
    matchLabels: {app: serving}
  template:
    metadata:
      labels: {app: serving}
    spec:
      terminationGracePeriodSeconds: 3
      containers:
      - name: serving
        image: podlab/python:3
        imagePullPolicy: IfNotPresent
        command: ["python3", "-S", "/program/serving.py"]
        envFrom:
        - configMapRef: {name: serving-settings}
        volumeMounts:
        - {name: program, mountPath: /program}
        livenessProbe:
          httpGet: {path: /healthz, port: 8080}
          initialDelaySeconds: 5
          periodSeconds: 2
          timeoutSeconds: 3
          failureThreshold: 3
        ### BEGIN SOLUTION
        readinessProbe:
          httpGet: {path: /readyz, port: 8080}
          periodSeconds: 1
          timeoutSeconds: 2
          failureThreshold: 2
        ### END SOLUTION
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

# %% checks="15.2"

# %% alternative="15.2" title="a command in the container asks"
manifest_15_2 = manifest_15_2.replace(
    "          httpGet: {path: /readyz, port: 8080}\n",
    "          exec:\n"
    "            command: [python3, -S, -c, \"import urllib.request as r;"
    " r.urlopen('http://127.0.0.1:8080/readyz', timeout=2)\"]\n",
).replace("          periodSeconds: 1\n          timeoutSeconds: 2", "          periodSeconds: 2\n          timeoutSeconds: 4")

# %% alternative="15.2" title="the page itself is the question, and a startup probe beside it"
manifest_15_2 = manifest_15_2.replace("{path: /readyz, port: 8080}", "{path: /recommend/1, port: 8080}").replace(
    "        readinessProbe:",
    "        startupProbe:\n          httpGet: {path: /healthz, port: 8080}\n          periodSeconds: 1\n"
    "          failureThreshold: 30\n        readinessProbe:",
)

# %% wrong="15.2" title="readiness asks whether the process lives"
# fails out-of-traffic: The pod counts as Ready
manifest_15_2 = manifest_15_2.replace("/readyz", "/healthz")

# %% wrong="15.2" title="liveness asks whether there is a model"
# fails not-restarted: Let liveness ask /healthz
manifest_15_2 = manifest_15_2.replace("{path: /healthz, port: 8080}", "{path: /readyz, port: 8080}")

# %% wrong="15.2" title="the probe asks too rarely"
# fails out-of-traffic: asks too rarely
manifest_15_2 = manifest_15_2.replace(
    "          periodSeconds: 1\n          timeoutSeconds: 2\n          failureThreshold: 2",
    "          periodSeconds: 10\n          timeoutSeconds: 2\n          failureThreshold: 100",
)

# %% wrong="15.2" title="a page that does not exist"
# fails out-of-traffic: their readiness probe does not succeed
manifest_15_2 = manifest_15_2.replace("/readyz", "/ready")

# %% wrong="15.2" title="a readiness probe that always says yes"
# fails out-of-traffic: The pod counts as Ready
# fails clean-start: The new replica counted as ready before its model was loaded
manifest_15_2 = manifest_15_2.replace("httpGet: {path: /readyz, port: 8080}", 'exec: {command: ["true"]}')

# %% wrong="15.2" title="a replica that once had no model is never ready again"
# fails comes-back: asks for what stays wrong once it was
manifest_15_2 = manifest_15_2.replace(
    "          httpGet: {path: /readyz, port: 8080}\n",
    "          exec:\n"
    "            command: [python3, -S, -c, \"import json, urllib.request as r;"
    " assert json.load(r.urlopen('http://127.0.0.1:8080/trouble', timeout=2))['unready_until'] == 0\"]\n",
).replace("          periodSeconds: 1\n          timeoutSeconds: 2", "          periodSeconds: 2\n          timeoutSeconds: 4")

# %% wrong="15.2" title="a TCP probe"
# fails out-of-traffic: The pod counts as Ready
manifest_15_2 = manifest_15_2.replace("httpGet: {path: /readyz, port: 8080}", "tcpSocket: {port: 8080}")

# %% [markdown]
# ## Exercise 15.3: A slow start
#
# The model has grown. Loading it takes between 1 and **20 seconds**, and until then the port is closed. As the
# manifest stands, a slow start is never survived.
#
# - A replica whose model takes up to 20 seconds to load becomes ready without a restart.
# - After its start it is guarded as before: a replica that hangs is restarted within **15 seconds**.
# - A quick start stays quick: with a model that loads in one second, the replica is ready soon.
# - A start that never ends is given up: after at most **45 seconds** the container is restarted.

# %% answer="15.3"
manifest_15_3 = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: serving
spec:
  replicas: 1
  selector:
    matchLabels: {app: serving}
  template:
    metadata:
      labels: {app: serving}
    spec:
      terminationGracePeriodSeconds: 3
      containers:
      - name: serving
        image: podlab/python:3
        imagePullPolicy: IfNotPresent
        command: ["python3", "-S", "/program/serving.py"]
        envFrom:
        - configMapRef: {name: serving-settings}
        volumeMounts:
        - {name: program, mountPath: /program}
        livenessProbe:
          httpGet: {path: /healthz, port: 8080}
          periodSeconds: 2
          timeoutSeconds: 2
          failureThreshold: 2
        readinessProbe:
          httpGet: {path: /readyz, port: 8080}
          periodSeconds: 1
          timeoutSeconds: 2
        ### BEGIN SOLUTION
        startupProbe:
          httpGet: {path: /healthz, port: 8080}
          periodSeconds: 1
          timeoutSeconds: 2
          failureThreshold: 30
        ### END SOLUTION
      volumes:
      - name: program
        configMap: {name: serving-program}
"""

# %% checks="15.3"

# %% alternative="15.3" title="an open port is proof enough of a start"
manifest_15_3 = manifest_15_3.replace(
    "        startupProbe:\n          httpGet: {path: /healthz, port: 8080}\n          periodSeconds: 1\n"
    "          timeoutSeconds: 2\n          failureThreshold: 30\n",
    "        startupProbe:\n          tcpSocket: {port: 8080}\n          periodSeconds: 2\n          failureThreshold: 16\n",
)

# %% alternative="15.3" title="a command asks, every second"
manifest_15_3 = manifest_15_3.replace(
    "        startupProbe:\n          httpGet: {path: /healthz, port: 8080}\n          periodSeconds: 1\n"
    "          timeoutSeconds: 2\n          failureThreshold: 30\n",
    "        startupProbe:\n          exec:\n"
    "            command: [python3, -S, -c, \"import socket; socket.create_connection(('127.0.0.1', 8080), 1)\"]\n"
    "          periodSeconds: 1\n          timeoutSeconds: 3\n          failureThreshold: 28\n",
)

# %% wrong="15.3" title="the liveness probe waits an hour before it begins"
# fails still-guarded: The patience that the start needs was given to the liveness probe
# fails gives-up: allows for a start without end
manifest_15_3 = manifest_15_3.replace(
    "          httpGet: {path: /healthz, port: 8080}\n          periodSeconds: 2\n          timeoutSeconds: 2\n"
    "          failureThreshold: 2\n",
    "          httpGet: {path: /healthz, port: 8080}\n          initialDelaySeconds: 3600\n          periodSeconds: 2\n"
    "          timeoutSeconds: 2\n          failureThreshold: 2\n",
)
manifest_15_3 = manifest_15_3.replace(
    manifest_15_3[manifest_15_3.index("        startupProbe:") : manifest_15_3.index("        ### END")], ""
)

# %% wrong="15.3" title="the liveness probe forgives six hundred failures"
# fails still-guarded: The patience that the start needs was given to the liveness probe
manifest_15_3 = manifest_15_3.replace(
    "periodSeconds: 2\n          timeoutSeconds: 2\n          failureThreshold: 2",
    "periodSeconds: 2\n          timeoutSeconds: 2\n          failureThreshold: 600",
)

# %% wrong="15.3" title="the liveness probe asks for a page that does not exist"
# fails stays-up: A probe fails after the start as well
manifest_15_3 = manifest_15_3.replace(
    "        livenessProbe:\n          httpGet: {path: /healthz, port: 8080}\n          periodSeconds: 2\n",
    "        livenessProbe:\n          httpGet: {path: /health, port: 8080}\n          periodSeconds: 10\n",
)

# %% wrong="15.3" title="a startup probe with too little patience"
# fails comes-up: ended the container while it was still loading
manifest_15_3 = manifest_15_3.replace("failureThreshold: 30", "failureThreshold: 6")

# %% wrong="15.3" title="a startup probe with endless patience"
# fails gives-up: a start without end
manifest_15_3 = manifest_15_3.replace("failureThreshold: 30", "failureThreshold: 3000")

# %% wrong="15.3" title="a fixed wait before anyone asks"
# fails quick-start: A fixed waiting time
manifest_15_3 = manifest_15_3.replace(
    "          periodSeconds: 1\n          timeoutSeconds: 2\n          failureThreshold: 30\n",
    "          initialDelaySeconds: 20\n          periodSeconds: 1\n          timeoutSeconds: 2\n"
    "          failureThreshold: 10\n",
)

# %% [markdown]
# ## Exercise 15.4: A node is lost
#
# Somebody wanted the replicas close together, near a cache that is long gone, and there is only one of them. Make
# the site survive the loss of a node.
#
# - Whichever node is lost, **some request is answered in every few seconds**, also before the control plane has
#   noticed.
# - As many replicas as before are ready on other nodes **sooner than by default**: before a pod that has only the
#   default tolerations is taken off the lost node.
# - An administrator may empty nodes at any time, by evicting pods one after the other. **The last replicas are
#   never taken**, and yet nodes *can* be emptied.
#
# Three nodes are there. Change whatever you like in the manifest; the labels and the Service keep their names.

# %% answer="15.4"
manifest_15_4 = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: serving
spec:
  replicas: 1
  selector:
    matchLabels: {app: serving}
  template:
    metadata:
      labels: {app: serving}
    spec:
      terminationGracePeriodSeconds: 3
      affinity:
        podAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
          - weight: 100
            podAffinityTerm:
              topologyKey: kubernetes.io/hostname
              labelSelector:
                matchLabels: {app: serving}
      containers:
      - name: serving
        image: podlab/python:3
        imagePullPolicy: IfNotPresent
        command: ["python3", "-S", "/program/serving.py"]
        envFrom:
        - configMapRef: {name: serving-settings}
        volumeMounts:
        - {name: program, mountPath: /program}
        livenessProbe:
          httpGet: {path: /healthz, port: 8080}
          periodSeconds: 2
          timeoutSeconds: 3
        readinessProbe:
          httpGet: {path: /readyz, port: 8080}
          periodSeconds: 1
          timeoutSeconds: 2
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
together = manifest_15_4[manifest_15_4.index("      affinity:") : manifest_15_4.index("      containers:")]
apart = """      topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: DoNotSchedule
        nodeTaintsPolicy: Honor
        labelSelector:
          matchLabels: {app: serving}
      tolerations:
      - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 3}
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 3}
"""
budget = """---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: serving
spec:
  maxUnavailable: 1
  selector:
    matchLabels: {app: serving}
"""
manifest_15_4 = manifest_15_4.replace("replicas: 1", "replicas: 3").replace(together, apart) + budget
### END SOLUTION

# %% checks="15.4"

# %% alternative="15.4" title="two replicas that must not share a node"
manifest_15_4 = manifest_15_4.replace("replicas: 3", "replicas: 2").replace(
    manifest_15_4[manifest_15_4.index("      topologySpread") : manifest_15_4.index("      tolerations:")],
    "      affinity:\n        podAntiAffinity:\n          requiredDuringSchedulingIgnoredDuringExecution:\n"
    "          - topologyKey: kubernetes.io/hostname\n            labelSelector:\n"
    "              matchLabels: {app: serving}\n",
).replace("maxUnavailable: 1", "minAvailable: 1")

# %% alternative="15.4" title="spread where it is possible, four replicas, half of them guarded"
manifest_15_4 = (
    manifest_15_4.replace("replicas: 3", "replicas: 4")
    .replace("DoNotSchedule\n        nodeTaintsPolicy: Honor", "ScheduleAnyway")
    .replace("maxUnavailable: 1", "minAvailable: 50%")
    .replace("tolerationSeconds: 3", "tolerationSeconds: 1")
)

# %% wrong="15.4" title="more replicas, still close together"
# fails keeps-answering: All replicas were on the node that was lost
manifest_15_4 = manifest_15_4.replace(apart[: apart.index("      tolerations:")], together)

# %% wrong="15.4" title="the default tolerations"
# fails moved: The replicas tolerate a lost node as long as the default does
manifest_15_4 = manifest_15_4.replace(apart[apart.index("      tolerations:") :], "")

# %% wrong="15.4" title="tolerations without an end"
# fails moved: The replicas tolerate a lost node as long as the default does
manifest_15_4 = manifest_15_4.replace(", tolerationSeconds: 3", "")

# %% wrong="15.4" title="as many replicas as nodes, and none may share"
# fails moved: A replacement was made but fits on no node
manifest_15_4 = manifest_15_4.replace(
    apart[: apart.index("      tolerations:")],
    "      affinity:\n        podAntiAffinity:\n          requiredDuringSchedulingIgnoredDuringExecution:\n"
    "          - topologyKey: kubernetes.io/hostname\n            labelSelector:\n"
    "              matchLabels: {app: serving}\n",
)

# %% wrong="15.4" title="no budget for evictions"
# fails drain: Nothing tells the API server how many replicas must stay
manifest_15_4 = manifest_15_4.replace(budget, "")

# %% wrong="15.4" title="a budget that allows nothing"
# fails drain-possible: The budget demands every replica
manifest_15_4 = manifest_15_4.replace("maxUnavailable: 1", "maxUnavailable: 0")

# %% [markdown]
# ## How far you are

# %%
lab.progress()
