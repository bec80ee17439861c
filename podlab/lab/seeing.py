"""Looking inside: add-ons of the cluster, PromQL, alerts, logs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from podlab.checks.faults import undisturbed
from podlab.lab.learning import columns
from podlab.lab.notebook import ProgressLine
from podlab.lab.pictures import Pictures
from podlab.lab.show import Listing, Note

if TYPE_CHECKING:
    from podlab.addons.logs import Line, Logs
    from podlab.addons.opensearch import OpenSearch
    from podlab.addons.prometheus import Prometheus


class Seeing(Pictures):
    """Bring an add-on in, ask Prometheus and the log store, see whom Alertmanager has told."""

    def enable(self, addon: str) -> Note:
        """Bring an add-on ("monitoring", "logging", "opensearch") into the cluster, and return when it is ready."""
        from podlab import addons

        name, line = self._need_whole().name, ProgressLine()
        # Its pods are on nodes that other notebooks may want to break: they wait for the end of this lab.
        try:
            self._say(lambda: self._stack.enter_context(undisturbed(name, line.say)))
            self._say(lambda: addons.enable(addon, name, progress=lambda step: line.say(f"{step.name}: {step.detail}")))
        finally:
            line.end()
        found = addons.status(addon, name)
        return Note(f"{addon} is {found.state}: {found.ready} of {found.wanted} pods.")

    @property
    def prometheus(self) -> Prometheus:
        """The cluster's Prometheus: `query`, `query_range`, `number`, `targets`, `rules`, `alerts`."""
        from podlab.addons.prometheus import Prometheus

        return Prometheus.of_cluster(self._need().api)

    def promql(self, expression: str, minutes: float = 5, title: str = "PromQL") -> Any:
        """A playground: the expression's values over the last minutes, and what its parts do."""
        from podlab.widgets.promql import Playground

        return self._keep(Playground(self.prometheus, expression, minutes, title))

    @property
    def log_store(self) -> Logs:
        """The cluster's VictoriaLogs, with the lines of all namespaces: `query`, `count`, `hits`, `bulk`."""
        from podlab.addons.logs import Logs

        return Logs.of_cluster(self._need().api)

    @property
    def opensearch(self) -> OpenSearch:
        """The cluster's OpenSearch, with the lines of all namespaces, asked in the query DSL: `search`, `lines`."""
        from podlab.addons.opensearch import OpenSearch

        return OpenSearch(self._need().api)

    @property
    def here(self) -> str:
        """The condition, as LogsQL, that keeps the lines of this namespace."""
        return f'kubernetes.pod_namespace:="{self.namespace}"'

    def search(self, question: str, limit: int = 1000) -> list[Line]:
        """The lines of this namespace (or the rows, after a pipe) that a LogsQL question finds."""
        return self.log_store.query(question, limit, within=self.here)

    def explore(self, question: str = "*", minutes: float = 15, title: str = "Logs") -> Any:
        """A log explorer of this namespace, on VictoriaLogs: histogram, lines, filters by field, the way of a trace."""
        from podlab.widgets.log_explorer import LogExplorer

        return self._keep(LogExplorer(self.log_store, question, minutes, title, base=self.here))

    def notifications(self, app: str = "") -> Listing:
        """What Alertmanager has told its receiver of this namespace, the oldest first."""
        from podlab.addons import prometheus

        rows = [
            {"row": [alert["labels"].get("alertname", ""), alert["status"], alert["annotations"].get("summary", "")]}
            for one in prometheus.notifications(self._need().api)
            for alert in one["alerts"]
            if alert["labels"].get("namespace") == self.namespace and (not app or alert["labels"].get("app") == app)
        ]
        return Listing(rows, columns("ALERT", "STATE", "SUMMARY"), "notifications")
