"""A box of the grader: what is in it, what it may do, and that nothing of it stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from boxed_answers import open_house

from podlab import waiting
from podlab.checks.calls import MOST_FILE, Called
from podlab.course import outside
from podlab.grading.boxed import BoxedBench
from podlab.grading.house import Box, House
from podlab.node.runtime.sandbox import seccomp

pytestmark = pytest.mark.sandbox


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with open_house() as made:
        yield made


def says(house: House, program: str) -> dict:
    """What a Python program in a new box prints as JSON."""
    with house.box(["python3", "-c", program], {"/submission/x": "given"}) as box:
        exit_ = box.wait(60)
        text = box.output(100_000)
        assert exit_ is not None and exit_.status == 0, (exit_, text)
    return json.loads(text.splitlines()[-1])


def executed(box: Box, *argv: str) -> dict:
    """What a further program in a box prints as JSON."""
    reading, writing = os.pipe()
    with Path(os.devnull).open("r+b") as nothing, os.fdopen(reading) as output:
        box.execute(argv, (nothing.fileno(), writing, nothing.fileno()))
        os.close(writing)
        return json.loads(output.read())


_NAMESPACES = """
import json, os, time
print(json.dumps({name: os.readlink("/proc/self/ns/" + name) for name in os.listdir("/proc/self/ns")}), flush=True)
time.sleep(1000)
"""


def test_a_box_shares_no_namespace_with_the_grader_and_none_with_another_box(house: House) -> None:
    command = ["python3", "-c", _NAMESPACES]
    with house.box(command) as one, house.box(command) as other:
        texts = [
            waiting.until(lambda box=box: box.output(9_999), "what a box says", timeout=60) for box in (one, other)
        ]
    first, second = map(json.loads, texts)
    for kind in ("user", "mnt", "pid", "net", "ipc", "uts"):
        assert first[kind] != str(Path(f"/proc/self/ns/{kind}").readlink())
    for kind in ("mnt", "pid", "net", "ipc", "uts"):
        assert first[kind] != second[kind]


def test_a_box_is_nobody_without_privileges_and_knows_nothing_of_the_graders_environment(house: House) -> None:
    os.environ["PODLAB_TEST_SECRET"] = "x"
    program = (
        "import json, os\n"
        "status = dict(l.split(':', 1) for l in open('/proc/self/status') if ':' in l)\n"
        "print(json.dumps({'uid': os.getuid(), 'caps': status['CapEff'].strip(), 'new': status['NoNewPrivs'].strip(),"
        " 'filter': status['Seccomp'].strip(), 'environment': sorted(os.environ), 'pid': os.getpid()}))"
    )
    with house.box(["sleep", "60"]) as box:
        further = executed(box, "python3", "-c", program)
    first = says(house, program)
    assert first["pid"] == 1
    for found in (first, further):
        assert found["uid"] == 65534 and int(found["caps"], 16) == 0 and found["new"] == "1"
        assert found["filter"] == ("2" if seccomp.supported() else "0"), "the filter of system calls"
        assert "PODLAB_TEST_SECRET" not in found["environment"]
        assert "KUBECONFIG" not in found["environment"]


def test_the_only_place_to_write_is_a_small_tmpfs_that_is_empty_for_the_next(house: House) -> None:
    program = (
        "import json, os\n"
        "def write(path):\n"
        "    try:\n"
        "        with open(path, 'w') as file: file.write('x')\n"
        "        return True\n"
        "    except OSError: return False\n"
        "seen = os.listdir('/tmp') + os.listdir('/dev/shm')\n"
        "places = {p: write(p + '/probe') for p in ('/', '/etc', '/usr', '/opt/course', '/submission', '/dev', '/proc',"
        " '/sys', '/root', '/var/tmp', '/run', '/home', '/tmp', '/dev/shm')}\n"
        "size = os.statvfs('/tmp').f_blocks * os.statvfs('/tmp').f_frsize\n"
        "print(json.dumps({'seen': seen, 'places': places, 'size': size}))"
    )
    for _ in range(2):
        found = says(house, program)
        assert found["seen"] == []
        assert {place for place, may in found["places"].items() if may} == {"/tmp", "/dev/shm"}
        assert found["size"] == house.bounds.disk


def test_neither_the_course_nor_the_checks_of_the_grader_can_be_seen(house: House) -> None:
    there = [
        str(Path(__file__).resolve()),
        "/opt/course/podlab/grading/worker.py",
        f"{Path.home()}/.local",
        "/opt/course/podlab/checks/contract.py",
    ]
    found = says(house, f"import json, os\nprint(json.dumps([os.path.exists(path) for path in {there!r}]))")
    assert found == [False, False, False, True]


def test_there_is_nobody_in_its_network(house: House) -> None:
    found = says(
        house,
        "import json, socket\n"
        "def dial(where):\n"
        "    try:\n"
        "        socket.create_connection(where, 0.5).close()\n"
        "        return True\n"
        "    except OSError: return False\n"
        "print(json.dumps([dial(w) for w in (('127.0.0.1', 22), ('10.96.0.1', 443), ('172.18.0.1', 6443),"
        " ('169.254.169.254', 80), ('192.0.2.1', 80))]))",
    )
    assert found == [False] * 5


def test_the_learners_function_is_called_in_the_box_and_its_errors_are_words(house: House) -> None:
    with BoxedBench(house, seed=1) as bench:
        pid = bench.call(
            "import os\ndef f(): return [os.getpid(), os.getuid(), os.path.exists('/proc/1/root/home')]", "f"
        )
        assert pid.ok and pid.value[1] == 65534
        assert bench.call("def f(x): return x + 1", "f", 1).value == 2
        kinds = [
            bench.call(source, "f", seconds=2).kind
            for source in (
                "def f(): raise ValueError('no')",
                "import os\ndef f(): os._exit(3)",
                "def f():\n    while True: pass",
                "def f(): return {1, 2}",
                "import sys\ndef f(): print('x', file=sys.stderr); return 7",
            )
        ]
        assert kinds == ["raised", "ended", "late", "unfit", "value"]
        with bench.talk(
            "class C:\n    def __init__(self): self.n = 0\n    def add(self, k): self.n += k; return self.n"
        ) as talk:
            talk.make("C")
            assert [talk.ask("it.add", 2), talk.ask("it.add", 3)] == [2, 5]


_LEAVES_CHILDREN = """
import os, time
def f(what):
    if what == "end": os._exit(3)
    if what == "who": return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0: time.sleep(600)
            os._exit(0)
    return what
