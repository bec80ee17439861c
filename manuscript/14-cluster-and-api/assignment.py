# ---
# title: A cluster and its API, the exercises
# chapter: "14"
# minutes: 85
# needs: a cluster
# ---

# %% [markdown]
# # 14. A cluster and its API: exercises
#
# Who does what when I say apply? In these exercises you write what people write (a manifest), what every part of a
# cluster does (follow the API, share an object with others), and at last what a controller is (a loop).
#
# Change only the cells that say `YOUR CODE HERE`. The cell below each of them runs the checks on the real API, as
# often as you like. `lab.hint("14.1")` asks you a question that may help. When your work is graded, some further
# checks run that you do not see here; the task says everything they look at.

# %%
from podlab.lab import start

lab = start("14")

# %% [markdown]
# ## Exercise 14.1: Whatever is deleted comes back
#
# This manifest makes one pod. Write one that makes **two** pods of the same program and keeps them.
#
# - A pod that is deleted is followed by another one, with another uid.
# - The object that owns the pods is deleted: another one of its kind follows, with its pods.
# - When the object at the top is deleted, everything goes, and nothing comes back.
#
# And say who owns what: put a dictionary into `owners` that has for each kind that is owned the kind of its owner,
# such as `{"Endpoint": "Service"}`, from the pods to the top.

# %% answer="14.1"
manifest_14_1 = """
apiVersion: v1
kind: Pod
metadata:
  name: serving
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
owners = {}
### BEGIN SOLUTION
indented = "".join(f"    {line}\n" for line in manifest_14_1[manifest_14_1.index("spec:") :].splitlines())
manifest_14_1 = f"""
apiVersion: apps/v1
kind: Deployment
metadata:
  name: serving
