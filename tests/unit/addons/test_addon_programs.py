from __future__ import annotations

import ssl
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509

from podlab.addons import registration
from podlab.addons.programs import custom_metrics, object_metrics
from podlab.addons.programs.alert_receiver import MOST, Notifications
from podlab.addons.programs.object_metrics import Exporter, quantity, render
from podlab.node.prometheus import parse

AGE = "2026-01-01T00:00:00Z"


def named(name: str, **rest: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "shop", "uid": "u-1", "creationTimestamp": AGE}
    return {"metadata": metadata | rest.pop("metadata", {}), **rest}


def told(samples: Any) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for name, labels, value in samples:
        found.setdefault(name, []).append((labels, value))
    return found


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("100m", 0.1),
        ("1Mi", 1048576),
        ("2", 2),
        (0, 0),
        ("1.5Gi", 1.5 * 2**30),
        ("1e3", 1000),
        ("12k", 12000),
        ("2P", 2e15),
        ("1E", 1e18),
        ("3Pi", 3 * 2.0**50),
        ("1Ei", 2.0**60),
    ],
)
def test_a_quantity(text: object, value: float) -> None:
    assert quantity(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "1 Mi", "Mi", "1Xi"])
def test_no_quantity(text: str) -> None:
    with pytest.raises(ValueError):
        quantity(text)


POD = named(
    "web-1",
    metadata={"ownerReferences": [{"kind": "ReplicaSet", "name": "web", "controller": True}]},
    spec={"nodeName": "node-1", "containers": [{"name": "app", "resources": {"requests": {"cpu": "250m"}}}]},
    status={
        "phase": "Running",
        "podIP": "10.0.0.9",
        "startTime": AGE,
        "conditions": [{"type": "Ready", "status": "False"}],
        "containerStatuses": [
            {
                "name": "app",
                "restartCount": 3,
                "ready": False,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"reason": "Error", "exitCode": 7}},
            }
        ],
    },
)
PLACE = {"namespace": "shop", "pod": "web-1"}


def test_a_pod_says_its_phase_as_one_of_all() -> None:
    phases = {labels["phase"]: value for labels, value in told(object_metrics.pod(POD))["kube_pod_status_phase"]}
    assert phases == {"Pending": 0, "Running": 1, "Succeeded": 0, "Failed": 0, "Unknown": 0}


def test_a_pod_says_who_owns_it_where_it_runs_and_what_its_containers_do() -> None:
    found = told(object_metrics.pod(POD))
    own = PLACE | {"container": "app"}
    (info, _), *_ = found["kube_pod_info"]
    assert (info["node"], info["pod_ip"], info["created_by_kind"]) == ("node-1", "10.0.0.9", "ReplicaSet")
    assert found["kube_pod_owner"][0][0]["owner_name"] == "web"
    assert found["kube_pod_container_status_restarts_total"] == [(own, 3)]
    assert found["kube_pod_container_status_waiting_reason"] == [(own | {"reason": "CrashLoopBackOff"}, 1)]
    assert found["kube_pod_container_status_last_terminated_exitcode"] == [(own, 7)]
    asked = {"node": "node-1", "resource": "cpu", "unit": "core"}
    assert found["kube_pod_container_resource_requests"] == [(own | asked, 0.25)]
    ready = {labels["condition"]: value for labels, value in found["kube_pod_status_ready"]}
    assert ready == {"true": 0, "false": 1, "unknown": 0}


def test_a_pod_that_is_only_created_is_told_too() -> None:
    found = told(object_metrics.pod(named("new", spec={"containers": [{"name": "app"}]})))
    assert ("Unknown", 1) in [(labels["phase"], value) for labels, value in found["kube_pod_status_phase"]]


def test_a_node_says_its_conditions_and_amounts() -> None:
    node = {
        "metadata": {"name": "node-1", "uid": "n", "creationTimestamp": AGE},
        "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]},
        "status": {
            "conditions": [{"type": "Ready", "status": "Unknown"}],
            "allocatable": {"cpu": "2", "memory": "1Gi"},
            "addresses": [{"type": "InternalIP", "address": "172.18.0.11"}],
        },
    }
    found = told(object_metrics.node(node))
    states = {labels["status"]: value for labels, value in found["kube_node_status_condition"]}
    assert states == {"true": 0, "false": 0, "unknown": 1}
    amounts = {labels["resource"]: value for labels, value in found["kube_node_status_allocatable"]}
    assert amounts == {"cpu": 2, "memory": 2**30}
    assert found["kube_node_info"][0][0]["internal_ip"] == "172.18.0.11"
    assert found["kube_node_spec_taint"][0][0]["effect"] == "NoSchedule"


