"""The choice of a Go and the course of a build. The `go` here is a small script: real builds run in set-up."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from podlab.cluster.embedded import binaries
from podlab.cluster.embedded.binaries import build, download, go, store, versions
from podlab.cluster.embedded.binaries.programs import PROGRAMS
from podlab.errors import BinaryError, EnvironmentUnsuitable

SAYS = dict.fromkeys(binaries.ALL, f"Kubernetes {binaries.VERSION}") | {
    "etcd": f"etcd Version: {binaries.ETCD_VERSION.removeprefix('v')}",
    "kubectl": json.dumps({"clientVersion": {"gitVersion": binaries.VERSION}}),
}


def fake_go(folder: Path, version: str, *, build: str = "") -> Path:
    """A `go` that says `version`, lists three packages, compiles two and writes what was asked for by -o."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "go"
    for name, said in SAYS.items():
        (folder / f"said-{name}").write_text(f"#!/bin/sh\necho '{said}'\n")
    path.write_text(
        f"""#!/bin/sh
echo "$@" >> {folder}/calls
case $1 in
  env) echo {version} ;;
  list) echo "go: downloading k8s.io/api v0.37.2" >&2; echo package a; echo package b; echo package c ;;
  build) {build or ":"}
    echo internal/a; echo k8s.io/api/core/v1
    while [ "$1" != -o ]; do shift; done
    name=${{2##*/}}
    while IFS= read -r line; do printf '%s\\n' "$line"; done < {folder}/said-$name > "$2"
    /bin/chmod +x "$2" ;;
esac
"""
    )
    path.chmod(0o755)
    return path


@pytest.fixture
def offline(monkeypatch):
    """No release can be downloaded, and the only Go is the one on PATH."""
    monkeypatch.setattr(download, "fetch", lambda names, progress: list(names))
    real = go.candidates
    monkeypatch.setattr(go, "candidates", lambda: [one for one in real() if one[0].parent.name == "bin"][:1])


def test_without_a_release_everything_is_built_and_installed(machine, offline):
    fake_go(machine / "bin", "go1.26.8")
    said = []
    found = binaries.ensure(progress=said.append)
    assert set(found) == set(binaries.ALL)
    assert {one.source for one in binaries.locate().values()} == {"cache: built with go1.26.8"}
    ends = {report.step: report.detail for report in said if report.kind == "done"}
    assert set(ends) == {"fetch modules", *(f"build {name}" for name in binaries.ALL)}
    assert "2 of 3 packages compiled" in ends["build etcd"]
    assert "5 fetched" in ends["fetch modules"]
    assert not [path for path in found["etcd"].parent.parent.iterdir() if path.name.startswith("build-")]


def test_what_a_killed_build_left_is_removed(machine, offline):
    fake_go(machine / "bin", "go1.26.8")
    left = store.base() / "build-killed"
    left.mkdir()
    (left / "kube-apiserver").write_text("half")
    binaries.ensure(["etcd"])
    assert not left.exists()


def test_only_what_is_missing_is_built(machine, offline):
    fake_go(machine / "bin", "go1.26.8")
    binaries.ensure(["etcd"])
    (machine / "bin" / "calls").unlink()
    binaries.ensure(["etcd", "kubectl"])
    built = [line for line in (machine / "bin" / "calls").read_text().splitlines() if line.startswith("build")]
    assert len(built) == 1 and built[0].endswith("k8s.io/kubernetes/cmd/kubectl")


def test_a_failed_build_shows_the_last_lines_and_keeps_what_was_built(machine, offline):
    fail = "case $* in *kubectl) echo 'cannot find module providing x'; exit 1 ;; esac"
    fake_go(machine / "bin", "go1.26.8", build=fail)
    with pytest.raises(BinaryError, match=r"build kubectl: Go exited with status 1(.|\n)*cannot find module"):
        binaries.ensure(["etcd", "kubectl"])
    assert binaries.find("etcd") is not None
    assert binaries.find("kubectl") is None


def test_a_disk_that_is_full_is_told_from_other_failures(machine, offline):
    fake_go(machine / "bin", "go1.26.8", build="echo 'write /x: no space left on device'; exit 1")
    with pytest.raises(EnvironmentUnsuitable, match="the disk is full"):
        binaries.ensure(["etcd"])


def test_a_build_of_another_version_is_refused(machine, offline):
    fake_go(machine / "bin", "go1.26.8")
    wrong = json.dumps({"clientVersion": {"gitVersion": "v0.0.0"}})
    (machine / "bin" / "said-kubectl").write_text(f"#!/bin/sh\necho '{wrong}'\n")
    with pytest.raises(BinaryError, match=r"built kubectl says v0\.0\.0, but v1\.37\.2 is wanted"):
        binaries.ensure(["kubectl"])


def test_too_little_space_is_said_before_the_build(machine, offline, monkeypatch):
    fake_go(machine / "bin", "go1.26.8")
    monkeypatch.setattr(build, "NEEDED_WARM", 1 << 60)
    with pytest.raises(EnvironmentUnsuitable, match="MiB free; building Kubernetes needs 5 GiB"):
        binaries.ensure(["etcd"])
    assert not (machine / "bin" / "calls").exists()


