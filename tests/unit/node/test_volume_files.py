from __future__ import annotations

import base64
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pods import container, made

from podlab.node import atomic
from podlab.node.atomic import File
from podlab.node.fields import Place
from podlab.node.volume_files import Fetched, Token, VolumeError, files, needs

PLACE = Place("node-1", "172.18.0.11", "10.244.1.2", {"cpu": "2"})
MAP = ("configmaps", "c")


def content(volume: dict[str, Any], objects: Any = None, tokens: Any = None, pod: Any = None) -> dict[str, Any]:
    found = files(pod or made(), {"name": "v", **volume}, PLACE, Fetched(objects or {}, tokens or {}))
    return {path: (file.content.decode(), oct(file.mode)) for path, file in found.items()}


def test_a_config_map() -> None:
    binary = base64.b64encode(b"bytes").decode()
    objects = {MAP: {"data": {"a": "1"}, "binaryData": {"b": binary}}}
    volume = {"configMap": {"name": "c", "defaultMode": 0o440}}
    assert content(volume, objects) == {"a": ("1", "0o440"), "b": ("bytes", "0o440")}


def test_items_choose_paths_and_modes() -> None:
    volume = {"configMap": {"name": "c", "items": [{"key": "a", "path": "deep/er", "mode": 0o600}]}}
    assert content(volume, {MAP: {"data": {"a": "1", "b": "2"}}}) == {"deep/er": ("1", "0o600")}


def test_a_secret() -> None:
    volume = {"secret": {"secretName": "s"}}
    objects = {("secrets", "s"): {"data": {"k": base64.b64encode(b"x").decode()}}}
    assert content(volume, objects) == {"k": ("x", "0o644")}


@pytest.mark.parametrize(
    ("volume", "objects", "message"),
    [
        ({"configMap": {"name": "c"}}, {}, 'configmap "c" not found'),
        ({"secret": {"secretName": "s"}}, {}, 'secret "s" not found'),
        (
            {"configMap": {"name": "c", "items": [{"key": "x", "path": "x"}]}},
            {MAP: {"data": {}}},
            "references non-existent configmap key: x",
        ),
        ({"projected": {"sources": [{"moonlight": {}}]}}, {}, "is not supported"),
    ],
)
def test_what_is_missing_is_named(volume: Any, objects: Any, message: str) -> None:
    with pytest.raises(VolumeError, match=message):
        content(volume, objects)


def test_optional_sources_leave_an_empty_volume() -> None:
    assert content({"configMap": {"name": "c", "optional": True}}) == {}


def test_a_projected_volume_joins_its_sources() -> None:
    token = Token(None, 3607)
    volume = {
        "projected": {
            "sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                {"configMap": {"name": "c", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "ns", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
            ]
        }
    }
    wanted = needs([{"name": "v", **volume}])
    assert wanted.objects == {MAP} and wanted.tokens == {token}
    found = content(volume, {MAP: {"data": {"ca.crt": "CA"}}}, {token: "T"})
    assert {path: text for path, (text, _) in found.items()} == {"token": "T", "ca.crt": "CA", "ns": "shop"}


def test_the_token_of_a_pod_with_one_user_is_for_that_user_alone() -> None:
    token = Token(None, 3600)
    volume = {"projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
    pod = made(securityContext={"runAsUser": 1000})
    assert content(volume, {}, {token: "T"}, pod)["token"][1] == "0o600"
    assert content(volume, {}, {token: "T"})["token"][1] == "0o644"


def test_resources_in_a_downward_volume() -> None:
    item = {"path": "cpu", "resourceFieldRef": {"containerName": "main", "resource": "limits.cpu", "divisor": "1m"}}
    pod = made(container(resources={"limits": {"cpu": "1500m"}}))
    assert content({"downwardAPI": {"items": [item]}}, pod=pod)["cpu"][0] == "1500"


# Writing


def seen(folder: Path) -> dict[str, str]:
    """What a program sees: every path that does not begin with two dots."""
    paths = (p for p in folder.rglob("*") if not p.relative_to(folder).parts[0].startswith(".."))
    return {str(p.relative_to(folder)): p.read_text() for p in paths if p.is_file()}


def test_writing_and_changing(tmp_path: Path) -> None:
    assert atomic.write(tmp_path, {"a": File(b"1"), "d/e": File(b"2", 0o400)})
    assert seen(tmp_path) | {"d/e": (tmp_path / "d/e").read_text()} == {"a": "1", "d/e": "2"}
    assert (tmp_path / "d/e").stat().st_mode & 0o777 == 0o400
    assert not atomic.write(tmp_path, {"a": File(b"1"), "d/e": File(b"2", 0o400)})
    assert atomic.write(tmp_path, {"b": File(b"3")})
    assert seen(tmp_path) == {"b": "3"}
    assert not (tmp_path / "a").is_symlink()


def test_only_one_set_of_files_is_kept(tmp_path: Path) -> None:
    for number in range(5):
        atomic.write(tmp_path, {"a": File(str(number).encode())})
    assert len([p for p in tmp_path.iterdir() if p.is_dir() and not p.is_symlink()]) == 1


def test_a_reader_never_sees_a_mixture(tmp_path: Path) -> None:
    """Both files always hold the same number, and never vanish, however often they are written."""
    atomic.write(tmp_path, {"a": File(b"0"), "b": File(b"0")})
    wrong: list[tuple[str, str]] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            data = (tmp_path / "..data").resolve()
            try:
                pair = (data / "a").read_text(), (data / "b").read_text()
            except FileNotFoundError:
                continue  # that set was replaced meanwhile; the link leads to a whole one again
            if pair[0] != pair[1]:
                wrong.append(pair)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(100):
        text = str(number).encode()
        atomic.write(tmp_path, {"a": File(text), "b": File(text)})
    done.set()
    reader.join()
    assert wrong == []


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "", "..data", "..x/y"])
def test_paths_that_lead_out_are_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError, match="invalid path"):
        atomic.write(tmp_path, {path: File(b"")})


segment = st.text(alphabet="abcXYZ09-_", min_size=1, max_size=5)


@given(st.dictionaries(segment, st.binary(max_size=20), max_size=4), st.dictionaries(segment, st.binary(max_size=20)))
def test_the_last_set_is_what_is_there(tmp_path_factory: Any, one: dict[str, bytes], two: dict[str, bytes]) -> None:
    folder = tmp_path_factory.mktemp("volume")
    for contents in (one, two):
        atomic.write(folder, {name: File(data) for name, data in contents.items()})
    assert {p.name: p.read_bytes() for p in folder.iterdir() if not p.name.startswith("..")} == two
