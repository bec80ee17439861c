"""The configuration of Prometheus and Alertmanager agrees with itself. Their own programs read it in tests/cluster."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
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
    for file in THINGS["ConfigMap", "prometheus-rules"]["data"]
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


def test_a_prometheus_that_is_never_ready_does_not_count_as_started(tmp_path: Path) -> None:
    for name, outcome in (("fetch", "false"), ("wget", "false"), ("sleep", "true")):
        (tmp_path / name).symlink_to(shutil.which(outcome) or "")
    (container,) = THINGS["StatefulSet", "prometheus"]["spec"]["template"]["spec"]["containers"]
    script = container["lifecycle"]["postStart"]["exec"]["command"][-1].replace("left=600", "left=2")
    assert subprocess.run(["/bin/sh", "-c", script], env={"PATH": str(tmp_path)}, check=False).returncode == 1


def test_the_metrics_for_autoscalers_can_be_read() -> None:
    known = metrics(THINGS["ConfigMap", "custom-metrics"]["data"]["metrics"])
    assert "http_requests_per_second" in known


JOBS = {job["job_name"]: job for job in config("prometheus", "prometheus.yml")["scrape_configs"]}


def test_prometheus_token_is_shown_to_the_control_plane_and_nodes_only() -> None:
    shown = {name for name, job in JOBS.items() if "authorization" in job}
    control_plane = {"kubernetes-apiservers", "kubernetes-control-plane"}
    assert shown == control_plane | {"kubernetes-nodes", "kubernetes-nodes-cadvisor"}
    for name in control_plane:
        tls = JOBS[name]["tls_config"]
        assert tls["ca_file"].endswith("/ca.crt") and tls["server_name"] and "insecure_skip_verify" not in tls


@pytest.mark.parametrize("name", ["kubernetes-pods", "kubernetes-services"])
@pytest.mark.parametrize("annotation", ["port", "path"])
def test_what_a_pod_or_a_service_is_annotated_with_is_read(name: str, annotation: str) -> None:
    sources = [source for rule in JOBS[name]["relabel_configs"] for source in rule["source_labels"]]
    assert [one for one in sources if one.endswith(f"annotation_prometheus_io_{annotation}")]


def test_a_services_series_say_where_it_is() -> None:
    assert {"job", "namespace", "service"} <= {
        one.get("target_label") for one in JOBS["kubernetes-services"]["relabel_configs"]
    }


def test_a_services_port_replaces_its_endpoints() -> None:
    (rule,) = (one for one in JOBS["kubernetes-services"]["relabel_configs"] if "__address__" in one["source_labels"])
    given = re.fullmatch(rule["regex"], "10.1.2.3:80;9090")
    assert given and given.expand(rule["replacement"].replace("$", "\\")) == "10.1.2.3:9090"
    assert not re.fullmatch(rule["regex"], "10.1.2.3:80;")


@pytest.mark.parametrize("name", ["logging", "opensearch"])
def test_every_port_of_a_shippers_pod_is_scraped(name: str) -> None:
    (thing,) = (one for one in objects(TABLE[name], own=True) if one["kind"] == "DaemonSet")
    pod = thing["spec"]["template"]
    assert {"prometheus.io/scrape": "true"}.items() <= pod["metadata"]["annotations"].items()
    assert "prometheus.io/port" not in pod["metadata"]["annotations"]
    ports = {port["containerPort"] for one in pod["spec"]["containers"] for port in one["ports"]}
    assert ports == {9429, 9430}


def test_what_is_kept_for_how_long_is_told_as_it_is() -> None:
    def arguments(addon: str, name: str) -> list[str]:
        things = {(thing["kind"], thing["metadata"]["name"]): thing for thing in objects(TABLE[addon], own=True)}
        (container,) = things["StatefulSet", name]["spec"]["template"]["spec"]["containers"]
        return [one.lstrip("-") for one in container["args"]]

    told = (Path(__file__).resolve().parents[3] / "docs/addons.md").read_text()
    assert "kept for 7 days or 1 GB, metrics for 3 days or 512 MB" in told
    assert {"retentionPeriod=7d", "retention.maxDiskSpaceUsageBytes=1GB"} <= set(arguments("logging", "victoria-logs"))
    of_metrics = {one for one in arguments("monitoring", "prometheus") if "retention" in one}
    assert of_metrics == {"storage.tsdb.retention.time=3d", "storage.tsdb.retention.size=512MB"}


def test_every_alert_is_told_of() -> None:
    told = (Path(__file__).resolve().parents[3] / "docs/addons.md").read_text()
    assert [rule["alert"] for rule in RULES if "alert" in rule and f"`{rule['alert']}`" not in told] == []
    (limit,) = [rule["expr"] for rule in RULES if rule.get("alert") == "TooManySeriesInAll"]
    assert f"at {int(limit.split()[-1]):,}" in told
