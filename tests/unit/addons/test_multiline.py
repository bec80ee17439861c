"""Lines that are put together on their way to the store: which, how long they are waited for, and that none is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlab.addons.programs import multiline
from podlab.addons.programs.packing import packed, unpacked
from podlab.addons.programs.spool import LONGEST, Blocks, Sender

HOLD = 30.0

TRACE = """\
Traceback (most recent call last):
  File "shop.py", line 3, in order
    return prices[what]
KeyError: 'tea'
During handling of the above exception, another exception occurred:
Traceback (most recent call last):
  File "shop.py", line 9, in <module>
    order("tea")
LookupError: no tea
  in the shop"""

JAVA = """\
java.lang.IllegalStateException: no tea
\tat shop.Shop.order(Shop.java:9)
Caused by: java.util.NoSuchElementException
\tat shop.Prices.of(Prices.java:3)
... 1 more"""


def row(line: str, *, style: str | None = "python", pod: str = "shop", **more: str) -> dict[str, str]:
    label = {multiline.LABEL: style} if style else {}
    whose = {"pod_name": pod, "pod_namespace": "town", "container_name": "main", "container_id": "c1"}
    fields = {f"kubernetes.{name}": more.pop(name, value) for name, value in whose.items()}
    return {"_time": "2026-01-01T00:00:00Z", **fields, **label, "_msg": line, **more}


def text(*rows: dict[str, str]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in rows)


def read(line: bytes) -> dict[str, str]:
    """A row; none of what is no row."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


class Store:
    """Keeps what it was sent until it is killed; what is on its disk outlives that."""

    texts = 0
    lags = False

    def __init__(self) -> None:
        self.life, self.away, self.memory, self.disk = 1, False, list[dict[str, str]](), list[dict[str, str]]()

    def process(self) -> str:
        if self.away:
            raise OSError("away")
        return str(self.life)

    def send(self, path: str, body: bytes) -> bool:
        self.process()
        assert path == "/insert" and body
        self.memory += map(read, unpacked(body).splitlines())
        return True

    def write(self) -> None:
        self.disk, self.memory = self.disk + self.memory, []

    def kill(self) -> None:
        self.memory, self.life = [], self.life + 1

    @property
    def messages(self) -> list[str]:
        return [one.get("_msg", "") for one in self.disk + self.memory]


class Bench:
    def __init__(self, folder: Path, hold: float = HOLD) -> None:
        self.store, self.now, self.folder, self.hold = Store(), 0.0, folder, hold
        self.begin()

    def begin(self) -> None:
        self.blocks = Blocks(self.folder, 1 << 20)
        self.sender = Sender(self.blocks, self.store, self.hold, clock=lambda: self.now)

    def comes(self, *rows: dict[str, str], later: float = 0.1) -> None:
        """A block comes, and goes on as far as it may."""
        self.blocks.take("/insert", packed(text(*rows)))
        self.later(later)

    def later(self, seconds: float) -> None:
        """Time passes, in which the spool makes its rounds."""
        while seconds > LONGEST:
            self.later(LONGEST)
            seconds -= LONGEST
        self.now += seconds
        self.sender.step()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def together(style: str, *lines: str) -> list[str]:
    """What becomes of lines of one pod."""
    open_, out = multiline.NOTHING, list[dict[str, str]]()
    gone, _, open_ = open_.take("1", "/", text(*(row(line, style=style) for line in lines)), 0.0)
    out += [json.loads(line) for line in gone.splitlines()]
    out += [json.loads(event.text()) for event in open_.due(multiline.WAIT)]
    return [one["_msg"] for one in out]


@pytest.mark.parametrize(("style", "event"), [("python", TRACE), ("java", JAVA), ("indented", "one\n  two\n\tthree")])
def test_an_event_of_each_style_is_one_and_its_neighbours_are_not_of_it(style: str, event: str) -> None:
    lines = ["before", *event.splitlines(), "behind"]
    assert together(style, *lines) == ["before", event, "behind"]
    assert together(style, *lines, *lines) == ["before", event, "behind"] * 2


