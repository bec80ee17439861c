"""The end of a pod: what the runtime alone knows stays there until the API server knows it."""

from __future__ import annotations

import asyncio
import copy
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pods import NOW, POLICY, container, end, made, records, run

from podlab.errors import ImagePullError, RuntimeRefused
from podlab.images.pull import ImageConfig, RunnableImage
from podlab.images.users import Identity
from podlab.node import agent as agent_module
from podlab.node import log_links, pod_worker, preparation, status_writer
from podlab.node.agent import Agent
from podlab.node.api import Event, Unreachable
from podlab.node.background import Background
from podlab.node.eviction import over_requests
from podlab.node.fields import Place
from podlab.node.pod_state import plan, settle
from podlab.node.pod_worker import PodWorker
from podlab.node.preparation import Preparation
from podlab.node.pressure import Pressure
from podlab.node.probes import ProbeKind, killed_message
from podlab.node.records import Waiting
from podlab.node.runtime.contract import (
    ContainerSpec,
    ContainerState,
    Exit,
    Inventory,
    RootFileSystem,
    SandboxState,
    Usage,
)
from podlab.waiting import until_async


class Recorded:
    """Stands for the API server and the runtime: what was done, in order."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.tries = 0
        self.away = True
        self.object: dict[str, Any] = {}

    async def patch(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        self.tries += 1
        if self.away:
            raise Unreachable("away")
        self.done.append("status")
        answer = copy.deepcopy(self.object)
        answer["status"] = body["status"]
        answer["metadata"]["resourceVersion"] = "8"
        return answer

    async def remove_sandbox(self, sandbox: str) -> None:
        self.done.append(f"remove sandbox {sandbox}")

    async def remove_container(self, name: str) -> None:
        self.done.append(f"remove container {name}")

    async def unmount(self, folder: str) -> None:
        self.done.append(f"unmount {folder}")

    async def pod_down(self, uid: str) -> None:
        pass


async def _is(value: bool) -> bool:
    return value


async def test_containers_are_removed_when_the_final_status_is_written(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_writer, "RETRY_FIRST", 0.01)
    recorded = Recorded()
    recorded.object = made(container(), restartPolicy="Never")
    context = SimpleNamespace(
        api=recorded,
        runtime=recorded,
        network=recorded,
        policy=POLICY,
        configuration=SimpleNamespace(address="172.18.0.11", name="node-1", plain={}, seccomp_default=False),
        pod_folder=lambda uid: tmp_path / uid,
        pod_path=lambda pod: "/pod",
    )
    worker = PodWorker(context, recorded.object, lambda uid: None)  # type: ignore[arg-type]
    main = worker.pod.containers["main"]
    run(main)
    end(main, 0)
    task = asyncio.create_task(worker._terminate())
    await until_async(lambda: _is(recorded.tries >= 3), "three tries", timeout=60)
    assert recorded.done == ["remove sandbox u-1"]
    recorded.away = False
    async with asyncio.timeout(60):
        await task
    assert recorded.done == ["remove sandbox u-1", "status", "remove container u-1.main.0"]


async def test_an_agent_removes_the_containers_of_pods_that_are_over() -> None:
    """An earlier one may have ended between a final status and the removal."""
    recorded = Recorded()
    begun: dict[str, list[str]] = {}
    over, live = made(status={"phase": "Succeeded"}), made()
    live["metadata"] = {**live["metadata"], "uid": "u-2"}
    for pod in (over, live):
        pod["metadata"]["creationTimestamp"] = "2030-01-01T00:00:00Z"

    def begin(pod: dict[str, Any], adopted: list[ContainerState], sandbox: object) -> None:
        begun[pod["metadata"]["uid"]] = [state.id for state in adopted]

    agent = _agent(_runtime=recorded, _begin=begin)
    states = [SimpleNamespace(id=f"{uid}.main.0", sandbox=uid) for uid in ("u-1", "u-2", "u-3")]
    await agent._take_over([over, live], Inventory((), states))  # type: ignore[arg-type]
    assert recorded.done == ["remove container u-1.main.0", "remove container u-3.main.0"]
    assert begun == {"u-1": [], "u-2": ["u-2.main.0"]}


async def test_a_resize_changes_nothing_of_a_running_container() -> None:
    old, new = ({"limits": {"memory": size}} for size in ("64Mi", "128Mi"))
    context = SimpleNamespace(
        api=None,
        configuration=SimpleNamespace(address="172.18.0.11", name="node-1", plain={}, seccomp_default=False),
        pod_folder=Path,
    )
    worker = PodWorker(context, made(container(resources=old)), lambda uid: None)  # type: ignore[arg-type]
    resized = made(container(resources=new, tty=True))
    resized["metadata"]["resourceVersion"] = "8"
    worker.update(resized)
    assert worker.pod.containers["main"].spec["resources"] == old and worker.pod.containers["main"].spec["tty"]


@pytest.mark.parametrize("plain", [{}, {"loopback": 1}])
async def test_the_plain_runtime_keeps_no_mount_from_being_written_to(plain: dict[str, Any]) -> None:
    configuration = SimpleNamespace(address="172.18.0.11", name="node-1", plain=plain)
    context = SimpleNamespace(api=None, configuration=configuration, pod_folder=Path)
    worker = PodWorker(context, made(), lambda uid: None)  # type: ignore[arg-type]
    assert worker.pod.read_only_mounts is not bool(plain)


def _pressure(kind: str = "DiskPressure", *, short: bool = False) -> Pressure:
    pressure = Pressure(kind, 30.0, lambda: None)
    if short:
        pressure.press(0.0)
    return pressure


async def test_a_node_under_pressure_takes_no_new_pod_and_keeps_those_that_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was refused was never ended by the node: nothing of it is counted as a disruption."""
    monkeypatch.setattr(PodWorker, "begin", lambda *_: None)
    disk = _pressure(short=True)
    agent = SimpleNamespace(
        _workers={},
        _context=_starting(tmp_path),
        _forget=None,
        _registration=SimpleNamespace(allocatable={}, labels={}, memory=_pressure("MemoryPressure"), disk=disk),
    )
    Agent._begin(agent, made(), [], SandboxState("u-1", "10.244.1.2", {}))  # type: ignore[arg-type]
    assert agent._workers["u-1"].pod.failure is None
    new = made()
    new["metadata"]["uid"] = "u-2"
    Agent._begin(agent, new, [], None)  # type: ignore[arg-type]
    settle(agent._workers["u-2"].pod)
    status = agent._workers["u-2"].view().status
    assert (status["phase"], status["reason"]) == ("Failed", "Evicted")
    assert status["message"] == "The node had condition: [DiskPressure]. "
    assert "DisruptionTarget" not in [condition["type"] for condition in status["conditions"]]


