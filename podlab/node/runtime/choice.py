"""Which runtime a machine can have, and why: the sandbox where the kernel gives what it needs, else the plain one."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Collection

from podlab.errors import EnvironmentUnsuitable
from podlab.node.runtime.sandbox import kernel

#: Seconds that the trial of namespaces may take.
PROBE_TIMEOUT = 30.0
#: What each trial of the kernel is about, in words.
_TRIALS = {
    "user_namespace": "user namespaces",
    "proc": "a fresh /proc",
    "veth": "virtual cables",
    "nf_tables": "packet rules",
    "overlay": "overlayfs",
}
#: What is lost with the plain runtime, in a few words.
LOST = "no isolation, no network policies, only images that are built on podlab/python or podlab/toolbox"


def refused_processes() -> str | None:
    """Why this kernel lets nobody hold a process, without which no cluster can be ended; None if it does."""
    try:
        os.close(kernel.pidfd_open(os.getpid()))
    except OSError as error:
        return f"pidfd_open, which came with Linux 5.3: {error.strerror}"
    return None


def check_kernel() -> None:
    """EnvironmentUnsuitable, with the version found and the one needed, if no cluster can run under this kernel."""
    if refused := refused_processes():
        raise EnvironmentUnsuitable(
            f"No cluster can run on this machine: Linux {platform.release()} refuses {refused}.",
            hint="Use a distribution with Linux 5.3 or newer (5.11 for all that pods can do), or the provider kind.",
        )


def try_kernel(folder: str) -> dict[str, str | None]:
    """Try in a child process what nodes and pods need; a trial that did not come to be tried is absent."""
    command = [sys.executable, "-m", "podlab.node.runtime.sandbox.probe", folder]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_TIMEOUT)
        return json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"user_namespace": f"the trial failed: {error}"}
    except ValueError:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        return {"user_namespace": f"the trial ended with status {done.returncode}: {last}"}


def refusals(trials: dict[str, str | None]) -> list[str]:
    """What the kernel refuses of what the sandbox needs, one sentence's part each."""
    return [f"{_TRIALS.get(name, name)} ({why})" for name, why in trials.items() if why]


def choose(wanted: str, folder: str) -> tuple[str, str]:
    """(sandbox or plain, why): what this machine can have, or what was asked for."""
    if wanted == "plain":
        return "plain", "asked for"
    refused = refusals(try_kernel(folder))
    if not refused:
        return "sandbox", "asked for" if wanted == "sandbox" else "this machine gives all that it needs"
    if wanted == "sandbox":
        raise EnvironmentUnsuitable(
            f"The sandbox runtime cannot be had: this machine refuses {', '.join(refused)}.",
            hint="`podlab doctor` says how to allow it; without --runtime the plain runtime is taken.",
        )
    return "plain", f"this machine refuses {', '.join(refused)}"


def limits(controllers: Collection[str]) -> str:
    """What is done about the limits of containers whose cgroups have these controllers (none without cgroups)."""
    if {"cpu", "memory"} <= set(controllers):
        return "CPU and memory limits are enforced by cgroups"
    cpu = "CPU limits are enforced by cgroups" if "cpu" in controllers else "CPU limits are not enforced"
    if "memory" in controllers:
        return f"{cpu}; memory limits are enforced by cgroups"
    return f"{cpu}; a watcher kills containers that are over their memory limit"


def words(runtime: str, why: str) -> str:
    """A runtime with its reason and what it means, for people."""
    return f"{runtime} ({why})" + (f": {LOST}" if runtime == "plain" else "")
