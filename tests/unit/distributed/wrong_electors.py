"""Elections with one mistake each, as they are made in practice, and how many runs find it. Used by a benchmark too."""

from __future__ import annotations

from typing import Any

from podlab.distributed.context import Context, Message, Node
from podlab.distributed.election import Elector, simulated
from podlab.distributed.histories import check_fencing, check_leases


class Minority(Elector):
    """Two votes of five are enough."""

    def __init__(self, context: Context, **named: Any) -> None:
        super().__init__(context, **named)
        self.majority = 2


class Amnesia(Elector):
    """Starts with an empty memory after a crash."""

    def __init__(self, context: Context, **named: Any) -> None:
        super().__init__(context, **named)
        self.term, self.vote = 0, None


class PromiseForgotten(Elector):
    """Remembers term and vote after a crash, but not that a promise may still bind it."""

    def start(self) -> None:
        self._campaign_later()


class CountsFromAnswer(Elector):
    """Counts the lease from the moment of the last answer, not from before the question."""

    def lease_end(self) -> float:
        return self.context.now() + self.LEASE * (1 - self.DRIFT) / (1 + self.DRIFT)


class PerfectClocks(Elector):
    """Leaves no margin for clocks that drift apart."""

    def lease_end(self) -> float:
        return self.asked_at + self.LEASE


class BreaksPromise(Elector):
    """Votes for whoever comes with a higher term, promise or not."""

    def may_grant(self, source: str, term: int) -> bool:
        return term > self.term or (term == self.term and self.vote in (None, source))


class VotesTwice(Elector):
    """Votes for several candidates in one term, once its promise has run out."""

    def may_grant(self, source: str, term: int) -> bool:
        return not self.promised_to_another(source) and term >= self.term


class ComparesClocks(Elector):
    """Voters keep their promise until a time that the leader read from its own clock."""

    def _ask_others(self, what: str, term: int) -> None:
        self.round += 1
        self.granted = {self.context.name}
        until = self.context.now() + self.LEASE
        for other in self.others:
            self.context.send(other, {"type": what, "term": term, "round": self.round, "until": until})

    def _asked(self, source: str, message: Message) -> None:
        super()._asked(source, message)
        if self.vote == source:
            self.promise_until = message["until"]


class RenewsAlone(Elector):
    """A leader that asks for renewal does not wait for the answers."""

    def _ask(self) -> None:
        super()._ask()
        if self.role == "leader":
            self._hold()


class CountsDuplicates(Elector):
    """Counts answers instead of nodes that answered."""

    class Answers(list):
        add = list.append

    def _ask_others(self, what: str, term: int) -> None:
        super()._ask_others(what, term)
        self.granted = self.Answers(self.granted)


class CountsLateAnswers(Elector):
    """Takes an answer to an old question for one to the newest."""

    def _answered(self, source: str, message: Message) -> None:
        super()._answered(source, {**message, "round": self.round})


class Unfenced(Node):
    """A store that accepts whatever comes."""

    def receive(self, source: str, message: Message) -> None:
        self.context.record("write", token=message["token"], writer=source, accepted=True)


ELECTORS = (
    Minority,
    Amnesia,
    PromiseForgotten,
    CountsFromAnswer,
    PerfectClocks,
    BreaksPromise,
    VotesTwice,
    ComparesClocks,
    RenewsAlone,
    CountsDuplicates,
    CountsLateAnswers,
)


def runs_until_caught(kind: type[Node], most: int, first: int = 0) -> int | None:
    """How many seeded runs it takes until a checker objects; None if none of `most` does."""
    for number in range(most):
        if issubclass(kind, Elector):
            record = simulated(first + number, elector=kind).record
        else:
            record = simulated(first + number, store=kind).record
        if not (check_leases(record) and check_fencing(record)):
            return number + 1
    return None
