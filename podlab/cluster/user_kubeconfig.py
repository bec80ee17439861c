"""The user's own kubeconfig: a cluster is merged into it only on request, and taken out again."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import yaml

from podlab import paths
from podlab.cluster.folder import ClusterFolder, context_name, write_private
from podlab.errors import ClusterError

_LISTS = ("clusters", "users", "contexts")


class _Loader(yaml.SafeLoader):
    """Plain YAML in which dates stay text, so that they are written back as they were read."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def merged(theirs: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """`theirs` with the entries of `ours` added or replaced by name; all else is kept.

    The current context is set only where there was none.
    """
    result: dict[str, Any] = {"apiVersion": "v1", "kind": "Config", **theirs}
    for key in _LISTS:
        names = {entry["name"] for entry in ours[key]}
        result[key] = [e for e in theirs.get(key) or [] if e.get("name") not in names] + ours[key]
    result["current-context"] = theirs.get("current-context") or ours["current-context"]
    return result


def without(theirs: dict[str, Any], cluster: str) -> dict[str, Any]:
    """`theirs` without the entries that `merged` added for `cluster`."""
    name = context_name(cluster)
    result = dict(theirs)
    for key in _LISTS:
        if theirs.get(key):
            result[key] = [entry for entry in theirs[key] if entry.get("name") != name]
    if theirs.get("current-context") == name:
        result["current-context"] = ""
    return result


def user_file() -> Path:
    """The kubeconfig that kubectl would change: the first of KUBECONFIG, or ~/.kube/config.

    A cluster's own file, which is what KUBECONFIG names in JupyterLab, is not the user's.
    """
    ours = paths.clusters().resolve()
    for given in filter(None, os.environ.get("KUBECONFIG", "").split(os.pathsep)):
        if not Path(given).resolve().is_relative_to(ours):
            return Path(given)
    return Path.home() / ".kube" / "config"


def merge_into(path: Path, ours: dict[str, Any]) -> Path | None:
    """Merge `ours` into the kubeconfig at `path`; returns the backup of the old file, if there was one.

    The old file is copied to `NAME.podlab-backup` first (`-2`, `-3`, ... where there is one already), the new one
    replaces it atomically; what is in it already is not written again. A symbolic link is followed. ClusterError if
    the old file cannot be read as a kubeconfig, OSError if there is no writing: it is left as it is.
    """
    path = path.resolve()
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _replace(path, merged({}, ours))
        return None
    theirs = _read(path)
    if (wanted := merged(theirs, ours)) == theirs:
        return None
    first = path.with_name(path.name + ".podlab-backup")
    names = itertools.chain([first], (first.with_name(f"{first.name}-{number}") for number in itertools.count(2)))
    backup = next(name for name in names if not name.exists())
    write_private(backup, path.read_text())
    _replace(path, wanted)
    return backup


def remove_from(path: Path, cluster: str) -> bool:
    """Remove what `merge_into` added for `cluster`; returns whether the file was changed."""
    path = path.resolve()
    if not path.exists():
        return False
    theirs = _read(path)
    rest = without(theirs, cluster)
    if rest == theirs:
        return False
    _replace(path, rest)
    return True


def merge(folder: ClusterFolder) -> tuple[Path, Path | None]:
    """Merge a cluster's kubeconfig into the user's own; returns that file and the backup of its old state."""
    target = user_file()
    backup = merge_into(target, _read(folder.kubeconfig))
    known = {*_merged_into(folder), target.resolve()}
    write_private(_note(folder), "".join(f"{path}\n" for path in sorted(known)))
    return target, backup


def forget(folder: ClusterFolder) -> None:
    """Take a cluster out of the kubeconfigs into which it was merged; a broken one is left as it is."""
    for path in _merged_into(folder):
        try:
            remove_from(path, folder.name)
        except ClusterError:
            pass


def _note(folder: ClusterFolder) -> Path:
    return folder.path / "merged"


def _merged_into(folder: ClusterFolder) -> list[Path]:
    """The user's kubeconfigs into which the cluster was merged on request."""
    try:
        return [Path(line) for line in _note(folder).read_text().splitlines()]
    except FileNotFoundError:
        return []


def _read(path: Path) -> dict[str, Any]:
    hint = "Repair it or point KUBECONFIG elsewhere; it has not been changed."
    try:
        content = yaml.load(path.read_text(), Loader=_Loader) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ClusterError(f"The kubeconfig {path} cannot be read: {error}.", hint=hint) from error
    lists = [content.get(key) or [] for key in _LISTS] if isinstance(content, dict) else [None]
    if not all(isinstance(part, list) and all(isinstance(e, dict) for e in part) for part in lists):
        raise ClusterError(f"The file {path} is not a kubeconfig.", hint=hint)
    return content


def _replace(path: Path, content: dict[str, Any]) -> None:
    write_private(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
