from __future__ import annotations

import json
import multiprocessing
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from podlab.errors import DockerfileError, ImageError
from podlab.images.build import Step, build
from podlab.images.image import architecture
from podlab.images.layout import ImageLayout
from podlab.images.pull import Images, RunnableImage
from podlab.images.reference import Reference

_DESCRIPTOR = {
    "type": "object",
    "required": ["mediaType", "digest", "size"],
    "properties": {
        "mediaType": {"type": "string", "pattern": r"^application/vnd\.oci\.image\."},
        "digest": {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"},
        "size": {"type": "integer", "minimum": 0},
    },
}
#: What the OCI image specification 1.1 asks of each document.
INDEX = {
    "type": "object",
    "required": ["schemaVersion", "manifests"],
    "properties": {
        "schemaVersion": {"const": 2},
        "mediaType": {"const": "application/vnd.oci.image.index.v1+json"},
        "manifests": {"type": "array", "items": _DESCRIPTOR},
    },
}
MANIFEST = {
    "type": "object",
    "required": ["schemaVersion", "config", "layers"],
    "additionalProperties": False,
    "properties": {
        "schemaVersion": {"const": 2},
        "mediaType": {"const": "application/vnd.oci.image.manifest.v1+json"},
        "config": _DESCRIPTOR,
        "layers": {"type": "array", "minItems": 1, "items": _DESCRIPTOR},
    },
}
_STRINGS = {"type": "array", "items": {"type": "string"}}
CONFIG = {
    "type": "object",
    "required": ["architecture", "os", "rootfs"],
    "properties": {
        "created": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"},
        "architecture": {"const": architecture()},
        "os": {"const": "linux"},
        "config": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "User": {"type": "string"},
                "ExposedPorts": {"type": "object", "propertyNames": {"pattern": r"^\d+/(tcp|udp|sctp)$"}},
                "Env": {"type": "array", "items": {"type": "string", "pattern": "="}},
                "Entrypoint": _STRINGS,
                "Cmd": _STRINGS,
                "WorkingDir": {"type": "string", "pattern": "^/"},
                "Labels": {"type": "object", "additionalProperties": {"type": "string"}},
            },
        },
        "rootfs": {
            "type": "object",
            "required": ["type", "diff_ids"],
            "properties": {"type": {"const": "layers"}, "diff_ids": _STRINGS},
        },
        "history": {"type": "array", "items": {"type": "object"}},
    },
}

FULL = """\
FROM podlab/python:3
LABEL maintainer="some one" version=1
ENV MODE=dev APP=/srv/app
WORKDIR $APP
COPY app.py .
COPY data /srv/data
EXPOSE 8080 9000-9001/udp
USER 1000
ENTRYPOINT ["python"]
CMD ["app.py"]
"""


@pytest.fixture
def files(context: Path) -> Path:
    (context / "app.py").write_text("print('hello')\n")
    (context / "data" / "deep").mkdir(parents=True)
    (context / "data" / "deep" / "one").write_text("1")
    (context / "data" / "two").write_text("2")
    (context / "data" / "link").symlink_to("two")
    return context


def _document(layout: ImageLayout, digest: str) -> Any:
    return json.loads((layout.folder / "blobs" / digest.replace(":", "/")).read_bytes())


@pytest.fixture
def run(layout: ImageLayout, make: Callable) -> Callable[[str], RunnableImage]:
    """Build from a Dockerfile and resolve as a node does."""

    def call(text: str) -> RunnableImage:
        make(text)
        return Images(layout.folder).resolve("test/image:1", "Never")

    return call


def test_the_result_is_an_oci_image(layout: ImageLayout, make: Callable, files: Path) -> None:
    built = make(FULL)
    index = json.loads((layout.folder / "index.json").read_text())
    jsonschema.validate(index, INDEX)
    names = {entry["annotations"]["org.opencontainers.image.ref.name"]: entry for entry in index["manifests"]}
    entry = names["docker.io/test/image:1"]
    assert entry["digest"] == built.digest
    manifest = _document(layout, built.digest)
    jsonschema.validate(manifest, MANIFEST)
    config = _document(layout, manifest["config"]["digest"])
    jsonschema.validate(config, CONFIG)
    for part in (entry, manifest["config"], *manifest["layers"]):
        assert layout.blob_path(part["digest"]).stat().st_size == part["size"]
        layout.read_blob(part["digest"])
    layered = [event for event in config["history"] if not event.get("empty_layer")]
    assert len(layered) == len(manifest["layers"]) == len(config["rootfs"]["diff_ids"])
    assert [event["created_by"] for event in config["history"][1:]] == FULL.splitlines()[1:]


def test_the_settings_are_what_the_dockerfile_says(run: Callable, files: Path) -> None:
    image = run(FULL)
    assert image.config.entrypoint == ("python",)
    assert image.config.command == ("app.py",)
    assert image.config.working_directory == "/srv/app"
    assert image.config.environment["MODE"] == "dev"
    assert image.config.environment["PATH"].startswith("/opt/podlab/bin:")
    assert image.config.exposed_ports == ("8080/tcp", "9000/udp", "9001/udp")
    assert image.config.user == "1000"
    assert image.config.labels["maintainer"] == "some one"
    assert image.identity().uid == 1000
    assert "/usr" in image.root.host_paths


