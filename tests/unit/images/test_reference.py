from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlab.errors import ImagePullError
from podlab.images.reference import Reference

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "complete", "familiar"),
    [
        ("nginx", "docker.io/library/nginx:latest", "nginx:latest"),
        ("nginx:1.27", "docker.io/library/nginx:1.27", "nginx:1.27"),
        ("podlab/python:3.11", "docker.io/podlab/python:3.11", "podlab/python:3.11"),
        ("docker.io/nginx", "docker.io/library/nginx:latest", "nginx:latest"),
        ("index.docker.io/a/b", "docker.io/a/b:latest", "a/b:latest"),
        ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
        ("localhost:5000/x:y", "localhost:5000/x:y", "localhost:5000/x:y"),
        ("registry.k8s.io/e2e/agnhost:2.66.1",) * 2 + ("registry.k8s.io/e2e/agnhost:2.66.1",),
        ("Host/x", "Host/x:latest", "Host/x:latest"),
        ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
        (f"nginx@{DIGEST}", f"docker.io/library/nginx@{DIGEST}", f"nginx@{DIGEST}"),
        (f"nginx:1@{DIGEST}", f"docker.io/library/nginx:1@{DIGEST}", f"nginx:1@{DIGEST}"),
        ("a/b/c__d.e---f", "docker.io/a/b/c__d.e---f:latest", "a/b/c__d.e---f:latest"),
    ],
)
def test_a_reference_means_what_docker_takes_it_for(text: str, complete: str, familiar: str) -> None:
    reference = Reference.parse(text)
    assert str(reference) == complete
    assert reference.familiar == familiar


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Nginx",
        "nginx:",
        "nginx:a b",
        "nginx:" + "a" * 129,
        "nginx@sha256:12",
        f"nginx@md5:{'0' * 32}",
        "nginx@",
        "a//b",
        "/a",
        "a/",
        "a/-b",
        "a___b/c",
        "host:port/x",
        "localhost:99999/x:1",
        "localhost:0/x",
        "[::1]:70000/x",
        f"localhost:{'9' * 5000}/x",
        "https://host/x",
        "x:..",
        "x:-a",
        "a" * 256,
        "0123456789abcdef" * 4,
        "nginx\n",
        "ngïnx",
    ],
)
def test_what_is_no_reference_is_refused_as_an_invalid_name(text: str) -> None:
    with pytest.raises(ImagePullError) as refused:
        Reference.parse(text)
    assert refused.value.reason == "InvalidImageName"
    assert len(refused.value.message) < 400


_part = st.from_regex(r"[a-z0-9]{1,8}([._-][a-z0-9]{1,8})?", fullmatch=True)
_name = st.lists(_part, min_size=1, max_size=4).map("/".join)
_tag = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)


@given(_name, st.none() | _tag, st.none() | st.just(DIGEST))
def test_complete_and_familiar_forms_mean_the_same(name: str, tag: str | None, digest: str | None) -> None:
    text = name + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
    reference = Reference.parse(text)
    assert Reference.parse(str(reference)) == reference
    assert Reference.parse(reference.familiar) == reference


@given(st.text(max_size=60))
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except ImagePullError as error:
        assert error.reason == "InvalidImageName"
    else:
        assert Reference.parse(str(reference)) == reference
