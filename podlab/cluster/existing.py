"""The provider `existing`: a cluster that somebody else runs, reached by a kubeconfig and a context.

Nothing is created in it before its full name has been given, nothing outside our own namespaces is touched, and
`down` takes back what was left: this user's namespaces and our record of the cluster, never the cluster, and never
the namespaces of others who learn there.
"""

from __future__ import annotations

import ipaddress
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from podlab import paths
from podlab.cluster import user_kubeconfig
from podlab.cluster.folder import HOME_LABEL, ClusterFolder, Record, check_name, context_name, write_private
from podlab.cluster.progress import step
from podlab.cluster.provider import ClusterSpec, ClusterStatus, ComponentStatus, Progress
from podlab.cluster.readiness import client
from podlab.errors import ClusterError, EnvironmentUnsuitable, UsageError

#: The oldest Kubernetes that the course is for.
FLOOR = (1, 36)
#: Seconds that an answer may take: the API server itself takes a minute at most.
_PATIENCE = 60
_PRODUCTION = re.compile(r"(?<![a-z])(prod|prd|production|live)(?![a-z])")

Config = dict[str, Any]


class ExistingProvider:
    """podlab.cluster.provider.Provider for clusters that are there already."""

    name = "existing"

    def up(self, spec: ClusterSpec, progress: Progress) -> None:
        """Remember the cluster of a kubeconfig's context, after its full name was confirmed."""
        spec.only(self.name, "kubeconfig", "context", "confirmed")
        folder = _folder(spec.name)
        if folder.path.exists():
            folder.create(Record.of(spec, self.name))  # says who has the name
        source = Path(spec.kubeconfig) if spec.kubeconfig else user_kubeconfig.user_file()
        context, chosen = pick(read(source), spec.context, source)
        folder_config = renamed(chosen, spec.name, source.parent)
        if spec.confirmed != context:
            raise UsageError(question(context, chosen, source), hint=f"Say so with --confirm {context}")
        folder.create(Record.of(spec, self.name))
        try:
            write_private(folder.kubeconfig, yaml.safe_dump(folder_config, sort_keys=False))
            with step("Ask the cluster", progress) as say:
                version, note = _ask(folder.kubeconfig, _called(str(source), context))
                say(f"{version} {note}".strip())
        except BaseException:
            folder.remove()
            raise
        record = folder.read()
        record.version, record.nodes = version, []
        record.details = {"context": context, "kubeconfig": str(source), **({"note": note} if note else {})}
        folder.write(record)

    def down(self, name: str, progress: Progress) -> None:
        """Delete our namespaces in the cluster and forget it. The cluster itself is not ours to end.

        ClusterError if they cannot be deleted; the cluster is remembered then, so that it can be tried again.
        """
        folder = _folder(name)
        record = folder.read()
        with step("Delete the labs' namespaces", progress) as say:
            try:
                say(", ".join(_sweep(folder.kubeconfig, _named(record))) or "there is none")
            except ClusterError as error:
                raise ClusterError(
                    f"The namespaces of labs in {name} could not be deleted, so it is not forgotten: {error.message}",
                    hint="Try again when it answers. To leave there what is there: "
                    f"`podlab cluster down --forget --name {name}`. Taken up anew, if need be with a fresh kubeconfig, "
                    "`podlab cluster down` deletes it after all.",
                ) from error
        self.forget(name, progress)

    def forget(self, name: str, progress: Progress) -> None:
        """Forget the cluster without asking it: what labs left there stays."""
        folder = _folder(name)
        folder.read()
        with step("Forget it", progress):
            user_kubeconfig.forget(folder)
            folder.remove()

    def stop(self, name: str, progress: Progress) -> None:
        """Refuse: somebody else runs it."""
        _folder(name).read()
        raise ClusterError(
            f"{name} is a cluster that somebody else runs; it is not ours to stop.",
            hint=f"`podlab cluster down --name {name}` deletes our namespaces in it and forgets it.",
        )

    def start(self, name: str, progress: Progress) -> None:
        """Return if it answers; ClusterError if not: it is not ours to start."""
        folder = _folder(name)
        record = folder.read()
        with step("Ask the cluster", progress):
            _ask(folder.kubeconfig, _named(record))

    def status(self, name: str) -> ClusterStatus:
        """What the cluster says of itself, as far as we may know."""
        folder = _folder(name)
        record = folder.read()
        details = {key: value for key, value in record.details.items() if key != "note"}
        notes = [record.details["note"]] if "note" in record.details else []
        server = yaml.safe_load(folder.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
        common = {"name": name, "provider": self.name, "server": server, "details": details}
        try:
            nodes = _nodes(folder.kubeconfig, _named(record))
        except ClusterError as error:
            return ClusterStatus(state="degraded", version=record.version, notes=[*notes, error.message], **common)
        return ClusterStatus(state="running", version=record.version, components=nodes, notes=notes, **common)

    def kubeconfig(self, name: str) -> Path:
        """Path of a kubeconfig whose current context is this cluster, with the rights that the given one has."""
        folder = _folder(name)
        folder.read()
        return folder.kubeconfig

    def load_image(self, name: str, *references: str) -> None:
        """Refuse: nodes of others take images from registries only."""
        _folder(name).read()
        raise ClusterError(
            f"Images cannot be put on the nodes of {name}.",
            hint=f"Build {', '.join(references)} with Docker, push to a registry that the cluster pulls from, "
            "and name it so in the manifest. docs/clusters.md shows how.",
        )

    def logs(self, name: str, component: str) -> Path:
        """Refuse: the logs are its operators'."""
        _folder(name).read()
        raise ClusterError(f"The logs of {name} are with those who run it.")


def _folder(name: str) -> ClusterFolder:
    return ClusterFolder(paths.clusters() / check_name(name))


def read(path: Path) -> Config:
    """The kubeconfig at `path`; UsageError if there is none or it is not one."""
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise UsageError(f"There is no kubeconfig {path}.", hint="Name one with --kubeconfig.") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"The kubeconfig {path} cannot be read: {error}.") from error
    if not isinstance(content, dict) or not content.get("contexts"):
        raise UsageError(f"The kubeconfig {path} has no contexts.", hint="`kubectl config get-contexts` shows them.")
    return content


