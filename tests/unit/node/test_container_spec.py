from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pods import container, made, records

from podlab.errors import ImagePullError
from podlab.images.pull import ImageConfig, RunnableImage
from podlab.images.users import Identity
from podlab.node import container_spec
from podlab.node.container_spec import Paths, build, identity, stop_signal
from podlab.node.environment import ConfigError
from podlab.node.logs import FILES, LARGEST, keep_rotating
from podlab.node.runtime.contract import ContainerSpec, Mount, RootFileSystem
from podlab.node.termination_message import MESSAGE_MAX, log_tail, read_message
from podlab.node.view import ContainerView, PodView


def image(user: str = "", **config: Any) -> RunnableImage:
    return RunnableImage(
        id="sha256:1",
        digest="sha256:2",
        root=RootFileSystem(layers=("/layer",)),
        config=ImageConfig(entrypoint=("entry",), user=user, **config),
        size=1,
        references=("podlab/toolbox:1",),
        folder=Path("/nowhere"),
    )


def built(entry: dict[str, Any], seccomp_default: bool = False, **spec: Any) -> ContainerSpec:
    pod = records(made(entry, **spec))
    pod.sandbox = "u-1"
    who = identity(pod, entry, image())
    paths = Paths.of(Path("/pod"), Path("/host/logs"), Path("/host"), "main", 2)
    return build(
        pod,
        pod.containers["main"],
        image(),
        who,
        {"A": "1"},
        [Mount("/v", "/etc/hosts")],
        {"/etc/hosts": "h", "/etc/hostname": "n"},
        paths,
        name="u-1.main.2",
        attempt=2,
        labels={"pod": "u-1"},
        seccomp_default=seccomp_default,
    )


