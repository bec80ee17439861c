# ---
# title: Logging with the ELK stack, the exercises
# chapter: "22"
# minutes: 75
# needs: a cluster for the last exercise, and VictoriaLogs (podlab binaries ensure victoria-logs vlagent)
# programs: [victoria-logs, vlagent]
# ---

# %% [markdown]
# # 22. Logging with the ELK stack: exercises
#
# Search, read, ship: three exercises about the roles of a log system, and one about a pod whose lines must outlive it.
# A check makes logs of its own, anew each time, and knows every line. What you hand in meets a real VictoriaLogs.
#
# Change only the cells that say `YOUR CODE HERE`. The cell below each of them runs the checks, as often as you
# like. `lab.hint("22.1")` asks you a question that may help. When your work is graded, some further checks run that
# you do not see here; the task says everything they look at.

# %%
from podlab.lab import start

lab = start("22")

# %% [markdown]
# ## Exercise 22.1: What happened to this request?
#
# The store holds half an hour of a shop's lines, from the services `ui`, `features` and `serving` in several pods.
# Another app, `basket`, writes into the same store. Each line has the fields `app`, `service`, `pod`, `level` (`info`
# or `error`), `trace_id`, `user` and its text, `_msg`. Where a request is answered there is also a `status`; the
# visitor gets what `ui` answers. The shipper promises *at least once*.

# %% [markdown]
# Three questions in LogsQL. The words in capitals are replaced before you are understood: `TRACE` by a trace
# id, `BEGIN` and `END` by moments. A time is asked for with `_time:[BEGIN, END)`.
#
# - `one_request`: every line of the request `TRACE`, and no line of another one, **in the order of time**. The fields
#   `service` and `_msg` are to be left.
# - `failed_requests`: one row with its `trace_id` for each request of the **shop** that was answered with 5xx from
#   `BEGIN` to `END`. A page that does not exist (404) is no failure, and neither is what went well the second time.
# - `troubled_services`: one row for each `service` of the shop in which requests met an error from `BEGIN` to `END`;
#   `requests` says how many different requests.

# %% answer="22.1"
one_request = "TRACE"
failed_requests = "error"
troubled_services = "error"
### BEGIN SOLUTION
one_request = 'trace_id:="TRACE" | sort by (_time) | fields _time, service, pod, level, _msg'
failed_requests = '_time:[BEGIN, END) app:="shop" service:="ui" status:>=500 | uniq by (trace_id)'
troubled_services = """
_time:[BEGIN, END) app:="shop" level:="error" | stats by (service) count_uniq(trace_id) requests
"""
### END SOLUTION

# %% checks="22.1"

# %% alternative="22.1" title="sums in place of uniq, codes as a pattern"
one_request = 'trace_id:TRACE | sort by (_time)'
failed_requests = '_time:[BEGIN, END) {app="shop",service="ui"} status:~"^5..$" | stats by (trace_id) count() lines'

# %% alternative="22.1" title="uniq first, then count"
failed_requests = '_time:[BEGIN, END) app:shop service:ui level:error | uniq by (trace_id, status)'
troubled_services = """
_time:[BEGIN, END) app:shop level:error | uniq by (service, trace_id) | stats by (service) count() requests
"""

# %% wrong="22.1" title="the id as a word"
# fails request: The id stands in the text of other requests
one_request = "TRACE | sort by (_time)"

# %% wrong="22.1" title="in no order"
# fails order: Lines lie in streams
one_request = 'trace_id:="TRACE"'

# %% wrong="22.1" title="newest first"
# fails order: the newest comes first
one_request = 'trace_id:="TRACE" | sort by (_time) desc'

# %% wrong="22.1" title="any service that failed"
# fails failed: it was tried again
failed_requests = '_time:[BEGIN, END) app:="shop" status:>=500 | uniq by (trace_id)'

# %% wrong="22.1" title="404 is a failure"
# fails failed: 404 is no failure of the shop
failed_requests = failed_requests.replace("500", "400")

