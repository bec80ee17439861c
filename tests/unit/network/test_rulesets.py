from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from podlab.network import nftables, rulesets
from podlab.network.nftables import ACCEPT, AnonymousMap, Verdict, goto, rule
from podlab.network.nftables_messages import Hook, HookPoint, Kind, Message, SetType, new_rule
from podlab.network.rulesets import Chain, Ruleset, Set, change, creation
from podlab.network.service_rules import NodeView, part, table
from podlab.network.services import Backend, Refusal, ServicePort

MAP = SetType(12, verdicts=True)
HOOK = Hook("nat", HookPoint.PREROUTING, -100)


def kinds(batches: list[list[Message]]) -> list[list[str]]:
    return [[f"{message.kind.name}: {message.what}" for message in batch] for batch in batches]


def test_creation_replaces_what_is_there_in_one_batch() -> None:
    new = Ruleset(
        "t",
        {"base": Chain((rule(nftables.verdict_lookup("m")),), HOOK), "leaf": Chain((rule(ACCEPT),))},
        {"m": Set(MAP, {bytes(12): goto("leaf")})},
    )
    assert kinds(creation(new)) == [
        [
            "NEW_TABLE: table t",
            "DELETE_TABLE: deletion of table t",
            "NEW_TABLE: table t",
            "NEW_SET: set m",
            "NEW_CHAIN: chain leaf",
            "NEW_RULE: rule in chain leaf",
            "NEW_ELEMENT: elements of set m",
            "NEW_CHAIN: chain base",
            "NEW_RULE: rule in chain base",
        ]
    ]


def test_equal_rulesets_need_no_change() -> None:
    made = Ruleset("t", {"leaf": Chain((rule(ACCEPT),))}, {"m": Set(MAP, {bytes(12): goto("leaf")})})
    assert change(made, made) == []


def test_a_removed_chain_goes_after_all_that_leads_to_it() -> None:
    old = Ruleset(
        "t",
        {"a": Chain((rule(goto("b")),)), "b": Chain((rule(ACCEPT),)), "kept": Chain((rule(goto("a")),))},
        {"m": Set(MAP, {bytes(12): goto("a")}), "gone": Set(MAP)},
    )
    new = Ruleset("t", {"kept": Chain((rule(ACCEPT),))}, {"m": Set(MAP)})
    assert kinds(change(old, new)) == [
        [
            "DELETE_ELEMENT: removal from set m",
            "DELETE_RULE: flush of chain kept",
            "NEW_RULE: rule in chain kept",
            "DELETE_RULE: flush of chain a",
            "DELETE_RULE: flush of chain b",
            "DELETE_SET: deletion of set gone",
            "DELETE_CHAIN: deletion of chain a",
            "DELETE_CHAIN: deletion of chain b",
        ]
    ]


def test_a_changed_value_is_replaced_within_one_batch() -> None:
    old = Ruleset("t", sets={"m": Set(MAP, {bytes(12): goto("a"), b"x" * 12: goto("a")})})
    new = Ruleset("t", sets={"m": Set(MAP, {bytes(12): goto("b"), b"x" * 12: goto("a")})})
    (batch,) = change(old, new)
    assert [message.kind for message in batch] == [Kind.DELETE_ELEMENT, Kind.NEW_ELEMENT]
    assert b"x" * 12 not in batch[0].body + batch[1].body


def test_elements_of_dynamic_sets_are_left_to_the_kernel() -> None:
    kind = SetType(4, timeout=10.0, dynamic=True)
    assert change(Ruleset("t", sets={"s": Set(kind)}), Ruleset("t", sets={"s": Set(kind, {b"abcd": None})})) == []


def test_each_map_of_a_batch_has_an_id_of_its_own() -> None:
    made = AnonymousMap(nftables.R0, ((bytes(4), ACCEPT),))
    chains = {f"c{number}": Chain((rule(made), rule(made))) for number in range(5)}
    (batch,) = creation(Ruleset("t", chains))
    ids = [message.body for message in batch if message.kind == Kind.NEW_SET]
    assert len(ids) == len(set(ids)) == 10


def services(count: int) -> list[ServicePort]:
    return [
        ServicePort(
            namespace="default",
            service=f"s{number}",
            name="http",
            protocol="TCP",
            cluster_ip=f"10.96.{1 + number // 250}.{1 + number % 250}",
            port=80,
            node_port=30000 + number,
            external_ips=(),
            affinity=None,
            internal=(Backend("10.244.1.2", 80, True), Backend("10.244.2.2", 80)),
            external=(Backend("10.244.1.2", 80, True), Backend("10.244.2.2", 80)),
            cluster=(Backend("10.244.1.2", 80, True), Backend("10.244.2.2", 80)),
            external_local=False,
        )
        for number in range(count)
    ]


