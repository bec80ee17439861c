"""A table of rules as plain data, and the messages that turn one state of it into another. Pure.

Changes come as batches, each of which the kernel applies whole or not at all. A change that fits into one
batch is atomic. A bigger one (the first load of hundreds of Services) is cut where every state in between is
sound: new chains are filled before anything leads to them, and removed after nothing does any more.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from podlab.network import nftables_messages as messages
from podlab.network.nftables import AnonymousMap, Rule, Verdict
from podlab.network.nftables_messages import Hook, Message, SetType

#: Bytes of one batch at which it is cut: below the send buffer that any user gets (net.core.wmem_default).
BATCH_SIZE = 96 * 1024
_ELEMENTS_PER_GROUP = 300


@dataclass(frozen=True)
class Chain:
    """Rules in order; with a hook, packets enter here."""

    rules: tuple[Rule, ...] = ()
    hook: Hook | None = None


@dataclass(frozen=True)
class Set:
    """A set, or a map with values. Elements of a dynamic one belong to the kernel and are none here."""

    type: SetType
    elements: Mapping[bytes, bytes | Verdict | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Ruleset:
    """One table for IPv4."""

    table: str
    chains: Mapping[str, Chain] = field(default_factory=dict)
    sets: Mapping[str, Set] = field(default_factory=dict)


def creation(new: Ruleset) -> list[list[Message]]:
    """Batches that put `new` in the place of whatever the kernel has under that name (from an earlier life)."""
    # Making it first lets the deletion succeed where there was none.
    fresh = [
        messages.new_table(new.table),
        messages.delete_table(new.table),
        messages.new_table(new.table),
    ]
    groups = _changes(Ruleset(new.table), new)
    return _batches(itertools.chain([fresh], groups))


def change(old: Ruleset, new: Ruleset) -> list[list[Message]]:
    """Batches that turn `old`, which the kernel has now, into `new`; none if they are equal."""
    return _batches(_changes(old, new))


def deletion(table: str) -> list[list[Message]]:
    """Batches that delete the table, whether it is there or not."""
    return [[messages.new_table(table), messages.delete_table(table)]]


def _changes(old: Ruleset, new: Ruleset) -> Iterator[list[Message]]:
    """Groups of messages that must stay together, in an order that is sound after each group."""
    table = new.table
    ids = itertools.count(1)
    # A set whose type changed, or a chain whose hook changed, has to go before its successor can come.
    replaced_sets = {name for name in old.sets.keys() & new.sets if old.sets[name].type != new.sets[name].type}
    replaced_chains = {
        name for name in old.chains.keys() & new.chains if old.chains[name].hook != new.chains[name].hook
    }
    if replaced_sets or replaced_chains:
        raise ValueError(f"types and hooks are fixed: {sorted(replaced_sets | replaced_chains)}")
    for name in sorted(new.sets.keys() - old.sets.keys()):
        yield [messages.new_set(table, name, new.sets[name].type, next(ids))]
    added = new.chains.keys() - old.chains.keys()
    # All chains exist before any rule or element names one. Hooked ones come last: nothing may enter a
    # half-built table.
    plain = sorted(name for name in added if not new.chains[name].hook)
    yield from ([messages.new_chain(table, name)] for name in plain)
    yield from (_rules(table, name, new.chains[name].rules, ids) for name in plain)
    yield from _element_changes(table, old, new)
    for name in sorted(new.chains.keys() & old.chains.keys()):
        if old.chains[name].rules != new.chains[name].rules:
            yield [messages.flush_chain(table, name), *_rules(table, name, new.chains[name].rules, ids)]
    for name in sorted(added):
        if hook := new.chains[name].hook:
            yield [messages.new_chain(table, name, hook), *_rules(table, name, new.chains[name].rules, ids)]
    removed = sorted(old.chains.keys() - new.chains.keys())
    # Removed chains may lead to each other and to removed sets: all rules go first, then what they named.
    yield from ([messages.flush_chain(table, name)] for name in removed)
    yield from ([messages.delete_set(table, name)] for name in sorted(old.sets.keys() - new.sets.keys()))
    yield from ([messages.delete_chain(table, name)] for name in removed)


def _rules(table: str, chain: str, rules: Iterable[Rule], ids: Iterator[int]) -> list[Message]:
    made: list[Message] = []
    for rule in rules:
        maps = sum(isinstance(expression, AnonymousMap) for expression in rule.expressions)
        made += messages.new_rule(table, chain, rule, list(itertools.islice(ids, maps)))
    return made


def _element_changes(table: str, old: Ruleset, new: Ruleset) -> Iterator[list[Message]]:
    for name, made in new.sets.items():
        before = old.sets[name].elements if name in old.sets else {}
        if made.type.dynamic or before == made.elements:
            continue
        gone = {key for key, value in before.items() if key not in made.elements or made.elements[key] != value}
        come = {key: value for key, value in made.elements.items() if key not in before or before[key] != value}
        keys = sorted(gone | come.keys())
        for start in range(0, len(keys), _ELEMENTS_PER_GROUP):
            group = keys[start : start + _ELEMENTS_PER_GROUP]
            # Together, so that a key whose value changes is never missing.
            yield messages.delete_elements(table, name, [key for key in group if key in gone]) + (
                messages.add_elements(table, name, {key: come[key] for key in group if key in come})
            )


def _batches(groups: Iterable[list[Message]]) -> list[list[Message]]:
    batches: list[list[Message]] = []
    size = BATCH_SIZE
    for group in groups:
        weight = sum(len(message.body) + 32 for message in group)
        if not group:
            continue
        if size + weight > BATCH_SIZE:
            batches.append([])
            size = 0
        batches[-1] += group
        size += weight
    return batches
