from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlab.network import dns, dns_message
from podlab.network.dns import ClusterDns
from podlab.network.dns_message import Code, Malformed, Record, Type, encode_a, encode_name, parse_query, respond
from podlab.network.dns_zone import Zone
from podlab.network.egress import dial_outside, serve_connect
from podlab.network.relay import local_socket
from podlab.network.watching import SERVICES_PATH, SLICES_PATH, ServiceTable

ZONE = "cluster.local"


@dataclass
class Event:
    type: str
    object: dict[str, Any]


def service(name: str = "web", cluster_ip: str | None = "10.96.0.50", **spec: Any) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "protocol": "TCP"}, {"name": "dns", "port": 53, "protocol": "UDP"}]
    return {
        "metadata": {"namespace": "shop", "name": name, "uid": name},
        "spec": {"type": "ClusterIP", "clusterIP": cluster_ip, "ports": ports, **spec},
    }


def endpoints(*listed: tuple[str, str, bool], name: str = "db", port: int = 5432) -> dict[str, Any]:
    """Endpoints as (address, host name or "", ready)."""
    return {
        "metadata": {
            "namespace": "shop",
            "name": f"{name}-x",
            "uid": f"{name}-x",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "ports": [{"name": "sql", "port": port, "protocol": "TCP"}],
        "endpoints": [
            {"addresses": [address], "conditions": {"ready": ready}} | ({"hostname": host} if host else {})
            for address, host, ready in listed
        ],
    }


def zone(*objects: tuple[dict[str, Any], list[dict[str, Any]]]) -> Zone:
    made = Zone(shuffle=lambda records: None)
    for each, slices in objects:
        made.update(("shop", each["metadata"]["name"]), each, slices)
    return made


def show(record: Record) -> str:
    """A record's data as text."""
    if record.type == Type.A:
        return socket.inet_ntoa(record.data)
    if record.type == Type.SRV:
        numbers = struct.unpack_from(">HHH", record.data)
        return f"{numbers[0]} {numbers[1]} {numbers[2]} {name_of(record.data[6:])}"
    if record.type in (Type.PTR, Type.CNAME, Type.NS):
        return name_of(record.data)
    if record.type == Type.TXT:
        return record.data[1:].decode()
    return record.type.name


def name_of(data: bytes) -> str:
    labels = []
    while data[0]:
        labels.append(data[1 : 1 + data[0]].decode())
        data = data[1 + data[0] :]
    return ".".join(labels)


def look_up(made: Zone, name: str, kind: Type = Type.A) -> list[str] | Code:
    """The data of the answer, or the code if it is not NOERROR; negative answers must carry an SOA."""
    answer = made.answer(name, kind)
    if not answer.records:
        (soa,) = answer.authorities
        assert soa.type == Type.SOA and (name == soa.name or name.endswith("." + soa.name))
    assert all(record.ttl == 5 for record in (*answer.records, *answer.authorities))
    return [show(record) for record in answer.records] if answer.code == Code.NOERROR else answer.code


STATEFUL = (
    service("db", "None"),
    [endpoints(("10.244.1.2", "db-0", True), ("10.244.2.7", "db-1", True), ("10.244.3.3", "db-2", False))],
)


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("web.shop.svc", Type.A, ["10.96.0.50"]),
        ("web.shop.svc", Type.AAAA, []),
        ("web.shop.svc", Type.TXT, []),
        ("_http._tcp.web.shop.svc", Type.SRV, ["0 100 80 web.shop.svc.cluster.local"]),
        ("_dns._udp.web.shop.svc", Type.SRV, ["0 100 53 web.shop.svc.cluster.local"]),
        ("_http._udp.web.shop.svc", Type.SRV, Code.NXDOMAIN),
        ("_tcp.web.shop.svc", Type.SRV, []),
        ("db.shop.svc", Type.A, ["10.244.1.2", "10.244.2.7"]),
        ("db-1.db.shop.svc", Type.A, ["10.244.2.7"]),
        ("db-2.db.shop.svc", Type.A, Code.NXDOMAIN),
        (
            "_sql._tcp.db.shop.svc",
            Type.SRV,
            ["0 50 5432 db-0.db.shop.svc.cluster.local", "0 50 5432 db-1.db.shop.svc.cluster.local"],
        ),
        ("web.other.svc", Type.A, Code.NXDOMAIN),
        ("nothing.shop.svc", Type.A, Code.NXDOMAIN),
        ("shop.svc", Type.A, []),
        ("other.svc", Type.A, Code.NXDOMAIN),
        ("svc", Type.A, []),
        ("10-244-9-8.shop.pod", Type.A, ["10.244.9.8"]),
        ("10-244-9-8.shop.pod", Type.AAAA, []),
        ("10-244-9-888.shop.pod", Type.A, Code.NXDOMAIN),
        ("pod", Type.A, []),
        ("dns-version", Type.TXT, ["1.1.0"]),
        ("ns.dns", Type.A, ["10.96.0.10"]),
        ("web.shop.svc.cluster.local.shop.svc", Type.A, Code.NXDOMAIN),
    ],
)
def test_names_of_services_and_pods(name: str, kind: Type, expected: list[str] | Code) -> None:
    made = zone((service(), []), STATEFUL)
    assert look_up(made, f"{name}.{ZONE}", kind) == expected


