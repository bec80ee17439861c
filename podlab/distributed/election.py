"""A lead node for a group: election by majority, leases, terms, and fencing of what a former leader still sends.

One rule makes it safe: a node that grants leadership promises not to grant it to anyone else for `LEASE` seconds
of its own clock, and any two majorities share a node. The leader counts its lease from before it asked, and
shortens it by what two clocks may drift apart, so its lease ends before the promises do. Only durations are
compared, never two nodes' clock readings. After Gray and Cheriton, Leases (1989), and Raft's terms (2014).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from podlab.distributed import faults
from podlab.distributed.context import Context, Message, Node
from podlab.distributed.simulator import Simulator

#: Names of the group in the runs below, and of the store that the leader writes to.
MEMBERS = ("n1", "n2", "n3", "n4", "n5")
STORE = "store"


class Elector(Node):
    """One of `members`; whoever leads writes to `store`, if there is one, with its term as fencing token.

    Roles: follower, candidate, leader. Durable: the highest term seen and whom this node voted for in it.
    """

    LEASE = 2.0  # seconds for which a granted vote binds
    DRIFT = 0.05  # most seconds that a clock may gain or lose in a second
    RENEW = 0.5  # seconds between a leader's renewals
    SPREAD = 0.5  # seconds over which candidates spread, so that they seldom collide

    def __init__(self, context: Context, members: Sequence[str], store: str | None = None) -> None:
        super().__init__(context)
        self.others = [name for name in members if name != context.name]
        self.majority = len(members) // 2 + 1
        self.store = store
        self.role = "follower"
        self.term: int = context.storage.get("term", 0)
        self.vote: str | None = context.storage.get("vote")
        self.promise_until = context.now()
        self.lease_until = context.now()
        self.round = 0
        self.asked_at = 0.0
        self.granted: set[str] = set()

    # What happens to a node

    def start(self) -> None:
        """A node that has voted before cannot know what it promised: it keeps the longest promise possible."""
        if self.term > 0:
            self.promise_until = self.context.now() + self.LEASE
        self._campaign_later()

    def receive(self, source: str, message: Message) -> None:
        """A question ("probe", "ask"), or an answer to one ("free", "grant", "refuse")."""
        known = {
            "probe": self._probed,
            "free": self._answered,
            "ask": self._asked,
            "grant": self._answered,
            "refuse": self._refused,
        }
        if message["type"] in known:
            known[message["type"]](source, message)

    def timer(self, name: str) -> None:
        """Stand for election, or renew the lease."""
        if name == "campaign":
            self._campaign()
        elif self.role == "leader":
            if self.leading():
                self._work()
                self._ask()
            else:
                self._step_down()

    def leading(self) -> bool:
        """Whether this node holds the lease at this moment, as far as it can know."""
        return self.role == "leader" and self.context.now() < self.lease_until

    # Asking: whether one could win, for votes, and again and again for the renewal of the lease

    def _campaign(self) -> None:
        """Ask first whether a majority is free to vote: standing without a chance would only disturb a leader."""
        if not self.promised_to_another(self.context.name):
            self._ask_others("probe", self.term + 1)
        self._campaign_later()

    def _stand(self) -> None:
        if self.role == "leader" or self.promised_to_another(self.context.name):
            return
        self._adopt(self.term + 1, self.context.name)
        self.role = "candidate"
        self.context.record("candidate", term=self.term)
        self._ask()
        self._campaign_later()

    def _ask(self) -> None:
        self.asked_at = self.context.now()
        self.promise_until = max(self.promise_until, self.asked_at + self.LEASE)
        self._ask_others("ask", self.term)
        if self.role == "leader":
            self.context.set_timer("renew", self.RENEW)

    def _ask_others(self, what: str, term: int) -> None:
        self.round += 1
        self.granted = {self.context.name}
        for other in self.others:
            self.context.send(other, {"type": what, "term": term, "round": self.round})

    def _answered(self, source: str, message: Message) -> None:
        """Count an answer to the present round; a majority decides, once."""
        probing = message["type"] == "free"
        if message["round"] != self.round or message["term"] != self.term + probing:
            return
        if not probing and self.role == "follower":
            return
        before = len(self.granted)
        self.granted.add(source)
        if len(self.granted) == self.majority > before:
            if probing:
                self._stand()
            else:
                self._hold()

    def _hold(self) -> None:
        self.lease_until = self.lease_end()
        if not self.context.now() < self.lease_until:
            return
        first, self.role = self.role == "candidate", "leader"
        self.context.record("lease", term=self.term, until=self.lease_until)
        if first:
            self.context.cancel_timer("campaign")
            self.context.set_timer("renew", self.RENEW)
            self._work()

    def lease_end(self) -> float:
        """When the lease of the present round ends on this node's clock: before any granter's promise does."""
        return self.asked_at + self.LEASE * (1 - self.DRIFT) / (1 + self.DRIFT)

    def _work(self) -> None:
        if self.store and self.leading():
            self.context.send(self.store, {"type": "write", "token": self.term, "value": self.context.name})

    # Answering

    def promised_to_another(self, source: str) -> bool:
        """Whether a promise to someone other than `source` still binds this node."""
        return self.context.now() < self.promise_until and self.vote != source

    def may_grant(self, source: str, term: int) -> bool:
        """Whether this node may vote for `source` in `term`: no promise binds it, and one vote a term."""
        if self.promised_to_another(source) or term < self.term:
            return False
        return term > self.term or self.vote in (None, source)

    def _probed(self, source: str, message: Message) -> None:
        free = self.may_grant(source, message["term"])
        self.context.send(source, {**message, "type": "free"} if free else {"type": "refuse", "term": self.term})

    def _asked(self, source: str, message: Message) -> None:
        if not self.may_grant(source, message["term"]):
            self.context.send(source, {"type": "refuse", "term": self.term})
            return
        if (self.term, self.vote) != (message["term"], source):
            self._step_down()
            self._adopt(message["term"], source)
            self.context.record("voted", term=self.term, choice=source)
        self.promise_until = self.context.now() + self.LEASE
        self.context.send(source, {**message, "type": "grant"})
        self._campaign_later()

    def _refused(self, source: str, message: Message) -> None:
        if message["term"] > self.term:
            self._step_down()
            self._adopt(message["term"], None)

    # Small changes

    def _adopt(self, term: int, vote: str | None) -> None:
        self.context.storage.put(term=term, vote=vote)
        self.term, self.vote = term, vote

    def _step_down(self) -> None:
        if self.role == "leader":
            self.context.record("released", term=self.term)
            self.context.cancel_timer("renew")
            self._campaign_later()
        self.role = "follower"

    def _campaign_later(self) -> None:
        """Wait out the present promise, and a moment by chance, so that one node is first."""
        if self.role != "leader":
            wait = max(0.0, self.promise_until - self.context.now())
            self.context.set_timer("campaign", wait + self.context.random.uniform(0, self.SPREAD))


class FencedStore(Node):
    """What a leader writes to: refuses a token lower than the highest one it has seen, even after a crash."""

    def receive(self, source: str, message: Message) -> None:
        """Accept or refuse a write."""
        token = message["token"]
        accepted = token >= self.context.storage.get("token", 0)
        if accepted:
            self.context.storage.put(token=token, value=message["value"])
        self.context.record("write", token=token, writer=source, accepted=accepted)


def simulated(
    seed: int | str,
    *,
    elector: type[Elector] = Elector,
    store: type[Node] = FencedStore,
    seconds: float = 60.0,
    trace: bool = False,
    drift: float = 0.05,
    **schedule: Any,
) -> Simulator:
    """A finished run of five electors and a store under faults, clocks and a network drawn from `seed`."""
    simulator = Simulator(seed, faults.conditions(seed), trace=trace)
    for name, (offset, gained) in faults.clocks(seed, MEMBERS, drift).items():
        simulator.add(name, partial(elector, members=MEMBERS, store=STORE), offset=offset, drift=gained)
    simulator.add(STORE, store)
    faults.unleash(simulator, seed, MEMBERS, seconds, victim=lambda: _leader(simulator), **schedule)
    simulator.run(seconds)
    return simulator


def _leader(simulator: Simulator) -> str | None:
    for name in MEMBERS:
        node = simulator.node(name)
        if isinstance(node, Elector) and node.leading():
            return name
    return None
