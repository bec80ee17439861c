# ---
# title: Monitoring with Prometheus, the exercises
# chapter: "21"
# minutes: 80
# needs: a cluster for the last exercise, and Prometheus (podlab binaries ensure prometheus alertmanager)
# programs: [prometheus, alertmanager]
# ---

# %% [markdown]
# # 21. Monitoring with Prometheus: exercises
#
# Two sets of questions in PromQL, one alert, and an autoscaler. For the first three a check makes a history of a shop,
# request by request, so it knows what is true. It writes what Prometheus would have scraped of it into a real
# Prometheus, asks your expression, and compares. So there are several right answers. The last one runs on the cluster.
#
# Change only the cells that say `YOUR CODE HERE`. The cell below each of them runs the checks, as often as you
# like. `lab.hint("21.1")` asks you a question that may help. When your work is graded, some further checks run that
# you do not see here; the task says everything they look at.

# %%
from podlab.lab import start

lab = start("21")

# %% [markdown]
# What is in Prometheus, scraped every 5 seconds from each pod:
#
# | series | labels |
# |---|---|
# | `http_requests_total` | `app`, `pod`, `path`, `code` |
# | `http_request_duration_seconds_bucket` | `app`, `pod`, `path`, `le` (0.05, 0.1, 0.25, 0.5, 1, 2.5, +Inf) |
# | `http_request_duration_seconds_count`, `..._sum` | `app`, `pod`, `path` |
#
# The app is called `shop`, and has the paths `/recommend` and `/rate`. It is not alone: other apps are scraped too.
# Pods come, go, and are started anew.

# %% [markdown]
# ## Exercise 21.1: How many, and how many of them fail
#
# Three expressions about the **last five minutes** of the whole shop:
#
# - `requests_per_second`: one number.
# - `error_share`: one number between 0 and 1: the share of requests that were answered with a code of 5xx. A page that
#   does not exist (404) is no error of the shop. **If nothing failed it is 0.**
# - `requests_by_path`: one result for each path, with no other label: how many requests it had.
#
# They must hold at any moment: also when there is a single pod, or when a pod was started anew a minute ago.

# %% answer="21.1"
requests_per_second = "http_requests_total"
error_share = "http_requests_total"
requests_by_path = "http_requests_total"
### BEGIN SOLUTION
requests_per_second = 'sum(rate(http_requests_total{app="shop"}[5m]))'
error_share = """
(sum(rate(http_requests_total{app="shop", code=~"5.."}[5m])) or vector(0))
  / sum(rate(http_requests_total{app="shop"}[5m]))
"""
requests_by_path = 'sum by (path) (increase(http_requests_total{app="shop"}[5m]))'
### END SOLUTION

# %% checks="21.1"

# %% alternative="21.1" title="increase divided by seconds, the histogram's own count, codes by comparison"
requests_per_second = 'sum(increase(http_request_duration_seconds_count{app="shop"}[5m])) / 300'
error_share = """
1 - sum(rate(http_requests_total{app="shop", code!~"5.."}[5m])) / sum(rate(http_requests_total{app="shop"}[5m]))
"""
requests_by_path = 'sum without (pod, code, app, namespace) (increase(http_requests_total{app="shop"}[5m]))'

# %% alternative="21.1" title="pods first, then the whole"
requests_per_second = 'sum(sum by (pod) (rate(http_requests_total{app="shop"}[5m])))'
requests_by_path = 'sum by (path) (rate(http_requests_total{app="shop"}[5m])) * 300'

# %% wrong="21.1" title="the counters themselves"
# fails rate: its value says nothing
# fails paths: the counters themselves are added up
requests_per_second = 'sum(http_requests_total{app="shop"})'
requests_by_path = 'sum by (path) (http_requests_total{app="shop"})'

# %% wrong="21.1" title="every app"
# fails rate: Another app is counted too
requests_per_second = "sum(rate(http_requests_total[5m]))"

# %% wrong="21.1" title="a result for each pod"
# fails rate: There is a series for each set of labels
requests_per_second = 'rate(http_requests_total{app="shop"}[5m])'

# %% wrong="21.1" title="404 is an error"
# fails errors: 404 is counted as an error
error_share = error_share.replace("5..", "[45]..")

# %% wrong="21.1" title="nothing is not 0"
# fails no-errors: it is nothing
error_share = error_share.replace(" or vector(0)", "")

# %% wrong="21.1" title="the difference of two values"
# fails rate: its counter fell to 0
requests_per_second = 'sum(delta(http_requests_total{app="shop"}[5m])) / 300'

# %% wrong="21.1" title="pods by their names"
# fails quiet-rate: No series has this name
requests_per_second = 'sum(rate(http_requests_total{app="shop", pod=~"shop-[abc]"}[5m]))'