def test_reverse_names() -> None:
    made = zone((service(), []), STATEFUL)
    assert look_up(made, "50.0.96.10.in-addr.arpa", Type.PTR) == ["web.shop.svc.cluster.local"]
    assert look_up(made, "7.2.244.10.in-addr.arpa", Type.PTR) == ["db-1.db.shop.svc.cluster.local"]
    assert look_up(made, "3.3.244.10.in-addr.arpa", Type.PTR) == Code.NXDOMAIN
    assert look_up(made, "96.10.in-addr.arpa", Type.PTR) == []
    assert made.answer("1.1.168.192.in-addr.arpa", Type.PTR).foreign


def test_an_endpoint_without_a_host_name_is_called_by_its_address() -> None:
    made = zone((service("db", "None"), [endpoints(("10.244.1.2", "", True))]))
    assert look_up(made, "10-244-1-2.db.shop.svc.cluster.local") == ["10.244.1.2"]
    target = ["10-244-1-2.db.shop.svc.cluster.local"]
    assert look_up(made, "2.1.244.10.in-addr.arpa", Type.PTR) == target


def test_a_headless_service_without_ready_endpoints_does_not_exist() -> None:
    unready = [endpoints(("10.244.1.2", "db-0", False))]
    assert look_up(zone((service("db", "None"), unready)), "db.shop.svc.cluster.local") == Code.NXDOMAIN
    published = zone((service("db", "None", publishNotReadyAddresses=True), unready))
    assert look_up(published, "db.shop.svc.cluster.local") == ["10.244.1.2"]
    assert look_up(published, "db-0.db.shop.svc.cluster.local") == ["10.244.1.2"]


def test_srv_answers_carry_the_addresses_of_their_targets() -> None:
    answer = zone(STATEFUL).answer(f"_sql._tcp.db.shop.svc.{ZONE}", Type.SRV)
    extra = {(record.name, show(record)) for record in answer.additional}
    assert extra == {
        ("db-0.db.shop.svc.cluster.local", "10.244.1.2"),
        ("db-1.db.shop.svc.cluster.local", "10.244.2.7"),
    }


def test_external_names_are_aliases() -> None:
    outside = service("shop-window", None, type="ExternalName", externalName="Example.COM.")
    inside = service("alias", None, type="ExternalName", externalName="web.shop.svc.cluster.local")
    loop = service("loop", None, type="ExternalName", externalName="loop.shop.svc.cluster.local")
    made = zone((outside, []), (inside, []), (loop, []), (service(), []))
    answer = made.answer(f"shop-window.shop.svc.{ZONE}", Type.A)
    assert [show(record) for record in answer.records] == ["example.com"]
    assert look_up(made, f"shop-window.shop.svc.{ZONE}", Type.CNAME) == ["example.com"]
    assert look_up(made, f"alias.shop.svc.{ZONE}") == ["web.shop.svc.cluster.local", "10.96.0.50"]
    assert look_up(made, f"loop.shop.svc.{ZONE}") == ["loop.shop.svc.cluster.local"]


