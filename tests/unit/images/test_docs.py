"""docs/images.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from typer.main import get_command

from podlab.commands.image import app
from podlab.images.dockerfile import _READERS, REFUSED

TEXT = (Path(__file__).parents[3] / "docs" / "images.md").read_text()


def test_every_refused_instruction_is_listed_and_no_other() -> None:
    assert re.findall(r"^\| ([A-Z]+) \|", TEXT.split("| refused |")[1], re.M) == list(REFUSED)


def test_every_known_instruction_is_listed_and_no_other() -> None:
    rows = re.findall(r"^\| ([A-Z, ]+) \|", TEXT.split("| instruction |")[1].split("Everything else")[0], re.M)
    assert sorted(", ".join(rows).split(", ")) == sorted(_READERS)


def test_every_command_exists() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    named = set(re.findall(r"^podlab image (\w+)", TEXT, re.M))
    assert named == set(commands)