# %% wrong="21.1" title="a bracket too few"
# fails rate: parse error
requests_per_second = 'sum(rate(http_requests_total{app="shop"}[5m])'

# %% wrong="21.1" title="per second, and with the code"
# fails paths: This is per second
requests_by_path = 'sum by (path) (rate(http_requests_total{app="shop"}[5m]))'

# %% wrong="21.1" title="too many labels are left"
# fails paths: the only label that is to be left
requests_by_path = 'sum by (path, pod) (increase(http_requests_total{app="shop"}[5m]))'

# %% [markdown]
# ## Exercise 21.2: How long does it take
#
# Again about the **last five minutes** of the whole shop, in seconds:
#
# - `p95`: one number: 95 of 100 requests were answered within this time.
# - `p95_by_path`: the same for each path, with no other label.
# - `share_within_250_ms`: one number between 0 and 1: the share of requests that were answered within 250 ms.
#
# A quantile that is read from buckets is never quite exact; 6 % are allowed.

# %% answer="21.2"
p95 = "http_request_duration_seconds_bucket"
p95_by_path = "http_request_duration_seconds_bucket"
share_within_250_ms = "http_request_duration_seconds_bucket"
### BEGIN SOLUTION
p95 = 'histogram_quantile(0.95, sum by (le) (rate(http_request_duration_seconds_bucket{app="shop"}[5m])))'
p95_by_path = """
histogram_quantile(0.95, sum by (path, le) (rate(http_request_duration_seconds_bucket{app="shop"}[5m])))
"""
share_within_250_ms = """
sum(rate(http_request_duration_seconds_bucket{app="shop", le="0.25"}[5m]))
  / sum(rate(http_request_duration_seconds_count{app="shop"}[5m]))
"""
### END SOLUTION

# %% checks="21.2"

# %% alternative="21.2" title="increase in place of rate, +Inf in place of the count"
p95 = p95.replace("rate(", "increase(")
share_within_250_ms = share_within_250_ms.replace("_count{app=\"shop\"}", "_bucket{app=\"shop\", le=\"+Inf\"}")

# %% alternative="21.2" title="without in place of by, and a function for the share"
p95_by_path = p95_by_path.replace("by (path, le)", "without (pod, app, namespace)")
share_within_250_ms = """
histogram_fraction(0, 0.25, sum by (le) (rate(http_request_duration_seconds_bucket{app="shop"}[5m])))
"""

# %% wrong="21.2" title="the average"
# fails p95: This is the average
p95 = """
sum(rate(http_request_duration_seconds_sum{app="shop"}[5m]))
  / sum(rate(http_request_duration_seconds_count{app="shop"}[5m]))
"""

# %% wrong="21.2" title="the bound of the bucket is summed away"
# fails p95: No series has this name and these labels
p95 = p95.replace("sum by (le)", "sum")

# %% wrong="21.2" title="a quantile for each pod"
# fails p95: There is a series for each set of labels
p95 = p95.replace("by (le)", "by (pod, le)")

# %% wrong="21.2" title="the median"
# fails p95: This is the median
p95 = p95.replace("0.95", "0.5")

# %% wrong="21.2" title="only the pods of today"
# fails quiet-p95: No series has this name
p95 = p95.replace('app="shop"', 'app="shop", pod=~"shop-[abc]"')

# %% wrong="21.2" title="the slow ones"
# fails quick: This is the share that took longer
share_within_250_ms = "1 - " + share_within_250_ms.strip()

# %% wrong="21.2" title="one path only"
# fails by-path: there is no result for /rate
p95_by_path = p95_by_path.replace('app="shop"', 'app="shop", path="/recommend"')

# %% [markdown]
# ## Exercise 21.3: An alert worth waking up for
#
# A file of rules with **one** alert and no recording rule, evaluated every 5 seconds.
#
# - When **15 % or more** of the shop's requests fail with 5xx for some minutes, it fires within **150 seconds**, once,
#   and is over at most **240 seconds** after the last error.
# - Up to **2 %** errors are usual. In a rush the shop has many times as many requests.
# - One in ten visitors asks for a page that does not exist (404). That is no error of the shop.
# - Half of the requests failing for **15 seconds** wakes nobody: it is over before anybody is up.
# - At night there is a request every fifteen seconds. Some of these few failing within half a minute is no reason.
#   By day there are ten per second.
# - It carries the label `severity: page` and an annotation `summary`.

# %% answer="21.3"
alert_rules = """
groups:
- name: shop
  rules:
  - alert: ShopErrors
    expr: vector(0) > 1
    labels: {}
"""
### BEGIN SOLUTION
alert_rules = """
groups:
- name: shop
  rules:
  - alert: ShopErrors
    expr: |
      sum(rate(http_requests_total{app="shop", code=~"5.."}[1m]))
        / sum(rate(http_requests_total{app="shop"}[1m])) > 0.05
      and sum(rate(http_requests_total{app="shop"}[1m])) > 1
    for: 90s
    labels: {severity: page}
    annotations:
      summary: "{{ $value | humanizePercentage }} of the shop's requests fail"
"""
### END SOLUTION

