"""The programs that run in pods, run here as processes: switches do what they say, the prober tells the truth."""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path

import pytest

from podlab.waiting import until

SERVING = resources.files("podlab.course").joinpath("programs/serving.py")
PROBER = resources.files("podlab.checks").joinpath("programs/prober.py")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(port, path, *, method="GET", timeout=2.0):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
    except OSError:
        return 0, {}


@pytest.fixture
def run(request):
    def start(program, *, patch_host=True, **environment):
        port = free_port()
        # The programs serve their pod on every address; here they must stay on the loopback.
        code = (
            "import sys, socketserver, runpy\n"
            "bind = socketserver.TCPServer.server_bind\n"
            "def loopback(self):\n"
            "    self.server_address = ('127.0.0.1', self.server_address[1])\n"
            "    bind(self)\n"
            "socketserver.TCPServer.server_bind = loopback\n"
            "runpy.run_path(sys.argv[1], run_name='__main__')\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", code, str(program)],
            env={"PORT": str(port), "HOSTNAME": "pod-x", "PATH": os.environ["PATH"], **environment},
            stdout=subprocess.PIPE,
            text=True,
        )

        def end():
            process.kill()
            process.communicate()

        request.addfinalizer(end)
        return process, port

    return start


@pytest.fixture
def serving(run):
    process, port = run(SERVING)
    until(lambda: ask(port, "/healthz")[0] == 200, "the program answering", timeout=60)
    return process, port


def test_the_same_user_gets_the_same_movies_and_the_nonce_comes_back(serving):
    _, port = serving
    first, second = ask(port, "/recommend/123?nonce=n1")[1], ask(port, "/recommend/123")[1]
    assert first["movies"] == second["movies"] and len(first["movies"]) == 3 and first["nonce"] == "n1"
    assert first["pod"] == "pod-x" and first["instance"] == second["instance"]
    assert ask(port, "/recommend/124")[1]["movies"] != first["movies"]
    assert ask(port, "/nothing")[0] == 404 and ask(port, "/trouble/nothing", method="POST")[0] == 404


def test_wedged_it_lives_accepts_and_never_answers_but_still_ends_when_told(serving):
    process, port = serving
    assert ask(port, "/trouble/wedge", method="POST")[0] == 200
    assert ask(port, "/healthz", timeout=0.5)[0] == 0 and ask(port, "/recommend/1", timeout=0.5)[0] == 0
    assert ask(port, "/trouble")[1]["wedged"] and process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0


def test_it_ends_when_told_whichever_of_its_threads_the_kernel_gives_the_signal_to(serving):
    process, _ = serving
    threads = [int(task.name) for task in Path(f"/proc/{process.pid}/task").iterdir()]
    another = next(thread for thread in threads if thread != process.pid)
    assert ctypes.CDLL(None).tgkill(process.pid, another, signal.SIGTERM) == 0
    assert process.wait(60) == 0


def test_unready_it_says_503_about_the_model_and_is_still_healthy(serving):
    _, port = serving
    ask(port, "/trouble/unready?seconds=1", method="POST")
    assert [ask(port, path)[0] for path in ("/readyz", "/recommend/1", "/healthz")] == [503, 503, 200]
    until(lambda: ask(port, "/readyz")[0] == 200, "being ready again", timeout=60)


def test_a_stall_ends_and_slow_is_slow_but_right(serving):
    _, port = serving
    ask(port, "/trouble/stall?seconds=0.8", method="POST")
    assert ask(port, "/healthz", timeout=0.2)[0] == 0
    until(lambda: ask(port, "/healthz")[0] == 200, "the stall's end", timeout=60)
    ask(port, "/trouble/slow?delay=0.6&seconds=5", method="POST")
    assert ask(port, "/healthz", timeout=0.3)[0] == 0 and ask(port, "/healthz", timeout=3)[0] == 200


def test_a_pause_can_wait_for_the_next_question_and_happens_once(serving):
    _, port = serving
    ask(port, "/trouble/stall?seconds=0.8&when=asked", method="POST")
    assert ask(port, "/trouble")[1]["stalls"] == 0
    assert ask(port, "/healthz", timeout=0.3)[0] == 0 and ask(port, "/trouble")[1]["stalls"] == 1
    until(lambda: ask(port, "/healthz")[0] == 200, "the pause's end", timeout=60)
    assert ask(port, "/trouble")[1]["stalls"] == 1


