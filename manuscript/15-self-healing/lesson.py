# ---
# title: Self-healing
# chapter: "15"
# minutes: 55
# needs: a cluster with three nodes
# disruptive: true
# ---

# %% [markdown]
# # 15. Self-healing
#
# *What happens when I kill it?*
#
# The serving part of the movie site answers one question: what should user 123 watch? It runs in three pods now.
# In this chapter we harm them in four ways: one hangs, one cannot serve for a while, one starts slowly, and at last
# a whole node goes dark. Each time we look at what Kubernetes does by itself, what it does not, and what it needs
# to be told.
#
# You will be asked for predictions. Make them before you run the cell that measures: the surprise is the lesson.

# %%
from podlab.lab import start

lab = start("15")

# %% [markdown]
# ## A process that hangs
#
# Here is the site as it was handed over to us: a Deployment of three replicas, and a Service in front of them.
# The program in the pods is a small HTTP server. It has pages for people (`/recommend/123`) and switches for
# trouble, which we will use. Nothing in this manifest says how one can tell whether a replica works.

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
        # probes
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
lab.apply(SITE)
lab.rollout("serving")

# %% [markdown]
# A client inside the cluster now asks the Service ten times a second, and keeps the answers. The next cell shows
# what it saw in five seconds: who answered, and how many requests failed.

# %%
traffic = lab.requests("serving", "/recommend/123")
lab.pause(5)
traffic

# %% [markdown]
# Now we let one replica hang. The switch `wedge` takes the lock that every answer needs, and never gives it back.
# The process lives, its port is open, connections are accepted, and no answer comes. Programs do this in earnest:
# a deadlock, a thread pool that is used up, a disk that does not answer.
#
# **Predict.** What share of the requests will fail in the twelve seconds after that? Put a number in place of `None`.

# %%
lab.predict("requests that fail", None, "%")

# %%
sick = lab.pods()[0]
lab.trouble(sick, "wedge")
traffic.mark()
lab.pause(12)
seen = traffic.since_mark()
lab.reconcile("requests that fail", round(100 * len(seen.failed) / len(seen), 1))

# %% [markdown]
# Whoever was sent to the hanging pod waited in vain. And what does Kubernetes say of that pod, after all these seconds?

# %%
print(seen.summary())
lab.pods()

# %% [markdown]
# Nothing was healed. The table calls the hanging pod ready, and from where Kubernetes stands that is true: the
# process exists. A restart is what the node does when a *process ends*. This one did not end.
#
# So the first rule of self-healing is about us: **Kubernetes heals what it can see.** Whether a program still does
# its work, only the program can say, and somebody has to ask.
#
# A *liveness probe* is that question. The node asks the page `/healthz` every two seconds, waits at most two
# seconds for the answer, and after three failures in a row ends the container and starts a new one. `/healthz`
# needs the same lock as real work, so it hangs when the work hangs.

# %%
LIVENESS = """
        livenessProbe:
          httpGet: {path: /healthz, port: 8080}
          periodSeconds: 2
          timeoutSeconds: 2
          failureThreshold: 3
"""
WATCHED = SITE.replace("        # probes", LIVENESS + "        # probes")
lab.apply(WATCHED)
lab.rollout("serving")

# %% [markdown]
# The picture below is live: boxes are nodes, tiles are pods, and each tile shows a letter and a sign for its state.
# With `Pause` and the slider you can go back in time; `m.pause()`, `m.seek(3)` and `m.live()` do the same from code.

# %%
m = lab.map("The site")
m

# %% [markdown]
# **Predict.** We wedge one replica again. After how many seconds will *that same pod* answer again? The three
# numbers of the probe are all you need for a good guess. And how many restarts will the three replicas have together?

# %%
print(lab.predict("time to recovery", None, "s"))
lab.predict("restarts of all three", None, "restarts")

# %%
sick = lab.pods()[0]
lab.trouble(sick, "wedge")
took = lab.measure(lambda: lab.ask(sick, "/recommend/123", timeout=1).ok, "the pod answering again")
print(lab.reconcile("time to recovery", took))
lab.wait(lambda: lab.restarts(sick), "the restart in the pod's status")
lab.reconcile("restarts of all three", sum(lab.restarts(pod) for pod in lab.pods()))

