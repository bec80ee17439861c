"""The lifecycle strip: states out of probes, what the picture says, and real processes that are watched and asked."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from podlab.waiting import until
from podlab.widgets.lifecycle import Life, Lifecycle, Request, state_of, state_of_pod
from podlab.widgets.lifecycle_feed import PodStrip, Strip

#: A service that is ready, says 503 for a while after SIGTERM, and ends; "/held" is answered only then.
PROGRAM = """
import json, signal, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
told = threading.Event()
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        status = 503 if self.path == "/broken" or (self.path == "/readyz" and told.is_set()) else 200
        text = json.dumps({"reasons": ["draining"] if told.is_set() else []}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def log_message(self, *_):
        pass
signal.signal(signal.SIGTERM, lambda *_: told.set())
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_address[1], flush=True)
while not told.wait(0.05):
    pass
sys.stdin.readline()
"""


@pytest.mark.parametrize(
    ("started", "ready", "reasons", "seen", "told", "state"),
    [
        (0, 0, [], False, False, "absent"),
        (503, 503, ["starting"], False, False, "starting"),
        (200, 200, [], False, False, "ready"),
        (200, 503, ["no model"], True, False, "unready"),
        (200, 503, ["draining"], True, False, "draining"),
        (200, 503, [], True, True, "draining"),
        (200, 0, [], True, True, "draining"),
        (0, 0, [], True, True, "gone"),
    ],
)
def test_probes_show_a_state(started, ready, reasons, seen, told, state):
    assert state_of(started, ready, reasons, seen=seen, told=told) == state


def pod(name="a", ready="False", started=False, phase="Running", **meta):
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", "labels": {"app": "web"}, **meta},
        "status": {
            "phase": phase,
            "conditions": [{"type": "Ready", "status": ready}],
            "containerStatuses": [{"started": started}],
        },
    }


def test_a_pod_shows_the_same_states_by_its_status():
    assert state_of_pod({"metadata": {}, "status": {"phase": "Pending"}}) == "starting"
    assert state_of_pod(pod()) == "starting"
    assert state_of_pod(pod(started=True)) == "unready"
    assert state_of_pod(pod(ready="True", started=True)) == "ready"
    assert state_of_pod(pod(ready="True", started=True, deletionTimestamp="2026-01-01T00:00:00Z")) == "draining"
    assert state_of_pod(pod(phase="Succeeded")) == "gone"


def life():
    found = Life()
    for at, state in (
        (0.0, "starting"),
        (1.0, "ready"),
        (2.0, "ready"),
        (3.0, "draining"),
        (4.0, "gone"),
        (5.0, "gone"),
    ):
        found.look("one", at, state)
    found.mark("one", 3.0, "SIGTERM")
    found.requests += [Request(1.5, "one"), Request(3.5, "one", "status 503"), Request(3.6, "one")]
    return found


def test_the_record_keeps_changes_only_and_knows_the_state_of_every_moment():
    found = life()
    assert [state for _, state in found.states["one"]] == ["starting", "ready", "draining", "gone"]
    assert [found.state("one", at) for at in (-1, 0, 1, 2.9, 3, 9)] == [
        "absent", "starting", "ready", "ready", "draining", "gone",
    ]  # fmt: skip
    assert found.counts("one", 3.5) == (2, 1)
    assert not found.look("one", 2.0, "ready"), "a look that comes late changes nothing"


def test_picture_words_and_table_say_the_same():
    view = Lifecycle(life())
    assert "one gone; 3 requests, 1 failed (status 503)" in view.to_text()
    assert ["one", "3.00", "4.00", "draining", "2", "1"] in view.table()[1]
    assert "✗</text>" in view.to_svg() and "SIGTERM" in view.to_svg()
    view.seek(1)
    assert "one ready; 0 requests" in view.summary() and "✗</text>" not in view.to_svg()


def test_an_empty_strip_can_be_shown():
    view = Lifecycle(Life())
    assert "nobody; 0 requests" in view.to_text() and view.to_svg().startswith("<svg")


def test_a_view_at_the_end_follows_and_one_that_was_moved_stays():
    found = life()
    view = Lifecycle(found)
    found.look("two", 6.0, "starting")
    view.grow()
    assert view.position == view.length and "two starting" in view.summary()
    view.seek(1)
    found.look("two", 7.0, "ready")
    view.grow()
    assert view.position == 1 and view.length > 1


@pytest.fixture
def service(request):
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def end():
        process.kill()
        process.communicate()

    request.addfinalizer(end)
    return process, f"http://127.0.0.1:{process.stdout.readline().strip()}"


def test_a_real_process_is_seen_ready_draining_and_gone_and_gets_requests_only_while_ready(service):
    process, url = service
    strip = Strip({"one": url})
    try:
        until(lambda: strip.state("one") == "ready", "ready", timeout=60)
        strip.load("/work", clients=2)
        until(lambda: len(strip.life.requests) > 10, "requests", timeout=60)
        strip.mark("one", "SIGTERM")
        process.terminate()
        until(lambda: strip.state("one") == "draining", "draining", timeout=60)
        sent, failed = strip.unload()
        assert sent > 10 and failed == 0
        process.stdin.write("\n")
        process.stdin.flush()
        until(lambda: strip.state("one") == "gone", "gone", timeout=60)
    finally:
        strip.stop()
    assert [state for _, state in strip.life.states["one"]] == ["ready", "draining", "gone"]
    assert strip.view.mode == "recorded" and "one gone" in strip.view.to_text()
    names = {thread.name for thread in threading.enumerate() if "_client" in thread.name}
    assert not names, "the clients have ended"


def test_another_load_ends_the_one_before(service):
    _, url = service
    strip = Strip({"one": url})
    try:
        until(lambda: strip.state("one") == "ready", "ready", timeout=60)
        strip.load("/first", clients=2)
        first = list(strip._loading)
        strip.load("/second", clients=1)
        assert not any(thread.is_alive() for thread in first)
    finally:
        strip.stop()


def test_a_request_that_fails_is_counted_with_its_reason(service):
    _, url = service
    strip = Strip({"one": url})
    try:
        until(lambda: strip.state("one") == "ready", "ready", timeout=60)
        strip.load("/broken", clients=1)
        until(lambda: strip.life.requests, "a request", timeout=60)
        sent, failed = strip.unload()
    finally:
        strip.stop()
    assert sent == failed > 0 and strip.life.requests[0].trouble == "status 503"


class Silent:
    """An API that knows no pod."""

    def resource(self, _kind):
        raise LookupError


def test_pods_are_rows_by_what_the_api_tells_of_them():
    strip = PodStrip(Silent(), "space", "web")
    strip.feeder.stop()
    zero = strip._zero
    strip.apply("pod", "ADDED", pod("a"), zero + 1)
    strip.apply("pod", "MODIFIED", pod("a", ready="True", started=True), zero + 2)
    strip.apply("pod", "ADDED", {**pod("b"), "metadata": {"name": "b", "uid": "u", "labels": {"app": "x"}}}, zero + 2)
    strip.replace("pod", [], zero + 3)
    strip.stop()
    assert {row: [state for _, state in known] for row, known in strip.life.states.items()} == {
        "a": ["starting", "ready", "gone"]
    }