def test_a_change_replaces_all_names_of_its_service() -> None:
    made = zone((service(), []), STATEFUL)
    made.update(("shop", "db"), service("db", "None"), [endpoints(("10.244.1.9", "db-0", True))])
    assert look_up(made, f"db.shop.svc.{ZONE}") == ["10.244.1.9"]
    assert look_up(made, f"db-1.db.shop.svc.{ZONE}") == Code.NXDOMAIN
    assert look_up(made, "2.1.244.10.in-addr.arpa", Type.PTR) == Code.NXDOMAIN
    made.update(("shop", "web"), None)
    made.update(("shop", "db"), None)
    made.update(("shop", "never"), None)
    for name in ("web.shop.svc", "db.shop.svc", "shop.svc"):
        assert look_up(made, f"{name}.{ZONE}") == Code.NXDOMAIN
    assert made._names == {} and made._of == {}


def test_two_headless_services_may_name_one_pod() -> None:
    other = endpoints(("10.244.1.2", "", True), name="all")
    made = zone(STATEFUL, (service("all", "None"), [other]))
    both = ["db-0.db.shop.svc.cluster.local", "10-244-1-2.all.shop.svc.cluster.local"]
    assert look_up(made, "2.1.244.10.in-addr.arpa", Type.PTR) == both
    made.update(("shop", "db"), None)
    assert look_up(made, "2.1.244.10.in-addr.arpa", Type.PTR) == both[1:]


# Messages


def question(name: str, kind: int = Type.A, *, size: int | None = None, number: int = 7, klass: int = 1) -> bytes:
    option = b"" if size is None else struct.pack(">BHHIH", 0, Type.OPT, size, 0, 0)
    head = struct.pack(">6H", number, 0x0100, 1, 0, 0, 1 if option else 0)
    return head + encode_name(name) + struct.pack(">HH", kind, klass) + option


def header(message: bytes) -> tuple[int, Code, bool, list[int]]:
    """(id, code, whether it is truncated, number of questions, answers, authorities, additional)."""
    number, flags, *counts = struct.unpack_from(">6H", message)
    assert flags & 0x8000
    return number, Code(flags & 15), bool(flags & 0x0200), counts


def test_a_query_is_read_with_its_size() -> None:
    query = parse_query(question("Web.Shop.SVC.cluster.local", Type.SRV, size=4096))
    assert (query.name, query.type, query.size, query.extended) == ("web.shop.svc.cluster.local", 33, 1232, True)
    assert parse_query(question("a", size=100)).size == 512
    assert parse_query(question("a")).size == 512 and not parse_query(question("a")).extended


def test_the_answer_repeats_the_question_as_it_was_written() -> None:
    query = parse_query(question("wEb.cluster.local"))
    answer = respond(query, Code.NOERROR, [Record("web.cluster.local", Type.A, encode_a("10.0.0.1"), 5)])
    asked = encode_name("wEb.cluster.local") + struct.pack(">HH", Type.A, 1)
    assert answer[12:] == asked + b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04\x0a\x00\x00\x01"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (struct.pack(">6H", 7, 0x2800, 1, 0, 0, 0) + b"\0", Code.NOTIMP),
        (struct.pack(">6H", 7, 0, 0, 0, 0, 0), Code.FORMERR),
        (struct.pack(">6H", 7, 0, 2, 0, 0, 0), Code.FORMERR),
        (struct.pack(">6H", 7, 0, 1, 0, 0, 0) + b"\x05ab", Code.FORMERR),
        (struct.pack(">6H", 7, 0, 1, 0, 0, 0) + b"\xc0\x0c\0\x01\0\x01", Code.FORMERR),
        (struct.pack(">6H", 7, 0, 1, 0, 0, 0) + b"\x3fa" * 90, Code.FORMERR),
        (question("version.bind", Type.TXT, klass=3), Code.REFUSED),
    ],
)
def test_what_cannot_be_answered_is_refused_with_its_id(data: bytes, code: Code) -> None:
    with pytest.raises(Malformed) as caught:
        parse_query(data)
    assert caught.value.answer is not None
    assert header(caught.value.answer)[:2] == (7, code)