# %% [markdown]
# The staircase shows the same from outside: one step up for the restart, and a bar for the time in which the pod
# was not ready. The bar is shorter than the outage that a user felt. Why? When did Kubernetes learn of the trouble,
# and when did it begin?

# %%
stairs = lab.staircase("serving")
stairs

# %% [markdown]
# Was the pod replaced? Compare names and identities. A pod is known by its `uid`, a container by its own id.

# %%
for label, pod in (("before", sick), ("now", lab.now(sick))):
    print(label, pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["containerID"][-12:])
lab.events(sick["metadata"]["name"], limit=6)

# %% [markdown]
# Same pod, same address, same node, a new container in it. The node healed this alone: no scheduler and no
# controller took part. The events tell the story in order: the probe failed (`Unhealthy`), the container was ended
# (`Killing`), and a new one was created and started.

# %% [markdown]
# ## Alive, and not ready
#
# Sometimes a replica is alive and still of no use for a moment: it reloads its model, and answers 503 for a quarter
# of a minute. A restart would only make it longer. What do the clients see meanwhile?

# %%
busy = lab.pods()[1]
lab.trouble(busy, "unready", seconds=14)
traffic.mark()
lab.pause(10)
print(traffic.since_mark().summary())

# %% [markdown]
# The Service went on sending requests to it. A second kind of question is missing: not "do you live?" but
# "can you serve?". The *readiness probe* asks the page `/readyz`. Its answer changes one thing only: whether the
# pod is among the endpoints of its Services.
#
# **Predict.** With that probe in place, will the container be restarted while it says 503? Write `"yes"` or `"no"`.

# %%
lab.predict("restarted while not ready", None)

# %%
READINESS = """
        readinessProbe:
          httpGet: {path: /readyz, port: 8080}
          periodSeconds: 1
          failureThreshold: 2
"""
SERVED = WATCHED.replace("        # probes", READINESS + "        # probes")
lab.apply(SERVED)
lab.rollout("serving")
busy = lab.pods()[1]
lab.trouble(busy, "unready", seconds=14)
noticed = lab.measure(lambda: not lab.ready(busy), "the pod being taken out")
traffic.mark()
lab.pause(6)
print(f"noticed after {noticed} s; then: {traffic.since_mark().summary()}")
lab.get("endpointslices")

# %% [markdown]
# The pod is in the column of those that are not ready, and the others carry its share without one failed request. Soon
# it has its model again. What does it take then to get it back: a restart, a word from us?

# %%
lab.measure(lambda: lab.ready(busy), "the pod being back")
lab.reconcile("restarted while not ready", "yes" if lab.restarts(busy) else "no")

# %% [markdown]
# Neither. It came back by itself, and its process never stopped.
#
# Two questions, two consequences. **Liveness decides about the container, readiness about the traffic.** A liveness
# probe that asks `/readyz` would kill every replica that reloads its model, and if all reload at once, the healer
# itself makes the outage.
#
# ## A slow start
#
# Models grow. Let the model take twelve seconds to load; until then the port is closed. The liveness probe knows
# nothing of this and begins to ask at once. We start one such replica beside the site, and look after 25 seconds.

# %%
SLOW = SERVED.split("---")[0].replace("serving\nspec", "slow\nspec").replace("app: serving", "app: slow")
SLOW = SLOW.replace("replicas: 3", "replicas: 1")
SLOW = SLOW.replace("        # probes", '        env: [{name: START_SECONDS, value: "12"}]\n        # probes')
lab.apply(SLOW)
lab.pause(25)
lab.pods()

# %% [markdown]
# It never gets through: the probe fails three times within six seconds, the container is ended, and its successor
# begins to load from nothing. After some rounds the node even waits longer and longer between the attempts
# (`CrashLoopBackOff`). The healing is the illness.
#
# More patience in the liveness probe would help here, and hurt later: a replica that hangs would then go unnoticed
# for just as long. The third probe is made for this. A *startup probe* is asked first, alone, and until it has
# succeeded once, the other two are not asked at all.

# %%
STARTUP = """
        startupProbe:
          httpGet: {path: /healthz, port: 8080}
          periodSeconds: 1
          failureThreshold: 30
"""
lab.apply(SLOW.replace("        # probes", STARTUP))
lab.rollout("slow")

