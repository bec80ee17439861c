"""Fixtures: a node's own API with one pod."""

from __future__ import annotations

import aiohttp
import pytest
from api_room import LocalNode, Room, client_context, configuration, container_view, make_pki, pod_view
from local_runtime import LocalRuntime

from podlab.node.server import serve


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory):
    """A folder of certificates, made once."""
    folder = tmp_path_factory.mktemp("pki")
    make_pki(folder)
    return folder


@pytest.fixture
async def room(tmp_path, pki):
    """A server with the pod default/web, whose container main is a running `sleep`."""
    runtime = LocalRuntime()
    runtime.start("main", ["sleep", "600"])
    node = LocalNode(runtime)
    node.add(pod_view("web", [container_view("main", environment={"COLOUR": "blue"})]))
    runner = await serve(node, configuration(tmp_path, pki, 0))
    connector = aiohttp.TCPConnector(ssl=client_context(pki))
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(30)) as client:
        yield Room(node, runtime, runner, client, pki, tmp_path)
    await runner.close()
    runtime.close()
