"""rtnetlink against the kernel: links, addresses, routes, neighbours, other namespaces, errors."""

from __future__ import annotations

import pytest
from sandbox_room import Node

pytestmark = [pytest.mark.sandbox, pytest.mark.namespaces("links belong to network namespaces")]

#: Every program below runs in network namespaces of its own: `here` and `there`.
BEGIN = """
from podlab.network.netlink import Netlink
from podlab.node.runtime.sandbox import kernel
kernel.unshare(kernel.CLONE_NEWNET)
there_descriptor = kernel.open_namespace("net")
kernel.unshare(kernel.CLONE_NEWNET)
here, there = Netlink(), Netlink(there_descriptor)
def link(name):  # the other end is somewhere else and on
    here.add_veth(name, "x" + name, peer_namespace=there_descriptor)
    there.set_up("x" + name)
def names(links): return [one.name for one in links.links() if one.name[0] != 'x']
def refused(call, *arguments, **named):
    try:
        call(*arguments, **named)
    except OSError as error:
        return [error.errno, error.filename]
"""


async def test_a_pair_of_links_is_made_across_namespaces_and_carries_packets(node: Node) -> None:
    program = """
here.add_veth("one", "two", peer_namespace=there_descriptor, address="02:00:00:00:00:01",
              peer_address="02:00:00:00:00:02", mtu=9000)
here.add_address("one", "10.0.0.1/24")
there.add_address("two", "10.0.0.2/24")
for links, name in ((here, "one"), (there, "two")):
    links.set_up(name)
listener = kernel.socket_in(there_descriptor, socket.AF_INET, socket.SOCK_STREAM)
listener.bind(("10.0.0.2", 80)); listener.listen()
client = socket.create_connection(("10.0.0.2", 80), timeout=60)
peer, address = listener.accept()
one, two = here.link("one"), there.link("two")
print(json.dumps([address[0], one.address, two.address, one.mtu, one.up, names(here), names(there)]))
"""
    assert await node.inside(BEGIN + program) == [
        "10.0.0.1",
        "02:00:00:00:00:01",
        "02:00:00:00:00:02",
        9000,
        True,
        ["lo", "one"],
        ["lo", "two"],
    ]


async def test_links_are_renamed_moved_switched_and_deleted(node: Node) -> None:
    program = """
found = []
link("first"); found.append(names(here))
here.set_name("first", "second"); found.append(names(here))
here.set_address("second", "02:00:00:00:00:09"); here.set_mtu("second", 1234)
one = here.link("second"); found.append([one.address, one.mtu, one.up])
here.set_up(one.index); found.append(here.link("second").up)
here.set_down("second"); found.append(here.link("second").up)
here.move("second", there_descriptor); found.append([names(here), names(there)])
there.delete_link("second"); found.append(names(there))
found.append(here.link("second"))
print(json.dumps(found))
"""
    assert await node.inside(BEGIN + program) == [
        ["lo", "first"],
        ["lo", "second"],
        ["02:00:00:00:00:09", 1234, False],
        True,
        False,
        [["lo"], ["lo", "second"]],
        ["lo"],
        None,
    ]


async def test_routes_are_replaced_found_and_deleted(node: Node) -> None:
    program = """
def source(address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))
        except OSError as error:
            return error.strerror
        return probe.getsockname()[0]
for name, own in (("left", "10.0.1.1/24"), ("right", "10.0.2.1/24")):
    link(name); here.add_address(name, own); here.set_up(name)
found = [source("10.9.0.1")]
here.add_route("10.9.0.0/16", "left"); found.append(source("10.9.0.1"))
here.add_route("10.9.0.0/16", "right"); found.append(source("10.9.0.1"))
here.add_route("default", via="10.0.1.9"); found.append(source("10.8.0.1"))
here.add_route("10.7.0.0/16", "left", source="10.0.2.1"); found.append(source("10.7.0.1"))
here.delete_route("10.9.0.0/16"); here.delete_route("default"); found.append(source("10.9.0.1"))
here.add_neighbour("left", "10.0.1.9", "02:00:00:00:00:09")
here.delete_neighbour("left", "10.0.1.9")
here.delete_address("left", "10.0.1.1/24")
print(json.dumps(found))
"""
    unreachable = "Network is unreachable"
    assert await node.inside(BEGIN + program) == [
        unreachable,
        "10.0.1.1",
        "10.0.2.1",
        "10.0.1.1",
        "10.0.2.1",
        unreachable,
    ]


async def test_errors_say_what_was_tried(node: Node) -> None:
    program = """
link("taken")
print(json.dumps([
    refused(here.add_veth, "taken", "b"),
    refused(here.set_up, "missing"),
    refused(here.delete_route, "10.1.0.0/16"),
    refused(here.add_route, "10.1.0.0/16", via="10.2.0.1"),
    refused(here.add_veth, "a", "b", peer_namespace=0),
]))
"""
    assert await node.inside(BEGIN + program) == [
        [17, "add veth taken with peer b"],
        [19, "link missing"],
        [3, "delete route 10.1.0.0/16"],
        [101, "add route 10.1.0.0/16 via 10.2.0.1"],
        [22, "add veth a with peer b"],
    ]


async def test_a_hundred_links_are_listed(node: Node) -> None:
    program = """
for number in range(100):
    link(f"link{number}")
print(json.dumps([len(names(here)), here.index("link99") == here.links()[-1].index]))
"""
    assert await node.inside(BEGIN + program) == [101, True]
