"""Container logs: the CRI format, tails, following over restarts and rotations, and the kubelet's words."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import os
from itertools import pairwise
from pathlib import Path

import pytest
from api_room import Room, container_view, pod_view
from hypothesis import example, given, settings
from hypothesis import strategies as st

from podlab.node.runtime.sandbox import log_format as writer
from podlab.node.streams import logs
from podlab.node.streams.log_format import Entry, Lines, Selection, fixed_time, format_time, only_for_shippers, parse
from podlab.waiting import until_async

TIME = b"2026-01-02T03:04:05.000000000Z"


@st.composite
def entries(draw: st.DrawFn) -> list[Entry]:
    """Random entries of both streams, cut or whole, ten nanoseconds apart."""
    texts = st.binary(max_size=40).map(lambda text: text.replace(b"\n", b" "))
    cut = draw(st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), texts, st.booleans()), max_size=40))
    return [
        Entry(b"2026-01-02T03:04:05.%09dZ" % (10 * number), stream.encode(), text + (b"\n" if whole else b""))
        for number, (stream, text, whole) in enumerate(cut)
    ]


def encoded(entry: Entry) -> bytes:
    tag = b"F" if entry.complete else b"P"
    return b" ".join([entry.time, entry.stream, tag, entry.text.rstrip(b"\n") + b"\n"])


@given(entries())
def test_entries_survive_the_file(given_: list[Entry]):
    lines = Lines()
    seen = [parse(line) for line in lines.feed(b"".join(map(encoded, given_)))]
    assert seen == given_
    assert lines.rest() == b""


BYTES = st.one_of(
    st.binary(max_size=60_000),
    st.lists(st.sampled_from([b"\r", b"\n", b"a", b"b" * 16_383, b"c" * 16_384])).map(b"".join),
)


@given(BYTES, st.lists(st.integers(1, 20_000), min_size=1))
@example(b"\r\n", [1])
@settings(max_examples=100)
def test_what_the_keeper_writes_is_what_is_read(data: bytes, cuts: list[int]):
    """The runtime's writer and this reader agree, lines longer than its buffer included."""
    keeper, text, position, turn = writer.Lines(1), b"", 0, 0
    while position < len(data):
        size = cuts[turn % len(cuts)]
        text += keeper.take(data[position : position + size], TIME)
        position, turn = position + size, turn + 1
    text += keeper.end(TIME)
    shown = b"".join(Selection().show(entry for line in Lines().feed(text) if (entry := parse(line))))
    # A carriage return before a line's end belongs to the end.
    assert shown == data.replace(b"\r\n", b"\n")


@given(entries(), st.integers(0, 45), st.integers(1, 200), st.binary(max_size=30))
@settings(max_examples=300)
def test_tail_equals_the_slow_reference(given_: list[Entry], count: int, block: int, torn: bytes):
    data = b"".join(map(encoded, given_)) + torn.replace(b"\n", b"")
    ends = [
        number
        for number, (before, entry) in enumerate(pairwise([None, *given_]))
        if number == len(given_) - 1 or (entry.complete and not only_for_shippers(entry, before))
    ]
    expected = given_[ends[-count - 1] + 1 :] if count < len(ends) else given_
    before, logs.BLOCK = logs.BLOCK, block
    try:
        start = logs.tail_start(io.BytesIO(data), count)
    finally:
        logs.BLOCK = before
    assert [parse(line) for line in Lines().feed(data[start:])] == expected


@given(entries(), st.integers(0, 400))
def test_limit_is_exact(given_: list[Entry], limit: int):
    everything = b"".join(Selection(timestamps=True).show(given_))
    limited = b"".join(Selection(timestamps=True, remaining=limit).show(given_))
    assert limited == everything[:limit]


def test_selection():
    shown = [
        Entry(b"2026-01-02T03:04:05.000000001Z", b"stdout", b"half "),
        Entry(b"2026-01-02T03:04:05.000000002Z", b"stdout", b"line\n"),
        Entry(b"2026-01-02T03:04:05.000000003Z", b"stderr", b"error\n"),
    ]
    stamped = b"".join(Selection(timestamps=True).show(shown))
    assert stamped == b"2026-01-02T03:04:05.000000001Z half line\n2026-01-02T03:04:05.000000003Z error\n"
    assert b"".join(Selection(stream=b"stderr").show(shown)) == b"error\n"
    assert b"".join(Selection(since=shown[1].time).show(shown)) == b"line\nerror\n"