PROGRAMS = {
    "plain": "def f(): 1/0\nf()",
    "chained": "try: {}['a']\nexcept KeyError as error: raise ValueError('b') from error",
    "while handled": "try: {}['a']\nexcept KeyError: raise ValueError('b')",
    "deep": "def f(n): f(n + 1)\nimport sys; sys.setrecursionlimit(60)\nf(0)",
    "group": "raise ExceptionGroup('both', [ValueError(1), TypeError(2)])",
    "several lines": "raise ValueError('first\\n  second')",
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_what_python_itself_prints_of_an_exception_is_one_event(program: str) -> None:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    # vlagent leaves empty lines out.
    lines = [line for line in done.stderr.splitlines() if line]
    assert len(lines) > 2 and together("python", "before", *lines, "behind") == ["before", "\n".join(lines), "behind"]


def test_two_tracebacks_in_a_row_are_two_events() -> None:
    one = TRACE.partition("\nDuring")[0]
    assert together("python", *one.splitlines(), *one.splitlines()) == [one, one]


def test_a_line_of_a_pod_that_does_not_ask_is_left_as_it_is() -> None:
    lines = text(*(row(line, style=None) for line in TRACE.splitlines()))
    assert multiline.NOTHING.take("1", "/", lines, 0.0) == (lines, frozenset(), multiline.NOTHING)


def test_pods_and_lines_of_json_are_never_mixed(bench: Bench) -> None:
    bench.comes(
        row("a1"), row("b1", pod="b"), row(" a2"), row("c1", pod="c", style=None), row(" b2", pod="b"),
        row("json", level="info"), row(" a3"), row("a4"),
    )  # fmt: skip
    bench.later(multiline.WAIT)
    assert bench.store.messages == ["c1", "a1\n a2", "json", " a3", "b1\n b2", "a4"]
    assert bench.store.memory[2] == row("json", level="info")
    assert bench.store.memory[1] == row("a1\n a2")


@pytest.mark.parametrize("what", ["pod_namespace", "pod_name", "container_name", "container_id"])
def test_a_line_goes_on_with_lines_of_its_own_container_only(bench: Bench, what: str) -> None:
    bench.comes(row("one"), row("other", **{what: "another"}), row(" one"), row(" other", **{what: "another"}))
    bench.later(multiline.WAIT)
    assert sorted(bench.store.messages) == ["one\n one", "other\n other"]


def test_bytes_that_are_no_text_harm_nobody(bench: Bench) -> None:
    lines = text(row("a \x07 end"), row(" goes on")).replace(b"\\u0007", b"\xff\xfe")
    bench.blocks.take("/insert", packed(lines + text(row("b", pod="b"), row(" b", pod="b"))))
    bench.later(0)
    bench.later(multiline.WAIT)
    assert bench.store.messages == ["a \ufffd\ufffd end\n goes on", "b\n b"] and bench.sender.refused == 0


def test_a_style_that_there_is_not_is_said_once_and_changes_nothing(bench: Bench, capfd) -> None:
    bench.comes(row("a", style="perl"), row(" b", style="perl"))
    assert bench.store.messages == ["a", " b"]
    assert capfd.readouterr().err.count("asks for lines to be put together by perl; known are indented, java") == 1


def test_an_event_that_never_ends_is_cut_and_the_rest_is_there(bench: Bench) -> None:
    lines = ["begin", *(f" {number}" for number in range(multiline.LINES * 2))]
    bench.comes(*map(row, lines))
    bench.later(multiline.WAIT)
    assert "\n".join(bench.store.messages).splitlines() == lines
    assert [message.count("\n") + 1 for message in bench.store.messages] == [multiline.LINES, multiline.LINES, 1]
    bench.comes(row("begin"), *(row(" " + "x" * 90_000) for _ in range(3)))
    bench.later(multiline.WAIT)
    assert [len(message) for message in bench.store.messages[3:]] == [180_009, 90_001]
    bench.comes(row("x" * multiline.CHARACTERS), row("y" * (multiline.CHARACTERS + 1)))
    assert [message[0] for message in bench.store.messages[5:]] == ["x", "y"], "neither is waited for"


def test_what_waits_is_bounded_and_the_oldest_goes_first(bench: Bench) -> None:
    most = multiline.ALL_CHARACTERS // multiline.CHARACTERS
    for number in range(most + 3):
        bench.comes(row("x" * multiline.CHARACTERS, pod=f"p{number:02}"), later=0.001)
    assert [one["kubernetes.pod_name"] for one in bench.store.memory] == ["p00", "p01", "p02"]


def test_an_event_that_goes_on_for_ever_keeps_no_block_for_ever(bench: Bench) -> None:
    most = 0
    for number in range(60):
        bench.comes(row(f" {number}"), later=1)
        bench.store.write()
        most = max(most, len(bench.blocks.names()))
    assert HOLD < most <= HOLD + multiline.AGE + 2
    bench.later(multiline.WAIT)
    assert "\n".join(bench.store.messages).split() == [str(number) for number in range(60)]
    assert len(bench.store.messages) == 60 / multiline.AGE


def test_a_store_that_is_slow_splits_no_event(bench: Bench) -> None:
    """What the event goes on with came while the store was taking the block before."""
    send = bench.store.send

    def slowly(path: str, body: bytes) -> bool:
        bench.now += 2 * multiline.WAIT
        bench.blocks.take("/insert", packed(text(row(" 2"))))
        bench.store.send = send  # type: ignore[method-assign]
        return send(path, body)

    bench.blocks.take("/insert", packed(text(row("a"), row("1"))))
    bench.store.send = slowly  # type: ignore[method-assign]
    bench.later(0)
    bench.later(0)
    bench.later(multiline.WAIT)
    assert bench.store.messages == ["a", "1\n 2"]


def test_lines_of_a_shipper_that_begins_again_do_not_go_on_with_what_is_open(bench: Bench) -> None:
    def at(second: str, line: str) -> dict[str, str]:
        return {**row(line), "_time": f"2026-01-01T00:00:{second}Z"}

    bench.comes(at("05", "new"), at("05.1", " new"), at("05.12", " newest"), at("04.9", " old"))
    bench.later(multiline.WAIT)
    assert bench.store.messages == ["new\n new\n newest", " old"]


def test_at_the_end_nothing_is_waited_for(bench: Bench) -> None:
    bench.blocks.take("/insert", packed(text(row("the last"))))
    bench.sender.step(wait=0)
    assert bench.store.messages == ["the last"]


def test_an_event_in_two_blocks_is_one_and_waits_no_longer_than_it_has_to(bench: Bench) -> None:
    first, rest = TRACE.splitlines()[:3], TRACE.splitlines()[3:]
    bench.comes(*map(row, first))
    bench.later(multiline.WAIT / 2)
    bench.comes(*map(row, rest))
    assert bench.store.messages == []
    bench.later(multiline.WAIT)
    assert bench.store.messages == [TRACE]
    bench.later(HOLD)
    assert not bench.blocks.names() and bench.store.messages == [TRACE]


def test_the_blocks_of_an_event_are_kept_as_long_as_its_last_one(tmp_path: Path) -> None:
    """An event goes on for longer than the store has to write: its beginning would be missing after a kill."""
    bench = Bench(tmp_path, hold=4)
    lines = ["begin", *(f" {number}" for number in range(10))]
    for line in lines:
        bench.comes(row(line), later=1)
    assert len(bench.blocks.names()) == len(lines) and bench.store.messages == []
    bench.later(multiline.WAIT)
    bench.later(bench.hold - 1)
    assert len(bench.blocks.names()) == len(lines)
    bench.store.kill()
    bench.later(1)
    bench.later(multiline.WAIT)
    bench.store.write()
    bench.later(bench.hold)
    assert bench.store.messages == ["\n".join(lines)] and not bench.blocks.names()


def test_what_is_read_again_does_not_go_on_behind_a_gap(bench: Bench) -> None:
    """The first block was kept for the event of a, the third for its last line, and the second was forgotten."""
    bench.comes(row("a0", pod="a"), row("b0"))
    bench.comes(row("b1"))
    bench.comes(row(" b2"), row("b3"))
    bench.store.write()
    bench.later(HOLD)
    bench.store.kill()
    bench.later(0)
    bench.later(multiline.WAIT + 1)
    assert not any("b0\n b2" in message for message in bench.store.messages)


def test_a_store_that_is_away_for_a_moment_gets_no_line_twice(bench: Bench) -> None:
    bench.comes(row("a1"), row(" a2"))
    bench.store.away = True
    for number in range(3, 6):
        with pytest.raises(OSError, match="away"):
            bench.comes(row(f" a{number}"))
    with pytest.raises(OSError, match="away"):
        bench.later(multiline.WAIT)
    bench.store.away = False
    bench.later(0)
    bench.later(multiline.WAIT)
    assert bench.store.messages == ["a1\n a2\n a3\n a4\n a5"]


@pytest.mark.parametrize(
    "odd",
    [
        "{MARK",
        "[MARK]",
        "{MARK: []}",
        "{MARK: 1}",
        '{MARK: "python", "_msg": 1}',
        '{MARK: "python", "_msg": [1]}',
        "[" * 99999,
    ],
)
def test_whatever_comes_what_comes_after_it_goes_on(bench: Bench, odd: str) -> None:
    mark = json.dumps(multiline.LABEL)
    bench.blocks.take("/insert", packed(odd.replace("MARK", mark).encode() + mark.encode() * (len(odd) > 9999)))
    bench.comes(row("after"))
    bench.later(multiline.WAIT)
    assert bench.store.messages[-1] == "after"
    bench.later(HOLD)
    assert not bench.blocks.names()


#: A block with so many lines, of which each goes on with the one before or begins; or a death.
_HAPPENS = st.lists(
    st.one_of(
        st.lists(st.tuples(st.sampled_from("ab"), st.booleans()), min_size=1, max_size=4),
        st.sampled_from(["store", "spool", "write", "later", "much later"]),
    ),
    max_size=30,
)


@given(_HAPPENS)
def test_whoever_is_killed_when_every_line_is_found_in_its_event(tmp_path_factory, happens: list) -> None:
    bench = Bench(tmp_path_factory.mktemp("blocks"))
    written: dict[str, list[str]] = {"a": [], "b": []}
    for what in happens:
        if what == "store":
            bench.store.kill()
        elif what == "spool":
            bench.begin()
        elif what == "write":
            bench.store.write()
        elif what in ("later", "much later"):
            bench.store.write()  # HOLD is longer than it takes the store to write
            bench.later(1 if what == "later" else HOLD)
        else:
            rows = []
            for pod, goes_on in what:
                lines = written[pod]
                lines.append(f"{' ' * (goes_on and bool(lines))}{pod}{len(lines)}")
                rows.append(row(lines[-1], pod=pod))
            bench.comes(*rows)
    bench.later(0)  # a store that was killed is sent again what it may not have
    bench.later(multiline.WAIT + 1)
    for pod, lines in written.items():
        found = {message for message in bench.store.messages if message.strip().startswith(pod)}
        assert {line for message in found for line in message.splitlines()} == set(lines)
        # What was put together are lines that followed each other, each going on.
        follows = set(pairwise(lines))
        assert all(pair in follows and pair[1][0] == " " for one in found for pair in pairwise(one.splitlines()))