def pick(config: Config, wanted: str, source: Path) -> tuple[str, Config]:
    """The name of the context that is meant, and a kubeconfig with only that context, its cluster and its user."""
    contexts = {entry["name"]: entry.get("context") or {} for entry in config["contexts"]}
    name = wanted or config.get("current-context") or ""
    if name not in contexts:
        said = f"{source} has no context {name}." if name else f"{source} has no current context."
        raise UsageError(said, hint=f"Choose one with --context: {', '.join(contexts)}.")
    parts: Config = {"context": contexts[name]}
    for key in ("cluster", "user"):
        entries = {entry["name"]: entry.get(key) or {} for entry in config.get(f"{key}s") or []}
        if contexts[name].get(key) not in entries:
            raise UsageError(
                f"The context {name} of {source} names the {key} {contexts[name].get(key)}, which it lacks."
            )
        parts[key] = entries[contexts[name][key]]
    if not parts["cluster"].get("server"):
        raise UsageError(f"The context {name} of {source} leads to no server.")
    if (plugin := parts["user"].get("exec")) and not shutil.which(_placed(plugin["command"], source.parent)):
        raise UsageError(
            f"The context {name} of {source} gets its credentials from {plugin['command']}, which is not here.",
            hint=plugin.get("installHint") or "Install that program, or log in again, as those who run it say.",
        )
    return name, parts


def _placed(command: str, folder: Path) -> str:
    """A program of a kubeconfig in `folder`: by its path from there, or by its name on the PATH."""
    return str(folder.absolute() / command) if "/" in command else command


def renamed(parts: Mapping[str, Config], name: str, folder: Path) -> Config:
    """A kubeconfig of our own for the picked context; paths in it are made absolute from `folder`."""
    ours = context_name(name)
    cluster, user = ({**parts[key]} for key in ("cluster", "user"))
    for section in (cluster, user):
        for key in ("certificate-authority", "client-certificate", "client-key", "tokenFile"):
            if section.get(key):
                section[key] = str(folder.absolute() / section[key])
    if plugin := user.get("exec"):
        user["exec"] = {**plugin, "command": _placed(plugin["command"], folder)}
    context = {"cluster": ours, "user": ours}
    if namespace := parts["context"].get("namespace"):
        context["namespace"] = namespace
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": ours, "cluster": cluster}],
        "users": [{"name": ours, "user": user}],
        "contexts": [{"name": ours, "context": context}],
        "current-context": ours,
    }


def question(context: str, parts: Mapping[str, Config], source: Path) -> str:
    """What is asked before anything is created: which cluster this is, and whether it looks like one in production."""
    server = parts["cluster"]["server"]
    text = f"This would use the context {context} of {source}: the cluster {parts['context']['cluster']} at {server}."
    if looks_like_production(context, parts):
        text += " It looks like a cluster that others depend on."
    return text + " Labs make namespaces of their own in it, and delete them again."