def test_what_the_runtime_is_told() -> None:
    entry = container(
        args=["$(A)"],
        tty=True,
        stdin=True,
        workingDir="/w",
        resources={"limits": {"memory": "64Mi"}},
        securityContext={"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False},
    )
    found = built(entry, shareProcessNamespace=True)
    assert found.argv == ["entry", "1"] and found.tty and found.stdin and found.working_directory == "/w"
    assert found.memory_limit == 64 << 20 and found.root.read_only and found.no_new_privileges
    assert found.share_processes and not found.host_processes
    assert (
        found.log_path == "/host/logs/main/2.log"
        and found.log_within == "/host"
        and found.folder == "/pod/containers/main/2"
    )
    assert Mount("/pod/containers/main/2.termination", "/dev/termination-log") in found.mounts
    assert found.files == {"/etc/hostname": "n"}, "a volume at /etc/hosts wins"
    assert found.labels == {"pod": "u-1", "attempt": "2"}


@pytest.mark.parametrize(
    ("profile", "usual", "guarded"),
    [({}, False, True), ({"type": "RuntimeDefault"}, True, True), ({"type": "Unconfined"}, False, False)],
)
def test_a_node_may_filter_system_calls_where_no_profile_is_named(
    profile: dict[str, str], usual: bool, guarded: bool
) -> None:
    entry = container(securityContext={"seccompProfile": profile} if profile else {})
    assert (built(entry).seccomp, built(entry, seccomp_default=True).seccomp) == (usual, guarded)


def test_a_pod_may_have_a_limit_for_all_its_containers() -> None:
    found = built(container(), resources={"limits": {"memory": "1Gi", "cpu": "1"}})
    assert (found.memory_limit, found.pod_memory_limit) == (None, 1 << 30)
    assert (found.cpu_limit, found.pod_cpu_limit, found.cpu_request, found.pod_cpu_request) == (None, 1000, 0, 0)


def test_processors_are_asked_for_and_limited_in_thousandths() -> None:
    found = built(container(resources={"limits": {"cpu": "1.5"}, "requests": {"cpu": "250m"}}))
    assert (found.cpu_limit, found.pod_cpu_limit, found.cpu_request, found.pod_cpu_request) == (1500, None, 250, 250)


def test_the_containers_security_context_wins_over_the_pods() -> None:
    entry = container(securityContext={"runAsUser": 7})
    found = built(entry, securityContext={"runAsUser": 5, "runAsGroup": 6, "fsGroup": 9, "supplementalGroups": [8]})
    assert (found.user, found.group, list(found.supplemental_groups)) == (7, 6, [8, 9])


@pytest.mark.parametrize(
    ("user", "context", "message"),
    [
        ("", {"runAsNonRoot": True}, "image will run as root"),
        ("", {"runAsNonRoot": True, "runAsUser": 0}, "container's runAsUser breaks non-root policy"),
        ("nobody", {}, "nobody"),
    ],
)
def test_users_that_are_refused(user: str, context: dict[str, Any], message: str) -> None:
    entry = container(securityContext=context)
    with pytest.raises(ConfigError, match=message):
        identity(records(made(entry)), entry, image(user))


def test_users_that_are_not_root() -> None:
    entry = container(securityContext={"runAsNonRoot": True})
    assert identity(records(made(entry)), entry, image("1000")).uid == 1000
    entry = container(securityContext={"runAsNonRoot": True, "runAsUser": 5})
    assert identity(records(made(entry)), entry, image()) == Identity(5, 0)


def test_a_container_without_any_command() -> None:
    pod = records(made())
    bare = image()
    bare = RunnableImage(**{**vars(bare), "config": ImageConfig()})
    with pytest.raises(ConfigError, match="no command specified"):
        paths = Paths.of(Path("/pod"), Path("/host/logs"), Path("/host"), "main", 0)
        who = Identity(0, 0)
        build(pod, pod.containers["main"], bare, who, {}, [], {}, paths, name="x", attempt=0, labels={})


def test_stop_signals() -> None:
    assert stop_signal(container(), image(stop_signal=3)) == 3
    assert stop_signal(container(lifecycle={"stopSignal": "SIGUSR1"}), image()) == 10
    assert stop_signal(container(), None) == 15


def test_an_unknown_user_is_a_configuration_error_of_the_container() -> None:
    with pytest.raises(ImagePullError):
        image("nobody").identity()
    assert container_spec.TERMINATION_PATH == "/dev/termination-log"


# Last words


def lines(*texts: str, tag: str = "F") -> bytes:
    return b"".join(f"2026-01-02T03:04:05.000000000Z stdout {tag} {text}\n".encode() for text in texts)


def test_the_tail_of_a_log() -> None:
    assert log_tail(lines("a", "b")) == "a\nb\n"
    assert log_tail(lines("half", tag="P") + lines("whole")) == "halfwhole\n"
    assert log_tail(lines("a") + lines("no newline", tag="P") + lines("")) == "a\nno newline"
    assert log_tail(lines(*(str(n) for n in range(100)))).splitlines() == [str(n) for n in range(20, 100)]
    assert len(log_tail(lines("x" * 5000))) == 2048
    assert log_tail(b"garbage\n" + lines("a")) == "a\n"
    progress = "".join(f"\r{percent} %" for percent in range(100))
    assert log_tail(lines("copying", progress)) == f"copying\n{progress}\n"


@pytest.mark.parametrize(
    ("policy", "exit_code", "own", "message"),
    [
        ("File", 1, "", ""),
        ("File", 0, "mine", "mine"),
        ("FallbackToLogsOnError", 1, "", "log\n"),
        ("FallbackToLogsOnError", 0, "", ""),
        ("FallbackToLogsOnError", 1, "mine", "mine"),
    ],
)
def test_termination_messages(tmp_path: Path, policy: str, exit_code: int, own: str, message: str) -> None:
    paths = Paths.of(tmp_path, tmp_path / "logs", tmp_path, "main", 0)
    paths.make()
    paths.termination.write_text(own)
    paths.log.write_bytes(lines("log"))
    assert read_message({"terminationMessagePolicy": policy}, paths, exit_code) == message


def test_a_link_in_the_place_of_the_log_leaves_no_message(tmp_path: Path) -> None:
    paths = Paths.of(tmp_path, tmp_path / "host" / "logs", tmp_path / "host", "main", 0)
    paths.make()
    (tmp_path / "private").write_bytes(lines("secret"))
    paths.log.symlink_to(tmp_path / "private")
    assert read_message({"terminationMessagePolicy": "FallbackToLogsOnError"}, paths, 1) == ""


def test_a_long_message_is_cut(tmp_path: Path) -> None:
    paths = Paths.of(tmp_path, tmp_path / "logs", tmp_path, "main", 0)
    paths.make()
    paths.termination.write_text("x" * 10_000)
    assert len(read_message({}, paths, 0)) == MESSAGE_MAX


def test_a_container_that_left_nothing(tmp_path: Path) -> None:
    policy = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    assert read_message(policy, Paths.of(tmp_path, tmp_path / "logs", tmp_path, "none", 0), 1) == ""


# Rotation


class Reopened:
    """Stands for the runtime's part in a rotation: begins a new file, as the keeper does."""

    def __init__(self, path: Path) -> None:
        self.path, self.count = path, 0

    async def reopen_log(self, container_id: str) -> None:
        self.count += 1
        self.path.touch()


async def test_large_logs_are_set_aside_and_old_ones_removed(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    runtime = Reopened(path)
    entry = ContainerView("c", "main", 0, True, {}, str(path))
    pod = PodView("shop", "web", "u-1", "u-1", {}, {}, {}, {"main": entry})
    path.write_bytes(b"small")
    await keep_rotating(runtime, [pod])  # type: ignore[arg-type]
    assert runtime.count == 0
    for number in range(FILES + 2):
        with path.open("wb") as file:
            file.truncate(LARGEST + 1)
        for aside in tmp_path.glob("0.log.*"):
            aside.rename(aside.with_name(f"0.log.2000010{number}"))
            break
        await keep_rotating(runtime, [pod])  # type: ignore[arg-type]
    assert runtime.count == FILES + 2
    assert len(list(tmp_path.iterdir())) <= FILES
