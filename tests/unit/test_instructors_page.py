"""docs/instructors.md names no command and no option of podlab that is not there, and each limit as it is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from podlab import cli
from podlab.checks import calls, world
from podlab.grading import house, inside, queue, submissions, worker
from podlab.grading.execution import Limits
from podlab.node import logs

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


def test_the_table_of_limits_has_each_as_it_is() -> None:
    table = PAGE.read_text().partition("## What a submission may use")[2].partition("## Known limits")[0]
    rows = {cells[1].strip(): cells[2] for line in table.splitlines() if len(cells := line.split("|")) > 3}
    mib, usual, bounds = 1024**2, Limits(), house.Bounds()
    for row, *words in (
        ("the file", f"{submissions.LARGEST_NOTEBOOK // mib} MB"),
        ("a cell", f"{usual.cell:g} s"),
        ("the notebook", f"{usual.notebook:g} s", f"and {usual.whole - usual.notebook:g} s"),
        ("a check", f"{worker.LONGEST_CHECK:g} s"),
        ("a submission", {3: "three"}[worker.ATTEMPTS], f"{queue.LONGEST / 60:g} minutes"),
        (
            "memory",
            f"{bounds.memory / 1024**3:g} GiB",
            f"{inside.PROCESS_MEMORY // mib:,}",
            f"{inside.ALL_MEMORY // mib:,}",
        ),
        ("memory", f"{calls.MOST_MEMORY // mib:,}"),
        ("processes and threads", f"{house.Box.processes} where"),
        ("disk", f"{bounds.disk // mib} MiB", f"{bounds.files:,} files"),
        ("output", f"{inside.LARGEST_OUTPUT:,} characters", f"{inside.MOST_OUTPUTS} outputs"),
        ("output", f"{inside.LARGEST_OUTPUTS // 10**6} MB of", f"{inside.LARGEST_RESULT // 10**6} MB with"),
        ("output", f"{calls.MOST_RESULTS // mib} MiB that"),
        (
            "a container of a manifest",
            world.MOST_DISK.replace("Mi", " MiB"),
            f"{logs.FILES} logs of {logs.LARGEST // mib}",
        ),
        ("claims of a manifest", f"{world.MOST_OBJECTS['persistentvolumeclaims']} in a namespace"),
    ):
        assert [word for word in words if word not in rows[row]] == [], row
