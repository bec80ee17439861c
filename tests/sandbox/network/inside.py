"""Run a test function in a process of its own in new user, network, mount and PID namespaces.

    @in_namespaces
    def test_something() -> None: ...

Needs no root; as root it is the same. The function may be a coroutine function; it gets no fixtures.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import inspect
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[3]
_UNSHARE = ("--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
_INSIDE = "PODLAB_TEST_INSIDE"


def in_namespaces(function: Callable[[], Any]) -> Callable[[], None]:
    """The test `function`, run inside; its output and its failure are shown as its own."""
    if os.environ.get(_INSIDE):
        return function

    @functools.wraps(function)
    def outside() -> None:
        unshare = shutil.which("unshare")
        assert unshare, "the unshare command (util-linux) is needed"
        where = Path(inspect.getfile(function))
        process = subprocess.run(
            [unshare, *_UNSHARE, sys.executable, str(Path(__file__)), str(where), function.__name__],
            env={**os.environ, _INSIDE: "1", "PYTHONPATH": f"{_ROOT}{os.pathsep}{where.parent}"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        sys.stdout.write(process.stdout)
        assert process.returncode == 0, f"{function.__name__} failed inside:\n{process.stderr[-6000:]}"

    # The wrapped function may be a coroutine function; this one is not.
    del outside.__wrapped__  # type: ignore[attr-defined]
    return outside


def _main(path: str, name: str) -> None:
    from _pytest.assertion import install_importhook
    from _pytest.config import get_config

    config = get_config(args=[path])
    config.parse([path, "-p", "no:randomly", "-p", "no:cacheprovider", "-c", str(_ROOT / "pyproject.toml")])
    install_importhook(config)
    specification = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert specification and specification.loader
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    function = getattr(module, name)
    if inspect.iscoroutinefunction(function):
        asyncio.run(function())
    else:
        function()


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2])