# %% wrong="22.1" title="lines, not requests"
# fails failed: Some lines were sent twice
# fails services: a line may be there twice
failed_requests = failed_requests.replace("| uniq by (trace_id)", "")
troubled_services = troubled_services.replace("count_uniq(trace_id)", "count()")

# %% wrong="22.1" title="only what did not go well"
# fails another: keeps only some of the lines
one_request = 'trace_id:="TRACE" -status:=200 | sort by (_time)'

# %% wrong="22.1" title="the first 35"
# fails later: failed requests are missing
failed_requests += " | limit 35"

# %% wrong="22.1" title="every app"
# fails failed: Another app writes into the same store
failed_requests = failed_requests.replace('app:="shop" ', "")

# %% wrong="22.1" title="at any time"
# fails failed: does not keep to the time
failed_requests = failed_requests.replace("_time:[BEGIN, END) ", "")

# %% wrong="22.1" title="a pipe to nowhere"
# fails request: VictoriaLogs cannot read the question
one_request = 'trace_id:="TRACE" | sort_by _time'

# %% [markdown]
# ## Exercise 22.2: What is one event?
#
# A node keeps what a container prints in a file, line by line:
#
# ```
# 2026-11-26T10:00:00.004Z stdout F {"level": "info", "message": "answered", "latency_ms": 12}
# 2026-11-26T10:00:00.008Z stderr F [ERROR] cannot rank for user 7
# 2026-11-26T10:00:00.012Z stderr F   File "/program/serving.py", line 41, in rank
# 2026-11-26T10:00:00.016Z stderr F KeyError: 'a91c'
# 2026-11-26T10:00:00.020Z stdout P [INFO] loaded the mod
# 2026-11-26T10:00:00.024Z stdout F el with 300 movies
# ```
#
# Time, stream, flag, text. Write `events(lines)`, which returns a list of dictionaries, one for each event:
#

# %% [markdown]
# The rules:
#
# - A text with the flag `P` is not whole: the next line of its stream goes on with it, until one has the flag `F`.
# - A whole text that begins with `{` is JSON: its fields are the event's. If it is no JSON after all, `message` is the
#   text as it is.
# - A whole text that begins with `[LEVEL] ` is an event with `level` (in small letters) and `message` (the rest).
# - Any other whole text goes on with the last event **of its stream**: it is added to its `message` after a line break.
#   Where the file holds no event before it, it is an event with its `message` alone.
# - Every event has `time` and `stream` of its first line, and no other fields than these. The events come in the order
#   of their times.

# %% answer="22.2"
def events(lines):
    raise NotImplementedError
### BEGIN SOLUTION
import json
import re


def events(lines):
    found, pieces, last = [], {}, {}
    for line in lines:
        moment, stream, flag, text = line.split(" ", 3)
        begun, before = pieces.pop(stream, (moment, ""))
        text = before + text
        if flag == "P":
            pieces[stream] = begun, text
            continue
        event = {"time": begun, "stream": stream}
        head = re.match(r"\[([A-Z]+)\] ", text)
        if text.startswith("{"):
            try:
                event.update(json.loads(text))
            except ValueError:
                event["message"] = text
        elif head:
            event.update(level=head[1].lower(), message=text[head.end():])
        elif stream in last:
            last[stream]["message"] += "\n" + text
            continue
        else:
            event["message"] = text
        last[stream] = event
        found.append(event)
    return sorted(found, key=lambda event: event["time"])
### END SOLUTION

# %% checks="22.2"

# %% alternative="22.2" title="in two passes: whole texts first, each stream by itself"
import json


def whole(lines, stream):
    text, begun = "", ""
    for line in lines:
        moment, where, flag, piece = line.split(" ", 3)
        if where != stream:
            continue
        begun, text = begun or moment, text + piece
        if flag == "F":
            yield begun, text
            text, begun = "", ""
    if text:
        yield begun, text


def parsed(text):
    try:
        return json.loads(text) if text[:1] == "{" else None
    except ValueError:
        return {"message": text}


