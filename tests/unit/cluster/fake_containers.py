"""A machine with a container runtime and a kind that keep their containers as files, and the API of such a cluster."""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from podlab.cluster.kind import runtime
from podlab.cluster.kind.provider import kind_name
from podlab.images.image import Image
from podlab.images.layout import ImageLayout

#: The nodes of the cluster k, for which such a machine's API server answers.
NODES = [f"{kind_name('k')}-{number}" for number in range(2)]
#: Does what podlab asks of docker, podman and nerdctl. Told to be `down`, it says so and does nothing.
_RUNTIME = """
import json, pathlib, sys
me = pathlib.Path(sys.argv[0])
state = me.parent.parent / me.name
arguments = sys.argv[1:]
with (state / "log").open("a") as log:
    log.write(" ".join(arguments) + "\\n")
if (state / "down").exists():
    sys.exit("Cannot connect to the Docker daemon at unix:///var/run/docker.sock.")
containers = {file.name: json.loads(file.read_text()) for file in (state / "containers").iterdir()}
match arguments:
    case ["info", *_] | ["network", "inspect", *_]:
        answer = state / arguments[0]
        sys.exit(f"no {answer.name}") if not answer.exists() else print(answer.read_text())
    case ["ps", "-aq", "--filter", wanted]:
        key, value = wanted.removeprefix("label=").split("=")
        print(*(id for id, one in containers.items() if one["Config"]["Labels"].get(key) == value), sep="\\n")
    case ["inspect", *ids]:
        print(json.dumps([containers[id] for id in ids]))
    case ["rm", "--force", "--volumes", *ids]:
        for id in ids:
            (state / "containers" / id).unlink()
    case ["volume", "ls", *_]:
        print(*(file.name for file in (state / "volumes").iterdir()), sep="\\n")
    case ["volume", "rm", *names]:
        for name in names:
            (state / "volumes" / name).unlink()
    case ["stop", "--time", _, name]:
        for id, one in containers.items():
            if one["Name"] == name:
                one["State"]["Running"] = False
                (state / "containers" / id).write_text(json.dumps(one))
    case ["image", "inspect", "--format", what, name]:
        answer = state / ("architecture" if "Architecture" in what else "labels")
        if answer.exists():
            print(answer.read_text())
        else:
            sys.exit(f"no such image: {name}")
    case ["exec", node, "ctr", "--namespace=k8s.io", "images", "ls", wanted]:
        print("REF TYPE DIGEST SIZE PLATFORMS LABELS")
        name, known = wanted.removeprefix("name=="), state / "known" / node
        if known.exists():
            print(name, "application/vnd.oci.image.manifest.v1+json", known.read_text(), "1 MiB linux/amd64 -")
    case ["exec", _, "ctr", "--namespace=k8s.io", "content", "get", digest]:
        print((state / "content" / digest).read_text())
    case ["save", *words]:
        pathlib.Path(words[words.index("--output") + 1]).write_text("images")
    case ["start", name] if (state / "taken").exists():
        sys.exit(f"Error response from daemon: {name}: {(state / 'taken').read_text()}\\nfailed to start containers")
    case ["build" | "tag" | "unpause" | "start", *_]:
        pass
    case _:
        sys.exit(f"unknown: {arguments}")
"""

#: Does what podlab asks of kind. `mood` says what goes wrong.
_KIND = """
import json, os, pathlib, subprocess, sys
import yaml
folder = pathlib.Path(sys.argv[0]).parent.parent
state = folder / os.environ.get("KIND_EXPERIMENTAL_PROVIDER", "docker")
mood = (folder / "mood").read_text()
match sys.argv[1:]:
    case ["version"]:
        print("kind v0.33.0 go1.26.0 linux/amd64")
    case ["create", "cluster", "--name", name, "--config", config, "--kubeconfig", kubeconfig, *more]:
        assert "--retain" in more, "kind would delete by the name alone"
        print(" \\u2022 Preparing nodes ...", flush=True)
        if mood == "hangs":
            subprocess.run([sys.executable, "-c", "import signal; signal.pause()"])
        for number, node in enumerate(yaml.safe_load(pathlib.Path(config).read_text())["nodes"]):
            id = f"{name}-{number}-{os.getpid()}"
            mounts = [{"Type": "bind", "Destination": one["containerPath"]} for one in node["extraMounts"]]
            mounts.append({"Type": "volume", "Destination": "/var", "Name": f"volume-{id}"})
            labels = {"io.x-k8s.kind.cluster": name, "io.x-k8s.kind.role": node["role"]}
            one = {"Id": id, "Name": f"{name}-{number}", "Config": {"Labels": labels}, "Mounts": mounts,
                   "State": {"Running": True, "Pid": 1}}
            (state / "containers" / id).write_text(json.dumps(one))
            (state / "volumes" / f"volume-{id}").touch()
        if mood == "fails":
            sys.exit("ERROR: failed to create cluster: a reason")
        if mood == "docker stops":
            (state / "down").touch()
            sys.exit("ERROR: Cannot connect to the Docker daemon at unix:///var/run/docker.sock.")
        if mood == "docker stops unsaid":
            (state / "down").touch()
            sys.exit("ERROR: failed to create cluster: command failed with error: exit status 1")
        if mood == "fetches a node image for another processor":
            (state / "architecture").write_text("s390x")
            sys.exit("ERROR: failed to create cluster: could not find a log line that matches")
        if mood == "a rival is first":
            rival = json.loads((folder / "rival").read_text())
            (state / "containers" / rival["Id"]).write_text(json.dumps(rival))
            sys.exit("ERROR: failed to create cluster: the container name is already in use")
        server = {"server": (folder / "server").read_text()}
        made = {"clusters": [{"name": "k", "cluster": server}], "users": [{"name": "k", "user": {}}]}
        pathlib.Path(kubeconfig).write_text(yaml.safe_dump(made))
    case ["load", "image-archive", file, "--name", name]:
        if mood == "load fails":
            sys.exit("ERROR: failed to load image: a reason\\nWARNING: cgroup v1 is deprecated")
        if mood == "the disk is full":
            sys.exit("ERROR: failed to load image: write /var/lib/containerd/x: no space left on device")
        if mood == "docker stops while images are loaded":
            (state / "down").touch()
            sys.exit("ERROR: failed to load image: exit status 1")
        with (state / "log").open("a") as log:
            log.write(f"kind load {name}\\n")
        (folder / "loaded.tar").write_bytes(pathlib.Path(file).read_bytes())
        for node in (state / "known").iterdir() if (state / "known").exists() else []:
            node.write_text((folder / "base").read_text())
"""


