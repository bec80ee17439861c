"""A cinema of trailers: a viewer watches for some seconds, which costs waiting and hardly any processor.

Standard library only. Settings come from the environment: SECONDS (of a trailer), SEATS (how many watch it smoothly at
the same time; whoever comes to more is shown it all the same, and told 503 at the end), PORT.
"""

import http.server
import json
import os
import random
import signal
import threading
from urllib.parse import parse_qs, urlsplit

POD = os.environ.get("HOSTNAME", "no-pod")
INSTANCE = f"{random.SystemRandom().getrandbits(48):012x}"
SECONDS = float(os.environ.get("SECONDS", "3"))
SEATS = int(os.environ.get("SEATS", "12"))
STOP = threading.Event()
COUNTING = threading.Lock()
VIEWERS = {"now": 0}
REQUESTS: dict = {}


class Cinema(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path = urlsplit(self.path)
        if path.path == "/metrics":
            return self.send(200, "text/plain; version=0.0.4", metrics())
        who = {"pod": POD, "instance": INSTANCE, "nonce": parse_qs(path.query).get("nonce", [""])[-1]}
        if path.path != "/watch":
            return self.send(200 if path.path in ("/healthz", "/readyz") else 404, "application/json", json.dumps(who))
        with COUNTING:
            VIEWERS["now"] += 1
            crowd = VIEWERS["now"]
        # An event of its own: a trailer is shown to its end, also to those who watch when the pod is told to stop.
        threading.Event().wait(SECONDS)
        status = 503 if crowd > SEATS else 200
        with COUNTING:
            VIEWERS["now"] -= 1
            REQUESTS[status] = REQUESTS.get(status, 0) + 1
        return self.send(status, "application/json", json.dumps({**who, "viewers": crowd}))

    def send(self, status, kind, text):
        try:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(text.encode())
        except (BrokenPipeError, ConnectionResetError):
            pass  # the viewer has left

    def log_message(self, *_arguments):
        """A line for each probe and each scrape would drown the rest."""


def metrics():
    """What has been counted, in Prometheus' text format."""
    with COUNTING:
        lines = ["# TYPE http_requests_in_progress gauge", f"http_requests_in_progress {VIEWERS['now']}"]
        lines += ["# TYPE queue_length gauge", f"queue_length {max(0, VIEWERS['now'] - SEATS)}"]
        lines.append("# TYPE http_requests_total counter")
        lines += [f'http_requests_total{{path="/watch",code="{code}"}} {n}' for code, n in REQUESTS.items()]
    return "\n".join(lines) + "\n"


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main():
    server = Server(("", int(os.environ.get("PORT", "8080"))), Cinema)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: STOP.set())
    while not STOP.wait(0.2):
        pass
    # Nobody is sent any more after a moment; those who are here may watch to the end.
    rest = threading.Event()
    rest.wait(1)
    while VIEWERS["now"]:
        rest.wait(0.1)


if __name__ == "__main__":
    main()