def test_a_pause_can_wait_for_the_next_question_for_a_page(serving):
    _, port = serving
    ask(port, "/trouble/stall?seconds=0.8&when=asked&page=healthz", method="POST")
    assert ask(port, "/readyz")[0] == 200 and ask(port, "/trouble")[1]["stalls"] == 0
    assert ask(port, "/healthz", timeout=0.3)[0] == 0 and ask(port, "/trouble")[1]["stalls"] == 1


def test_a_crash_ends_it_with_the_status_asked_for(serving):
    process, port = serving
    ask(port, "/trouble/crash?status=7", method="POST")
    assert process.wait(60) == 7


def test_while_loading_the_port_is_closed_and_a_stop_is_heard(run):
    process, port = run(SERVING, START_SECONDS="60")
    assert "loading" in process.stdout.readline()
    assert ask(port, "/healthz")[0] == 0
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0


def test_the_prober_counts_answers_silence_and_refusals(run, serving):
    _, port = serving
    _, page = run(PROBER, TARGET=f"http://127.0.0.1:{port}/recommend/1", RATE="40", PATIENCE="0.5")
    records = []

    def poll(condition):
        since = records[-1]["seq"] + 1 if records else 0
        status, body = ask(page, f"/records?since={since}")
        if status == 200:
            records.extend(body["records"])
        return condition(records)

    until(lambda: poll(lambda rows: sum(row["nonce"] == "own" for row in rows) >= 20), "answers", timeout=60)
    assert all(row["pod"] == "pod-x" and row["status"] == 200 for row in records[5:])
    ask(port, "/trouble/unready?seconds=1", method="POST")
    until(lambda: poll(lambda rows: any(row["status"] == 503 for row in rows)), "refusals", timeout=60)
    ask(port, "/trouble/wedge", method="POST")
    until(lambda: poll(lambda rows: sum(row["status"] == 0 for row in rows) >= 5), "silence", timeout=60)
    assert [row["seq"] for row in records] == list(range(len(records))), "every answer is told once"


def test_the_prober_does_not_wait_for_a_server_that_hangs(run, serving):
    _, port = serving
    ask(port, "/trouble/wedge", method="POST")
    _, page = run(PROBER, TARGET=f"http://127.0.0.1:{port}/recommend/1", RATE="40", PATIENCE="1")

    def sent():
        rows = ask(page, "/records")[1].get("records", [])
        return rows if len(rows) >= 40 else None

    rows = until(sent, "forty requests without an answer", timeout=60)
    gaps = sorted(later["sent"] - earlier["sent"] for earlier, later in itertools.pairwise(rows))
    assert gaps[len(gaps) // 2] < 0.5, "the next request is sent while the one before is still waiting"


CINEMA = resources.files("podlab.course").joinpath("programs/cinema.py")


def shows(port):
    """What the cinema's page for Prometheus says: the lines that are no comments."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return [line for line in answer.read().decode().splitlines() if not line.startswith("#")]


def test_a_cinema_shows_it_smoothly_to_as_many_as_it_has_seats_and_counts_those_who_watch(run):
    process, port = run(CINEMA, SECONDS="4", SEATS="2")
    until(lambda: ask(port, "/readyz")[0] == 200, "the cinema answering", timeout=60)
    with ThreadPoolExecutor(3) as pool:
        viewers = [pool.submit(ask, port, f"/watch?nonce=n{number}", timeout=20) for number in range(3)]
        until(lambda: "http_requests_in_progress 3" in shows(port), "all being in", timeout=60, interval=0.05)
        assert "queue_length 1" in shows(port)
        process.send_signal(signal.SIGTERM)
        told = [viewer.result() for viewer in viewers]
    assert sorted(status for status, _ in told) == [200, 200, 503], "it is shown to the end, to all of them"
    assert {body["nonce"] for _, body in told} == {"n0", "n1", "n2"} and {body["pod"] for _, body in told} == {"pod-x"}
    assert process.wait(60) == 0


def test_a_cinema_counts_who_has_watched(run):
    _, port = run(CINEMA, SECONDS="0")
    until(lambda: ask(port, "/watch")[0] == 200, "the cinema answering", timeout=60)
    assert ask(port, "/nowhere")[0] == 404
    assert 'http_requests_total{path="/watch",code="200"} 1' in shows(port)
    assert {"http_requests_in_progress 0", "queue_length 0"} <= set(shows(port))
