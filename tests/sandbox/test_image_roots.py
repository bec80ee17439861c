"""Bundled and built images in real containers, resolved where an agent resolves them: in the node's namespaces."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sandbox_room import Node

import podlab
from podlab import waiting
from podlab.images.prune import mounted_roots
from podlab.node.runtime.contract import RootFileSystem

pytestmark = [pytest.mark.sandbox, pytest.mark.namespaces("a root is made of mounts")]

_RESOLVE = """
import dataclasses, json, os, sys
from pathlib import Path
from podlab.images.build import build
from podlab.images.pull import Images
from podlab.images.reference import Reference
store, name, context = sys.argv[1:]
images = Images(Path(store))
if context:
    build(images.layout, Path(context), [Reference.parse(name)])
image = images.resolve(name)
print(json.dumps({"root": dataclasses.asdict(image.root), "config": dataclasses.asdict(image.config),
                  "identity": dataclasses.asdict(image.identity())}))
"""


class Resolved:
    """An image as a node got it; `settings` are the fields of a container spec that come from it."""

    def __init__(self, answer: dict) -> None:
        config, root = answer["config"], answer["root"]
        self.folder = Path(root["layers"][0])
        self.host_paths = root["host_paths"]
        self.command = [*config["entrypoint"], *config["command"]]
        self.uid = answer["identity"]["uid"]
        self.settings = {
            "root": RootFileSystem(**root),
            "environment": config["environment"],
            "working_directory": config["working_directory"],
        }


async def resolve(node: Node, python: str, name: str, context: str = "") -> Resolved:
    """Resolve (and with a context build) an image by a process in the node's namespaces, run by `python`."""
    log = node.folder / f"resolve-{name.replace('/', '-')}.log"
    copied = node.room.folder / "code"
    search = str(copied if node.room.user is not None else Path(podlab.__file__).parents[1])
    process = await node.runtime.spawn_agent(
        [python, "-c", _RESOLVE, str(node.folder / "images"), name, context],
        {"PYTHONPATH": search, "PATH": "/usr/bin:/bin", "HOME": str(node.folder / "home")},
        log,
    )
    exit_ = await process.wait()
    assert exit_.status == 0, log.read_text()
    return Resolved(json.loads(log.read_text().splitlines()[-1]))


@pytest.fixture
def home(node: Node) -> Path:
    """A home folder with secrets, a project, and a virtual environment in the project."""
    folder = node.folder / "home"
    (folder / "project").mkdir(parents=True)
    (folder / "secret").write_text("secret")
    (folder / "project" / "mine.py").write_text("")
    subprocess.run(
        [node.room.python, "-m", "venv", "--without-pip", str(folder / "project" / ".venv")], check=True, cwd="/"
    )
    (packages,) = (folder / "project" / ".venv" / "lib").glob("python3*/site-packages")
    (packages / "given").mkdir()
    (packages / "given" / "__init__.py").write_text("value = 42\n")
    (packages / "further.pth").write_text("import sys; sys.further = 7\n")
    (packages / "editable.pth").write_text(f"{folder / 'project'}\n")
    (packages / "__editable__.mine-1.pth").write_text("import sys; sys.costly = 1\n")
    node.room.own(folder)
    return folder


async def test_python_comes_with_the_packages_of_the_environment_and_nothing_else(node: Node, home: Path) -> None:
    image = await resolve(node, str(home / "project" / ".venv" / "bin" / "python"), "podlab/python:3")
    assert image.command == ["python3"]
    pod = await node.pod()
    program = """
import sys, importlib.util, json, ssl, sqlite3, subprocess, given
print(json.dumps({
    "prefix": sys.prefix, "value": given.value, "further": sys.further, "path": sys.path,
    "costly": hasattr(sys, "costly"),
    "editable": bool(importlib.util.find_spec("mine")), "podlab": bool(importlib.util.find_spec("podlab")),
    "shell": subprocess.check_output("echo $((6 * 7)) | awk '{print $1}'", shell=True, text=True),
}))
"""
    for name in ("python", "python3"):
        exit_, out = await node.run(pod, name, "-c", program, **image.settings)
        assert exit_.status == 0
        seen = json.loads(out)
        assert (seen["prefix"], seen["value"], seen["further"]) == ("/opt/podlab", 42, 7)
        assert (seen["editable"], seen["costly"], seen["podlab"], seen["shell"]) == (False, False, False, "42\n")
    there = await node.shell(pod, f"cd {home}; find . | grep -v '/lib/python'; id -u", **image.settings)
    assert there.split() == [".", "./project", "./project/.venv", "./project/.venv/lib", "0"]
    refused = await node.shell(
        pod, f"cd {home}/project/.venv/lib/python3*/site-packages; touch x /usr/x 2>&1 || true", **image.settings
    )
    assert refused.count("Read-only file system") == 2


