"""A room in which a learner's program runs as real processes: started, asked over HTTP, signalled, and listened to.

Standard library only, since it runs where the program runs. The checker talks with it; each function below is one thing
that it can ask for. Nothing of the learner's is executed in this process.
"""

import contextlib
import ctypes
import http.client
import http.server
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

HOST = "127.0.0.1"
#: Below the range from which the kernel takes ports for outgoing connections.
PORTS = range(20_000, 30_000)
#: Below the folder that this process was given, which goes with it.
FOLDER = tempfile.mkdtemp(prefix="room-", dir=os.getcwd())  # noqa: PTH109
PR_SET_DUMPABLE = 4
#: Characters of what a program writes that are told.
MOST = 200_000
PROCESSES: dict = {}
NEIGHBOURS: dict = {}
ASKED: dict = {}
LOADS: dict = {}
# The program is of the same user, and may not look into this process: into its memory, or the way of its answers.
ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
_PAUSE = threading.Event()


def wait(seconds):
    _PAUSE.wait(seconds)


def until(condition, seconds, interval=0.01):
    """The first truthy value of condition() within some seconds, else its last, of a look after them."""
    end = time.monotonic() + seconds
    while True:
        over = time.monotonic() >= end
        value = condition()
        if value or over:
            return value
        wait(interval)


# Processes


#: Ports that were told; whoever got one may not listen yet.
GIVEN: set = set()


def free_port():
    """A port of loopback that nobody listens on now, and another one each time."""
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            if port not in GIVEN:
                probe.bind((HOST, port))
                GIVEN.add(port)
                return port
    raise OSError("there is no free port")


def start(name, source, entry, environment):
    """Start the program: its cell, then a call of `entry`, told by these variables and no others."""
    path = os.path.join(FOLDER, name + ".py")  # noqa: PTH118
    with open(path, "w") as file:  # noqa: PTH123
        file.write(f"{source}\n\nif __name__ == '__main__':\n    {entry}()\n")
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
    prctl = ctypes.CDLL(None).prctl
    with open(path + ".out", "wb") as out, open(path + ".err", "wb") as err:  # noqa: PTH123
        PROCESSES[name] = subprocess.Popen(
            [sys.executable, "-u", path],
            env={**kept, "PYTHONDONTWRITEBYTECODE": "1", **environment},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            cwd=FOLDER,
            # It ends with this process, whatever it does about other signals.
            preexec_fn=lambda: prctl(1, signal.SIGKILL),
        )


def ended(name, seconds):
    """The exit status of a process that has ended within some seconds (a signal's number below 0), else None."""
    try:
        return PROCESSES[name].wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def tell(name):
    """Send SIGTERM; the moment at which that was done."""
    process = PROCESSES[name]
    if process.poll() is None:
        # To its first thread, in which Python runs handlers: the kernel may give a signal for the whole process to
        # another one, and then a first thread that waits without a limit is not woken.
        ctypes.CDLL(None).tgkill(process.pid, process.pid, signal.SIGTERM)
    return time.monotonic()


def end(name):
    """Kill a process and wait for its end."""
    PROCESSES[name].kill()
    PROCESSES[name].wait()


def written(name):
    """What a process has written so far: standard output and standard error."""
    found = []
    for kind in (".out", ".err"):
        with open(os.path.join(FOLDER, name + ".py" + kind), errors="replace") as file:  # noqa: PTH118, PTH123
            found.append(file.read(MOST))
    return found


# Requests


def ask(port, path, headers=None, seconds=10.0):
    """One request over a new connection: [status (0: no answer), text, error, began, ended, content type]."""
    began = time.monotonic()
    connection = http.client.HTTPConnection(HOST, port, timeout=seconds)
    status, text, error, kind = 0, "", "", ""
    try:
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        text = answer.read(MOST).decode("utf-8", "replace")
        status, kind = answer.status, answer.headers.get("Content-Type") or ""
    except (OSError, http.client.HTTPException) as trouble:
        error = type(trouble).__name__
    finally:
        connection.close()
    return [status, text, error, began, time.monotonic(), kind]


def ask_until(name, port, path, wanted, seconds):
    """Ask until the status is one of `wanted` (0: refused), the process has ended, or the time is over: the last."""
    last = [[0, "", "not asked", 0.0, 0.0, ""]]

    def asked():
        # The state first: a process that ends after its answer has answered.
        gone = PROCESSES[name].poll() is not None
        last[0] = ask(port, path, None, seconds)
        return last[0][0] in wanted or gone

    until(asked, seconds, 0.02)
    return last[0]


