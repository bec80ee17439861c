"""What a request must contain: so that a malformed one is refused before anything is made. Pure."""

from __future__ import annotations

_TEXT_OR_NONE = (str, type(None))
_NUMBER_OR_NONE = (int, type(None))

SANDBOX = {
    "id": str,
    "hostname": str,
    "address": _TEXT_OR_NONE,
    "host_network": bool,
    "sysctls": dict,
    "labels": dict,
}

CONTAINER = {
    "id": str,
    "sandbox": str,
    "argv": list,
    "environment": dict,
    "root": dict,
    "log_path": str,
    "log_within": _TEXT_OR_NONE,
    "folder": str,
    "working_directory": str,
    "mounts": list,
    "files": dict,
    "tty": bool,
    "stdin": bool,
    "stdin_once": bool,
    "user": _NUMBER_OR_NONE,
    "group": _NUMBER_OR_NONE,
    "supplemental_groups": list,
    "no_new_privileges": bool,
    "capabilities": (list, type(None)),
    "privileged": bool,
    "seccomp": bool,
    "unmasked_proc": bool,
    "share_processes": bool,
    "host_processes": bool,
    "processes_of": _TEXT_OR_NONE,
    "memory_limit": _NUMBER_OR_NONE,
    "pod_memory_limit": _NUMBER_OR_NONE,
    "cpu_request": int,
    "cpu_limit": _NUMBER_OR_NONE,
    "pod_cpu_request": int,
    "pod_cpu_limit": _NUMBER_OR_NONE,
    "labels": dict,
}

_ROOT = {"layers": list, "host_paths": list, "links": dict, "files": dict, "read_only": bool}
_MOUNT = {"source": str, "target": str, "read_only": bool, "within": _TEXT_OR_NONE}

MEMORY = {"path": str, "size": int, "files": int}

EXECUTE = {"container": str, "argv": list, "environment": dict, "tty": bool}
SPAWN = {"argv": list, "environment": dict, "log": str, "working_directory": str}


def check(given: object, fields: dict, what: str) -> dict:
    """Return `given` if it is a dict with all `fields` of their types; ValueError names the first that is not."""
    if not isinstance(given, dict):
        raise ValueError(f"{what} is not an object")
    for name, kind in fields.items():
        if name not in given:
            raise ValueError(f"{what} has no {name}")
        if not isinstance(given[name], kind):
            raise ValueError(f"{name} of {what} cannot be {given[name]!r}")
    return given


def check_container(given: object) -> dict:
    """Return `given` if it is a container spec; ValueError says what is wrong."""
    spec = check(given, CONTAINER, "the container")
    check(spec["root"], _ROOT, "the root")
    for mount in spec["mounts"]:
        check(mount, _MOUNT, "the mount")
    for path in (spec["working_directory"], *(mount["target"] for mount in spec["mounts"])):
        if not path.startswith("/"):
            raise ValueError(f"{path!r} is not an absolute path")
    texts = [*spec["argv"], *spec["environment"], *spec["environment"].values()]
    if not all(isinstance(text, str) and "\0" not in text for text in texts):
        raise ValueError("an argument or a variable is no text, or contains a zero byte")
    return spec
