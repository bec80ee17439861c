from __future__ import annotations

import errno

import pytest
from inside import in_namespaces
from world import World, connects, listening, stream

from podlab.errors import ClusterError
from podlab.network import addresses
from podlab.network.backbone import Backbone
from podlab.network.namespaces import NetworkThread
from podlab.network.netlink import Netlink

pytestmark = pytest.mark.sandbox


@in_namespaces
def test_a_machine_and_the_backbone_reach_each_other() -> None:
    world = World(2)
    door = listening(stream(world.backbone), addresses.BACKBONE, addresses.API_PORT)
    client = stream(world.machines[1])
    assert connects(client, addresses.BACKBONE, addresses.API_PORT) == ""
    accepted, peer = door.accept()
    assert peer[0] == addresses.node_address(1)
    accepted.sendall(b"hello")
    client.settimeout(60)
    assert client.recv(10) == b"hello"

    server = listening(stream(world.machines[2]), "0.0.0.0", 10250)
    assert connects(stream(world.backbone), addresses.node_address(2), 10250) == ""
    assert server.accept()[1][0] == addresses.BACKBONE
    world.backbone.stop()


@in_namespaces
def test_machines_reach_each_other_and_each_others_pods_with_their_own_addresses() -> None:
    world = World(2)
    server = listening(stream(world.machines[2]), "0.0.0.0", 80)
    assert connects(stream(world.machines[1]), addresses.node_address(2), 80) == ""
    assert server.accept()[1][0] == addresses.node_address(1)

    # A pod's address on the other machine is routed there (here the machine itself holds it).
    with world.machines[2].call(Netlink) as links:
        links.add_address("lo", "10.244.2.7/32")
    assert connects(stream(world.machines[1]), "10.244.2.7", 80) == ""
    assert server.accept()[1][0] == addresses.node_address(1)
    world.backbone.stop()


@in_namespaces
def test_a_pod_sees_its_node_by_the_nodes_own_address() -> None:
    world = World(1)
    pod = world.pod(1)
    server = listening(stream(world.pods[pod]), "0.0.0.0", 80)
    assert connects(stream(world.machines[1]), pod, 80) == ""
    assert server.accept()[1][0] == addresses.node_address(1)
    assert connects(stream(world.backbone), pod, 80) == ""
    assert server.accept()[1][0] == addresses.BACKBONE
    world.backbone.stop()


@in_namespaces
def test_an_isolated_machine_hears_silence_and_comes_back_with_its_routes() -> None:
    world = World(2)
    door = listening(stream(world.backbone), addresses.BACKBONE, addresses.API_PORT)
    server = listening(stream(world.machines[1]), "0.0.0.0", 80)
    other = listening(stream(world.machines[2]), "0.0.0.0", 80)
    world.backbone.set_link("node-1", False)
    assert connects(stream(world.machines[1]), addresses.BACKBONE, addresses.API_PORT, 0.3) == "silence"
    assert connects(stream(world.backbone), addresses.node_address(1), 80, 0.3) == "silence"
    assert connects(stream(world.machines[2]), addresses.node_address(1), 80, 0.3) == "silence"
    assert connects(stream(world.backbone), addresses.node_address(2), 80) == ""
    assert other.accept()

    world.backbone.set_link("node-1", True)
    assert connects(stream(world.machines[1]), addresses.BACKBONE, addresses.API_PORT) == ""
    assert connects(stream(world.machines[2]), addresses.node_address(1), 80) == ""
    assert door.accept() and server.accept()
    world.backbone.stop()


@in_namespaces
def test_a_connection_survives_a_short_isolation() -> None:
    world = World(1)
    door = listening(stream(world.backbone), addresses.BACKBONE, addresses.API_PORT)
    client = stream(world.machines[1])
    assert connects(client, addresses.BACKBONE, addresses.API_PORT) == ""
    accepted, _ = door.accept()
    world.backbone.set_link("node-1", False)
    client.send(b"late")
    world.backbone.set_link("node-1", True)
    accepted.settimeout(60)
    assert accepted.recv(10) == b"late"
    world.backbone.stop()


@in_namespaces
def test_detach_and_attach_again_leaves_one_link() -> None:
    world = World(1)
    assert world.links() == {"lo", "sink", "sink-end", "n-1"}
    world.backbone.detach("node-1")
    world.backbone.detach("node-1")
    assert world.links() == {"lo", "sink", "sink-end"}

    replaced = NetworkThread("replaced")
    replaced.start()
    for _ in range(3):
        world.backbone.attach("node-1", 1, replaced.task)
        assert world.links() == {"lo", "sink", "sink-end", "n-1"}
    server = listening(stream(replaced), "0.0.0.0", 80)
    assert connects(stream(world.backbone), addresses.node_address(1), 80) == ""
    assert server.accept()
    world.backbone.stop()


@in_namespaces
def test_a_machine_that_is_gone_is_refused_by_name() -> None:
    world = World(0)
    with pytest.raises(ClusterError, match=r"machine node-1 .* is gone"):
        world.backbone.attach("node-1", 1, 999_999)
    with pytest.raises(ClusterError, match="node-1 is not connected"):
        world.backbone.set_link("node-1", False)
    world.backbone.stop()
    with pytest.raises(RuntimeError):
        stream(world.backbone)


def test_the_backbone_says_what_the_kernel_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from podlab.errors import EnvironmentUnsuitable
    from podlab.network import namespaces

    def refused() -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", "unshare(net)")

    monkeypatch.setattr(namespaces, "unshare_network", refused)
    with pytest.raises(EnvironmentUnsuitable, match=r"unshare\(net\): Operation not permitted.*forbid"):
        Backbone().start()