async def test_an_interpreter_outside_usr_shows_only_itself(node: Node) -> None:
    """As pyenv, uv and conda have it, often within a home folder."""
    python, prefix = os.path.realpath(sys.executable), Path(sys.base_prefix).resolve()
    if node.room.user is not None or prefix.is_relative_to("/usr"):
        pytest.skip("needs a Python outside /usr that the room's user may run")
    image = await resolve(node, python, "podlab/python:3")
    assert str(prefix) in image.host_paths
    exit_, out = await node.run(
        await node.pod(), "python", "-c", "import sys, ssl; print(sys.base_prefix)", **image.settings
    )
    assert (exit_.status, out) == (0, f"{prefix}\n")
    listing = await node.shell(await node.pod(), f"ls -A {prefix.parent}", **image.settings)
    assert listing.split() == [prefix.name]


async def test_the_toolbox_has_a_shell_and_fetches(node: Node) -> None:
    image = await resolve(node, node.room.python, "podlab/toolbox")
    assert image.command == ["sh"]
    pod = await node.pod()
    settings = {**image.settings, "files": {"/etc/hosts": "127.0.0.1 localhost\n127.0.0.9 other\n"}}
    server = "import http.server as h; s = h.HTTPServer(('', 8080), h.SimpleHTTPRequestHandler); s.serve_forever()"
    serving = await node.start(pod, "/opt/podlab/libexec/python3", "-uc", f"print('on'); {server}", **settings)
    await node.says(serving, "on")
    script = """
        for try in 1 2 3 4 5 6 7 8 9; do fetch http://localhost:8080/etc/os-release && break; sleep 0.1; done
        lookup other; whoami; ls -ld /tmp /bin | cut -c1-10; fetch -t 1 http://localhost:1/ || echo $?
    """
    out = await node.shell(pod, script, **settings)
    assert 'NAME="podlab/toolbox"' in out
    assert out.splitlines()[3:] == ["127.0.0.9", "root", "lrwxrwxrwx", "drwxrwxrwt", "7"]


async def test_a_built_image_runs_as_its_dockerfile_says(node: Node) -> None:
    context = node.folder / "context"
    context.mkdir()
    (context / "app.py").write_text("import os\nprint(os.getcwd(), os.environ['MODE'], os.getuid(), *os.listdir())\n")
    (context / "Dockerfile").write_text(
        "FROM podlab/python:3\nENV MODE=lab\nWORKDIR /app\nCOPY app.py .\nUSER 1000\n"
        'ENTRYPOINT ["python"]\nCMD ["app.py"]\n'
    )
    node.room.own(context)
    image = await resolve(node, node.room.python, "shop/app:1", str(context))
    assert image.uid == 1000
    pod = await node.pod()
    exit_, out = await node.run(pod, *image.command, **image.settings, user=image.uid)
    assert (exit_.status, out) == (0, "/app lab 1000 app.py\n")
    await node.shell(pod, "rm /app/app.py; echo x > /app/new; rm -r /srv", **image.settings)
    assert (image.folder / "app" / "app.py").exists() and not (image.folder / "app" / "new").exists()
    assert (await node.run(pod, *image.command, **image.settings))[0].status == 0


async def test_a_root_is_seen_in_use_while_a_container_runs(node: Node) -> None:
    image = await resolve(node, node.room.python, "podlab/toolbox")
    container = await node.start(await node.pod(), "sleep", "60", **image.settings)
    assert image.folder.name in mounted_roots()
    await node.runtime.remove_container(container)
    waiting.until(lambda: image.folder.name not in mounted_roots(), "the root no longer in use", timeout=60)
