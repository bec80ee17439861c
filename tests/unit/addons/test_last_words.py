"""A container's last words without a line break, in logs as containerd writes them."""

from __future__ import annotations

import email.message
import io
import itertools
import json
import os
import shutil
import tempfile
import threading
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlab.addons.catalogue import find
from podlab.addons.objects import objects
from podlab.addons.programs import in_cluster, last_words, spool
from podlab.addons.programs.last_words import BACK, HELD, LATE, LONGEST, NO_MESSAGE, PERIOD, QUICK, LastWords
from podlab.addons.programs.packing import unpacked
from podlab.addons.programs.spool import Blocks, Checkpoints, Sender, Spool
from podlab.node.runtime.sandbox import log_format
from podlab.waiting import until

PIECE = 16384
PATH = "/insert/jsonline?_stream_fields=a%2Cb"


class Stream:
    """A stream of a container, as containerd's redirectLogs makes entries of it (internal/cri/io/logger.go)."""

    def __init__(self, log: Log, name: str) -> None:
        self._log, self._name, self._raw, self._line = log, name, b"", b""

    def write(self, data: bytes, *, end: bool = False) -> None:
        self._raw += data
        most = self._log.piece
        size = min(4096, most)
        while True:
            at = self._raw.find(b"\n", 0, size)
            prefix = at < 0 and len(self._raw) >= size
            if at < 0 and not prefix and not end:
                return
            read = at if at >= 0 else size
            self._line += self._raw[:read]
            self._raw = self._raw[read + (at >= 0) :]
            stop = at < 0 and not prefix
            if stop and not self._line:
                return
            if len(self._line) > most:
                self._log.add(self._name, "P", self._line[:most])
                self._line = self._line[most:]
            if prefix:
                continue
            self._log.add(self._name, "P" if stop else "F", self._line)
            self._line = b""
            if stop:
                return


class Log:
    """A container's log, with the link to it, and its pod in the API server."""

    def __init__(self, node: Node, name: str, *, namespace: str = "shop", piece: int = PIECE, number: int = 0) -> None:
        self.node, self.name, self.namespace, self.piece = node, name, namespace, piece
        self.identity = f"{next(node.numbers):064x}"
        self.folder = node.var / "pods" / f"{namespace}_{name}_uid" / "main"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.file = self.folder / f"{number}.log"
        self.file.touch()
        self.link = node.folder / f"{name}_{namespace}_main-{self.identity}.log"
        self.link.symlink_to(self.file)
        self.streams = {stream: Stream(self, stream) for stream in ("stdout", "stderr")}
        node.pods[f"/api/v1/namespaces/{namespace}/pods/{name}"] = self.pod("running", number=number)

    def pod(self, state: str, *, number: int = 0) -> dict:
        identity = f"containerd://{self.identity}"
        told = {"containerID": identity} if state == "terminated" else {}
        status = {"name": "main", "containerID": identity, "restartCount": number, "state": {state: told}}
        return {
            "metadata": {"name": self.name, "namespace": self.namespace, "uid": "u", "labels": {"app": "till"}},
            "spec": {"nodeName": "node-1", "containers": [{"name": "main"}]},
            "status": {"podIP": "10.1.2.3", "containerStatuses": [status]},
        }

    def add(self, stream: str, tag: str, text: bytes) -> None:
        number = next(self.node.numbers)
        with self.file.open("ab") as file:
            file.write(b"2026-11-27T12:00:00.%09dZ %s %s %s\n" % (number, stream.encode(), tag.encode(), text))

    def write(self, text: bytes, stream: str = "stdout") -> Log:
        self.streams[stream].write(text)
        return self

    def set_aside(self) -> None:
        self.file.rename(self.folder / f"{self.file.name}.20261127-{next(self.node.numbers):06d}")
        self.file.touch()

    def end(self) -> Log:
        """The container's process ends, and its status says so."""
        for stream in self.streams.values():
            stream.write(b"", end=True)
        self.node.pods[self.where] = self.pod("terminated")
        return self

    def remove(self) -> None:
        """The pod is deleted, its files too."""
        self.link.unlink()
        shutil.rmtree(self.folder)
        self.node.pods.pop(self.where, None)

    @property
    def where(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"


class Node:
    """A node's logs, an API server, a spool that takes blocks, and a clock that is moved by hand."""

    def __init__(self, folder: Path) -> None:
        self.var, self.folder, self.note = folder, folder / "containers", folder / "last_words.json"
        self.folder.mkdir()
        self.numbers = itertools.count(1)
        self.pods: dict[str, dict] = {}
        self.asked: list[str] = []
        self.taken: list[tuple[str, bytes]] = []
        self.now, self.full, self.away = 0.0, "", False
        self.begin()

    def begin(self) -> None:
        """A new process of the spool."""
        self.words = LastWords(
            self.folder,
            self.note,
            self.get,
            self.take,
            PATH,
            excluded=frozenset({"logging"}),
            clock=lambda: self.now,
        )

    def get(self, path: str) -> dict:
        self.asked.append(path)
        if self.away:
            raise urllib.error.URLError("no route")
        if path not in self.pods:
            raise urllib.error.HTTPError(path, 404, "Not Found", email.message.Message(), io.BytesIO())
        return self.pods[path]

    def take(self, path: str, body: bytes) -> str:
        if not self.full:
            self.taken.append((path, unpacked(body)))
        return self.full

    def look(self, times: int = 1, seconds: float = PERIOD) -> None:
        for _ in range(times):
            self.now += seconds
            self.words.look()

    def rows(self) -> list[dict[str, str]]:
        """What was handed on after all this time."""
        self.look(4, 2 * LATE)
        assert all(path == PATH for path, _ in self.taken)
        return [json.loads(lines) for _, lines in self.taken]

    def said(self) -> list[str]:
        return [row["_msg"] for row in self.rows()]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


TEXTS = st.lists(st.sampled_from([b"a", b"b\xc3\xa9", b"\xff", b" ", b"\n", b"word " * 3]), max_size=8).map(b"".join)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["stdout", "stderr"]), TEXTS),
        st.tuples(st.sampled_from(["look", "begin"]), st.none()),
    ),
    max_size=12,
)