async def test_nobody_reckons_with_a_resize_that_was_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the admission of others, nor eviction, nor the pod's own volumes and environment."""
    limit = {"resourceFieldRef": {"containerName": "main", "resource": "requests.memory", "divisor": "1Mi"}}
    volume = {"name": "v", "downwardAPI": {"items": [{"path": "memory", **limit}]}}

    def sized(size: str, uid: str = "u-1", version: str = "7") -> dict[str, Any]:
        entry = container(resources={"requests": {"memory": size}}, env=[{"name": "MEMORY", "valueFrom": limit}])
        pod = made(entry, volumes=[volume])
        pod["metadata"] |= {"uid": uid, "resourceVersion": version}
        return pod

    async def read_all(*_: Any) -> dict[str, Any]:
        return {}

    started: list[ContainerSpec] = []

    async def start_container(spec: ContainerSpec) -> ContainerState:
        started.append(spec)
        raise RuntimeRefused("enough is known")

    context = SimpleNamespace(
        api=None,
        configuration=SimpleNamespace(address="172.18.0.11", name="node-1", plain={}, seccomp_default=False),
        objects=SimpleNamespace(read_all=read_all),
        runtime=SimpleNamespace(start_container=start_container),
        recorder=SimpleNamespace(pod=lambda *_: None),
        identity=lambda *_: Identity(0, 0),
        services=lambda *_: {},
        place=lambda address: Place("node-1", "172.18.0.11", address, {}),
        policy=POLICY,
        host_paths=tmp_path,
        pod_folder=lambda uid: tmp_path / uid,
        log_folder=lambda pod: tmp_path / "logs",
    )
    worker = PodWorker(context, sized("64Mi"), lambda uid: None)  # type: ignore[arg-type]
    worker.update(sized("128Mi", version="8"))
    monkeypatch.setattr(PodWorker, "begin", lambda *_: None)
    agent = SimpleNamespace(
        _workers={"u-1": worker},
        _context=context,
        _forget=None,
        _registration=SimpleNamespace(allocatable={"memory": "164Mi"}, labels={}, memory=_pressure(), disk=_pressure()),
    )
    Agent._begin(agent, sized("100Mi", "u-2"), [], None)  # type: ignore[arg-type]
    assert agent._workers["u-2"].pod.failure is None
    run(worker.pod.containers["main"])
    view = worker.view()
    used = {view.containers["main"].container_id or "": Usage(0.0, 100 << 20, 1)}
    assert over_requests([view], used) == [(view, 36 << 20)]
    await worker._preparation._fill_volumes()
    assert (tmp_path / "u-1" / "volumes" / "v" / "memory").read_text() == "64"
    image = RunnableImage("1", "2", RootFileSystem(()), ImageConfig(entrypoint=("entry",)), 1, (), tmp_path)
    worker.pod.containers["main"].container_id = None
    with pytest.raises(RuntimeRefused, match="enough"):
        await worker._workers["main"]._run(image, 0)
    assert started[0].environment["MEMORY"] == "64"


