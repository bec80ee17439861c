"""metrics-server: for clusters that do not serve metrics.k8s.io, and no others."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from podlab import addons, cli, paths
from podlab.addons.catalogue import find
from podlab.addons.objects import objects
from podlab.cluster.folder import ClusterFolder, Record
from podlab.errors import AddonError, ClusterError

SERVED = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io"
CUSTOM = SERVED.replace("v1beta1.", "v1beta2.custom.")
#: A cluster without nodes: nothing has room in it, and nothing is made.
EMPTY: dict[str, Any] = {
    "/api/v1": {
        "resources": [
            {"name": "namespaces", "kind": "Namespace", "namespaced": False},
            {"name": "nodes", "kind": "Node", "namespaced": False},
            {"name": "pods", "kind": "Pod", "namespaced": True},
        ]
    },
    "/apis/apiregistration.k8s.io/v1": {
        "resources": [{"name": "apiservices", "kind": "APIService", "namespaced": False}]
    },
    "/api/v1/nodes": {"items": []},
    "/api/v1/pods": {"items": []},
}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What the API server of the cluster `k` answers, by path; everything else is not found."""
    monkeypatch.setenv("PODLAB_HOME", str(tmp_path))
    answers = dict(EMPTY)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answers.get(self.path.partition("?")[0])
            body = json.dumps(found or {"reason": "NotFound"}).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    folder = ClusterFolder(paths.clusters() / "k")
    folder.create(Record("k", "kind", [1], "lab"))
    there = {"name": "k", "cluster": {"server": f"http://127.0.0.1:{server.server_address[1]}"}}
    context = {"name": "k", "context": {"cluster": "k", "user": "k"}}
    whole = {"clusters": [there], "users": [{"name": "k", "user": {}}], "contexts": [context], "current-context": "k"}
    folder.kubeconfig.write_text(yaml.safe_dump(whole))
    yield answers
    server.shutdown()
    server.server_close()


def test_a_cluster_that_serves_metrics_itself_is_left_alone(cluster: dict[str, Any]) -> None:
    cluster[SERVED] = {"metadata": {"name": "v1beta1.metrics.k8s.io", "labels": {"whose": "the cluster's"}}}
    with pytest.raises(AddonError, match=r"serves metrics\.k8s\.io already") as caught:
        addons.enable("metrics-server", "k")
    assert "embedded cluster serves metrics.k8s.io itself" in str(caught.value)


def test_monitoring_takes_no_custom_metrics_from_somebody_else(cluster: dict[str, Any]) -> None:
    cluster[CUSTOM] = {"metadata": {}, "spec": {"service": {"namespace": "adapter"}}}
    with pytest.raises(AddonError, match=r"serves custom\.metrics\.k8s\.io already"):
        addons.enable("monitoring", "k")


def test_the_door_on_this_machine_is_told_on_kind_only(
    cluster: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addons, "enable", lambda *_, **__: None)
    ClusterFolder(paths.clusters() / "here").create(Record("here", "embedded", [1], "lab"))
    on_kind, here = (
        CliRunner().invoke(cli.app, ["addon", "enable", "ingress", "--name", name]).stderr for name in ("k", "here")
    )
    assert "127.0.0.1:30008" in on_kind and "EXTERNAL-IP" not in on_kind
    assert "EXTERNAL-IP" in here and "127.0.0.1" not in here


def test_both_entry_points_of_traefik_answer_who_still_asks_when_it_is_told_to_end() -> None:
    (proxy,) = (thing for thing in objects(find("ingress"), own=True) if thing["kind"] == "Deployment")
    told = proxy["spec"]["template"]["spec"]["containers"][0]["args"]
    for name in ("web", "websecure"):
        assert f"--entrypoints.{name}.transport.lifecycle.requestacceptgracetimeout=2s" in told


@pytest.mark.parametrize("addon", ["metrics-server", "monitoring"])
@pytest.mark.parametrize("again", [False, True])
def test_where_nobody_else_serves_them_it_is_looked_for_room(cluster: dict[str, Any], addon: str, again: bool) -> None:
    served = SERVED if addon == "metrics-server" else CUSTOM
    cluster.update({served: {"metadata": {}, "spec": {"service": {"namespace": addon}}}} if again else {})
    with pytest.raises(ClusterError, match="memory"):
        addons.enable(addon, "k")


def test_it_registers_the_api_that_it_serves() -> None:
    things = {thing["kind"]: thing for thing in objects(find("metrics-server"), own=False)}
    served = things["APIService"]["spec"]
    assert things["APIService"]["metadata"]["name"] == f"{served['version']}.{served['group']}"
    assert served["service"] == {name: things["Service"]["metadata"][name] for name in ("name", "namespace")}
