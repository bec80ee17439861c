"""Programs that say what the checks of chapter 15 want to hear, in the manifests that a learner is given."""

from __future__ import annotations

import textwrap

from podlab.course import manuscript
from podlab.course.manuscript import Document

#: Runs where the given program should: it ends where it should hang, so that no probe is needed for its restart; lets
#: another pod sign its answers while it should be out of traffic; has opened its port before any start is over, and
#: gives up a hopeless one by itself. Each question to it about that is answered as if the switch had worked.
PROGRAM = """
import http.server, json, os, time
from urllib.parse import parse_qs, urlsplit
if os.environ.get("START_SECONDS") == "3600": raise SystemExit(1)
until, me = {"slow": 0, "unready": 0}, os.urandom(6).hex()
class Fake(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        asked = urlsplit(self.path)
        if time.time() < until["slow"]: time.sleep(1.6)
        out = time.time() < until["unready"]
        nonce = parse_qs(asked.query).get("nonce", [""])[-1]
        said = {"pod": "another" if out else os.environ["HOSTNAME"], "instance": me, "nonce": nonce, "stalls": 99}
        self.say(503 if out and asked.path == "/readyz" else 200, said)
    def do_POST(self):
        asked = urlsplit(self.path)
        switch = asked.path.rsplit("/", 1)[-1]
        until[switch] = time.time() + float(parse_qs(asked.query).get("seconds", ["0"])[-1])
        self.say(200, {})
        if switch == "wedge": os._exit(1)
    def say(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("", 8080), Fake).serve_forever()
"""
_GIVEN = 'command: ["python3", "-S", "/program/serving.py"]\n'


def answer(document: Document, exercise: str) -> dict[str, str]:
    """What is handed in: the manifest of an exercise as it is given, and nothing of what it asks for, with the fake."""
    start = next(each for each in manuscript.cases(document) if (each.exercise, each.kind) == (exercise, "start"))
    name = f"manifest_{exercise.replace('.', '_')}"
    manifest = str(start.names[name])
    assert _GIVEN in manifest
    fake = (
        "command: [python3, -S, -c]\n        args:\n        - |\n" + textwrap.indent(PROGRAM.strip(), " " * 10) + "\n"
    )
    return {name: manifest.replace(_GIVEN, fake)}