@pytest.mark.parametrize("data", [b"", b"x" * 11, struct.pack(">6H", 7, 0x8000, 1, 0, 0, 0) + b"\0\0\1\0\1"])
def test_noise_and_answers_are_met_with_silence(data: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        parse_query(data)
    assert caught.value.answer is None


@given(st.binary(max_size=600) | st.builds(lambda tail: struct.pack(">6H", 1, 0, 1, 0, 0, 1) + tail, st.binary()))
def test_no_bytes_crash_the_server(data: bytes) -> None:
    server = ClusterDns(ServiceTable())
    answer = server.answer(data)
    assert answer is None or (isinstance(answer, bytes) and header(answer)[0] == int.from_bytes(data[:2], "big"))


labels = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=63)


@given(st.lists(labels, min_size=1, max_size=3), st.sampled_from(list(Type)), st.none() | st.integers(0, 65535))
def test_names_survive_the_wire(parts: list[str], kind: Type, size: int | None) -> None:
    query = parse_query(question(".".join(parts), kind, size=size))
    assert query.name == ".".join(parts) and query.type == kind
    again = name_of(encode_name(query.name))
    assert again == query.name


@given(st.integers(0, 200), st.integers(512, 4096))
def test_an_answer_never_exceeds_its_size_and_says_when_it_is_cut(count: int, size: int) -> None:
    query = parse_query(question("db.cluster.local", size=4096))
    records = [Record(query.name, Type.A, bytes([10, 0, 0, number % 256]), 5) for number in range(count)]
    answer = respond(query, Code.NOERROR, records, size=size)
    _, _, truncated, counts = header(answer)
    assert len(answer) <= size
    assert truncated == (counts[1] < count)


@pytest.mark.parametrize("name", ["a..b", "." * 3, "a" * 64, ".".join(["a" * 60] * 5)])
def test_impossible_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError):
        encode_name(name)


# The server


class Server:
    def __init__(self, **settings: Any) -> None:
        self.table = ServiceTable()
        self.dns = ClusterDns(self.table, address="127.0.0.1", port=0, **settings)

    def put(self, path: str, made: dict[str, Any], event: str = "ADDED") -> None:
        self.table.apply(path, Event(event, made))

    def complete(self) -> None:
        for path in (SERVICES_PATH, SLICES_PATH):
            self.table.apply(path, Event("SYNC", {}))

    async def udp(self, message: bytes, timeout: float = 60) -> bytes:
        loop = asyncio.get_running_loop()
        with local_socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(self.dns.address)
            client.send(message)
            return await asyncio.wait_for(loop.sock_recv(client, 65536), timeout)

    async def tcp(self, *messages: bytes) -> list[bytes]:
        reader, writer = await asyncio.open_connection(*self.dns.address)
        for message in messages:
            writer.write(len(message).to_bytes(2, "big") + message)
        answers = []
        async with asyncio.timeout(60):
            for _ in messages:
                length = int.from_bytes(await reader.readexactly(2), "big")
                answers.append(await reader.readexactly(length))
        writer.close()
        return answers


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    await made.dns.start()
    made.put(SERVICES_PATH, service())
    made.complete()
    yield made
    await made.dns.close()


async def test_udp_and_tcp_answer_alike(server: Server) -> None:
    asked = question("web.shop.svc.cluster.local")
    answer = await server.udp(asked)
    assert answer.endswith(socket.inet_aton("10.96.0.50"))
    assert await server.tcp(asked, asked) == [answer, answer]


async def test_a_long_answer_is_cut_on_udp_and_whole_on_tcp(server: Server) -> None:
    many = [(f"10.244.1.{number}", "", True) for number in range(2, 102)]
    server.put(SERVICES_PATH, service("db", "None"))
    server.put(SLICES_PATH, endpoints(*many))
    asked = question("db.shop.svc.cluster.local")
    answer = await server.udp(asked)
    _, _, truncated, counts = header(answer)
    assert truncated and 0 < counts[1] < 100 and len(answer) <= 512
    extended = await server.udp(question("db.shop.svc.cluster.local", size=4096))
    assert counts[1] < header(extended)[3][1] < 100 and len(extended) <= 1232
    (whole,) = await server.tcp(asked)
    assert header(whole)[2:] == (False, [1, 100, 0, 0])


