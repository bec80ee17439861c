"""A member of a group that elects its leader, but for the five decisions that make the election safe.

It asks, answers, waits and keeps time. What to remember, whom to vote for, when it has won and how long it may lead
is for a subclass to say: the answer to exercise 03.3. The same class runs in the simulator and as real processes.
"""

from __future__ import annotations

from collections.abc import Sequence

from podlab.distributed.context import Context, Message, Node


class Member(Node):
    """One of `members`, itself included. It leads from the moment at which it has won until `lease_until`."""

    LEASE = 2.0  # seconds for which a vote binds whoever gave it
    DRIFT = 0.05  # seconds that a clock may gain or lose in a second
    RENEW = 0.7  # seconds between two questions of a leader
    SPREAD = 0.5  # seconds over which those who stand for election spread

    def __init__(self, context: Context, members: Sequence[str]) -> None:
        super().__init__(context)
        self.name, self.members = context.name, list(members)
        #: The highest term that it has voted in or heard of, and its vote there (None: it has none).
        self.term: int = 0
        self.vote: str | None = None
        #: Until when, on its own clock, its vote binds it.
        self.bound_until = context.now()
        #: When it has asked for votes last, and who has answered yes to its last question, as the answers came,
        #: itself first.
        self.asked_at = context.now()
        self.voters: list[str] = []
        self.leading = False
        self.lease_until = context.now()
        self.round = self.won_round = 0

    # Five decisions

    def begin(self) -> None:
        """Set `term`, `vote` and `bound_until` at the beginning of every life, from what the disk knows."""
        raise NotImplementedError

    def remember(self, term: int, vote: str | None) -> None:
        """Set `term` and `vote`, so that the next life knows them too."""
        raise NotImplementedError

    def may_vote(self, candidate: str, term: int) -> bool:
        """Whether it may now vote for `candidate` (perhaps itself, perhaps once more) in `term`."""
        raise NotImplementedError

    def won(self) -> bool:
        """Whether `voters` are enough to lead."""
        raise NotImplementedError

    def lease_end(self) -> float:
        """Until when, on its own clock, it may lead now that it has won."""
        raise NotImplementedError

    # Everything else

    def start(self) -> None:
        """Begin a life."""
        self.begin()
        self._stand_later()

    def leads(self) -> bool:
        """Whether it may act as the leader at this moment."""
        return self.leading and self.context.now() < self.lease_until

    def timer(self, name: str) -> None:
        """See whether one could win, or ask again before the lease ends."""
        if name == "stand":
            if not self.leading and self.may_vote(self.name, self.term + 1):
                self._send("probe", self.term + 1)
            self._stand_later()
        elif self.leads():
            self._ask()
        else:
            self._step_down()

    def receive(self, source: str, message: Message) -> None:
        """A question ("probe", "ask"), or the answer to one ("free", "grant", "refuse")."""
        kind, term = message["type"], message["term"]
        if kind == "probe":
            free = self.may_vote(source, term)
            self.context.send(source, {**message, "type": "free"} if free else {"type": "refuse", "term": self.term})
        elif kind == "ask":
            self._asked(source, term, message)
        elif kind in ("free", "grant"):
            self._answered(source, message)
        elif term > self.term and not self.leading:
            self.remember(term, None)

    def _answered(self, source: str, message: Message) -> None:
        """Count an answer to the last question; having won decides, once."""
        probing = message["type"] == "free"
        if message["round"] != self.round or message["term"] != self.term + probing or self.won_round == self.round:
            return
        self.voters.append(source)
        if not self.won():
            return
        self.won_round = self.round
        if not probing:
            self._hold()
        elif not self.leading and self.may_vote(self.name, self.term + 1):
            self.remember(self.term + 1, self.name)
            self.context.record("candidate", term=self.term)
            self._ask()
            self._stand_later()

    def _asked(self, source: str, term: int, message: Message) -> None:
        if not self.may_vote(source, term):
            self.context.send(source, {"type": "refuse", "term": self.term})
            return
        if (self.term, self.vote) != (term, source):
            self._step_down()
            self.remember(term, source)
            self.context.record("voted", term=term, choice=source)
        self.bound_until = self.context.now() + self.LEASE
        self.context.send(source, {**message, "type": "grant"})
        self._stand_later()

    def _ask(self) -> None:
        self.asked_at = self.context.now()
        self.bound_until = max(self.bound_until, self.asked_at + self.LEASE)
        self._send("ask", self.term)
        if self.leading:
            self.context.set_timer("renew", self.RENEW)

    def _send(self, what: str, term: int) -> None:
        self.round += 1
        self.voters = [self.name]
        for other in self.members:
            if other != self.name:
                self.context.send(other, {"type": what, "term": term, "round": self.round})

    def _hold(self) -> None:
        self.lease_until = self.lease_end()
        if not self.context.now() < self.lease_until:
            return
        self.context.record("lease", term=self.term, until=self.lease_until)
        if not self.leading:
            self.leading = True
            self.context.cancel_timer("stand")
            self.context.set_timer("renew", self.RENEW)

    def _step_down(self) -> None:
        if self.leading:
            self.leading = False
            self.context.record("released", term=self.term)
            self.context.cancel_timer("renew")
            self._stand_later()

    def _stand_later(self) -> None:
        if not self.leading:
            wait = max(0.0, self.bound_until - self.context.now())
            self.context.set_timer("stand", wait + self.context.random.uniform(0, self.SPREAD))
