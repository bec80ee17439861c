"""What must hold for the repository as a whole."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
#: Where code may sleep: one module for podlab and the tests; programs of pods, where podlab is not; movies, which
#: stands alone, when it tries again.
SLEEPERS = {
    "podlab/waiting.py",
    "podlab/lab/four_ways/driver.py",
    "podlab/lab/four_ways/words.py",
    "movies/background.py",
    "movies/runner.py",
    "movies/services/ingestion.py",
    "movies/web.py",
}


def test_no_two_test_modules_share_a_name() -> None:
    """pytest imports test modules by their bare names; two of one name cannot be collected together."""
    names = Counter(path.name for path in TESTS.rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []


def test_whoever_waits_waits_for_a_condition() -> None:
    """`asyncio.sleep(0)` lets others have their turn and is no sleep; neither is what a program in a text does."""
    files = [file for folder in ("podlab", "movies", "tests") for file in (ROOT / folder).rglob("*.py")]
    assert {file.relative_to(ROOT).as_posix() for file in files if sleeps(file.read_text())} == SLEEPERS


def sleeps(source: str) -> bool:
    """Whether a function `sleep` is called with anything but 0."""
    if "sleep(" not in source:
        return False
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return any(
        ast.unparse(call.func).rpartition(".")[2] == "sleep" and [ast.unparse(each) for each in call.args] != ["0"]
        for call in calls
    )