spec:
  replicas: 2
  selector:
    matchLabels: {{app: serving}}
  template:
    metadata:
      labels: {{app: serving}}
{indented}"""
owners = {"Pod": "ReplicaSet", "ReplicaSet": "Deployment"}
### END SOLUTION

# %% checks="14.1"

# %% alternative="14.1" title="other labels, and pods that are replaced all at once"
manifest_14_1 = manifest_14_1.replace("app: serving", "part: serving, site: movies").replace(
    "  replicas: 2", "  replicas: 2\n  strategy: {type: Recreate}"
)

# %% alternative="14.1" title="as the item of a list, with a readiness probe and a third pod"
lines = [line for line in manifest_14_1.replace("replicas: 2", "replicas: 3").splitlines() if line]
lines.insert(
    next(number for number, line in enumerate(lines) if "volumeMounts" in line),
    "        readinessProbe: {httpGet: {path: /readyz, port: 8080}, periodSeconds: 1}",
)
manifest_14_1 = "apiVersion: v1\nkind: List\nmetadata: {name: all}\nitems:\n- " + "\n  ".join(lines) + "\n"

# %% wrong="14.1" title="two pods by hand"
# fails comes-back: Nobody owns the pod
# fails goes: has not passed
pod = manifest_14_1[manifest_14_1.index("    spec:") :].replace("\n    ", "\n")[4:]
head = "apiVersion: v1\nkind: Pod\nmetadata: {name: serving-N, labels: {app: serving}}\n"
manifest_14_1 = head.replace("-N", "-1") + pod + "---\n" + head.replace("-N", "-2") + pod

# %% wrong="14.1" title="a ReplicaSet"
# fails middle: Nobody owns it, so nobody misses it
manifest_14_1 = manifest_14_1.replace("kind: Deployment", "kind: ReplicaSet")

# %% wrong="14.1" title="one is enough"
# fails comes-back: Too few pods are asked for
manifest_14_1 = manifest_14_1.replace("  replicas: 2\n", "")

# %% wrong="14.1" title="a selector that does not fit the template"
# fails comes-back: the API server accepts Deployment
manifest_14_1 = manifest_14_1.replace("matchLabels: {app: serving}", "matchLabels: {app: server}")

# %% wrong="14.1" title="who owns whom, the other way round"
# fails owners: It is the other way round
owners = {"Deployment": "ReplicaSet", "ReplicaSet": "Pod"}

# %% [markdown]
# ## Exercise 14.2: Follow, and miss nothing
#
# Write a class `Mirror` that always knows which ConfigMaps there are, and the word in each. It does not speak to
# the API itself: it says what to ask, and gets the real answers.
#
# - `request()` returns what to ask next: `{"list": True}`, or `{"watch": version}` with a version as the API gave it.
# - `listed(answer)` gets the answer to a list: `answer["items"]`, and `answer["metadata"]["resourceVersion"]`.
# - `event(event)` gets one event of a watch: its `"type"` is ADDED, MODIFIED, DELETED, BOOKMARK or ERROR, and
#   `event["object"]` the object (with a BOOKMARK only its version, with an ERROR a `"code"` such as 410).
# - `held()` returns a dictionary: the word (`item["data"]["word"]`) of each object by its name.

# %% [markdown]
# The connection breaks when it likes: then `request()` is asked again, and nothing may be missed nor held that is
# gone. After each list it is asked what to watch, also when only a bookmark has moved the version on. When the API
# says that a version is too old (410), the mirror begins anew.

# %% answer="14.2"
class Mirror:
    """The words of all ConfigMaps by name, from a list and the events after it."""

    ### BEGIN SOLUTION
    def __init__(self):
        self.words, self.version = {}, None

    def request(self):
        return {"watch": self.version} if self.version else {"list": True}

    def listed(self, answer):
        self.words = {item["metadata"]["name"]: item["data"]["word"] for item in answer["items"]}
        self.version = answer["metadata"]["resourceVersion"]

    def event(self, event):
        if event["type"] == "ERROR":
            self.version = None
            return
        item = event["object"]
        self.version = item["metadata"]["resourceVersion"]
        if event["type"] in ("ADDED", "MODIFIED"):
            self.words[item["metadata"]["name"]] = item["data"]["word"]
        elif event["type"] == "DELETED":
            del self.words[item["metadata"]["name"]]

    def held(self):
        return self.words

    ### END SOLUTION

# %% checks="14.2"

# %% alternative="14.2" title="objects by uid, a method for each type"
class Mirror:
    def __init__(self):
        self.items, self.next = {}, {"list": True}

    def request(self):
        return self.next

    def listed(self, answer):
        self.items = {item["metadata"]["uid"]: item for item in answer["items"]}
        self.next = {"watch": answer["metadata"]["resourceVersion"]}

    def event(self, event):
        item = event["object"]
        if event["type"] == "ERROR":
            self.next = {"list": True}
            return
        self.next = {"watch": item["metadata"]["resourceVersion"]}
        if event["type"] == "DELETED":
            self.items.pop(item["metadata"]["uid"], None)
        elif event["type"] != "BOOKMARK":
            self.items[item["metadata"]["uid"]] = item

    def held(self):
        return {item["metadata"]["name"]: item["data"]["word"] for item in self.items.values()}

# %% alternative="14.2" title="two lists of what happened"
class Mirror:
    def __init__(self):
        self.listing, self.events = None, []

    def request(self):
        if self.listing is None or any(event["type"] == "ERROR" for event in self.events):
            return {"list": True}
        newest = (self.events or [{"object": self.listing}])[-1]
        return {"watch": newest["object"]["metadata"]["resourceVersion"]}

    def listed(self, answer):
        self.listing, self.events = answer, []

    def event(self, event):
        self.events.append(event)

    def held(self):
        words = {item["metadata"]["name"]: item["data"]["word"] for item in (self.listing or {"items": []})["items"]}
        for event in self.events:
            if event["type"] in ("ADDED", "MODIFIED", "DELETED"):
                words[event["object"]["metadata"]["name"]] = event["object"].get("data", {}).get("word")
            if event["type"] == "DELETED":
                del words[event["object"]["metadata"]["name"]]
        return words

# %% wrong="14.2" title="it only lists"
# fails gap: It lists again and again
# fails bookmark: has not passed
class Mirror:
    def __init__(self):
        self.words = {}

    def request(self):
        return {"list": True}

    def listed(self, answer):
        self.words = {item["metadata"]["name"]: item["data"]["word"] for item in answer["items"]}

    def event(self, event):
        pass

    def held(self):
        return self.words

# %% wrong="14.2" title="a watch from the beginning, in place of a list"
# fails list: The first request is not {"list": True}
# -         self.words, self.version = {}, None
# +         self.words, self.version = {}, "0"

# %% wrong="14.2" title="a version serves for one request"
# fails broken: it does not go on from the last version that it has seen
# -         return {"watch": self.version} if self.version else {"list": True}
# +         version, self.version = self.version, "0"
# +         return {"watch": version} if version else {"list": True}

# %% wrong="14.2" title="the new list is added to the old"
# fails expired: The new list was added to what was there
# -         self.words = {item["metadata"]["name"]: item["data"]["word"] for item in answer["items"]}
# +         self.words.update({item["metadata"]["name"]: item["data"]["word"] for item in answer["items"]})

# %% wrong="14.2" title="bookmarks and errors are thrown away"
# fails bookmark: The bookmark was thrown away
# fails expired: It goes on to watch from a version that the API does not have any more
# -         if event["type"] == "ERROR":
# -             self.version = None
# -             return
# +         if event["type"] in ("BOOKMARK", "ERROR"):
# +             return

# %% wrong="14.2" title="deletions are not heard"
# fails gap: an event of some type is not taken in
# -         elif event["type"] == "DELETED":
# -             del self.words[item["metadata"]["name"]]

# %% [markdown]
# ## Exercise 14.3: Two managers, one field
#
# The team's Deployment `serving` runs with two replicas, as `print(BEFORE)` shows: the team (field manager `team`) owns all
# of its fields. From now on a scaler (field manager `scaler`) shall decide about the number.
#
# Put into `steps` what each of them applies, in order. A step is a dictionary with `"manager"`, `"manifest"`, and
# if you like `"force": True`. Every step is a server-side apply.
#
# - The API accepts every step. The number is **2 after each step**, and no pod is ended.
# - Afterwards the scaler can change the number without insisting, and the team can apply its last manifest again
#   without insisting and without touching the number.

# %% answer="14.3"
from podlab.course.cluster_and_api.handing_over import BEFORE

steps = []
### BEGIN SOLUTION
number = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: serving}\nspec: {replicas: 2}\n"
steps = [
    {"manager": "scaler", "manifest": number},
    {"manager": "team", "manifest": BEFORE.replace("  replicas: 2\n", "")},
]
### END SOLUTION

# %% checks="14.3"

# %% alternative="14.3" title="the scaler insists, on the same number"
steps = [{**steps[0], "force": True}, steps[1]]

# %% alternative="14.3" title="the team says it twice"
steps = [steps[0], steps[1], {**steps[1], "force": True}, steps[0]]

# %% wrong="14.3" title="the team lets go first"
# fails unnoticed: the default took its place: 1
steps = [steps[1], {**steps[0], "force": True}]

# %% wrong="14.3" title="the scaler asks for another number"
# fails accepted: did not insist (a conflict)
steps = [{**steps[0], "manifest": steps[0]["manifest"].replace("replicas: 2", "replicas: 4")}, steps[1]]

# %% wrong="14.3" title="the scaler insists on another number"
# fails unnoticed: A step said another number
steps = [{**steps[0], "manifest": steps[0]["manifest"].replace("replicas: 2", "replicas: 4"), "force": True}, steps[1]]

# %% wrong="14.3" title="the team does not let go"
# fails scaler-alone: The team still owns the number too
# fails team-on: still names the number
steps = steps[:1]

# %% wrong="14.3" title="one manager for all"
# fails accepted: A scaler that has said nothing owns nothing
steps = [{"manager": "team", "manifest": BEFORE}]

# %% [markdown]
# ## Exercise 14.4: A tiny controller
#
# Write `reconcile(wanted, pods)`. `wanted` is a dictionary with `"group"` (whose members you keep), `"count"` and
# `"version"`. `pods` are all pods of the namespace, as the API has them: `"metadata"` with `"name"`, `"labels"`
# (`group` and `version`), and `"deletionTimestamp"` where a pod is on its way out. Return a list of actions:
# `{"create": name}` makes a member of the wanted version, `{"delete": name}` deletes a pod. Return `[]` when there
# is nothing to do.
#
# It is called again and again, and told nothing else.
#
# - The members become as many as wanted, no more and no less; a lost one is replaced while it still ends.
# - Pods of other groups are left alone.
# - When another version is wanted, all members are replaced, and never more than one is missing.

# %% answer="14.4"
def reconcile(wanted, pods):
    """What to do so that what is there becomes what is wanted."""
    ### BEGIN SOLUTION
    live = [
        pod
        for pod in pods
        if pod["metadata"]["labels"].get("group") == wanted["group"] and "deletionTimestamp" not in pod["metadata"]
    ]
    old = [pod for pod in live if pod["metadata"]["labels"]["version"] != wanted["version"]]
    surplus = len(live) - wanted["count"]
    if surplus < 0:
        taken = {pod["metadata"]["name"] for pod in pods}
        free = (name for number in range(1000) if (name := f"{wanted['group']}-{number}") not in taken)
        return [{"create": next(free)} for _ in range(-surplus)]
    if surplus > 0:
        return [{"delete": pod["metadata"]["name"]} for pod in (old + live)[:surplus]]
    return [{"delete": old[0]["metadata"]["name"]}] if old else []
    ### END SOLUTION
    raise NotImplementedError

# %% checks="14.4"

# %% alternative="14.4" title="names by chance, new members before old ones go"
import secrets


def reconcile(wanted, pods):
    mine = [pod["metadata"] for pod in pods if pod["metadata"]["labels"].get("group") == wanted["group"]]
    live = [meta for meta in mine if not meta.get("deletionTimestamp")]
    fresh = [meta["name"] for meta in live if meta["labels"]["version"] == wanted["version"]]
    old = [meta["name"] for meta in live if meta["name"] not in fresh]
    if len(fresh) < wanted["count"]:
        if len(live) > wanted["count"]:
            return [{"delete": old[0]}]
        number = 1 if old else wanted["count"] - len(fresh)
        return [{"create": f"{wanted['group']}-{secrets.token_hex(3)}"} for _ in range(number)]
    return [{"delete": name} for name in [*old, *fresh[wanted["count"] :]]]

# %% alternative="14.4" title="one action at a time"
def reconcile(wanted, pods):
    names = [pod["metadata"]["name"] for pod in pods]
    live = []
    for pod in pods:
        if pod["metadata"]["labels"]["group"] == wanted["group"] and "deletionTimestamp" not in pod["metadata"]:
            live.append(pod)
    if len(live) < wanted["count"]:
        number = 1
        while f"member-{number}" in names:
            number += 1
        return [{"create": f"member-{number}"}]
    live.sort(key=lambda pod: pod["metadata"]["labels"]["version"] == wanted["version"])
    if len(live) > wanted["count"] or live and live[0]["metadata"]["labels"]["version"] != wanted["version"]:
        return [{"delete": live[0]["metadata"]["name"]}]
    return []

# %% wrong="14.4" title="what is on its way out counts"
# fails heals: was counted as a member
def reconcile(wanted, pods):
    mine = [pod["metadata"] for pod in pods if pod["metadata"]["labels"].get("group") == wanted["group"]]
    taken = [pod["metadata"]["name"] for pod in pods]
    free = [f"m-{number}" for number in range(50) if f"m-{number}" not in taken]
    if len(mine) < wanted["count"]:
        return [{"create": name} for name in free[: wanted["count"] - len(mine)]]
    return [{"delete": meta["name"]} for meta in mine[wanted["count"] :]]

# %% wrong="14.4" title="every pod is mine"
# fails makes: It makes too few
def reconcile(wanted, pods):
    live = [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    taken = [pod["metadata"]["name"] for pod in pods]
    free = [f"m-{number}" for number in range(50) if f"m-{number}" not in taken]
    if len(live) < wanted["count"]:
        return [{"create": name} for name in free[: wanted["count"] - len(live)]]
    return [{"delete": name} for name in live[wanted["count"] :]]

# %% wrong="14.4" title="nobody has to go"
# fails shrinks: The surplus stays
# -     if surplus > 0:
# -         return [{"delete": pod["metadata"]["name"]} for pod in (old + live)[:surplus]]

# %% wrong="14.4" title="whatever is of an old version must go"
# fails strangers: the label group says whose a pod is
# -     old = [pod for pod in live if pod["metadata"]["labels"]["version"] != wanted["version"]]
# +     there = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
# +     old = [pod for pod in there if pod["metadata"]["labels"]["version"] != wanted["version"]]

# %% wrong="14.4" title="the version does not matter"
# fails renews: Members of the old version stay
def reconcile(wanted, pods):
    mine = [pod["metadata"] for pod in pods if pod["metadata"]["labels"].get("group") == wanted["group"]]
    live = [meta["name"] for meta in mine if "deletionTimestamp" not in meta]
    taken = [pod["metadata"]["name"] for pod in pods]
    free = [f"m-{number}" for number in range(50) if f"m-{number}" not in taken]
    if len(live) < wanted["count"]:
        return [{"create": name} for name in free[: wanted["count"] - len(live)]]
    return [{"delete": name} for name in live[wanted["count"] :]]

# %% wrong="14.4" title="all old members go at once"
# fails renews: All members went at once
def reconcile(wanted, pods):
    mine = [pod["metadata"] for pod in pods if pod["metadata"]["labels"].get("group") == wanted["group"]]
    live = [meta for meta in mine if "deletionTimestamp" not in meta]
    old = [meta["name"] for meta in live if meta["labels"]["version"] != wanted["version"]]
    taken = [pod["metadata"]["name"] for pod in pods]
    free = [f"m-{number}" for number in range(50) if f"m-{number}" not in taken]
    if old:
        return [{"delete": name} for name in old]
    if len(live) < wanted["count"]:
        return [{"create": name} for name in free[: wanted["count"] - len(live)]]
    return [{"delete": meta["name"]} for meta in live[wanted["count"] :]]

# %% wrong="14.4" title="names that are taken"
# fails heals: a name that is taken
def reconcile(wanted, pods):
    mine = [pod["metadata"] for pod in pods if pod["metadata"]["labels"].get("group") == wanted["group"]]
    live = [meta["name"] for meta in mine if "deletionTimestamp" not in meta]
    names = [f"m-{number}" for number in range(wanted["count"])]
    return [{"create": name} for name in names if name not in live] + [
        {"delete": name} for name in live if name not in names
    ]

# %% [markdown]
# ## How far you are

# %%
lab.progress()
