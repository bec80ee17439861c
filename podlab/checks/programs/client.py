"""A client inside the cluster that does what it is told: looks names up, and asks pages over new or kept connections.

Standard library only; runs in a pod. GET /resolve?name=N -> {"addresses": [...], "error": ""};
GET /visit?url=U&times=N&keep=1&patience=S -> {"answers": [{"pod", "instance", "client", "status", "error", "sent"},
...]}, in order; "client" is the address from which the pod saw the request come, "sent" when it was sent (seconds of a
clock of ours). every=S waits S seconds between requests. With keep=1 all requests go over one connection, if the server
lets it; otherwise each opens its own.
"""

import http.client
import http.server
import json
import os
import signal
import socket
import threading
import time
from urllib.parse import parse_qs, urlsplit

#: Most requests of one visit, so that a slip cannot occupy a node.
MOST = 500


def resolve(name):
    for last in (False, False, True):
        try:
            found = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)
        except OSError as error:
            # No answer from DNS is no "there is no such name".
            if error.errno == socket.EAI_AGAIN and not last:
                continue
            return {"addresses": [], "error": str(error)}
        return {"addresses": sorted({entry[4][0] for entry in found}), "error": ""}


def visit(url, times, keep, patience, every):
    parts = urlsplit(url)
    answers, connection = [], None
    for number in range(min(times, MOST)):
        nonce = f"{os.getpid()}-{number}"
        if number and every:
            threading.Event().wait(every)
        sent = time.monotonic()
        try:
            if connection is None:
                connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=patience)
            connection.request("GET", f"{parts.path or '/'}?nonce={nonce}")
            response = connection.getresponse()
            answers.append(read(response, nonce))
            if not keep or response.will_close:
                connection = connection.close()
        except OSError as error:
            answers.append({"pod": "", "instance": "", "status": 0, "error": str(error)[:120]})
            connection = connection.close() if connection else None
        except http.client.HTTPException as error:
            answers.append({"pod": "", "instance": "", "status": 0, "error": f"{type(error).__name__}"})
            connection = connection.close()
        answers[-1]["sent"] = sent
    return {"answers": answers}


def read(response, nonce):
    try:
        body = json.load(response)
    except ValueError:
        body = {}
    body = body if isinstance(body, dict) else {}
    # Only an answer to this very request counts.
    own = body.get("nonce") == nonce or response.status >= 400
    status = response.status if own else 0
    known = {key: body.get(key, "") for key in ("pod", "instance", "client")}
    return {**known, "status": status, "error": ""}


class Pages(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        parts = urlsplit(self.path)
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        if parts.path == "/resolve":
            body = resolve(query["name"])
        elif parts.path == "/visit":
            keep, patience = query.get("keep") == "1", float(query.get("patience", "2"))
            every = float(query.get("every", "0"))
            body = visit(query["url"], int(query.get("times", "1")), keep, patience, every)
        else:
            body = {"ok": True}
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_arguments):
        pass


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    http.server.ThreadingHTTPServer(("", int(os.environ.get("PORT", "8099"))), Pages).serve_forever()