def looks_like_production(context: str, parts: Mapping[str, Config]) -> bool:
    """Whether a name says so, or the server is neither this machine nor in a private network."""
    names = (context, str(parts["context"].get("cluster")), parts["cluster"]["server"])
    if any(_PRODUCTION.search(name.lower()) for name in names):
        return True
    host = urlsplit(parts["cluster"]["server"]).hostname or ""
    try:
        return not ipaddress.ip_address(host).is_private
    except ValueError:
        return not (
            host == "localhost" or host.endswith((".local", ".internal", ".localhost", ".svc")) or "." not in host
        )


def _called(source: str, context: str) -> str:
    """What a user knows a cluster by: not our copy of the kubeconfig."""
    return f"{source} (context {context})"


def _named(record: Record) -> str:
    return _called(record.details.get("kubeconfig", ""), record.details.get("context", ""))


#: What labs do that not everyone may: where one of them is refused, namespaces have to be given.
_RIGHTS = (
    {"verb": "delete", "resource": "namespaces"},
    {"verb": "create", "resource": "namespaces"},
    {"verb": "create", "resource": "limitranges"},
    {"verb": "create", "resource": "resourcequotas"},
    {"verb": "create", "resource": "roles", "group": "rbac.authorization.k8s.io"},
    {"verb": "create", "resource": "rolebindings", "group": "rbac.authorization.k8s.io"},
    {"verb": "create", "resource": "pods"},
    {"verb": "impersonate", "resource": "users", "name": "podlab:learner"},
    {"verb": "impersonate", "resource": "groups", "name": "system:authenticated"},
)


def _ask(kubeconfig: Path, called: str) -> tuple[str, str]:
    """The cluster's version, and what labs cannot do in it; EnvironmentUnsuitable if it is too old."""
    from kubernetes import client as library

    with client(kubeconfig, called=called) as api:
        code = library.VersionApi(api).get_code(_request_timeout=_PATIENCE)
        numbers = tuple(int(re.sub(r"\D", "", part) or 0) for part in (code.major, code.minor))
        if numbers < FLOOR:
            raise EnvironmentUnsuitable(
                f"The cluster has Kubernetes {code.git_version}; the course needs {FLOOR[0]}.{FLOOR[1]} or newer.",
                hint="Use the embedded cluster: `podlab cluster up`.",
            )
        access = library.AuthorizationV1Api(api)
        refused = [right for right in _RIGHTS if not _may(access, right)]
    if not refused:
        return code.git_version, ""
    told = ", ".join(f"{right['verb']} {right['resource']}" for right in refused)
    return code.git_version, (
        f"You may not {told}: have four namespaces made in which you may edit, and name them in PODLAB_NAMESPACES "
        "(docs/clusters.md)."
    )


def _may(access: Any, right: Mapping[str, str]) -> bool:
    from kubernetes import client as library

    attributes = library.V1ResourceAttributes(**right)
    spec = library.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes)
    review = library.V1SelfSubjectAccessReview(spec=spec)
    return bool(access.create_self_subject_access_review(review, _request_timeout=_PATIENCE).status.allowed)


def _nodes(kubeconfig: Path, called: str) -> list[ComponentStatus]:
    """The nodes, as components; none if we may not see them."""
    from kubernetes import client as library

    with client(kubeconfig, called=called) as api:
        try:
            nodes: list[Any] = library.CoreV1Api(api).list_node(_request_timeout=_PATIENCE).items
        except library.ApiException as error:
            if error.status == 403:
                return []
            raise
    return [ComponentStatus(node.metadata.name, _readiness(node)) for node in nodes]


def _readiness(node: Any) -> str:
    ready = any(one.type == "Ready" and one.status == "True" for one in node.status.conditions or [])
    return "running" if ready else "stopped"


def _sweep(kubeconfig: Path, called: str) -> list[str]:
    """Delete the namespaces that this user's labs made in the cluster; returns their names."""
    from kubernetes import client as library

    with client(kubeconfig, called=called) as api:
        core: Any = library.CoreV1Api(api)
        try:
            ours = core.list_namespace(
                label_selector=f"{HOME_LABEL}={paths.identity()}", _request_timeout=_PATIENCE
            ).items
        except library.ApiException as error:
            if error.status == 403:  # who may not see namespaces has made none
                return []
            raise
        names = [one.metadata.name for one in ours]
        for name in names:
            try:
                core.delete_namespace(name, _request_timeout=_PATIENCE)
            except library.ApiException as error:
                if error.status != 404:  # it was being deleted, and is gone by now
                    raise
    return names
