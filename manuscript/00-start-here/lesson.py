# ---
# title: Start here
# chapter: "00"
# minutes: 10
# needs: nothing (a cluster is started)
# ---

# %% [markdown]
# # Threads to Pods: start here
#
# This course goes from a loop in one process, over workers that crash, to pods on a real Kubernetes cluster. The
# cluster runs on this machine: the real API server, scheduler and controllers as plain processes, without Docker
# and without administrator rights.
#
# Run the cells of this page from top to bottom (Shift and Enter). It takes about a minute, and answers one
# question: *is my machine ready?*

# %%
from podlab.lab import start

lab = start("00", up=True)

# %% [markdown]
# If the line above names a cluster and a namespace, it is. If it speaks of a missing piece, the next cell says
# which, and how to get it.

# %%
lab.doctor()

# %% [markdown]
# What the programs and processes of this machine play for you is a cluster: machines, called *nodes*, that share the
# work. It sees them like this.

# %%
lab.nodes()

# %% [markdown]
# ## A first picture
#
# The boxes below are the nodes of your cluster, the tiles will be your pods. There are none yet. The picture is
# live: leave it in view while you run the next cells.

# %%
m = lab.map("Your first pods")
m

# %% [markdown]
# Now say what you want: three copies of a small web server. A text like this is a *manifest*. It says nothing of where
# and how; chapter 14 tells who sees to that.

# %%
lab.apply("""
apiVersion: apps/v1
kind: Deployment
metadata: {name: hello}
spec:
  replicas: 3
  selector: {matchLabels: {app: hello}}
  template:
    metadata: {labels: {app: hello}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: hello
        image: podlab/python:3
        imagePullPolicy: IfNotPresent
        command: ["python3", "-m", "http.server", "8080"]
""")
lab.rollout("hello")

# %% [markdown]
# ## A first prediction
#
# You asked for three pods, and there they are. If you delete one, how many will there be five seconds later?
# Write your number in place of `None`, and then run the cell after it.

# %%
lab.predict("pods after five seconds", None)

# %%
lab.delete("pod", lab.pods()[0]["metadata"]["name"])
lab.pause(5)
lab.reconcile("pods after five seconds", len(lab.room.live()))

# %% [markdown]
# Did it surprise you? Three again does not mean the same three. Here is the picture as it is now; compare the names
# with those of a moment ago.

# %%
lab.snapshot()

# %% [markdown]
# The deleted pod did not come back, another one took its place. Why that is so, and what it costs, is what the course
# is about.

# %% [markdown]
# ## A first check
#
# In the exercises you write something, and checks play with it. Exercise 00.1 asks for a film's average, and somebody
# has answered it in a hurry. There are 6 points. How many does this answer get? Write your number in place of `None`.

# %%
def average(stars):
    return sum(stars) // len(stars)


lab.predict("points of the hurried answer", None)

# %%
report = lab.check("00.1")
print(lab.reconcile("points of the hurried answer", report.report.score))
report

# %% [markdown]
# A check does not read your code; it calls it, with lists that are made up for you. It says what it expected, what it
# saw, the likely cause and the next thing to try. If that does not help, ask for a hint. Hints are questions, and
# fit what has failed.

# %%
lab.hint("00.1")

# %% [markdown]
# That is the whole loop: write, check, read, ask, write again. Now
# [do it yourself](../release/00-start-here/00-start-here.ipynb): this function, and one more, which a cluster judges.

# %% [markdown]
# ## The map of the course
#
# Each chapter is a lesson, which you run and play with, and an assignment with exercises that check themselves. The
# ones that give a time are ready (in brackets: how much of it the machine takes), and any of them can be the first:
#
# - from the beginning: [01 Split and conquer](01-split-and-conquer.ipynb), and why four workers are not four times
#   faster;
# - straight to Kubernetes: [14 A cluster and its API](14-cluster-and-api.ipynb), and then
#   [15 Self-healing](15-self-healing.ipynb).
#
# The links in the table lead to the rest, and so do the tiles behind the **+** of a new tab. Answers and
# progress stay on this machine.

# %%
lab.course()
