"""docs/instructors.md names no command and no option of podlab that is not there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from podlab import cli

PAGE = Path(__file__).parents[2] / "docs" / "instructors.md"


def spans(text: str) -> list[str]:
    """What the page sets as code, each in one line: spans, which may be broken, and the lines of blocks."""
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    inline = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [" ".join(each.split()) for each in [*inline, *"".join(blocks).splitlines()]]


def commands(text: str) -> list[str]:
    return sorted({each for each in spans(text) if each.startswith("podlab ")})


def parse(line: str) -> Any:
    """The command that a line calls, once its options and arguments have been told apart; click's error otherwise."""
    command: Any = typer.main.get_command(cli.app)
    context, rest = command.context_class(command, info_name="podlab"), shlex.split(line)[1:]
    while hasattr(command, "commands"):
        name, command, rest = command.resolve_command(context, rest)
        context = command.context_class(command, info_name=name, parent=context)
    _, left, _ = command.make_parser(context).parse_args(args=list(rest))
    assert left == [], f"`{line}` has more arguments than `{context.command_path}` takes"
    return command


def options(command: Any) -> set[str]:
    return {name for each in command.params for name in (*each.opts, *each.secondary_opts)}


PAGES_COMMANDS = commands(PAGE.read_text())


@pytest.mark.parametrize("line", PAGES_COMMANDS)
def test_each_command_on_the_page_is_one(line: str) -> None:
    parse(line)


def test_each_option_that_the_page_names_alone_is_one_of_its_commands() -> None:
    known = set().union(*(options(parse(line)) for line in PAGES_COMMANDS))
    named = {each.split()[0] for each in spans(PAGE.read_text()) if each.startswith("--")}
    assert named and named <= known


@pytest.mark.parametrize(
    "line", ["podlab grades", "podlab grade --renewed", "podlab course nothing", "podlab doctor x"]
)
def test_what_is_not_there_is_noticed(line: str) -> None:
    assert commands(f"Say `{line.replace(' ', chr(10))}`.\n\n```\ncd x\n{line}\n```\n") == [line]
    with pytest.raises(Exception, match=r"No such (command|option)|more arguments"):
        parse(line)
