"""The add-ons as a table: what each needs, where its manifests are, and what is made for it on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

from podlab import paths
from podlab.addons import opensearch, registration, spark
from podlab.cluster.embedded.binaries import PROGRAMS
from podlab.errors import UsageError

Object = dict[str, Any]

#: On every object of an add-on; its value is the add-on's name.
LABEL = "podlab.dev/addon"
_PROGRAMS = Path(__file__).parent / "programs"


@dataclass(frozen=True)
class Image:
    """An image made here from the program `name`, and the official one for clusters that pull their images."""

    name: str
    official: str

    @property
    def reference(self) -> str:
        """The name by which manifests call it."""
        return f"podlab/{self.name}:{PROGRAMS[self.name].version}"


def nothing(*_: object) -> list[Object]:
    """No objects."""
    return []


@dataclass(frozen=True)
class Addon:
    """One add-on. `programs` are files of podlab/addons/programs, which its pods find in the ConfigMap `programs`.

    `made` makes objects that no file can hold, such as certificates; what it finds of them by a `get` as that of
    podlab.checks.api.Api (kind, name, namespace) it keeps.
    """

    name: str
    title: str
    images: Sequence[Image] = ()
    _: KW_ONLY
    programs: Sequence[str] = ()
    made: Callable[..., list[Object]] = nothing
    #: Packages that its programs need besides Python: what podlab/python borrows on embedded nodes.
    packages: Sequence[str] = ()
    #: Makes one more image, from a folder with a Dockerfile, and says what it does; returns its name. The last is the
    #: Python of nodes that cannot borrow this machine's packages, such as "3.13", or empty.
    own_image: Callable[[Path, Callable[[str], None], str], str] | None = None
    #: Its name, and the official one.
    own_official: tuple[str, str] | None = None
    #: Without an official one: the environment variable that names it on clusters that pull their images.
    own_named: str = ""
    #: Seconds that its pods have to become ready.
    patience: float = 180.0
    #: Lines that say how a person gets in, and those of a kind cluster if they are others.
    doors: Sequence[str] = ()
    doors_of_kind: Sequence[str] = ()

    @property
    def namespace(self) -> str:
        """Where its pods are."""
        return self.name

    def texts(self) -> dict[str, str]:
        """Its manifests by file name, in the order in which they are applied."""
        return {
            file.name: file.read_text() for file in sorted(paths.committed(f"manifests/{self.name}").glob("*.yaml"))
        }

    def program_files(self) -> Object | None:
        """The ConfigMap with its programs, if it has any."""
        if not self.programs:
            return None
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "programs", "namespace": self.namespace},
            "data": {f"{name}.py": (_PROGRAMS / f"{name}.py").read_text() for name in self.programs},
        }


def dockerfile(image: Image) -> Path:
    """The Dockerfile of an image."""
    return paths.committed(f"images/{image.name}") / "Dockerfile"


#: The programs of the spool beside vlagent.
_SHIPPER = ("in_cluster", "last_words", "multiline", "opensearch_store", "packing", "spool")

TABLE: Mapping[str, Addon] = {
    addon.name: addon
    for addon in (
        Addon(
            "monitoring",
            "Prometheus with rules, Alertmanager with a receiver, metrics of objects, metrics for autoscalers",
            (
                Image("prometheus", f"quay.io/prometheus/prometheus:{PROGRAMS['prometheus'].version}"),
                Image("alertmanager", f"quay.io/prometheus/alertmanager:{PROGRAMS['alertmanager'].version}"),
            ),
            programs=("in_cluster", "object_metrics", "custom_metrics", "alert_receiver"),
            made=registration.custom_metrics,
            doors=(
                "Prometheus:   kubectl --namespace monitoring port-forward service/prometheus 9090",
                "Alertmanager: kubectl --namespace monitoring port-forward service/alertmanager 9093",
            ),
        ),
        Addon(
            "logging",
            "VictoriaLogs, and vlagent on every node, which ships what containers print",
            (
                # The release before ours, which lies between two.
                Image("victoria-logs", "docker.io/victoriametrics/victoria-logs:v1.51.0"),
                Image("vlagent", "docker.io/victoriametrics/vlagent:v1.51.0"),
            ),
            programs=_SHIPPER,
            packages=("zstandard",),
            doors=(
                "VictoriaLogs: kubectl --namespace logging port-forward service/victoria-logs 9428",
                "              and then http://127.0.0.1:9428/select/vmui/",
            ),
        ),
        Addon(
            "opensearch",
            "OpenSearch, with Elasticsearch's API, and vlagent on every node, which ships what containers print",
            (Image("vlagent", "docker.io/victoriametrics/vlagent:v1.51.0"),),
            programs=(*_SHIPPER, "opensearch_life"),
            packages=("zstandard",),
            own_image=opensearch.make_image,
            own_official=(opensearch.IMAGE, f"docker.io/opensearchproject/opensearch:{opensearch.VERSION}"),
            patience=600.0,
            doors=("OpenSearch: kubectl --namespace opensearch port-forward service/opensearch 9200",),
        ),
        Addon(
            "ingress",
            "Traefik, which routes requests by host and path to Services, as Ingress objects ask",
            (Image("traefik", f"docker.io/library/traefik:{PROGRAMS['traefik'].version}"),),
            doors=("Traefik: kubectl --namespace ingress get service traefik     (port 8080 of EXTERNAL-IP)",),
            doors_of_kind=("Traefik: http://127.0.0.1:30008",),
        ),
        Addon(
            "metrics-server",
            "What nodes and pods use, for kubectl top and autoscalers, on clusters that do not serve it themselves",
            doors=("Metrics: kubectl top nodes     (after half a minute)",),
        ),
        Addon(
            "spark",
            "Apache Spark, whose drivers and executors are pods",
            own_image=spark.make_image,
            own_named=spark.NAMED,
            doors=("A program: podlab spark run FILE.py",),
        ),
    )
}


def find(name: str) -> Addon:
    """One add-on; UsageError lists them if there is none of that name."""
    if name not in TABLE:
        raise UsageError(f"There is no add-on {name}.", hint=f"There are {', '.join(TABLE)}.")
    return TABLE[name]
