"""A kernel of the learner's JupyterLab, started as it starts them: what it says of a `lab` that is not there."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from jupyter_client.manager import KernelManager
from traitlets.config.loader import PyFileConfigLoader

from podlab.commands.lab import JUPYTER
from podlab.course.new_kernel import WORDS

Run = Callable[[str], list[str]]


@pytest.fixture
def run(kernel: Run) -> Run:
    """run(cell) in the kernel, which knows no names of other tests."""
    assert kernel("%reset -f") == []
    return kernel


@pytest.fixture(scope="module")
def kernel() -> Iterator[Run]:
    """run(cell): the lines of the error that the cell ends in, without colours; none if it ends well."""
    told = PyFileConfigLoader("jupyter_server_config.py", str(JUPYTER)).load_config()
    manager = KernelManager(kernel_spec_manager=told.ServerApp.kernel_spec_manager_class())
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=120)

        def given(cell: str) -> list[str]:
            errors: list[str] = []

            def note(message: dict) -> None:
                if message["header"]["msg_type"] == "error":
                    errors.extend(line for part in message["content"]["traceback"] for line in part.splitlines())

            client.execute_interactive(f"%colors nocolor\n{cell}", timeout=120, output_hook=note)
            return errors

        yield given
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_a_new_kernel_says_which_cells_to_run(run: Run) -> None:
    told = run('float(lab.score("01.1"))')
    assert told[-2:] == ["NameError: name 'lab' is not defined", WORDS]


def test_of_other_names_and_where_there_is_a_lab_it_says_what_python_says(run: Run) -> None:
    assert run("answer")[-1] == "NameError: name 'answer' is not defined"
    assert run("lab = print\nlab(1)") == []
    assert run("del lab\ndef read():\n    lab = lab\nlab = 1\nread()")[-1].startswith("UnboundLocalError")
    assert run("1 / 0")[-1] == "ZeroDivisionError: division by zero"