def begin(key, port, path, headers=None):
    """Ask in a thread; `result` tells the answer. The client waits for ever: the limits are the checks'."""
    ASKED[key] = [None]

    def run():
        ASKED[key][0] = ask(port, path, headers, None)

    threading.Thread(target=run, daemon=True).start()


def result(key, seconds):
    """The answer to a request that was begun, None while there is none."""
    return until(lambda: ASKED[key][0], seconds)


# What the program depends on


class Neighbour:
    """A service of ours. `mode`: answers, fails (503), holds (until it is let go), away (nobody listens)."""

    def __init__(self, text):
        self.text, self.mode, self.status = text, "answers", 200
        self.seen, self.waiting, self.go = [], 0, threading.Event()
        self.port, self.server = free_port(), None
        self.lock = threading.Lock()
        self.open()

    def open(self):
        neighbour = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                neighbour.answer(self)

            def log_message(self, *_arguments):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads, request_queue_size, allow_reuse_address = True, 128, True

        self.server = Server((HOST, self.port), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.server = None

    def answer(self, handler):
        row = [handler.path, handler.headers.get("traceparent") or "", time.monotonic(), 0.0]
        with self.lock:
            mode, go = self.mode, self.go
            self.seen.append(row)
            self.waiting += mode == "holds"
        if mode == "holds":
            go.wait()
            with self.lock:
                self.waiting -= 1
        row[3] = time.monotonic()
        data = self.text.encode()
        with contextlib.suppress(OSError):
            handler.send_response(503 if mode == "fails" else self.status)
            handler.send_header("Content-Length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(data)


def neighbour(name, text):
    """A neighbour that answers with a text: its port."""
    NEIGHBOURS[name] = Neighbour(text)
    return NEIGHBOURS[name].port


def behave(name, mode, status=200):
    """Change what a neighbour does; whoever is held is let go first."""
    one = NEIGHBOURS[name]
    with one.lock:
        one.go.set()
        one.go = threading.Event()
        one.mode, one.status = mode, status
    if mode == "away" and one.server:
        one.close()
    elif mode != "away" and not one.server:
        one.open()


def held(name, count, seconds):
    """Whether a neighbour holds so many requests within some seconds."""
    return until(lambda: NEIGHBOURS[name].waiting >= count, seconds)


def seen(name):
    """The requests that a neighbour has seen: [path, traceparent, came, was answered]."""
    return list(NEIGHBOURS[name].seen)


# A model that takes as long to read as we want


def pipe(name):
    """A file that can be read to its end only when it has been fed: its path."""
    path = os.path.join(FOLDER, name)  # noqa: PTH118
    os.mkfifo(path)
    return path


def feed(path, text, seconds):
    """Give whoever reads the file its contents; False if nobody has opened it within some seconds."""

    def opened():
        try:
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return None

    descriptor = until(opened, seconds)
    if descriptor is None:
        return False
    os.write(descriptor, text.encode())
    os.close(descriptor)
    return True


# Load, through something that looks at readiness as a cluster does


class Load:
    """Clients that ask as fast as they can, until a balancer has noticed that the program is not ready."""

    def __init__(self, port, path, clients, lag):
        self.port, self.path, self.lag = port, path, lag
        self.off, self.rows = threading.Event(), []
        self.threads = [threading.Thread(target=self.client, daemon=True) for _ in range(clients)]
        self.threads.append(threading.Thread(target=self.look, daemon=True))
        for thread in self.threads:
            thread.start()

    def client(self):
        while not self.off.is_set():
            status, _, error, began, ended, _ = ask(self.port, self.path, None, 60)
            self.rows.append([status, error, began, ended])

    def look(self):
        while ask(self.port, "/readyz", None, 60)[0] == 200:
            wait(0.02)
        # The news takes a while until it is everywhere.
        wait(self.lag)
        self.off.set()


def load(key, port, path, clients, lag):
    """Begin to load a port."""
    LOADS[key] = Load(port, path, clients, lag)


def loaded(key, count, seconds):
    """Whether so many requests have been answered, or have failed, within some seconds."""
    return until(lambda: len(LOADS[key].rows) >= count, seconds)


def unloaded(key, seconds):
    """The requests of a load, [status, error, began, ended], when all clients have stopped; None if they have not."""
    one = LOADS[key]
    if not until(lambda: not any(thread.is_alive() for thread in one.threads), seconds):
        one.off.set()
        return None
    return one.rows
