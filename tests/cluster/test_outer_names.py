"""Names of the outer world, which a cluster's DNS asks a resolver for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lifecycle import PYTHON, Pods, container, pod

pytestmark = [pytest.mark.embedded("another cluster's DNS asks the resolver that its machines have")]

_RESOLVER = Path(__file__).parent / "programs" / "outer_names.py"
_AWAY = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "away"},
    "spec": {"type": "ExternalName", "externalName": "web.shop.svc.outer.example"},
}
_LOOK = """
import json, socket
names = ("web.shop.svc.outer.example", "away", "kubernetes.default", "nobody.outer.example")
def look(name):
    try:
        return socket.gethostbyname(name)
    except OSError as error:
        return type(error).__name__
print(json.dumps([look(name) for name in names]))
"""


def test_pods_see_the_names_of_the_resolver_that_the_cluster_was_given(
    make: Any, kubectl: Any, machine: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with subprocess.Popen([*machine, sys.executable, str(_RESOLVER)], stdout=subprocess.PIPE, text=True) as resolver:
        try:
            assert resolver.stdout
            monkeypatch.setenv("PODLAB_RESOLVER", f"127.0.0.1:{resolver.stdout.readline().strip()}")
            pods = Pods(kubectl, make(nodes=1), "default")
            look: dict[str, Any] = container(image=PYTHON, command=["python", "-c", _LOOK])
            pods.apply(_AWAY, pod("look", look, restartPolicy="Never"))
            pods.phase("look", "Succeeded")
            assert json.loads(pods.logs("look")) == ["192.0.2.7", "192.0.2.7", "10.96.0.1", "gaierror"]
        finally:
            resolver.terminate()