class Machine:
    """What stands on the PATH of a test: runtimes by name, kind, and an API server with nodes that are ready."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self._folder, self._patch = folder, patch
        (folder / "bin").mkdir(parents=True)
        patch.setenv("PATH", str(folder / "bin"))
        patch.delenv(runtime.VARIABLE, raising=False)
        patch.setenv("PODLAB_KIND", str(self._program("kind", _KIND)))
        self.mood("is well")

    def _program(self, name: str, text: str) -> Path:
        path = self._folder / "bin" / name
        path.write_text(f"#!{sys.executable} -{'SE' if text is _RUNTIME else 'E'}\n{text}")
        path.chmod(0o755)
        return path

    def install(self, name: str) -> Path:
        """Put a runtime on the PATH; returns the folder of what it has."""
        state = self._folder / name
        for part in ("containers", "volumes"):
            (state / part).mkdir(parents=True)
        (state / "info").write_text("{}")
        self._program(name, _RUNTIME)
        return state

    def uninstall(self, name: str) -> None:
        """Take a runtime from the PATH; its containers stay."""
        (self._folder / "bin" / name).unlink()

    def hold(self, runtime: str, nodes: list[str], image: Image, layout: ImageLayout) -> None:
        """Let nodes have an image under every name; those of them that lose it get it with the next load."""
        state = self._folder / runtime
        for part in ("known", "content"):
            (state / part).mkdir()
        for node in nodes:
            (state / "known" / node).write_text(image.digest)
        for digest in (image.digest, image.id):
            (state / "content" / digest).write_bytes(layout.read_blob(digest))
        (self._folder / "base").write_text(image.digest)

    @property
    def loaded(self) -> Path:
        """The archive that kind loaded last."""
        return self._folder / "loaded.tar"

    def mood(self, mood: str) -> None:
        """What kind does from now on."""
        (self._folder / "mood").write_text(mood)

    def rival(self, container: dict[str, Any]) -> None:
        """The container that another maker gets made first."""
        (self._folder / "rival").write_text(json.dumps(container))

    def serve(self, nodes: list[str]) -> ThreadingHTTPServer:
        """Begin to answer as the API server of these nodes; the caller shuts it down."""
        conditions = [{"type": "Ready", "status": "True"}]
        lists = {
            "/api/v1/nodes": [{"metadata": {"name": name}, "status": {"conditions": conditions}} for name in nodes],
            "/api/v1/namespaces/default/serviceaccounts": [{"metadata": {"name": "default"}}],
        }
        words = ("major", "minor", "gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform")
        version = dict.fromkeys(words, "") | {"gitVersion": "v1.37.0"}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.rstrip("/")
                body = json.dumps(version if path == "/version" else {"items": lists[path]}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        (self._folder / "server").write_text(f"http://127.0.0.1:{server.server_address[1]}")
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return server


def container(cluster: str, mark: str = "") -> dict[str, Any]:
    """A node of a kind cluster, as a runtime shows it."""
    mounts = [{"Type": "bind", "Destination": f"{runtime.MARKS}/{mark}"}] if mark else []
    labels = {runtime.LABEL: cluster, runtime.ROLE_LABEL: "control-plane"}
    state = {"Running": True, "Pid": 1}
    return {"Id": "theirs", "Name": cluster, "Config": {"Labels": labels}, "Mounts": mounts, "State": state}
