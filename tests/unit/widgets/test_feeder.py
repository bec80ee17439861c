"""The feeder against a real HTTP server that speaks LIST and WATCH as the API server does, and misbehaves on demand."""

from __future__ import annotations

import http.server
import json
import threading
import time

import pytest

from podlab.checks.api import Api
from podlab.lab import Lab
from podlab.lab.connection import Connection
from podlab.waiting import until
from podlab.widgets import news, views
from podlab.widgets.feeder import MOST_UPDATES, Feeder
from podlab.widgets.model import Record
from podlab.widgets.views import Watch


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pods: dict[str, dict] = {}
        self.version = 1
        self.lists = 0
        self.away = False
        #: How many signs of life it refuses.
        self.dumb = 0
        self.expire = threading.Event()
        self.changed = threading.Condition()
        self.log: list[dict] = []

    def put(self, uid: str, ready: bool = True) -> None:
        with self.changed:
            self.version += 1
            what = "MODIFIED" if uid in self.pods else "ADDED"
            self.pods[uid] = {
                "metadata": {"uid": uid, "name": f"pod-{uid}", "resourceVersion": str(self.version)},
                "spec": {"nodeName": "node-1"},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": str(ready)}]},
            }
            self.log.append({"type": what, "object": self.pods[uid], "at": self.version})
            self.changed.notify_all()


KINDS = {
    "/api/v1": [("pods", "Pod", True), ("nodes", "Node", False)],
    "/apis/apps/v1": [("deployments", "Deployment", True), ("replicasets", "ReplicaSet", True)],
    "/apis/discovery.k8s.io/v1": [("endpointslices", "EndpointSlice", True)],
}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        if server.away:
            self.close_connection = True
            return
        if kinds := KINDS.get(self.path):
            return self.say(
                {"resources": [{"name": n, "kind": k, "namespaced": s, "singularName": ""} for n, k, s in kinds]}
            )
        if self.path == "/version" and server.dumb:
            server.dumb -= 1
            return self.send_error(503)
        if "watch=true" not in self.path:
            if "/pods" in self.path:
                server.lists += 1
            with server.changed:
                items = list(server.pods.values()) if "/pods" in self.path else []
                answer = {"items": items, "metadata": {"resourceVersion": str(server.version)}}
            return self.say(answer)
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.close_connection = True
        seen = int(self.path.split("resourceVersion=")[1].split("&")[0])
        while not server.away:
            with server.changed:
                for entry in server.log:
                    if "/pods" in self.path and entry["at"] > seen:
                        seen = entry["at"]
                        self.write({"type": entry["type"], "object": entry["object"]})
                server.changed.wait(0.05)
            if "/pods" in self.path and server.expire.is_set():
                server.expire.clear()
                self.write({"type": "ERROR", "object": {"kind": "Status", "code": 410, "metadata": {}}})
                break
        self.wfile.write(b"0\r\n\r\n")

    def write(self, event):
        data = json.dumps(event).encode() + b"\n"
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def say(self, body):
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def server():
    found = Server()
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield found
    found.away = True
    found.shutdown()
    found.server_close()


@pytest.fixture
def config(server, tmp_path):
    config = tmp_path / "kubeconfig"
    config.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
        f"clusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:{server.server_address[1]}'}}}}]\n"
        "users: [{name: u, user: {}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n"
    )
    return config


@pytest.fixture
def watch(config):
    found = Watch(Api.connect(config), "default")
    yield found
    found.stop()


@pytest.fixture
def lab(config, tmp_path, monkeypatch):
    monkeypatch.setenv("PODLAB_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PODLAB_NAMESPACE", "default")
    found = Lab("14")
    found.open(Connection("default", Api.connect(config), None, "v1"))
    yield found
    found.close()


def states(view):
    return {pod["uid"]: pod["state"] for pod in view.view["pods"]}


def test_what_is_there_and_what_changes_is_shown(server, watch):
    server.put("a")
    view = watch.map("Map")
    until(lambda: states(view) == {"a": "running"}, "the pod", timeout=60)
    server.put("a", ready=False)
    server.put("b")
    until(lambda: states(view) == {"a": "notready", "b": "running"}, "the changes", timeout=60)
    assert view.view["mode"] == "live" and not view.view["error"]


