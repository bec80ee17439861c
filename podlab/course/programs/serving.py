"""Model serving: answers "what should user 123 watch?" over HTTP, with switches for trouble.

Standard library only, so that any image with Python runs it. Settings come from the environment:
START_SECONDS (how long the model takes to load before the port opens), PORT, and KEEP_ALIVE (if it is set, a client
may send many requests over one connection).
"""

import http.server
import json
import os
import random
import signal
import sys
import threading
import time
from urllib.parse import parse_qs, urlsplit

MOVIES = ("Nine Lanterns", "The Salt Road", "Paper Tigers", "A Slow Comet", "Harbour 12", "The Understudy")
POD = os.environ.get("HOSTNAME", "no-pod")
#: A new one per process: two answers with different ones come from two processes, whatever the pod is called.
INSTANCE = f"{random.SystemRandom().getrandbits(48):012x}"
STARTED = time.time()
STOP = threading.Event()
#: Whoever answers a request for recommendations or for health needs this lock; a wedge never gives it back.
MODEL = threading.Lock()
TROUBLE: dict = {"unready_until": 0.0, "slow_until": 0.0, "delay": 0.0, "wedged": False}
TROUBLE.update(stall_next=0.0, stall_page="", stalls=0)
SERVED = {"recommend": 0, "healthz": 0, "readyz": 0}
#: For Prometheus (/metrics): requests by page and code, and how many took at most so many seconds, by page.
COUNTING = threading.Lock()
REQUESTS: dict = {}
SECONDS: dict = {}
BUCKETS: dict = {}
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, float("inf"))


def say(event, **facts):
    print(json.dumps({"time": round(time.time(), 3), "event": event, "pod": POD, **facts}), flush=True)


def wedge(_arguments):
    """Hold the lock for ever: the process lives, the port is open, and no answer comes."""
    MODEL.acquire()
    TROUBLE["wedged"] = True
    return {"wedged": True}


def stall(arguments):
    """Pause for some seconds, once, as for a garbage collection: at once, or (when=asked) at the next request.

    page=healthz: at the next request for that page.
    """
    seconds = float(arguments.get("seconds", 3))
    if arguments.get("when") == "asked":
        TROUBLE.update(stall_next=seconds, stall_page=arguments.get("page", ""))
    else:
        hold(seconds)
    return {"stall": seconds}


def hold(seconds):
    MODEL.acquire()
    TROUBLE["stalls"] += 1
    threading.Timer(seconds, MODEL.release).start()


def unready(arguments):
    """For some seconds say that there is no model to serve (status 503), as during a reload of the model."""
    TROUBLE["unready_until"] = time.time() + float(arguments.get("seconds", 20))
    return {"unready_until": TROUBLE["unready_until"]}


def slow(arguments):
    """For some seconds answer every request late by `delay` seconds: slow, and still right."""
    TROUBLE["delay"] = float(arguments.get("delay", 1.5))
    TROUBLE["slow_until"] = time.time() + float(arguments.get("seconds", 30))
    return {"delay": TROUBLE["delay"]}


def crash(arguments):
    """End the process at once with a status."""
    threading.Timer(0.1, os._exit, [int(arguments.get("status", 1))]).start()
    return {"crashing": True}


SWITCHES = {"wedge": wedge, "stall": stall, "unready": unready, "slow": slow, "crash": crash}


