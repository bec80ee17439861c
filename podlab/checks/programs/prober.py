"""A client inside the cluster: asks a Service at a steady rate and remembers every answer.

Standard library only; runs in a pod. Each request opens a new connection, since a Service chooses an endpoint per
connection, and the requests of a second do not wait for those of the second before (an open loop), so a hanging
server is seen as failed requests and not as silence.

Settings: TARGET (URL without query), RATE (requests per second), PATIENCE (seconds until a request has failed).
Pages: GET /records?since=N -> {"next": M, "now": T, "records": [...]} in the order of the answers, GET /healthz.
"""

import collections
import http.server
import itertools
import json
import os
import signal
import threading
import time
import urllib.error
import urllib.request
from urllib.parse import parse_qs, urlsplit

TARGET = os.environ["TARGET"]
RATE = float(os.environ.get("RATE", "10"))
PATIENCE = float(os.environ.get("PATIENCE", "2"))
STOP = threading.Event()
RECORDS: collections.deque = collections.deque(maxlen=20000)
#: More requests under way than this are not started but counted as failed: memory stays bounded.
UNDER_WAY = threading.BoundedSemaphore(200)
WRITING = threading.Lock()
NUMBERS = itertools.count()
SEQUENCE = itertools.count()


def remember(record):
    with WRITING:
        RECORDS.append({"seq": next(SEQUENCE), **record})


def ask(number, sent):
    record = {"n": number, "sent": sent, "status": 0, "pod": "", "instance": "", "error": "", "nonce": ""}
    nonce = f"{number}-{sent:.6f}"
    try:
        with urllib.request.urlopen(f"{TARGET}?nonce={nonce}", timeout=PATIENCE) as response:
            body = json.load(response)
            record["status"] = response.status
    except urllib.error.HTTPError as error:
        record["status"] = error.code
        try:
            body = json.load(error)
        except ValueError:
            body = {}
    except (OSError, ValueError) as error:
        body = {}
        record["error"] = str(getattr(error, "reason", error))[:120]
    finally:
        UNDER_WAY.release()
    record["pod"], record["instance"] = body.get("pod", ""), body.get("instance", "")
    # Only an answer to this very request counts.
    record["nonce"] = "own" if body.get("nonce") == nonce else ""
    record["took"] = round(time.time() - sent, 4)
    remember(record)


def drive():
    due = time.monotonic()
    while not STOP.wait(max(0.0, due - time.monotonic())):
        due = max(due + 1 / RATE, time.monotonic() - 1.0)
        number, sent = next(NUMBERS), time.time()
        if UNDER_WAY.acquire(blocking=False):
            threading.Thread(target=ask, args=(number, sent), daemon=True).start()
        else:
            full = "too many requests under way"
            remember(
                {
                    "n": number,
                    "sent": sent,
                    "status": 0,
                    "pod": "",
                    "instance": "",
                    "error": full,
                    "nonce": "",
                    "took": 0.0,
                }
            )


class Pages(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path = urlsplit(self.path)
        body = {"ok": True}
        if path.path == "/records":
            since = int(parse_qs(path.query).get("since", ["0"])[-1])
            with WRITING:
                taken = [record for record in RECORDS if record["seq"] >= since]
                total = RECORDS[-1]["seq"] + 1 if RECORDS else 0
            body = {"next": total, "now": time.time(), "records": taken}
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_arguments):
        pass


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: STOP.set())
    server = http.server.ThreadingHTTPServer(("", int(os.environ.get("PORT", "8099"))), Pages)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"asking {TARGET} {RATE:g} times a second", flush=True)
    drive()
    os._exit(0)
