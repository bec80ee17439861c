# ---
# title: Logging with the ELK stack
# chapter: "22"
# minutes: 55
# needs: a cluster, and VictoriaLogs (podlab binaries ensure victoria-logs vlagent)
# programs: [victoria-logs, vlagent]
# ---

# %% [markdown]
# # 22. Logging with the ELK stack
#
# *What happened to request 7f3a?*
#
# A visitor writes: "I got an error, and the page said number 7f3a." Monitoring says that two of a hundred requests
# failed in that hour. It does not know of *this* one. Five pods had to do with it, and one of them is gone since.
#
# Every program wrote down what it did. In this chapter we bring these lines to one place, before their pods go, and
# learn to ask for exactly those that belong together.

# %%
from podlab.lab import start

lab = start("22")

# %% [markdown]
# ## Three roles
#
# ELK is the name of three programs, and of three roles:
#
# | role | in the ELK stack | here |
# |---|---|---|
# | **ship** lines from every node | Filebeat, Logstash | vlagent, one on each node |
# | **store and search** them | Elasticsearch | VictoriaLogs |
# | **look** at them | Kibana | the explorer in this notebook, and VictoriaLogs' own page |
#
# Why not the originals? Elasticsearch and Logstash are Java programs that want a gigabyte of memory each; VictoriaLogs
# and vlagent run in some ten megabytes, so that the whole stack fits on a laptop beside a cluster. They fill the same
# roles, and VictoriaLogs takes lines by Elasticsearch's own `_bulk` interface. What is different is the language of
# questions: LogsQL in place of Elasticsearch's query DSL. Below they stand side by side. The originals, for large
# clusters, are in `docs/addons.md`.
#
# The next cell brings the add-on in.

# %%
lab.enable("logging")

# %% [markdown]
# ## Three stalls, five pods
#
# `ui` asks `features`, and `features` asks `serving`. Each writes one line of JSON for each thing that happens, and knows
# nothing of a log system: `LOG_FILE` is `-`, standard output. That is all that a program has to do.

