# ---
# title: Monitoring with Prometheus
# chapter: "21"
# minutes: 60
# needs: a cluster, and Prometheus (podlab binaries ensure prometheus alertmanager)
# programs: [prometheus, alertmanager]
# ---

# %% [markdown]
# # 21. Monitoring with Prometheus
#
# *How would I know?*
#
# Last night, between three and four, one visitor in three got an error. Nobody noticed. This morning the pods are
# `Running`, all are `Ready`, nothing was restarted. What would have told us, and how soon?
#
# Somebody has to look at numbers, all the time, and remember them. That is Prometheus' work. In this chapter we let
# it find our pods, ask it in its own language, and have it wake us.

# %%
from podlab.lab import start

lab = start("21")

# %% [markdown]
# Prometheus itself runs in pods, as an add-on of the cluster. The next cell brings it in; it takes some seconds.

# %%
lab.enable("monitoring")

# %% [markdown]
# ## A page for numbers
#
# The serving program has a page that we have not looked at yet: `/metrics`. It counts requests by page and code, and
# how long they took. Nothing else is needed in a program: no connection to Prometheus, no address of it.
#
# Two annotations ask Prometheus to come and look.

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
      annotations:
        prometheus.io/scrape: "true"
        prometheus.io/port: "8080"
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
# A client inside the cluster asks the Service ten times a second from now on, and keeps count.

# %%
traffic = lab.requests("serving", "/recommend/123", rate=10)
lab.pause(20)

# %% [markdown]
# Nobody told Prometheus the addresses of these pods. It watches the API server, as a controller does, and every five
# seconds it asks each pod that wants to be asked. `up` is what it notes down itself: 1 if the pod answered.

# %%
HERE = f'namespace="{lab.namespace}"'
lab.measure(lambda: lab.prometheus.number(f"sum(up{{{HERE}}})") == 3, "all three pods being scraped")
lab.promql(f"up{{{HERE}}}", minutes=1, title="Who is scraped")

# %% [markdown]
# The picture is a playground: change the expression and press Enter. From code it is `play.ask("...")`. Below the lines
# it says in which steps Prometheus works the expression out, and what comes out of each.
#
# ## From a counter to a rate
#
# `http_requests_total` is a *counter*: it only grows, as long as its process lives.
#
# **Predict.** Our client sends 10 requests per second to three pods. By how much does the counter of *one* pod grow in
# a minute?

# %%
lab.predict("growth of one counter per minute", None)

# %%
traffic.mark()
lab.pause(65)
play = lab.promql(f'sum by (pod) (http_requests_total{{{HERE}, path="/recommend"}})', minutes=2, title="Counters")
play

# %% [markdown]
# Three lines that rise alike. By how much did the first of them rise in the last minute?

# %%
grown = lab.prometheus.query(f'sum by (pod) (increase(http_requests_total{{{HERE}, path="/recommend"}}[1m]))')
lab.reconcile("growth of one counter per minute", round(grown[0].value))

# %% [markdown]
# The height of a counter says how long its process has lived. What we want is its slope: `rate(...[1m])` is the growth
# per second in the last minute. It gives one result for each pod, page and code; `sum` makes one number of them.
#
# The client has counted too, so we can compare. Go back through the steps with the slider: the selector finds counters,
# the window some values of each, `rate` makes slopes of them, and `sum` one number.

# %%
seen = traffic.since_mark()
play.ask(f'sum(rate(http_requests_total{{{HERE}, path="/recommend"}}[1m]))')
print(f"by Prometheus {play.series[0].value:.2f} requests per second; the client sent {len(seen)} in about 65 s")
play

# %% [markdown]
# Now we crash one process. Its successor begins to count at 0.
#
# **Predict.** Will the sum of the rates fall below zero for a moment, stay about what it was, or jump up? Write
# `"below zero"`, `"about the same"` or `"up"`.

# %%
lab.predict("the rate after a crash", None)

# %%
sick = lab.pods()[0]
lab.trouble(sick, "crash")
lab.pause(25)
play.ask(f'http_requests_total{{{HERE}, path="/recommend"}}', minutes=3)

# %% [markdown]
# What was the lowest value of the whole rate meanwhile? A query over a query: `[30s:5s]` asks it every 5 seconds of
# the last 30.

