"""The encoding of nf_tables: values, and the expressions that rules consist of.

Everything here is pure: functions from plain values to bytes. Layouts and numbers: linux/netfilter/nf_tables.h.
Values in registers are in network byte order where they come from the packet, in the machine's own order where
the kernel computes them (marks, connection states, numbers of a generator).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from podlab.network.netlink import attribute

Register = int
#: Registers of four bytes each; a key of several fields takes consecutive ones.
R0, R1, R2, R3 = 8, 9, 10, 11
_VERDICT = 0

TCP, UDP, SCTP = socket.IPPROTO_TCP, socket.IPPROTO_UDP, 132
_NESTED = 0x8000

#: Bits of `ct state` and `ct status` (linux/netfilter/nf_conntrack_common.h).
INVALID, ESTABLISHED, RELATED, NEW = 1, 2, 4, 8
DESTINATION_TRANSLATED = 1 << 5


class Meta(IntEnum):
    """Facts about a packet that are not in it."""

    MARK = 3
    IIFNAME = 6
    OIFNAME = 7
    L4PROTO = 16


class Ct(IntEnum):
    """Facts about a packet's connection."""

    STATE = 0
    DIRECTION = 1
    STATUS = 2
    MARK = 3


class Code(IntEnum):
    """What a verdict does."""

    DROP = 0
    ACCEPT = 1
    JUMP = -3
    GOTO = -4
    RETURN = -5


@dataclass(frozen=True)
class Verdict:
    """The end of a rule, or a value in a verdict map; `chain` for JUMP and GOTO."""

    code: Code
    chain: str = ""


DROP, ACCEPT, RETURN = Verdict(Code.DROP), Verdict(Code.ACCEPT), Verdict(Code.RETURN)


def jump(chain: str) -> Verdict:
    """Go on in `chain` and come back at its end."""
    return Verdict(Code.JUMP, chain)


def goto(chain: str) -> Verdict:
    """Go on in `chain` for good."""
    return Verdict(Code.GOTO, chain)


@dataclass(frozen=True)
class AnonymousMap:
    """`source map { key : value, ... }`: a constant map that lives and dies with its rule.

    Values are bytes (then `target` is the first register that takes them) or verdicts (then it is left out).
    """

    source: Register
    elements: tuple[tuple[bytes, bytes | Verdict], ...]
    target: Register = _VERDICT


Expression = bytes | AnonymousMap


@dataclass(frozen=True)
class Rule:
    """Expressions, evaluated in order until one does not match."""

    expressions: tuple[Expression, ...]
    comment: str = ""


def rule(*parts: Expression | Verdict | Iterable[bytes], comment: str = "") -> Rule:
    """A rule of expressions, verdicts, and sequences of expressions (such as `match` gives)."""
    flat: list[Expression] = []
    for part in parts:
        if isinstance(part, Verdict):
            flat.append(immediate_verdict(part))
        elif isinstance(part, bytes | AnonymousMap):
            flat.append(part)
        else:
            flat.extend(part)
    return Rule(tuple(flat), comment)


def u32(value: int) -> bytes:
    """Four bytes in network order, as attributes want their numbers."""
    return struct.pack(">I", value & 0xFFFF_FFFF)


def native(value: int) -> bytes:
    """Four bytes in the machine's own order, as marks, states and generated numbers stand in registers."""
    return struct.pack("=I", value)


def nested(kind: int, *parts: bytes) -> bytes:
    """An attribute that consists of attributes."""
    return attribute(kind | _NESTED, b"".join(parts))


def name_attribute(kind: int, name: str) -> bytes:
    """An attribute that holds a name."""
    return attribute(kind, name.encode() + b"\0")


def _expression(name: str, *parts: bytes) -> bytes:
    return nested(1, name_attribute(1, name), nested(2, *parts))


