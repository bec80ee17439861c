"""metrics.k8s.io: rates from readings, and the server between a real node's API and a stand-in for the API server."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from api_room import Room, client_context
from hypothesis import given
from hypothesis import strategies as st

from podlab.cluster.embedded import certificates
from podlab.node.api import ApiClient
from podlab.node.metrics_api import PATH, Certificates, MetricsApi, objects
from podlab.node.metrics_window import Point, Reading, Windows, reading, usage
from podlab.node.prometheus import Family, Sample, parse, render
from podlab.waiting import until_async

LABELS = st.dictionaries(st.from_regex(r"[a-z_][a-z0-9_]{0,9}", fullmatch=True), st.text(max_size=20), max_size=4)
SAMPLES = st.builds(Sample, st.floats(allow_nan=False), LABELS, st.none() | st.integers(0, 10**10).map(float))


@given(st.lists(SAMPLES, max_size=6))
def test_what_is_rendered_is_parsed(samples: list[Sample]):
    text = render([Family("a_total", "help\nwith two lines", "counter", samples)])
    assert [sample for _, sample in parse(text)] == samples


def test_other_writers_are_understood():
    text = '# comment\nx{a="1", b="2",} 1e3 5000\nnonsense {\ny NaN\nz 0x\n'
    seen = list(parse(text))
    assert seen[0] == ("x", Sample(1000.0, {"a": "1", "b": "2"}, 5.0))
    assert [name for name, _ in seen] == ["x", "y"]


EXPOSITION = """
node_cpu_usage_seconds_total 100.5 1000000
node_memory_working_set_bytes 2048 1000000
container_start_time_seconds{container="a",pod="p",namespace="n"} 900
container_cpu_usage_seconds_total{container="a",pod="p",namespace="n"} 10 1000000
container_memory_working_set_bytes{container="a",pod="p",namespace="n"} 1024 1000000
container_memory_working_set_bytes{container="half",pod="p",namespace="n"} 1024 1000000
pod_cpu_usage_seconds_total{pod="p",namespace="n"} 10 1000000
scrape_error 0
"""


def test_reading():
    seen = reading(parse(EXPOSITION), now=2000.0)
    assert seen.node == Point(1000.0, 100.5, 2048)
    assert seen.pods == {("n", "p"): {"a": Point(1000.0, 10.0, 1024, 900.0)}}


def test_rates_between_points():
    old, new = Point(100, 5, 10, 50), Point(110, 8, 20, 50)
    used = usage(new, old)
    assert used
    assert (used.cores, used.memory, used.window) == (0.3, 20, 10)
    fresh = usage(Point(110, 6, 20, 107), old)  # restarted at 107
    assert fresh
    assert (fresh.cores, fresh.window) == (2.0, 3)
    assert usage(Point(107.5, 0.1, 20, 107), None) is None
    assert usage(Point(110, 8, 20), None) is None  # a node's first reading
    assert usage(Point(110, 4, 20), Point(100, 5, 10)) is None  # its counter began anew


def test_pods_are_shown_when_all_containers_are_known():
    windows = Windows()
    one, late = Point(100, 5, 10, 50), Point(100, 0, 10, 99.5)
    windows.add("node-1", Reading(None, {("n", "p"): {"one": one, "late": late}, ("n", "q"): {"one": one}}))
    assert set(windows.pods()) == {("n", "q")}
    windows.add("node-1", Reading(None, {("n", "p"): {"one": Point(110, 6, 10, 50), "late": Point(110, 1, 10, 99.5)}}))
    assert set(windows.pods()) == {("n", "p")}
    assert windows.pods()["n", "p"]["one"].cores == pytest.approx(0.1)
    windows.keep([])
    assert windows.pods() == {}


def test_registration():
    kinds = {entry["kind"]: (path, entry) for path, entry in objects("172.18.0.1", b"CA")}
    assert set(kinds) == {"Service", "EndpointSlice", "APIService", "ClusterRole"}
    registration = kinds["APIService"][1]
    assert registration["metadata"]["name"] == "v1beta1.metrics.k8s.io"
    assert registration["spec"]["caBundle"] == "Q0E="
    assert "insecureSkipTLSVerify" not in registration["spec"]
    (port,) = kinds["EndpointSlice"][1]["ports"]
    assert kinds["Service"][1]["spec"]["ports"][0]["targetPort"] == port["port"]


# The server


class StandInApiServer:
    """Answers lists of nodes and pods as the API server would: the one node of the room, and its pod."""

    def __init__(self, room: Room) -> None:
        self.queries: list[dict[str, str]] = []
        self._room = room

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_get("/api/v1/nodes", self.nodes)
        application.router.add_get("/api/v1/pods", self.pods)
        application.router.add_get("/api/v1/namespaces/{namespace}/pods", self.pods)
        return application

    async def nodes(self, request: web.Request) -> web.Response:
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._room.port}},
        }
        node = {"metadata": {"name": "node-1", "labels": {"zone": "a"}}, "status": status}
        wanted = request.query.get("fieldSelector", "metadata.name=node-1") == "metadata.name=node-1"
        return web.json_response({"kind": "NodeList", "items": [node] if wanted else []})

    async def pods(self, request: web.Request) -> web.Response:
        self.queries.append(dict(request.query))
        metadata = {"name": "web", "namespace": "default", "labels": {"app": "web"}}
        pod = {"metadata": metadata, "status": {"phase": "Running"}}
        wanted = request.query.get("fieldSelector", "metadata.name=web") == "metadata.name=web"
        return web.json_response({"kind": "PodList", "items": [pod] if wanted else []})


@pytest.fixture
async def metrics(room: Room, tmp_path: Path):
    """(MetricsApi's address, a client that shows the front proxy's certificate, the stand-in)."""
    authority = certificates.new_authority("front")
    front = certificates.issue(certificates.Request("front-proxy-client", client=True), authority)
    other = certificates.issue(certificates.Request("other", client=True), authority)
    files = {"front-ca.crt": authority.pem()[0]}
    for name, pair in (("front", front), ("other", other)):
        files[f"{name}.crt"], files[f"{name}.key"] = pair.pem()
    certificates.write(files, tmp_path)
    stand_in = StandInApiServer(room)
    runner = web.AppRunner(stand_in.application())
    await runner.setup()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(room.pki / "serving.crt", room.pki / "serving.key")
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    ca, client, key = (str(room.pki / name) for name in ("ca.crt", "api-server.crt", "api-server.key"))
    api = ApiClient(url, ca, client, key)
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    serving = [str(room.pki / f"serving.{ending}") for ending in ("crt", "key")]
    settings = Certificates(ca, *serving, client, key, str(tmp_path / "front-ca.crt"))
    server = MetricsApi(api, listening, socket.socket, settings, period=0.5)
    await server.start()
    yield f"https://127.0.0.1:{listening.getsockname()[1]}", tmp_path, stand_in
    await server.stop()
    await api.close()
    await runner.cleanup()


def front_client(room: Room, folder: Path, identity: str) -> aiohttp.ClientSession:
    context = client_context(room.pki, None)
    context.load_cert_chain(folder / f"{identity}.crt", folder / f"{identity}.key")
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context))


async def test_nodes_and_pods(room: Room, metrics):
    url, folder, stand_in = metrics
    room.runtime.start("busy", ["sh", "-c", "while :; do :; done"])
    room.node.change("web", "main", container_id="busy")
    async with front_client(room, folder, "front") as client:

        async def get(path: str) -> tuple[int, dict]:
            async with client.get(url + PATH + path) as answer:
                return answer.status, await answer.json()

        async def measured() -> bool:
            pods = (await get("/namespaces/default/pods?labelSelector=app%3Dweb"))[1]["items"]
            return bool(pods) and pods[0]["containers"][0]["usage"]["cpu"] != "0n"

        await until_async(measured, "the pod's metrics", timeout=60, interval=0.2)
        assert stand_in.queries[-1]["labelSelector"] == "app=web"
        status, pod = await get("/namespaces/default/pods/web")
        assert status == 200
        assert pod["kind"] == "PodMetrics"
        assert pod["metadata"]["labels"] == {"app": "web"}
        (container,) = pod["containers"]
        assert container["name"] == "main"
        assert 0 < int(container["usage"]["cpu"].removesuffix("n")) <= 1_300_000_000
        assert int(container["usage"]["memory"].removesuffix("Ki")) > 100

        async def node_measured() -> bool:
            return (await get("/nodes/node-1"))[0] == 200

        await until_async(node_measured, "the node's metrics", timeout=60, interval=0.2)
        nodes = (await get("/nodes"))[1]
        assert nodes["kind"] == "NodeMetricsList"
        assert nodes["items"][0]["metadata"]["labels"] == {"zone": "a"}
        assert (await get("/namespaces/default/pods/none"))[0] == 404
        assert (await get("/nodes/none"))[1]["reason"] == "NotFound"
        assert (await get("/other"))[0] == 404
        resources = (await get(""))[1]["resources"]
        assert {entry["name"]: entry["namespaced"] for entry in resources} == {"nodes": False, "pods": True}


async def test_only_the_front_proxy_is_answered(room: Room, metrics):
    url, folder, _ = metrics
    async with front_client(room, folder, "other") as client, client.get(url + PATH + "/nodes") as answer:
        assert answer.status == 401
        assert (await answer.json())["reason"] == "Unauthorized"
