from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from podlab.node import log_links
from podlab.node.context import NodeContext

POD = {"metadata": {"name": "web-1", "namespace": "shop", "uid": "u-1"}}


@pytest.fixture
def host(tmp_path: Path) -> Path:
    return tmp_path / "node" / "host"


def log_of(host: Path, container: str, attempt: int, pod: str = "shop_web-1_u-1") -> Path:
    return host / "var" / "log" / "pods" / pod / container / f"{attempt}.log"


def links(host: Path) -> dict[str, str]:
    folder = host / "var" / "log" / "containers"
    return {link.name: str(link.readlink()) for link in folder.iterdir()}


def test_a_link_is_named_as_shippers_expect_and_leads_to_the_log_as_a_pod_sees_it(host: Path) -> None:
    log_links.make(host, POD, "app", "u-1.app.0", log_of(host, "app", 0))
    assert links(host) == {"web-1_shop_app-u-1.app.0.log": "/var/log/pods/shop_web-1_u-1/app/0.log"}


def test_a_link_of_an_earlier_agent_is_replaced(host: Path) -> None:
    for _ in range(2):
        log_links.make(host, POD, "app", "u-1.app.0", log_of(host, "app", 0))
    assert len(links(host)) == 1


def test_a_file_that_a_pod_put_among_the_links_is_in_nobodys_way(host: Path) -> None:
    log_links.make(host, POD, "app", "u-1.app.0", log_of(host, "app", 0))
    (host / "var" / "log" / "containers" / "x.log").write_text("a file")
    log_links.remove(host, POD, log_of(host, "app", 0))
    log_links.sweep(host, set())
    assert [link.name for link in (host / "var" / "log" / "containers").iterdir()] == ["x.log"]


def test_a_link_that_a_pod_put_in_the_place_of_the_folder_is_not_followed(
    host: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = log_of(host, "app", 0)
    outside = tmp_path / "outside"
    outside.mkdir()
    kept = outside / "kept.log"
    kept.symlink_to("/" / log.relative_to(host))
    (host / "var").mkdir(parents=True)
    (host / "var" / "log").symlink_to(outside)
    (outside / "containers").mkdir()
    log_links.remove(host, POD, log)
    log_links.make(host, POD, "app", "u-1.app.0", log)
    assert "no link to the log of u-1.app.0" in caplog.text
    assert kept.is_symlink()
    assert not list((outside / "containers").iterdir())


def test_the_longest_pod_name_has_a_log_folder_of_its_own(tmp_path: Path) -> None:
    context = object.__new__(NodeContext)
    context.configuration = SimpleNamespace(host_paths=tmp_path)  # type: ignore[assignment]
    folders = set()
    for uid in ("6f8c1f0e-0d4c-4e7c-9a43-0123456789ab", "6f8c1f0e-0d4c-4e7c-9a43-0123456789ac"):
        pod = {"metadata": {"name": "n" * 253, "namespace": "s" * 63, "uid": uid}}
        folder = context.log_folder(pod)
        folder.mkdir(parents=True)
        assert folder.name.startswith("s" * 63 + "_nnn") and folder.name.endswith(f"n_{uid}")
        folders.add(folder)
    assert len(folders) == 2
    assert context.log_folder(POD).name == "shop_web-1_u-1"


def test_a_long_name_is_cut_before_its_ending(host: Path) -> None:
    pod = {"metadata": {"name": "n" * 253, "namespace": "shop", "uid": "u-1"}}
    log_links.make(host, pod, "app", "u-1.app.0", log_of(host, "app", 0))
    (name,) = links(host)
    assert len(name) == 255 and name.endswith(".log")
    log_links.remove(host, pod, log_of(host, "app", 0))
    assert not links(host)


def test_the_end_of_a_pod_reads_no_link_of_others(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node has a hundred pods, and each of them ends at some time: read each time, all links cost the most of it."""
    pods = [{"metadata": {"name": f"web-{number}", "namespace": "shop", "uid": f"u-{number}"}} for number in range(20)]
    for pod in pods:
        uid = pod["metadata"]["uid"]
        log_links.make(host, pod, "app", f"{uid}.app.0", log_of(host, "app", 0, f"shop_web-1_{uid}"))
    read, real = [], Path.readlink

    def noted(link: Path) -> Path:
        read.append(link.name)
        return real(link)

    monkeypatch.setattr(Path, "readlink", noted)
    log_links.remove(host, pods[1], log_of(host, "app", 0, "shop_web-1_u-1"))
    assert read == ["web-1_shop_app-u-1.app.0.log"]
    assert len(links(host)) == 19


def test_links_to_logs_of_pods_that_are_not_known_are_swept(host: Path) -> None:
    for uid in ("u-1", "u-12"):
        log_links.make(host, POD, "app", f"{uid}.app.0", log_of(host, "app", 0, f"shop_web-1_{uid}"))
    elsewhere = host / "var" / "log" / "containers" / "mine.log"
    elsewhere.symlink_to("/var/log/pods")
    log_links.sweep(host, {"u-12"})
    assert sorted(links(host)) == ["mine.log", "web-1_shop_app-u-12.app.0.log"]


def test_the_links_of_one_attempt_or_of_a_whole_pod_are_removed(host: Path) -> None:
    for attempt in range(3):
        log_links.make(host, POD, "app", f"u-1.app.{attempt}", log_of(host, "app", attempt))
    other = {"metadata": {"name": "web-1", "namespace": "shop", "uid": "u-12"}}
    log_links.make(host, other, "app", "u-12.app.0", log_of(host, "app", 0, "shop_web-1_u-12"))
    log_links.remove(host, POD, log_of(host, "app", 0))
    assert sorted(links(host)) == [
        "web-1_shop_app-u-1.app.1.log",
        "web-1_shop_app-u-1.app.2.log",
        "web-1_shop_app-u-12.app.0.log",
    ]
    log_links.remove(host, POD, log_of(host, "app", 1).parent.parent)
    assert list(links(host)) == ["web-1_shop_app-u-12.app.0.log"]


def test_nothing_to_remove_is_no_error(host: Path) -> None:
    log_links.remove(host, POD, log_of(host, "app", 0))