class Serving(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1" if os.environ.get("KEEP_ALIVE") else "HTTP/1.0"

    def do_GET(self):
        self.began = time.monotonic()
        path = urlsplit(self.path)
        self.page = part = path.path.strip("/").split("/")[0]
        if part == "metrics":
            return self.send(200, "text/plain; version=0.0.4", metrics())
        if part == "trouble":
            return self.answer(200, {**TROUBLE, **who(), "served": SERVED})
        if part not in SERVED:
            return self.answer(404, {"error": f"no page {path.path}; there are /recommend/USER, /healthz, /readyz"})
        if time.time() < TROUBLE["slow_until"]:
            # An event of its own: whoever is told to stop meanwhile answers no sooner for it.
            threading.Event().wait(TROUBLE["delay"])
        if TROUBLE["stall_next"] and TROUBLE["stall_page"] in ("", part):
            seconds, TROUBLE["stall_next"] = TROUBLE["stall_next"], 0.0
            hold(seconds)
        with MODEL:
            SERVED[part] += 1
            no_model = part != "healthz" and time.time() < TROUBLE["unready_until"]
        if no_model:
            return self.answer(503, {"error": "the model is being reloaded", **who()})
        if part == "recommend":
            user = path.path.rstrip("/").rsplit("/", 1)[-1]
            choice = random.Random(user).sample(MOVIES, 3)
            asked = {"user": user, "client": self.client_address[0], "nonce": nonce(path.query)}
            return self.answer(200, {**asked, "movies": choice, **who()})
        return self.answer(200, {"ok": True, **who()})

    def do_POST(self):
        path = urlsplit(self.path)
        name = path.path.strip("/").rsplit("/", 1)[-1]
        if not path.path.startswith("/trouble/") or name not in SWITCHES:
            return self.answer(404, {"error": f"no switch {path.path}; there are {', '.join(SWITCHES)}"})
        arguments = {key: values[-1] for key, values in parse_qs(path.query).items()}
        result = SWITCHES[name](arguments)
        say("trouble", switch=name, **arguments)
        return self.answer(200, {**result, **who()})

    def answer(self, status, body):
        if self.command == "GET" and self.page != "trouble":
            # A page that does not exist gets no series of its own: anybody could ask for a million of them.
            count(f"/{self.page}" if self.page in SERVED else "other", status, time.monotonic() - self.began)
        self.send(status, "application/json", json.dumps(body))

    def send(self, status, kind, text):
        data = text.encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except (BrokenPipeError, ConnectionResetError):
            say("client gone", path=self.path)

    def log_message(self, *_arguments):
        """Only events are logged; a line per probe would drown them."""


def count(page, status, seconds):
    with COUNTING:
        REQUESTS[page, status] = REQUESTS.get((page, status), 0) + 1
        SECONDS[page] = SECONDS.get(page, 0.0) + seconds
        row = BUCKETS.setdefault(page, [0] * len(BOUNDS))
        for number, bound in enumerate(BOUNDS):
            row[number] += seconds <= bound


def metrics():
    """What has been counted, in Prometheus' text format."""
    with COUNTING:
        lines = ["# TYPE http_requests_total counter"]
        for (page, status), number in REQUESTS.items():
            lines.append(f'http_requests_total{{path="{page}",code="{status}"}} {number}')
        lines.append("# TYPE http_request_duration_seconds histogram")
        for page, row in BUCKETS.items():
            for bound, number in zip(BOUNDS, row, strict=True):
                edge = "+Inf" if bound == BOUNDS[-1] else f"{bound:g}"
                lines.append(f'http_request_duration_seconds_bucket{{path="{page}",le="{edge}"}} {number}')
            lines.append(f'http_request_duration_seconds_count{{path="{page}"}} {row[-1]}')
            lines.append(f'http_request_duration_seconds_sum{{path="{page}"}} {SECONDS[page]:.6f}')
    return "\n".join(lines) + "\n"


def who():
    return {"pod": POD, "instance": INSTANCE, "up_seconds": round(time.time() - STARTED, 1)}


def nonce(query):
    return parse_qs(query).get("nonce", [""])[-1]


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


def main():
    signal.signal(signal.SIGTERM, lambda *_: STOP.set())
    seconds = float(os.environ.get("START_SECONDS", "0"))
    say("loading the model", seconds=seconds, instance=INSTANCE)
    if STOP.wait(seconds):
        say("told to stop while loading")
        return 0
    server = Server(("", int(os.environ.get("PORT", "8080"))), Serving)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    say("serving", port=server.server_address[1])
    # In steps: the kernel may give the signal to another thread, which does not wake this one, and handlers run here.
    while not STOP.wait(0.2):
        pass
    say("told to stop")
    return 0


if __name__ == "__main__":
    # A wedged thread must not keep a process alive that was told to stop.
    status = main()
    sys.stdout.flush()
    os._exit(status)
