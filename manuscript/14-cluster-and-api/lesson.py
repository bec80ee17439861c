# ---
# title: A cluster and its API
# chapter: "14"
# minutes: 60
# needs: a cluster
# ---

# %% [markdown]
# # 14. A cluster and its API
#
# *Who does what when I say apply?*
#
# In the parts before this one we started processes ourselves, watched them, and started them again when they died.
# From here on we say what we want, and somebody else sees to it. In this chapter we look for that somebody. We shall
# find not one but several, none of which gives orders to another.
#
# Everything you will see happens on a real control plane, which runs on this machine.

# %%
from podlab.lab import start

lab = start("14")

# %% [markdown]
# ## What a cluster is
#
# A cluster has *nodes*, the machines on which containers run, and a *control plane*: a store (etcd), the API server
# in front of it, a scheduler, and some dozens of controllers in one process. Each node has an agent, the kubelet,
# that starts containers. Here are the nodes.

# %%
lab.nodes()

# %% [markdown]
# The picture below is live: boxes are nodes, tiles are pods. There are none of ours yet. Leave it in view.

# %%
m = lab.map("The cluster")
m

# %% [markdown]
# ## A wish, and its way
#
# This text wishes for a site: two copies of the serving program. It does not say on which nodes, in which order, or
# what to do when one is lost. It is a *manifest*: a description of how things should be.

