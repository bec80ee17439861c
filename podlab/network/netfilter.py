"""The kernel's packet filter over netlink: commits batches of nf_tables messages, reads counters, and forgets
tracked connections. Standard library only; needs CAP_NET_ADMIN in the network namespace.

A Netfilter belongs to the network namespace of the thread that made it. Its methods block for milliseconds.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from podlab.errors import PodlabError
from podlab.network.netlink import attribute, attributes
from podlab.network.nftables_messages import IPV4, Kind, Message

_NETFILTER = 12
_SOL_NETLINK, _CAP_ACK, _EXT_ACK = 270, 10, 11
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_REQUEST, _ACK, _DUMP = 1, 4, 0x300
_ERROR, _DONE = 2, 3
_CAPPED, _HAS_ATTRIBUTES = 0x100, 0x200
_BATCH_BEGIN, _BATCH_END = 16, 17
_TABLES, _CONNECTIONS = 10, 1
_BUFFER = 4 * 1024 * 1024
#: Seconds after which an answer of the kernel is given up (it takes milliseconds).
_PATIENCE = 10.0


class NetfilterError(PodlabError):
    """The kernel refused a change of the rules; nothing of the batch was applied. `number` is its errno."""

    def __init__(self, message: str, number: int, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.number = number


@dataclass(frozen=True)
class Count:
    """What a rule's counter has seen."""

    packets: int
    bytes: int
    comment: str = ""


@dataclass(frozen=True)
class Flow:
    """A tracked connection: where its client sent to, and who answers (differs after DNAT)."""

    protocol: int
    client: tuple[str, int]
    destination: tuple[str, int]
    answerer: tuple[str, int]