def test_a_go_that_is_too_old_is_skipped_and_named(machine, monkeypatch):
    old, new = fake_go(machine / "old", "go1.25.9"), fake_go(machine / "new", "go1.26.0")
    monkeypatch.setattr(go, "candidates", lambda: [(old, False), (new, False)])
    said = []
    assert go.find((1, 26, 0), said.append) == go.Toolchain(new, "go1.26.0", False)
    assert [report.detail for report in said] == [f"{old} is go1.25.9, but 1.26.0 or newer is needed: skipped."]


def test_the_go_of_path_comes_first(machine):
    path = fake_go(machine / "bin", "go1.26.8")
    assert go.candidates()[0] == (path, False)


@pytest.mark.parametrize(
    ("said", "version"),
    [("go1.26.8\n", (1, 26, 8)), ("go1.27rc1", (1, 27)), ("go1.26-X:x", (1, 26)), ("devel +abc", None), ("", None)],
)
def test_versions_of_go(said, version):
    assert go.parse(said) == version


MODULES = sorted({program.module for program in PROGRAMS.values() if program.package})


@pytest.mark.parametrize("module", MODULES)
def test_a_committed_module_names_all_packages_of_its_programs(module):
    text = (build.module(module) / "go.mod").read_text()
    tools = re.findall(r"^(?:tool |\t)([\w./-]+)$", text, re.MULTILINE)
    assert sorted(tools) == sorted(one.package for one in PROGRAMS.values() if one.package and one.module == module)
    assert go.needed(text) >= (1, 26)


@pytest.mark.parametrize(
    ("module", "required"),
    [
        ("", f"k8s.io/kubernetes {binaries.VERSION}"),
        ("", f"go.etcd.io/etcd/server/v3 {binaries.ETCD_VERSION}"),
        # Prometheus 3.16 is version 0.316 of its Go module.
        ("monitoring", "github.com/prometheus/prometheus v0.316.0"),
        ("registry", f"github.com/distribution/distribution/v3 {PROGRAMS['registry'].version}"),
        ("alerting", f"github.com/prometheus/alertmanager {PROGRAMS['alertmanager'].version}"),
        ("logging", f"github.com/VictoriaMetrics/VictoriaLogs {PROGRAMS['victoria-logs'].version}-0.20260624061259"),
    ],
)
def test_a_committed_module_names_the_wanted_version(module, required):
    folder = build.module(module)
    assert required in (folder / "go.mod").read_text()
    assert required in (folder / "go.sum").read_text()


def test_the_modules_are_shipped_with_the_package():
    import tomllib

    root = build.module().parent.parent
    files = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["data-files"]
    for module in MODULES:
        shipped = files[f"share/podlab/binaries/{module}".rstrip("/")]
        assert {Path(path).name for path in shipped} == {p.name for p in build.module(module).iterdir() if p.is_file()}


def test_pinned_checksums_are_well_formed():
    pins = json.loads((build.module() / "pins.json").read_text())
    assert all(len(bytes.fromhex(value)) == 32 for value in pins["sha256"].values())


def test_the_binaries_are_told_their_version():
    flags = build.ldflags("kube-scheduler")
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
        assert f"-X {package}.gitVersion=v1.37.2" in flags
        assert f"-X {package}.gitMinor=37" in flags
    assert build.ldflags("prometheus").endswith("version.Version=3.16.0")


@pytest.mark.parametrize(
    ("name", "printed", "version"),
    [
        ("prometheus", "prometheus, version 3.16.0 (branch: , revision: unknown)\n  go version: go1.26.8", "v3.16.0"),
        ("alertmanager", "alertmanager, version 0.31.0 (branch: , revision: unknown)", "v0.31.0"),
        ("victoria-logs", "victoria-logs-v1.51.1", "v1.51.1"),
        ("vlagent", "vlagent-v1.51.1", "v1.51.1"),
        ("prometheus", "alertmanager, version 0.31.0", None),
        ("victoria-logs", "victoria-logs-20260624-061259-tags-unknown", None),
    ],
)
def test_programs_of_add_ons_say_their_version_in_their_own_way(name, printed, version):
    assert versions.parse(name, printed) == version


def test_a_program_of_an_add_on_is_built_in_its_own_module(machine, offline):
    go_path = fake_go(machine / "bin", "go1.26.8")
    (machine / "bin" / "said-prometheus").write_text("#!/bin/sh\necho 'prometheus, version 3.16.0'\n")
    binaries.ensure(["prometheus"])
    assert binaries.find("prometheus") is not None
    built = [line for line in (go_path.parent / "calls").read_text().splitlines() if line.startswith("build")]
    assert len(built) == 1
    assert "-tags netgo,remove_all_sd,enable_kubernetes_sd" in built[0]
    assert built[0].endswith("github.com/prometheus/prometheus/cmd/prometheus")


def test_what_is_not_published_is_not_looked_for():
    assert download.release("victoria-logs", "amd64") is None
    found = download.release("alertmanager", "arm64")
    assert found.url.endswith("/v0.31.0/alertmanager-0.31.0.linux-arm64.tar.gz")
    assert found.member == "alertmanager-0.31.0.linux-arm64/alertmanager"


@pytest.mark.parametrize(("processors", "gib", "expected"), [(2, 16, 2), (8, 4, 2), (8, 64, 8), (4, 1, 1), (1, 64, 1)])
def test_the_number_of_compilers_fits_processors_and_memory(processors, gib, expected):
    assert build.jobs(processors, gib << 30) == expected
