"""Where a lab works: connection, namespace, and what is mended and removed in the end."""

from __future__ import annotations

import atexit
import contextlib
import importlib
import importlib.util
import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, TypeVar

from podlab.checks import faults, owners, seeds
from podlab.checks.api import Api, ApiError, Object
from podlab.checks.contract import Inconclusive, Refused, Report
from podlab.checks.world import PYTHON_IMAGE, Room, World
from podlab.cluster import clusters
from podlab.errors import PodlabError
from podlab.lab import chapters
from podlab.lab.connection import Connection, LabError, chosen, connect
from podlab.lab.notebook import display_it
from podlab.lab.progress import Progress
from podlab.lab.show import Note

T = TypeVar("T")

#: Said where an object is missing: a cell may have been run too early, or the kernel been started again.
FRESH = "Each kernel has a namespace of its own: after a restart, run the cells that apply your objects again."


class Place:
    """A chapter's place on a cluster: opened, used by the verbs, closed."""

    def __init__(self, chapter: str, cluster: str | None = None) -> None:
        self.chapter = chapter
        self.cluster = cluster
        self.away = ""
        self.learner = seeds.learner()
        self.seed = seeds.seed_for(self.learner, chapter)
        self._progress = Progress(chapter, tell=lambda text: display_it(Note(text, "warning")))
        self._connection: Connection | None = None
        self._world: World | None = None
        self._room: Room | None = None
        self._watch: Any = None
        #: What feeds the live pictures, by their titles.
        self._live: dict[str, Any] = {}
        self._views: list[Any] = []
        self._broken: set[str] = set()
        self._note_harm: Callable[[str], None] = lambda _node: None
        self._stack = ExitStack()
        self._predicted: set[str] = set()
        self._last: dict[str, Report] = {}

    @property
    def on_cluster(self) -> bool:
        """Whether this chapter works on a cluster."""
        return chapters.needs_cluster(self.chapter)

    def open(self, connection: Connection) -> None:
        """Take a cluster: remove what dead kernels left, make the namespace, put the chapter's programs into it."""
        self._connection = connection
        # `podlab lab` gave JupyterLab the cluster of its start: kubectl in a cell must not go on asking that one.
        if clusters.of_kubeconfig(os.environ.get("KUBECONFIG")):
            os.environ["KUBECONFIG"] = str(connection.api.kubeconfig)
        given = os.environ.get("PODLAB_NAMESPACE")
        label = f"lab-{self.chapter}"
        self._world = World(connection.api, seed=self.seed, label=label, **connection.surroundings)
        if given:
            self._room = Room(self._world, "work", given)
        else:
            if not connection.namespaces:
                owners.sweep(connection.api)
            if connection.nodes is not None:
                faults.mend(connection.name)
            self._room = self._world.room("work", _objects(self.chapter))
        self.away = ""
        atexit.register(self.close)

    def close(self) -> None:
        """Mend what was broken, end the live pictures, remove the namespace. Safe to call twice."""
        atexit.unregister(self.close)
        for live in filter(None, (self._watch, *self._live.values())):
            live.stop()
        self._watch, self._live = None, {}
        if self._connection is not None and self._connection.nodes is not None:
            for node in sorted(self._broken):
                with contextlib.suppress(PodlabError):
                    self._connection.nodes.rejoin(node)
        self._broken.clear()
        self._stack.close()
        if self._world is not None:
            self._world.close()
        self._world = self._room = None

    def reset(self) -> Note:
        """Start over with an empty namespace and without pictures. Scores, hints and predictions stay.

        Where another cluster is in use by now (`podlab cluster use`), the lab moves there.
        """
        connection = self._need() if self.on_cluster or self._connection is not None else None
        if connection is not None and (self.cluster or chosen()) != connection.name:
            connection = connect(self.cluster)
        self.close()
        self._views.clear()
        if connection is None:
            return Note("A clean slate.")
        self.open(connection)
        return Note(f"A clean slate: namespace {self.namespace}.")

    def welcome(self) -> Note:
        """Where this lab is, or why it has no cluster."""
        if not self.on_cluster and self._connection is None:
            return Note(f"Chapter {self.chapter} is open. It runs as processes of this machine. Seed {self.seed}.")
        if self._room is None or self._connection is None:
            here = "" if os.environ.get("PODLAB_KUBECONFIG") else f"Or do so here: {self._cell(up=True)}. "
            return Note(f"No cluster: {self._why()}\n{here}Your progress is kept.", "warning")
        where = f"cluster {self._connection.name} ({self._connection.version}), namespace {self.namespace}"
        opened = f"Chapter {self.chapter} is open: {where}. Seed {self.seed}."
        if self._connection.image != PYTHON_IMAGE:
            opened += f"\nFor {PYTHON_IMAGE} this cluster runs {self._connection.image}."
        if self._connection.namespaces:
            opened += "\nIt makes no namespaces: all that you and the checks do is done in your own name."
        return Note(f"{opened}\n{harmed}", "warning") if (harmed := self._harmed_by_another()) else Note(opened)

    def __repr__(self) -> str:
        return self.welcome().text

    def _harmed_by_another(self) -> str:
        """Who else has nodes of this cluster harmed just now, in a sentence; '' if nobody has."""
        who = "" if self._broken or self._connection is None else faults.harmed_by(self._connection.name)
        return who and f"Nodes of this cluster are harmed on purpose now, by {who}: what is measured may be spoilt."

    def _need(self) -> Connection:
        if self._connection is None or self._room is None:
            again = f"Then run {self._cell()} again." if self.away else f"Run {self._cell(up=True)}."
            raise LabError(f"This lab has no cluster: {self._why()}", hint=again)
        return self._connection

    def _why(self) -> str:
        """Why there is no cluster, with the command that helps where one does."""
        return self.away or ("it was closed." if self._connection else "none was asked for.")

    def _cell(self, *, up: bool = False) -> str:
        """The cell that opens this lab; `up`: that starts its cluster, too."""
        named = f', cluster="{self.cluster}"' if self.cluster else ""
        return f'lab = start("{self.chapter}"{named}{", up=True" if up else ""})'

    def _need_whole(self) -> Connection:
        """The same for what needs whole nodes: while this lab has some harmed, it would wait for this very lab."""
        on = self._need()
        if self._broken:
            verbs = [f'lab.rejoin_node("{node}")' for node in sorted(self._broken)]
            raise LabError(
                f"You have harmed {', '.join(sorted(self._broken))}, and this needs whole nodes.",
                hint=f"{'; '.join(verbs)} first.",
            )
        return on

    @property
    def room(self) -> Room:
        """The lab's own room (namespace) with everything that checks use too."""
        self._need()
        assert self._room is not None
        return self._room

    @property
    def namespace(self) -> str:
        """The name of the lab's namespace."""
        return self.room.namespace

    @property
    def api(self) -> Api:
        """The API as plain dictionaries; `lab.client` is the official client's ApiClient."""
        return self._need().api

    @property
    def client(self) -> Any:
        """The official Kubernetes client's ApiClient, connected: kubernetes.client.CoreV1Api(lab.client)."""
        return self.api.client

    def _say(self, call: Callable[[], T]) -> T:
        self._need()
        try:
            return call()
        except ApiError as error:
            told = f"The API server refused ({error.status} {error.reason}): {error.message}"
            raise LabError(told, hint=FRESH if error.status == 404 else error.hint) from None
        except Refused as refusal:
            raise LabError(f"{refusal}.", hint=refusal.result.next_step) from None
        except Inconclusive as error:
            raise LabError(f"Nothing was done: {error}.", hint="Close that notebook, then try again.") from None


def _objects(chapter: str) -> list[Object]:
    """What a chapter puts into its namespace: `objects()` of its workload, where it has one."""
    name = f"podlab.course.chapter{chapter}"
    if importlib.util.find_spec(name) is None:
        return []
    module = importlib.import_module(name)
    return list(module.objects()) if hasattr(module, "objects") else []