async def test_what_hinders_a_pod_is_kept_until_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "RETRY_FIRST", 0.001)
    pod, shown = records(made(), ready=False), []
    context = SimpleNamespace(
        api=None,
        configuration=SimpleNamespace(name="node-1"),
        recorder=SimpleNamespace(pod=lambda *_: None),
        pod_folder=Path,
    )
    made_ready = Preparation(context, pod, lambda: shown.append(dict(pod.hindrances)))  # type: ignore[arg-type]
    failures = [RuntimeRefused('no runtime for "kata" is configured')]

    async def work() -> None:
        if failures:
            raise failures.pop()

    await made_ready._persist("FailedCreatePodSandBox", "Failed to create pod sandbox: ", work)
    assert shown == [
        {"FailedCreatePodSandBox": 'Failed to create pod sandbox: no runtime for "kata" is configured'},
        {},
    ]


async def test_a_fault_while_a_pod_is_prepared_is_told_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the first tries and in a later refresh alike."""
    monkeypatch.setattr(preparation, "RETRY_FIRST", 0.001)
    monkeypatch.setattr(preparation, "REFRESH", 0.001)
    pod, told, shown = records(made(volumes=[{"name": "v", "configMap": {"name": "c"}}]), ready=False), [], []
    context = SimpleNamespace(
        api=None,
        configuration=SimpleNamespace(name="node-1"),
        recorder=SimpleNamespace(pod=lambda *event: told.append(event[2:])),
        place=lambda address: Place("node-1", "172.18.0.11", address, {}),
        pod_folder=Path,
    )
    made_ready = Preparation(context, pod, lambda: shown.append(dict(pod.hindrances)))  # type: ignore[arg-type]
    faults: list[Exception] = [RuntimeError("Symlink loop")]
    refreshed = asyncio.Event()

    async def fill() -> None:
        if faults:
            raise faults.pop()
        faults.append(AttributeError("no such thing"))

    async def refresh(*_: Any) -> None:
        if faults:
            raise faults.pop()
        refreshed.set()

    async def nothing() -> None:
        pass

    monkeypatch.setattr(made_ready, "_make_sandbox", nothing)
    monkeypatch.setattr(made_ready, "_fill_volumes", fill)
    monkeypatch.setattr(made_ready.volumes, "refresh", refresh)
    task = asyncio.create_task(made_ready.run())
    async with asyncio.timeout(60):
        await refreshed.wait()
    task.cancel()
    assert {"FailedMount": "RuntimeError('Symlink loop')"} in shown and shown[-1] == {}
    assert told == [
        ("FailedMount", "RuntimeError('Symlink loop')"),
        ("FailedMount", "AttributeError('no such thing')"),
    ]


def _starting(tmp_path: Path, **more: Any) -> Any:
    """A context in which containers can be started, if `runtime` can."""

    async def image(*_: Any) -> tuple[RunnableImage, float]:
        config = ImageConfig(entrypoint=("entry",))
        return RunnableImage("1", "2", RootFileSystem(()), config, 1, (), tmp_path), 0.0

    context = {
        "api": None,
        "configuration": SimpleNamespace(address="172.18.0.11", name="node-1", plain={}, seccomp_default=False),
        "recorder": SimpleNamespace(pod=lambda *_: None),
        "image": image,
        "identity": lambda *_: Identity(0, 0),
        "services": lambda *_: {},
        "place": lambda address: Place("node-1", "172.18.0.11", address, {}),
        "policy": POLICY,
        "host_paths": tmp_path,
        "pod_folder": lambda uid: tmp_path / uid,
        "log_folder": lambda pod: tmp_path / "logs",
    }
    return SimpleNamespace(**(context | more))


async def test_a_fault_while_a_container_is_started_is_a_failed_start(tmp_path: Path) -> None:
    """It waits longer from try to try, and says why: without that it would be tried again at once, for ever."""

    async def image(*_: Any) -> tuple[RunnableImage, float]:
        raise RuntimeError("No closing quotation")

    worker = PodWorker(_starting(tmp_path, image=image), made(), lambda uid: None)
    main = worker.pod.containers["main"]
    worker.pod.sandbox_ready = worker.pod.volumes_ready = True
    pauses = []
    for _ in range(2):
        worker._workers["main"].start()
        await worker._workers["main"].idle()
        pauses.append(main.retry_at - main.failed_at)
        assert main.state == Waiting("CreateContainerError", "RuntimeError('No closing quotation')")
        assert plan(worker.pod, main.failed_at, POLICY).start == ()
        assert plan(worker.pod, main.retry_at, POLICY).start == ("main",)
    assert pauses == pytest.approx([1.0, 2.0])


async def test_a_fault_in_a_hook_ends_the_container_that_runs(tmp_path: Path) -> None:
    class Runtime:
        async def start_container(self, spec: ContainerSpec) -> ContainerState:
            return ContainerState(spec.id, spec.sandbox, 1, NOW, None, {})

        async def wait_container(self, _: str) -> None:
            await asyncio.Event().wait()

        async def execute(self, *_: Any, **__: Any) -> None:
            raise RuntimeError("a fault")

    hook = {"postStart": {"exec": {"command": ["true"]}}}
    context = _starting(tmp_path, runtime=Runtime())
    worker = PodWorker(context, made(container(lifecycle=hook)), lambda uid: None)
    worker.pod.sandbox, main = "u-1", worker.pod.containers["main"]
    worker._workers["main"].start()
    await worker._workers["main"].idle()
    assert (main.running, main.condemned) == (True, "FailedPostStartHook")
    await worker.abandon()


async def test_who_has_waited_for_an_image_is_restarted_at_once_after_a_first_crash(tmp_path: Path) -> None:
    class Runtime:
        async def start_container(self, spec: ContainerSpec) -> ContainerState:
            return ContainerState(spec.id, spec.sandbox, 1, NOW, None, spec.labels)

        async def wait_container(self, _: str) -> Exit:
            return Exit(1, time.time())

    found, away = _starting(tmp_path).image, [ImagePullError("not there")] * 3

    async def image(*parts: Any) -> tuple[RunnableImage, float]:
        if away:
            raise away.pop()
        return await found(*parts)

    worker = PodWorker(_starting(tmp_path, image=image, runtime=Runtime()), made(), lambda uid: None)
    worker.pod.sandbox, main, pauses = "u-1", worker.pod.containers["main"], []
    worker.pod.sandbox_ready = worker.pod.volumes_ready = True
    for _ in range(4):
        worker._workers["main"].start()
        await worker._workers["main"].idle()
        pauses.append(main.retry_at - main.failed_at)
    assert pauses[:3] == pytest.approx([10, 20, 40])
    await until_async(lambda: _is(main.ended is not None), "the crash", timeout=60)
    assert plan(worker.pod, time.time(), POLICY).start == ("main",)
    await worker.abandon()


async def test_a_container_that_is_taken_over_is_stopped_by_the_signal_of_its_image(tmp_path: Path) -> None:
    """Many servers end at SIGTERM at once, and by another signal when they have answered (nginx: SIGQUIT)."""
    ended, signals, started = asyncio.Event(), [], []

    class Runtime:
        async def start_container(self, spec: ContainerSpec) -> ContainerState:
            started.append(ContainerState(spec.id, spec.sandbox, 1, NOW, None, spec.labels))
            return started[0]

        async def wait_container(self, _: str) -> Exit:
            await ended.wait()
            return Exit(0, NOW)

        async def signal_container(self, _: str, number: int) -> None:
            signals.append(number)
            ended.set()

    async def image(*_: Any) -> tuple[RunnableImage, float]:
        config = ImageConfig(entrypoint=("entry",), stop_signal=signal.SIGQUIT)
        return RunnableImage("1", "2", RootFileSystem(()), config, 1, (), tmp_path), 0.0

    context = _starting(tmp_path, runtime=Runtime(), image=image)
    before, after = (PodWorker(context, made(), lambda uid: None) for _ in range(2))
    before.pod.sandbox = "u-1"
    before._workers["main"].start()
    await before._workers["main"].idle()
    await before.abandon()
    after._workers["main"].adopt(started[0], {})
    await after._workers["main"].stop(30)
    assert signals == [signal.SIGQUIT]
    await after.abandon()


_GRACES: dict[ProbeKind, int] = {"liveness": 3, "startup": 7}


async def test_the_grace_of_a_probe_is_that_of_the_one_that_failed_whatever_the_container_is_called(
    tmp_path: Path,
) -> None:
    probes = {f"{kind}Probe": {"terminationGracePeriodSeconds": grace} for kind, grace in _GRACES.items()}
    worker = PodWorker(_starting(tmp_path), made(container("liveness", **probes)), lambda uid: None)
    record = worker.pod.containers["liveness"]
    for kind, grace in _GRACES.items():
        record.condemned = killed_message("liveness", kind, True)
        assert worker._kill_grace(record) == grace
    record.condemned = "FailedPostStartHook"
    assert worker._kill_grace(record) == 30


def _agent(**parts: Any) -> Agent:
    agent = object.__new__(Agent)
    vars(agent).update(
        _workers={},
        _behind={},
        _tasks=Background(),
        _network=SimpleNamespace(table=SimpleNamespace(synced=SimpleNamespace(wait=_nothing)), settle=_nothing),
        **({"configuration": SimpleNamespace(name="node-1"), "_sweep": _nothing} | parts),
    )
    return agent


async def _nothing(*_: Any) -> None:
    pass


async def test_a_pod_that_cannot_be_worked_on_costs_no_other_and_is_tried_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """When the agent begins, and with each change; a watch that ended would be the end of the agent."""
    monkeypatch.setattr(agent_module, "RETRY_FIRST", 0.01)
    pods = {uid: made() for uid in ("u-1", "u-2", "u-3", "u-4", "u-5")}
    for uid, pod in pods.items():
        pod["metadata"] |= {"uid": uid, "creationTimestamp": "2030-01-01T00:00:00Z"}
    changed = {**pods["u-1"], "status": {"phase": "Running"}}
    begun: list[tuple[str, Any, list[str]]] = []
    told, faults = [], {"u-1": 3, "u-3": 1, "u-5": 10_000}

    async def changes(*_: Any, **__: Any) -> Any:
        yield Event("ADDED", pods["u-1"])
        yield Event("ADDED", pods["u-2"])
        yield Event("ADDED", pods["u-5"])
        yield Event("SYNC", {})
        yield Event("MODIFIED", changed)
        yield Event("ADDED", pods["u-3"])
        yield Event("ADDED", pods["u-4"])
        yield Event("DELETED", pods["u-5"])

    def begin(pod: dict[str, Any], adopted: list[Any], sandbox: Any) -> None:
        uid = pod["metadata"]["uid"]
        if faults.get(uid, 0):
            faults[uid] -= 1
            raise RuntimeError("a fault")
        begun.append((uid, pod.get("status"), [state.id for state in adopted]))

    recorded = Recorded()
    left = [SimpleNamespace(id=f"{uid}.main.0", sandbox=uid) for uid in ("u-1", "u-5")]

    async def inventory() -> Inventory:
        return Inventory([SandboxState(uid, None, {}) for uid in ("u-1", "u-5")], left)  # type: ignore[arg-type]

    recorded.inventory = inventory  # type: ignore[attr-defined]

    async def pod_down(uid: str) -> None:
        recorded.done.append(f"forget the network of {uid}")

    context = _starting(
        tmp_path,
        network=SimpleNamespace(pod_down=pod_down),
        recorder=SimpleNamespace(pod=lambda pod, *event: told.append(event)),
        log_folder=lambda pod: tmp_path / "logs" / pod["metadata"]["uid"],
    )
    for uid in pods:
        for folder in (tmp_path, tmp_path / "logs"):
            (folder / uid / "something").mkdir(parents=True)
    agent = _agent(_runtime=recorded, _api=SimpleNamespace(list_and_watch=changes), _context=context, _begin=begin)
    await agent._follow_pods()
    assert [uid for uid, *_ in begun] == ["u-2", "u-4"]
    await until_async(lambda: _is(not agent._tasks), "the end of all tries", timeout=60)
    assert ("u-1", changed["status"], ["u-1.main.0"]) in begun, "the newest form, and what runs of it"
    assert sorted(uid for uid, *_ in begun) == ["u-1", "u-2", "u-3", "u-4"]
    assert recorded.done == [
        "remove sandbox u-5",
        "remove container u-5.main.0",
        f"unmount {tmp_path / 'u-5'}",
        "forget the network of u-5",
    ], "nothing runs of what was deleted"
    assert [path.name for path in sorted(tmp_path.rglob("u-*"))] == ["u-1", "u-2", "u-3", "u-4"] * 2, "nor is kept"
    assert set(told) == {("Warning", "FailedSync", "Error syncing pod, trying again: RuntimeError('a fault')")}
    assert caplog.text.count("shop/web cannot be worked on") == len(told) >= 5
    assert not agent._behind


async def test_a_change_that_a_worker_could_not_take_in_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then its records fit the object that it has: who asks for the pod meanwhile gets an answer."""
    monkeypatch.setattr(agent_module, "RETRY_FIRST", 0.01)
    told, faults = [], ["a fault", "a fault"]
    context = SimpleNamespace(
        api=None,
        configuration=SimpleNamespace(address="172.18.0.11", name="node-1", plain={}, seccomp_default=False),
        pod_folder=Path,
        recorder=SimpleNamespace(pod=lambda pod, *event: told.append(event)),
        policy=POLICY,
    )
    agent = _agent(_context=context)
    agent._workers["u-1"] = worker = PodWorker(context, made(), lambda uid: None)  # type: ignore[arg-type]
    real = pod_worker.ContainerWorker

    def faulty(*parts: Any) -> Any:
        if faults:
            raise RuntimeError(faults.pop())
        return real(*parts)

    monkeypatch.setattr(pod_worker, "ContainerWorker", faulty)
    debugged, leaving = made(ephemeralContainers=[container("debug")]), made(ephemeralContainers=[container("debug")])
    debugged["metadata"]["resourceVersion"] = "8"
    leaving["metadata"] |= {"resourceVersion": "9", "deletionTimestamp": "2030-01-01T00:00:00Z"}
    agent._apply(Event("MODIFIED", debugged))
    agent._apply(Event("MODIFIED", leaving))
    assert [pod.name for pod in agent.pods()] == ["web"] and not worker.pod.deleted
    await until_async(lambda: _is(not agent._tasks), "the end of all tries", timeout=60)
    assert worker.pod.deleted and "debug" in worker.view().containers and not agent._behind
    assert told == [("Warning", "FailedSync", "Error syncing pod, trying again: RuntimeError('a fault')")] * 2


