"""What a killed kernel has left of its calls is removed by the next one; what a living one uses, stays."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from podlab import waiting
from podlab.checks import calls, places

#: Calls something that never returns, in a process that says where and is killed there.
CALLING = """
from podlab.checks import calls

calls.call("def f():\\n    import os\\n    print(os.getcwd(), flush=True)\\n    while True: pass", "f", seconds=600)
"""


def killed_while_calling(folder: Path) -> None:
    environment = os.environ | {"TMPDIR": str(folder)}
    with subprocess.Popen([sys.executable, "-c", CALLING], env=environment) as process:
        waiting.until(lambda: list(folder.glob("podlab-call-*")), "the call", timeout=60, interval=0.02)
        process.kill()


def test_a_place_is_gone_after_its_block_and_those_of_the_dead_are_swept(tmp_path: Path) -> None:
    killed_while_calling(tmp_path)
    (left,) = tmp_path.glob("podlab-call-*")
    strange = tmp_path / "podlab-call-abcdefgh"
    strange.mkdir()
    used = Path(tempfile.mkdtemp(prefix=f"podlab-talk-{places.owners.own()}-", dir=tmp_path))
    assert places.sweep(tmp_path) == [left]
    assert not left.exists()
    assert used.is_dir() and strange.is_dir()


def test_a_call_leaves_no_place_behind() -> None:
    called = calls.call("import os\ndef f():\n    open('x', 'w').close()\n    return os.getcwd()", "f", seconds=60)
    assert "podlab-call-" in str(called.value)
    assert not Path(str(called.value)).exists()