VIEW = NodeView("172.18.0.11")


def render(ports: list[ServicePort]) -> Ruleset:
    return table((part(port, VIEW) for port in ports), VIEW)


def test_batches_stay_below_the_send_buffer_of_an_ordinary_user() -> None:
    for batch in creation(render(services(1000))):
        assert sum(len(message.body) + 32 for message in batch) <= rulesets.BATCH_SIZE


def test_one_change_among_a_thousand_services_is_one_small_batch() -> None:
    ports = services(1000)
    old = render(ports)
    ports[500] = ServicePort(
        **{**ports[500].__dict__, "internal": (), "cluster": ()}
        | dict.fromkeys(("internal", "cluster", "external"), (Backend("10.244.3.3", 80),))
    )
    (batch,) = change(old, render(ports))
    assert sum(len(message.body) for message in batch) < 2000
    (gone,) = change(old, render(ports[:999]))
    assert len(gone) < 20


def test_a_refused_port_leads_nowhere_else() -> None:
    (port,) = services(1)
    nothing = dict.fromkeys(("internal", "external", "cluster"), Refusal.REJECT)
    made = part(ServicePort(**port.__dict__ | nothing), VIEW)
    assert made.services == {} and len(made.refusals) == 2 and made.chains == {}


def test_the_nodes_own_service_address_is_left_alone() -> None:
    (port,) = services(1)
    made = part(ServicePort(**port.__dict__ | {"cluster_ip": "10.96.0.10"}), VIEW)
    assert made == type(made)()


def test_the_first_of_two_services_has_a_shared_external_address() -> None:
    first, second = (ServicePort(**port.__dict__ | {"external_ips": ("192.0.2.1",)}) for port in services(2))
    made = render([first, second])
    key = nftables.address("192.0.2.1") + nftables.protocol(6) + nftables.port(80)
    assert made.sets["services"].elements[key] == goto("external default/s0/tcp/http")


names = st.sampled_from(["a", "b", "c", "d"])


@st.composite
def states(draw: st.DrawFn) -> Ruleset:
    """Tables whose rules and elements only lead to chains that come later in the alphabet."""
    present = sorted(draw(st.sets(names)))
    chains = {}
    for number, name in enumerate(present):
        later = present[number + 1 :]
        targets = draw(st.lists(st.sampled_from(later), max_size=2)) if later else []
        chains[name] = Chain(tuple(rule(goto(target)) for target in targets))
    keys = draw(st.sets(st.integers(0, 3)))
    elements: dict[bytes, bytes | Verdict | None] = {
        bytes([key]) * 12: goto(draw(st.sampled_from(present))) for key in keys if present
    }
    return Ruleset("t", chains, {"m": Set(MAP, elements)})


@given(states(), states())
def test_no_message_names_a_chain_that_is_not_there_nor_deletes_one_in_use(old: Ruleset, new: Ruleset) -> None:
    chains = {name: list(chain.rules) for name, chain in old.chains.items()}
    elements = dict(old.sets["m"].elements)
    for message in (message for batch in change(old, new) for message in batch):
        name = message.what.split()[-1]
        if message.kind == Kind.NEW_CHAIN:
            assert name not in chains
            chains[name] = []
        elif message.kind == Kind.DELETE_RULE:
            chains[name] = []
        elif message.kind == Kind.NEW_RULE:
            made = next(each for each in new.chains[name].rules if new_rule("t", name, each)[-1].body == message.body)
            assert targets_of(made) <= chains.keys()
            chains[name].append(made)
        elif message.kind == Kind.DELETE_CHAIN:
            used = {target for rules in chains.values() for each in rules for target in targets_of(each)}
            used |= {value.chain for value in elements.values() if isinstance(value, Verdict)}
            assert not chains[name] and name not in used
            del chains[name]
        elif message.kind == Kind.DELETE_ELEMENT:
            gone = [key for key in elements if key in message.body]
            for key in gone:
                del elements[key]
        elif message.kind == Kind.NEW_ELEMENT:
            for key, value in new.sets["m"].elements.items():
                if key in message.body:
                    assert isinstance(value, Verdict) and value.chain in chains and key not in elements
                    elements[key] = value
    assert elements == new.sets["m"].elements
    assert {name: Counter(rules) for name, rules in chains.items()} == {
        name: Counter(chain.rules) for name, chain in new.chains.items()
    }


def targets_of(made: nftables.Rule) -> set[str]:
    return {name for name in "abcd" if nftables.immediate_verdict(goto(name)) in made.expressions}