async def test_what_an_earlier_agent_left_of_deleted_pods_goes_with_its_logs(tmp_path: Path) -> None:
    """They were deleted while no agent was there, or it ended in the middle; what others put there stays."""
    host = tmp_path / "host"
    context = SimpleNamespace(host_paths=host, logs=host / "var" / "log" / "pods")
    agent = _agent(
        _context=context, _runtime=SimpleNamespace(unmount=_nothing), configuration=SimpleNamespace(folder=tmp_path)
    )
    for uid in ("u-1", "u-2"):
        pod = made()
        pod["metadata"]["uid"] = uid
        log = context.logs / f"shop_web_{uid}" / "main" / "0.log"
        log.parent.mkdir(parents=True)
        log.write_text("a line")
        log_links.make(host, pod, "main", f"{uid}.main.0", log)
        (tmp_path / "pods" / uid / "volumes").mkdir(parents=True)
    note = context.logs / "a-shippers-note.json"
    note.write_text("{}")
    await Agent._sweep(agent, {"u-2"})
    assert sorted(context.logs.iterdir()) == [note, context.logs / "shop_web_u-2"]
    assert [link.name for link in (host / "var" / "log" / "containers").iterdir()] == ["web_shop_main-u-2.main.0.log"]
    assert [folder.name for folder in (tmp_path / "pods").iterdir()] == ["u-2"]


