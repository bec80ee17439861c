"""Addresses that only sockets believe in: where they lead, and that nothing leads out."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from podlab.network.fiction import Fiction, Tables, socket_class


def fiction(folder: Path, table: dict[str, Any], **more: Any) -> Fiction:
    path = folder / "table.json"
    path.write_text(json.dumps(table))
    return Fiction(244, own="10.244.1.2", pod=True, tables=Tables(lambda: [str(path)]), **more)


def test_addresses_lead_to_the_loopback_network_and_back(tmp_path: Path) -> None:
    told = fiction(tmp_path, {}, kept=frozenset({("127.0.0.1", 6443)}))
    assert told.target("10.244.3.9", 80) == ("127.244.3.9", 80)
    assert told.target("172.18.0.11", 10250) == ("127.244.0.11", 10250)
    assert told.target("localhost", 80) == told.place("0.0.0.0", 80) == ("127.244.1.2", 80)
    assert told.target("127.0.0.1", 6443) == ("127.0.0.1", 6443)
    for host in ("10.244.3.9", "172.18.0.11"):
        assert told.shown(*told.target(host, 7)) == (host, 7)


def test_a_service_leads_to_its_backends_in_turn_and_nowhere_without_one(tmp_path: Path) -> None:
    two = [["10.244.1.3", 8080], ["10.244.2.3", 8080]]
    told = fiction(tmp_path, {"tcp 10.96.0.9:80": two, "tcp *:30080": two[:1], "tcp 10.96.0.8:80": []})
    assert {told.target("10.96.0.9", 80) for _ in range(2)} == {("127.244.1.3", 8080), ("127.244.2.3", 8080)}
    assert told.target("172.18.0.99", 30080) == ("127.244.1.3", 8080)
    for host, protocol in (("10.96.0.8", "tcp"), ("10.96.7.7", "tcp"), ("10.96.0.9", "udp")):
        with pytest.raises(ConnectionRefusedError):
            told.target(host, 80, protocol)


def test_what_is_open_on_a_node_is_in_its_own_table_and_on_its_loopback(tmp_path: Path) -> None:
    one = fiction(tmp_path, {"tcp *:30080": [["10.244.1.3", 8080]], "tcp 172.18.0.11:9100": [["10.244.1.4", 9100]]})
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"tcp 172.18.0.12:9100": [["10.244.2.4", 9100]], "tcp 172.18.0.12:30080": []}))
    one.nodes = Tables(lambda: [str(tmp_path / "table.json"), str(other)])
    assert one.target("172.18.0.12", 9100) == ("127.244.2.4", 9100)
    assert one.target("172.18.0.13", 9100) == ("127.244.0.13", 9100)
    assert one.target("172.18.0.13", 30080) == ("127.244.1.3", 8080)
    with pytest.raises(ConnectionRefusedError):
        one.target("172.18.0.12", 30080)
    assert one.target("localhost", 9100) == ("127.244.1.2", 9100)
    one.own = "172.18.0.11"
    assert one.target("localhost", 9100) == ("127.244.1.4", 9100)
    assert one.target("localhost", 8080) == ("127.244.0.11", 8080)


def test_a_client_stays_with_its_backend_until_it_has_been_away_for_too_long(tmp_path: Path) -> None:
    moment = [0.0]
    many = [[f"10.244.1.{number}", 80] for number in range(10, 20)]
    told = fiction(
        tmp_path, {"tcp 10.96.0.9:80": many, "sticky TCP 10.96.0.9:80".lower(): [[8]]}, clock=lambda: moment[0]
    )
    assert len({told.target("10.96.0.9", 80) for _ in range(20)}) == 1
    seen = set()
    for _ in range(20):
        moment[0] += 7
        seen.add(told.target("10.96.0.9", 80))
    assert len(seen) == 1, "every connection counts as being there"
    for _ in range(20):
        moment[0] += 9
        seen.add(told.target("10.96.0.9", 80))
    assert len(seen) > 1


def test_sockets_speak_under_their_fictional_addresses(tmp_path: Path) -> None:
    one = socket_class(socket.socket, fiction(tmp_path, {}))
    with one() as server, one() as client:
        server.bind(("0.0.0.0", 0))
        server.listen()
        host, port = server.getsockname()
        assert host == "10.244.1.2"
        client.connect(("10.244.1.2", port))
        accepted, peer = server.accept()
        with accepted:
            assert peer == client.getsockname() and peer[0] == "10.244.1.2"
            assert client.getpeername() == ("10.244.1.2", port)


def test_sockets_find_names_as_the_program_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program may give a socket a name, whatever its kind; the system would ask a resolver that knows no Service."""
    monkeypatch.setattr(socket, "gethostbyname", {"web": "10.96.0.9"}.__getitem__)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.244.1.2", 0))
        table = {"udp 10.96.0.9:90": [["10.244.1.2", server.getsockname()[1]]]}
        kind = socket_class(socket.socket, fiction(tmp_path, table))
        with kind(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"sent", ("web", 90))
            client.connect(("web", 90))
            client.send(b"connected")
        assert [server.recv(100) for _ in range(2)] == [b"sent", b"connected"]