@given(
    steps=STEPS,
    piece=st.sampled_from([4, 7, PIECE]),
    aside=st.integers(-1, 11),
    how=st.sampled_from(["lives", "ends", "goes"]),
)
def test_last_words_come_once_of_each_stream_that_has_ended_and_nothing_else_comes(steps, piece, aside, how) -> None:
    """Whatever was written, cut, set aside, looked at or begun anew on the way."""
    with tempfile.TemporaryDirectory() as folder:
        node = Node(Path(folder))
        log = Log(node, "till", piece=piece)
        written = {"stdout": b"", "stderr": b""}
        for number, (what, text) in enumerate(steps):
            if number == aside:
                log.set_aside()
            if text is None:
                node.begin() if what == "begin" else node.look()
            else:
                log.write(text, what)
                written[what] += text
        node.look(2)
        assert node.taken == [], "it lives"
        if how != "lives":
            log.end()
        if how == "goes":
            node.look()  # seen when it was written last, or before: it is not quiet yet
            log.remove()
        expected = [text.rpartition(b"\n")[2].decode(errors="replace") for text in written.values()]
        assert sorted(node.said()) == sorted(text for text in expected if text and how != "lives")
        before = len(node.taken)
        node.begin()
        assert len(node.rows()) == before, "handed on before"