async def test_the_order_of_addresses_changes_from_answer_to_answer(server: Server) -> None:
    server.put(SERVICES_PATH, service("db", "None"))
    server.put(SLICES_PATH, endpoints(*((f"10.244.1.{number}", "", True) for number in range(2, 12))))
    answers = {await server.udp(question("db.shop.svc.cluster.local")) for _ in range(5)}
    assert len(answers) > 1


async def test_questions_before_the_table_is_complete_are_answered_when_it_is() -> None:
    made = Server()
    await made.dns.start()
    asked = question("web.shop.svc.cluster.local")
    early = [asyncio.create_task(made.udp(asked)), asyncio.create_task(made.tcp(asked))]
    made.put(SERVICES_PATH, service())
    done, _ = await asyncio.wait(early, timeout=0.1)
    assert not done
    made.complete()
    udp, (tcp,) = await asyncio.gather(*early)
    assert udp == tcp and header(udp)[:2] == (7, Code.NOERROR)
    await made.dns.close()


async def test_foreign_names_do_not_exist(server: Server) -> None:
    assert header(await server.udp(question("example.com")))[1] == Code.NXDOMAIN


@pytest.fixture
async def upstream() -> AsyncIterator[Server]:
    """A resolver of the outer world, where `outer.example` has names."""
    made = Server(domain="outer.example")
    await made.dns.start()
    made.put(SERVICES_PATH, service("web", "192.0.2.7"))
    made.put(SERVICES_PATH, service("also", None, type="ExternalName", externalName="web.shop.svc.outer.example"))
    made.put(SERVICES_PATH, service("db", "None"))
    made.put(SLICES_PATH, endpoints(*((f"10.244.1.{number}", "", True) for number in range(2, 102))))
    made.complete()
    yield made
    await made.dns.close()


@pytest.fixture
async def forwarding(upstream: Server, tmp_path: Path) -> AsyncIterator[Server]:
    """A cluster's DNS that asks `upstream` through the proxy by which a node's agent comes out."""
    outside = await serve_connect(tmp_path / "outside.sock", dial_outside)
    made = Server(ask=dns.asking(str(outside.path), list(upstream.dns.address)))
    await made.dns.start()
    made.put(SERVICES_PATH, service())
    made.put(SERVICES_PATH, service("away", None, type="ExternalName", externalName="also.shop.svc.outer.example"))
    made.put(SERVICES_PATH, service("lost", None, type="ExternalName", externalName="lost.shop.svc.outer.example"))
    made.complete()
    yield made
    await made.dns.close()
    await outside.close()


async def test_foreign_names_are_the_resolvers(forwarding: Server) -> None:
    asked = question("web.shop.svc.outer.example")
    answer = await forwarding.udp(asked)
    assert answer.endswith(socket.inet_aton("192.0.2.7")) and header(answer)[:2] == (7, Code.NOERROR)
    assert await forwarding.tcp(asked, asked) == [answer, answer]
    assert header(await forwarding.udp(question("nobody.outer.example")))[1] == Code.NXDOMAIN


async def test_the_clusters_own_names_are_never_asked_for_outside(forwarding: Server, upstream: Server) -> None:
    await upstream.dns.close()
    assert header(await forwarding.udp(question("web.shop.svc.cluster.local")))[1] == Code.NOERROR
    assert header(await forwarding.udp(question("web.shop.svc.other.svc.cluster.local")))[1] == Code.NXDOMAIN
    assert header(await forwarding.udp(question("web.shop.svc.outer.example")))[1] == Code.SERVFAIL


async def test_a_resolver_that_is_away_is_told_once_whatever_the_names(
    forwarding: Server, upstream: Server, caplog: pytest.LogCaptureFixture
) -> None:
    await upstream.dns.close()
    odd = struct.pack(">6H", 7, 0x0100, 1, 0, 0, 0) + b"\4\xff\nx\x1b\7example\0" + struct.pack(">HH", Type.A, 1)
    for asked in (odd, odd, question("web.outer.example")):
        assert header(await forwarding.udp(asked))[1] == Code.SERVFAIL
    (said,) = [each.getMessage() for each in caplog.records if each.name == dns.__name__]
    assert said.isascii() and said.isprintable() and "dial tcp 127.0.0.1" in said


