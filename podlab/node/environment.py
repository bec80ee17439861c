"""The environment of a container: image, services, envFrom, env. Pure; objects and files are read before."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any

from podlab.errors import RuntimeRefused
from podlab.node import environment_files, fields
from podlab.node.expansion import expand
from podlab.node.fields import Place

Objects = Mapping[tuple[str, str], Mapping[str, Any] | None]
#: The text of files in volumes by (volume, path), None for one that does not exist.
Files = Mapping[tuple[str, str], str | None]

#: Where Linux distributions keep programs; Docker and containerd give the same to images without PATH.
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class ConfigError(RuntimeRefused):
    """A container's configuration cannot be had: shown in the pod as CreateContainerConfigError."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="CreateContainerConfigError")


def references(container: Mapping[str, Any]) -> set[tuple[str, str]]:
    """The ("configmaps" | "secrets", name) pairs that the container's environment is taken from."""
    found = set()
    for source in container.get("envFrom") or ():
        for field, kind in (("configMapRef", "configmaps"), ("secretRef", "secrets")):
            if field in source:
                found.add((kind, source[field]["name"]))
    for variable in container.get("env") or ():
        value_from = variable.get("valueFrom") or {}
        for field, kind in (("configMapKeyRef", "configmaps"), ("secretKeyRef", "secrets")):
            if field in value_from:
                found.add((kind, value_from[field]["name"]))
    return found


def files(container: Mapping[str, Any]) -> set[tuple[str, str]]:
    """The (volume, path) of each file that the container's environment is taken from."""
    sources = [variable.get("valueFrom") or {} for variable in container.get("env") or ()]
    wanted = [source["fileKeyRef"] for source in sources if "fileKeyRef" in source]
    return {(reference["volumeName"], reference["path"]) for reference in wanted}


def data_of(kind: str, found: Mapping[str, Any]) -> dict[str, bytes]:
    """The keys of a ConfigMap (data and binaryData) or a Secret as bytes."""
    if kind == "secrets":
        return {key: base64.b64decode(value) for key, value in (found.get("data") or {}).items()}
    text = {key: value.encode() for key, value in (found.get("data") or {}).items()}
    binary = {key: base64.b64decode(value) for key, value in (found.get("binaryData") or {}).items()}
    return text | binary


def missing_object(kind: str, name: str) -> ConfigError:
    """What the kubelet says of a ConfigMap or Secret that does not exist."""
    return ConfigError(f'{kind.removesuffix("s")} "{name}" not found')


def build(
    pod: Mapping[str, Any],
    container: Mapping[str, Any],
    place: Place,
    *,
    hostname: str,
    image: Mapping[str, str],
    services: Mapping[str, str],
    objects: Objects,
    texts: Files,
) -> dict[str, str]:
    """The environment of `container`; ConfigError names the object, file or key that is missing.

    `image` is the image's own environment, `services` that of the Services, `objects` each of `references` and `texts`
    each of `files`, None for one that does not exist.
    """
    declared: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        declared.update(_env_from(source, objects))
    namespace = pod["metadata"]["namespace"]
    for variable in container.get("env") or ():
        value: str | None = variable.get("value") or ""
        value_from = variable.get("valueFrom")
        if value:
            value = expand(value, declared, services)
        elif value_from:
            value = _value_from(pod, container, value_from, place, objects, texts, namespace)
        if value is not None:
            declared[variable["name"]] = value
    base = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname, "HOME": "/root"}
    return {**base, **image, **services, **declared}


def _optional(reference: Mapping[str, Any]) -> bool:
    return bool(reference.get("optional"))


def _env_from(source: Mapping[str, Any], objects: Objects) -> dict[str, str]:
    prefix = source.get("prefix") or ""
    for field, kind in (("configMapRef", "configmaps"), ("secretRef", "secrets")):
        if field not in source:
            continue
        reference = source[field]
        found = objects.get((kind, reference["name"]))
        if found is None:
            if _optional(reference):
                return {}
            raise missing_object(kind, reference["name"])
        data = found.get("data") or {}
        texts = _decoded(data) if kind == "secrets" else data
        return {prefix + key: value for key, value in texts.items()}
    return {}


def _decoded(data: Mapping[str, str]) -> dict[str, str]:
    # Bytes that are no UTF-8 reach the process as they are (surrogateescape is how os.execve takes them).
    return {key: base64.b64decode(value).decode(errors="surrogateescape") for key, value in data.items()}