class Netfilter:
    """A connection to the kernel's packet filter."""

    def __init__(self) -> None:
        try:
            made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETFILTER)
        except OSError as error:
            raise _unsuitable(error) from error
        self._socket = made
        made.settimeout(_PATIENCE)
        for option in (_CAP_ACK, _EXT_ACK):
            made.setsockopt(_SOL_NETLINK, option, 1)
        for forced, plain in ((_SO_SNDBUFFORCE, socket.SO_SNDBUF), (_SO_RCVBUFFORCE, socket.SO_RCVBUF)):
            try:
                made.setsockopt(socket.SOL_SOCKET, forced, _BUFFER)
            except PermissionError:
                made.setsockopt(socket.SOL_SOCKET, plain, _BUFFER)  # as much as the system's limit allows
        self._sequence = int.from_bytes(os.urandom(2), "big")

    def __enter__(self) -> Netfilter:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the rules stay."""
        self._socket.close()

    def commit(self, messages: Sequence[Message]) -> None:
        """Apply a batch whole or not at all; NetfilterError names the first message that was refused."""
        if not messages:
            return
        begin = self._next()
        parts = [_message(_BATCH_BEGIN, _REQUEST, begin, 0, b"", resource=_TABLES)]
        by_sequence: dict[int, Message] = {}
        for message in messages:
            number = self._next()
            by_sequence[number] = message
            # One acknowledgement, of the last message, tells that the whole batch is done.
            flags = _REQUEST | message.flags | (_ACK if len(by_sequence) == len(messages) else 0)
            kind = _TABLES << 8 | message.kind
            parts.append(_message(kind, flags, number, IPV4, message.body))
        parts.append(_message(_BATCH_END, _REQUEST, self._next(), 0, b"", resource=_TABLES))
        self._send(b"".join(parts))
        last = max(by_sequence)
        first: tuple[int, int, str] | None = None
        while True:
            for kind, number, flags, body in self._receive():
                if kind != _ERROR or (number not in by_sequence and number != begin):
                    continue
                code, said = _error(flags, body)
                if code and first is None:
                    first = (number, code, said)
                if number in (last, begin):
                    self._drain()
                    if first:
                        raise _refusal(by_sequence.get(first[0]), first[1], first[2])
                    return

    def commit_all(self, batches: Sequence[Sequence[Message]]) -> None:
        """Apply batches one after another; stops at the first that is refused."""
        for batch in batches:
            self.commit(batch)

    def chains(self, table: str) -> list[str]:
        """The names of the table's chains; an unknown table has none."""
        bodies = self._dump(_TABLES << 8 | Kind.GET_CHAIN, IPV4, b"")
        found = [attributes(body) for body in bodies]
        return sorted(_string(each[3]) for each in found if _string(each[1]) == table)

    def counters(self, table: str, chain: str) -> list[Count]:
        """The counters of a chain's rules, in order; rules without one are left out."""
        request = attribute(1, table.encode() + b"\0") + attribute(2, chain.encode() + b"\0")
        found = []
        for body in self._dump(_TABLES << 8 | Kind.GET_RULE, IPV4, request):
            made = attributes(body)
            if _string(made.get(1, b"")) != table or _string(made.get(2, b"")) != chain:
                continue
            comment = made.get(7, b"\0\0")[2:].rstrip(b"\0").decode(errors="replace")
            for name, data in _expressions(made.get(4, b"")):
                if name == "counter":
                    octets, packets = (struct.unpack(">Q", data[kind])[0] for kind in (1, 2))
                    found.append(Count(packets, octets, comment))
        return found

    def elements(self, table: str, name: str) -> list[bytes]:
        """The keys in a set."""
        request = attribute(1, table.encode() + b"\0") + attribute(2, name.encode() + b"\0")
        found = []
        for body in self._dump(_TABLES << 8 | Kind.GET_ELEMENT, IPV4, request):
            for _, element in _each(attributes(body).get(3, b"")):
                found.append(attributes(attributes(element)[1])[1])
        return found

    def flows(self, protocol: int) -> list[Flow]:
        """The tracked IPv4 connections of a protocol."""
        return [flow for flow, _ in self._flows(protocol)]

    def forget(self, protocol: int, which: Callable[[Flow], bool]) -> int:
        """Forget the tracked connections that `which` picks, so that their next packet is judged anew.

        Returns how many there were. One that ends meanwhile is fine.
        """
        count = 0
        for flow, tuple_ in self._flows(protocol):
            if which(flow):
                try:
                    self._ask(_CONNECTIONS << 8 | 2, socket.AF_INET, tuple_, "forgetting a connection")
                    count += 1
                except NetfilterError as error:
                    if error.number != errno.ENOENT:
                        raise
        return count

    def _flows(self, protocol: int) -> Iterator[tuple[Flow, bytes]]:
        for body in self._dump(_CONNECTIONS << 8 | 1, socket.AF_INET, b""):
            made = attributes(body)
            original, reply = _tuple(made[1]), _tuple(made[2])
            if original and reply and original[0] == protocol:
                _, source, destination = original
                flow = Flow(protocol, source, destination, reply[1])
                # The tuple and the connection's own id: a successor with the same tuple stays.
                yield flow, attribute(1 | 0x8000, made[1]) + (attribute(12, made[12]) if 12 in made else b"")

    def _next(self) -> int:
        self._sequence = self._sequence % 0x7FFF_FFFF + 1
        return self._sequence

    def _send(self, data: bytes) -> None:
        try:
            self._socket.send(data)
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                raise NetfilterError(
                    f"A change of {len(data)} bytes does not fit into this system's send buffer.",
                    errno.EMSGSIZE,
                    hint="Raise it: `sudo sysctl net.core.wmem_max=4194304`.",
                ) from error
            raise _unsuitable(error) from error

    def _receive(self) -> list[tuple[int, int, int, bytes]]:
        """(type, sequence number, flags, body) of each message in the next datagram."""
        try:
            data = self._socket.recv(1 << 20)
        except TimeoutError as error:
            text = f"The kernel's packet filter did not answer within {_PATIENCE:g} s."
            raise NetfilterError(text, errno.ETIMEDOUT) from error
        found = []
        offset = 0
        while offset + 16 <= len(data):
            length, kind, flags, number, _ = struct.unpack_from("=IHHII", data, offset)
            if length < 16:
                break
            found.append((kind, number, flags, data[offset + 16 : offset + length]))
            offset += (length + 3) & ~3
        return found

    def _drain(self) -> None:
        """Throw away what is left of the answers to a refused batch."""
        self._socket.setblocking(False)
        try:
            while self._socket.recv(1 << 16):
                pass
        except BlockingIOError:
            pass
        finally:
            self._socket.settimeout(_PATIENCE)

    def _ask(self, kind: int, family: int, body: bytes, what: str) -> None:
        number = self._next()
        self._send(_message(kind, _REQUEST | _ACK, number, family, body))
        while True:
            for answer, sequence, flags, content in self._receive():
                if answer == _ERROR and sequence == number:
                    code, said = _error(flags, content)
                    if code:
                        raise _refusal(None, code, said, what)
                    return

    def _dump(self, kind: int, family: int, body: bytes) -> list[bytes]:
        number = self._next()
        self._send(_message(kind, _REQUEST | _DUMP, number, family, body))
        found: list[bytes] = []
        while True:
            for answer, sequence, flags, content in self._receive():
                if sequence != number:
                    continue
                if answer == _ERROR:
                    code, said = _error(flags, content)
                    if code == errno.ENOENT:
                        return []
                    raise _refusal(None, code, said, "reading")
                if answer == _DONE:
                    return found
                found.append(content[4:])


