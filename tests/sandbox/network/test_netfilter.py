"""What the kernel itself says to nf_tables messages."""

from __future__ import annotations

import ctypes
import errno
import os
import socket

import pytest
from inside import in_namespaces

from podlab.network import nftables, nftables_messages
from podlab.network.netfilter import Netfilter, NetfilterError
from podlab.network.netlink import Netlink
from podlab.network.nftables import ACCEPT, DROP, R0, Ct, Meta, goto, jump, rule
from podlab.network.nftables_messages import Hook, HookPoint, SetType
from podlab.network.rulesets import Chain, Ruleset, Set, change, creation, deletion

pytestmark = pytest.mark.sandbox

INPUT = Hook("filter", HookPoint.INPUT, 0)


@in_namespaces
def test_a_refused_batch_is_named_and_changes_nothing() -> None:
    with Netfilter() as netfilter:
        netfilter.commit_all(creation(Ruleset("t", {"kept": Chain((rule(nftables.counter()),))})))
        batch = [nftables_messages.new_chain("t", "first"), nftables_messages.flush_chain("t", "kept")]
        batch += nftables_messages.new_rule("t", "missing", rule(ACCEPT))
        batch.append(nftables_messages.new_chain("t", "last"))
        with pytest.raises(NetfilterError, match="refused the rule in chain missing: No such file") as caught:
            netfilter.commit(batch)
        assert caught.value.number == errno.ENOENT
        assert netfilter.chains("t") == ["kept"] and len(netfilter.counters("t", "kept")) == 1
        # The connection is as good as before.
        netfilter.commit([nftables_messages.new_chain("t", "after")])
        assert netfilter.chains("t") == ["after", "kept"]
        with pytest.raises(NetfilterError, match="deletion of chain unknown"):
            netfilter.commit([nftables_messages.delete_chain("t", "unknown")])
        netfilter.commit_all(deletion("t"))
        netfilter.commit_all(deletion("t"))
        assert netfilter.chains("t") == [] and netfilter.counters("t", "kept") == []


@in_namespaces
def test_without_the_right_the_error_says_which() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    child = os.fork()
    if not child:
        # A further user namespace has no rights over the network namespace that it was made in.
        status = 1
        try:
            assert libc.unshare(0x1000_0000) == 0
            with Netfilter() as netfilter:
                netfilter.commit([nftables_messages.new_table("t")])
        except NetfilterError as error:
            status = 0 if error.number == errno.EPERM and "CAP_NET_ADMIN" in str(error) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@in_namespaces
def test_rules_judge_packets_and_counters_tell() -> None:
    """Every expression that a comparison can be made with, on packets over the loopback link."""
    with Netlink() as links:
        links.set_up("lo")
    port = nftables.port(5300)[:2]
    loaded = {
        "protocol": nftables.match_protocol(nftables.UDP),
        "wrong protocol": nftables.match_protocol(nftables.TCP),
        "source": nftables.match_source("127.0.0.1"),
        "wrong source": nftables.match_source("127.0.0.2"),
        "network": nftables.match_destination("127.0.0.0/8"),
        "wrong network": nftables.match_destination("10.0.0.0/9"),
        "port": (nftables.destination_port(), nftables.compare(port)),
        "wrong port": (nftables.source_port(), nftables.compare(port)),
        "new": nftables.match_bits(nftables.ct(Ct.STATE), nftables.NEW),
        "wrong state": nftables.match_bits(nftables.ct(Ct.STATE), nftables.ESTABLISHED | nftables.INVALID),
        "in set": (nftables.source_address(), nftables.lookup("known")),
        "wrong, not in set": (nftables.source_address(), nftables.lookup("known", invert=True)),
        "link": (nftables.meta(Meta.IIFNAME), nftables.compare(b"lo".ljust(16, b"\0"))),
        "mark": (
            nftables.immediate(nftables.native(7)),
            nftables.set_meta(Meta.MARK),
            *nftables.match_bits(nftables.meta(Meta.MARK), 2),
        ),
        "wrong mark": nftables.match_bits(nftables.meta(Meta.MARK), 8),
    }
    checks = tuple(rule(match, nftables.counter(), comment=name) for name, match in loaded.items())
    choose = rule(nftables.random_number(1), nftables.AnonymousMap(R0, ((nftables.native(0), goto("end")),)))
    made = Ruleset(
        "t",
        {
            "input": Chain((*checks, rule(jump("chosen"))), INPUT),
            "chosen": Chain((choose,)),
            "end": Chain((rule(nftables.counter(), DROP),)),
        },
        {"known": Set(SetType(4, nftables_messages.TYPE_ADDRESS), {nftables.address("127.0.0.1"): None})},
    )
    with Netfilter() as netfilter:
        netfilter.commit_all(creation(made))
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        receiver.bind(("127.0.0.1", 5300))
        receiver.settimeout(0.2)
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sender.sendto(b"x", ("127.0.0.1", 5300))
        with pytest.raises(TimeoutError):
            receiver.recv(10)
        seen = {count.comment: count.packets for count in netfilter.counters("t", "input")}
        assert seen == {name: 0 if "wrong" in name else 1 for name in loaded}
        assert [count.packets for count in netfilter.counters("t", "end")] == [1]

        open_ = Ruleset("t", {**made.chains, "end": Chain((rule(nftables.counter(), ACCEPT),))}, made.sets)
        netfilter.commit_all(change(made, open_))
        sender.sendto(b"y", ("127.0.0.1", 5300))
        assert receiver.recv(10) == b"y"
        # What was not changed has kept its counts.
        assert {count.packets for count in netfilter.counters("t", "input")} == {0, 2}
        receiver.close()
        sender.close()


@in_namespaces
def test_more_elements_than_one_message_holds() -> None:
    keys = {nftables.address(f"10.1.{number // 250}.{number % 250}"): None for number in range(3000)}
    kind = SetType(4, nftables_messages.TYPE_ADDRESS)
    with Netfilter() as netfilter:
        netfilter.commit_all(creation(Ruleset("t", sets={"s": Set(kind, keys)})))
        assert set(netfilter.elements("t", "s")) == keys.keys()
        netfilter.commit_all(change(Ruleset("t", sets={"s": Set(kind, keys)}), Ruleset("t", sets={"s": Set(kind)})))
        assert netfilter.elements("t", "s") == []