async def test_an_external_name_comes_with_the_addresses_of_its_target(forwarding: Server) -> None:
    (answer,) = await forwarding.tcp(question("away.shop.svc.cluster.local"))
    code, records = dns_message.parse_addresses(answer)
    assert code == Code.NOERROR
    assert [(each.type, show(each)) for each in records] == [
        (Type.CNAME, "also.shop.svc.outer.example"),
        (Type.CNAME, "web.shop.svc.outer.example"),
        (Type.A, "192.0.2.7"),
    ]
    assert await forwarding.udp(question("away.shop.svc.cluster.local")) == answer
    lost = await forwarding.udp(question("lost.shop.svc.cluster.local"))
    assert header(lost)[1] == Code.NXDOMAIN and header(lost)[3][1] == 1


async def test_a_long_answer_of_the_resolvers_is_cut_on_udp_and_whole_on_tcp(forwarding: Server) -> None:
    asked = question("db.shop.svc.outer.example")
    answer = await forwarding.udp(asked)
    assert header(answer)[1:3] == (Code.NOERROR, True) and len(answer) <= 512
    (whole,) = await forwarding.tcp(asked)
    assert header(whole)[2:] == (False, [1, 100, 0, 0])


@pytest.mark.parametrize("said", [b"", b"\0\3abc", b"\0\x0c" + bytes(12), b"\0\x0c\0\7" + bytes(10)])
async def test_a_resolver_that_answers_with_rubbish_is_a_failure(said: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as rubbish:
        port = rubbish.sockets[0].getsockname()[1]
        made = Server(ask=dns.resolver(dial_outside, "127.0.0.1", port))
        await made.dns.start()
        made.put(SERVICES_PATH, service("away", None, type="ExternalName", externalName="web.outer.example"))
        made.complete()
        for name in ("web.outer.example", "away.shop.svc.cluster.local"):
            assert header(await made.udp(question(name)))[1] == Code.SERVFAIL
        await made.dns.close()


@given(st.binary(max_size=80))
def test_no_response_breaks_the_reader(data: bytes) -> None:
    try:
        dns_message.parse_addresses(data)
    except ValueError:
        pass


async def test_a_silent_tcp_client_is_sent_away(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns, "_IDLE", 0.05)
    reader, writer = await asyncio.open_connection(*server.dns.address)
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()


async def test_garbage_does_not_stop_the_server(server: Server) -> None:
    loop = asyncio.get_running_loop()
    with local_socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(server.dns.address)
        for length in range(40):
            client.send(bytes(range(length)))
        client.send(question("web.shop.svc.cluster.local", number=99))
        async with asyncio.timeout(60):
            while header(answer := await loop.sock_recv(client, 65536))[0] != 99:
                pass
    assert header(answer)[1] == Code.NOERROR
    reader, writer = await asyncio.open_connection(*server.dns.address)
    writer.write(b"\xff\xff" + bytes(65535))
    async with asyncio.timeout(60):
        length = int.from_bytes(await reader.readexactly(2), "big")
        assert header(await reader.readexactly(length))[1] == Code.FORMERR
    writer.close()


async def test_a_taken_address_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = ClusterDns(ServiceTable(), address="127.0.0.1", port=taken.getsockname()[1])
        with pytest.raises(OSError, match=r"the DNS cannot listen on 127\.0\.0\.1:\d+: Address already in use"):
            await busy.start()


def test_two_dots_in_a_label_cannot_forge_a_name() -> None:
    forged = struct.pack(">6H", 7, 0, 1, 0, 0, 0) + b"\x07a.b.c.d\0" + struct.pack(">HH", 1, 1)
    with pytest.raises(Malformed):
        dns_message.parse_query(forged)


async def test_a_picked_port_that_is_taken_for_tcp_is_picked_again(monkeypatch):
    """The kernel picks a port for UDP; another program may have the same one for TCP."""
    bind, refused = socket.socket.bind, []

    class Picky(socket.socket):
        def bind(self, address):
            if self.type == socket.SOCK_STREAM and len(refused) < 3:
                refused.append(address)
                raise OSError(errno.EADDRINUSE, "Address already in use")
            bind(self, address)

    def make(family, kind):
        made = Picky(family, kind)
        made.setblocking(False)
        return made

    server = ClusterDns(ServiceTable(), address="127.0.0.1", port=0, make=make)
    await server.start()
    assert len(refused) == 3
    await server.close()