def test_an_expired_watch_lists_again_and_loses_nothing(server, watch):
    server.put("a")
    view = watch.map("Map")
    until(lambda: states(view) == {"a": "running"}, "the pod", timeout=60)
    before = server.lists
    with server.changed:
        del server.pods["a"]
        server.version += 1
    server.expire.set()
    until(lambda: server.lists > before and states(view) == {}, "a new list", timeout=60)


def test_when_the_server_goes_away_the_view_says_so_without_haste_and_comes_back(server, watch):
    server.put("a")
    view = watch.map("Map")
    until(lambda: states(view) == {"a": "running"}, "the pod", timeout=60)
    server.away = True
    until(lambda: view.view["error"], "the error in the view", timeout=60)
    assert states(view) == {"a": "running"}, "what was seen last stays"
    server.away = False
    server.put("b")
    until(lambda: "b" in states(view) and not view.view["error"], "the news", timeout=60)


def test_a_staircase_that_was_turned_back_says_so_and_can_go_on(server, watch):
    server.put("a")
    view = watch.staircase("Restarts")
    until(lambda: len(view.view["stairs"]) == 1, "the pod", timeout=60)
    view.seek(0)
    server.put("b")
    until(lambda: watch.map("Map").view["pods"][1:], "another pod", timeout=60)
    assert view.view["stairs"] == [] and view.view["mode"] == "paused" and "(paused)" in view.to_text()
    view.live()
    assert len(view.view["stairs"]) == 2 and view.view["mode"] == "live"


def test_what_is_paused_while_the_feeder_draws_it_is_paused(monkeypatch):
    view = views.ClusterMap(Record(), "Paused", Feeder(None, None, Record(), lambda: None))
    press, written = threading.Thread(target=view.pause), news.written

    def pressed_just_now(mode, source):
        if mode == "live":
            press.start()
            press.join(0.2)  # it is done, or waits for its turn
        return written(mode, source)

    monkeypatch.setattr(news, "written", pressed_just_now)
    view.grow()
    press.join()
    assert view.view["mode"] == "paused"


@pytest.mark.parametrize("kind", ["map", "staircase"])
def test_a_picture_that_is_paused_does_not_move_and_its_end_is_what_is_now(server, watch, kind):
    server.put("a")
    view = getattr(watch, kind)("Paused")
    until(lambda: "1 running" in watch.map("Map").view["summary"], "the pod", timeout=60)
    view._on_message(view, {"type": "pause"}, [])
    held = view.view
    server.put("b")
    until(lambda: watch.map("Map").view["pods"][1:], "another pod", timeout=60)
    assert view.view is held and held["mode"] == "paused" and held["position"] == held["length"]
    view.step(1)
    assert view.view["mode"] == "live" and view.view["position"] == view.length > held["length"]
    view.step(-1)
    assert view.view["mode"] == "paused" and view.view["moment"] == f"change {view.length - 1} of {view.length}"


def test_a_burst_is_coalesced(server, watch):
    view = watch.map("Map")
    counted = []
    view.observe(lambda change: counted.append(1), "view")
    began = time.monotonic()
    for number in range(300):
        server.put("a", ready=number % 2 == 0)
    server.put("z")
    until(lambda: "z" in states(view), "the last of them", timeout=60)
    assert len(counted) <= 2 + MOST_UPDATES * (time.monotonic() - began)


def test_it_stops_when_nobody_looks_and_goes_on_when_somebody_does(server, watch, monkeypatch):
    monkeypatch.setattr(news, "NOBODY_LOOKS", 0.1)
    view = watch.map("Map")
    view._on_message(view, {"type": "open"}, [])
    assert watch.feeder.running
    view._on_message(view, {"type": "close"}, [])
    until(lambda: not watch.feeder.running, "the feeder's end", timeout=60)
    server.put("late")
    view._on_message(view, {"type": "open"}, [])
    until(lambda: "late" in states(view), "news after looking again", timeout=60)


def test_a_watch_that_was_ended_stays_so_also_when_its_view_is_opened_again(watch):
    view = watch.map("Map")
    watch.stop()
    view._on_message(view, {"type": "open"}, [])
    assert not watch.feeder.running and watch not in views._WATCHES.values()


