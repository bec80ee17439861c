from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlab.errors import DockerfileError
from podlab.images.dockerfile import REFUSED, parse


def test_every_known_instruction_is_read_with_its_line() -> None:
    recipe = parse(
        """\
# syntax=docker/dockerfile:1

FROM podlab/python:3 AS only
label a=b c="d e"
ENV OLD form of it
ENV A=1 \\
    # a comment between

    B="x y"
WORKDIR /app
COPY --chown=1000:1000 --chmod=755 a b /app/
COPY ["with space", "/x"]
EXPOSE 8080 9090/udp
USER nobody
ENTRYPOINT ["python"]
CMD echo $HOME
"""
    )
    assert recipe.base.words == ("podlab/python:3",)
    found = [(i.line, i.keyword, i.words or i.pairs) for i in recipe.instructions]
    assert found == [
        (4, "LABEL", (("a", "b"), ("c", '"d e"'))),
        (5, "ENV", (("OLD", "form of it"),)),
        (6, "ENV", (("A", "1"), ("B", '"x y"'))),
        (10, "WORKDIR", ("/app",)),
        (11, "COPY", ("a", "b", "/app/")),
        (12, "COPY", ("with space", "/x")),
        (13, "EXPOSE", ("8080", "9090/udp")),
        (14, "USER", ("nobody",)),
        (15, "ENTRYPOINT", ("python",)),
        (16, "CMD", ("/bin/sh", "-c", "echo $HOME")),
    ]
    assert recipe.instructions[4].flags == {"chown": "1000:1000", "chmod": "755"}


@pytest.mark.parametrize("keyword", sorted(REFUSED))
def test_an_unsupported_instruction_is_refused_with_line_and_advice(keyword: str) -> None:
    with pytest.raises(DockerfileError) as refused:
        parse(f"FROM scratch\n\n{keyword} something here\n")
    assert f"line 3: {keyword} is not supported" in refused.value.message
    assert REFUSED[keyword] in refused.value.message


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("COPY --from=build /a /b", "--from is not supported"),
        ("COPY --chown= a b", "--chown needs a value"),
        ("COPY one", "at least one source and a destination"),
        ("COPY <<EOF /x", "here-documents"),
        ("COPY ['a', 'b']", "double quotes"),
        ("CMD ['a']", "double quotes"),
        ("CMD", "needs arguments"),
        ("ENV A", "needs a value"),
        ("ENV A=1 B", "has no '='"),
        ("ENV 1A=x", "no name of a variable"),
        ("ENV A='x", "not closed"),
        ("FROM other", "second FROM"),
        ("USER a b", "one user"),
        ("FRMO x", "unknown instruction 'FRMO'"),
        ("EOF", "unknown instruction 'EOF'"),
        ("FROM --platform=linux/s390x x", "--platform is not supported"),
    ],
)
def test_a_malformed_line_is_refused_by_number(line: str, part: str) -> None:
    with pytest.raises(DockerfileError) as refused:
        parse(f"FROM scratch\nENV OK=1\n{line}\n", "Other")
    assert "Other has 1 problem" in refused.value.message
    assert "line 3: " in refused.value.message
    assert part in refused.value.message


def test_all_problems_are_told_at_once_in_order() -> None:
    with pytest.raises(DockerfileError) as refused:
        parse("FROM scratch\nRUN pip install x\nADD a b\nCOPY a\n")
    lines = refused.value.message.splitlines()
    assert lines[0] == "Dockerfile has 3 problems:"
    assert [line.split(":")[0].strip() for line in lines[1:]] == ["line 2", "line 3", "line 4"]


@pytest.mark.parametrize("text", ["", "\n# nothing\n", "ENV A=1\n"])
def test_a_dockerfile_begins_with_from(text: str) -> None:
    with pytest.raises(DockerfileError, match="FROM"):
        parse(text)


def test_another_escape_character_is_refused() -> None:
    with pytest.raises(DockerfileError, match="line 1: the escape character"):
        parse("# escape=`\nFROM scratch\n")


@pytest.mark.parametrize(
    ("text", "argv"),
    [
        ('CMD ["a", "b c"]', ("a", "b c")),
        ("CMD a  'b c'", ("/bin/sh", "-c", "a  'b c'")),
        ("CMD [ -f /x ] && y", ("/bin/sh", "-c", "[ -f /x ] && y")),
        ("CMD []", ()),
    ],
)
def test_exec_and_shell_forms(text: str, argv: tuple[str, ...]) -> None:
    assert parse(f"FROM scratch\n{text}\n").instructions[0].words == argv


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse(text)
    except DockerfileError as error:
        assert "problem" in error.message


@given(st.lists(st.sampled_from(["ENV A=1", "CMD x", "RUN y", "# c", "", "COPY a b", "WAT"]), max_size=8))
def test_every_refused_line_is_named_and_no_other(lines: list[str]) -> None:
    bad = {number for number, line in enumerate(lines, 2) if line.startswith(("RUN", "WAT"))}
    try:
        parse("\n".join(["FROM scratch", *lines]))
        named = set()
    except DockerfileError as error:
        named = {int(line.split()[1].rstrip(":")) for line in error.message.splitlines()[1:]}
    assert named == bad
