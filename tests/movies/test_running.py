"""The recommender as real processes on loopback: broker, services, monolith; crashes, ends, and nothing lost."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import nats
import pytest

from movies.bus import EVENTS, connect
from movies.contracts import Accepted
from movies.errors import ServiceFailed
from movies.runner import PARTS, Running, free_ports, start
from podlab import waiting

_PATIENCE = 300


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=30, trust_env=False) as client:
        yield client


def rating(user: int, id: str, movie: int = 3) -> dict[str, object]:
    return {"id": id, "kind": "rating", "user": user, "movie": movie, "stars": 4}


def history(running: Running, http: httpx.Client, user: int, at_least: int = 0) -> list[dict[str, object]]:
    answer = http.get(f"{running.url('features')}/users/{user}/history", params={"at_least": at_least})
    return answer.raise_for_status().json()["rows"]


def lines(running: Running, name: str) -> list[dict[str, object]]:
    """Lines of a log that are JSON; what is being written now may be half there."""
    found = []
    for line in running.log(name).read_text().splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def test_a_rating_goes_through_all_services_and_its_trace_is_in_every_log(running: Running, http: httpx.Client) -> None:
    trace = os.urandom(16).hex()
    headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    answer = http.post(f"{running.url('ingestion')}/events", json=rating(8_001, "trace-1"), headers=headers)
    position = Accepted.model_validate(answer.raise_for_status().json()).position
    known(http, f"{running.url('features')}/users/8001/history", position)
    url = f"{running.url('serving')}/users/8001/recommendations"
    found = http.get(url, headers=headers).raise_for_status().json()
    assert found["basis"] == "history" and found["items"][0]["because"][0]["movie"] == 3

    def everywhere() -> bool:
        return all(
            any(line.get("trace_id") == trace for line in lines(running, name))
            for name in ("ingestion", "features", "serving")
        )

    waiting.until(everywhere, "the trace is in all logs", timeout=_PATIENCE)


def test_a_copy_of_a_part_answers_beside_it_and_can_go_again(running: Running, http: httpx.Client) -> None:
    name = running.copy("serving", seconds=_PATIENCE)
    assert running.url(name) != running.url("serving") and running.pid(name) != running.pid("serving")
    assert len(http.get(f"{running.url(name)}/users/3/recommendations").raise_for_status().json()["items"]) == 10
    assert running.remove(name, _PATIENCE) == 0
    assert name not in running.names and not running.ended()
    assert http.get(f"{running.url('serving')}/users/3/recommendations").status_code == 200


def test_the_site_answers(running: Running, http: httpx.Client) -> None:
    assert http.get(running.address, follow_redirects=True).status_code == 200
    for name in PARTS:
        assert "movies_requests_total" in http.get(f"{running.url(name)}/metrics").text


def known(http: httpx.Client, url: str, position: int) -> None:
    """Wait until features has an event of the log."""

    def read() -> bool:
        return http.get(url, params={"at_least": position}).raise_for_status().json()["position"] >= position

    waiting.until(read, "features has read the event", timeout=_PATIENCE)


def stored(running: Running, http: httpx.Client) -> int:
    """How many events features has, once it has read the whole log."""

    def all_of_them() -> int | None:
        status = http.get(f"{running.url('features')}/status").raise_for_status().json()
        return status["events"] if not status["behind"] else None

    return waiting.until(all_of_them, "features has read the log", timeout=_PATIENCE, ignore=(httpx.HTTPError,))


class Sender(threading.Thread):
    """Sends ratings one after the other, again and again until each is acknowledged, while the world falls apart."""

    def __init__(self, running: Running, user: int) -> None:
        super().__init__()
        self.url, self.user = f"{running.url('ingestion')}/events", user
        self.acknowledged: list[str] = []
        self.failed, self.enough = 0, threading.Event()

    def run(self) -> None:
        with httpx.Client(timeout=5, trust_env=False) as client:
            for number in itertools.count():
                if self.enough.is_set():
                    return
                self._send(client, f"u{self.user}-{number}", number % 100 + 1)

    def _send(self, client: httpx.Client, id: str, movie: int) -> None:
        while not self.enough.is_set():
            try:
                if client.post(self.url, json=rating(self.user, id, movie)).status_code == 200:
                    self.acknowledged.append(id)
                    return
            except httpx.HTTPError:
                pass
            self.failed += 1
            self.enough.wait(0.05)  # or the senders would take the time that the restart needs


@pytest.mark.parametrize("victim", ["ingestion", "features", "broker"])
def test_no_acknowledged_rating_is_lost_when_a_process_is_killed(
    running: Running, http: httpx.Client, victim: str
) -> None:
    user = 8_100 + ("ingestion", "features", "broker").index(victim)
    before = stored(running, http)
    senders = [Sender(running, user * 10 + number) for number in range(3)]
    for sender in senders:
        sender.start()
    try:
        waiting.until(lambda: all(len(one.acknowledged) > 5 for one in senders), "work is under way", timeout=_PATIENCE)
        running.kill(victim)
        killed_at = [len(one.acknowledged) for one in senders]
        running.restart(victim, seconds=_PATIENCE)
        running.wait_ready(seconds=_PATIENCE)
        waiting.until(
            lambda: all(len(one.acknowledged) > then + 5 for one, then in zip(senders, killed_at, strict=True)),
            "work goes on",
            timeout=_PATIENCE,
        )
    finally:
        for sender in senders:
            sender.enough.set()
        for sender in senders:
            sender.join()
    if victim != "features":
        assert sum(one.failed for one in senders), "the fault has bitten: somebody was refused"
    acknowledged = sum(len(one.acknowledged) for one in senders)

    after = stored(running, http)
    # At most one event of each sender may be in the log without its sender knowing.
    assert acknowledged <= after - before <= acknowledged + len(senders)
    for sender in senders:
        movies = {row["movie"] for row in history(running, http, sender.user)}
        assert {int(id.split("-")[1]) % 100 + 1 for id in sender.acknowledged} <= movies


@pytest.fixture
def draining(running: Running) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """One more process of serving, which drains until a second signal comes; and its URL."""
    child, (port,) = running._children["serving"], free_ports(1)
    own = {"MOVIES_PORT": str(port), "MOVIES_DRAIN_SECONDS": "600"}
    process = subprocess.Popen(child.command, env={**os.environ, **child.environment, **own})
    url = f"http://127.0.0.1:{port}"
    try:
        waiting.until(
            lambda: httpx.get(f"{url}/readyz", trust_env=False).status_code == 200,
            "serving is ready", timeout=_PATIENCE, ignore=(httpx.HTTPError,),
        )  # fmt: skip
        yield process, url
    finally:
        process.kill()
        process.wait()


def test_sigterm_under_load_loses_no_request(draining: tuple[subprocess.Popen[bytes], str]) -> None:
    """Clients with connections that are kept ask until the service says that it is not ready, as balancers do."""
    process, url = draining
    failed: list[str] = []
    answered = [0] * 4

    def ask(number: int) -> None:
        with httpx.Client(timeout=_PATIENCE, trust_env=False) as client:
            while True:
                try:
                    answer = client.get(f"{url}/popular")
                    if answer.status_code != 200:
                        failed.append(answer.text)
                    answered[number] += 1
                    if client.get(f"{url}/readyz").status_code != 200:
                        return  # a balancer would send no more
                except httpx.HTTPError as error:
                    failed.append(repr(error))
                    return

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask, number) for number in range(4)]
        waiting.until(lambda: all(count > 5 for count in answered), "all are asking", timeout=_PATIENCE)
        process.send_signal(signal.SIGTERM)
        for one in asking:
            one.result()
    assert failed == []
    process.send_signal(signal.SIGTERM)  # all have gone: it need not wait for others
    assert process.wait(_PATIENCE) == 0


async def test_arrivals_that_ingestion_had_in_hand_when_it_was_killed_are_in_the_log_once(running: Running) -> None:
    """Published as by any other producer: on the broker, with a client of NATS and a trace."""
    address = f"nats://{running.url('broker').removeprefix('http://')}"
    trace, ids = "4bf92f3577b34da6a3ce929d0e0e4736", [f"arrival-{number}" for number in range(600)]
    headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    client, bus = await nats.connect(address), connect(address)
    await bus.open()
    stream = client.jetstream()

    async def in_hand() -> int:
        return (await stream.consumer_info("arrivals", "ingestion")).num_ack_pending or 0

    async def dealt_with() -> bool:
        return (await stream.stream_info("arrivals")).state.messages == 0

    async def caught_with_some() -> bool:
        running._signal("ingestion", signal.SIGSTOP)
        if await in_hand():
            return True
        running._signal("ingestion", signal.SIGCONT)
        return False

    try:
        running._signal("ingestion", signal.SIGSTOP)  # or it may have done all before it is looked at
        events = [json.dumps(rating(9_500, id_)).encode() for id_ in ids]
        await asyncio.gather(*(stream.publish("movies.arrivals", one, headers=headers, timeout=60) for one in events))
        await waiting.until_async(caught_with_some, "ingestion has some in hand", timeout=_PATIENCE)
        running.kill("ingestion")
        await asyncio.to_thread(running.restart, "ingestion", seconds=_PATIENCE)
        await waiting.until_async(dealt_with, "all arrivals are dealt with", timeout=_PATIENCE)
        last, kept = await bus.last(EVENTS), list[str]()
        async for batch in bus.follow(EVENTS):
            kept += [json.loads(one.data)["id"] for one in batch]
            if batch and batch[-1].position >= last:
                break
    finally:
        running._signal("ingestion", signal.SIGCONT)
        await bus.close()
        await client.close()
    assert sorted(id_ for id_ in kept if id_ in ids) == sorted(ids)
    assert any(line.get("trace_id") == trace for line in lines(running, "ingestion"))


def test_what_does_not_start_is_told_with_its_last_lines(tmp_path: Path) -> None:
    with pytest.raises(ServiceFailed) as caught:
        start("monolith", tmp_path, ratings=1_000, environment={"MOVIES_BODY_BYTES": "lots"}, seconds=_PATIENCE)
    assert "MOVIES_BODY_BYTES='lots'" in str(caught.value)


def test_the_monolith_answers_the_same_behind_one_port_and_ends_with_its_parent(
    tmp_path: Path, http: httpx.Client
) -> None:
    program = (
        "import sys, threading; from pathlib import Path; from movies.runner import start\n"
        f"made = start('monolith', Path({str(tmp_path)!r}), ratings=3000, seconds={_PATIENCE})\n"
        "print(made.pid('monolith'), made.address, flush=True); threading.Event().wait()"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    try:
        pid, address = parent.stdout.readline().split()
        answer = http.post(f"{address}/ingestion/events", json=rating(9_001, "m-1")).raise_for_status().json()
        known(http, f"{address}/features/users/9001/history", answer["position"])
        found = http.get(f"{address}/serving/users/9001/recommendations").json()
        assert found["basis"] == "history"
        assert http.get(f"{address}/features/users/9001/history").json()["rows"][0]["movie"] == 3
        assert http.get(f"{address}/training/runs").json()["runs"][0]["state"] == "published"
        assert http.get(address, follow_redirects=True).status_code == 200
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()

    def gone() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    waiting.until(gone, "the monolith has ended with its parent", timeout=_PATIENCE)


def test_a_monolith_tells_for_which_part_the_processor_works(tmp_path: Path, http: httpx.Client) -> None:
    told = {"MOVIES_PROFILE": "1", "MOVIES_TRAIN_AFTER": "0", "MOVIES_DRAIN_SECONDS": "0"}
    with start("monolith", tmp_path, ratings=1_000, environment=told, seconds=_PATIENCE) as running:

        def used() -> dict[str, float]:
            lines = http.get(f"{running.address}/metrics").text.splitlines()
            pairs = (line.rpartition(" ") for line in lines)
            wanted = ("movies_processor_seconds_total", "process_cpu_seconds_total")
            return {name: float(value) for name, _, value in pairs if name.startswith(wanted)}

        def cost(path: str) -> tuple[str, float, float]:
            """Who worked most for it (nobody's code aside), seconds of all parts, and seconds of the process."""
            before = used()
            until_ = before["process_cpu_seconds_total"] + 0.5
            while (after := used())["process_cpu_seconds_total"] < until_:
                for _ in range(20):
                    http.get(running.address + path).raise_for_status()
            grown = {name.split('"')[1]: after[name] - before.get(name, 0) for name in after if "part=" in name}
            named = {part: seconds for part, seconds in grown.items() if part != "other"}
            process = after["process_cpu_seconds_total"] - before["process_cpu_seconds_total"]
            return max(named, key=lambda part: named[part]), sum(grown.values()), process

        for path, part in (
            ("/features/users/3/history", "features"),
            ("/browse", "ui"),
            ("/serving/popular", "serving"),
        ):
            most, parts, process = cost(path)
            assert most == part, path
            assert 0.7 * process < parts < 1.2 * process, path
