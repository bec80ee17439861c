"""A container's file tree: what it sees of the host, layers, mounts, read-only roots, users, privileges."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from sandbox_room import PATH, Node, descendants, text_of

from podlab.errors import RuntimeRefused
from podlab.node.runtime.contract import Mount

pytestmark = [pytest.mark.sandbox, pytest.mark.namespaces("a file tree of one's own is made of mounts")]


def layer(node: Node, name: str, files: dict[str, str | None], links: dict[str, str] | None = None) -> str:
    """An unpacked image layer; None makes a folder."""
    top = node.folder / name
    top.mkdir()
    for path, text in files.items():
        target = top / path
        if text is None:
            target.mkdir(parents=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
    for path, target_text in (links or {}).items():
        link = top / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target_text)
    node.room.own(top)
    return str(top)


def given(node: Node, name: str, text: str | None = None) -> str:
    """A file (or with None a folder) of the host to mount."""
    path = node.folder / name
    if text is None:
        path.mkdir()
    else:
        path.write_text(text)
    node.room.own(path)
    return str(path)


async def test_nothing_of_the_host_is_seen_but_what_was_given(node: Node) -> None:
    pod = await node.pod()
    listing = set((await node.shell(pod, "ls -A /")).split())
    usual = "bin dev etc home lib lib64 mnt opt proc root run sbin srv sys tmp usr var"
    assert listing <= {*usual.split(), Path(node.room.prefix).parts[1]}
    assert await node.shell(pod, "ls -A /home /tmp /mnt | grep -v : | grep . || true") == ""
    here = Path(__file__).parents[2]
    assert await node.shell(pod, f"ls -d {here} {node.room.folder} 2>&1 | grep -c 'No such'") == "2\n"
    assert await node.shell(pod, "cat /etc/passwd; ls /etc") == ("root:x:0:0:root:/root:/bin/sh\nld.so.cache\npasswd\n")


async def test_the_files_of_the_host_cannot_be_changed(node: Node) -> None:
    pod = await node.pod()
    exit_, _ = await node.run(pod, "touch", "/usr/touched")
    assert exit_.status == 1
    exit_, _ = await node.run(pod, "sh", "-c", "mount -o remount,rw /usr || exit 7")
    assert exit_.status == 7


async def test_only_the_container_s_own_processes_are_seen(node: Node) -> None:
    pod = await node.pod()
    await node.start(pod, "sleep", "100")
    assert await node.shell(pod, "echo /proc/[0-9]*") == "/proc/1\n"


async def test_the_kernel_s_settings_are_read_only_and_its_secrets_hidden(node: Node) -> None:
    script = """
    for path in kernel/hostname kernel/core_pattern net/ipv4/ip_forward; do
        if echo 1 2>/dev/null > /proc/sys/$path; then echo written $path; fi
    done
    if echo h 2>/dev/null > /proc/sysrq-trigger; then echo sysrq; fi
    cat /proc/keys /proc/timer_list /sys/firmware/* 2>/dev/null || true
    """
    assert await node.shell(await node.pod(), script) == ""


async def test_layers_are_joined_and_changes_stay_in_the_container(node: Node) -> None:
    base = layer(node, "base", {"app/main": "base", "app/both": "base", "srv": None})
    top = layer(node, "top", {"app/both": "top", "app/extra": "top"})
    root = node.root(layers=[base, top])
    pod = await node.pod()
    script = "cat /app/main /app/both /app/extra; echo changed > /app/main; rm /app/both; ls /app; cat /app/main"
    expected = "basetoptopextra\nmain\nchanged\n"
    assert await node.shell(pod, script, root=root) == expected
    assert await node.shell(pod, script, root=root) == expected
    assert (Path(base) / "app/main").read_text() == "base"


async def test_many_layers_with_awkward_names_are_joined(node: Node) -> None:
    layers = [layer(node, f"layer:{n},x" + "y" * 60, {f"f{n}": str(n), "last": str(n)}) for n in range(90)]
    script = "ls / | grep -c '^f'; cat /last"
    assert await node.shell(await node.pod(), script, root=node.root(layers=layers)) == "90\n89"


async def test_links_in_an_image_never_lead_out_of_it(node: Node) -> None:
    outside = given(node, "outside")
    image = layer(
        node,
        "image",
        {"run": None, "target": None},
        {"var/run": "/run", "evil": outside, "up": "../../../../../.." + outside, "etc/link": "/run/linked"},
    )
    source = given(node, "config")
    (Path(source) / "key").write_text("value")
    out = await node.shell(
        await node.pod(),
        "cat /run/secrets/key /evil/key /up/key; cat /run/linked",
        root=node.root(layers=[image], files={"/etc/link": "text"}),
        mounts=[Mount(source, "/var/run/secrets"), Mount(source, "/evil"), Mount(source, "/up")],
        working_directory="/evil/work",
    )
    assert out == "valuevaluevaluetext"
    assert os.listdir(outside) == []  # noqa: PTH208
    assert sorted(os.listdir(source)) == ["key", "work"]  # noqa: PTH208


async def test_volumes_are_mounted_and_read_only_ones_cannot_be_changed(node: Node) -> None:
    shared, config, one_file = given(node, "shared"), given(node, "config"), given(node, "file", "text")
    (Path(config) / "key").write_text("value")
    mounts = [
        Mount(config, "/data/config", read_only=True),
        Mount(shared, "/data"),
        Mount(one_file, "/etc/app/one.txt", read_only=True),
    ]
    pod = await node.pod()
    script = """
    cat /data/config/key /etc/app/one.txt; echo; echo new > /data/new
    touch /data/config/x 2>/dev/null && echo written
    echo x 2>/dev/null > /etc/app/one.txt && echo written
    true
    """
    assert await node.shell(pod, script, mounts=mounts) == "valuetext\n"
    assert (Path(shared) / "new").read_text() == "new\n"
    (Path(config) / "key").write_text("newer")
    assert await node.shell(pod, "cat /data/config/key", mounts=mounts) == "newer"


async def test_a_volume_that_is_not_there_is_refused_by_name(node: Node) -> None:
    missing = str(node.folder / "missing")
    with pytest.raises(RuntimeRefused, match=f"{missing}.*no such file") as refused:
        await node.start(await node.pod(), "true", mounts=[Mount(missing, "/data")])
    assert refused.value.reason == "RunContainerError"


async def test_a_read_only_root_takes_no_file_but_volumes_do(node: Node) -> None:
    shared = given(node, "shared")
    for layers in ([], [layer(node, "image", {"app": None})]):
        script = """
        for path in /x /etc/x /tmp/x; do touch $path 2>/dev/null && echo written $path; done
        touch /data/x /dev/shm/x
        """
        root = node.root(read_only=True, layers=layers)
        out = await node.shell(await node.pod(), script, root=root, mounts=[Mount(shared, "/data")])
        assert out == ""


async def test_files_given_with_the_container_are_there(node: Node) -> None:
    files = {"/etc/hosts": "127.0.0.1 localhost\n", "/etc/resolv.conf": "nameserver 10.96.0.10\n"}
    out = await node.shell(await node.pod(), "cat /etc/hosts /etc/resolv.conf", files=files)
    assert out == "127.0.0.1 localhost\nnameserver 10.96.0.10\n"


@pytest.mark.parametrize(
    ("asked", "group", "shown"),
    [(None, None, "0 0"), (1000, None, "1000 0"), (1000, 3000, "1000 3000"), (None, 3000, "0 3000")],
)
async def test_user_and_group_are_the_asked_ones_and_own_what_they_write(
    node: Node, asked: int | None, group: int | None, shown: str
) -> None:
    shared = given(node, "shared")
    Path(shared).chmod(0o777)
    script = "echo $(id -u) $(id -g); echo x > /data/new; stat -c '%u %g' /data/new; echo out > /dev/stdout"
    out = await node.shell(await node.pod(), script, user=asked, group=group, mounts=[Mount(shared, "/data")])
    assert out == f"{shown}\n{shown}\nout\n"


async def test_commands_have_the_container_s_user(node: Node) -> None:
    container = await node.start(await node.pod(), "sleep", "100", user=1000, group=3000)
    reading, writing = os.pipe()
    process = await node.runtime.execute(
        container, ["sh", "-c", "id -u; id -g; kill 1"], {"PATH": PATH}, (reading, writing, writing)
    )
    os.close(writing)
    assert (await process.wait()).status == 0
    assert os.read(reading, 100) == b"1000\n3000\n"
    os.close(reading)


async def test_supplemental_groups_are_set_where_more_than_one_id_exists(node: Node) -> None:
    out = await node.shell(await node.pod(), "id -G", user=1000, group=1000, supplemental_groups=[7, 9])
    # An ordinary user's namespace knows one group only: there, ownership gives the same access.
    expected = {"1000", "7", "9"} if node.room.user is None and os.geteuid() == 0 else {"1000"}
    assert set(out.split()) == expected


def _capabilities(text: str) -> dict[str, int]:
    return {line.split(":")[0]: int(line.split()[1], 16) for line in text.splitlines() if line.startswith("Cap")}


async def test_the_container_s_root_has_the_usual_capabilities_only(node: Node) -> None:
    pod = await node.pod()
    found = _capabilities(await node.shell(pod, "cat /proc/self/status"))
    assert found["CapEff"] == found["CapBnd"] == found["CapPrm"] == 0xA80425FB
    user = _capabilities(await node.shell(pod, "cat /proc/self/status", user=1000))
    assert (user["CapEff"], user["CapPrm"], user["CapBnd"]) == (0, 0, 0xA80425FB)
    exit_, _ = await node.run(pod, "mount", "-t", "tmpfs", "none", "/mnt")
    assert exit_.status != 0
    assert await node.shell(pod, "mount -t tmpfs none /mnt && echo mounted", privileged=True) == "mounted\n"


async def test_no_new_privileges_is_set_when_asked_for(node: Node) -> None:
    pod = await node.pod()
    script = "grep NoNewPrivs /proc/self/status"
    assert (await node.shell(pod, script)).split()[1] == "0"
    assert (await node.shell(pod, script, no_new_privileges=True)).split()[1] == "1"


async def test_devices_are_there_and_harmless(node: Node) -> None:
    script = """
    echo x > /dev/null; head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; echo out > /dev/stdout
    test ! -e /dev/sda -a ! -e /dev/mem -a ! -e /dev/kmsg; test -w /dev/shm; ls /dev/pts
    """
    assert await node.shell(await node.pod(), script) == "3\n3\nout\nptmx\n"


async def test_limits_are_set(node: Node) -> None:
    program = """
import json, resource as r
print(json.dumps([r.getrlimit(r.RLIMIT_NOFILE)[0], r.getrlimit(r.RLIMIT_CORE)]))
"""
    files, core = json.loads(await node.python(await node.pod(), program))
    assert files >= 1024
    assert core == [0, 0]


async def test_the_processes_of_a_container_are_bounded_where_the_kernel_counts_them(node: Node) -> None:
    release = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
    if release < (6, 14):
        pytest.skip("before Linux 6.14 a PID namespace has no bound of its own")
    host = Path("/proc/sys/kernel/pid_max").read_text()
    assert await node.shell(await node.pod(), "cat /proc/sys/kernel/pid_max") == "4096\n"
    assert Path("/proc/sys/kernel/pid_max").read_text() == host


async def test_a_pod_that_forks_closes_its_descriptors_and_leaves_its_session_is_killed_whole(
    node: Node,
) -> None:
    program = """
import os, time
for number in range(20):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.closerange(0, 100)
        time.sleep(1000)
print("ready", flush=True)
os.closerange(0, 100)
time.sleep(1000)
"""
    container = await node.start(await node.pod(), node.room.python, "-c", program)
    await node.says(container, "ready")
    pid = node.room.pids["node-1"]
    (state,) = [one for one in (await node.runtime.inventory()).containers if one.id == container]
    before = len(descendants(node.room.pid))
    await node.runtime.signal_container(container, signal.SIGKILL)
    assert (await node.runtime.wait_container(container)).signal == 9
    assert before - len(descendants(node.room.pid)) >= 21
    assert state.pid != pid


async def test_a_container_that_leaves_processes_behind_ends_with_its_first(node: Node) -> None:
    pod = await node.pod()  # what builds pods ends when it is idle, and comes again
    before = len(descendants(node.room.pid))
    exit_, out = await node.run(pod, "sh", "-c", "setsid sleep 1000 & echo first; exit 4")
    assert (exit_.status, out) == (4, "first\n")
    assert len(descendants(node.room.pid)) <= before


async def test_stopping_a_shared_process_container_takes_its_orphans(node: Node) -> None:
    pod = await node.pod()
    keeper = await node.start(pod, "sleep", "1000", share_processes=True)
    exit_, _ = await node.run(pod, "sh", "-c", "setsid sleep 1001 & setsid sleep 1002 & exit 0", share_processes=True)
    assert exit_.status == 0
    reading, writing = os.pipe()
    process = await node.runtime.execute(
        keeper, ["sh", "-c", "cat /proc/[0-9]*/comm"], {"PATH": PATH}, (reading, writing, writing)
    )
    os.close(writing)
    await process.wait()
    assert os.read(reading, 1000).decode().split().count("sleep") == 1
    os.close(reading)
    assert text_of(node.log(keeper)) == ""