@pytest.mark.parametrize(("path", "kind"), [(path, path.rpartition("/")[2]) for path in object_metrics.RESOURCES])
def test_every_kind_tells_something_of_an_object_without_a_status(path: str, kind: str) -> None:
    found = told(object_metrics.RESOURCES[path](named("x")))
    assert found and all(name.startswith("kube_") for name in found), kind


def test_a_number_that_the_status_leaves_out_is_zero() -> None:
    found = told(object_metrics.RESOURCES["/apis/apps/v1/deployments"](named("web", spec={"replicas": 3})))
    assert found["kube_deployment_spec_replicas"] == [({"namespace": "shop", "deployment": "web"}, 3)]
    assert found["kube_deployment_status_replicas_ready"][0][1] == 0


def test_the_text_is_read_back_as_it_was_meant() -> None:
    labels = {"text": 'a "quoted" \\ and\nbroken line'}
    text = render([("a_total", labels, 2.5), ("b", {}, 1e12), ("a_total", {"text": "x"}, 1)])
    assert text.count("# TYPE a_total counter") == 1 and "# TYPE b gauge" in text
    found = {(sample.labels.get("text"), sample.value) for name, sample in parse(text) if name == "a_total"}
    assert found == {(labels["text"], 2.5), ("x", 1.0)}


class Listed:
    """An API server with one pod, which refuses nodes."""

    def __init__(self) -> None:
        self.asked = 0

    def list(self, path: str) -> list[dict[str, Any]]:
        self.asked += 1
        if path.endswith("/nodes"):
            raise OSError("403: nodes is forbidden")
        return [POD] if path.endswith("/pods") else []


def test_a_scrape_lists_at_most_once_in_a_period_and_tells_what_could_not_be_listed() -> None:
    clock, api = [100.0], Listed()
    exporter = Exporter(api, now=lambda: clock[0])  # type: ignore[arg-type]
    text = exporter.text()
    assert 'kube_state_metrics_list_errors{resource="nodes"} 1' in text and "kube_pod_info" in text
    once = api.asked
    exporter.text()
    assert api.asked == once
    clock[0] += object_metrics.PERIOD
    exporter.text()
    assert api.asked == 2 * once


def test_an_object_that_cannot_be_read_is_told_and_takes_no_other_with_it() -> None:
    odd = {**POD, "metadata": {**POD["metadata"], "name": "odd"}, "status": {**POD["status"], "startTime": "soon"}}

    class Odd(Listed):
        def list(self, path: str) -> list[dict[str, Any]]:
            return [odd, POD] if path.endswith("/pods") else []

    text = Exporter(Odd()).text()  # type: ignore[arg-type]
    assert 'kube_state_metrics_object_errors{resource="pods",namespace="shop",name="odd"} 1' in text
    assert 'pod="web-1"' in text and 'pod="odd"' not in text


def test_notifications_survive_a_restart_and_the_oldest_go(tmp_path: Path) -> None:
    file = tmp_path / "kept"
    kept = Notifications(file)
    for number in range(MOST + 5):
        kept.take({"number": number})
    again = Notifications(file).all()
    assert [again[0]["number"], again[-1]["number"], len(again)] == [5, MOST + 4, MOST]
    assert again[0]["received"] > 0


def test_a_half_written_notification_of_a_death_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "kept"
    file.write_text('{"number": 1}\n{"numb')
    assert [one["number"] for one in Notifications(file).all()] == [1]


def test_the_file_of_notifications_does_not_grow_for_ever(tmp_path: Path) -> None:
    kept = Notifications(tmp_path / "kept")
    for number in range(5 * MOST):
        kept.take({"number": number})
    text = (tmp_path / "kept").read_text()
    assert text.count('"number"') <= 2 * MOST + 1
    assert Notifications(tmp_path / "kept").all() == kept.all()


def test_a_notification_that_the_disk_does_not_take_is_not_kept_and_hurts_no_other(tmp_path: Path) -> None:
    file = tmp_path / "kept"
    kept = Notifications(file)
    kept.take({"number": 1})
    with file.open("a") as cut:
        cut.write('{"numb')
    there = file.read_text()
    file.unlink()
    file.mkdir()  # nothing can be written
    with pytest.raises(OSError):
        kept.take({"number": 2})
    file.rmdir()
    file.write_text(there)
    kept.take({"number": 3})
    assert [one["number"] for one in kept.all()] == [1, 3]
    assert Notifications(file).all() == kept.all()


