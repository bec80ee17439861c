"""The API server's way into the cluster's network: an HTTP CONNECT proxy on a Unix socket.

kube-apiserver's egress selector (HTTPConnect over a Unix socket) sends `CONNECT host:port HTTP/1.1`, wants the
answer below and then speaks TLS through. Anything else is answered with 400 and closed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from podlab.network.relay import DIAL_TIMEOUT, Listener, MakeSocket, dial_tcp, relay

log = logging.getLogger(__name__)

#: Connects to (host, port) and returns a connected non-blocking socket.
DialTo = Callable[[str, int], Awaitable[socket.socket]]

#: Go's client reads the status line and headers only; this is what Konnectivity's proxy answers.
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_METHOD = b"CONNECT "
_HEAD_MAX = 8192
#: Seconds within which a client must have sent its request.
_HEAD_TIMEOUT = 10.0
_REQUEST = re.compile(rb"CONNECT ([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):([0-9]{1,5}) HTTP/1\.[01]")


class BadRequest(ValueError):
    """The first bytes on the socket are no CONNECT request; the message says why."""


def parse_connect(head: bytes) -> tuple[str, int]:
    """The host and port of a CONNECT request, given with its headers; BadRequest for anything else."""
    line = head.partition(b"\r\n")[0]
    match = _REQUEST.fullmatch(line)
    if not match:
        raise BadRequest("only CONNECT host:port HTTP/1.1 is served here")
    port = int(match[2])
    if not 1 <= port <= 65535:
        raise BadRequest(f"{port} is not a port")
    return match[1].strip(b"[]").decode("ascii"), port


def refusal(status: int, reason: str) -> bytes:
    """A complete answer; the reason stands in the status line, because that is all that kubectl shows."""
    text = "".join(letter if " " <= letter <= "~" else " " for letter in reason)[:300]
    body = text.encode() + b"\n"
    head = f"HTTP/1.1 {status} {text}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body


class ConnectServer(Listener):
    """A running proxy; made by `serve_connect`."""

    def __init__(self, path: Path, dial: DialTo, listening: socket.socket) -> None:
        super().__init__(listening, self._handle, "egress")
        self.path = path
        self._dial = dial

    async def close(self) -> None:
        """Stop serving, end all connections and remove the socket's file."""
        await super().close()
        self.path.unlink(missing_ok=True)

    async def _handle(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            host, port, early = await _read_request(connection)
            target = await self._dial(host, port)
        except BadRequest as error:
            await _refuse(connection, 400, f"Bad Request: {error}")
            return
        except (OSError, TimeoutError) as error:
            reason = str(error.strerror if isinstance(error, OSError) and error.strerror else error)
            log.info("egress to %s:%s failed: %s", host, port, reason)
            await _refuse(connection, 502, f"dial tcp {host}:{port}: {reason}")
            return
        except BaseException:
            connection.close()
            raise
        try:
            await loop.sock_sendall(connection, ESTABLISHED)
            if early:
                await loop.sock_sendall(target, early)
        except BaseException as error:
            connection.close()
            target.close()
            if isinstance(error, OSError):
                return  # the client went away meanwhile
            raise
        await relay(connection, target)


async def _read_request(connection: socket.socket) -> tuple[str, int, bytes]:
    """The host and port asked for, and what followed the headers already."""
    head = b""
    try:
        async with asyncio.timeout(_HEAD_TIMEOUT):
            while b"\r\n\r\n" not in head:
                if len(head) > _HEAD_MAX:
                    raise BadRequest(f"the request's headers are longer than {_HEAD_MAX} bytes")
                piece = await asyncio.get_running_loop().sock_recv(connection, _HEAD_MAX)
                if not piece:
                    raise BadRequest("the request ended early")
                head += piece
                # Garbage is refused at once, not when it happens to end or the time is over.
                if not head.startswith(_METHOD[: len(head)]):
                    raise BadRequest("only CONNECT host:port HTTP/1.1 is served here")
    except TimeoutError:
        raise BadRequest(f"no request within {_HEAD_TIMEOUT:g} s") from None
    except OSError as error:
        raise BadRequest(str(error)) from error
    head, _, early = head.partition(b"\r\n\r\n")
    return *parse_connect(head), early


async def _refuse(connection: socket.socket, status: int, reason: str) -> None:
    try:
        async with asyncio.timeout(_HEAD_TIMEOUT):
            await asyncio.get_running_loop().sock_sendall(connection, refusal(status, reason))
            connection.shutdown(socket.SHUT_WR)
            # Closing with unread bytes would reset the connection before the answer has been read.
            while await asyncio.get_running_loop().sock_recv(connection, 65536):
                pass
    except (OSError, TimeoutError):
        pass
    finally:
        connection.close()


async def serve_connect(path: str | Path, dial: DialTo) -> ConnectServer:
    """Serve CONNECT on a Unix socket at `path` (mode 0600; an old file is replaced) and return the server."""
    path = Path(path)
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Bound under a strict mask: chmod afterwards would leave a moment in which others may connect.
        mask = os.umask(0o177)
        try:
            listening.bind(str(path))
        finally:
            os.umask(mask)
        server = ConnectServer(path, dial, listening)
        await server.start()
    except BaseException:
        listening.close()
        raise
    return server


def dialer(make: MakeSocket, names: Mapping[str, str] | None = None, timeout: float = DIAL_TIMEOUT) -> DialTo:
    """A `dial` for `serve_connect` with sockets of `make` (`Backbone.socket`).

    `names` (live, read at each call) gives addresses of node names; other hosts must be IPv4 addresses.
    """

    async def dial(host: str, port: int) -> socket.socket:
        address = (names or {}).get(host, host)
        try:
            socket.inet_pton(socket.AF_INET, address)
        except OSError:
            raise OSError(f"{host} is neither a node nor an IPv4 address") from None
        return await dial_tcp(make, address, port, timeout)

    return dial


def through(proxy: Path) -> DialTo:
    """A `dial` by the proxy that listens on a Unix socket at `proxy`."""

    async def dial(host: str, port: int) -> socket.socket:
        loop = asyncio.get_running_loop()
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            async with asyncio.timeout(DIAL_TIMEOUT):
                await loop.sock_connect(made, str(proxy))
                named = f"[{host}]" if ":" in host else host
                await loop.sock_sendall(made, f"CONNECT {named}:{port} HTTP/1.1\r\n\r\n".encode())
                head = b""
                # By single bytes: what follows the head is the other side's, and already on its way.
                while not head.endswith(b"\r\n\r\n") and len(head) <= _HEAD_MAX:
                    if not (piece := await loop.sock_recv(made, 1)):
                        break
                    head += piece
            if head != ESTABLISHED:
                raise OSError(head.partition(b"\r\n")[0].decode("ascii", "replace") or "the proxy hung up")
        except BaseException:
            made.close()
            raise
        return made

    return dial


async def dial_outside(host: str, port: int) -> socket.socket:
    """A `dial` for `serve_connect` into the host's own network, by name: how a node's agent reaches registries."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(DIAL_TIMEOUT):
        failed = OSError(f"{host} has no address")
        for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            made = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
            try:
                await loop.sock_connect(made, address)
            except OSError as error:
                made.close()
                failed = error
            except BaseException:
                made.close()
                raise
            else:
                return made
    raise failed