def events(lines):
    found = []
    for stream in ("stdout", "stderr"):
        mine = []
        for moment, text in whole(lines, stream):
            fields = parsed(text)
            level, bracket, rest = text.partition("] ")
            if fields is None and text[:1] == "[" and bracket:
                fields = {"level": level[1:].lower(), "message": rest}
            if fields is None and mine:
                mine[-1]["message"] = mine[-1]["message"] + "\n" + text
            else:
                mine.append({**(fields or {"message": text}), "time": moment, "stream": stream})
        found += mine
    return sorted(found, key=lambda event: event["time"])

# %% alternative="22.2" title="a class for each stream"
import json
import re


class Stream:
    def __init__(self, name):
        self.name, self.events, self.open = name, [], None

    def take(self, moment, flag, text):
        self.open = (self.open[0], self.open[1] + text) if self.open else (moment, text)
        if flag == "F":
            begun, whole = self.open
            self.open = None
            self.add(begun, whole)

    def add(self, moment, text):
        event = {"time": moment, "stream": self.name}
        if head := re.match(r"\[(\w+)\] ", text):
            event |= {"level": head[1].lower(), "message": text[head.end():]}
        elif text.startswith("{"):
            try:
                event |= json.loads(text)
            except json.JSONDecodeError:
                event |= {"message": text}
        elif self.events:
            self.events[-1]["message"] = "\n".join([self.events[-1]["message"], text])
            return
        else:
            event |= {"message": text}
        self.events.append(event)


def events(lines):
    streams = {}
    for line in lines:
        moment, name, flag, text = line.split(" ", 3)
        streams.setdefault(name, Stream(name)).take(moment, flag, text)
    return sorted((event for stream in streams.values() for event in stream.events), key=lambda event: event["time"])

# %% wrong="22.2" title="an event for each line"
# fails trace: A stack trace is cut into several events
# fails search: whole stack traces: 0 of
# -         elif stream in last:
# -             last[stream]["message"] += "\n" + text
# -             continue

# %% wrong="22.2" title="all streams are one"
# fails streams: which was of the other stream
# -         elif stream in last:
# -             last[stream]["message"] += "\n" + text
# +         elif last:
# +             last[""]["message"] += "\n" + text
#
# -         last[stream] = event
# +         last[""] = event

# %% wrong="22.2" title="pieces are lines"
# fails long: The pieces of a long text
# -         if flag == "P":
# -             pieces[stream] = begun, text
# -             continue

# %% wrong="22.2" title="every file begins with an event"
# fails edges: which the file does not hold are lost
# -         else:
# -             event["message"] = text
# +         else:
# +             continue

# %% wrong="22.2" title="each line that lacks its beginning is an event"
# fails edges: or are events of their own
# -         else:
# -             event["message"] = text
# +         else:
# +             found.append({**event, "message": text})
# +             continue

# %% wrong="22.2" title="broken JSON is dropped"
# fails broken: Such a line raises an error, is dropped
# -                 event["message"] = text
# +                 continue

# %% wrong="22.2" title="numbers become text"
# fails fields: Numbers in JSON stay numbers
# -                 event.update(json.loads(text))
# +                 event.update({key: str(value) for key, value in json.loads(text).items()})

# %% [markdown]
# ## Exercise 22.3: At least once
#
# A shipper reads a file that grows, and sends its lines to the store. It may be killed at any moment. Then it is
# started again, and all it has is its **checkpoint**, what it saved last.
#
# Write `ship(checkpoint)` as a generator that goes on for ever. Each `yield` hands out one step and gets its answer:
#
# | step | answer |
# |---|---|
# | `("read", place)` | what is in the file from this place on, at most 2000 characters; empty if there is nothing yet |
# | `("send", lines)` | `True` if the store has taken the lines, `False` if it is away |
# | `("save", checkpoint)` | nothing; any number, text, list or dictionary is on the disk now |

# %% [markdown]
# `checkpoint` is what was saved last in an earlier life, `None` in the first. A `place` counts characters, and the
# first is 0. The last line of a reading may be only half written. At most 20 lines are sent at once, without their
# line breaks.
#
# - Undisturbed, every line comes once and in order. Half a line is never sent.
# - Killed between any two steps, again and again: **no line is lost**.
# - For each kill at most the lines of the last sending before it come twice.
# - While the store is away nothing is lost, and nothing overtakes.

