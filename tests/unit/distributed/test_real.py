"""The very same node code as real processes: the reference election under SIGKILL, SIGSTOP and partitions."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from podlab.distributed.context import Message, Node
from podlab.distributed.election import MEMBERS, STORE, Elector, FencedStore
from podlab.distributed.histories import check_fencing, check_leases
from podlab.distributed.network import Conditions
from podlab.distributed.real import RealRun
from podlab.distributed.storage import FileDisk
from podlab.errors import NodeFailed, UsageError


class QuickElector(Elector):
    """Shorter times, so that a test need not last; safety does not depend on them."""

    LEASE, RENEW, SPREAD = 0.8, 0.15, 0.3


def holders(run: RealRun) -> list[str]:
    """Who acquired a lease, in order, each term once."""
    terms = {event["term"]: event["node"] for event in run.record if event["event"] == "lease"}
    return [terms[term] for term in sorted(terms)]


def test_a_new_leader_after_kill_freeze_and_isolation(tmp_path: Path) -> None:
    conditions = Conditions(delay=(0.0, 0.005), loss=0.02, duplication=0.05)
    with RealRun(tmp_path, 1, conditions) as run:
        for place, name in enumerate(MEMBERS):
            make = partial(QuickElector, members=MEMBERS, store=STORE)
            run.add(name, make, offset=100.0 * place, drift=0.01 * (place - 2))
        run.add(STORE, FencedStore)

        def next_leader(after: int) -> str:
            assert run.run_until(lambda run: len(holders(run)) > after, within=60)
            return holders(run)[-1]

        first = next_leader(0)
        run.crash(first)
        second = next_leader(len(holders(run)))
        run.restart(first)
        run.pause(second)
        third = next_leader(len(holders(run)))
        run.resume(second)
        run.partition([third], [name for name in (*MEMBERS, STORE) if name != third])
        fourth = next_leader(len(holders(run)))
        run.heal()
        run.run(0.5)

        assert first != second != third != fourth
        assert [proof.fault for proof in run.proofs] == ["SIGKILL", "SIGSTOP", "SIGCONT"] and all(run.proofs)
        assert run.proxy.bitten("cut") > 0
        leases = check_leases(run.record)
        assert leases, str(leases)
        fencing = check_fencing(run.record)
        assert fencing, str(fencing)
        assert any(event["event"] == "write" and event["accepted"] for event in run.record)


class Counter(Node):
    """Counts its lives on disk and ends badly when told."""

    def start(self) -> None:
        lives = self.context.storage.get("lives", 0) + 1
        self.context.storage.put(lives=lives)
        self.context.record("life", lives=lives)
        if self.context.name == "a":
            self.context.set_timer("go", 0.01)

    def timer(self, name: str) -> None:
        self.context.send("b", {"do": "fail" if self.context.storage.get("lives") == 3 else "nothing"})
        self.context.set_timer("go", 0.01)

    def receive(self, source: str, message: Message) -> None:
        if message["do"] == "fail":
            raise RuntimeError("told to fail")
        self.context.record("heard", source=source)


def lives_of_a(run: RealRun) -> list[int]:
    return [one["lives"] for one in run.record if one["event"] == "life" and one["node"] == "a"]


def test_disks_survive_and_errors_of_nodes_are_told(tmp_path: Path) -> None:
    with RealRun(tmp_path) as run:
        run.add("a", Counter)
        run.add("b", Counter)
        run.at(0.0, "heal")
        assert run.run_until(lambda run: any(one["event"] == "heard" for one in run.record), within=60)
        run.crash("a")
        run.restart("a")
        assert run.run_until(lambda run: lives_of_a(run) == [1, 2], within=60)
        run.crash("a")
        run.restart("a")
        with pytest.raises(NodeFailed, match=r"Node b ended by itself(.|\n)*told to fail"):
            run.run_until(lambda run: False, within=60)
        assert lives_of_a(run) == [1, 2, 3]
        with pytest.raises(UsageError):
            run.add("late", Counter)
        with pytest.raises(UsageError, match="no node"):
            run.crash("nobody")


class Teller(Node):
    """Tells `b` again and again, too seldom to fill a dead socket; notes what it hears with the life it does so in."""

    def start(self) -> None:
        self.lives = self.context.storage.get("lives", 0) + 1
        self.context.storage.put(lives=self.lives)
        self.context.set_timer("go", 0.1)

    def timer(self, name: str) -> None:
        if self.context.name != "b":
            self.context.send("b", {})
        self.context.set_timer("go", 1.0)

    def receive(self, source: str, message: Message) -> None:
        self.context.record("heard", source=source, life=self.lives)


def test_who_is_killed_and_started_again_hears_the_others(tmp_path: Path) -> None:
    def heard(run: RealRun, life: int) -> set[str]:
        return {one["source"] for one in run.record if one["event"] == "heard" and one["life"] == life}

    with RealRun(tmp_path) as run:
        for name in ("a", "b", "c"):
            run.add(name, Teller)
        assert run.run_until(lambda run: heard(run, 1) == {"a", "c"}, within=60)
        for name in ("a", "c"):  # nothing they send may close the old ways before the new process is made
            run.pause(name)
        run.crash("b")
        run.restart("b")
        for name in ("a", "c"):
            run.resume(name)
        assert run.run_until(lambda run: heard(run, 2) == {"a", "c"}, within=60)


def test_a_file_disk_is_the_old_or_the_new_one(tmp_path: Path) -> None:
    disk = FileDisk(tmp_path / "n1.disk")
    disk.put(term=3, vote="n2", log=[1, 2])
    disk.get("log").append(3)
    (tmp_path / "n1.new").write_text("{half of it")
    again = FileDisk(tmp_path / "n1.disk")
    assert (again.get("term"), again.get("vote"), again.get("log"), again.get("none", 7)) == (3, "n2", [1, 2], 7)
    assert (tmp_path / "n1.disk").stat().st_mode & 0o777 == 0o600
    assert isinstance(again.get("log"), list)