def data(value: bytes | Verdict) -> bytes:
    """The content of an attribute that holds data: bytes or a verdict."""
    if isinstance(value, bytes):
        return attribute(1, value)
    chain = name_attribute(2, value.chain) if value.chain else b""
    return nested(2, attribute(1, u32(value.code)), chain)


# Expressions


def meta(key: Meta, target: Register = R0) -> bytes:
    """Load a fact about the packet."""
    return _expression("meta", attribute(1, u32(target)), attribute(2, u32(key)))


def set_meta(key: Meta, source: Register = R0) -> bytes:
    """Store a register as a fact about the packet (its mark)."""
    return _expression("meta", attribute(2, u32(key)), attribute(3, u32(source)))


def ct(key: Ct, target: Register = R0) -> bytes:
    """Load a fact about the packet's connection."""
    return _expression("ct", attribute(1, u32(target)), attribute(2, u32(key)))


_NETWORK, _TRANSPORT = 1, 2


def _payload(base: int, offset: int, length: int, target: Register) -> bytes:
    numbers = (target, base, offset, length)
    return _expression("payload", *(attribute(kind, u32(number)) for kind, number in enumerate(numbers, 1)))


def source_address(target: Register = R0) -> bytes:
    """Load the IPv4 source address."""
    return _payload(_NETWORK, 12, 4, target)


def destination_address(target: Register = R0) -> bytes:
    """Load the IPv4 destination address."""
    return _payload(_NETWORK, 16, 4, target)


def source_port(target: Register = R0) -> bytes:
    """Load the source port of TCP, UDP or SCTP."""
    return _payload(_TRANSPORT, 0, 2, target)


def destination_port(target: Register = R0) -> bytes:
    """Load the destination port of TCP, UDP or SCTP."""
    return _payload(_TRANSPORT, 2, 2, target)


_EQUAL, _UNEQUAL, _AT_MOST, _AT_LEAST = 0, 1, 3, 5


def compare(wanted: bytes, source: Register = R0, *, equal: bool = True) -> bytes:
    """Go on only if the register holds `wanted` (or does not)."""
    return _compare(_EQUAL if equal else _UNEQUAL, wanted, source)


def between(first: int, last: int, source: Register = R0) -> tuple[bytes, ...]:
    """Go on only if the register holds a port from `first` to `last`."""
    low, high = struct.pack(">H", first), struct.pack(">H", last)
    if first == last:
        return (compare(low, source),)
    return _compare(_AT_LEAST, low, source), _compare(_AT_MOST, high, source)


def _compare(operator: int, wanted: bytes, source: Register) -> bytes:
    return _expression("cmp", attribute(1, u32(source)), attribute(2, u32(operator)), nested(3, data(wanted)))


def mask(bits: bytes, flip: bytes = b"", register: Register = R0) -> bytes:
    """register = (register & bits) ^ flip."""
    flip = flip or bytes(len(bits))
    return _expression(
        "bitwise",
        attribute(1, u32(register)),
        attribute(2, u32(register)),
        attribute(3, u32(len(bits))),
        nested(4, data(bits)),
        nested(5, data(flip)),
    )


def immediate(constant: bytes, target: Register = R0) -> bytes:
    """Load a constant."""
    return _expression("immediate", attribute(1, u32(target)), nested(2, data(constant)))


def immediate_verdict(verdict: Verdict) -> bytes:
    """End the rule with a verdict."""
    return _expression("immediate", attribute(1, u32(_VERDICT)), nested(2, data(verdict)))


def random_number(modulus: int, target: Register = R0) -> bytes:
    """Load a random number from 0 to modulus - 1."""
    return _expression("numgen", attribute(1, u32(target)), attribute(2, u32(modulus)), attribute(3, u32(1)))