@pytest.mark.parametrize(
    ("text", "fixed"),
    [
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000000000Z"),
        ("2026-01-02T03:04:05.5Z", "2026-01-02T03:04:05.500000000Z"),
        ("2026-01-02T05:04:05.123456789+02:00", "2026-01-02T03:04:05.123456789Z"),
        ("2026-01-01T22:04:05-05:00", "2026-01-02T03:04:05.000000000Z"),
        ("yesterday", None),
        ("2026-01-02T03:04:05", None),
    ],
)
def test_times(text: str, fixed: str | None):
    assert fixed_time(text.encode()) == (fixed.encode() if fixed else None)


def test_format_time():
    assert format_time(1767323045.25) == b"2026-01-02T03:04:05.250000000Z"
    assert parse(b"nonsense\n") is None
    assert parse(TIME + b" stdout F:extra text\n") == Entry(TIME, b"stdout", b"text\n")


# Through the node's own API


def line(text: str, second: int = 5, stream: str = "stdout", flag: str = "F") -> str:
    return f"2026-01-02T03:04:{second:02d}.000000000Z {stream} {flag} {text}\n"


@pytest.fixture
def log(room: Room) -> Path:
    """The log of the container main."""
    path = room.folder / "host" / "0.log"
    path.parent.mkdir()
    path.write_text(line("one", 1) + line("two", 2) + line("error", 3, "stderr") + line("three", 4))
    room.node.change("web", "main", log_path=str(path))
    return path


LOGS = "/containerLogs/default/web/main"


async def test_whole_log(room: Room, log: Path):
    assert await room.get(LOGS) == (200, "one\ntwo\nerror\nthree\n")


async def test_options(room: Room, log: Path):
    assert await room.get(LOGS, tailLines="2") == (200, "error\nthree\n")
    assert await room.get(LOGS, tailLines="0") == (200, "")
    assert await room.get(LOGS, stream="Stderr") == (200, "error\n")
    assert await room.get(LOGS, stream="Stdout") == (200, "one\ntwo\nthree\n")
    assert await room.get(LOGS, sinceTime="2026-01-02T03:04:03Z") == (200, "error\nthree\n")
    assert await room.get(LOGS, sinceSeconds="1") == (200, "")
    assert await room.get(LOGS, limitBytes="5") == (200, "one\nt")
    assert await room.get(LOGS, timestamps="true", tailLines="1") == (200, line("three", 4).replace("stdout F ", ""))


async def test_last_words_without_a_newline_are_shown_without(room: Room, log: Path):
    """The entry that tells a shipper that nothing more comes is none of the container's; its line is one."""
    with log.open("a") as file:
        file.write(line("last ", 5, flag="P") + line("words", 5, flag="P") + line("", 5))
    assert await room.get(LOGS) == (200, "one\ntwo\nerror\nthree\nlast words")
    assert await room.get(LOGS, tailLines="2") == (200, "three\nlast words")
    assert await room.get(LOGS, tailLines="1", timestamps="true") == (200, "2026-01-02T03:04:05.000000000Z last words")
    assert await room.get(LOGS, stream="Stdout", sinceTime="2026-01-02T03:04:04Z") == (200, "three\nlast words")
    with log.open("a") as file:
        file.write(line("", 6) + line("piece ", 7, flag="P") + line("", 7, "stderr"))
    assert await room.get(LOGS, tailLines="2") == (200, "last words\npiece \n"), "other empty lines are lines"


async def test_a_line_that_shippers_are_given_in_pieces_is_shown_as_one(room: Room, log: Path):
    with log.open("a") as file:
        file.write(line("a long ", 5, flag="P") + line("", 5) + line("error", 5, "stderr") + line("line", 5))
        file.write(line("last", 6))
    assert await room.get(LOGS, stream="Stdout") == (200, "one\ntwo\nthree\na long line\nlast\n")
    log.write_text(line("one", 1) + line("a long ", 5, flag="P") + line("", 5) + line("line", 5))
    assert await room.get(LOGS, tailLines="1", timestamps="true") == (
        200,
        "2026-01-02T03:04:05.000000000Z a long line\n",
    )


