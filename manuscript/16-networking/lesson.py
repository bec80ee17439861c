# ---
# title: Networking and load balancing
# chapter: "16"
# minutes: 60
# needs: a cluster
# ---

# %% [markdown]
# # 16. Networking and load balancing
#
# *How do pods find each other, and who gets the request?*
#
# Pods come and go, as we saw in chapter 15. Whoever wants to ask one has to find it first, and should not have to
# know whether it is alive, ready, or the fourth of its name. In this chapter a client inside the cluster asks, and
# we look at who answers: first at a pod's own address, then through a Service, and at last by name.
#
# Every request carries a number that only its own answer can bring back, so what we count is what happened.

# %%
from podlab.lab import start

lab = start("16")

# %% [markdown]
# ## An address that does not last
#
# Three pods run the serving program. Each says by its readiness probe whether it has a model to serve, calls its
# port `web`, and lets a client keep a connection open.

# %%
SITE = """
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
      terminationGracePeriodSeconds: 10
      containers:
      - name: serving
        image: podlab/python:3
        imagePullPolicy: IfNotPresent
        command: ["python3", "-S", "/program/serving.py"]
        env: [{name: KEEP_ALIVE, value: "yes"}]
        ports: [{name: web, containerPort: 8080}]
        readinessProbe:
          httpGet: {path: /readyz, port: web}
          periodSeconds: 1
          timeoutSeconds: 3
          failureThreshold: 2
        volumeMounts:
        - {name: program, mountPath: /program}
        # lifecycle
      volumes:
      - name: program
        configMap: {name: serving-program}
"""
lab.apply(SITE)
lab.rollout("serving")

# %% [markdown]
# Each pod has an address of its own, from which and to which it can speak with every other pod of the cluster, on
# whatever node. There is no translation in between: `visitor`, a pod too, asks the first of them, and the pod sees
# the visitor's own address.

# %%
visitor = lab.visitor()
pod = lab.pods()[0]
address = pod["status"]["podIP"]
answers = visitor.visit(f"http://{address}:8080/recommend/123", 5)
print(f"{address}: {answers.summary()}; asked from {', '.join({record.client for record in answers.records})}")

# %% [markdown]
# Now the pod is deleted. The Deployment replaces it, as it should.
#
# **Predict.** How many of five further requests to the *old* address will be answered? Put a number in place of
# `None`.

# %%
lab.predict("answers at the old address", None)

# %%
lab.delete("pod", pod["metadata"]["name"])
lab.measure(lambda: not lab.now(pod) and len(lab.room.ready()) == 3, "three pods again")
answers = visitor.visit(f"http://{address}:8080/recommend/123", 5)
print("now", [each["status"]["podIP"] for each in lab.pods()])
lab.reconcile("answers at the old address", len(answers) - len(answers.failed))

# %% [markdown]
# Three pods, and none at the old address. A pod's address lives as long as the pod. Whoever had written it down
# somewhere would now have to look for the new one, and so would everybody else who asks, each time.

# %% [markdown]
# ## One address in front of three
#
# A *Service* is an address that lasts. It names no pods; it asks a question, its *selector*: which pods carry these
# labels? And it has two ports: `port`, at which clients ask it, and `targetPort`, at which it asks the pods. The
# cluster's DNS gives its address for its name: a short one within the namespace, a long one from everywhere else.

# %%
SERVICE = """
apiVersion: v1
kind: Service
metadata:
  name: serving
spec:
  selector: {app: serving}
  ports:
  - {port: 80, targetPort: web}
"""
lab.apply(SERVICE)
lab.wait(lambda: visitor.visit("http://serving/recommend/1").records[0].ok, "the first answer")
print(visitor.resolve("serving"), visitor.resolve(f"serving.{lab.namespace}.svc.cluster.local"))
lab.get("services")

# %% [markdown]
# **Predict.** The visitor sends 300 requests, each over a connection of its own. What share, in percent, will the
# busiest of the three pods answer?

# %%
lab.predict("share of the busiest pod", None, "%")

# %%
answers = visitor.visit("http://serving/recommend/123", 300)
print(answers.summary())
lab.reconcile("share of the busiest pod", round(100 * max(answers.share().values()) / len(answers), 1))