# %% answer="22.3"
def ship(checkpoint):
    while True:
        text = yield ("read", 0)
        yield ("send", text.splitlines())
### BEGIN SOLUTION
def ship(checkpoint):
    place = checkpoint or 0
    while True:
        text = yield ("read", place)
        lines = text[: text.rfind("\n") + 1].splitlines()[:20]
        if not lines:
            continue
        while not (yield ("send", lines)):
            pass
        place += sum(len(line) + 1 for line in lines)
        yield ("save", place)
### END SOLUTION

# %% checks="22.3"

# %% alternative="22.3" title="a dictionary as checkpoint, all parts of a reading before the next"
def ship(checkpoint):
    place = (checkpoint or {"place": 0})["place"]
    while True:
        text = yield ("read", place)
        *whole, _half = text.split("\n")
        for first in range(0, len(whole), 20):
            part = whole[first : first + 20]
            taken = False
            while not taken:
                taken = yield ("send", part)
            place += len("\n".join(part)) + 1
            yield ("save", {"place": place})

# %% alternative="22.3" title="one line at a time"
def ship(checkpoint):
    place = int(checkpoint or "0")
    while True:
        text = yield ("read", place)
        line, end, _ = text.partition("\n")
        if end and (yield ("send", [line])):
            place += len(line) + 1
            yield ("save", str(place))

# %% wrong="22.3" title="first save, then send"
# fails killed: the checkpoint said already that these lines were sent
# -         while not (yield ("send", lines)):
# -             pass
# -         place += sum(len(line) + 1 for line in lines)
# -         yield ("save", place)
# +         place += sum(len(line) + 1 for line in lines)
# +         yield ("save", place)
# +         while not (yield ("send", lines)):
# +             pass

# %% wrong="22.3" title="the first checkpoint comes too early"
# fails every-step: the checkpoint is ahead of the store
# -         while not (yield ("send", lines)):
# -             pass
# -         place += sum(len(line) + 1 for line in lines)
# -         yield ("save", place)
# +         behind, place = place, place + sum(len(line) + 1 for line in lines)
# +         if not behind:
# +             yield ("save", place)
# +         while not (yield ("send", lines)):
# +             pass
# +         if behind:
# +             yield ("save", place)

# %% wrong="22.3" title="nothing is saved"
# fails twice: A new life began far behind
# -         yield ("save", place)

# %% wrong="22.3" title="the answer of the store is not heard"
# fails away: the lines of that sending were given up
# -         while not (yield ("send", lines)):
# -             pass
# +         yield ("send", lines)

# %% wrong="22.3" title="halves are sent"
# fails all: A reading ends in the middle of a line
# -         lines = text[: text.rfind("\n") + 1].splitlines()[:20]
# +         lines = text.splitlines()[:20]

# %% wrong="22.3" title="what has no end after three readings is sent as it is"
# fails halves: the half was sent
# -     place = checkpoint or 0
# -     while True:
# -         text = yield ("read", place)
# -         lines = text[: text.rfind("\n") + 1].splitlines()[:20]
# +     place, vain = checkpoint or 0, 0
# +     while True:
# +         text = yield ("read", place)
# +         lines = text[: text.rfind("\n") + 1].splitlines()[:20]
# +         vain = 0 if lines or not text else vain + 1
# +         if vain == 3:
# +             lines = [text]

# %% wrong="22.3" title="line breaks are not counted"
# fails all: it is not at the end
# -         place += sum(len(line) + 1 for line in lines)
# +         place += sum(len(line) for line in lines)

# %% wrong="22.3" title="everything at once"
# fails all: The store takes 20
# -         lines = text[: text.rfind("\n") + 1].splitlines()[:20]
# +         lines = text[: text.rfind("\n") + 1].splitlines()

