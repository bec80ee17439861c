"""A stall of the food court: answers visits, asks the next stall for help, and writes down what it does.

Standard library only. Settings come from the environment: NAME, NEXT (address of the next stall), PORT; LOG_FILE (where
it logs; - is standard output), LOG_FORMAT (text or json), LOG_LEVEL (info or error). A visit belongs to a trace, whose
id travels from stall to stall in the header traceparent (https://www.w3.org/TR/trace-context/).
"""

import http.server
import json
import os
import pathlib
import random
import re
import signal
import sys
import threading
import time
import traceback
import urllib.error
import urllib.request
from urllib.parse import parse_qs, urlsplit

NAME = os.environ.get("NAME", "stall")
NEXT = os.environ.get("NEXT", "")
POD = os.environ.get("HOSTNAME", "no-pod")
INSTANCE = f"{random.SystemRandom().getrandbits(48):012x}"
LOG_FILE = os.environ.get("LOG_FILE", "/tmp/stall.log")
JSON = os.environ.get("LOG_FORMAT", "text") == "json"
LEVELS = ("info", "error")
LEAST = LEVELS.index(os.environ.get("LOG_LEVEL", "info"))
LOG = sys.stdout if LOG_FILE == "-" else pathlib.Path(LOG_FILE).open("a")  # noqa: SIM115 (as long as the process lives)
WRITING = threading.Lock()
SICK = {"until": 0.0, "share": 1.0}
#: The menu: user -> dish. There is no user 0.
MENU = {user: ("soup", "rice", "noodles", "dumplings")[user % 4] for user in range(1, 1000)}


def say(level, message, error=None, **fields):
    """Write one event: a line of JSON, or text, where a stack trace follows in lines of its own."""
    if LEVELS.index(level) < LEAST:
        return
    trace = "".join(traceback.format_exception(error)).rstrip() if error else ""
    if JSON:
        moment = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)) + f".{int(moment % 1 * 1e6):06d}Z"
        line = {"time": stamp, "level": level, "service": NAME, "message": message, **fields}
        text = json.dumps({**line, **({"exception": trace} if trace else {})})
    else:
        text = " ".join([f"[{level.upper()}]", message, *(f"{key}={value}" for key, value in fields.items())])
        text += f"\n{trace}" if trace else ""
    with WRITING:
        LOG.write(text + "\n")
        LOG.flush()


def traced(header):
    """The ids of a new step: those of the trace in the header, or of a new one."""
    found = re.fullmatch(r"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}", header or "")
    chance = random.SystemRandom()
    return found[1] if found else f"{chance.getrandbits(128):032x}", f"{chance.getrandbits(64):016x}"


class Stall(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path = urlsplit(self.path)
        if path.path != "/visit":
            return self.answer(200 if path.path in ("/healthz", "/readyz") else 404, {"pod": POD})
        query = {key: values[-1] for key, values in parse_qs(path.query).items()}
        trace, span = traced(self.headers.get("traceparent"))
        began = time.monotonic()
        user, nonce = int(query.get("user", "1")), query.get("nonce", "")
        ids = {"trace_id": trace, "user": user, **({"nonce": nonce} if nonce else {})}
        say("info", f"user {user} is at the counter", **ids)
        try:
            status, body = self.serve(user, trace, span, query, ids)
        except Exception as error:
            status, body = 500, {"error": repr(error)}
            say("error", f"cannot serve user {user}", error, status=status, **ids)
        took = round(1000 * (time.monotonic() - began))
        level, word = ("error", "sent away") if status >= 500 else ("info", "served")
        say(level, f"user {user} is {word}", status=status, latency_ms=took, **ids)
        return self.answer(status, {**body, "trace_id": trace, "pod": POD, "instance": INSTANCE})

    def serve(self, user, trace, span, query, ids):
        """Status and body: of the next stall, or of this one, the last."""
        if time.time() < SICK["until"] and random.random() < SICK["share"]:
            raise RuntimeError("the kitchen is on fire")
        if not NEXT:
            return 200, {"dish": MENU[user]}
        more = f"&nonce={query['nonce']}" if "nonce" in query else ""
        what = urllib.request.Request(
            f"{NEXT}/visit?user={user}{more}", headers={"traceparent": f"00-{trace}-{span}-01"}
        )
        try:
            with urllib.request.urlopen(what, timeout=5) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as error:
            say("error", f"the next stall answered {error.code}", **ids)
            return 502, {"error": f"the next stall answered {error.code}"}

    def do_POST(self):
        path = urlsplit(self.path)
        query = {key: float(values[-1]) for key, values in parse_qs(path.query).items()}
        if path.path == "/trouble/fail":
            SICK.update(until=time.time() + query.get("seconds", 30), share=query.get("share", 1.0))
        elif path.path == "/trouble/crash":
            threading.Timer(0.1, os._exit, [1]).start()
        else:
            return self.answer(404, {"error": f"no switch {path.path}; there are fail and crash"})
        return self.answer(200, {"pod": POD})

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_arguments):
        """Only events are logged."""


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main():
    server = Server(("", int(os.environ.get("PORT", "8080"))), Stall)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    say("info", f"{NAME} opens", pod=POD)
    server.serve_forever()


if __name__ == "__main__":
    main()