def test_the_line_is_the_one_that_vlagent_would_have_made(node: Node) -> None:
    log = Log(node, "till")
    log.write(b"one\ntwo\nno line break").end()
    (row,) = node.rows()
    assert row.pop("_time").startswith("2026-11-27T12:00:00.0000")
    assert row == {
        "kubernetes.container_name": "main",
        "kubernetes.pod_name": "till",
        "kubernetes.pod_namespace": "shop",
        "kubernetes.container_id": f"containerd://{log.identity}",
        "kubernetes.pod_ip": "10.1.2.3",
        "kubernetes.pod_node_name": "node-1",
        "kubernetes.pod_labels.app": "till",
        "_msg": "no line break",
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            '{"message": "paid", "n": 1.50, "ok": true, "gone": null, "no": ""}',
            {"_msg": "paid", "n": "1.50", "ok": "true"},
        ),
        ('{"msg": "a", "log": "b"}', {"_msg": "a", "log": "b"}),
        ('{"a": {"b": {"c": 1e3}}, "d": [1, {"e": null}, "é"]}', {"a.b.c": "1e3", "d": '[1,{"e":null},"é"]'}),
        ('{"time": "2026-01-02T05:04:05.120+02:00", "x": "1"}', {"_time": "2026-01-02T03:04:05.12Z", "x": "1"}),
        ('{"time": "soon", "ts": "2026-01-02T03:04:05Z"}', {"time": "soon", "ts": "2026-01-02T03:04:05Z"}),
        ('{"_time": "2001-01-01T00:00:00Z", "_stream": "{}", "m": "x"}', {"m": "x"}),
        ('{"": "nameless"}', {"_msg": "nameless"}),
        ('{"a": {"%s": 1}}' % ("n" * 127), {"a": '{"%s":1}' % ("n" * 127)}),
        ('{"message": "half", "n": ', {"_msg": '{"message": "half", "n": '}),
        ('["no", "object"]', {"_msg": '["no", "object"]'}),
        ('{"a":' * 5000, {"_msg": '{"a":' * 5000}),
        ('{"n": %s}' % ("9" * 5000), {"n": "9" * 5000}),
    ],
)
def test_json_has_fields_of_its_own(node: Node, text: str, expected: dict[str, str]) -> None:
    Log(node, "till").write(text.encode()).end()
    (row,) = node.rows()
    if "_time" not in expected:
        assert row.pop("_time").startswith("2026-11-27T12:00:00.")
    if row["_msg"] == NO_MESSAGE:
        del row["_msg"]
    assert {name: value for name, value in row.items() if not name.startswith("kubernetes.")} == expected


def test_json_of_more_fields_than_a_line_may_have_comes_as_a_text(node: Node) -> None:
    text = json.dumps({f"field{number}": "x" for number in range(1000)})
    Log(node, "till").write(text.encode()).end()
    assert node.said() == [text]


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
        ("2026-01-02T03:04:05.100000000Z", "2026-01-02T03:04:05.1Z"),
        ("2026-01-02T01:04:05.000000001+02:00", "2026-01-01T23:04:05.000000001Z"),
        ("2026-01-02T03:04:05", "2026-01-02T03:04:05Z"),
        ("2026-13-02T03:04:05Z", ""),
        ("0001-01-01T00:00:00+02:00", ""),
        ("1969-12-31T23:59:59Z", ""),
        ("yesterday", ""),
    ],
)
def test_times_are_in_utc_as_vlagent_has_them(stamp: str, expected: str) -> None:
    assert last_words.utc(stamp) == expected


@pytest.mark.parametrize("pieces", [1, 2, 3])
def test_words_of_exactly_whole_pieces_are_told_from_a_line_that_goes_on(node: Node, pieces: int) -> None:
    words = b"y" * (pieces * PIECE)
    log = Log(node, "till").write(b"before\n" + words)
    node.look(5)
    assert node.taken == []
    log.end()
    assert log.file.read_bytes().count(b" P ") == pieces
    assert node.said() == [words.decode()]


def test_what_has_no_line_break_yet_is_left_alone_on_nodes_that_write_it_at_once(node: Node) -> None:
    """CRI-O's conmon tags it P, whatever its length, and puts an empty F behind it in the end."""
    log = Log(node, "dots")
    for _ in range(3):
        log.add("stdout", "P", b".")
        node.look(3)
    assert node.said() == []
    log.add("stdout", "F", b"")
    log.end()
    assert node.said() == []


def test_on_embedded_nodes_nothing_is_left_to_do(node: Node) -> None:
    log, lines = Log(node, "till"), log_format.Lines(1)
    when = log_format.stamp(1_800_000_000_000_000_000)
    log.file.write_bytes(lines.take(b"x" * 700_000 + b"\nno line break", when) + lines.end(when))
    log.end()
    assert node.said() == []
    assert LONGEST == log_format.LONGEST


def test_a_pod_is_asked_for_once_and_ever_less_often_while_a_line_goes_on(node: Node) -> None:
    log = Log(node, "till").write(b"quick\n")
    node.look(50)
    assert len(node.asked) == 1
    log.write(b"z" * 3 * PIECE)
    node.look(300)
    assert 5 < len(node.asked) < 20 and node.taken == []


