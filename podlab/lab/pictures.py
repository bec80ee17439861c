"""Live pictures of the lab's namespace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from podlab.lab.harm import HarmVerbs, Traffic
from podlab.lab.notebook import Bundle, display_it
from podlab.lab.show import Note


class Pictures(HarmVerbs):
    """Cluster map, restart staircase, a request's way, requests through a Service, and stills of them."""

    def map(self, title: str = "") -> Any:
        """The live map of the cluster with this namespace's pods."""
        return self._keep(self._watched().map(title or f"Namespace {self.namespace}"))

    def staircase(self, app: str = "", title: str = "Restarts and times not ready") -> Any:
        """The restart staircase of the pods with label app=`app`, from the moment watching began."""
        return self._keep(self._watched().staircase(title, app))

    def journey(self, title: str = "The way of a request") -> Any:
        """Record from now on who writes what in the namespace, and show it: the way of a request. `stop()` ends it."""
        from podlab.widgets.live import Journey

        made = Journey(self.api, self.namespace, title)
        self._keep(made.view, made)
        self.wait(lambda: made.feeder.whole, "the first news of the namespace", 20)
        return made.view

    def flow(self, traffic: Traffic, title: str = "") -> Any:
        """Show steady requests (from `lab.requests`) on their way through their Service, and each pod's share."""
        from podlab.widgets import live
        from podlab.widgets.flow import Flow

        service = traffic.service
        room = self.room

        def endpoints() -> tuple[list[str], list[str]]:
            return live.endpoints(room.slices(service))

        view = live.FlowView(Flow(), service, title or f"Requests to {service}", "live")
        return self._keep(view, live.Watcher(view, traffic.records, endpoints))

    def strip(self, rows: Mapping[str, str], title: str = "From start to end") -> Any:
        """Probe processes (name -> URL) from now on and draw their lives: starting, ready, draining, gone.

        `.load(path)` sends requests to those that are ready, `.mark(name, words)` notes what is done to one,
        `.view` is the picture, `.stop()` ends it.
        """
        from podlab.widgets.lifecycle_feed import Strip

        made = Strip(rows, title)
        self._keep(made.view, made)
        return made

    def pod_strip(self, app: str, title: str = "From start to end") -> Any:
        """The same for the pods with label app=`app`, as the API tells of them. `.view` is the picture."""
        from podlab.widgets.lifecycle_feed import PodStrip

        made = PodStrip(self.api, self.namespace, app, title)
        self._keep(made.view, made)
        return made

    def watch(self) -> Any:
        """Start to record what happens in the namespace (the pictures do it by themselves)."""
        return self._watched()

    def snapshot(self) -> None:
        """Show every picture of this lab as it is now, as a still image with its text twin."""
        from podlab.widgets.views import still

        for view in self._views:
            view.refresh()
            bundle = still(view.to_svg(), view.to_text(), view.view["summary"])
            display_it(Bundle(bundle))
        if not self._views:
            display_it(Note("There is no picture yet: lab.map() or lab.staircase() makes one."))

    def _watched(self) -> Any:
        from podlab.widgets.views import Watch

        if self._watch is None:
            self._say(lambda: self.api.list("Node", limit="1"))  # who may not see them would wait in vain
            self._watch = Watch(self.api, self.namespace)
            self.wait(lambda: self._watch.feeder.whole, "the first news of the cluster", 20)
        return self._watch

    def _keep(self, view: Any, feeder: Any = None) -> Any:
        """Keep a view in the place of an earlier one with its title: of a cell that is run again, one feeder runs."""
        if earlier := self._live.pop(view.title, None):
            earlier.stop()
        if feeder is not None:
            self._live[view.title] = feeder
        self._views = [other for other in self._views if other.title != view.title] + [view]
        return view
