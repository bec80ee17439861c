"""The graph of services: counts, rates and quantiles from real text formats, and the way of one request from logs."""

from __future__ import annotations

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from podlab.widgets import calls
from podlab.widgets.calls import BROKER, VISITORS, Count
from podlab.widgets.service_graph import ServiceGraph, metrics

UI = """# HELP movies_calls_total Calls of one service to another.
# TYPE movies_calls_total counter
movies_calls_total{outcome="ok",service="ui",to="serving"} 90.0
movies_calls_total{outcome="failed",service="ui",to="serving"} 10.0
movies_calls_total{outcome="open",service="ui",to="serving"} 4.0
movies_call_seconds_bucket{le="0.1",service="ui",to="serving"} 50.0
movies_call_seconds_bucket{le="0.2",service="ui",to="serving"} 100.0
movies_call_seconds_bucket{le="+Inf",service="ui",to="serving"} 100.0
movies_requests_total{code="200",method="GET",route="/",service="ui"} 7.0
movies_requests_total{code="503",method="GET",route="/",service="ui"} 1.0
movies_requests_total{code="200",method="GET",route="/metrics",service="ui"} 1000.0
movies_ready{service="ui"} 0.0
not a line
"""


def doubled(text: str) -> str:
    """The same metrics with every count twice as high."""
    lines = []
    for line in text.splitlines():
        head, _, value = line.rpartition(" ")
        lines.append(f"{head} {2 * float(value)}" if value.replace(".", "").isdigit() else line)
    return "\n".join(lines)


def test_metrics_become_ways_with_outcomes_and_states():
    found = calls.scrape(1.0, {"ui": UI, "serving": None})
    way = found.counts["ui", "serving"]
    assert (way.ok, way.failed, way.not_made, way.made) == (90, 10, 4, 100)
    visits = found.counts[VISITORS, "ui"]
    assert (visits.ok, visits.failed) == (7, 1), "operation is no visit"
    assert found.states == {"ui": "not ready", "serving": "away"}


def test_events_and_models_go_over_the_broker():
    texts = {
        "ingestion": 'movies_events_total{outcome="accepted",source="http"} 5\n'
        'movies_events_total{outcome="refused",source="http"} 9',
        "features": "movies_features_position 5",
        "training": 'movies_training_runs_total{state="published"} 2',
        "serving": 'movies_model_loads_total{outcome="loaded"} 2\nmovies_model_loads_total{outcome="refused"} 1',
    }
    found = calls.scrape(1.0, texts).counts
    assert found["ingestion", BROKER].made == found[BROKER, "features"].made == 5
    assert found["training", BROKER].ok == 2
    assert (found[BROKER, "serving"].ok, found[BROKER, "serving"].failed) == (2, 1)


def test_only_what_came_between_two_looks_is_counted():
    first, last = calls.scrape(0.0, {"ui": UI}), calls.scrape(10.0, {"ui": doubled(UI)})
    way = calls.between(first, last)["ui", "serving"]
    assert (way.ok, way.failed, way.within[0.1]) == (90, 10, 50)
    assert calls.between(last, last) == {}


def test_a_service_that_was_started_again_counts_from_nothing():
    first, last = calls.scrape(0.0, {"ui": doubled(UI)}), calls.scrape(10.0, {"ui": UI})
    assert calls.between(first, last)["ui", "serving"].ok == 90


@pytest.mark.parametrize(
    ("within", "share", "want"),
    [
        ({0.1: 50.0, 0.2: 100.0, float("inf"): 100.0}, 0.95, 0.19),
        ({0.1: 100.0, float("inf"): 100.0}, 0.5, 0.05),
        ({0.1: 10.0, float("inf"): 100.0}, 0.95, 0.1),
        ({0.1: 0.0, float("inf"): 0.0}, 0.95, None),
        ({}, 0.95, None),
    ],
)
def test_a_quantile_is_reckoned_as_prometheus_does(within, share, want):
    found = Count(within=within).quantile(share)
    assert found == (None if want is None else pytest.approx(want))


def line(service, message, span, parent="", **more):
    entry = {"service": service, "message": message, "trace_id": "t1", "span_id": span, "parent_id": parent, **more}
    return json.dumps(entry)


def test_a_request_is_followed_through_logs_in_any_order():
    logs = [
        line("features", "stored", "s9", "s2"),
        line("ingestion", "request", "s2", "s1", method="POST", path="/events", status=200, seconds=0.01),
        line("ingestion", "event", "s2", "s1", outcome="accepted"),
        line("ui", "request", "s1", method="POST", path="/rating", status=303, seconds=0.03),
        line("ui", "request", "s8", method="GET", path="/", status=200).replace("t1", "t2"),
        "t1 is no JSON",
    ]
    steps = [(hop.caller, hop.service) for hop in calls.hops(logs, "t1")]
    assert steps == [(VISITORS, "ui"), ("ui", "ingestion"), ("ingestion", BROKER), (BROKER, "features")]


@pytest.fixture
def ui():
    """A server with the metrics, and its address; `text` is what it tells."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(server.text.encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.text = UI
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_what_has_ended_says_so():
    view = ServiceGraph({})
    view.start()
    view.look()
    assert view.view["follows"]
    view.stop()
    assert view.view["mode"] == "recorded" and not view.view["follows"] and "(recorded" in view.to_text()


def test_what_listens_and_speaks_no_http_is_away():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"* OK IMAP ready\r\n")

        threading.Thread(target=answer, daemon=True).start()
        assert metrics(f"http://127.0.0.1:{server.getsockname()[1]}") is None


def test_the_picture_says_what_the_words_say(ui, tmp_path):
    log = tmp_path / "ui.log"
    log.write_text(line("ui", "request", "s1", method="GET", path="/", status=200, seconds=0.03) + "\n")
    address = f"http://127.0.0.1:{ui.server_port}"
    view = ServiceGraph({"ui": address, "serving": "http://127.0.0.1:1"}, [log, tmp_path / "none.log"])
    view.look()
    ui.text = doubled(UI)
    view.look()
    told = view.to_text()
    assert "10 failed" in told and "4 not made" in told and "serving is away" in told and "p95 190 ms" not in told
    for words in (">100</text>", ">p95 190 ms</text>", ">✕ 10 failed</text>", ">✕ 4 not made</text>"):
        assert words in view.to_svg()
    assert [hop.service for hop in view.follow("t1")] == ["ui"] and "visitors → ui" in view.mark
    assert view.follow("nobody") == [] and "no line" in view.mark
    view.seek(0)
    assert "0 calls among services" in view.summary()
