"""Containers in place of boxes, where a container runtime answers: what one may do, and that marks are the same."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from autograder.corpus import attacks, notebooks  # noqa: E402 - the corpus is no part of the package
from podlab import paths  # noqa: E402
from podlab.checks import owners  # noqa: E402
from podlab.cluster.kind import runtime  # noqa: E402
from podlab.doctor import facts  # noqa: E402
from podlab.errors import PodlabError  # noqa: E402
from podlab.grading import classes, kernel_image  # noqa: E402
from podlab.grading.boxed import BoxedBench  # noqa: E402
from podlab.grading.contained import LABEL, Containers, bury  # noqa: E402
from podlab.images.pull import Images  # noqa: E402

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

FEW = (
    *("honest", "exit-hard", "loop", "kill-all", "daemon", "memory", "fork-bomb", "prints", "look-above"),
    *("write-around", "network", "spy", "listen-in"),
    *("call-loop", "call-exit", "call-bomb", "call-memory", "call-kill", "call-daemon", "call-log", "talk-forge"),
)


@pytest.fixture(scope="module")
def house() -> Iterator[Containers]:
    try:
        found = runtime.find()
    except PodlabError as error:
        pytest.skip(f"no container runtime answers here: {error}")
    root = Images(paths.cache() / "images").resolve(kernel_image.build_image()).root
    with Containers(root, runtime=found) as made:
        yield made


_ABOUT = """
import json, os, socket
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
def write(path):
    try: open(path + "/probe", "w").close()
    except OSError: return False
    return True
places = ("/", "/etc", "/usr", "/opt/course", "/submission", "/proc", "/sys", "/root", "/var", "/var/tmp", "/run",
          "/home", "/dev", "/dev/shm", "/tmp")
print(json.dumps({
    "pid": os.getpid(), "user": os.getuid(), "capabilities": int(status["CapEff"], 16),
    "new": int(status["NoNewPrivs"]),
    "writable": [place for place in places if write(place)], "interfaces": [name for _, name in socket.if_nameindex()],
    "given": open("/submission/job.json").read(), "size": os.statvfs("/tmp").f_blocks * os.statvfs("/tmp").f_frsize,
    "environment": sorted(os.environ), "hidden": os.path.exists("/opt/course/podlab/grading/worker.py"),
}))
"""


def test_a_container_is_nobody_without_privileges_and_has_a_small_tmpfs_to_write_to(house: Containers) -> None:
    with house.box(["python3", "-c", _ABOUT], {"/submission/job.json": "given"}) as box:
        ended = box.wait(60)
        text = box.output(100_000)
    assert ended is not None and ended.status == 0, (ended, text)
    found = json.loads(text)
    assert (found["pid"], found["user"], found["capabilities"], found["new"]) == (1, 65534, 0, 1)
    assert (found["writable"], found["size"], found["given"]) == (["/dev/shm", "/tmp"], house.bounds.disk, "given")
    assert found["interfaces"] == ["lo"] and not found["hidden"]
    assert "KUBECONFIG" not in found["environment"] and "DOCKER_HOST" not in found["environment"]


def test_functions_are_called_in_it_and_whatever_they_do_ends_in_words(house: Containers) -> None:
    with BoxedBench(house, seed=1) as bench:
        assert bench.call("import os\ndef f(): return os.getuid()", "f", seconds=30).value == 65534
        kinds = [
            bench.call(source, "f", seconds=30 if kind != "late" else 2).kind
            for kind, source in (
                ("raised", "def f(): raise ValueError('no')"),
                ("ended", "import os\ndef f(): os._exit(3)"),
                ("late", "def f():\n    while True: pass"),
                ("late", "import os\ndef f():\n    while True:\n        try: os.fork()\n        except OSError: pass"),
                ("value", "import sys\ndef f(): print('x', file=sys.stderr); return 7"),
            )
        ]
        assert kinds == ["raised", "ended", "late", "late", "value"]
        count = "import os\ndef f(): return sum(name.isdigit() for name in os.listdir('/proc'))"
        assert bench.call(count, "f", seconds=30).value == 2, "what a call has left ends with it"
        with bench.talk("class C:\n    n = 0\n    def add(self, k): self.n += k; return self.n", seconds=30) as talk:
            talk.make("C")
            assert [talk.ask("it.add", 2), talk.ask("it.add", 3)] == [2, 5]


_GRADER = """
import sys
from podlab import paths
from podlab.grading import kernel_image
from podlab.grading.contained import Containers
from podlab.images.pull import Images
root = Images(paths.cache() / "images").resolve(kernel_image.build_image()).root
with Containers(root) as house, house.box(["sleep", "1000"], log=False) as box:
    print(box.name, flush=True)
    sys.stdin.read()
"""


def names(house: Containers) -> set[str]:
    """The containers of all graders of this machine, others' too."""
    return set(house.runtime.run("ps", "--all", "--filter", f"label={LABEL}", "--format", "{{.Names}}").split())


def test_what_a_killed_grader_has_left_goes_with_the_next(house: Containers) -> None:
    grader = subprocess.Popen([sys.executable, "-c", _GRADER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert grader.stdout is not None
    with grader:
        name = grader.stdout.readline().strip()
        grader.kill()
    with house.box(["sleep", "1000"], log=False) as mine:
        assert name in bury(house.runtime)
        assert name not in names(house) and mine.name in names(house)


def test_with_unsafe_the_same_marks_as_in_boxes(
    house: Containers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PODLAB_EXERCISES", "")  # set by the grader for its workers; restored afterwards
    monkeypatch.setattr(facts, "try_kernel", lambda _folder: {"user_namespace": "Operation not permitted"})
    few = tuple(each for each in attacks.ATTACKS if each.name in FEW)
    assert len(few) == len(FEW)
    attacks.write_all(tmp_path / "class", few)
    settings = classes.Settings(
        folder=tmp_path / "class",
        assignment=notebooks.NAME,
        out=tmp_path / "out",
        course=notebooks.write_course(tmp_path / "course"),
        cell_limit=10,
        notebook_limit=60,
        workers=2,
        unsafe=True,
    )
    said: list[str] = []
    before = names(house)
    graded = classes.grade_class(settings, lambda _step: None, said.append)
    assert any(f"containers of {house.runtime.name}" in line for line in said), said
    assert attacks.differences({record.learner: record for record in graded.records}, few) == []
    new = names(house) - before
    assert [name for name in new if owners.dead(name.split(".")[1])] == [], "its workers have left nothing"
