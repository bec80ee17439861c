"""The doctor's judgements, on made-up machines, and its report on this one."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys

import pytest

from podlab import doctor
from podlab.cluster.embedded.binaries import ALL
from podlab.cluster.kind import runtime as kind_runtime
from podlab.doctor import judgements
from podlab.doctor.facts import Facts, available_memory, try_container_runtime

GIB = 1 << 30

GOOD = Facts(
    python=(3, 13, 1),
    kernel="6.8.0-45-generic",
    commands={"make": "/usr/bin/make", "git": "/usr/bin/git"},
    root=False,
    container=False,
    memory=8 * GIB,
    cache="/home/me/.cache/podlab",
    cache_free=50 * GIB,
    data="/home/me/.local/share/podlab",
    data_free=50 * GIB,
    folder_error=None,
    trials={"user_namespace": None, "proc": None, "veth": None, "nf_tables": None, "overlay": None},
    settings={"user/max_user_namespaces": 60000},
    binaries=dict.fromkeys(ALL, ("v1.37.2", "PATH")),
    binaries_error=None,
    go="go1.26.8 (/usr/bin/go)",
    proxies={},
    loopback=None,
)


def machine(**changes) -> Facts:
    return dataclasses.replace(GOOD, **changes)


def finding(facts: Facts, check: str) -> doctor.Finding:
    return next(one for one in doctor.judge(facts) if one.check == check)


def test_it_is_said_whether_limits_are_kept_and_how_they_would_be():
    alone = finding(machine(cgroup_trouble="systemd has not delegated the cgroup /x"), "limits")
    assert alone.state == "ok" and alone.found.startswith("CPU limits are not enforced")
    assert "systemd has not delegated the cgroup /x" in alone.meaning and "Delegate=yes" in alone.remedy
    given = finding(machine(controllers=("cpu", "memory")), "limits")
    assert (given.found, given.remedy) == ("CPU and memory limits are enforced by cgroups", "")


def test_a_good_machine_has_nothing_to_complain_about():
    findings = doctor.judge(GOOD)
    assert {one.state for one in findings} == {"ok"}
    assert doctor.can_run(findings)
    assert len({one.check for one in findings}) == len(findings) == len(judgements.JUDGEMENTS)


REFUSED = "unshare: Operation not permitted"
NO_BINARIES = dict.fromkeys(ALL)


@pytest.mark.parametrize(
    ("changes", "check", "state", "remedy"),
    [
        ({"python": (3, 10, 9)}, "Python", "missing", "Install one of them"),
        ({"python": (3, 14, 0)}, "Python", "missing", "Install one of them"),
        ({"kernel": "5.10.0-8"}, "kernel", "limited", "newer"),
        ({"kernel": "5.11.0"}, "kernel", "ok", ""),
        ({"kernel": "4.18.0", "refused_processes": "pidfd_open"}, "kernel", "missing", "Linux 5.3"),
        ({"commands": {"make": None, "git": "/usr/bin/git"}}, "make, git", "limited", "apt install make"),
        ({"trials": {"user_namespace": REFUSED}}, "namespaces", "limited", "administrator"),
        ({"trials": {"user_namespace": REFUSED}}, "virtual cables", "limited", "See namespaces"),
        ({"trials": GOOD.trials | {"proc": "mount proc: EPERM"}}, "namespaces", "limited", "unmount"),
        ({"trials": GOOD.trials | {"veth": "not supported"}}, "virtual cables", "limited", "modprobe veth"),
        ({"trials": GOOD.trials | {"nf_tables": "refused"}}, "packet rules", "limited", "modprobe -a nf_tables"),
        ({"trials": GOOD.trials | {"overlay": "refused"}}, "overlayfs", "limited", "PODLAB_HOME"),
        ({"trials": {"user_namespace": REFUSED}}, "runtime", "limited", "kind"),
        ({"trials": GOOD.trials | {"veth": "not supported"}}, "runtime", "limited", "kind"),
        ({"memory": GIB}, "memory", "limited", "--nodes 1"),
        ({"memory": GIB // 4}, "memory", "missing", "--nodes 1"),
        ({"folder_error": "/x cannot be written."}, "folders", "missing", "PODLAB_HOME"),
        ({"data_free": GIB // 2}, "folders", "limited", "PODLAB_HOME"),
        ({"data_free": GIB // 10}, "folders", "missing", "PODLAB_HOME"),
        ({"cache_free": GIB // 10}, "folders", "ok", ""),
        ({"cache_free": GIB // 10, "binaries": NO_BINARIES}, "folders", "missing", "PODLAB_HOME"),
        ({"cache_free": 2 * GIB, "binaries": NO_BINARIES}, "folders", "limited", "PODLAB_HOME"),
        ({"binaries": NO_BINARIES}, "binaries", "missing", "podlab binaries ensure"),
        ({"go": None}, "Go", "ok", ""),
        ({"go": None, "binaries": NO_BINARIES}, "Go", "limited", "Nothing"),
        ({"proxies": {"https_proxy": "http://p:1"}}, "proxy", "ok", ""),
        ({"loopback": "Network is unreachable"}, "loopback", "missing", "ip link set lo up"),
        ({"course": ["jupyterlab"]}, "course", "limited", ".[course]"),
        ({"root": True}, "user", "ok", ""),
    ],
)
def test_what_is_wrong_is_said_with_a_remedy(changes, check, state, remedy):
    facts = machine(**changes)
    one = finding(facts, check)
    assert one.state == state
    assert remedy in one.remedy
    assert (state == "ok") or (one.meaning and one.remedy)
    if state == "missing":
        assert not doctor.can_run(doctor.judge(facts))
    else:
        assert doctor.can_run(doctor.judge(facts)) or facts.binaries == NO_BINARIES


@pytest.mark.parametrize(
    ("settings", "container", "remedy"),
    [
        ({"user/max_user_namespaces": 0}, False, "sysctl -w user.max_user_namespaces"),
        ({"kernel/unprivileged_userns_clone": 0}, False, "sysctl -w kernel.unprivileged_userns_clone=1"),
        (
            {"user/max_user_namespaces": 9, "kernel/apparmor_restrict_unprivileged_userns": 1},
            False,
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        ({}, True, "seccomp=unconfined"),
        ({}, False, "virtual machine"),
    ],
)
def test_the_way_to_allow_namespaces_depends_on_who_forbids_them(settings, container, remedy):
    facts = machine(trials={"user_namespace": REFUSED}, settings=settings, container=container)
    assert remedy in finding(facts, "namespaces").remedy


@pytest.mark.parametrize("given", ["http://me:{}@proxy:3128", "me:{}@proxy:3128", "socks5h://me:{}@proxy:3128"])
@pytest.mark.parametrize("password", ["secret", "sec@ret", "sec:re/t"])
def test_a_proxy_is_shown_without_its_password(given, password):
    shown = finding(machine(proxies={"https_proxy": given.format(password)}), "proxy").found
    assert shown == f"HTTPS_PROXY={given.format('***')}"


@pytest.mark.parametrize("given", ["http://proxy:3128", "proxy:3128", "http://me@proxy:3128", "localhost,127.0.0.1"])
def test_a_proxy_without_a_password_is_shown_as_it_is(given):
    assert judgements.hide_password(given) == given


CGROUPS = {
    2: ("memory.max", "memory.current", "inactive_file"),
    1: ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
}


@pytest.mark.parametrize("version", CGROUPS)
def test_what_a_cgroup_only_caches_is_free_memory(tmp_path, version):
    limit, usage, cached = CGROUPS[version]
    (tmp_path / limit).parent.mkdir(exist_ok=True)
    (tmp_path / limit).write_text("1000000\n")
    (tmp_path / usage).write_text("900000\n")
    assert available_memory(tmp_path) == 100_000
    (tmp_path / usage).with_name("memory.stat").write_text(f"anon 1\n{cached} 600000\nactive_file 7\n")
    assert available_memory(tmp_path) == 700_000
    (tmp_path / limit).write_text("max\n")
    assert available_memory(tmp_path) > 700_000


def _doctor(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "podlab", "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_the_exit_status_says_whether_a_cluster_can_run(tmp_path, monkeypatch):
    monkeypatch.setenv("PODLAB_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("PODLAB_BINARIES", raising=False)
    done = _doctor("--json")
    assert done.returncode == 3, done.stderr
    report = json.loads(done.stdout)
    assert report["can_run"] is False
    states = {one["check"]: one["state"] for one in report["findings"]}
    assert states["binaries"] == "missing" and states["Python"] == "ok" and states["make, git"] == "limited"
    assert not list((tmp_path / "home" / "data").iterdir())


def test_a_home_that_cannot_be_made_is_a_finding_not_a_crash(monkeypatch):
    monkeypatch.setenv("PODLAB_HOME", "/sys/podlab")
    done = _doctor("--json")
    assert done.returncode == 3, done.stderr
    folders = next(one for one in json.loads(done.stdout)["findings"] if one["check"] == "folders")
    assert folders["state"] == "missing" and "/sys/podlab" in folders["found"]


def test_kind_is_never_essential_and_its_ailments_come_with_the_cure():
    assert finding(machine(), "kind").state == "ok"
    none = finding(machine(container_trouble=("kind needs docker, and none is installed.", "Install")), "kind")
    assert (none.state, none.remedy) == ("ok", "Install") and "kind clusters" in none.meaning
    stopped = machine(
        container_runtime="docker", container_trouble=("docker cannot be used: it does not run.", "Start")
    )
    assert finding(stopped, "kind").state == "limited"
    assert finding(stopped, "kind").remedy == "Start"
    small = machine(
        container_runtime="docker", container_notes=[("The runtime has 1024 MiB.", "Give it more."), ("B.", "C.")]
    )
    assert finding(small, "kind").meaning == "The runtime has 1024 MiB. B."
    assert finding(small, "kind").remedy == "Give it more. C."
    assert finding(machine(container_runtime="podman"), "kind").found == "podman answers"
    for facts in (stopped, small):
        assert doctor.can_run(doctor.judge(facts))


def test_without_a_container_runtime_the_cure_is_said_with_the_name_that_was_asked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(kind_runtime.VARIABLE, raising=False)
    name, trouble, _ = try_container_runtime()
    assert name == "" and trouble and "none is installed" in trouble[0] and "Install Docker" in trouble[1]
    (tmp_path / "docker").write_text(f"#!{sys.executable} -S\n")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv(kind_runtime.VARIABLE, "podman")
    name, trouble, _ = try_container_runtime()
    assert name == "podman" and trouble and "asks for podman" in trouble[0] and "Install podman" in trouble[1]


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_the_docker_of_wsl_without_the_integration_is_an_ailment_with_its_cure(monkeypatch, tmp_path, stream):
    said = "The command 'docker' could not be found in this WSL 2 distro.\nWe recommend to activate it."
    stub = tmp_path / "docker"
    stub.write_text(f"#!{sys.executable} -S\nimport sys\nprint({said!r}, file=sys.{stream})\nsys.exit(1)\n")
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(kind_runtime.VARIABLE, raising=False)
    name, trouble, _ = try_container_runtime()
    assert name == "docker" and trouble and "Docker Desktop does not run, or not for this" in trouble[0]
    assert "WSL integration" in trouble[1]


def test_a_docker_that_does_not_run_is_found_on_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path):
    if shutil.which("docker") is None:
        pytest.skip("docker's client is not installed")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody-listens")
    monkeypatch.setenv(kind_runtime.VARIABLE, "docker")
    name, trouble, notes = try_container_runtime()
    assert name == "docker" and trouble and "does not run" in trouble[0] and notes == []