"""


def test_children_that_hold_the_pipe_are_not_waited_for_and_end_with_the_call(house: House) -> None:
    with BoxedBench(house, seed=1) as bench:
        left, ended = bench.call_each(_LEAVES_CHILDREN, "f", [["leave"], ["end"]], seconds=60)
        assert left.ok and ended.kind == "ended", ended
        # The box's first process, and the one that is asked.
        assert len(bench.call(_LEAVES_CHILDREN, "f", "who", seconds=60).value) == 2


_HOGS = """
import os
def f(word):
    if word == "hog":
        for _ in range(3):
            if os.fork() == 0:
                break
        held = []
        while True:
            held.append(b"x" * 10_000_000)
    return word
"""


def test_a_call_that_takes_its_box_along_fails_and_the_next_has_a_new_one(house: House) -> None:
    with BoxedBench(house, seed=1) as bench:
        assert bench.call(_HOGS, "f", "before").ok
        assert bench.call(_HOGS, "f", "hog", seconds=60).kind in ("ended", "raised")
        # Its end may still be on its way to the box's first process, and strike whoever is called meanwhile.
        waiting.until(lambda: bench.call(_HOGS, "f", "after").ok, "a call in a new box", timeout=60)


_WRITES_INTO_THE_LOG = """
import os
def f():
    try:
        log = os.open("/proc/1/fd/1", os.O_WRONLY)
    except OSError as error:
        return error.strerror
    for _ in range(500):
        os.write(log, b"x" * 65536)
    return "written"
