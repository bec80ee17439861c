"""Images upon a bundled one that nodes have: what is sent, and what the nodes make of it."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from fake_containers import NODES, Machine
from hypothesis import given
from hypothesis import strategies as st

from podlab import paths
from podlab.cluster.kind import upon
from podlab.cluster.kind.provider import KindProvider
from podlab.cluster.provider import ClusterSpec
from podlab.errors import ClusterError
from podlab.images.build import build
from podlab.images.image import Image, architecture, read_image
from podlab.images.layout import ImageLayout
from podlab.images.reference import Reference

OURS = Reference.parse("ada/hello:1")
HELLO = (
    'FROM podlab/python\nCOPY hello.py /app/\nENV GREETING="a b"\nWORKDIR /app\nEXPOSE 8080\nUSER 1000\n'
    'ENTRYPOINT ["python3"]\nCMD ["hello.py"]\nLABEL who=me\n'
)
#: The bundled image of nodes: another one than this machine's of the same name, which borrows from it.
THEIRS = 'FROM scratch\nCOPY python3 /usr/local/bin/\nENV PATH=/theirs LANG=C.UTF-8\nLABEL of=theirs\nCMD ["python3"]\n'


def made(layout: ImageLayout, folder: Path, reference: Reference, text: str, **files: str) -> Image:
    folder.mkdir()
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_text(content)
    (folder / "Dockerfile").write_text(text)
    build(layout, folder, [reference])
    return read_image(layout, layout.images()[str(reference)], shown=reference.familiar)


def contents(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        return {one.name: file.read() for one in tar.getmembers() if (file := tar.extractfile(one))}


def of(archive: dict[str, bytes], digest: str) -> Any:
    return json.loads(archive["blobs/" + digest.replace(":", "/")])


def test_only_its_own_layers_are_sent_and_the_nodes_put_them_upon_theirs(machine: Machine, tmp_path: Path) -> None:
    machine.install("docker")
    layout = ImageLayout(paths.cache() / "images")
    base = made(layout, tmp_path / "theirs", Reference.parse("theirs:1"), THEIRS, python3="theirs")
    ours = made(layout, tmp_path / "ours", OURS, HELLO, hello_py="print('hello')\n")
    KindProvider().up(ClusterSpec("k", nodes=2), lambda _step: None)
    machine.hold("docker", NODES, base, layout)
    KindProvider().load_image("k", OURS.familiar)
    sent = contents(machine.loaded)
    (entry,) = json.loads(sent["index.json"])["manifests"]
    assert entry["annotations"]["io.containerd.image.name"] == str(OURS)
    manifest = of(sent, entry["digest"])
    layers = [layer["digest"] for layer in manifest["layers"]]
    own = [layer.digest for layer in ours.layers[1:]]
    assert layers == [layer.digest for layer in base.layers] + own and own
    assert {name for name in sent if name.startswith("blobs/")} == {
        "blobs/" + digest.replace(":", "/") for digest in (entry["digest"], manifest["config"]["digest"], *own)
    }
    config = of(sent, manifest["config"]["digest"])
    assert (config["os"], config["architecture"]) == ("linux", architecture())
    assert config["rootfs"] == {"type": "layers", "diff_ids": [*base.diff_ids, *ours.diff_ids[1:]]}
    told = config["config"]
    assert sorted(told["Env"]) == ["GREETING=a b", "LANG=C.UTF-8", "PATH=/theirs", *extra(ours, base)]
    assert told["Labels"].items() >= {"of": "theirs", "who": "me"}.items()
    assert (told["Entrypoint"], told["Cmd"]) == (["python3"], ["hello.py"])
    assert (told["WorkingDir"], told["User"], list(told["ExposedPorts"])) == ("/app", "1000", ["8080/tcp"])


def extra(ours: Image, base: Image) -> list[str]:
    """Variables of the bundled image here that the other one does not name."""
    named = {"GREETING", "PATH", *(entry.partition("=")[0] for entry in base.settings["Env"])}
    return sorted(entry for entry in ours.settings["Env"] if entry.partition("=")[0] not in named)


def test_a_node_that_has_given_up_the_bundled_image_gets_it_again(machine: Machine, tmp_path: Path) -> None:
    state = machine.install("docker")
    layout = ImageLayout(paths.cache() / "images")
    base = made(layout, tmp_path / "theirs", Reference.parse("theirs:1"), THEIRS, python3="theirs")
    made(layout, tmp_path / "ours", OURS, HELLO, hello_py="print('hello')\n")
    KindProvider().up(ClusterSpec("k", nodes=2), lambda _step: None)
    machine.hold("docker", NODES, base, layout)
    (state / "known" / NODES[1]).write_text("")
    before = (state / "log").read_text()
    KindProvider().load_image("k", OURS.familiar)
    did = (state / "log").read_text().removeprefix(before)
    assert did.count("kind load") == 2  # the bundled image, and ours
    assert "image.tar docker.io/podlab/python:latest docker.io/podlab/python:3\n" in did
    assert "index.json" in contents(machine.loaded)


def test_nodes_that_do_not_get_it_are_said(machine: Machine, tmp_path: Path) -> None:
    machine.install("docker")
    made(ImageLayout(paths.cache() / "images"), tmp_path / "ours", OURS, HELLO, hello_py="print('hello')\n")
    KindProvider().up(ClusterSpec("k", nodes=2), lambda _step: None)
    with pytest.raises(ClusterError, match=r"no image docker\.io/podlab/python:3") as caught:
        KindProvider().load_image("k", OURS.familiar)
    assert "podlab cluster down" in (caught.value.hint or "")


def test_an_image_that_runtimes_keep_as_an_index_is_this_machines() -> None:
    manifest = {
        "config": {"digest": "sha256:c"},
        "layers": [{"mediaType": "m", "digest": "sha256:" + "1" * 64, "size": 3}],
    }
    entry = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 1}
    here = {**entry, "digest": "sha256:m", "platform": {"os": "linux", "architecture": architecture()}}
    attests = {**entry, "digest": "sha256:a", "platform": {"os": "unknown", "architecture": "unknown"}}
    store = {
        "sha256:" + "0" * 64: {"manifests": [attests, here]},
        "sha256:m": manifest,
        "sha256:c": {"rootfs": {"diff_ids": []}},
    }

    def ctr(*words: str) -> str:
        if words[0] == "images":
            return f"REF TYPE\nx other sha256:{'9' * 64}\nname index sha256:{'0' * 64} 1 MiB"
        return json.dumps(store[words[-1]])

    base = upon.read_base(ctr, "name", upon.target(ctr, "name"))
    assert [layer.size for layer in base.layers] == [3] and base.config == store["sha256:c"]


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({"Cmd": ["a"]}, {"Cmd": ["a"], "Entrypoint": ["e"]}),
        ({"Entrypoint": ["a"]}, {"Entrypoint": ["a"]}),
        ({"Entrypoint": ["a"], "Cmd": ["b"]}, {"Entrypoint": ["a"], "Cmd": ["b"]}),
        ({"Cmd": None, "User": ""}, {"Cmd": ["c"], "Entrypoint": ["e"]}),
    ],
)
def test_an_entrypoint_of_ones_own_takes_the_words_of_the_base_away(
    own: Mapping[str, Any], expected: Mapping[str, Any]
) -> None:
    told = upon.settings(own, {"Cmd": ["c"], "Entrypoint": ["e"]})
    assert {key: value for key, value in told.items() if key in ("Cmd", "Entrypoint")} == expected


AWKWARD = ["$HOME", "a\\\\$b", 'say "x"', "é", "${PATH:-y}", "'$x'", "\\\\n", "a=b c", ""]


@given(st.lists(st.sampled_from(AWKWARD) | st.text(st.characters(codec="utf-8", exclude_categories=["C"]))))
def test_values_come_as_they_are(values: list[str]) -> None:
    variables = [f"V{number}={value}" for number, value in enumerate(values)]
    labels = {f"l{number}": value for number, value in enumerate(values)}
    told = upon.settings({"Env": variables, "Labels": labels}, {"Env": ["PATH=/p", "V0=base"]})
    assert sorted(told["Env"]) == sorted(["PATH=/p", *(variables or ["V0=base"])]) and told["Labels"] == labels