def _message(kind: int, flags: int, number: int, family: int, body: bytes, resource: int = 0) -> bytes:
    head = struct.pack("=IHHII", 20 + len(body), kind, flags, number, 0)
    return head + struct.pack(">BBH", family, 0, resource) + body


def _error(flags: int, body: bytes) -> tuple[int, str]:
    """The errno of an error message, 0 for an acknowledgement, and the kernel's own words if it has any."""
    code = -struct.unpack_from("=i", body)[0]
    said = ""
    if flags & _HAS_ATTRIBUTES:
        skip = 20 if flags & _CAPPED else 4 + struct.unpack_from("=I", body, 4)[0]
        said = _string(attributes(body[skip:]).get(1, b""))
    return code, said


def _refusal(message: Message | None, code: int, said: str, what: str = "") -> NetfilterError:
    if code in (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT) and message is None:
        return _unsuitable(OSError(code, os.strerror(code)))
    words = f"{os.strerror(code)}{f' ({said})' if said else ''}"
    named = message.what if message else what or "a batch"
    return NetfilterError(f"The kernel's packet filter refused the {named}: {words}.", code)


def _unsuitable(error: OSError) -> NetfilterError:
    hint = "`podlab doctor` shows what this machine offers."
    if error.errno in (errno.EPERM, errno.EACCES):
        hint = "The process needs CAP_NET_ADMIN in its network namespace."
    elif error.errno in (errno.EOPNOTSUPP, errno.EPROTONOSUPPORT, errno.EINVAL):
        hint = "The kernel may lack nf_tables: `sudo modprobe nf_tables nft_nat nft_numgen nft_reject_ipv4`."
    return NetfilterError(
        f"The kernel's packet filter cannot be used: {os.strerror(error.errno or 0)}.", error.errno or 0, hint=hint
    )


def _string(data: bytes) -> str:
    return data.rstrip(b"\0").decode(errors="replace")


def _each(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The attributes in `data` in order; `netlink.attributes` keeps only one of a kind."""
    offset = 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:
            return
        yield kind & 0x3FFF, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def _expressions(data: bytes) -> Iterator[tuple[str, dict[int, bytes]]]:
    for _, element in _each(data):
        made = attributes(element)
        yield _string(made.get(1, b"")), attributes(made.get(2, b""))


def _tuple(data: bytes) -> tuple[int, tuple[str, int], tuple[str, int]] | None:
    """Protocol, source and destination of a connection's tuple; None if it has no IPv4 addresses or ports."""
    made = attributes(data)
    addresses, ports = attributes(made.get(1, b"")), attributes(made.get(2, b""))
    if not (1 in addresses and 2 in addresses and 2 in ports and 3 in ports):
        return None

    def end(kind: int, port: int) -> tuple[str, int]:
        return socket.inet_ntoa(addresses[kind]), struct.unpack(">H", ports[port])[0]

    return ports[1][0], end(1, 2), end(2, 3)