def _value_from(
    pod: Mapping[str, Any],
    container: Mapping[str, Any],
    source: Mapping[str, Any],
    place: Place,
    objects: Objects,
    texts: Files,
    namespace: str,
) -> str | None:
    """The value, or None if an optional key does not exist (the variable is then not set at all)."""
    try:
        if "fieldRef" in source:
            return fields.field(pod, source["fieldRef"]["fieldPath"], place)
        if "resourceFieldRef" in source:
            reference = source["resourceFieldRef"]
            if reference.get("containerName"):
                return fields.resource_of(pod, reference, place)
            return fields.resource(pod["spec"], container, reference, place)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    for field, kind, shown in (
        ("configMapKeyRef", "configmaps", "ConfigMap"),
        ("secretKeyRef", "secrets", "Secret"),
    ):
        if field in source:
            return _key(kind, shown, source[field], objects, namespace)
    if "fileKeyRef" in source:
        return _of_file(source["fileKeyRef"], texts)
    raise ConfigError(f"the environment source {sorted(source)} is not supported by this node")


def _key(kind: str, shown: str, reference: Mapping[str, Any], objects: Objects, namespace: str) -> str | None:
    found = objects.get((kind, reference["name"]))
    if found is None:
        if _optional(reference):
            return None
        raise missing_object(kind, reference["name"])
    data = found.get("data") or {}
    if reference["key"] not in data:
        if _optional(reference):
            return None
        raise ConfigError(f"couldn't find key {reference['key']} in {shown} {namespace}/{reference['name']}")
    value = data[reference["key"]]
    return _decoded({"": value})[""] if kind == "secrets" else value


def _of_file(reference: Mapping[str, Any], texts: Files) -> str | None:
    where = f'file "{reference["path"]}" of volume "{reference["volumeName"]}"'
    text = texts.get((reference["volumeName"], reference["path"]))
    if text is None and not _optional(reference):
        raise ConfigError(f"couldn't parse env file: there is no {where} that can be read")
    try:
        value = environment_files.value(text or "", reference["key"])
    except ValueError as error:
        raise ConfigError(f"couldn't parse env file: {error}, in {where}") from error
    if not value and not _optional(reference):
        raise ConfigError(f'environment variable key "{reference["key"]}" not found in {where}')
    return value or None


def service_variables(services: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The variables that tell a container of Services: NAME_SERVICE_HOST, NAME_SERVICE_PORT, NAME_PORT and so on.

    Headless Services and those without an address give none (k8s.io/kubernetes/pkg/kubelet/envvars).
    """
    variables: dict[str, str] = {}
    for service in services:
        spec = service["spec"]
        address = spec.get("clusterIP")
        ports = spec.get("ports") or ()
        if not address or address == "None" or not ports:
            continue
        prefix = _variable_name(service["metadata"]["name"])
        variables[f"{prefix}_SERVICE_HOST"] = address
        variables[f"{prefix}_SERVICE_PORT"] = str(ports[0]["port"])
        for port in ports:
            if port.get("name"):
                variables[f"{prefix}_SERVICE_PORT_{_variable_name(port['name'])}"] = str(port["port"])
        variables.update(_links(prefix, address, ports))
    return variables


def _links(prefix: str, address: str, ports: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    links: dict[str, str] = {}
    for index, port in enumerate(ports):
        protocol = (port.get("protocol") or "TCP").lower()
        url = f"{protocol}://{address}:{port['port']}"
        if index == 0:
            links[f"{prefix}_PORT"] = url
        name = f"{prefix}_PORT_{port['port']}_{protocol.upper()}"
        links |= {
            name: url,
            f"{name}_PROTO": protocol,
            f"{name}_PORT": str(port["port"]),
            f"{name}_ADDR": address,
        }
    return links


def _variable_name(name: str) -> str:
    return name.replace("-", "_").upper()


def visible_services(
    services: Mapping[tuple[str, str], Mapping[str, Any]], namespace: str, links: bool
) -> list[Mapping[str, Any]]:
    """The Services that a pod of `namespace` hears of: its namespace's, if `links`, and always default/kubernetes."""
    master = ("default", "kubernetes")
    chosen = {key[1]: found for key, found in services.items() if links and key[0] == namespace}
    if master in services:
        chosen.setdefault("kubernetes", services[master])
    return [chosen[name] for name in sorted(chosen)]
