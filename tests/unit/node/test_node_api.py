"""The node's own API: who may use it, pods, health, metrics, and what comes of nonsense."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import re
import ssl

import aiohttp
import pytest
from api_room import Room, client_context, container_view, pod_view

from podlab.node.prometheus import Family, Sample, render
from podlab.node.runtime.contract import ContainerState, Usage
from podlab.node.statistics import Meter, resource_metrics

VALUE = r"(?:[-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|Inf)|NaN)"
LABEL = r'[a-zA-Z_]\w*="(?:[^"\\\n]|\\[\\"n])*"'
SAMPLE = re.compile(rf"([a-zA-Z_:][\w:]*)(?:\{{({LABEL}(?:,{LABEL})*)\}})? ({VALUE})(?: (-?\d+))?")


def parse_exposition(text: str) -> dict[str, dict[str, float]]:
    """Name -> labels -> value; fails on anything that Prometheus' text format does not allow."""
    assert text.endswith("\n")
    families: dict[str, dict[str, float]] = {}
    kind: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, type_ = line.split(" ")
            assert name not in kind, f"a second TYPE of {name}"
            assert type_ in ("counter", "gauge")
            kind[name] = type_
        elif line.startswith("# HELP "):
            assert line.split(" ")[2] not in kind, "HELP comes before TYPE"
        else:
            match = SAMPLE.fullmatch(line)
            assert match, f"not a sample: {line!r}"
            name, labels, value, _ = match.groups()
            assert name in kind, f"{name} has no TYPE"
            samples = families.setdefault(name, {})
            assert labels not in samples, f"twice: {line!r}"
            samples[labels or ""] = float(value)
    return families


# Who may use it


async def get_as(room: Room, identity: str | None, path: str = "/healthz") -> tuple[int, str]:
    connector = aiohttp.TCPConnector(ssl=client_context(room.pki, identity))
    async with aiohttp.ClientSession(connector=connector) as client, client.get(room.url(path)) as answer:
        return answer.status, await answer.text()


async def test_the_api_server_may(room: Room):
    assert await get_as(room, "api-server") == (200, "ok")


async def test_without_a_certificate(room: Room):
    status, text = await get_as(room, None)
    assert status == 401
    assert "client certificate" in text


async def test_another_name_of_the_same_authority(room: Room):
    status, text = await get_as(room, "somebody", "/pods")
    assert status == 403
    assert "somebody" in text


async def test_the_right_name_of_another_authority(room: Room):
    with pytest.raises((aiohttp.ClientError, ssl.SSLError, OSError)):
        await get_as(room, "stranger")


async def test_streams_are_guarded_too(room: Room):
    for path in ("/exec/default/web/main?command=id&output=1", "/portForward/default/web", "/nowhere"):
        status, _ = await get_as(room, "somebody", path)
        assert status == 403
    assert room.runtime.executed == []


# Nonsense


async def test_garbage_on_the_port_harms_nobody(room: Room):
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", os.urandom(5000), b"\x16\x03\x01" + os.urandom(600), b""):
        reader, writer = await asyncio.open_connection("127.0.0.1", room.port)
        writer.write(garbage)
        writer.write_eof()
        try:
            await asyncio.wait_for(reader.read(), 10)
        except ConnectionError:
            pass
        writer.close()
    assert await room.get("/healthz") == (200, "ok")


async def test_garbage_inside_tls_is_refused(room: Room):
    for garbage in (b"\x00\x01\x02 nonsense\r\n\r\n", b"GET /" + b"x" * 2_000_000, os.urandom(3000) + b"\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", room.port, ssl=client_context(room.pki))
        try:
            writer.write(garbage)
            answer = await asyncio.wait_for(reader.read(), 10)
            assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 ")), answer[:100]
        except ConnectionError:
            pass
        writer.close()
    assert await room.get("/healthz") == (200, "ok")


async def test_unknown_paths(room: Room):
    for path in ("/", "/checkpoint/default/web/main", "/logs/", "/run/default/web/main", "/pods/x", "/containerLogs/a"):
        assert await room.get(path) == (404, "404 page not found")


async def test_broken_runtime_is_an_error_not_a_crash(room: Room):
    room.runtime.broken = True
    status, text = await room.get("/metrics/resource")
    assert status == 200
    assert parse_exposition(text)["resource_scrape_error"] == {"": 1.0}
    assert await room.get("/healthz") == (200, "ok")


# Pods and metrics


async def test_pods(room: Room):
    status, text = await room.get("/pods")
    pods = json.loads(text)
    assert status == 200
    assert pods["kind"] == "PodList"
    assert [pod["metadata"]["name"] for pod in pods["items"]] == ["web"]
    assert pods["items"][0]["status"]["phase"] == "Running"


