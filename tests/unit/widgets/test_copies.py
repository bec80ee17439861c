"""Copies under a load: what was asked for and answered, who used the processor, in picture, words and table alike."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from podlab.errors import UsageError
from podlab.waiting import until
from podlab.widgets.copies import Copies, Copy, Look

BUSY = Copy({"ui": 0.6, "serving": 0.3, "other": 0.04}, 0.94, 96)
CALM = Copy({"serving": 0.2, "features": 0.1}, 0.3, 90)


def looks() -> list[Look]:
    return [Look(1.0, 5, (0.01,) * 5, 0, (CALM, CALM)), Look(2.0, 40, (0.1,) * 19 + (3.0,), 2, (BUSY, CALM))]


@pytest.fixture
def program():
    """A program that counts, as the monolith does, and answers pages; `seen` are the paths that were asked for."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/metrics":
                used = 0.25 * len(seen)
                lines = [f'movies_processor_seconds_total{{part="ui"}} {used}', f"process_cpu_seconds_total {used}"]
                text = "\n".join([*lines, f"process_resident_memory_bytes {2**20}"]).encode()
            else:
                seen.append(self.path)
                text = b"a page"
            self.send_response(503 if self.path == "/bad" else 200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.seen = seen
    server.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_words_table_and_picture_tell_the_same_of_each_copy():
    view = Copies(["a", "b"], looks=looks())
    assert "40 pages/s asked for, 10 answered, which is not all of them" in view.summary()
    assert "2 failed" in view.summary() and "copy 1 uses 47 % of a processor" in view.summary()
    head, rows = view.table()
    assert dict(zip(head, rows[0], strict=True)) | {"ui": "30 %", "serving": "15 %", "in all": "47 %"} == dict(
        zip(head, rows[0], strict=True)
    )
    svg = view.to_svg()
    assert "copy 1: ui uses 30 % of a processor" in svg and "copy 2: features uses 5 % of a processor" in svg
    view.seek(0)
    assert "which is not all" not in view.summary() and "5 pages/s asked for, 5 answered" in view.to_text()


def test_a_copy_that_has_a_whole_processor_is_full_and_says_so():
    view = Copies(["a"], looks=[Look(1.0, 40, (0.1,) * 40, 0, (BUSY,))])
    assert "(full)" in view.summary() and "in all 94 % of a processor, full" in view.to_svg()


def test_95_of_100_pages_came_within_what_is_said():
    assert Look(1.0, 1, tuple(range(1, 101)), 0, ()).p95 == 95
    assert Look(1.0, 1, (7.0,), 0, ()).p95 == 7.0 and Look(1.0, 1, (), 0, ()).p95 is None


def test_before_the_first_page_it_says_that_there_was_none():
    view = Copies(["http://127.0.0.1:1"])
    assert view.summary() == "nobody has asked for a page yet" and view.length == 0


def test_the_slider_sends_real_requests_and_their_cost_is_what_the_program_has_counted(program):
    view = Copies([program.address], lambda number: f"/page/{number}")
    view.set(rate=50)
    until(lambda: sum(len(look.took) for look in view.looks) >= 30, "thirty pages", timeout=60)
    view.stop()
    before = len(program.seen)
    assert len(set(program.seen)) == len(program.seen) == before
    assert sum(len(look.took) for look in view.looks) == before and not any(look.failed for look in view.looks)
    assert view.parts()["ui"] == pytest.approx(0.25 * before)
    assert view.looks[0].copies[0].memory == 1


def test_no_faster_than_it_is_told(program):
    view = Copies([program.address], lambda number: f"/page/{number}")
    view.set(rate=5)
    until(lambda: len(view.looks) >= 3, "three looks", timeout=60)
    view.stop()
    # Whoever was late makes up for a second at most, and each of eight clients may be under way.
    assert len(program.seen) <= 5 * sum(look.seconds for look in view.looks) + 5 + 8


def test_what_fails_is_counted_apart(program):
    view = Copies([program.address], lambda number: "/bad")
    view.set(rate=50)
    until(lambda: sum(look.failed for look in view.looks) >= 5, "five failures", timeout=60)
    view.stop()
    assert not any(look.took for look in view.looks)


def test_a_load_that_there_is_not_is_refused():
    with pytest.raises(UsageError, match="between 0 and 100"):
        Copies([]).set(rate=1000)


def test_without_load_nobody_looks_and_what_was_stopped_says_so(program):
    view = Copies([program.address])
    view.set(rate=20)
    until(lambda: len(view.looks) >= 2, "two looks", timeout=60)
    view.set(rate=0)
    seen = len(view.looks)
    view.set(rate=20)
    assert [look.rate for look in view.looks[:seen]] == [20] * seen, "a look is of one load, and never of none"
    view.stop()
    with pytest.raises(UsageError, match="has ended"):
        view.set(rate=5)


def test_the_rest_of_a_second_is_no_look_of_its_own():
    view = Copies(["a", "b"], looks=looks())
    view.add(Look(0.1, 40, (0.3,), 1, (Copy({"ui": 0.1}, 0.1, 97), CALM)))
    assert view.length == 1 and view.now.failed == 3 and len(view.now.took) == 21
    assert view.now.seconds == pytest.approx(2.1) and view.now.copies[0].parts["ui"] == pytest.approx(0.7)
    view.add(Look(0.1, 7, (), 0, (CALM, CALM)))
    assert view.length == 2, "another load is another look"


def test_up_to_five_looks_at_the_same_load_are_shown_together():
    view = Copies(["a"], looks=[Look(1.0, 5, (0.1,), 0, (CALM,))])
    for number in range(6):
        view.add(Look(1.0, 10, (float(number),), 0, (BUSY,)))
    assert view.now.took == (1.0, 2.0, 3.0, 4.0, 5.0) and view.now.share(0) == pytest.approx(0.94)
    view.seek(1)
    assert view.now.took == (0.0,), "the load was another before"
