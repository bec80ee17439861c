from __future__ import annotations

import base64
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pods import container, made

from podlab.node import environment
from podlab.node.environment import DEFAULT_PATH, ConfigError, service_variables, visible_services
from podlab.node.expansion import command_line, expand, missing
from podlab.node.fields import Place

PLACE = Place("node-1", "172.18.0.11", "10.244.1.2", {"cpu": "2", "memory": "4Gi"})


def built(
    entry: dict[str, Any], objects: Any = None, services: Any = None, image: Any = None, texts: Any = None
) -> dict[str, str]:
    return environment.build(
        made(entry),
        entry,
        PLACE,
        hostname="web",
        image=image or {},
        services=services or {},
        objects=objects or {},
        texts=texts or {},
    )


def secret(**data: bytes) -> dict[str, Any]:
    return {"data": {key: base64.b64encode(value).decode() for key, value in data.items()}}


# Expansion: the cases of Kubernetes' own specification (design-proposals/node/expansion.md)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$(A)", "1"),
        ("___$(B)___", "___2___"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$$$$(A)", "$$(A)"),
        ("$(NOPE)", "$(NOPE)"),
        ("$(A)$(B)", "12"),
        ("$(A", "$(A"),
        ("$A", "$A"),
        ("$", "$"),
        ("$)", "$)"),
        ("foo$(A)bar$", "foo1bar$"),
        ("$()", "$()"),
        ("$(A$(B))", "$(A$(B))"),
        ("$(E)", "$(A)"),
        ("--$(-$(A))", "--$(-$(A))"),
    ],
)
def test_expansion(text: str, result: str) -> None:
    assert expand(text, {"A": "1", "B": "2", "E": "$(A)"}) == result


@given(st.text(alphabet="$()Ax", max_size=20))
def test_expansion_without_variables_only_joins_dollars(text: str) -> None:
    assert expand(text).replace("$", "") == text.replace("$", "")


def test_missing_names() -> None:
    assert missing("$(A)/$(B)/$$(C)", {"A": ""}) == ["B"]


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({}, ["entry", "image-arg"]),
        ({"args": ["a", "$(X)"]}, ["entry", "a", "x"]),
        ({"command": ["own"]}, ["own"]),
        ({"command": ["own"], "args": ["a"]}, ["own", "a"]),
    ],
)
def test_command_and_args_against_entrypoint_and_command(fields: dict[str, Any], line: list[str]) -> None:
    assert command_line(container(**fields), {"X": "x"}, ["entry"], ["image-arg"]) == line


# The environment


def test_what_every_container_has() -> None:
    assert built(container()) == {"PATH": DEFAULT_PATH, "HOSTNAME": "web", "HOME": "/root"}


def test_the_containers_own_value_wins_over_services_image_and_config() -> None:
    entry = container(envFrom=[{"configMapRef": {"name": "c"}}], env=[{"name": "X", "value": "own"}])
    objects = {("configmaps", "c"): {"data": {"X": "config", "Y": "config"}}}
    found = built(entry, objects, {"X": "service", "Y": "service", "Z": "service"}, {"Z": "image", "I": "image"})
    assert (found["X"], found["Y"], found["Z"], found["I"]) == ("own", "config", "service", "image")


