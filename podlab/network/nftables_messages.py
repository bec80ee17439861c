"""The messages of nf_tables that make and delete tables, chains, rules and sets.

Pure, like nftables.py, whose expressions they carry. Layouts and numbers: linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from podlab.network.netlink import attribute
from podlab.network.nftables import AnonymousMap, Code, Rule, Verdict, data, lookup, name_attribute, nested, u32


class Kind(IntEnum):
    """Types of messages within the nf_tables subsystem."""

    NEW_TABLE = 0
    DELETE_TABLE = 2
    NEW_CHAIN = 3
    GET_CHAIN = 4
    DELETE_CHAIN = 5
    NEW_RULE = 6
    GET_RULE = 7
    DELETE_RULE = 8
    NEW_SET = 9
    DELETE_SET = 11
    NEW_ELEMENT = 12
    GET_ELEMENT = 13
    DELETE_ELEMENT = 14


CREATE, APPEND, DUMP = 0x400, 0x800, 0x300

#: The family of tables that see IPv4 packets (NFPROTO_IPV4).
IPV4 = 2


@dataclass(frozen=True)
class Message:
    """One request of a batch; `what` names it in errors."""

    kind: Kind
    flags: int
    body: bytes
    what: str


class HookPoint(IntEnum):
    """Where in a packet's way through the kernel."""

    PREROUTING = 0
    INPUT = 1
    FORWARD = 2
    OUTPUT = 3
    POSTROUTING = 4


@dataclass(frozen=True)
class Hook:
    """What makes a chain a base chain: `kind` is filter or nat; lower priorities come first."""

    kind: str
    point: HookPoint
    priority: int


@dataclass(frozen=True)
class SetType:
    """What a set holds: keys of `key_length` bytes, and for maps values (bytes or verdicts).

    `dynamic`: rules may add elements, which vanish `timeout` seconds after the last update.
    The types are only labels with which the `nft` command prints the set (see TYPES).
    """

    key_length: int
    key_type: int = 0
    value_length: int = 0
    verdicts: bool = False
    timeout: float | None = None
    dynamic: bool = False


_IPV4_ADDRESS, _INET_PROTOCOL, _INET_SERVICE = 7, 12, 13


def _concatenated(*types: int) -> int:
    number = 0
    for label in types:
        number = number << 6 | label
    return number


#: Labels for SetType.key_type.
TYPE_ADDRESS = _IPV4_ADDRESS
TYPE_PAIR = _concatenated(_IPV4_ADDRESS, _IPV4_ADDRESS)
TYPE_ENDPOINT = _concatenated(_IPV4_ADDRESS, _INET_PROTOCOL, _INET_SERVICE)

_SET_ANONYMOUS, _SET_CONSTANT, _SET_MAP, _SET_TIMEOUT, _SET_EVAL = 1, 2, 8, 16, 32
_DATA_VERDICT = 0xFFFF_FF00

Elements = Mapping[bytes, bytes | Verdict | None]


def new_table(table: str) -> Message:
    """Make a table; one that exists already is fine."""
    return Message(Kind.NEW_TABLE, CREATE, name_attribute(1, table), f"table {table}")


def delete_table(table: str) -> Message:
    """Delete a table with everything in it."""
    return Message(Kind.DELETE_TABLE, 0, name_attribute(1, table), f"deletion of table {table}")


def new_chain(table: str, name: str, hook: Hook | None = None) -> Message:
    """Make a chain; one that exists already is fine."""
    body = name_attribute(1, table) + name_attribute(3, name)
    if hook:
        priority = attribute(2, struct.pack(">i", hook.priority))
        body += nested(4, attribute(1, u32(hook.point)), priority)
        body += attribute(5, u32(Code.ACCEPT)) + name_attribute(7, hook.kind)
    return Message(Kind.NEW_CHAIN, CREATE, body, f"chain {name}")


def delete_chain(table: str, name: str) -> Message:
    """Delete a chain that nothing refers to."""
    return Message(
        Kind.DELETE_CHAIN, 0, name_attribute(1, table) + name_attribute(3, name), f"deletion of chain {name}"
    )


def flush_chain(table: str, name: str) -> Message:
    """Delete all rules of a chain."""
    return Message(Kind.DELETE_RULE, 0, name_attribute(1, table) + name_attribute(2, name), f"flush of chain {name}")


def _comment(text: str) -> bytes:
    # libnftnl's user data: kind 0, length, zero-terminated text; `nft` prints it.
    raw = text.encode()[:252] + b"\0"
    return attribute(7, bytes([0, len(raw)]) + raw)