# %%
TOTAL = f'sum(rate(http_requests_total{{{HERE}, path="/recommend"}}[1m]))'
low = lab.prometheus.number(f"min_over_time({TOTAL}[30s:5s])")
lab.reconcile("the rate after a crash", "below zero" if low < 0 else "about the same" if low < 14 else "up")

# %% [markdown]
# The saw tooth is the new process. `rate` takes every fall for a restart and goes on adding. That is why the order
# matters: first `rate`, then `sum`. In a sum of counters the fall of one is hidden, and the rate of the sum is wrong.

# %% [markdown]
# ## How long does it take
#
# An average hides what hurts: nine visitors wait 10 ms, the tenth waits a second, and the average is fine. So the
# program counts in *buckets*: how many requests took at most 5 ms, 10 ms, 25 ms and so on. Buckets are counters, so they
# can be added over pods. From the sum, `histogram_quantile` reads off the time within which 95 of 100 were answered.
#
# We make one replica slow. **Predict.** It gets a third of the requests and answers after half a second. What is the
# 95th percentile then, in seconds?

# %%
lab.predict("95th percentile", None, "s")

# %%
lab.trouble(lab.pods()[1], "slow", delay=0.5, seconds=70)
lab.pause(70)
BUCKETS = f'http_request_duration_seconds_bucket{{{HERE}, path="/recommend"}}'
P95 = f"histogram_quantile(0.95, sum by (le) (rate({BUCKETS}[1m])))"
print(lab.reconcile("95th percentile", round(lab.prometheus.number(f"max_over_time({P95}[2m:5s])"), 2)))
lab.promql(P95, minutes=4, title="95 of 100")

# %% [markdown]
# That was the highest value of the last two minutes. The truth is half a second and a little. Prometheus knows only
# that these requests took more than 0.5 s and at most 1 s, and draws a straight line through the bucket. **A quantile
# is as exact as the buckets are fine.**
#
# ## An alert
#
# A rule is an expression that Prometheus evaluates again and again. This one is among those of the add-on:
#
# ```
# alert: HighErrorRatio
# expr: app:http_errors:ratio1m > 0.05
# for: 15s
# ```
#
# The left side is a *recorded* series: errors divided by all requests, over a minute. When the expression has a result
# the alert is *pending*; when it has had one for 15 seconds, *firing*. Alertmanager groups what fires and tells a
# receiver.

# %% [markdown]
# **Predict.** One replica of three answers 503 from now on. After how many seconds is the receiver told?

# %%
lab.predict("until somebody is told", None, "s")

# %%
def told(state):
    rows = [item["row"] for item in lab.notifications("serving")]
    return any(row[:2] == ["HighErrorRatio", state] for row in rows)


lab.trouble(lab.pods()[2], "unready", seconds=60)
took = lab.measure(lambda: told("firing"), "the receiver being told")
lab.reconcile("until somebody is told", took)

# %% [markdown]
# Why not at once? All the while visitors got errors. Here is their share, as it is recorded: find the moment at which
# it went above 5 %.

# %%
alarm = lab.promql(f"app:http_errors:ratio1m{{{HERE}}}", minutes=3, title="The share of errors")
alarm

# %% [markdown]
# Add up what had to pass: the next scrape (5 s), enough errors in the minute's window to be above 5 %, the next
# evaluation (5 s), 15 seconds of pending, and two seconds in which Alertmanager waits for more of the same. Each of
# them can be made shorter, and each then wakes you more often for nothing.
#
# The replica is well again by now. We wait until that is told too. Prometheus keeps the state of its alerts as a series
# of its own, `ALERTS`, which the playground draws as a timeline.

# %%
over = lab.measure(lambda: told("resolved"), "the end being told", within=240)
print(lab.notifications("serving"))
alarm.ask(f"ALERTS{{{HERE}}}", minutes=6)

# %% [markdown]
# ## As many as are needed
#
# Somebody else wants our numbers: the **autoscaler**, one of the cluster's controllers. Of itself it knows processor
# time and memory. At `custom.metrics.k8s.io` a part of the add-on tells it what Prometheus knows of pods:
# `http_requests_per_second`, `http_requests_in_progress` and `queue_length`, each of them a line of PromQL in the
# ConfigMap `custom-metrics`.
#
# We want 2.2 requests per second for each pod, which is written `2200m`. Our client still sends 10.
#
# **Predict.** How many pods will there be?