# %% [markdown]
# No restart, although the patience of the liveness probe is what it was. Thirty failures at one per second are
# allowed, and the first success ends the waiting: a quick start stays quick.
#
# ## A node is lost
#
# So far the node itself did the healing. Now we pull its plug. Nothing on it can act any more, and nobody can ask
# it: seen from outside, a dead node and a very silent one look the same. The control plane can only wait.
#
# We choose the node of a replica, but not the one where our client sits, since it has to go on asking.
#
# **Predict.** From the loss of the node to three ready replicas elsewhere, how many seconds?

# %%
lab.delete("deployment", "slow")
lab.predict("back to three replicas", None, "s")

# %%
lost = next(node for pod in lab.pods() if (node := pod["spec"]["nodeName"]) != traffic.node)
traffic.mark()
if lab.can_break_nodes:
    print(lab.kill_node(lost))
    noticed = lab.measure(lambda: not lab.ready(lost), "the node being called not ready")
    more = lab.measure(
        lambda: sum(pod["spec"]["nodeName"] != lost for pod in lab.room.ready()) >= 3, "three replicas elsewhere"
    )
    print(f"{lost} was called not ready after {noticed} s, and {more} s later there were three replicas again")
    print(lab.reconcile("back to three replicas", round(noticed + more, 1)))
print(traffic.since_mark().summary())
lab.nodes()

# %% [markdown]
# Two clocks ran here, one after the other. First the *heartbeats* had to be missing for long enough; then the node was
# called not ready, its pods left the endpoints, and requests stopped failing. Then the pods were *tolerated* there
# for a while longer, in case the node came back. Only then were they given up, and the Deployment made new ones.
#
# The first clock can be read from the node's last heartbeat, the second from any pod: the API server has written it
# into each of them.

# %%
from datetime import datetime

if lab.can_break_nodes:
    beat = lab.api.get("Lease", lost, "kube-node-lease")["spec"]["renewTime"]
    (ready,) = [each for each in lab.api.get("Node", lost)["status"]["conditions"] if each["type"] == "Ready"]
    silent = datetime.fromisoformat(ready["lastTransitionTime"]) - datetime.fromisoformat(beat)
    print(f"called not ready {silent.total_seconds():.0f} s after its last heartbeat")
for each in lab.pods()[0]["spec"]["tolerations"]:
    print(f"{each['key']}: tolerated for {each['tolerationSeconds']} s")

# %% [markdown]
# These are short clocks, for labs. By default a cluster waits about 50 seconds for a heartbeat, and tolerates for 5
# minutes.

# %%
if lab.can_break_nodes:
    print(lab.rejoin_node(lost))
    lab.measure(lab.settled, "the old pods being gone")
lab.pods()

# %% [markdown]
# The node came back and ended what had been given up: there are three replicas again, not more. Notice where they
# run now. Nothing moves back by itself, since a pod that runs is not moved for the sake of beauty.

# %%
lab.snapshot()

# %% [markdown]
# ## What we have seen
#
# - A process that **ends** is restarted without being asked. A process that **hangs** is not, until a liveness
#   probe asks it for a sign of life.
# - Readiness takes a pod out of its Services, and brings it back, without touching the process.
# - A startup probe gives a slow start the time it needs, and no more.
# - A lost node is healed by waiting twice and making new pods elsewhere. Replicas on other nodes carry the site
#   meanwhile.
# - Healing has a price: each probe that is wrong about a healthy program is a fault of our own making.

# %% [markdown]
# ## Three questions to test yourself
#
# 1. Your liveness probe asks a page that asks the database. The database is down for a minute. What happens to your
#    replicas, and does it help?
# 2. A pod is `Running`, `0/1` ready, and has 0 restarts. Which probes may it have, and what do they say?
# 3. Why does Kubernetes not start replacements at the very moment at which a node's heartbeat is late?
#
# ## To read on
#
# - [Liveness, readiness and startup probes](https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/)
# - [How to configure them](https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/)
# - [Pod lifecycle](https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/)
# - [Taints and tolerations](https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/)
# - [Pod topology spread constraints](https://kubernetes.io/docs/concepts/scheduling-eviction/topology-spread-constraints/)
#
# Now do it yourself: [the exercises of this chapter](../release/15-self-healing/15-self-healing.ipynb) check themselves, as often as you like.