# %% [markdown]
# ## Exercise 22.4: A log that outlives its pod
#
# The program of the stalls is old: unless it is told otherwise, it writes text into a file in its container,
# `/tmp/stall.log`. Its settings:
#
# | variable | meaning |
# |---|---|
# | `LOG_FILE` | where it logs; `-` is standard output |
# | `LOG_FORMAT` | `text`, where a stack trace follows in lines of its own, or `json`: each event is one line |
# | `LOG_LEVEL` | `info` (everything) or `error` |
#
# Change the manifest so that the cluster's log add-on has every event of it, also when the pod is gone: with the name
# of the pod, with `nonce`, `status` and `latency_ms` as fields, and a stack trace as one event. A check visits the
# pod, kills it, and asks the store. The program stays the given one; what it is told, and what stands beside it, is
# yours.

# %% answer="22.4"
shop_manifest = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: shop
spec:
  replicas: 1
  selector:
    matchLabels: {app: shop}
  template:
    metadata:
      labels: {app: shop}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: shop
        image: podlab/python:3
        imagePullPolicy: IfNotPresent
        command: ["python3", "-S", "-u", "/program/stall.py"]
        env:
        - {name: NAME, value: shop}
        readinessProbe:
          httpGet: {path: /readyz, port: 8080}
          periodSeconds: 1
        volumeMounts:
        - {name: program, mountPath: /program}
      volumes:
      - name: program
        configMap: {name: stall-program}
"""
### BEGIN SOLUTION
shop_manifest = shop_manifest.replace(
    "- {name: NAME, value: shop}",
    """- {name: NAME, value: shop}
        - {name: LOG_FILE, value: "-"}
        - {name: LOG_FORMAT, value: json}""",
)
### END SOLUTION

# %% checks="22.4"

# %% alternative="22.4" title="a second container prints the file"
shop_manifest = shop_manifest.replace('value: "-"', "value: /logs/stall.log").replace(
    "        - {name: program, mountPath: /program}\n",
    "        - {name: program, mountPath: /program}\n        - {name: logs, mountPath: /logs}\n",
).replace(
    "      volumes:\n",
    """      - name: printer
        image: podlab/python:3
        imagePullPolicy: IfNotPresent
        command:
        - python3
        - -S
        - -u
        - -c
        - |
          import os, signal, threading
          signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
          file = open("/logs/stall.log", "a+")
          file.seek(0)
          rest = ""
          while True:
              rest += file.read()
              *lines, rest = rest.split("\\n")
              for line in lines:
                  print(line)
              threading.Event().wait(0.2)
        volumeMounts:
        - {name: logs, mountPath: /logs}
      volumes:
      - name: logs
        emptyDir: {}
""",
)

# %% alternative="22.4" title="two replicas, settings from a ConfigMap"
shop_manifest = """
apiVersion: v1
kind: ConfigMap
metadata:
  name: settings
data: {NAME: shop, LOG_FILE: "-", LOG_FORMAT: json}
---
""" + shop_manifest.replace("replicas: 1", "replicas: 2").replace(
    shop_manifest[shop_manifest.index("        env:") : shop_manifest.index("        readinessProbe:")],
    "        envFrom:\n        - configMapRef: {name: settings}\n",
)

# %% wrong="22.4" title="a file in a volume that nobody reads"
# fails found: which nobody reads
# fails survives: has not passed
shop_manifest = shop_manifest.replace('value: "-"', "value: /logs/stall.log").replace(
    "        - {name: program, mountPath: /program}\n",
    "        - {name: program, mountPath: /program}\n        - {name: logs, mountPath: /logs}\n",
).replace("      volumes:\n", "      volumes:\n      - name: logs\n        emptyDir: {}\n")

# %% wrong="22.4" title="a second container prints what has a status"
# fails all-levels: keeps some lines back
shop_manifest = shop_manifest.replace('value: "-"', "value: /logs/stall.log").replace(
    "        - {name: program, mountPath: /program}\n",
    "        - {name: program, mountPath: /program}\n        - {name: logs, mountPath: /logs}\n",
).replace(
    "      volumes:\n",
    """      - name: printer
        image: podlab/python:3
        imagePullPolicy: IfNotPresent
        command:
        - python3
        - -S
        - -u
        - -c
        - |
          import os, signal, threading
          signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
          file = open("/logs/stall.log", "a+")
          file.seek(0)
          rest = ""
          while True:
              rest += file.read()
              *lines, rest = rest.split("\\n")
              for line in lines:
                  if "status" in line:
                      print(line)
              threading.Event().wait(0.2)
        volumeMounts:
        - {name: logs, mountPath: /logs}
      volumes:
      - name: logs
        emptyDir: {}