def new_rule(table: str, chain: str, made: Rule, map_ids: Iterable[int] = ()) -> list[Message]:
    """The messages that append a rule to a chain; `map_ids` gives a number of its own to each map in it."""
    ids = iter(map_ids)
    messages: list[Message] = []
    encoded: list[bytes] = []
    for expression in made.expressions:
        if isinstance(expression, AnonymousMap):
            number = next(ids)
            messages += _anonymous(table, expression, number, f"map in chain {chain}")
            expression = lookup(_ANONYMOUS_NAME, expression.source, expression.target, number=number)
        encoded.append(expression)
    body = name_attribute(1, table) + name_attribute(2, chain) + nested(4, *encoded)
    if made.comment:
        body += _comment(made.comment)
    messages.append(Message(Kind.NEW_RULE, CREATE | APPEND, body, f"rule in chain {chain}"))
    return messages


#: The kernel puts a number in place of %d; within the batch the set is found by its id.
_ANONYMOUS_NAME = "__map%d"


def _anonymous(table: str, made: AnonymousMap, number: int, what: str) -> list[Message]:
    key, value = made.elements[0]
    verdicts = isinstance(value, Verdict)
    kind = SetType(len(key), value_length=0 if isinstance(value, Verdict) else len(value), verdicts=verdicts)
    flags = _SET_ANONYMOUS | _SET_CONSTANT
    made_set = _new_set(table, _ANONYMOUS_NAME, kind, flags, number, what)
    return [made_set, *_elements(Kind.NEW_ELEMENT, table, _ANONYMOUS_NAME, made.elements, number, what)]


def new_set(table: str, name: str, kind: SetType, number: int) -> Message:
    """Make a set or a map; `number` is its id within the batch."""
    return _new_set(table, name, kind, 0, number, f"set {name}")


def _new_set(table: str, name: str, kind: SetType, flags: int, number: int, what: str) -> Message:
    if kind.verdicts or kind.value_length:
        flags |= _SET_MAP
    if kind.timeout is not None:
        flags |= _SET_TIMEOUT
    if kind.dynamic:
        flags |= _SET_EVAL
    body = name_attribute(1, table) + name_attribute(2, name) + attribute(3, u32(flags))
    body += attribute(4, u32(kind.key_type)) + attribute(5, u32(kind.key_length))
    if kind.verdicts:
        body += attribute(6, u32(_DATA_VERDICT))
    elif kind.value_length:
        body += attribute(6, u32(0)) + attribute(7, u32(kind.value_length))
    body += attribute(10, u32(number))
    if kind.timeout is not None:
        body += attribute(11, struct.pack(">Q", round(kind.timeout * 1000)))
    return Message(Kind.NEW_SET, CREATE, body, what)


def delete_set(table: str, name: str) -> Message:
    """Delete a set that no rule refers to."""
    return Message(Kind.DELETE_SET, 0, name_attribute(1, table) + name_attribute(2, name), f"deletion of set {name}")


def add_elements(table: str, name: str, elements: Elements) -> list[Message]:
    """Put elements into a set or a map."""
    return _elements(Kind.NEW_ELEMENT, table, name, elements.items(), None, f"elements of set {name}")


def delete_elements(table: str, name: str, keys: Iterable[bytes]) -> list[Message]:
    """Take elements out of a set or a map."""
    gone = [(key, None) for key in keys]
    return _elements(Kind.DELETE_ELEMENT, table, name, gone, None, f"removal from set {name}")


#: Elements in one message: the attribute that holds them cannot be longer than 64 KiB.
_ELEMENTS_PER_MESSAGE = 400


def _elements(
    kind: Kind,
    table: str,
    name: str,
    elements: Iterable[tuple[bytes, bytes | Verdict | None]],
    number: int | None,
    what: str,
) -> list[Message]:
    head = name_attribute(1, table) + name_attribute(2, name)
    if number is not None:
        head += attribute(4, u32(number))
    encoded = [_element(key, value) for key, value in elements]
    flags = CREATE if kind == Kind.NEW_ELEMENT else 0
    return [
        Message(kind, flags, head + nested(3, *encoded[start : start + _ELEMENTS_PER_MESSAGE]), what)
        for start in range(0, len(encoded), _ELEMENTS_PER_MESSAGE)
    ]


def _element(key: bytes, value: bytes | Verdict | None) -> bytes:
    parts = nested(1, data(key))
    if value is not None:
        parts += nested(2, data(value))
    return nested(1, parts)
