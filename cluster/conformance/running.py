"""Running the suite: ginkgo on a cluster of our own, or on any that a kubeconfig names."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import images
import report

from podlab import cluster, paths
from podlab.cluster.embedded import binaries
from podlab.cluster.folder import ClusterFolder
from podlab.cluster.provider import Progress
from podlab.errors import ClusterError

#: Processes that run tests side by side. More only makes tests with short deadlines fail on two cores.
PROCESSES = 6
NODES = 3
_ALL = "Conformance"


@dataclass(frozen=True)
class Selection:
    """Which tests: a label expression, and regular expressions and FILE:LINE of which one each must fit.

    `alone`: whether tests may be among them that must run alone.
    """

    labels: str = _ALL
    focus: Sequence[str] = ()
    places: Sequence[str] = ()
    processes: int = PROCESSES
    alone: bool = True

    def parts(self) -> Iterator[Selection]:
        """Those that may run side by side, then those that must run alone."""
        yield Selection(f"{self.labels} && !Serial", self.focus, self.places, self.processes)
        if self.alone:
            yield Selection(f"{self.labels} && Serial", self.focus, self.places, 1)


@dataclass
class Target:
    """A cluster under test; `name` is what the results call it."""

    kubeconfig: Path
    kubectl: Path
    nodes: int
    name: str


def names(texts: Sequence[str]) -> list[str]:
    """Regular expressions that fit exactly the tests of these names: ginkgo puts the suite's own before each."""
    return [f"^Kubernetes e2e suite {re.escape(text)}$" for text in texts]


@contextmanager
def own_cluster(
    home: Path, programs: dict[str, Path], drawn: AbstractContextManager[Progress], provider: str, runtime: str
) -> Iterator[Target]:
    """A cluster that is taken down in the end; its images are in `home`, and `drawn` shows its bring-up."""
    os.environ["PODLAB_HOME"] = str(home)
    os.environ.update({binaries.variable(name): str(path) for name, path in programs.items()})
    for name in cluster.list_clusters():
        process = name.rpartition("-")[2]
        if process.isdigit() and not Path(f"/proc/{process}").exists():
            cluster.down(name)
    with drawn as progress:
        chosen = {"runtime": runtime} if provider == "embedded" else {}
        made = cluster.up(
            f"run-{os.getpid()}", nodes=NODES, profile="upstream", provider_name=provider, progress=progress, **chosen
        )
    with made:
        name = called(provider, ClusterFolder(paths.clusters() / made.name).read().runtime)
        if provider == "embedded":
            yield Target(made.kubeconfig, programs["kubectl"], NODES, name)
        else:
            made.load_image(*images.of_tests())
            yield Target(made.kubeconfig, programs["kubectl"], NODES - 1, name)  # the control plane takes no pods


def called(provider: str, runtime: str) -> str:
    """What the results call a cluster: its provider, and what makes a difference to the embedded one."""
    if provider != "embedded":
        return provider
    return f"embedded, {runtime}, {'root' if os.geteuid() == 0 else 'ordinary user'}"


@dataclass
class Counter:
    """Counts tests in what ginkgo prints: a bullet for each that ended."""

    tell: Callable[[str], None]
    began: float = field(default_factory=time.monotonic)
    last: float = 0.0
    ended: int = 0
    failed: int = 0

    def take(self, text: str) -> None:
        """Take note of a piece of output."""
        self.ended += text.count("•")
        self.failed += text.count("• [FAILED]")
        now = time.monotonic()
        if "•" in text and now - self.last > 10:
            self.last = now
            self.tell(f"{self.ended} tests ended, {self.failed} failed ({now - self.began:.0f} s)")


def run(suite: Path, target: Target, chosen: Selection, out: Path, tell: Callable[[str], None]) -> list[report.Outcome]:
    """Run the chosen tests and return the outcome of each; ClusterError if the suite itself did not run."""
    out.mkdir(parents=True, exist_ok=True)
    log, result = out / "ginkgo.log", out / "report.json"
    counter = Counter(tell)
    with log.open("wb", buffering=0) as file, _process(suite, target, chosen, out) as process:
        assert process.stdout is not None
        # Pieces, not lines: the bullets of tests that pass stand in one line.
        while piece := os.read(process.stdout.fileno(), 65536):
            file.write(piece)
            counter.take(piece.decode(errors="replace"))
    if not result.exists():
        raise ClusterError(f"The suite did not run: {_last_lines(log)}", hint=f"All that it said is in {log}.")
    outcomes = report.read(result)
    if not any(outcome.state != "not run" for outcome in outcomes) and process.returncode:
        raise ClusterError(f"No test was run: {_last_lines(log)}", hint=f"All that it said is in {log}.")
    return outcomes


@contextmanager
def _process(suite: Path, target: Target, chosen: Selection, out: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, "PATH": f"{target.kubectl.parent}:{os.environ.get('PATH', '')}"}
    process = subprocess.Popen(
        _command(suite, target, chosen, out),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        cwd=out,
    )
    try:
        yield process
        process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


def _command(suite: Path, target: Target, chosen: Selection, out: Path) -> list[str]:
    options = [f"--procs={chosen.processes}", "--no-color", "--succinct", "--keep-going", "--timeout=3h"]
    options += [f"--label-filter={chosen.labels}", f"--output-dir={out}", "--json-report=report.json"]
    options += [f"--focus={text}" for text in chosen.focus] + [f"--focus-file={_file(text)}" for text in chosen.places]
    own = [f"--kubeconfig={target.kubeconfig}", f"--kubectl-path={target.kubectl}", f"--num-nodes={target.nodes}"]
    own += ["--provider=skeleton", "--non-blocking-taints=node-role.kubernetes.io/control-plane"]
    own += ["--allowed-not-ready-nodes=0", "--dump-logs-on-failure=false"]
    return [str(suite / "ginkgo"), "run", *options, str(suite / "e2e.test"), "--", *own]


def _file(where: str) -> str:
    file, _, line = where.partition(":")
    return f"test/e2e/{file}.go:{line}"


def _last_lines(log: Path) -> str:
    return "\n  ".join(log.read_text(errors="replace").strip().splitlines()[-8:]) or "it said nothing."