""",
)

# %% wrong="22.4" title="a second container prints a line when the next one comes"
# fails survives: keeps the last one for itself
shop_manifest = shop_manifest.replace('value: "-"', "value: /logs/stall.log").replace(
    "        - {name: program, mountPath: /program}\n",
    "        - {name: program, mountPath: /program}\n        - {name: logs, mountPath: /logs}\n",
).replace(
    "      volumes:\n",
    """      - name: printer
        image: podlab/python:3
        imagePullPolicy: IfNotPresent
        command:
        - python3
        - -S
        - -u
        - -c
        - |
          import os, signal, threading
          signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
          file = open("/logs/stall.log", "a+")
          file.seek(0)
          rest = held = ""
          while True:
              rest += file.read()
              *lines, rest = rest.split("\\n")
              for line in lines:
                  if held:
                      print(held)
                  held = line
              threading.Event().wait(0.2)
        volumeMounts:
        - {name: logs, mountPath: /logs}
      volumes:
      - name: logs
        emptyDir: {}
""",
)

# %% wrong="22.4" title="a second container takes the file away and prints it"
# fails earlier: must look there again
shop_manifest = shop_manifest.replace('value: "-"', "value: /logs/stall.log").replace(
    "        - {name: program, mountPath: /program}\n",
    "        - {name: program, mountPath: /program}\n        - {name: logs, mountPath: /logs}\n",
).replace(
    "      volumes:\n",
    """      - name: printer
        image: podlab/python:3
        imagePullPolicy: IfNotPresent
        command:
        - python3
        - -S
        - -u
        - -c
        - |
          import os, signal, threading
          signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
          while not os.path.exists("/logs/stall.log"):
              threading.Event().wait(0.1)
          os.rename("/logs/stall.log", "/logs/printing.log")
          file = open("/logs/printing.log")
          rest = ""
          while True:
              rest += file.read()
              *lines, rest = rest.split("\\n")
              for line in lines:
                  print(line)
              threading.Event().wait(0.2)
        volumeMounts:
        - {name: logs, mountPath: /logs}
      volumes:
      - name: logs
        emptyDir: {}
""",
)

# %% wrong="22.4" title="text in place of JSON"
# fails fields: this question finds nothing
# fails whole: A stack trace that is written as text
shop_manifest = shop_manifest.replace("value: json", "value: text")

# %% wrong="22.4" title="errors only"
# fails found: keeps lines of this level back
shop_manifest = shop_manifest.replace(
    "- {name: LOG_FORMAT", "- {name: LOG_LEVEL, value: error}\n        - {name: LOG_FORMAT"
)

# %% wrong="22.4" title="never ready"
# fails found: after
shop_manifest = shop_manifest.replace("path: /readyz", "path: /ready")

# %% wrong="22.4" title="another program, which logs as it is asked to"
# fails found: no longer runs the given program
shop_manifest = shop_manifest.replace(
    '["python3", "-S", "-u", "/program/stall.py"]',
    """
        - python3
        - -S
        - -c
        - |
          import http.server, json, sys, urllib.parse
          class Shop(http.server.BaseHTTPRequestHandler):
              def do_GET(self):
                  asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
                  status = 500 if asked.get("user") == "0" else 200
                  print(json.dumps({**asked, "status": status, "latency_ms": 0, "exception": "Traceback KeyError"}))
                  self.send_response(status)
                  self.end_headers()
                  self.wfile.write(b'{"instance": "1"}')
          http.server.ThreadingHTTPServer(("", 8080), Shop).serve_forever()""",
)

# %% [markdown]
# ## How far you are

# %%
lab.progress()
