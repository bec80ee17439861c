"""Network policies as pods feel them: what is closed stays closed, what is allowed answers."""

from __future__ import annotations

from typing import Any

import pytest
from lifecycle import PATIENCE, PYTHON, Pods, container, pod

from podlab.cluster import Cluster
from podlab.waiting import until

pytestmark = [
    pytest.mark.namespaces("the plain runtime enforces no policies"),
    pytest.mark.embedded("the network of the kind lab enforces no policies; kind's own does"),
]

_CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], 8080), 2).close()
    print("answered")
except TimeoutError:
    print("silence")
"""


class Room:
    """A server and two clients, of which one is a friend."""

    def __init__(self, pods: Pods) -> None:
        self.pods = pods
        serve = ["python3", "-S", "-m", "http.server", "8080"]
        probe = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1}
        server = {"name": "main", "image": PYTHON, "command": serve, "readinessProbe": probe}
        self.pods.apply(pod("server", server), *(self._client(name) for name in ("friend", "stranger")))
        self.address = self.pods.ready("server")["podIP"]
        for name in ("friend", "stranger"):
            self.pods.ready(name)

    @staticmethod
    def _client(name: str) -> dict[str, Any]:
        return pod(name, {**container(script="sleep 1000000"), "image": PYTHON})

    def policy(self, name: str, app: str | None = None, **spec: Any) -> None:
        """Put a policy over the pods with a label, or over all."""
        selector = {"matchLabels": {"app": app}} if app else {}
        kinds = [kind.capitalize() for kind in spec]
        body = {"podSelector": selector, "policyTypes": kinds, **spec}
        self.pods.apply(
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": {"name": name},
                "spec": body,
            }
        )

    def drop(self, name: str) -> None:
        self.pods.run("delete", "networkpolicy", name)

    def hears(self, client: str) -> str:
        return self.pods.run("exec", client, "--", "python3", "-S", "-c", _CONNECT, self.address).strip()

    def become(self, **expected: str) -> None:
        """Return when each client hears what it should."""
        last: dict[str, str] = {}

        def met() -> bool:
            last.update({client: self.hears(client) for client in expected})
            return last == expected

        until(met, f"{expected}", timeout=PATIENCE, interval=0.2, state=lambda: last, ignore=(AssertionError,))


@pytest.fixture
def room(shared: Cluster, kubectl: Any, namespace: str) -> Room:
    return Room(Pods(kubectl, shared, namespace))


def test_ingress_is_closed_by_default_and_opened_for_friends(room: Room) -> None:
    room.become(friend="answered", stranger="answered")
    room.policy("closed", ingress=[])
    room.become(friend="silence", stranger="silence")
    room.policy("friends", "server", ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}]}])
    room.become(friend="answered", stranger="silence")
    room.pods.ready("server")  # its node may always ask
    room.policy("friends", "server", ingress=[{"from": [{"ipBlock": {"cidr": f"{room.address}/32"}}]}])
    room.become(friend="silence", stranger="silence")
    for name in ("friends", "closed"):
        room.drop(name)
    room.become(friend="answered", stranger="answered")


def test_egress_is_closed_and_opened_by_address(room: Room) -> None:
    room.policy("quiet", "stranger", egress=[])
    room.become(friend="answered", stranger="silence")
    ports = [{"port": 8080, "protocol": "TCP"}]
    all_but_it = {"cidr": "0.0.0.0/0", "except": [f"{room.address}/32"]}
    room.policy("quiet", "stranger", egress=[{"to": [{"ipBlock": {"cidr": f"{room.address}/32"}}], "ports": ports}])
    room.become(friend="answered", stranger="answered")
    room.policy("quiet", "stranger", egress=[{"to": [{"ipBlock": all_but_it}]}])
    room.become(friend="answered", stranger="silence")