def lookup(
    name: str,
    source: Register = R0,
    target: Register | None = None,
    *,
    invert: bool = False,
    number: int | None = None,
) -> bytes:
    """Go on only if the set `name` has the key in the register (or has not); of a map, load the value.

    `number` is the id of a set that is made in the same batch and whose name the kernel chooses.
    """
    parts = [name_attribute(1, name), attribute(2, u32(source))]
    if target is not None:
        parts.append(attribute(3, u32(target)))
    if number is not None:
        parts.append(attribute(4, u32(number)))
    if invert:
        parts.append(attribute(5, u32(1)))
    return _expression("lookup", *parts)


def verdict_lookup(name: str, source: Register = R0) -> bytes:
    """Do what the verdict map `name` says for the key in the register; go on if it has none."""
    return lookup(name, source, _VERDICT)


def update(name: str, source: Register = R0, timeout: float | None = None) -> bytes:
    """Put the key in the register into a dynamic set, and let its time-out (seconds) begin anew."""
    parts = [name_attribute(1, name), attribute(3, u32(1)), attribute(4, u32(source))]
    if timeout is not None:
        parts.append(attribute(6, struct.pack(">Q", round(timeout * 1000))))
    return _expression("dynset", *parts)


def _translate(kind: int, address: Register, port: Register | None) -> bytes:
    parts = [attribute(1, u32(kind)), attribute(2, u32(socket.AF_INET)), attribute(3, u32(address))]
    if port is not None:
        parts.append(attribute(5, u32(port)))
    return _expression("nat", *parts)


def translate_source(address: Register = R0) -> bytes:
    """Give the connection another source address, which is in a register."""
    return _translate(0, address, None)


def translate_destination(address: Register = R0, port: Register | None = R1) -> bytes:
    """Give the connection another destination, which is in registers."""
    return _translate(1, address, port)


def masquerade() -> bytes:
    """Give the connection the address of the link that it leaves by."""
    return _expression("masq")


def reject_tcp() -> bytes:
    """Answer with a TCP reset."""
    return _expression("reject", attribute(1, u32(1)))


def reject_icmp(code: int = 3) -> bytes:
    """Answer with an ICMP "unreachable" (code 3: port)."""
    return _expression("reject", attribute(1, u32(0)), attribute(2, bytes([code])))


def counter() -> bytes:
    """Count packets and bytes that have come this far in the rule."""
    return _expression("counter", attribute(1, bytes(8)), attribute(2, bytes(8)))


# Matches: pairs of a load and a comparison


def address(text: str) -> bytes:
    """The four bytes of an IPv4 address."""
    return socket.inet_aton(text)


def port(number: int) -> bytes:
    """A port as it stands in a register: two bytes in network order, two of zero."""
    return struct.pack(">Hxx", number)


def protocol(number: int) -> bytes:
    """A transport protocol as it stands in a register."""
    return struct.pack("Bxxx", number)


def match_protocol(number: int) -> tuple[bytes, bytes]:
    """`meta l4proto N`."""
    return meta(Meta.L4PROTO), compare(bytes([number]))


def match_source(text: str) -> tuple[bytes, ...]:
    """`ip saddr A` or `ip saddr A/N`."""
    return match_network(source_address(), text)


def match_destination(text: str) -> tuple[bytes, ...]:
    """`ip daddr A` or `ip daddr A/N`."""
    return match_network(destination_address(), text)


def match_network(load: bytes, text: str, *, equal: bool = True) -> tuple[bytes, ...]:
    """Go on only if the address that `load` loads is in the network A/N (or is not)."""
    host, _, length = text.partition("/")
    if not length or length == "32":
        return load, compare(address(host), equal=equal)
    bits = struct.pack(">I", 0xFFFF_FFFF << (32 - int(length)) & 0xFFFF_FFFF)
    return load, mask(bits), compare(address(host), equal=equal)


def match_bits(load: bytes, bits: int) -> tuple[bytes, bytes, bytes]:
    """Go on only if the number that `load` loads (a mark, a state) has one of the bits."""
    return load, mask(native(bits)), compare(native(0), equal=False)