def test_a_second_watch_of_the_same_stops_the_first(server, watch):
    view = watch.map("Map")
    again = Watch(watch.feeder.api, "default")
    view._on_message(view, {"type": "open"}, [])
    assert not watch.feeder.running and again.feeder.running
    again.stop()


class Requests:
    """Steady requests to a Service, of which none has been answered yet."""

    service = "web"

    def __init__(self) -> None:
        self.asked_by: set[threading.Thread] = set()

    def records(self):
        self.asked_by.add(threading.current_thread())
        return []


def test_of_a_cell_that_is_run_again_one_journey_is_fed(lab):
    views_ = [lab.journey() for _ in range(3)]
    assert [view.recorder.feeder.running for view in views_] == [False, False, True]
    assert [view.mode for view in views_] == ["recorded", "recorded", "live"]
    other = lab.journey("Another one")
    assert views_[-1].recorder.feeder.running and other.recorder.feeder.running
    lab.reset()
    assert not views_[-1].recorder.feeder.running and not other.recorder.feeder.running


def test_of_a_cell_that_is_run_again_one_flow_is_fed(lab):
    traffic = Requests()
    first, last = lab.flow(traffic), lab.flow(traffic)
    assert (first.mode, last.mode) == ("recorded", "live")
    until(lambda: last.length > 1, "two looks", timeout=60)
    assert len([thread for thread in traffic.asked_by if thread.is_alive()]) == 1


LIVE = {
    "map": lambda lab: lab.map(),
    "staircase": lambda lab: lab.staircase(),
    "journey": lambda lab: lab.journey(),
    "pod strip": lambda lab: lab.pod_strip("web").view,
    "flow": lambda lab: lab.flow(Requests()),
}


@pytest.mark.parametrize("name", LIVE)
def test_every_live_picture_says_how_old_it_is_and_what_is_in_the_way_of_news(server, lab, name):
    view = LIVE[name](lab)
    until(lambda: view.view.get("error") == "" and view.view["mode"] == "live", "a live picture", timeout=60)
    first = view.view["heard"]
    until(lambda: view.view["heard"] > first, "a sign of life though nothing changes", timeout=60)
    shown = view.view
    assert 0 <= shown["now"] - shown["heard"] < 60 and "no news" not in view.to_text()
    server.away = True
    until(lambda: view.view["error"], "the error in the view", timeout=60)
    assert "no news: " in view.to_text().splitlines()[0] and "(live, no news: " in view.to_svg()
    server.away = False
    until(lambda: not view.view["error"], "the news", timeout=60)
    assert "no news" not in view.to_text()


def test_a_sign_of_life_that_failed_is_asked_for_again(server, lab):
    view = lab.journey()
    until(lambda: view.source.whole, "the lists", timeout=60)
    server.dumb = 1
    until(lambda: view.view["error"], "the error in the view", timeout=60)
    until(lambda: not view.view["error"], "a sign of life though nothing has changed", timeout=60)


def test_a_journey_goes_on_while_nobody_looks(lab, monkeypatch):
    monkeypatch.setattr(news, "NOBODY_LOOKS", -1.0)
    view = lab.journey()
    for message in ("open", "close"):
        view._on_message(view, {"type": message}, [])
    for _ in range(2):  # the first may have been under way
        heard = view.view["heard"]
        until(lambda: view.view["heard"] > heard, "a sign of life", timeout=60)  # noqa: B023
    assert view.source.running


def test_what_watches_by_itself_stops_too_when_nobody_looks(lab, monkeypatch):
    monkeypatch.setattr(news, "NOBODY_LOOKS", 0.1)
    view = LIVE["pod strip"](lab)
    until(lambda: view.source.running and view.view["mode"] == "live", "the feeder", timeout=60)
    for message in ("open", "close"):
        view._on_message(view, {"type": message}, [])
    until(lambda: not view.source.running, "the feeder's end", timeout=60)
    view._on_message(view, {"type": "open"}, [])
    assert view.source.running
    lab.close()
    view._on_message(view, {"type": "open"}, [])
    assert not view.source.running and view.view["mode"] == "recorded", "what has been ended stays so"