def test_values_refer_to_earlier_variables_and_services() -> None:
    entry = container(
        env=[{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)$(LATER)$(SVC)"}, {"name": "LATER", "value": "x"}]
    )
    assert built(entry, services={"SVC": "s"})["B"] == "1$(LATER)s"


def test_prefix_and_unusual_names() -> None:
    entry = container(envFrom=[{"prefix": "P_", "configMapRef": {"name": "c"}}])
    found = built(entry, {("configmaps", "c"): {"data": {"a-b.c": "1"}}})
    assert found["P_a-b.c"] == "1"


def test_secrets_that_are_no_text_keep_their_bytes() -> None:
    entry = container(env=[{"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}])
    found = built(entry, {("secrets", "s"): secret(k=b"\xff\xfe")})
    assert found["S"].encode(errors="surrogateescape") == b"\xff\xfe"


@pytest.mark.parametrize(
    ("entry", "objects", "message"),
    [
        ({"envFrom": [{"configMapRef": {"name": "c"}}]}, {}, 'configmap "c" not found'),
        ({"envFrom": [{"secretRef": {"name": "s"}}]}, {}, 'secret "s" not found'),
        (
            {"env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}]},
            {("configmaps", "c"): {"data": {}}},
            "couldn't find key k in ConfigMap shop/c",
        ),
        (
            {"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]},
            {("secrets", "s"): {}},
            "couldn't find key k in Secret shop/s",
        ),
        (
            {"env": [{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "spec.nonsense"}}}]},
            {},
            "unsupported fieldPath: spec.nonsense",
        ),
    ],
)
def test_what_is_missing_is_named(entry: Any, objects: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        built(container(**entry), objects)
    assert caught.value.message == message and caught.value.reason == "CreateContainerConfigError"


def test_optional_sources_may_be_missing() -> None:
    entry = container(
        envFrom=[{"configMapRef": {"name": "c", "optional": True}}],
        env=[{"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": True}}}],
    )
    assert "X" not in built(entry)


_LINES = """# begins
  A='1'
\tB='two # no comment' # one
C='x=$A
 and "more"'
D=''
E= 'nothing'
"""


@pytest.mark.parametrize(
    ("key", "value"), [("A", "1"), ("B", "two # no comment"), ("C", 'x=$A\n and "more"'), ("D", None), ("E", None)]
)
def test_a_variable_comes_from_a_file_in_a_volume(key: str, value: str | None) -> None:
    reference = {"volumeName": "v", "path": "a/b.env", "key": key, "optional": True}
    entry = container(env=[{"name": "X", "valueFrom": {"fileKeyRef": reference}}])
    assert environment.files(entry) == {("v", "a/b.env")}
    for text in (_LINES, _LINES.replace("\n", "\r\n"), _LINES + "no line"):
        assert built(entry, texts={("v", "a/b.env"): text}).get("X") == value
    assert "X" not in built(entry, texts={("v", "a/b.env"): None})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, 'there is no file "b.env" of volume "v" that can be read'),
        ("A='1'\n", 'environment variable key "X" not found in file "b.env" of volume "v"'),
        ("X=''\n", 'environment variable key "X" not found'),
        ("A='1'\nno line\nX='1'\n", "line 2 does not begin with NAME="),
        ("X ='1'", "line 1 does not begin with NAME="),
        ("='1'", "line 1 does not begin with NAME="),
        ('X="1"', "the value of line 1 is not in single quotes"),
        ("X='1'2", "something follows the value of line 1"),
        ("A='1'\n\nX='1\n2", "the quote of line 3 is not closed"),
    ],
)
def test_a_file_of_variables_that_cannot_be_read_is_said(text: str | None, message: str) -> None:
    reference = {"volumeName": "v", "path": "b.env", "key": "X"}
    entry = container(env=[{"name": "X", "valueFrom": {"fileKeyRef": reference}}])
    with pytest.raises(ConfigError, match=re.escape(message)):
        built(entry, texts={("v", "b.env"): text})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "web"),
        ("metadata.namespace", "shop"),
        ("metadata.uid", "u-1"),
        ("metadata.labels['app']", "a"),
        ("metadata.annotations['none']", ""),
        ("spec.nodeName", "node-1"),
        ("status.podIP", "10.244.1.2"),
        ("status.hostIP", "172.18.0.11"),
        ("metadata.labels", 'app="a"\nz="say \\"hi\\"\\n"'),
    ],
)
def test_fields_of_the_pod(path: str, value: str) -> None:
    entry = container(env=[{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": path}}}])
    pod = made(entry)
    pod["metadata"]["labels"] = {"z": 'say "hi"\n', "app": "a"}
    found = environment.build(pod, entry, PLACE, hostname="web", image={}, services={}, objects={}, texts={})
    assert found["X"] == value


@pytest.mark.parametrize(
    ("resource", "divisor", "value"),
    [
        ("limits.cpu", None, "1"),
        ("limits.cpu", "1m", "250"),
        ("requests.memory", "1Mi", "33"),
        ("limits.memory", "1Gi", "4"),
        ("requests.cpu", None, "0"),
    ],
)
def test_resources_of_the_container(resource: str, divisor: str | None, value: str) -> None:
    reference = {"resource": resource} | ({"divisor": divisor} if divisor else {})
    entry = container(
        resources={"limits": {"cpu": "250m"}, "requests": {"memory": "32.5Mi"}},
        env=[{"name": "X", "valueFrom": {"resourceFieldRef": reference}}],
    )
    assert built(entry)["X"] == value


@pytest.mark.parametrize(
    ("resource", "value"), [("limits.cpu", "2"), ("limits.memory", "4294967296"), ("requests.cpu", "0")]
)
def test_a_limit_that_a_container_does_not_declare_is_that_of_its_pod(resource: str, value: str) -> None:
    entry = container(env=[{"name": "X", "valueFrom": {"resourceFieldRef": {"resource": resource}}}])
    of_pod = {"requests": {"cpu": "250m"}, "limits": {"cpu": "1250m"}}
    found = environment.build(
        made(entry, resources=of_pod), entry, PLACE, hostname="web", image={}, services={}, objects={}, texts={}
    )
    assert found["X"] == value


# Services


def service(namespace: str, name: str, address: str = "10.96.0.7", ports: Any = None) -> dict[str, Any]:
    ports = ports or [{"port": 80, "name": "http"}, {"port": 53, "protocol": "UDP", "name": "dns-udp"}]
    return {"metadata": {"namespace": namespace, "name": name}, "spec": {"clusterIP": address, "ports": ports}}


def test_service_variables() -> None:
    assert service_variables([service("shop", "my-db")]) == {
        "MY_DB_SERVICE_HOST": "10.96.0.7",
        "MY_DB_SERVICE_PORT": "80",
        "MY_DB_SERVICE_PORT_HTTP": "80",
        "MY_DB_SERVICE_PORT_DNS_UDP": "53",
        "MY_DB_PORT": "tcp://10.96.0.7:80",
        "MY_DB_PORT_80_TCP": "tcp://10.96.0.7:80",
        "MY_DB_PORT_80_TCP_PROTO": "tcp",
        "MY_DB_PORT_80_TCP_PORT": "80",
        "MY_DB_PORT_80_TCP_ADDR": "10.96.0.7",
        "MY_DB_PORT_53_UDP": "udp://10.96.0.7:53",
        "MY_DB_PORT_53_UDP_PROTO": "udp",
        "MY_DB_PORT_53_UDP_PORT": "53",
        "MY_DB_PORT_53_UDP_ADDR": "10.96.0.7",
    }


def test_headless_services_give_no_variables() -> None:
    assert service_variables([service("shop", "a", "None"), service("shop", "b", "")]) == {}


def test_a_pod_hears_of_its_own_namespace_and_of_the_api_server() -> None:
    known = [service("default", "kubernetes"), service("default", "other"), service("shop", "db")]
    table = {(s["metadata"]["namespace"], s["metadata"]["name"]): s for s in known}
    names = [s["metadata"]["name"] for s in visible_services(table, "shop", True)]
    assert names == ["db", "kubernetes"]
    assert [s["metadata"]["name"] for s in visible_services(table, "shop", False)] == ["kubernetes"]
