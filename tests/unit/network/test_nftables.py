"""The bytes of nf_tables messages. That the kernel takes them is shown in tests/sandbox/network."""

from __future__ import annotations

import struct

import pytest

from podlab.network import nftables
from podlab.network import nftables_messages as messages_of
from podlab.network.netlink import attributes
from podlab.network.nftables import ACCEPT, DROP, AnonymousMap, Ct, Meta, goto, jump, rule
from podlab.network.nftables_messages import Kind, SetType

# Golden values: what libnftnl's documentation and linux/netfilter/nf_tables.h prescribe, written out by hand.
GOLDEN = [
    (
        nftables.destination_port(),
        "34000180 0c000100 7061796c6f616400 24000280"
        " 0800010000000008 0800020000000002 0800030000000002 0800040000000002",
    ),
    (
        nftables.compare(bytes([6])),
        "2c000180 08000100 636d7000 20000280 0800010000000008 0800020000000000 0c000380 0500010006000000",
    ),
    (
        nftables.immediate_verdict(DROP),
        "30000180 0e000100 696d6d656469617465000000 1c000280 0800010000000000 10000280 0c000280 0800010000000000",
    ),
    (nftables.masquerade(), "14000180 09000100 6d61737100000000 04000280"),
    (
        nftables.random_number(3),
        "2c000180 0b000100 6e756d67656e0000 1c000280 0800010000000008 0800020000000003 0800030000000001",
    ),
]


@pytest.mark.parametrize(("made", "golden"), GOLDEN)
def test_expressions_have_their_prescribed_bytes(made: bytes, golden: str) -> None:
    assert made.hex() == golden.replace(" ", "")


def decoded(expression: bytes) -> tuple[str, dict[int, bytes]]:
    parts = attributes(attributes(expression)[1])
    return parts[1].rstrip(b"\0").decode(), attributes(parts[2])


def number(data: bytes) -> int:
    return struct.unpack(">I", data)[0]


def test_meta_loads_and_stores() -> None:
    name, parts = decoded(nftables.meta(Meta.MARK, nftables.R1))
    assert (name, {kind: number(data) for kind, data in parts.items()}) == ("meta", {1: 9, 2: 3})
    name, parts = decoded(nftables.set_meta(Meta.MARK, nftables.R1))
    assert (name, {kind: number(data) for kind, data in parts.items()}) == ("meta", {2: 3, 3: 9})


def test_destination_translation_names_both_registers() -> None:
    name, parts = decoded(nftables.translate_destination(nftables.R2, nftables.R3))
    assert name == "nat"
    assert {kind: number(data) for kind, data in parts.items()} == {1: 1, 2: 2, 3: 10, 5: 11}
    _, parts = decoded(nftables.translate_source(nftables.R2))
    assert {kind: number(data) for kind, data in parts.items()} == {1: 0, 2: 2, 3: 10}


def test_rejects_are_told_apart() -> None:
    assert decoded(nftables.reject_tcp()) == ("reject", {1: bytes([0, 0, 0, 1])})
    assert decoded(nftables.reject_icmp()) == ("reject", {1: bytes(4), 2: bytes([3])})


def test_a_network_is_masked_before_it_is_compared() -> None:
    load, masked, compared = nftables.match_source("10.244.0.0/16")
    assert load == nftables.source_address()
    _, parts = decoded(masked)
    assert attributes(parts[4])[1] == bytes([255, 255, 0, 0]) and attributes(parts[5])[1] == bytes(4)
    assert attributes(decoded(compared)[1][3])[1] == bytes([10, 244, 0, 0])
    assert len(nftables.match_source("10.0.0.1/32")) == len(nftables.match_source("10.0.0.1")) == 2


def test_bits_are_matched_in_the_machines_own_order() -> None:
    _, masked, compared = nftables.match_bits(nftables.ct(Ct.STATE), nftables.NEW)
    assert attributes(decoded(masked)[1][4])[1] == struct.pack("=I", 8)
    assert number(decoded(compared)[1][2]) == 1  # not equal to zero


def test_keys_are_padded_to_registers() -> None:
    assert nftables.port(8080) == bytes([0x1F, 0x90, 0, 0])
    assert nftables.protocol(6) == bytes([6, 0, 0, 0])


def test_a_jump_names_its_chain() -> None:
    _, parts = decoded(nftables.immediate_verdict(jump("there")))
    verdict = attributes(attributes(parts[2])[2])
    assert struct.unpack(">i", verdict[1]) == (-3,) and verdict[2] == b"there\0"


def test_rules_are_flat() -> None:
    made = rule(nftables.counter(), nftables.match_protocol(6), ACCEPT, comment="x")
    assert len(made.expressions) == 4 and made.comment == "x"


def test_a_map_is_made_before_its_rule_and_found_by_number() -> None:
    made = rule(AnonymousMap(nftables.R0, ((nftables.native(0), goto("a")), (nftables.native(1), goto("b")))))
    messages = messages_of.new_rule("t", "c", made, [77])
    assert [message.kind for message in messages] == [Kind.NEW_SET, Kind.NEW_ELEMENT, Kind.NEW_RULE]
    new_set, elements, new_rule = (attributes(message.body) for message in messages)
    assert number(new_set[10]) == number(elements[4]) == 77
    assert number(new_set[3]) == 1 | 2 | 8 and number(new_set[6]) == 0xFFFFFF00
    name, parts = decoded(new_rule[4])
    assert name == "lookup" and number(parts[4]) == 77 and number(parts[3]) == 0


def test_many_elements_are_spread_over_messages() -> None:
    elements: dict[bytes, None] = {struct.pack(">I", each): None for each in range(1000)}
    messages = messages_of.add_elements("t", "s", elements)
    assert len(messages) == 3 and all(len(message.body) < 65536 for message in messages)
    assert messages_of.delete_elements("t", "s", []) == []


def test_sets_with_time_out_say_so_in_milliseconds() -> None:
    body = attributes(messages_of.new_set("t", "s", SetType(4, timeout=1.5, dynamic=True), 1).body)
    assert number(body[3]) == 16 | 32 and struct.unpack(">Q", body[11]) == (1500,)