async def test_a_worker_that_could_not_begin_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    abandoned = []

    def begin(*_: Any) -> None:
        raise RuntimeError("a fault")

    async def abandon(worker: PodWorker) -> None:
        abandoned.append(worker.pod.uid)

    monkeypatch.setattr(PodWorker, "begin", begin)
    monkeypatch.setattr(PodWorker, "abandon", abandon)
    agent = _agent(_context=_starting(tmp_path))
    with pytest.raises(RuntimeError, match="a fault"):
        agent._begin(made(), [], SandboxState("u-1", "10.244.1.2", {}))
    await until_async(lambda: _is(not agent._tasks), "the end of all tries", timeout=60)
    assert abandoned == ["u-1"] and not agent._workers


async def test_a_pod_that_was_deleted_at_once_keeps_no_other_from_its_host_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its object is gone while it still ends: who waited for the port is bound here before that."""
    monkeypatch.setattr(PodWorker, "begin", lambda *_: None)
    pressures = {"memory": _pressure("MemoryPressure"), "disk": _pressure()}
    agent = _agent(
        _context=_starting(tmp_path),
        _registration=SimpleNamespace(allocatable={}, labels={}, **pressures),
    )
    pods = [made(container(ports=[{"containerPort": 80, "hostPort": 80}])) for _ in range(3)]
    for number, pod in enumerate(pods):
        pod["metadata"] |= {"uid": f"u-{number}"}
    agent._begin(pods[0], [], None)
    agent._begin(pods[1], [], None)
    assert agent._workers["u-1"].pod.failure == (
        "NodePorts",
        "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports",
    )
    agent._apply(Event("DELETED", pods[0]))
    agent._workers.pop("u-1")
    agent._begin(pods[2], [], None)
    assert agent._workers["u-2"].pod.failure is None