# %%
lab.predict("pods for ten requests per second", None, "pods")

# %%
SCALER = """
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: serving
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: serving}
  minReplicas: 1
  maxReplicas: 8
  metrics:
  - type: Pods
    pods:
      metric: {name: http_requests_per_second}
      target: {type: AverageValue, averageValue: 2200m}
  behavior:
    scaleDown: {stabilizationWindowSeconds: 30}
"""
lab.apply(SCALER)
lab.measure(lambda: len(lab.room.live()) > 3, "more pods than three")
lab.rollout("serving")
lab.reconcile("pods for ten requests per second", len(lab.room.ready()))

# %% [markdown]
# The autoscaler adds up what all pods show, divides by what we want for each, and rounds up; every 15 seconds. When the
# requests end it takes pods away again, but only what it has not needed for a while: 30 seconds here, five minutes if
# nothing is said.
#
# ## What no program shows
#
# How many pods should there be, and how many are ready? No page of ours says so: the API server knows. A part of the
# add-on asks it and shows that as `kube_...`, as kube-state-metrics does in other clusters. So an alert can be about
# objects, too. This is what it tells of our Deployment:

# %%
THERE = f'kube_deployment_status_replicas{{{HERE}, deployment="serving"}}'
lab.measure(lambda: (lab.prometheus.number(THERE) or 0) > 3, "the next scrape")
lab.promql(THERE, minutes=3, title="How many there are")

# %% [markdown]
# ## What it costs
#
# Each set of labels is a series of its own, with memory of its own. How many has our small app, by name?

# %%
for one in lab.prometheus.query(f'count by (__name__) ({{{HERE}, app="serving"}})'):
    print(f"{one.value:4.0f} {one.labels['__name__']}")

# %% [markdown]
# Pods, pages, codes and buckets are multiplied. That is **cardinality**. A label with the visitor's number would
# multiply it by all visitors, and each new one would stay for as long as Prometheus remembers. So numbers of users,
# addresses and trace ids belong into logs (chapter 22) and not into labels. Our Prometheus refuses a target with more
# than 20,000 series, whole: its `up` is 0 then, and somebody is told.

# %%
lab.snapshot()

# %% [markdown]
# ## What we have seen
#
# - A program shows its numbers on a page. Prometheus finds the pods by the API server, and comes for them.
# - A counter is asked for its slope: `rate` first, then `sum`.
# - Buckets can be added up, quantiles cannot. They are as exact as the buckets.
# - An alert is an expression that holds for a while. The window, `for` and the grouping are the time until somebody
#   knows; they are also what keeps it quiet.
# - "Nobody noticed" has become a number of seconds.
# - What Prometheus knows of pods can decide how many there are; what the API server knows it shows as `kube_...`.
# - Each set of labels costs. What has no end does not belong into a label.

# %% [markdown]
# ## Three questions to test yourself
#
# 1. A dashboard shows `sum(http_requests_total)`. It falls in the middle of the night. What happened?
# 2. Two pods have a 95th percentile of 0.1 s and 0.9 s. What is that of both together?
# 3. An alert has `for: 5m` and a window of `[10m]`. An error burst lasts four minutes. Can it fire?
#
# ## To read on
#
# - [Querying Prometheus](https://prometheus.io/docs/prometheus/latest/querying/basics/)
# - [Histograms and summaries](https://prometheus.io/docs/practices/histograms/)
# - [Alerting rules](https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules/)
# - [Alerting: what is worth waking up for](https://prometheus.io/docs/practices/alerting/)
# - [Horizontal Pod Autoscaling](https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/)
# - [Naming, labels and cardinality](https://prometheus.io/docs/practices/naming/)
# - [kube-state-metrics](https://kubernetes.io/docs/concepts/cluster-administration/kube-state-metrics/)
#
# Now do it yourself: [the exercises of this chapter](../release/21-monitoring/21-monitoring.ipynb) check themselves, as often as you like.