def test_a_pod_that_was_deleted_takes_its_files_along_and_not_its_words(node: Node) -> None:
    log = Log(node, "till").write(b"hello\n")
    node.look()
    log.write(b"no line break").end()
    log.remove()
    (row,) = node.rows()
    assert row["_msg"] == "no line break" and row["kubernetes.pod_labels.app"] == "till"
    assert row["kubernetes.container_id"] == f"containerd://{log.identity}" and row["kubernetes.pod_ip"] == "10.1.2.3"


def test_of_a_pod_that_nobody_knows_any_more_the_name_of_the_file_tells(node: Node) -> None:
    log = Log(node, "till").write(b"no line break").end()
    del node.pods[log.where]
    (row,) = node.rows()
    assert row["kubernetes.pod_name"] == "till" and row["kubernetes.container_id"] == log.identity


def test_another_pod_of_the_same_name_lends_no_labels(node: Node) -> None:
    log = Log(node, "db-0").write(b"hello\n")
    node.look()
    log.write(b"no line break").end()
    other = Log(node, "db-0")
    node.pods[other.where]["metadata"] |= {"uid": "another", "labels": {"app": "other"}}
    node.look(3)
    assert node.taken == [], "as far as is known it lives"
    log.link.unlink()
    (row,) = node.rows()
    assert row["kubernetes.pod_labels.app"] == "till" and row["kubernetes.container_id"].endswith(log.identity)


@pytest.mark.parametrize("known", [True, False])
def test_words_of_a_container_that_was_started_again_come(node: Node, known: bool) -> None:
    first = Log(node, "till").write(b"crashed").end()
    second = Log(node, "till", number=1)
    (status,) = node.pods[second.where]["status"]["containerStatuses"]
    if known:
        status["lastState"] = {"terminated": {"containerID": f"containerd://{first.identity}"}}
    assert node.said() == ["crashed"]


def test_a_container_of_which_the_status_does_not_know_yet_lives(node: Node) -> None:
    """The kubelet tells of a container that was started again a moment after it has begun to write."""
    Log(node, "till")
    before = node.pods["/api/v1/namespaces/shop/pods/till"]
    Log(node, "till", number=1).add("stdout", "P", b"x" * PIECE)
    node.pods["/api/v1/namespaces/shop/pods/till"] = before
    assert node.said() == []


def test_what_vlagent_leaves_out_is_left_out_here(node: Node) -> None:
    Log(node, "store", namespace="logging").write(b"an echo").end()
    debugger = Log(node, "till").write(b"of kubectl debug").end()
    node.pods[debugger.where]["spec"]["containers"] = [{"name": "another"}]
    node.look(3)
    debugger.remove()
    assert node.said() == []
    assert node.asked == [debugger.where]


def test_bytes_that_are_no_text_come_as_elsewhere(node: Node) -> None:
    Log(node, "till").write(b"bytes \x00\x07\x80\xff \xe2\x82 end\r").end()
    assert node.said() == ["bytes \x00\x07\ufffd\ufffd \ufffd end\r"]