"""


def test_a_called_function_leaves_nothing_in_the_log_of_its_box(house: House) -> None:
    with BoxedBench(house, seed=1) as bench:
        assert bench.call(_WRITES_INTO_THE_LOG, "f", seconds=60).ok
        there = {path: path.stat().st_size for path in house.folder.rglob("*") if path.is_file()}
        assert sum(there.values()) < 1_000_000, there


_KEEPS = """
import os
def f(): return os.path.exists("/tmp/kept") or open("/tmp/kept", "w").close()
"""


def test_afresh_nothing_is_left_of_what_ran_before(house: House) -> None:
    with BoxedBench(house, seed=1) as bench:
        assert [bench.call(_KEEPS, "f", seconds=60).value for _ in range(2)] == [None, True]
        bench.afresh()
        assert bench.call(_KEEPS, "f", seconds=60).value is None


_BOMB = """
import os, resource
def f(what):
    if what == "limits": return [resource.getrlimit(each)[0] for each in (resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE)]
    if what == "who": return sum(name.isdigit() for name in os.listdir("/proc"))
    while True:
        try: os.fork()
        except OSError: pass
"""


def test_a_fork_bomb_in_a_call_is_limited_and_gone_before_the_next_call(house: House) -> None:
    with BoxedBench(house, seed=1) as bench:
        assert bench.call(_BOMB, "f", "limits", seconds=60).value == [Box.processes, MOST_FILE]
        assert bench.call(_BOMB, "f", "bomb", seconds=2).kind in ("late", "ended")
        assert bench.call(_BOMB, "f", "who", seconds=60).value == 2


_LEAVES_MODULES = """
def f():
    open("/tmp/struct.py", "w").write("import builtins; builtins.FOUND = True")
"""
_FOUND = "\nimport builtins, struct\ndef found(): return hasattr(builtins, 'FOUND')"
_LOOKS_IN = """
import os, socket, sys
def f(address):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as witness:
        witness.connect(chr(0) + address)
        pid = int.from_bytes(witness.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], sys.byteorder)
    told = []
    for look in (lambda: open(f"/proc/{pid}/mem", "r+b"), lambda: os.listdir(f"/proc/{pid}/fd")):
        try: told.append(look())
        except OSError as error: told.append(error.strerror)
    return told
"""


def test_a_program_of_ours_takes_nothing_that_learners_have_left_and_is_not_looked_into(house: House) -> None:
    with BoxedBench(house, seed=1) as bench:
        assert bench.call(_LEAVES_MODULES, "f", seconds=60).ok
        assert bench.call(_FOUND, "found", seconds=60).value is True, "code of the learner's finds it"
        with bench.ours(outside.text("witness") + _FOUND, seconds=60) as witness:
            assert witness.ask("found") is False
            address = witness.ask("begin", {"seconds": [0.0], "patience": 1.0})
            assert bench.call(_LOOKS_IN, "f", address, seconds=60).value == ["Permission denied"] * 2
            assert witness.ask("seen")["lines"] == []


def test_whoever_is_talked_with_is_not_disturbed_by_the_end_of_a_call(house: House) -> None:
    with BoxedBench(house, seed=1) as bench, bench.talk(_LEAVES_CHILDREN, seconds=60) as talk:
        assert bench.call(_LEAVES_CHILDREN, "f", "leave", seconds=60).ok
        assert talk.call("f", "x").ok


def test_a_forged_reply_is_data_and_never_trouble_of_the_machine(house: House) -> None:
    source = """
import os
def f():
    for descriptor in range(1, 20):
        try:
            os.write(descriptor, b'[]\\n7\\n{"kind": {}}\\nnull\\n')
        except OSError:
            pass
    return 1
"""
    with BoxedBench(house, seed=1) as bench:
        called = bench.call(source, "f")
        assert isinstance(called, Called)


_GRADER = """
import sys
from pathlib import Path
from podlab import paths
from podlab.grading import kernel_image
from podlab.grading.house import House
from podlab.images.pull import Images
root = Images(paths.cache() / "images").resolve(kernel_image.build_image()).root
with House(root) as house, house.box(["python3", "-c", "import time; time.sleep(1000)"]):
    print(house.pid, flush=True)
    sys.stdin.read()
"""


def test_with_a_killed_grader_die_its_boxes(house: House) -> None:
    grader = subprocess.Popen([sys.executable, "-c", _GRADER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert grader.stdin is not None and grader.stdout is not None
    with grader:
        pid = int(grader.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        grader.kill()
    waiting.until(lambda: not _alive(pid), "the end of the house", timeout=60)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