# %%
SITE = """
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
      terminationGracePeriodSeconds: 2
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

# %% [markdown]
# `lab.journey()` records from now on every write that reaches the store, and who made it. It reads the same news
# that every part of the cluster reads.
#
# **Predict.** You will apply one object. How many writes will there be until both pods are ready? And how many of
# them will be yours?

# %%
print(lab.predict("writes in all", None))
lab.predict("writes of yours", None)

# %%
j = lab.journey("From a manifest to two pods")
lab.apply(SITE)
lab.rollout("serving")
lab.pause(1)
j.stop()
print(lab.reconcile("writes in all", len(j.journal.steps)))
print(lab.reconcile("writes of yours", j.journal.count(who="you")))
j

# %% [markdown]
# Read the picture from left to right. You wrote a Deployment. The *deployment controller* saw it and wrote a
# ReplicaSet. The *replicaset controller* saw that and wrote two pods, which had no node yet. The *scheduler* saw
# pods without a node and chose one for each. Each *node* saw a pod with its own name in it, started the container,
# and wrote back how it went. Then the numbers went up again: a ReplicaSet with two ready pods, a Deployment with
# two ready pods.
#
# `j.seek(3)` shows the first three writes; so does the slider.

# %% [markdown]
# Nobody called anybody. Each part reads from the API server, and writes there what it is in charge of. The API
# server calls nobody either: it keeps objects, checks who may write what, and tells everybody what has changed.
# So any part may be away for a while. What it should have done is still written there when it comes back.
#
# In the map there are two tiles now.

# %%
m

# %% [markdown]
# ## Who brings it back
#
# Every object that a controller made says on whose behalf: in its *ownerReferences*. Two steps up from a pod is what
# you wrote.

# %%
pod = lab.pods()[0]
owner = pod["metadata"]["ownerReferences"][0]
above = lab.get(owner["kind"], owner["name"])["metadata"]["ownerReferences"][0]
print(f"Pod {pod['metadata']['name']}\n  of {owner['kind']} {owner['name']}\n  of {above['kind']} {above['name']}")

# %% [markdown]
# Of the three you wrote only the last. We delete the first, the pod.
#
# **Predict.** There will be two pods again. Will the deleted one be back, with the same identity (`uid`)? Write
# `"yes"` or `"no"`. You wrote one object: how many Deployments, ReplicaSets and pods will there be in all?

# %%
print(lab.predict("the same pod again", None))
lab.predict("objects after a deletion", None, "objects")

# %%
uids = {each["metadata"]["uid"] for each in lab.pods()}
lab.delete("pod", pod["metadata"]["name"])
took = lab.measure(lambda: not lab.now(pod) and lab.settled(), "two pods again")
fresh = {each["metadata"]["uid"] for each in lab.pods()} - uids
print(f"after {took} s there is one pod that was not there before: {fresh}")
print(lab.reconcile("the same pod again", "no" if fresh else "yes"))
objects = sum(len(lab.get(kind)) for kind in ("deployments", "replicasets", "pods"))
lab.reconcile("objects after a deletion", objects)

# %% [markdown]
# Nothing was repaired. A count did not fit, and the replicaset controller made the count fit. What is new has a new
# name, a new uid, perhaps another node. That is why nothing of value may live only in a pod.
#
# What if we delete the ReplicaSet itself?

# %%
j2 = lab.journey("A ReplicaSet is deleted")
lab.delete("replicaset", owner["name"])
lab.measure(lambda: owner["uid"] not in {each["metadata"]["uid"] for each in lab.get("replicasets")}, "it being gone")
lab.rollout("serving")
j2.stop()
j2

# %% [markdown]
# One level up, the same thing: the deployment controller missed its ReplicaSet. And the pods of the old one? They had
# lost their owner, and the *garbage collector* removed them. Only the deletion of what you wrote yourself is final.
#
# ## Everybody watches
#
# How do all of them learn of a change at once? Not by asking again and again. They ask for a *list* once, and the
# answer says at which *resourceVersion* of the store it was true. From there on they *watch*: a request that stays
# open, and brings a line for each change. We do the same, by hand.

# %%
answer = lab.api.request("GET", f"/api/v1/namespaces/{lab.namespace}/pods")
version = answer["metadata"]["resourceVersion"]
print(len(answer["items"]), "pods at version", version)

# %% [markdown]
# Now the number is raised to three, and only then do we begin to watch, from the version of the list.
#
# **Predict.** How many events will one new pod make until it runs?

# %%
lab.predict("events of a new pod", None)

# %%
lab.scale("serving", 3)
lab.rollout("serving")
events = list(lab.api.watch("Pod", lab.namespace, version, seconds=4))
for event in events:
    meta = event["object"]["metadata"]
    print(f"{event['type']:9} {meta['resourceVersion']:>7} {meta.get('name', '')}")
changes = [event for event in events if event["type"] != "BOOKMARK"]
lab.reconcile("events of a new pod", len(changes))

# %% [markdown]
# All of it had happened *before* we asked, and none of it was missed. Made, given a node, running: each is a write
# of somebody, and a line here. The last line is a *bookmark*: nothing happened to our pods, but so far we are.
#
# The store does not keep everything for ever. Some minutes later, a watch from this version is answered with 410,
# Gone. Then there is only one thing to do: list again.

# %% [markdown]
# ## Two who write the same field
#
# Many may write to one object. With *server-side apply* each says only what it cares for, under a name, and the API
# server keeps a book: who owns which field. The lab applied `SITE` under the name `lab`.

# %%
for entry in lab.get("deployment", "serving")["metadata"]["managedFields"]:
    print(f"{entry['manager']:26} {entry.get('subresource', ''):8} {sorted(entry['fieldsV1'])}")

# %% [markdown]
# Now somebody else, `scaler`, applies the same Deployment and says nothing but: five replicas.
#
# **Predict.** Will the API accept it? Write `"yes"` or `"no"`.

# %%
lab.predict("accepted", None)

# %%
from podlab.checks.api import ApiError
from podlab.course.cluster_and_api.handing_over import apply, count_only

lab.apply(SITE)
try:
    apply(lab.room, "scaler", count_only(5))
    print(lab.reconcile("accepted", "yes"))
except ApiError as error:
    print(lab.reconcile("accepted", "no"))
    print(error.status, error.message)

# %% [markdown]
# A *conflict*, and a helpful one: it names the field and the one who has it. Nothing was changed. The scaler may
# insist (`force`), and then the field is its own, or it may say what is there already, and then both own it. What
# happens when an owner drops a field, you will find out in the exercises.

# %% [markdown]
# ## A loop that never ends
#
# What is inside a controller? A loop of three lines: what is wanted, what is there, what to do. Ours keeps three
# tickets, as ConfigMaps.

# %%
def reconcile(wanted, names):
    missing = [f"ticket-{number}" for number in range(wanted) if f"ticket-{number}" not in names]
    return missing, sorted(names)[wanted:]


def turn(wanted):
    names = [item["metadata"]["name"] for item in lab.get("configmaps") if item["metadata"]["name"][:6] == "ticket"]
    missing, surplus = reconcile(wanted, names)
    for name in missing:
        lab.apply(f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}")
    for name in surplus:
        lab.delete("configmap", name)
    return f"there were {len(names)}; made {missing}, deleted {surplus}"


print(turn(3))

# %% [markdown]
# **Predict.** We delete one ticket and call `turn(3)` twice. How many writes will the two calls make together?

# %%
lab.predict("writes of two turns", None)

# %%
lab.delete("configmap", "ticket-1")
first, second = turn(3), turn(3)
print(first, second, turn(2), sep="\n")
lab.reconcile("writes of two turns", first.count("'ticket") + second.count("'ticket"))

# %% [markdown]
# The loop does not know that something was deleted. It sees that something is missing. So it does not matter whether
# it saw the event, whether it was started anew in between, or whether it is called once too often: it looks at the
# *state*. All of Kubernetes is made of such loops, each with its own small promise.

# %%
lab.snapshot()

# %% [markdown]
# ## What we have seen
#
# - A manifest is a **wish**. The API server stores it; that is all it does about it.
# - **Controllers, scheduler and nodes** watch the API, and each writes what it is in charge of. Nobody calls anybody.
# - What is deleted is not repaired: its **owner** makes another one, with another uid.
# - **List, then watch** from the version of the list, and nothing is missed. When the version is too old, list again.
# - **Field managers** share an object; a conflict names the field and its owner.
# - A controller is a **loop** over a state, which may be called at any time.

# %% [markdown]
# ## Three questions to test yourself
#
# 1. The scheduler is stopped for a minute. Which of your pods notice? What happens to a Deployment that is applied
#    meanwhile, and when the scheduler is back?
# 2. You delete a pod to "restart" it. What else have you thrown away?
# 3. Why must a watch begin at the version of the list, and not at "now"?
#
# ## To read on
#
# - [Kubernetes components](https://kubernetes.io/docs/concepts/overview/components/)
# - [Controllers](https://kubernetes.io/docs/concepts/architecture/controller/)
# - [Efficient detection of changes](https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes)
# - [Owners and dependents](https://kubernetes.io/docs/concepts/overview/working-with-objects/owners-dependents/)
# - [Server-side apply](https://kubernetes.io/docs/reference/using-api/server-side-apply/)
#
# Now do it yourself: [the exercises of this chapter](../release/14-cluster-and-api/14-cluster-and-api.ipynb) check themselves, as often as you like.