def test_long_words_come_in_lines_that_a_store_takes_with_no_character_cut(node: Node) -> None:
    text = "é" * (3 * LONGEST // 4) + "x"
    Log(node, "till").write(b"before\n" + text.encode()).end()
    said = node.said()
    assert "".join(said) == text and [len(one.encode()) for one in said[:-1]] == [LONGEST]
    assert all(len(lines) < 3 << 20 for _, lines in node.taken)


def test_of_words_without_end_the_last_come(node: Node) -> None:
    Log(node, "till").write(b"a" * (2 * BACK) + b"end").end()
    said = "".join(node.said())
    assert said.endswith("aaaend") and BACK - 2 * PIECE < len(said) < BACK


def test_of_words_without_end_none_from_a_file_that_was_set_aside_are_put_before_the_last(node: Node) -> None:
    log = Log(node, "till").write(b"b" * 3 * PIECE)
    log.set_aside()
    log.write(b"a" * (2 * BACK) + b"end").end()
    said = "".join(node.said())
    assert set(said) == set("aend") and len(said) < BACK


def test_words_in_one_long_entry_are_found_where_a_runtime_cuts_no_lines(node: Node) -> None:
    log = Log(node, "till", piece=1 << 30).write(b"before\n" + b"z" * 3 * QUICK).end()
    assert log.file.read_bytes().count(b" P ") == 1
    assert node.said() == ["z" * 3 * QUICK]


def test_both_streams_are_found_at_the_end_of_a_long_log(node: Node) -> None:
    log = Log(node, "till").write(b"line of many\n" * 20_000).write(b"other\n" * 1000, "stderr")
    log.write(b"half out").write(b"e" * 40_000 + b"half err", "stderr").end()
    assert log.file.stat().st_size > QUICK
    assert sorted(node.said()) == ["e" * 40_000 + "half err", "half out"]


def test_a_stream_that_ended_long_before_the_other_is_found_when_the_log_goes(node: Node) -> None:
    log = Log(node, "till")
    log.streams["stdout"].write(b"closed early", end=True)
    log.write(b"of the other\n" * 20_000, "stderr").end()
    assert node.said() == []
    log.remove()
    assert node.said() == ["closed early"]


def test_a_spool_without_room_is_asked_again(node: Node, capfd: pytest.CaptureFixture[str]) -> None:
    node.full = "the spool is full"
    stays, goes = Log(node, "stays").write(b"a").end(), Log(node, "goes").write(b"b").end()
    node.look(2)
    goes.remove()
    node.look(5, LATE)
    assert node.taken == [] and stays.link.exists()
    node.full = ""
    assert sorted(node.said()) == ["a", "b"]
    assert capfd.readouterr().err.count("last words wait") == 1


def test_an_api_server_that_is_away_is_waited_for_and_not_asked_for_each_log(node: Node) -> None:
    node.away = True
    for number in range(20):
        Log(node, f"till-{number}").write(b"%d" % number).end()
    node.look(10)
    assert node.taken == [] and len(node.asked) <= 3
    node.away = False
    assert sorted(node.said()) == sorted(map(str, range(20)))


def test_while_the_api_server_is_away_a_log_that_goes_tells_what_it_can(node: Node) -> None:
    log = Log(node, "till").write(b"no line break")
    node.look()
    node.away = True
    log.end().remove()
    assert [row["kubernetes.pod_labels.app"] for row in node.rows()] == ["till"]


def test_faulty_logs_keep_nothing_from_those_of_others(node: Node, capfd: pytest.CaptureFixture[str]) -> None:
    for name, target in (
        ("folder", node.var),
        ("loop", node.folder / f"loop_shop_main-{1:064x}.log"),
        ("away", Path("/no/where")),
    ):
        (node.folder / f"{name}_shop_main-{1:064x}.log").symlink_to(target)
    os.mkfifo(node.folder / f"pipe_shop_main-{1:064x}.log")
    (node.folder / "no name of a log.log").write_text("x")
    odd = Log(node, "odd")
    odd.file.write_bytes(
        b"\n\x00\xff no entry\n2026-11-27T12:00:00Z stdout P found\n2026-11-27T12:00:00Z stdout P cut of"
    )
    odd.end()
    node.look(5)
    (node.folder / f"pipe_shop_main-{1:064x}.log").unlink()
    assert node.said() == ["found"]
    told = capfd.readouterr().err
    assert told.count("last words of folder_shop") == told.count("last words of pipe_shop") == 1


def test_a_log_that_vanishes_in_the_middle_is_none(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(node, "till").write(b"no line break").end()
    other = Log(node, "other").write(b"of another").end()
    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        node.look(3)
        log.remove()
        node.look()
    assert node.said() == ["of another"] and other.link.exists()


@pytest.mark.parametrize("note", [b"", b"[]", b'{"a": 1}', b"\xff", b'{"a": {"b":'])
def test_a_note_that_cannot_be_read_is_none(node: Node, note: bytes) -> None:
    node.note.write_bytes(note)
    node.begin()
    Log(node, "till").write(b"no line break").end()
    assert node.said() == ["no line break"]


def test_without_room_for_the_note_words_come_once_as_long_as_the_spool_lives(node: Node) -> None:
    node.note.with_suffix(".half").mkdir()
    Log(node, "till").write(b"no line break").end()
    assert node.said() == ["no line break"]
    node.note.with_suffix(".half").rmdir()
    node.look()
    node.begin()
    assert node.said() == ["no line break"]


def test_the_note_forgets_logs_that_are_gone(node: Node) -> None:
    log = Log(node, "till").write(b"no line break").end()
    node.rows()
    assert list(json.loads(node.note.read_bytes())) == [log.link.name]
    log.remove()
    node.look(2)
    assert json.loads(node.note.read_bytes()) == {}


def test_files_are_not_kept_open_without_end(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_words, "HELD", 3)
    assert HELD < 1024, "as many as a process may well have"
    logs = [Log(node, f"till-{number}") for number in range(10)]
    before = len(list(Path("/proc/self/fd").iterdir()))
    node.look(3)
    assert len(list(Path("/proc/self/fd").iterdir())) == before + 3
    for log in logs:
        log.write(b"x" * (PIECE + 1)).set_aside()
        log.write(b"y").end()
    assert node.said() == ["x" * (PIECE + 1) + "y"] * 10
    for log in logs:
        log.remove()
    node.look(2)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_nothing_ends_the_looking() -> None:
    looks = itertools.count()
    ended = threading.Event()

    class Faulty:
        def look(self) -> None:
            if next(looks) % 2:
                raise RuntimeError("faulty")

    made = iter([OSError("no certificate"), Faulty()])

    def make() -> Faulty:
        found = next(made)
        if isinstance(found, Exception):
            raise found
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(last_words, "PERIOD", 0.001)
        thread = threading.Thread(target=last_words.follow, args=(make, ended))
        thread.start()
        try:
            until(lambda: next(looks) > 20, "looking on", timeout=60)
        finally:
            ended.set()
            thread.join()


class Store:
    """A store that takes everything."""

    texts = 0
    lags = False

    def __init__(self) -> None:
        self.taken: list[tuple[str, bytes]] = []

    def process(self) -> str:
        return "1"

    def send(self, path: str, body: bytes) -> bool:
        self.taken.append((path, unpacked(body)))
        return True


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A service account, and an API server that does not answer."""
    home = tmp_path / "account"
    home.mkdir()
    (home / "namespace").write_text("logging\n")
    monkeypatch.setattr(in_cluster, "ACCOUNT", home)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")
    yield


def test_the_spool_keeps_them_and_hands_them_on_like_all_else(tmp_path: Path, account: None) -> None:
    node, store = Node(tmp_path), Store()
    blocks = Blocks(tmp_path / "blocks", 1 << 20)
    there = Spool(blocks, Sender(blocks, store, 60.0), Checkpoints(*(tmp_path / name for name in "abc")))
    words = spool.words_of(node.folder, tmp_path, there, PATH)
    log = Log(node, "till").write(b"no line break").end()
    Log(node, "store", namespace="logging").write(b"an echo").end().link.unlink()
    words.look()
    log.remove()
    words.look()
    assert len(blocks.names()) == 1
    there.round()
    ((path, lines),) = store.taken
    assert path == PATH and json.loads(lines)["_msg"] == "no line break"


@pytest.mark.parametrize("name", ["logging", "opensearch"])
def test_the_spool_is_told_what_its_shipper_is_told(name: str) -> None:
    (daemons,) = (one for one in objects(find(name), own=True) if one["kind"] == "DaemonSet")
    shipper, beside = daemons["spec"]["template"]["spec"]["containers"]
    told = dict(word.split("=", 1) for word in shipper["args"] if "=" in word)
    environment = {one["name"]: one["value"] for one in beside["env"]}
    assert told["-remoteWrite.url"] == f"http://127.0.0.1:{spool.PORT}{environment['LINES']}"
    assert told["-kubernetesCollector.logsPath"] == environment["LOGS"]
    assert told["-kubernetesCollector.excludeFilter"] == f"kubernetes.pod_namespace:={find(name).namespace}"
    (logs,) = (one for one in beside["volumeMounts"] if one["name"] == "logs")
    assert logs in shipper["volumeMounts"] and logs["readOnly"] is True
    capabilities = beside["securityContext"]["capabilities"]
    assert capabilities == shipper["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["DAC_READ_SEARCH"]}
    assert {"in_cluster", "last_words", "spool"} <= set(find(name).programs)