# %% checks="21.3"

# %% alternative="21.3" title="a longer window and a shorter wait"
alert_rules = alert_rules.replace("[1m]", "[2m]").replace("> 0.05", "> 0.08").replace("for: 90s", "for: 30s")

# %% alternative="21.3" title="the least number of failures in place of requests"
alert_rules = alert_rules.replace(
    'and sum(rate(http_requests_total{app="shop"}[1m])) > 1',
    'and sum(increase(http_requests_total{app="shop", code=~"5.."}[1m])) > 20',
)

# %% wrong="21.3" title="a number of errors"
# fails rush: both grow with the traffic
alert_rules = alert_rules.replace(
    alert_rules[alert_rules.index("        / sum") : alert_rules.index("    for:")], "        > 0.4\n"
)

# %% wrong="21.3" title="nobody waits"
# fails blip: longer than `for` waits
alert_rules = alert_rules.replace("    for: 90s\n", "")

# %% wrong="21.3" title="half an hour's window"
# fails outage: fired
alert_rules = alert_rules.replace("[1m]", "[30m]").replace("> 0.05", "> 0.1")

# %% wrong="21.3" title="the visitors' mistakes"
# fails outage: true of a healthy shop
alert_rules = alert_rules.replace("5..", "[45]..")

# %% wrong="21.3" title="a share of almost nothing"
# fails night: a share of 50 %
alert_rules = alert_rules.replace(
    '      and sum(rate(http_requests_total{app="shop"}[1m])) > 1\n', ""
).replace("[1m]", "[2m]").replace("> 0.05", "> 0.08").replace("for: 90s", "for: 30s")

# %% wrong="21.3" title="only a disaster counts"
# fails slight: The threshold is too high
alert_rules = alert_rules.replace("> 0.05", "> 0.25")

# %% wrong="21.3" title="no label for the one on duty"
# fails page: decides by labels
alert_rules = alert_rules.replace("labels: {severity: page}", "labels: {severity: ticket}")

# %% wrong="21.3" title="a rule that stands on another"
# fails outage: write its expression into the alert itself
alert_rules = alert_rules.replace(
    "  - alert:",
    """  - record: shop:errors
    expr: sum(rate(http_requests_total{app="shop", code=~"5.."}[1m]))
  - alert:""",
).replace('sum(rate(http_requests_total{app="shop", code=~"5.."}[1m]))\n        /', "shop:errors\n        /")

# %% wrong="21.3" title="a bracket too few"
# fails outage: could not parse expression
alert_rules = alert_rules.replace("[1m]))\n", "[1m])\n")

# %% [markdown]
# ## Exercise 21.4: As many as are watching
#
# The cinema shows trailers of **3 seconds**. A viewer costs it waiting, and hardly any computing. A pod shows them
# smoothly to **12 viewers** at a time; whoever comes to more sees it stutter, and gets a 503 at the end. On port 8080
# `/metrics` has `http_requests_in_progress` and `http_requests_total`.
#
# The autoscaler below looks at CPU. Change the manifest, so that the **cluster's own** autoscaler follows the viewers:
#
# - In a quiet hour at most one viewer comes in a second: there is **one** pod.
# - In a rush **six or seven** come in a second. Within **60 seconds** at least 95 % of them see it smoothly, and it
#   stays so. They are spread by chance, so do not plan for full pods.
# - There are never more than **6** pods.
# - Within **90 seconds** of the end of the rush there is one again.

# %% [markdown]
# The cinema's page `/metrics` has `queue_length`, too: how many it has no seat for. Its program and its settings stay as
# they are. The seconds are those of an idle machine. The cluster needs the add-on: `lab.enable("monitoring")`; a check
# brings it in, too. What it tells autoscalers is in the lesson. A check takes a minute or two, as it lives through a
# quiet hour, a rush, and its end.

# %% answer="21.4"
cinema_manifest = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: cinema
spec:
  selector:
    matchLabels: {app: cinema}
  template:
    metadata:
      labels: {app: cinema}
    spec:
      terminationGracePeriodSeconds: 6
      containers:
      - name: cinema
        image: podlab/python:3
        imagePullPolicy: IfNotPresent
        command: ["python3", "-S", "/program/cinema.py"]
        ports:
        - {containerPort: 8080}
        readinessProbe:
          httpGet: {path: /readyz, port: 8080}
          periodSeconds: 1
        resources:
          requests: {cpu: 50m, memory: 24Mi}
        volumeMounts:
        - {name: program, mountPath: /program}
      volumes:
      - name: program
        configMap: {name: cinema-program}
