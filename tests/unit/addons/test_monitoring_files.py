"""The configuration of Prometheus and Alertmanager agrees with itself. Their own programs read it in tests/cluster."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from podlab.addons import TABLE
from podlab.addons.objects import objects
from podlab.addons.programs.custom_metrics import metrics
from podlab.addons.programs.object_metrics import RESOURCES

THINGS = {(thing["kind"], thing["metadata"]["name"]): thing for thing in objects(TABLE["monitoring"], own=True)}


def config(name: str, key: str) -> Any:
    return yaml.safe_load(THINGS["ConfigMap", name]["data"][key])


RULES = [
    rule
    for file in ("recording.yaml", "alerting.yaml")
    for group in config("prometheus-rules", file)["groups"]
    for rule in group["rules"]
]


def rules_of(role: str) -> dict[str, set[str]]:
    """Resource -> verbs."""
    found: dict[str, set[str]] = {}
    for rule in THINGS["ClusterRole", role]["rules"]:
        for resource in rule.get("resources", ()):
            found.setdefault(resource, set()).update(rule["verbs"])
    return found


def test_prometheus_may_read_what_it_discovers_and_no_more() -> None:
    roles = {"pod": "pods", "node": "nodes", "endpointslice": "endpointslices"}
    asked = {
        roles[discovery["role"]]
        for job in config("prometheus", "prometheus.yml")["scrape_configs"]
        for discovery in job["kubernetes_sd_configs"]
    }
    # Endpoint slices are told with their Services and pods.
    assert set(rules_of("podlab:prometheus")) == asked | {"services", "nodes/metrics"}


def test_object_metrics_may_list_what_it_tells_of() -> None:
    wanted = {path.rpartition("/")[2] for path in RESOURCES}
    assert rules_of("podlab:object-metrics") == {resource: {"list"} for resource in wanted}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("record") or rule.get("alert"))
def test_a_rule_has_what_a_rule_needs(rule: dict[str, Any]) -> None:
    if "record" in rule:
        assert re.fullmatch(r"[a-z_]+:[a-z_]+:[a-z0-9_]+", rule["record"]), "level:metric:operation"
    else:
        assert rule["labels"]["severity"] in ("page", "ticket") and rule["annotations"]["summary"] and rule["for"]


def test_recorded_series_that_rules_read_are_recorded() -> None:
    recorded = {rule["record"] for rule in RULES if "record" in rule}
    for rule in RULES:
        assert set(re.findall(r"\b\w+:\w+:\w+\b", rule["expr"])) <= recorded


def test_alertmanager_has_the_receiver_of_its_route_and_it_is_a_service() -> None:
    content = config("alertmanager", "alertmanager.yml")
    (receiver,) = [one for one in content["receivers"] if one["name"] == content["route"]["receiver"]]
    url = receiver["webhook_configs"][0]["url"]
    assert ("Service", re.sub(r"http://|/", "", url)) in THINGS


def test_the_metrics_for_autoscalers_can_be_read() -> None:
    known = metrics(THINGS["ConfigMap", "custom-metrics"]["data"]["metrics"])
    assert "http_requests_per_second" in known