async def test_wrong_options(room: Room, log: Path):
    for query, status in [
        ({"tailLines": "-1"}, 422),
        ({"limitBytes": "0"}, 422),
        ({"sinceSeconds": "0"}, 422),
        ({"sinceSeconds": "1", "sinceTime": "2026-01-02T03:04:03Z"}, 422),
        ({"stream": "Stdmiddle"}, 422),
        ({"stream": "Stdout", "tailLines": "3"}, 422),
        ({"tailLines": "many"}, 400),
        ({"sinceTime": "noon"}, 400),
    ]:
        seen, text = await room.get(LOGS, **query)
        assert seen == status, (query, text)


async def test_long_log_is_not_loaded_for_its_tail(room: Room, log: Path):
    with log.open("a") as file:
        for number in range(200_000):
            file.write(line(f"line {number}"))
    status, text = await room.get(LOGS, tailLines="3")
    assert (status, text) == (200, "line 199997\nline 199998\nline 199999\n")
    status, text = await room.get(LOGS)
    assert status == 200
    assert text.count("\n") == 200_004


async def test_who_is_unknown(room: Room, log: Path):
    assert await room.get("/containerLogs/default/none/main") == (404, 'pod "none" does not exist')
    assert await room.get("/containerLogs/default/web/none") == (404, 'container "none" not found in pod "web"')


async def test_waiting_containers(room: Room):
    for reason, words in [
        ("ContainerCreating", "is waiting to start: ContainerCreating"),
        ("ErrImagePull", "is waiting to start: image can't be pulled"),
        ("ImagePullBackOff", "is waiting to start: trying and failing to pull image"),
    ]:
        room.node.change("web", "main", running=False, container_id=None, state={"waiting": {"reason": reason}})
        assert await room.get(LOGS) == (400, f'container "main" in pod "web" {words}')


async def test_previous(room: Room, log: Path):
    missing = (400, 'previous terminated container "main" in pod "web" not found')
    assert await room.get(LOGS, previous="true") == missing
    newer = log.with_name("1.log")
    newer.write_text(line("second attempt"))
    ended = {"exitCode": 1, "containerID": "podlab://x"}
    room.node.change("web", "main", log_path=str(newer), previous_log_path=str(log), last=ended)
    assert await room.get(LOGS) == (200, "second attempt\n")
    assert (await room.get(LOGS, previous="true"))[1].startswith("one\n")
    log.unlink()
    (log.parent / "linked").symlink_to(".")
    (log.parent / "to-a-log").symlink_to(newer)
    os.mkfifo(log.parent / "pipe")
    for place in (log, log.parent / "linked" / "1.log", log.parent / "to-a-log", log.parent / "pipe"):
        room.node.change("web", "main", previous_log_path=str(place))
        status, text = await room.get(LOGS, previous="true")
        assert status == 400, place
        assert "its log is gone" in text


async def test_crash_back_off_shows_the_attempt_that_ended(room: Room, log: Path):
    room.node.change(
        "web",
        "main",
        running=False,
        state={"waiting": {"reason": "CrashLoopBackOff"}},
        last={"exitCode": 1, "containerID": "podlab://x"},
    )
    whole = (200, "one\ntwo\nerror\nthree\n")
    assert await room.get(LOGS) == whole
    assert await room.get(LOGS, previous="true") == whole


async def follow(room: Room, until: str, **query: str):
    """An open answer that is being followed, once `until` has been seen."""
    answer = await room.client.get(room.url(LOGS), params={"follow": "true", **query})
    text = ""
    while until not in text:
        text += (await answer.content.readany()).decode()
    return answer, text


async def test_follow_ends_with_the_container(room: Room, log: Path):
    answer, text = await follow(room, "three")
    with log.open("a") as file:
        file.write(line("four"))
        file.flush()
        while "four" not in text:
            text += (await answer.content.readany()).decode()
        file.write(line("last words"))
    await room.runtime.signal_container("main", 9)
    text += (await answer.content.read()).decode()
    assert text == "one\ntwo\nerror\nthree\nfour\nlast words\n"


async def test_follow_of_a_silent_log_answers_at_once(room: Room, log: Path):
    answer = await room.client.get(room.url(LOGS), params={"follow": "true", "tailLines": "0"})
    assert answer.status == 200
    answer.close()


