"""The reference election is safe and live in seeded runs, and every wrong variant is caught. See also the benchmark."""

from __future__ import annotations

import pytest
from wrong_electors import ELECTORS, Unfenced, runs_until_caught

from podlab.distributed.context import Node
from podlab.distributed.election import MEMBERS, STORE, Elector, FencedStore, simulated
from podlab.distributed.histories import check_fencing, check_leases, leases
from podlab.distributed.network import Conditions
from podlab.distributed.simulator import Simulator

SEEDS = 60


@pytest.fixture(scope="module")
def runs() -> list[Simulator]:
    return [simulated(seed) for seed in range(SEEDS)]


def test_never_two_holders(runs: list[Simulator]) -> None:
    for run in runs:
        verdict = check_leases(run.record)
        assert verdict, f"seed {run.seed}: {verdict}"
        fenced = check_fencing(run.record)
        assert fenced, f"seed {run.seed}: {fenced}"


def test_the_faults_have_bitten(runs: list[Simulator]) -> None:
    for what in ("lost", "duplicated", "held", "cut", "down", "deferred"):
        assert sum(run.tally[what] for run in runs) > SEEDS, what
    kinds = [event["event"] for run in runs for event in run.record]
    assert {"crash", "restart", "pause", "resume", "partition", "slow", "cut"} <= set(kinds)
    refused = [event for run in runs for event in run.record if event["event"] == "write" and not event["accepted"]]
    assert refused, "no stale leader ever wrote: fencing was not tested"
    assert sum(len(leases(run.record)) for run in runs) > 3 * SEEDS


def test_there_is_a_leader_again_when_faults_are_over(runs: list[Simulator]) -> None:
    for run in runs:
        assert any(lease.end > run.time - 10 for lease in leases(run.record)), f"seed {run.seed}"


@pytest.mark.parametrize("wrong", [*ELECTORS, Unfenced], ids=lambda kind: kind.__name__)
def test_wrong_variants_are_caught(wrong: type[Node]) -> None:
    assert runs_until_caught(wrong, 100) is not None


def small(seed: int = 1) -> Simulator:
    simulator = Simulator(seed, Conditions(delay=(0.001, 0.01)))
    for name in MEMBERS:
        simulator.add(name, lambda context: Elector(context, MEMBERS, STORE))
    simulator.add(STORE, FencedStore)
    assert simulator.run_until(lambda run: leader(run), within=10)
    return simulator


def leader(simulator: Simulator) -> str | None:
    holding = [name for name in MEMBERS if (node := simulator.node(name)) and node.leading()]
    assert len(holding) <= 1
    return holding[0] if holding else None


def test_a_quiet_group_keeps_its_leader() -> None:
    simulator = small()
    first = leader(simulator)
    simulator.run(100)
    assert leader(simulator) == first
    assert len(leases(simulator.record)) == 1


def test_a_minority_makes_no_progress() -> None:
    simulator = small()
    old = leader(simulator)
    beside = next(name for name in MEMBERS if name != old)
    simulator.partition([old, beside])
    simulator.run(20)
    assert leader(simulator) not in (None, old, beside)
    terms = {lease.term: lease.holder for lease in leases(simulator.record)}
    assert len(terms) == 2


def test_a_frozen_leader_finds_that_it_no_longer_leads() -> None:
    simulator = small()
    old = leader(simulator)
    simulator.pause(old, "send")
    simulator.run(20)
    simulator.resume(old)
    simulator.run(1)
    assert leader(simulator) not in (None, old)
    stale = [event for event in simulator.record if event["event"] == "write" and not event["accepted"]]
    assert [event["writer"] for event in stale] == [old]


def test_one_isolated_node_coming_back_disturbs_nobody() -> None:
    simulator = small()
    first = leader(simulator)
    away = next(name for name in MEMBERS if name != first)
    simulator.partition([away])
    simulator.run(60)
    simulator.heal()
    simulator.run(20)
    assert leader(simulator) == first
    assert len(leases(simulator.record)) == 1