---
apiVersion: v1
kind: Service
metadata:
  name: cinema
spec:
  selector: {app: cinema}
  ports:
  - {port: 80, targetPort: 8080}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: cinema
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: cinema}
  minReplicas: 1
  maxReplicas: 6
  metrics:
  - type: Resource
    resource:
      name: cpu
      target: {type: Utilization, averageUtilization: 60}
"""
### BEGIN SOLUTION
cinema_manifest = cinema_manifest.replace(
    "      labels: {app: cinema}\n    spec:",
    """      labels: {app: cinema}
      annotations: {prometheus.io/scrape: "true", prometheus.io/port: "8080"}
    spec:""",
).replace(
    """  - type: Resource
    resource:
      name: cpu
      target: {type: Utilization, averageUtilization: 60}
""",
    """  - type: Pods
    pods:
      metric: {name: http_requests_in_progress}
      target: {type: AverageValue, averageValue: "5"}
  behavior:
    scaleDown: {stabilizationWindowSeconds: 0}
""",
)
### END SOLUTION

# %% checks="21.4"

# %% alternative="21.4" title="the rate of requests"
cinema_manifest = cinema_manifest.replace("http_requests_in_progress", "http_requests_per_second").replace(
    'averageValue: "5"', 'averageValue: "1800m"'
)

# %% alternative="21.4" title="a look back of some seconds, one of the limits lower, the port from the container"
cinema_manifest = cinema_manifest.replace("stabilizationWindowSeconds: 0", "stabilizationWindowSeconds: 15").replace(
    'averageValue: "5"', "averageValue: 4500m"
).replace("maxReplicas: 6", "maxReplicas: 5").replace(', prometheus.io/port: "8080"', "").replace(
    "  minReplicas: 1\n", ""
)

# %% wrong="21.4" title="nobody asks the pods"
# fails measured: nothing in their template asks for it
# fails grows: has not passed
cinema_manifest = cinema_manifest.replace(
    '      annotations: {prometheus.io/scrape: "true", prometheus.io/port: "8080"}\n', ""
)

# %% wrong="21.4" title="CPU utilization"
# fails grows: does not grow with the viewers
cinema_manifest = cinema_manifest.replace(
    """  - type: Pods
    pods:
      metric: {name: http_requests_in_progress}
      target: {type: AverageValue, averageValue: "5"}
""",
    """  - type: Resource
    resource:
      name: cpu
      target: {type: Utilization, averageUtilization: 600}
""",
)

# %% wrong="21.4" title="a metric that the program does not show"
# fails grows: that no pod shows
cinema_manifest = cinema_manifest.replace("http_requests_in_progress", "viewers")

# %% wrong="21.4" title="a pod more for whoever has no seat"
# fails stays: falls as soon as there are enough
cinema_manifest = cinema_manifest.replace("http_requests_in_progress", "queue_length").replace(
    'averageValue: "5"', "averageValue: 100m"
)

# %% wrong="21.4" title="a pod more for whoever has no seat, and a minute of looking back"
# fails stays: alone it only takes longer
cinema_manifest = cinema_manifest.replace("http_requests_in_progress", "queue_length").replace(
    'averageValue: "5"', "averageValue: 100m"
).replace("stabilizationWindowSeconds: 0", "stabilizationWindowSeconds: 60")

# %% wrong="21.4" title="ten times as many as a pod has seats"
# fails grows: leaves too many viewers for one
cinema_manifest = cinema_manifest.replace('averageValue: "5"', 'averageValue: "120"')

# %% wrong="21.4" title="more seats than a pod has"
# fails measured: no longer runs the given program
cinema_manifest = cinema_manifest.replace(
    "        ports:", '        env:\n        - {name: SEATS, value: "100"}\n        ports:'
)

# %% wrong="21.4" title="five minutes of looking back"
# fails back: 300 seconds
cinema_manifest = cinema_manifest.replace("  behavior:\n    scaleDown: {stabilizationWindowSeconds: 0}\n", "")

# %% wrong="21.4" title="a pod for each viewer"
# fails quiet: want more of them for each pod
cinema_manifest = cinema_manifest.replace('averageValue: "5"', 'averageValue: "1"')

# %% wrong="21.4" title="no limit to speak of"
# fails limit: pays any bill
cinema_manifest = cinema_manifest.replace('averageValue: "5"', 'averageValue: 2200m').replace(
    "maxReplicas: 6", "maxReplicas: 50"
)

# %% wrong="21.4" title="as many as a rush needs, always"
# fails grows: Their number does not follow
cinema_manifest = cinema_manifest[: cinema_manifest.index("---\napiVersion: autoscaling")].replace(
    "spec:\n  selector:", "spec:\n  replicas: 4\n  selector:", 1
)

# %% [markdown]
# ## How far you are

# %%
lab.progress()
