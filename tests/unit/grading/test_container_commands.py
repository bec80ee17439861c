"""Containers in place of boxes: what the runtime is asked for, and what is said where none answers."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from podlab.checks import owners
from podlab.cluster.kind.runtime import Runtime
from podlab.errors import EnvironmentUnsuitable, RuntimeRefused
from podlab.grading import contained
from podlab.grading.contained import Containers, archive, bury
from podlab.grading.house import Bounds
from podlab.images.root import RootFileSystem

#: Writes down what it is asked for, and answers as Docker does where a container starts and says it is ready.
FAKE = """#!/bin/sh
printf '%s\\n' "$*" >>"$(dirname "$0")/asked"
case "$1" in
  image) exit 1 ;;
  import) cat >"$(dirname "$0")/imported"; echo sha256:abc ;;
  ps) printf '%s\\n' {left} ;;
  start) echo ready ;;
  inspect) echo false ;;
esac
"""


@pytest.fixture
def root(tmp_path: Path) -> RootFileSystem:
    layer = tmp_path / "layer"
    (layer / "opt" / "course").mkdir(parents=True)
    (layer / "opt" / "course" / "x.py").write_text("x = 1")
    borrowed = tmp_path / "borrowed"
    borrowed.mkdir()
    (borrowed / "file").write_text("")
    return RootFileSystem(
        (str(layer),), (str(borrowed), "/usr"), links={"/bin": "usr/bin"}, files={"/etc/passwd": "nobody:x:65534"}
    )


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "docker"
    program.write_text(FAKE.format(left=f"podlab-box.{owners.own()}.box1-a podlab-box.{_dead()}.box1-b somebodys.a.b"))
    program.chmod(0o755)
    return Runtime("docker", str(program))


def _dead() -> str:
    """The label of a process of this machine that is gone."""
    own = owners.own()
    assert own is not None
    return own.rpartition("-")[0] + "-1"


def asked(runtime: Runtime, verb: str) -> list[list[str]]:
    """What the runtime was asked for, of one kind."""
    lines = Path(runtime.path).with_name("asked").read_text().splitlines()
    return [line.split() for line in lines if line.split()[0] == verb]


def test_the_image_has_the_roots_own_files_and_a_place_for_each_that_is_bound(root: RootFileSystem) -> None:
    with tarfile.open(fileobj=io.BytesIO(archive(root))) as tar:
        found = {"/" + entry.name.removeprefix("./"): entry for entry in tar}
    assert found["/opt/course/x.py"].isfile() and found["/opt/course/x.py"].uid == 0
    assert found["/bin"].linkname == "usr/bin" and found["/etc/passwd"].size == len("nobody:x:65534")
    assert all(found[path].isdir() for path in (*root.host_paths, "/tmp", "/proc"))


def test_what_killed_graders_have_left_is_removed_and_nothing_else(
    root: RootFileSystem, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left = tmp_path / f"{contained.PREFIX}{_dead()}.x"
    left.mkdir()
    with Containers(root, runtime=runtime) as house:
        assert not left.exists() and house.folder.parent == tmp_path
        assert bury(runtime) == [f"podlab-box.{_dead()}.box1-b"]
        assert house.folder.exists()
    assert not house.folder.exists()
    assert {line[-1] for line in asked(runtime, "rm")} == {f"podlab-box.{_dead()}.box1-b"}


def test_a_container_may_do_nothing_and_no_registry_is_asked(root: RootFileSystem, runtime: Runtime) -> None:
    with Containers(root, runtime=runtime) as house:
        with house.box(["python3", "-c", "pass"], {"/submission/job.json": "{}"}) as box:
            ended = box.wait(60)
            assert ended is not None and (ended.status, box.output(100)) == (0, "ready\n")
        assert not list(house.folder.iterdir())
    (create,) = asked(runtime, "create")
    for option in (
        "--network=none --read-only --cap-drop=ALL --security-opt=no-new-privileges --user=65534:65534 "
        f"--memory={house.bounds.memory} --pids-limit=512 --mount=type=bind,src=/usr,dst=/usr,readonly"
    ).split():
        assert option in create, create
    assert create[-4:] == ["sha256:abc", "python3", "-c", "pass"]
    assert create[1].removeprefix("--name=") in asked(runtime, "rm")[-1]
    verbs = {line.split()[0] for line in Path(runtime.path).with_name("asked").read_text().splitlines()}
    assert not verbs & {"pull", "run", "build"}


@pytest.mark.parametrize("end", ["kill -9 $$", "exit 125", "exit 127"])
def test_the_end_of_the_runtimes_own_command_is_not_taken_for_the_boxes(
    root: RootFileSystem, runtime: Runtime, end: str
) -> None:
    program = Path(runtime.path)
    program.write_text(program.read_text().replace("echo ready", end))
    with Containers(root, runtime=runtime) as house, house.box(["true"]) as box:
        with pytest.raises(RuntimeRefused, match=r"`docker start podlab-box\..* has ended by itself"):
            box.wait(60)
        program.write_text(program.read_text().replace(end, "exit 137"))
        with house.box(["true"]) as other:
            ended = other.wait(60)
    assert ended is not None and (ended.status, ended.signal) == (137, 9), "these are the box's own"


@pytest.mark.parametrize(
    ("name", "writable"), [("docker", ["/tmp"]), ("podman", ["/dev/shm", "/tmp"]), ("nerdctl", ["/tmp"])]
)
def test_podman_is_asked_for_no_further_writable_folder(name: str, writable: list[str]) -> None:
    asked = contained.options(Runtime(name, name), Bounds(), {})
    assert [each.removeprefix("--tmpfs=").split(":")[0] for each in asked if each.startswith("--tmpfs=")] == writable
    assert ("--read-only-tmpfs=false" in asked) is (name == "podman"), "the others know no such option"


def test_a_folder_that_another_grader_has_just_removed_is_no_trouble(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = tmp_path / f"{contained.PREFIX}{_dead()}.x"
    folder.mkdir()

    def dead(label: str) -> bool:
        if folder.exists():
            folder.rmdir()
        return real(label)

    real = owners.dead
    monkeypatch.setattr(contained.owners, "dead", dead)
    assert bury(runtime) == [f"podlab-box.{_dead()}.box1-b"]


def test_where_no_container_can_be_had_it_is_said_and_code_runs_without(
    root: RootFileSystem, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contained.kernel_image, "build_image", lambda: "podlab/grading-kernel:x")
    monkeypatch.setattr(contained.Images, "resolve", lambda *_: type("Image", (), {"root": root}))
    monkeypatch.setattr(contained, "find", lambda: runtime)
    said: list[str] = []
    assert contained.offered(said.append) == "podlab/grading-kernel:x"
    assert "LESS SAFE" in said[-1] and "containers of docker" in said[-1]
    # Of another machine, it does not find there what is bound.
    Path(runtime.path).write_text(FAKE.format(left="").replace("echo ready", "echo No module named IPython"))
    assert contained.offered(said.append) == ""
    assert "NOT SAFE" in said[-1] and "do not see this machine's files" in said[-1]

    def none() -> Runtime:
        raise EnvironmentUnsuitable("docker cannot be used: it does not run.")

    def build() -> str:
        raise AssertionError("an image is built for nothing")

    monkeypatch.setattr(contained, "find", none)
    monkeypatch.setattr(contained.kernel_image, "build_image", build)
    assert contained.offered(said.append) == ""
    assert "NOT SAFE" in said[-1] and "it does not run" in said[-1]
