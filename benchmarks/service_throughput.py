"""service-throughput: pod to pod through a ClusterIP, against the same two programs on plain loopback.

Bulk: one connection, 64 KiB at a time, bytes counted by the receiver. Questions: one byte there and back, one after
the other on one connection. Ours and the floor in turn, the same machine and the same seconds. Limit: at least 0.7 of
the floor for both.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

from api import PODS, SERVICES, Api, pod
from clusters import running, until_ready
from common import Figure, announce, finish, interleave, machine, median, options, table

from podlab import waiting

LEAST = 0.7
PORT = 8080
_SERVER = """
import socket, sys, threading

def serve(connection):
    with connection:
        kind = connection.recv(1)
        if kind == b"q":
            while data := connection.recv(1):
                connection.sendall(data)
            return
        count = 0
        room = bytearray(1 << 16)
        while got := connection.recv_into(room):
            count += got
        connection.sendall(b"%d" % count)

listening = socket.create_server(("", int(sys.argv[1])))
print(listening.getsockname()[1], flush=True)
while True:
    connection, _ = listening.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    threading.Thread(target=serve, args=(connection,), daemon=True).start()
"""
_CLIENT = """
import json, socket, sys, time
host, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])

def connect():
    connection = socket.create_connection((host, port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection

with connect() as connection:
    connection.sendall(b"q")
    asked, began = 0, time.monotonic()
    while time.monotonic() - began < seconds:
        connection.sendall(b"x")
        connection.recv(1)
        asked += 1
    questions = asked / (time.monotonic() - began)
with connect() as connection:
    connection.sendall(b"b")
    block, began = b"x" * (1 << 16), time.monotonic()
    while time.monotonic() - began < seconds:
        connection.sendall(block)
    connection.shutdown(socket.SHUT_WR)
    count = int(connection.recv(100))
    bulk = count / (time.monotonic() - began)
print(json.dumps({"bulk": bulk, "questions": questions}), flush=True)
"""
Rates = dict[str, float]


def on_loopback(seconds: int) -> Rates:
    """Both programs as ordinary processes."""
    with subprocess.Popen([sys.executable, "-c", _SERVER, "0"], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        port = server.stdout.readline().strip()
        client = [sys.executable, "-c", _CLIENT, "127.0.0.1", port, str(seconds)]
        done = subprocess.run(client, capture_output=True, text=True, check=True)
        server.kill()
    return json.loads(done.stdout)


def in_pods(api: Api, address: str, seconds: int) -> Rates:
    """The client as a pod of its own, through the Service."""
    name = f"client-{time.monotonic_ns()}"
    arguments = ["python", "-c", _CLIENT, address, str(PORT), str(seconds)]
    api.post(PODS, pod(name, {"image": "podlab/python:3", "command": arguments}, restartPolicy="Never"))
    waiting.until(
        lambda: api.get(f"{PODS}/{name}")["status"].get("phase") in ("Succeeded", "Failed"),
        f"the end of {name}",
        timeout=120 + 4 * seconds,
        interval=0.2,
    )
    told = api.text(f"{PODS}/{name}/log")
    api.delete(f"{PODS}/{name}", gracePeriodSeconds=0)
    return json.loads(told)


def main() -> None:
    """Measure and tell."""
    given = options(
        __doc__, repeats=(5, 1, "runs of each"), seconds=(5, 1, "of each measurement"), nodes=(2, 1, "nodes")
    )
    here = machine()
    announce("service-throughput", here)
    with running(given.nodes) as api:
        api.post(PODS, pod("server", {"image": "podlab/python:3", "command": ["python", "-c", _SERVER, str(PORT)]}))
        ports = [{"port": PORT, "targetPort": PORT}]
        service = api.post(
            SERVICES, {"metadata": {"name": "server"}, "spec": {"selector": {"app": "server"}, "ports": ports}}
        )
        until_ready(api, "server", 1)
        address = service["spec"]["clusterIP"]
        in_pods(api, address, 1)
        found = interleave(
            given.repeats,
            loopback=lambda: on_loopback(given.seconds),
            pods=lambda: in_pods(api, address, given.seconds),
        )
    ratios, rows = {}, []
    for kind, unit, scale in (("bulk", "MiB/s", 2**20), ("questions", "questions/s", 1)):
        ours, bare = (median([one[kind] / scale for one in found[name]]) for name in ("pods", "loopback"))
        pairs = zip(found["pods"], found["loopback"], strict=True)
        ratios[kind] = median([one[kind] / other[kind] for one, other in pairs])
        rows.append((f"{kind}, {unit}", ours, bare, ratios[kind]))
    table(f"Medians of {given.repeats} runs", ("", "pod to pod", "loopback", "ratio"), rows)
    ours, bare = (median([one["bulk"] / 2**20 for one in found[name]]) for name in ("pods", "loopback"))
    figure = Figure("service-throughput", ours, "MiB/s", bare, f"at least {LEAST} of the floor, bulk and questions")
    figure.met = None if given.small else min(ratios.values()) >= LEAST
    figure.more = {"questions_ratio": round(ratios["questions"], 3)}
    finish(figure, here)


if __name__ == "__main__":
    main()