async def test_metrics_resource(room: Room):
    status, text = await room.get("/metrics/resource")
    assert status == 200
    metrics = parse_exposition(text)
    labels = 'container="main",namespace="default",pod="web"'
    assert metrics["container_memory_working_set_bytes"][labels] > 100_000
    assert metrics["container_start_time_seconds"][labels] == room.runtime.containers["main"].started_at
    assert labels in metrics["container_cpu_usage_seconds_total"]
    pod = 'namespace="default",pod="web"'
    assert metrics["pod_memory_working_set_bytes"][pod] == metrics["container_memory_working_set_bytes"][labels]
    assert metrics["node_memory_working_set_bytes"][""] > metrics["pod_memory_working_set_bytes"][pod]
    assert metrics["node_cpu_usage_seconds_total"][""] > 0
    assert metrics["scrape_error"] == metrics["resource_scrape_error"] == {"": 0.0}


async def test_metrics_cadvisor(room: Room):
    room.node.change("web", "main", spec={"name": "main", "image": "podlab/python"})
    metrics = parse_exposition((await room.get("/metrics/cadvisor"))[1])
    labels = 'container="main",namespace="default",pod="web",id="main",name="main",image="podlab/python"'
    assert metrics["container_memory_working_set_bytes"][labels] > 100_000
    assert labels + ',cpu="total"' in metrics["container_cpu_usage_seconds_total"]
    assert metrics["machine_memory_bytes"] == {"": float(1 << 30)}
    assert metrics["machine_cpu_cores"][""] >= 1


async def test_own_metrics(room: Room):
    room.node.add(pod_view("late", [container_view("main", running=False)]))
    await room.get("/pods")
    metrics = parse_exposition((await room.get("/metrics"))[1])
    assert metrics["kubelet_running_pods"] == {"": 1.0}
    assert metrics["kubelet_running_containers"] == {'container_state="exited"': 1.0, 'container_state="running"': 1.0}
    assert metrics["kubelet_http_requests_total"]['method="GET",path="/pods",server_type="readwrite"'] == 1.0


async def test_summary(room: Room):
    summary = json.loads((await room.get("/stats/summary"))[1])
    assert summary["node"]["nodeName"] == "node-1"
    assert summary["node"]["fs"]["capacityBytes"] > summary["node"]["fs"]["availableBytes"] > 0
    memory = summary["node"]["memory"]
    assert memory["availableBytes"] + memory["workingSetBytes"] == 1 << 30
    (pod,) = summary["pods"]
    assert pod["podRef"] == {"name": "web", "namespace": "default", "uid": "uid-of-web"}
    assert pod["containers"][0]["memory"]["workingSetBytes"] == pod["memory"]["workingSetBytes"] > 0


def test_exposition_escapes():
    labels = {"path": 'a\\b"c\nd'}
    text = render([Family("x_total", "one\ntwo", "counter", [Sample(1.5, labels, 2.0)]), Family("y", "", "gauge", [])])
    assert text == '# HELP x_total one\\ntwo\n# TYPE x_total counter\nx_total{path="a\\\\b\\"c\\nd"} 1.5 2000\n'
    assert parse_exposition(text)


# Counters and rates, without a clock


def read(meter: Meter, now: float, **cpu: float):
    usage = {name: Usage(seconds, 1000, 2) for name, seconds in cpu.items()}
    states = {name: ContainerState(name, "sandbox", 1, 100.0, None, {}) for name in cpu}
    return meter.account(usage, states, now, Usage(1.0, 50, 1))


async def test_node_counter_never_falls(room: Room):
    meter = Meter(room.node)
    assert read(meter, 110, main=4.0).cpu == 5.0
    assert read(meter, 111, main=5.0, other=2.0).cpu == 8.0
    assert read(meter, 112, other=3.0).cpu == 9.0
    assert read(meter, 113, main=1.0, other=3.0).cpu == 10.0


async def test_rates(room: Room):
    meter = Meter(room.node)

    def cores(now: float, cpu: float) -> float | None:
        return read(meter, now, main=cpu).pods[0].cores

    assert cores(110, 5.0) == 0.5  # since the start at 100
    assert cores(112, 7.0) == 1.0
    assert cores(112.1, 7.0) == 1.0  # too soon for a new rate
    assert cores(114, 8.0) == 0.5
    assert cores(116, 0.1) is None  # a new process under the same name


async def test_containers_of_unknown_pods_count_for_the_node_only(room: Room):
    statistics = read(Meter(room.node), 110, main=1.0, leftover=2.0)
    assert [pod.name for pod in statistics.pods] == ["web"]
    assert statistics.memory == 2050
    assert statistics.processes == 5
    names = {family.name for family in resource_metrics(statistics)}
    assert "node_cpu_usage_seconds_total" in names


async def test_pods_without_running_containers_are_left_out(room: Room):
    pod = room.node.find("default", "web")
    assert pod
    room.node.add(dataclasses.replace(pod, containers={}))
    assert read(Meter(room.node), 110, main=1.0).pods == []