async def test_follow_of_an_ended_container_ends(room: Room, log: Path):
    room.node.change("web", "main", running=False, state={"terminated": {"exitCode": 0}})
    assert await room.get(LOGS, follow="true") == (200, "one\ntwo\nerror\nthree\n")


async def test_follow_over_rotations(room: Room, log: Path):
    """Nothing is lost when the log is renamed twice between two looks, and the old file is still written to."""
    answer, text = await follow(room, "three")
    with log.open("a") as old:
        log.rename(log.parent / "0.log.20260102-030405")
        old.write(line("late, into the old file"))
        old.flush()
        log.write_text(line("in the second file"))
        log.rename(log.parent / "0.log.20260102-030406")
        log.write_text(line("in the third file"))
    while "third" not in text:
        text += (await answer.content.readany()).decode()
    await room.runtime.signal_container("main", 9)
    text += (await answer.content.read()).decode()
    assert text.split("three\n")[1] == "late, into the old file\nin the second file\nin the third file\n"


async def test_follower_that_leaves_is_noticed(room: Room, log: Path):
    answer, _ = await follow(room, "three")
    waiting_for_it = len(asyncio.all_tasks())
    answer.close()

    async def ended() -> bool:
        return len(asyncio.all_tasks()) < waiting_for_it

    await until_async(ended, "the request of the client that left ends", timeout=60)


async def test_torn_line_is_shown_when_it_is_complete(room: Room, log: Path):
    answer, text = await follow(room, "three")
    whole = line("torn in two")
    with log.open("a") as file:
        file.write(whole[:45])
        file.flush()
        file.write(whole[45:])
        file.flush()
        while "torn" not in text:
            text += (await answer.content.readany()).decode()
    assert text.endswith("torn in two\n")
    answer.close()


async def test_bytes_that_are_no_text(room: Room, log: Path):
    log.write_bytes(
        TIME + b" stdout F \xff\xfe\x00\r\x1b[0m\n" + b"garbage without a time\n" + TIME + b" stdout F end\n"
    )
    async with room.client.get(room.url(LOGS)) as answer:
        assert await answer.read() == b"\xff\xfe\x00\r\x1b[0m\nend\n"


async def test_init_containers_log(room: Room, log: Path):
    pod = pod_view("web", [container_view("main"), container_view("setup", running=False, log_path=str(log))])
    status = {
        "phase": "Running",
        "containerStatuses": [{"name": "main", "state": {"running": {}}}],
        "initContainerStatuses": [{"name": "setup", "state": {"terminated": {"exitCode": 0}}}],
    }
    room.node.add(dataclasses.replace(pod, status=status))
    assert await room.get("/containerLogs/default/web/setup", tailLines="1") == (200, "three\n")


@pytest.mark.parametrize("linked", ["pods", "pods/shop_web", "pods/shop_web/0.log", None])
async def test_a_link_or_a_pipe_in_the_place_of_a_log_shows_nothing_of_others(tmp_path: Path, linked: str | None):
    top, outside = tmp_path / "host", tmp_path / "outside"
    private = outside / "pods" / "shop_web" / "0.log"
    private.parent.mkdir(parents=True)
    private.write_bytes(TIME + b" stdout F secret\n")
    path = top / "pods" / "shop_web" / "0.log"
    place = top / linked if linked else path
    place.parent.mkdir(parents=True)
    place.symlink_to(outside / linked) if linked else os.mkfifo(place)
    with pytest.raises(OSError):
        _ = [chunk async for chunk in logs.read_log(str(path), logs.LogOptions(), None, top)]


async def test_following_goes_on_at_no_link(tmp_path: Path):
    private, path = tmp_path / "private", tmp_path / "host" / "0.log"
    private.write_bytes(TIME + b" stdout F secret\n")
    path.parent.mkdir()
    path.write_bytes(TIME + b" stdout F mine\n")
    ended = asyncio.get_running_loop().create_future()
    seen = []
    with pytest.raises(OSError):
        async for chunk in logs.read_log(str(path), logs.LogOptions(follow=True), ended, path.parent):
            seen.append(chunk)
            path.rename(path.with_name("0.log.1"))
            path.symlink_to(private)
    assert seen == [b"mine\n"]