# %%
STALL = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
spec:
  replicas: {replicas}
  selector:
    matchLabels: {{app: {name}}}
  template:
    metadata:
      labels: {{app: {name}{labels}}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: {name}
        image: podlab/python:3
        imagePullPolicy: IfNotPresent
        command: ["python3", "-S", "-u", "/program/stall.py"]
        env:
        - {{name: NAME, value: {name}}}
        - {{name: NEXT, value: "{next}"}}
        - {{name: LOG_FILE, value: "-"}}
        - {{name: LOG_FORMAT, value: {format}}}
        readinessProbe:
          httpGet: {{path: /readyz, port: 8080}}
          periodSeconds: 1
        volumeMounts:
        - {{name: program, mountPath: /program}}
      volumes:
      - name: program
        configMap: {{name: stall-program}}
---
apiVersion: v1
kind: Service
metadata:
  name: {name}
spec:
  selector: {{app: {name}}}
  ports:
  - {{port: 80, targetPort: 8080}}
"""

# %% [markdown]
# The three differ in their names, in how many pods they have, and in whom they ask next. `stall` fills that in, and
# `pods_of` finds the pods of a stall.

# %%
def stall(name, replicas, next="", format="json", labels=""):
    lab.apply(STALL.format(name=name, replicas=replicas, next=next, format=format, labels=labels))


def pods_of(name):
    return [pod for pod in lab.pods() if pod["metadata"]["labels"]["app"] == name]


stall("serving", 2)
stall("features", 2, next="http://serving")
stall("ui", 1, next="http://features")
lab.wait_ready(5, within=90)

# %% [markdown]
# Users 480 to 519 come, one after the other. One of the two pods of `serving` has a bad day.

# %%
ui, sick = pods_of("ui")[0], pods_of("serving")[0]
lab.trouble(sick, "fail", seconds=600, share=0.6)
visits = {}


def sent_away():  # forty at a time: on a busy machine the sick pod may be out of its Service for a while
    for user in range(480 + len(visits), 520 + len(visits)):
        visits[user] = lab.ask(ui, "/visit", user=user, timeout=15)
    return {user: reply for user, reply in visits.items() if reply.status >= 500}


failed = lab.wait(sent_away, "a visit that fails", within=300)
user, complaint = list(failed.items())[-1]
trace = complaint.body["trace_id"]
print(f"{len(failed)} of {len(visits)} visitors were sent away. One of them, user {user}, says: number {trace[:4]}")

# %% [markdown]
# ## A word, or a field
#
# **Predict.** Each stall writes a line when a request comes, and one when it is answered; where something goes wrong,
# one more. How many lines did request 7f3a leave in the three stalls together?

# %%
lab.predict("lines of one request", None)

# %%
def whole_trace():
    return lab.search(f'trace_id:="{trace}" | sort by (_time) | fields _time, service, level, _msg')


took = lab.measure(lambda: len(whole_trace()) >= 9, "the lines being found")
for line in whole_trace():
    print(line["_time"][17:26], f"{line['service']:9}", f"{line['level']:6}", line["_msg"])
lab.reconcile("lines of one request", len(whole_trace()))

# %% [markdown]
# There it is: down through three stalls, and the error on its way up. Each stall got the id of the trace from the one
# that asked it, in the header `traceparent`, wrote it into each of its lines, and passed it on. Without it, lines of
# forty visitors lie in a heap.
#
# The question had a filter, `trace_id:="..."`, and pipes behind it. In Elasticsearch's query DSL it is
#
# ```
# {"query": {"term": {"trace_id": "7f3a..."}}, "sort": [{"@timestamp": "asc"}]}
# ```
#
# Now all visitors who were sent away with status 502. Somebody in a hurry searches for the word: `502`.
#
# **Predict.** How many of the lines that have the word 502 are no answer with the status 502?

# %%
lab.predict("lines that only look like it", None)

# %%
lab.measure(lambda: len(lab.search('service:="ui" status:=502')) >= len(failed), "all answers being found")
by_word = lab.search("502")
by_field = lab.search('service:="ui" status:=502')
other = [line for line in by_word if line.get("status") != "502"]
print(*sorted({f"{line['service']:9} {line['_msg']}" for line in other}), sep="\n")
lab.reconcile("lines that only look like it", len(other))

# %% [markdown]
# User 502 is among them, and what `features` told `ui`. And by the field?

# %%
print(f"by the field: {len(by_field)}; the visitors' own count: {len(failed)}")

# %% [markdown]
# A word is looked for in the text of a message, where there are users and dishes and guesses. A field says what a
# number *means*. So programs should write fields, and questions should ask for them: `status:>=500`,
# `latency_ms:>300`. Text is for people.

# %% [markdown]
# ## Looking around
#
# This is what Kibana is for. The explorer shows when lines were written, and the lines; choose a field to see its
# values, and **Follow the trace** to see the way of a request. From code: `view.filter("level", "error")`,
# `view.follow(trace)`, `view.back()`.

# %%
view = lab.explore("*", minutes=10, title="The stalls")
view.filter("service", "serving")
view

# %% [markdown]
# And this is the way of our request. Each dot is a line; the ones that are filled are errors.

# %%
lab.explore("*", minutes=10, title="One request").follow(trace)

# %% [markdown]
# ## The pod is gone
#
# Somebody has seen the sick pod of `serving` and killed it. Its successor is fine. But our question is why.
#
# **Predict.** Does `kubectl logs` still find what the killed pod wrote? Does the log store? Write `"both"`,
# `"the store only"` or `"none"`.

# %%
lab.predict("after the kill", None)

# %%
name = sick["metadata"]["name"]
lab.api.delete("Pod", name, lab.namespace, grace=0)
lab.wait(lambda: not lab.now(sick), "the pod being gone")
try:
    lab.logs(name)
    by_kubectl = True
except Exception as error:
    print(error)
    by_kubectl = False

# %% [markdown]
# And the store, asked for the errors of this pod in our request:

# %%
words = lab.search(f'kubernetes.pod_name:="{name}" level:="error" trace_id:="{trace}" | fields _msg, exception')
print(words[0]["exception"].splitlines()[-1] if words else "nothing found")
lab.reconcile("after the kill", "both" if by_kubectl else "the store only" if words else "none")

# %% [markdown]
# What a container prints, its node keeps in a file, and throws the file away with the pod. The shipper follows these
# files, adds what Kubernetes knows (pod, node, labels), and sends them on within a second or two. Nobody has to ask a
# pod that may not be there any more.

# %% [markdown]
# ## One event, many lines
#
# That error was one line, its stack trace in the field `exception`. Many programs print a stack trace as it is. We
# let `serving` do so, and ask for user 0, of whom it knows nothing.
#
# **Predict.** How many lines will the store have of this one error?

# %%
lab.predict("lines of one stack trace", None)

# %%
stall("serving", 1, format="text")
lab.rollout("serving")
alone = pods_of("serving")[0]
lab.ask(alone, "/visit", user=0)
PRINTED = f'kubernetes.pod_name:="{alone["metadata"]["name"]}" !"is at the counter" !"is sent away" !"opens"'
lab.measure(lambda: any("KeyError" in line["_msg"] for line in lab.search(PRINTED)), "the error being found")
pieces = lab.search(PRINTED)
for line in pieces:
    print(line["_msg"])
lab.reconcile("lines of one stack trace", len(pieces))

# %% [markdown]
# A search for `KeyError` finds the last of them, which says neither where nor for whom. Shippers can guess: Filebeat's
# `multiline` puts lines together that do not begin like an event. Ours does so for a pod with the label
# `podlab.dev/multiline`, whose value is the language that its stack traces are in.

# %%
stall("serving", 1, format="text", labels=", podlab.dev/multiline: python")
lab.rollout("serving")
alone = pods_of("serving")[0]
lab.ask(alone, "/visit", user=0)
TOGETHER = f'kubernetes.pod_name:="{alone["metadata"]["name"]}" "KeyError"'
lab.measure(lambda: lab.search(TOGETHER), "the error being found")
(event,) = lab.search(TOGETHER)
print(event["_msg"])

# %% [markdown]
# One event from its first line to its last, but for the line before, `[ERROR] ...`: whether that belongs to it the
# shipper cannot know. It is a guess, for each language anew, and two threads that print at once are more than it can
# tell apart. One line of JSON for each event leaves nothing to guess.
#
# ## The shipper dies
#
# A shipper remembers how far it has read, a *checkpoint* for each file, and keeps what the store has not taken. When
# its process dies, the next one goes on there. We do worse: we delete the **pods** of all shippers, with their
# checkpoints, while visitors come.
#
# **Predict.** 120 visits. How many of the lines that `ui` writes at their arrival are missing in the end? And how many
# come twice?

# %%
print(lab.predict("missing", None))
lab.predict("twice", None)

# %%
stall("serving", 2)
lab.rollout("serving")
mark = f"m{trace[:6]}"  # each of these visitors carries it, so that they can be counted


def come(users):
    for user in users:
        lab.ask(ui, "/visit", user=user, nonce=mark, timeout=15)


ARRIVALS = f'nonce:="{mark}" service:="ui" "is at the counter" | stats count() lines, count_uniq(user) different'


def counted():
    row = lab.search(ARRIVALS)[0]
    return int(row["lines"]), int(row["different"])


come(range(1, 61))
lab.measure(lambda: counted()[1] >= 60, "the first half being found")

# %% [markdown]
# Half of them are found. Now the shippers go, and the other half comes.

# %%
for shipper in lab.api.list("Pod", "logging", labelSelector="app=vlagent"):
    lab.api.delete("Pod", shipper["metadata"]["name"], "logging", grace=0)
come(range(61, 121))
lab.measure(lambda: counted()[1] >= 120, "every visit being found")
lab.pause(5)
lines, different = counted()
print(lab.reconcile("missing", 120 - different))
lab.reconcile("twice", lines - different)

# %% [markdown]
# **At least once**: send, hear that it was taken, and only then note that it was sent. Whoever dies in between sends
# again. The other order would lose lines, and nobody would know. So lines are not events, and a question that counts
# requests counts different ids: `count_uniq(trace_id)`.
#
# The chain is as strong as its last link. VictoriaLogs says "taken" when it has lines in memory, and writes them to
# disk some seconds later: killed in between, it has lost what it has promised. So the shipper here keeps what was taken
# until that process has run for a minute more, and sends it again if another one runs then. Whom do *you* believe, and
# when?
#
# ## In by Elasticsearch's door
#
# A program that sends its lines itself, in Elasticsearch's way, needs no change. This goes to `_bulk`:

# %%
lab.log_store.bulk([{"message": f"hello from {mark}", "@timestamp": "0", "app": "by-bulk"}], stream=["app"])
lab.measure(lambda: lab.log_store.query(f'app:="by-bulk" "{mark}"'), "the line being found")
lab.log_store.query(f'app:="by-bulk" "{mark}" | fields app, _msg')

# %% [markdown]
# There is no `_search`: questions are LogsQL. For the query DSL itself there is a second add-on, OpenSearch, the fork
# of Elasticsearch under the Apache licence. It wants half a gigabyte of memory, and Java:
# `pip install 'podlab[opensearch]'`. Then `lab.enable("opensearch")` brings it in with shippers of its own, which feed
# it by `_bulk`, and `lab.opensearch.lines({"term": {"level": "error"}})` asks it. The most frequent questions, side by
# side:
#
# | | query DSL of Elasticsearch | LogsQL |
# |---|---|---|
# | a field is exactly | `{"term": {"level": "error"}}` | `level:="error"` |
# | a word in the text | `{"match": {"message": "fire"}}` | `fire` |
# | a number | `{"range": {"status": {"gte": 500}}}` | `status:>=500` |
# | since when | `{"range": {"@timestamp": {"gte": "now-5m"}}}` | `_time:5m` |
# | count by | `{"aggs": {"s": {"terms": {"field": "service"}}}}` | `... \| stats by (service) count()` |
# | different ones | `{"cardinality": {"field": "trace_id"}}` | `... \| stats count_uniq(trace_id)` |

# %%
lab.snapshot()

# %% [markdown]
# ## What we have seen
#
# - A pod's lines go with the pod. A shipper on each node brings them away in time.
# - A trace id that is passed on makes a story of lines from five pods. An order must be asked for.
# - A field says what a number means; a word only that somebody wrote it.
# - One event, one line: a stack trace belongs into a field.
# - At least once: nothing is missing, some lines come twice, and one counts ids.

# %% [markdown]
# ## Three questions to test yourself
#
# 1. The store was away for ten minutes. Where were the lines meanwhile, and which of them may be lost after all?
# 2. A program logs `paid 502 for user 17` as text. What would you have it write, so that both numbers can be asked for?
# 3. A dashboard counts error lines. After a node's restart it shows twice as many. What happened, and what should it
#    count?
#
# ## To read on
#
# - [Logging architecture](https://kubernetes.io/docs/concepts/cluster-administration/logging/)
# - [LogsQL](https://docs.victoriametrics.com/victorialogs/logsql/)
# - [Elasticsearch: query DSL](https://www.elastic.co/docs/explore-analyze/query-filter/languages/querydsl)
# - [Filebeat: multiline messages](https://www.elastic.co/docs/reference/beats/filebeat/multiline-examples)
# - [W3C Trace Context](https://www.w3.org/TR/trace-context/)
#
# The exercises of this chapter are in the assignment `22-logging`.
