"""Asking a container whether it is well: by HTTP, TCP, gRPC or a command. Texts are the kubelet's."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

from podlab.errors import RuntimeRefused
from podlab.node import commands, grpc_health
from podlab.node.runtime.contract import Runtime

log = logging.getLogger(__name__)

REDIRECTS_MAX = 10
HEAD_MAX = 1 << 20
USER_AGENT = "kube-probe/1.37"


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether the container is well; `message` for the event; `refused`: nobody listens (yet).

    `healthy` None means that the probe itself could not be made: its result is thrown away.
    """

    healthy: bool | None
    message: str = ""
    refused: bool = False
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """A running container as a probe or a hook sees it."""

    container_id: str
    spec: Mapping[str, Any]
    address: str
    environment: Mapping[str, str]


def port_number(port: int | str, container: Mapping[str, Any]) -> int:
    """A port by number or by the name of one of the container's ports; ValueError if there is none."""
    if isinstance(port, int):
        return port
    for declared in container.get("ports") or ():
        if declared.get("name") == port:
            return declared["containerPort"]
    if port.isdecimal():
        return int(port)
    raise ValueError(f"couldn't find port: {port}")


async def ask(runtime: Runtime, target: Target, probe: Mapping[str, Any], timeout: float) -> Answer:
    """One answer of a probe, within `timeout` seconds. Never raises: a probe that ended would not be asked again."""
    try:
        if "exec" in probe:
            return await _command(runtime, target, probe["exec"].get("command") or [], timeout)
        if "httpGet" in probe:
            return await http(target, probe["httpGet"], timeout)
        if "tcpSocket" in probe:
            return await _tcp(target, probe["tcpSocket"], timeout)
        if "grpc" in probe:
            return await _grpc(target, probe["grpc"], timeout)
    except ValueError as error:
        return Answer(None, str(error))
    except Exception as error:
        log.exception("a probe of %s failed", target.container_id)
        return Answer(None, repr(error))
    return Answer(None, "missing probe handler")


async def _command(runtime: Runtime, target: Target, argv: list[str], timeout: float) -> Answer:
    try:
        outcome = await commands.run(runtime, target.container_id, argv, target.environment, timeout)
    except RuntimeRefused as error:
        return Answer(None, error.message)
    if outcome.status is None:
        return Answer(False, f'command timed out: "{" ".join(argv)}" timed out after {timeout:g}s')
    return Answer(outcome.status == 0, outcome.output)


async def _tcp(target: Target, action: Mapping[str, Any], timeout: float) -> Answer:
    host = action.get("host") or target.address
    port = port_number(action["port"], target.spec)
    try:
        async with asyncio.timeout(timeout):
            _, writer = await asyncio.open_connection(host, port)
        writer.transport.abort()
        return Answer(True)
    except TimeoutError:
        return Answer(False, f"dial tcp {host}:{port}: i/o timeout")
    except OSError as error:
        return Answer(False, _dial(host, port, error), refused=isinstance(error, ConnectionRefusedError))


async def _grpc(target: Target, action: Mapping[str, Any], timeout: float) -> Answer:
    host, port = target.address, int(action["port"])
    try:
        async with asyncio.timeout(timeout):
            serving = await grpc_health.check(host, port, action.get("service") or "")
    except TimeoutError:
        return Answer(False, f'timeout: failed to connect service "{host}:{port}" within {timeout:g}s')
    except ConnectionRefusedError as error:
        return Answer(False, f"error: {_dial(host, port, error)}", refused=True)
    except (OSError, EOFError, grpc_health.ProtocolError) as error:
        return Answer(False, f"error: health rpc probe failed: {error}")
    if serving == "SERVING":
        return Answer(True)
    return Answer(False, f'service unhealthy (responded with "{serving}")')


def _dial(host: str, port: int, error: OSError) -> str:
    # asyncio puts the address into strerror; the number of the error is the plain fact.
    what = os.strerror(error.errno).lower() if error.errno else str(error)
    return f"dial tcp {host}:{port}: connect: {what}"


async def http(target: Target, action: Mapping[str, Any], timeout: float, agent: str = USER_AGENT) -> Answer:
    """The answer to an HTTP GET: 200–399 is well; a redirect to another host is taken as well, with a warning."""
    host = action.get("host") or target.address
    port = port_number(action["port"], target.spec)
    scheme = (action.get("scheme") or "HTTP").lower()
    path = action.get("path") or "/"
    url = f"{scheme}://{host}:{port}{path if path.startswith('/') else '/' + path}"
    first = url
    try:
        async with asyncio.timeout(timeout):
            for _ in range(REDIRECTS_MAX + 1):
                status, location = await _get(url, action, agent)
                if not (300 <= status < 400 and location):
                    break
                url = urljoin(url, location)
                if urlsplit(url).hostname != urlsplit(first).hostname:
                    return Answer(True, "Probe terminated redirects, Response body: ", warning=True)
            else:
                return Answer(False, f'Get "{first}": stopped after {REDIRECTS_MAX} redirects')
    except TimeoutError:
        why = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        return Answer(False, f'Get "{first}": {why}')
    except ssl.SSLError as error:
        return Answer(False, f'Get "{first}": tls: {error.reason or error}')
    except OSError as error:
        refused = isinstance(error, ConnectionRefusedError)
        return Answer(False, f'Get "{first}": {_dial(host, port, error)}', refused=refused)
    except EOFError:
        return Answer(False, f'Get "{first}": EOF')
    if 200 <= status < 400:
        return Answer(True)
    return Answer(False, f"HTTP probe failed with statuscode: {status}")


async def _get(url: str, action: Mapping[str, Any], agent: str) -> tuple[int, str | None]:
    """(status, Location) of one GET. ValueError-free: what is no HTTP is an EOFError."""
    parts = urlsplit(url)
    secure = _unverified() if parts.scheme == "https" else None
    port = parts.port or (443 if secure else 80)
    reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=secure, limit=HEAD_MAX)
    try:
        headers = {"host": ("Host", parts.netloc), "user-agent": ("User-Agent", agent), "accept": ("Accept", "*/*")}
        for header in action.get("httpHeaders") or ():
            if header.get("value") or header["name"].lower() not in headers:
                headers[header["name"].lower()] = (header["name"], header.get("value") or "")
        lines = [f"{name}: {value}" for name, value in headers.values()]
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        request = "\r\n".join([f"GET {path} HTTP/1.1", *lines, "Connection: close", "", ""])
        writer.write(request.encode("latin-1", errors="replace"))
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError as error:
        raise EOFError("the head of the answer is too long") from error
    finally:
        writer.transport.abort()
    first, *rest = head.decode("latin-1").split("\r\n")
    words = first.split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/") or not words[1].isdecimal():
        raise EOFError("the answer is no HTTP")
    location = next((line[9:].strip() for line in rest if line.lower().startswith("location:")), None)
    return int(words[1]), location


def _unverified() -> ssl.SSLContext:
    """A TLS context without verification: a probe asks whether somebody serves, not who."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