def test_the_files_are_where_copy_puts_them(run: Callable, files: Path) -> None:
    root = run(FULL).folder
    assert (root / "srv/app/app.py").read_text() == "print('hello')\n"
    assert (root / "srv/data/deep/one").read_text() == "1"
    assert str((root / "srv/data/link").readlink()) == "two"
    assert (root / "etc/passwd").exists()


def test_the_same_input_gives_the_same_digests(make: Callable, files: Path, tmp_path: Path) -> None:
    first = make(FULL)
    for path in files.rglob("*"):
        os.utime(path, (1, 1), follow_symlinks=False)
    other = ImageLayout(tmp_path / "other")
    second = build(other, files, [Reference.parse("another/name:2")])
    assert (first.digest, first.id) == (second.digest, second.id)


@pytest.mark.parametrize("change", ["content", "mode", "name", "instruction"])
def test_another_input_gives_another_digest(make: Callable, files: Path, change: str) -> None:
    first = make(FULL).digest
    text = FULL
    if change == "content":
        (files / "app.py").write_text("print('hallo')\n")
    elif change == "mode":
        (files / "app.py").chmod(0o755)
    elif change == "name":
        (files / "data" / "two").rename(files / "data" / "three")
    else:
        text = FULL.replace("dev", "production")
    assert make(text).digest != first


def test_unchanged_layers_come_from_the_store(layout: ImageLayout, context: Path, files: Path) -> None:
    (context / "Dockerfile").write_text(FULL)
    seen: list[Step] = []
    build(layout, context, [Reference.parse("a:1")], progress=seen.append)
    assert not any(step.cached for step in seen if step.size)
    (files / "data" / "two").write_text("changed")
    again: list[Step] = []
    build(layout, context, [Reference.parse("a:1")], progress=again.append)
    assert [step.cached for step in again if step.size] == [True, True, False]
    assert [step.number for step in again] == list(range(1, 11))


@pytest.mark.parametrize(
    ("copy", "where"),
    [
        ("COPY app.py /x", "x"),
        ("COPY app.py /x/", "x/app.py"),
        ("COPY app.py /tmp", "tmp/app.py"),
        ("COPY app.py .", "w/app.py"),
        ("COPY app.py sub/renamed", "w/sub/renamed"),
        ("COPY app.py data/two /many/", "many/two"),
        ("COPY data /d", "d/deep/one"),
        ("COPY data/ d", "w/d/deep/one"),
        ("COPY . /all", "all/data/two"),
        ("COPY d*a/t* /wild/", "wild/two"),
        ("COPY app.py /var/run/x/", "run/x/app.py"),
        ('COPY ["app.py", "/a b/"]', "a b/app.py"),
    ],
)
def test_copy_destinations(run: Callable, files: Path, copy: str, where: str) -> None:
    root = run(f"FROM podlab/toolbox\nWORKDIR /w\n{copy}\n").folder
    assert (root / where).is_file()


def test_copy_takes_owner_and_mode(run: Callable, files: Path) -> None:
    image = run("FROM podlab/toolbox\nCOPY --chown=user --chmod=750 app.py /new/x\nCOPY --chown=7:8 data /d\n")
    assert (image.folder / "new/x").stat().st_mode & 0o7777 == 0o750
    from podlab.images.unpack import recorded

    owners = recorded(image.folder).owners
    if os.geteuid() == 0 and not owners:
        owners = {name: ((s := (image.folder / name).stat()).st_uid, s.st_gid) for name in ("new/x", "new", "d/two")}
    assert (owners["new"], owners["new/x"], owners["d/two"]) == ((1000, 1000), (1000, 1000), (7, 8))


def test_entrypoint_drops_the_command_of_the_base(run: Callable) -> None:
    assert run('FROM podlab/python:3\nENTRYPOINT ["python"]\n').config.command == ()
    both = run('FROM podlab/python:3\nCMD ["x"]\nENTRYPOINT ["python"]\n').config
    assert (both.entrypoint, both.command) == (("python",), ("x",))


def test_variables_come_from_the_instructions_before(run: Callable) -> None:
    image = run('FROM scratch\nENV A=hello\nENV A=bye B=$A C="$A you"\nWORKDIR /$B\nWORKDIR x\nENV D=\\$A')
    assert image.config.environment == {"A": "bye", "B": "hello", "C": "hello you", "D": "$A"}
    assert image.config.working_directory == "/hello/x"