# %% [markdown]
# About a third each, but not exactly: nobody takes turns here. The choice is by chance, and it has no memory and no
# eyes. It does not know which pod is idle.
#
# Who makes it? Not the Service: there is no process at its address, and nothing listens there. Each node watches
# the API for Services and their pods and turns them into rules of its kernel. The first packet of a connection that
# leaves for a Service's address gets another destination on the client's own node, drawn from the pods. All further
# packets of the connection follow it.
#
# In the picture, a second client asks ten times a second. The wider a way, the more requests took it. `f.seek(3)`
# goes back in time.

# %%
traffic = lab.requests("serving", "/recommend/123")
f = lab.flow(traffic)
lab.pause(8)
f

# %% [markdown]
# **Predict.** The visitor now sends 60 requests over *one* connection that stays open, as a database driver or a
# browser does. How many pods will answer?

# %%
lab.predict("pods behind one connection", None)

# %%
answers = visitor.visit("http://serving/recommend/123", 60, keep=True)
print(answers.summary())
lab.reconcile("pods behind one connection", len(answers.share()))

# %% [markdown]
# A Service balances *connections*. What happens inside one it does not see. With few clients that keep few
# connections, one pod may sweat and another sleep, and adding pods helps nobody until somebody connects anew.
#
# ## Whoever is ready
#
# Between the question of the Service and the rules on the nodes stands an object that we can look at. A controller
# keeps the list of the pods that fit, with their readiness: the *EndpointSlice*.

# %%
lab.get("endpointslices")

# %% [markdown]
# One replica loses its model for twenty seconds and says 503 on every page.
#
# **Predict.** Once the cluster has noticed: what share of the requests, in percent, will still reach it?

# %%
lab.predict("share of the pod that is not ready", None, "%")

# %%
busy = lab.pods()[0]
lab.trouble(busy, "unready", seconds=20)
noticed = lab.measure(lambda: not lab.ready(busy), "the pod being called not ready")
lab.pause(1)
traffic.mark()
lab.pause(8)
seen = traffic.since_mark()
print(f"noticed after {noticed} s; then {seen.summary()}")
share = 100 * seen.share()[busy["metadata"]["name"]] / len(seen)
print(lab.reconcile("share of the pod that is not ready", round(share, 1)))
lab.get("endpointslices")

# %% [markdown]
# The pod is still on the list, in the other column. The two others have half of the requests each, and no client
# had to know. The same goes for pods that start, that are added, and that are told to go: the list changes, then
# the rules, and the next connection goes elsewhere.
#
# ## A Service that leads nowhere
#
# A Service does not complain. Here are two that are wrong, each by one word. Both are accepted, both get an address
# and a name, and a client sees the same of both: the connection is refused. What tells them apart? Look at the list
# before you read on: which of the two has endpoints?

# %%
lab.measure(lambda: lab.ready(busy), "the pod being back")
WRONG_LABEL = SERVICE.replace("name: serving", "name: wrong-label").replace("app: serving", "app: servign")
WRONG_PORT = SERVICE.replace("name: serving", "name: wrong-port").replace("targetPort: web", "targetPort: 8081")
lab.apply(WRONG_LABEL + "---" + WRONG_PORT)
lab.pause(1)
for name in ("wrong-label", "wrong-port"):
    print(name, visitor.resolve(name), visitor.visit(f"http://{name}/recommend/1", 3).summary())
lab.get("endpointslices")

# %% [markdown]
# A selector that fits nothing leaves the list empty. A wrong port leaves it full: those pods are there and ready,
# and nobody listens where the Service sends. A third case, pods that fit and are not ready, shows in the other
# column. So the list is the first thing to look at when nobody answers.

# %% [markdown]
# ## Names without an address in between
#
# A client may want to choose for itself, or to know all members of a group: a database and its copies, or the
# nodes of chapter 03. A *headless* Service, one with `clusterIP: None`, has no address. Its name leads to the pods
# themselves. A *StatefulSet* numbers its pods, and each gets a name below that Service.

# %%
GROUP = """
apiVersion: v1
kind: Service
metadata:
  name: shards
spec:
  clusterIP: None
  selector: {app: shard}
  ports:
  - {port: 8080}
---
""" + SITE.replace("kind: Deployment", "kind: StatefulSet").replace("app: serving", "app: shard").replace(
    "name: serving\nspec:\n  replicas: 3", "name: shard\nspec:\n  serviceName: shards\n  replicas: 2"
)
lab.delete("service", "wrong-label")
lab.delete("service", "wrong-port")
lab.apply(GROUP)
lab.wait(lambda: len(visitor.resolve("shards")) == 2, "both members in DNS")
for name in ("shards", "shard-0.shards", "shard-1.shards"):
    print(name, visitor.resolve(name))

