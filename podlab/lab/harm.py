"""Talking to pods, steady requests, and breaking things on purpose."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from podlab.checks.api import ApiError, Object
from podlab.checks.contract import Inconclusive
from podlab.checks.faults import exclusive
from podlab.checks.traffic import Client, Prober, Record, Reply, Window, url
from podlab.checks.world import MADE_BY
from podlab.errors import PodlabError, UsageError
from podlab.lab.connection import LabError
from podlab.lab.kubectl import KubectlVerbs
from podlab.lab.notebook import ProgressLine, display_it
from podlab.lab.show import Note


class HarmVerbs(KubectlVerbs):
    """Ask a pod, throw its switches, send requests, switch nodes off and on."""

    def ask(self, pod: Object | str, path: str, *, timeout: float = 5.0, **query: Any) -> Reply:
        """Ask one pod for a page, through the API server; no answer is a Reply with status 0."""
        return self.room.ask(self._pod(pod), path, timeout=timeout, **query)

    def trouble(self, pod: Object | str, switch: str, **arguments: Any) -> Note:
        """Throw a switch of the serving program in one pod: wedge, stall, unready, slow, crash."""
        found = self._pod(pod)
        reply = self.room.ask(found, f"/trouble/{switch}", method="POST", **arguments)
        if not reply.ok:
            raise LabError(
                f"{found['metadata']['name']} did not take the switch {switch!r}: "
                f"{reply.error or reply.body.get('error') or reply.status}."
            )
        return Note(f"{found['metadata']['name']}: {switch} {arguments or ''}".rstrip())

    def requests(self, service: str, path: str, *, rate: float = 10, name: str = "requests") -> Traffic:
        """Start steady requests to a Service from inside the cluster; ask the result for what was answered."""
        target = url(service, self.namespace, path)
        return Traffic(self._say(lambda: self.room.prober(target, rate=rate, name=name)), service)

    def visitor(self, name: str = "visitor") -> Client:
        """A client inside the cluster that does what it is told: `resolve(name)`, `visit(url, times, keep=True)`."""
        return self._say(lambda: self.room.client(name))

    def kill_node(self, node: Object | str) -> Note:
        """Pull the plug of a node, given by name or as an object of `lab.nodes()`; LabError if there is no such node.

        `lab.rejoin_node` brings it back; so does the end of the lab.
        """
        return Note(f"{self._harm('kill', node)} has lost its power.")

    def isolate_node(self, node: Object | str) -> Note:
        """Cut a node off the network; its processes go on. `lab.rejoin_node` mends it. For the rest as `kill_node`."""
        return Note(f"{self._harm('isolate', node)} is cut off the network.")

    def rejoin_node(self, node: Object | str) -> Note:
        """Bring a killed or isolated node back."""
        nodes, name = self._nodes(), _name_of(node)
        try:
            self._say(lambda: nodes.rejoin(name))
        except UsageError:  # it has been removed since
            self._whole_again(name)
            raise
        self._whole_again(name)
        return Note(f"{name} is back.")

    def _pod(self, pod: Object | str) -> Object:
        if not isinstance(pod, str):
            return pod
        found = self.api.get("Pod", pod, self.namespace)
        if found is None:
            raise LabError(f"There is no pod {pod!r} in {self.namespace}.", hint="See lab.pods().")
        return found

    @property
    def can_break_nodes(self) -> bool:
        """Whether this cluster can lose nodes on purpose."""
        return self._connection is not None and self._connection.nodes is not None

    def _harm(self, verb: str, node: Object | str) -> str:
        """Do a fault to a node once no check and no other lab is in the way; says whose pods go along. Its name."""
        nodes, name = self._nodes(), _name_of(node)
        names = [each["metadata"]["name"] for each in self._say(lambda: self.api.list("Node"))]
        if name not in names:
            raise LabError(f"There is no node {name!r}.", hint=f"There are {', '.join(names)}.")
        if not self._broken:
            # Whatever this lab wanted whole nodes for, they are its own to break.
            self._stack.close()
            who, line = f"the lab of chapter {self.chapter} (namespace {self.namespace})", ProgressLine()
            try:
                self._note_harm = self._say(
                    lambda: self._stack.enter_context(exclusive(self._need().name, who, line.say))
                )
            finally:
                line.end()
        first = name not in self._broken
        self._broken.add(name)
        self._note_harm(name)
        try:
            if others := self._others_on(name):
                what = f"Pods of other notebooks are on {name} and go with it: {', '.join(others)}."
                display_it(Note(f"{what} What is measured there meanwhile is spoilt.", "warning"))
            self._say(lambda: getattr(nodes, verb)(name))
        except Exception:
            if first:  # it may have been harmed in part
                with suppress(PodlabError):
                    nodes.rejoin(name)
                self._whole_again(name)
            raise
        return name

    def _whole_again(self, name: str) -> None:
        """Let others have whole nodes, once the last one is back that this lab harmed."""
        self._broken.discard(name)
        if not self._broken:
            self._stack.close()

    def _others_on(self, node: str) -> list[str]:
        """The namespaces of other labs and checks that have pods on a node."""
        ours = {room.namespace for room in self.room.world.rooms.values()} | {self.namespace}
        theirs = {space["metadata"]["name"] for space in self.api.list("Namespace", labelSelector=MADE_BY)} - ours
        pods = self.api.list("Pod", fieldSelector=f"spec.nodeName={node}")
        return sorted(theirs & {pod["metadata"]["namespace"] for pod in pods})

    def _nodes(self) -> Any:
        nodes = self._need().nodes
        if nodes is None:
            raise LabError(
                "Nodes of this cluster cannot be switched off from here.",
                hint="Use the embedded cluster: `podlab cluster up`.",
            )
        return nodes


def _name_of(node: Any) -> str:
    """The name of a node that is given by its name or as an object."""
    if isinstance(node, str):
        return node
    try:
        return str(node["metadata"]["name"])
    except (KeyError, TypeError, IndexError):
        raise LabError(f"{node!r} is no node.", hint="Give its name, or one of lab.nodes().") from None


class Traffic:
    """Steady requests to a Service, and what became of them."""

    def __init__(self, prober: Prober, service: str) -> None:
        self.service = service
        self._prober = prober
        self._lock = threading.Lock()
        self._mark = self._poll()

    def _poll(self) -> float:
        try:
            with self._lock:  # a live picture polls too
                return self._prober.poll()
        except ApiError as error:
            raise LabError(error.message, hint="Start it again: traffic = lab.requests(...).") from None
        except Inconclusive as error:
            raise LabError(
                f"Nothing can be measured now: {error}.", hint="End what else runs, or ask for fewer."
            ) from None

    def records(self) -> Sequence[Record]:
        """Every request so far that has ended, in the order of their ends."""
        self._poll()
        return self._prober.records

    @property
    def node(self) -> str:
        """The node on which the client sits."""
        room = self._prober.room
        return (room.api.get("Pod", self._prober.name, room.namespace) or {}).get("spec", {}).get("nodeName", "")

    def mark(self) -> float:
        """Remember this moment: `since_mark` counts from here."""
        self._mark = self._poll()
        return self._mark

    def since_mark(self) -> Window:
        """The requests since the mark that have had time to be answered."""
        return self.since(self._mark)

    def since(self, moment: float) -> Window:
        """The requests since a moment that `mark` gave."""
        now = self._poll()
        return self._prober.window(moment, now - 0.1)

    def __repr__(self) -> str:
        return self.since_mark().summary()
