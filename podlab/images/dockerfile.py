"""Reading Dockerfiles: the subset that can be built without running anything.

FROM, COPY, ENV, WORKDIR, ENTRYPOINT, CMD, EXPOSE, USER and LABEL, with comments, line continuations and both
forms of each, as the Dockerfile reference describes them. Everything else is refused by line number, with what
to do instead; all problems of a file are told at once. Variables are replaced later, by podlab.images.build.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from podlab.errors import DockerfileError
from podlab.images.words import Malformed, split

#: Instructions that are refused, with the reason and what to do.
REFUSED = {
    "RUN": "a build here runs no commands. Do the work beforehand and COPY its result; the packages of this "
    "environment are in podlab/python already",
    "ADD": "use COPY (unpack archives and fetch files beforehand)",
    "ARG": "use ENV, or write the value itself",
    "VOLUME": "declare the volume in the pod (spec.volumes)",
    "HEALTHCHECK": "Kubernetes ignores it; declare probes in the pod",
    "STOPSIGNAL": "make the program end on SIGTERM",
    "SHELL": 'use the exec form, such as CMD ["bash", "-c", "..."]',
    "ONBUILD": "write the instructions in the Dockerfile that needs them",
    "MAINTAINER": "use LABEL org.opencontainers.image.authors=...",
}
_SHELL = ("/bin/sh", "-c")
_FLAG = re.compile(r"--([a-z]+)(?:=(\S*))?(?:\s+|$)")
_DIRECTIVE = re.compile(r"#\s*([a-z]+)\s*=\s*(\S+)\s*$", re.IGNORECASE)
_CONTINUED = re.compile(r"\\[ \t]*$")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


@dataclass(frozen=True)
class Instruction:
    """One instruction: `words` or `pairs` are its arguments as written (variables and quotes still in them).

    For CMD and ENTRYPOINT `words` is the final argument vector. `original` is the source on one line.
    """

    line: int
    keyword: str
    original: str
    words: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    flags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """A Dockerfile: the reference after FROM, and the instructions that follow it."""

    base: Instruction
    instructions: tuple[Instruction, ...]


class _Problem(Exception):
    """What is wrong with one instruction."""


def parse(text: str, name: str = "Dockerfile") -> Recipe:
    """Return the recipe in `text`; DockerfileError lists every problem with its line, calling the file `name`."""
    problems: list[tuple[int, str]] = []
    instructions: list[Instruction] = []
    for line, logical in _logical_lines(text, problems):
        try:
            instructions.append(_instruction(line, logical))
        except (_Problem, Malformed) as error:
            problems.append((line, str(error)))
    # An unreadable line may have been the FROM, so order is only judged in files whose lines can be read.
    if not problems:
        problems += _order(instructions)
    if problems:
        known = f"Known instructions: {', '.join(_READERS)}."
        raise refused(name, problems, hint="\n" + known)
    return Recipe(instructions[0], tuple(instructions[1:]))


def refused(name: str, problems: list[tuple[int, str]], hint: str | None = None) -> DockerfileError:
    """The error that tells `problems`: pairs of line number (0: the file as a whole) and text."""
    told = [f"line {line}: {what}" if line else what for line, what in sorted(problems)]
    count = "1 problem" if len(told) == 1 else f"{len(told)} problems"
    return DockerfileError(f"{name} has {count}:\n" + "\n".join(f"  {line}" for line in told), hint=hint)


def _order(instructions: list[Instruction]) -> list[tuple[int, str]]:
    if not instructions:
        return [(0, "it has no instructions. It should begin with FROM, such as FROM podlab/python:3.")]
    problems = []
    if instructions[0].keyword != "FROM":
        problems.append((instructions[0].line, "the first instruction must be FROM, such as FROM podlab/python:3"))
    for instruction in instructions[1:]:
        if instruction.keyword == "FROM":
            problems.append((instruction.line, "a second FROM: one stage is all that a build has here"))
    return problems


def _logical_lines(text: str, problems: list[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """(number of the first line, text) of each instruction; comments and empty lines left out."""
    directives = True
    start = 0
    parts: list[str] = []
    for number, raw in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        stripped = raw.strip()
        if stripped.startswith("#"):
            directive = _DIRECTIVE.fullmatch(stripped) if directives and not parts else None
            if directive and directive[1].lower() == "escape" and directive[2] != "\\":
                problems.append((number, f"the escape character {directive[2]} is not known here: use \\"))
            directives = directives and bool(directive)
            continue
        directives = False
        if not stripped:
            continue
        if not parts:
            start = number
        continued = _CONTINUED.search(raw)
        parts.append(raw[: continued.start()] if continued else raw)
        if not continued:
            yield start, "".join(parts).strip()
            parts = []
    if parts:
        yield start, "".join(parts).strip()


def _instruction(line: int, logical: str) -> Instruction:
    keyword, _, rest = logical.partition(" ") if " " in logical else _split_tab(logical)
    keyword, rest = keyword.upper(), rest.strip()
    if keyword in REFUSED:
        raise _Problem(f"{keyword} is not supported: {REFUSED[keyword]}")
    read = _READERS.get(keyword)
    if read is None:
        raise _Problem(f"unknown instruction {keyword[:40]!r}")
    if not rest:
        raise _Problem(f"{keyword} needs arguments")
    flags: dict[str, str] = {}
    while keyword in _FLAGS and (flag := _FLAG.match(rest)):
        if flag[1] not in _FLAGS[keyword]:
            raise _Problem(f"{keyword} --{flag[1]} is not supported{_FLAG_HINTS.get(flag[1], '')}")
        if not flag[2]:
            raise _Problem(f"{keyword} --{flag[1]} needs a value (--{flag[1]}=...)")
        flags[flag[1]] = flag[2]
        rest = rest[flag.end() :]
    words, pairs = read(keyword, rest)
    original = " ".join(f"{keyword} {logical[len(keyword) :].strip()}".split())
    return Instruction(line, keyword, original, words, pairs, flags)


def _split_tab(logical: str) -> tuple[str, str, str]:
    return logical.partition("\t")


#: Flags known by instruction. The others of COPY and FROM are refused by name.
_FLAGS: dict[str, tuple[str, ...]] = {"COPY": ("chown", "chmod"), "FROM": ()}
_FLAG_HINTS = {
    "from": ": there is one stage only. COPY from the context",
    "platform": ": images are for this machine",
}

_Arguments = tuple[tuple[str, ...], tuple[tuple[str, str], ...]]


def _from(_: str, rest: str) -> _Arguments:
    words = rest.split()
    if len(words) == 3 and words[1].upper() == "AS":
        words = words[:1]
    if len(words) != 1:
        raise _Problem("FROM takes one image, such as FROM podlab/python:3")
    return (words[0],), ()


def _copy(_: str, rest: str) -> _Arguments:
    words = _json_words(rest) if rest.startswith("[") else tuple(rest.split())
    if any(word.startswith("<<") for word in words):
        raise _Problem("here-documents are not supported: put the text into a file and COPY it")
    if len(words) < 2:
        raise _Problem("COPY takes at least one source and a destination")
    return words, ()


def _pairs(keyword: str, rest: str) -> _Arguments:
    """`KEY=value ...`, or the old form `KEY rest of the line`."""
    words = split(rest)
    if "=" not in words[0]:
        name, _, value = rest.partition(" ")
        if not value.strip():
            raise _Problem(f"{keyword} {name} needs a value: {keyword} {name}=...")
        pairs = [(name, value.strip())]
    else:
        pairs = []
        for word in words:
            name, equals, value = word.partition("=")
            if not equals:
                raise _Problem(f"{word[:60]!r} has no '=': write {keyword} NAME=VALUE, with quotes around spaces")
            pairs.append((name, value))
    for name, _ in pairs:
        if keyword == "ENV" and not _NAME.fullmatch(name):
            raise _Problem(f"{name[:60]!r} is no name of a variable")
        if not name.strip("\"'"):
            raise _Problem(f"{keyword} with an empty name")
    return (), tuple(pairs)


def _argv(keyword: str, rest: str) -> _Arguments:
    if not rest.startswith("["):
        return (*_SHELL, rest), ()
    try:
        return _json_words(rest), ()
    except _Problem:
        if rest.endswith("]"):
            raise
        return (*_SHELL, rest), ()


def _json_words(text: str) -> tuple[str, ...]:
    try:
        words = json.loads(text)
    except ValueError:
        words = None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise _Problem(f'{text[:60]} is no list of words: write ["a", "b"] with double quotes')
    return tuple(words)


def _several(_: str, rest: str) -> _Arguments:
    return tuple(split(rest)), ()


def _one(keyword: str, rest: str) -> _Arguments:
    if keyword == "USER" and len(rest.split()) != 1:
        raise _Problem("USER takes one user, such as USER 1000 or USER name:group")
    return (rest,), ()


_READERS: dict[str, Callable[[str, str], _Arguments]] = {
    "FROM": _from,
    "COPY": _copy,
    "ENV": _pairs,
    "LABEL": _pairs,
    "WORKDIR": _one,
    "USER": _one,
    "EXPOSE": _several,
    "CMD": _argv,
    "ENTRYPOINT": _argv,
}