# %% [markdown]
# The name outlives the pod. `shard-0` is deleted and comes back as another pod.

# %%
before = lab.get("pod", "shard-0")
lab.delete("pod", "shard-0")
lab.wait(lambda: not lab.now(before) and len(visitor.resolve("shards")) == 2, "both members again")
print("was", before["status"]["podIP"], before["metadata"]["uid"])
print("now", visitor.resolve("shard-0.shards"), lab.get("pod", "shard-0")["metadata"]["uid"])
lab.delete("statefulset", "shard")

# %% [markdown]
# ## The same client, the same pod
#
# Some programs remember their clients for a while, and would like to see them again. With `sessionAffinity`, the
# node remembers by its address to which pod it sent a client.
#
# **Predict.** The visitor sends 30 requests, each over a new connection. How many pods will answer?

# %%
lab.predict("pods that one client sees", None)

# %%
lab.apply(SERVICE + "  sessionAffinity: ClientIP\n")
lab.pause(1)
answers = visitor.visit("http://serving/recommend/123", 30)
print(answers.summary())
lab.reconcile("pods that one client sees", len(answers.share()))

# %% [markdown]
# So many connections, one pod. The other client, that of the picture, has its own, perhaps the same one: now chance
# deals out clients and no longer requests. Everybody behind one gateway is one client.

# %% [markdown]
# ## Leaving without a loss
#
# A pod that is told to go leaves the list of endpoints. At the same moment its program gets SIGTERM, and ours ends
# at once, whatever it is doing. To see what this costs we let every answer take a second, and delete one pod.
#
# **Predict.** Twenty requests arrive each second. How many will be lost?

# %%
lab.predict("requests lost", None)

# %%
def delete_one():
    for each in lab.room.ready():
        lab.trouble(each, "slow", delay=1, seconds=60)
    # From before the deletion: what is lost was sent then.
    busy_hour.mark()
    lab.pause(2)
    lab.delete("pod", lab.room.ready()[0]["metadata"]["name"])
    lab.pause(8)
    return busy_hour.since_mark()


lab.apply(SERVICE + "  sessionAffinity: None\n")
lab.wait_ready(3)
busy_hour = lab.requests("serving", "/recommend/123", rate=20, name="busy-hour")
seen = delete_one()
print(seen.summary())
lab.reconcile("requests lost", len(seen.failed))

# %% [markdown]
# What was under way in that pod is lost, and what was sent there before every node had heard of it. The cure is to
# go slowly: stay for some seconds and answer, while no new requests come, and end then. The container may do
# something before it is stopped. Here it only waits.

# %%
lab.apply(SITE.replace("# lifecycle", "lifecycle: {preStop: {sleep: {seconds: 4}}}"))
lab.rollout("serving")
print(delete_one().summary())

# %% [markdown]
# Nothing was lost, and the program is the same. All that changed is the order: first the pod is off the list, then it
# ends. It costs four seconds for each pod that goes.

# %%
lab.snapshot()

# %% [markdown]
# ## What we have seen
#
# - A pod's address lives as long as the pod. A **Service** has an address and a name that last.
# - A Service is a question (the selector), its answer is a list (**EndpointSlices**), and each node turns the list
#   into rules. There is no process in the middle that could be slow, or fail.
# - The choice is by chance, for each **connection**, among pods that are **ready**.
# - A **headless** Service leads to the pods themselves, and names each of a StatefulSet's pods.
# - With **session affinity** chance deals out clients.
# - When nobody answers, the list says why. When a pod goes, it should stay for a moment.

# %% [markdown]
# ## Three questions to test yourself
#
# 1. A client keeps one connection per Service and sends a thousand requests a second over it. You scale from three
#    pods to ten. What changes?
# 2. A Service answers every third request with "refused", the others are fine. What may its selector fit?
# 3. Why does DNS give the address of the Service, and not those of the pods, for a Service that is not headless?
#    (Think of how long clients keep an answer of DNS.)
#
# ## To read on
#
# - [Service](https://kubernetes.io/docs/concepts/services-networking/service/)
# - [EndpointSlices](https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/)
# - [DNS for Services and Pods](https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/)
# - [Virtual IPs and service proxies](https://kubernetes.io/docs/reference/networking/virtual-ips/)
# - [Termination of Pods](https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination)
#
# Now do it yourself: [the exercises of this chapter](../release/16-networking/16-networking.ipynb) check themselves, as often as you like.