def test_an_image_can_stand_on_a_built_one(make: Callable, run: Callable, files: Path) -> None:
    make(FULL, "base:1")
    image = run('FROM base:1\nCOPY app.py /srv/app/second.py\nCMD ["second.py"]\n')
    assert (image.folder / "srv/app/app.py").exists()
    assert (image.folder / "srv/app/second.py").exists()
    assert image.config.entrypoint == ("python",)
    assert image.config.command == ("second.py",)
    assert "/usr" in image.root.host_paths


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("COPY missing /x", "no such file in the build context"),
        ("COPY ../secret /x", "outside the build context"),
        ("COPY app.py data/two /x", "must be a folder and end with '/'"),
        ("COPY app.py /usr/local/bin/x", "borrow read-only"),
        ("COPY app.py /bin/x", "borrow read-only"),
        ("COPY app.py /etc/passwd/x", "is no folder"),
        ("COPY --chmod=rwx app.py /x", "octal"),
        ("COPY --chown=whoever app.py /x", "'whoever'"),
        ("COPY data/two /etc\nCOPY app.py /etc/two/", "is no folder"),
        ("EXPOSE 70000", "not a port"),
        ("EXPOSE http", "not a port"),
        ("USER whoever", "'whoever'"),
        ("LABEL dev.podlab.host-paths=[]", "podlab's own"),
        ("WORKDIR /etc/passwd", "a file of that name"),
        ("ENV A=${B", "not closed"),
    ],
)
def test_what_cannot_be_done_is_refused_by_line(
    layout: ImageLayout, make: Callable, files: Path, line: str, part: str
) -> None:
    (files.parent / "secret").write_text("secret")
    with pytest.raises(DockerfileError) as refused:
        make(f"FROM podlab/toolbox\nENV OK=1\n{line}\n")
    number = 3 + line.count("\n")
    assert f"line {number}: " in refused.value.message
    assert part in refused.value.message
    assert "docker.io/test/image:1" not in layout.images()


def test_an_unknown_base_names_the_line_and_the_nearest(make: Callable) -> None:
    with pytest.raises(DockerfileError) as refused:
        make("# comment\nFROM podlab/pyton:3\n")
    assert "line 2: FROM podlab/pyton:3" in refused.value.message
    assert "podlab/python:3" in refused.value.message


def test_special_files_are_refused(make: Callable, context: Path) -> None:
    os.mkfifo(context / "pipe")
    with pytest.raises(DockerfileError, match="neither a file nor a folder nor a link"):
        make("FROM scratch\nCOPY . /x\n")


@pytest.mark.parametrize("name", ["podlab/python:mine", "podlab/toolbox"])
def test_bundled_names_cannot_be_taken(make: Callable, name: str) -> None:
    with pytest.raises(ImageError, match="bundled"):
        make("FROM scratch\n", name)


def test_a_name_with_a_digest_cannot_be_given(make: Callable) -> None:
    with pytest.raises(ImageError, match="digest"):
        make("FROM scratch\n", f"x@sha256:{'0' * 64}")


def test_a_missing_dockerfile_or_folder_is_told(layout: ImageLayout, context: Path) -> None:
    with pytest.raises(ImageError, match="no Dockerfile"):
        build(layout, context, [Reference.parse("a")])
    with pytest.raises(ImageError, match="no folder"):
        build(layout, context / "nothing", [Reference.parse("a")])


def test_a_dockerfile_that_is_no_text_is_told(layout: ImageLayout, context: Path) -> None:
    (context / "Dockerfile").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ImageError, match="cannot be read"):
        build(layout, context, [Reference.parse("a")])


def _build_many(folder: str, context: str, worker: int, rounds: int) -> None:
    layout = ImageLayout(Path(folder))
    for number in range(rounds):
        build(layout, Path(context), [Reference.parse(f"common:{number}"), Reference.parse(f"w{worker}:{number}")])


def test_builds_at_the_same_time_do_not_harm_each_other(layout: ImageLayout, files: Path) -> None:
    (files / "Dockerfile").write_text(FULL)
    processes = multiprocessing.get_context("spawn")
    workers = [
        processes.Process(target=_build_many, args=(str(layout.folder), str(files), worker, 5)) for worker in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    images = {name: entry.digest for name, entry in layout.images().items() if "podlab" not in name}
    assert len(images) == 15
    assert len(set(images.values())) == 1
    for blob in layout.blobs():
        layout.read_blob(f"sha256:{blob.name}")
    assert list((layout.folder / "ingest").iterdir()) == []


def _die(step: Step) -> None:
    if step.text.startswith("EXPOSE"):
        os._exit(9)


def _build_and_die(folder: str, context: str) -> None:
    build(ImageLayout(Path(folder)), Path(context), [Reference.parse("test/image:1")], progress=_die)


def test_a_build_that_is_killed_changes_no_name(layout: ImageLayout, make: Callable, files: Path) -> None:
    before = make("FROM scratch\nENV A=1\n").digest
    (files / "Dockerfile").write_text(FULL)
    worker = multiprocessing.get_context("spawn").Process(target=_build_and_die, args=(str(layout.folder), str(files)))
    worker.start()
    worker.join(60)
    assert worker.exitcode == 9
    assert layout.images()["docker.io/test/image:1"].digest == before
    assert re.fullmatch("sha256:[0-9a-f]{64}", make(FULL).digest)