def test_metrics_for_autoscalers_are_lines() -> None:
    text = "# of services\nrate: sum by (pod) (rate(http_requests_total{{selector}}[30s]))\n\n"
    assert list(custom_metrics.metrics(text)) == ["rate"]
    for wrong in ("rate", "Rate: x{{selector}}", "rate: sum(x)"):
        with pytest.raises(ValueError, match="line 1"):
            custom_metrics.metrics(wrong)


def test_a_query_names_the_pods_and_only_them() -> None:
    text = custom_metrics.query("sum by (pod) (x{{selector}})", "shop", ["a.b", "c"])
    assert text == 'sum by (pod) (x{namespace="shop",pod=~"a\\\\.b|c"})'


def test_values_leave_out_what_is_unknown_or_no_number() -> None:
    result = [
        {"metric": {"pod": "a"}, "value": [0, "1.5"]},
        {"metric": {"pod": "b"}, "value": [0, "NaN"]},
        {"metric": {"pod": "gone"}, "value": [0, "1"]},
        {"metric": {}, "value": [0, "1"]},
    ]
    found = custom_metrics.values("shop", "rate", ["a", "b"], result)
    assert [(item["describedObject"]["name"], item["value"]) for item in found["items"]] == [("a", "1500m")]
    assert found["items"][0]["timestamp"] == "1970-01-01T00:00:00Z"


class Pods:
    def list(self, path: str, query: dict[str, str]) -> list[dict[str, Any]]:
        return []


def test_the_adapter_tells_its_resources_and_refuses_what_it_does_not_know() -> None:
    adapter = custom_metrics.Adapter(Pods(), "http://127.0.0.1:1", {"rate": "x{{selector}}"})  # type: ignore[arg-type]
    listed = adapter.answer(custom_metrics.ROOT, {})
    assert [resource["name"] for resource in listed["resources"]] == ["pods/rate"]
    pods = f"{custom_metrics.ROOT}/namespaces/shop/pods/*"
    assert adapter.answer(f"{pods}/rate", {"labelSelector": "app=web"})["items"] == []
    with pytest.raises(custom_metrics.Refused, match="no metric other; there are rate") as caught:
        adapter.answer(f"{pods}/other", {})
    assert custom_metrics.status(caught.value)["code"] == 404


@pytest.mark.parametrize(
    ("status", "body", "told", "words"),
    [
        (503, "Service Unavailable\n", 503, "Prometheus does not answer: Service Unavailable"),
        (422, '{"status": "error", "error": "parse error"}', 500, "refused http_requests_total.*: parse error"),
        (500, "in plain words", 500, "refused .*: in plain words"),
        (500, "[]", 500, r"refused .*: \[\]"),
    ],
)
def test_what_prometheus_refuses_is_told_in_its_words(status: int, body: str, told: int, words: str) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request, daemon=True)  # a failure must end the run, too
        thread.start()
        known = {"rate": "http_requests_total{{selector}}"}
        api = SimpleNamespace(list=lambda *_: [POD])
        adapter = custom_metrics.Adapter(api, f"http://127.0.0.1:{server.server_port}", known)  # type: ignore[arg-type]
        with pytest.raises(custom_metrics.Refused, match=words) as caught:
            adapter.answer(f"{custom_metrics.ROOT}/namespaces/shop/pods/*/rate", {})
        thread.join()
    assert caught.value.status == told


def test_only_verified_names_count() -> None:
    assert custom_metrics.common_names(None) == set()
    certificate = {"subject": ((("organizationName", "o"),), (("commonName", "front-proxy-client"),))}
    assert custom_metrics.common_names(certificate) == {"front-proxy-client"}


def test_a_certificate_is_good_for_its_service() -> None:
    secret, service = registration.custom_metrics()
    assert service["spec"]["caBundle"] == secret["data"]["tls.crt"]
    public, _ = registration.certificate("custom-metrics.monitoring.svc")
    names = x509.load_pem_x509_certificate(public).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.DNSName) == ["custom-metrics.monitoring.svc"]
    ssl.create_default_context(cadata=public.decode())


def test_a_certificate_is_kept_while_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    secret, service = registration.custom_metrics()
    assert registration.custom_metrics(lambda *_: secret) == [secret, service]
    for damage in (
        {},
        {"tls.crt": "bm8="},
        registration.custom_metrics()[0]["data"] | {"tls.key": secret["data"]["tls.key"]},
    ):
        found = {**secret, "data": {**secret["data"], **damage} if damage else {}}
        assert registration.custom_metrics(lambda *_, found=found: found)[0]["data"] != found["data"]
    monkeypatch.setattr(registration, "_LIFE", registration._LAST)
    old, _ = registration.custom_metrics()
    assert registration.custom_metrics(lambda *_: old)[0] != old
