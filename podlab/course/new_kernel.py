"""An extension of IPython: a kernel that was started again says which cells it needs.

`podlab lab` loads it into the kernels of its JupyterLab; elsewhere there is only Python's own NameError.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

WORDS = (
    "`lab` comes from the first code cell of the notebook, which has not run in this kernel: one that was started, or "
    "restarted, knows nothing of earlier runs. Choose Run > Run All Above Selected Cell, then run this cell again."
)


def load_ipython_extension(shell: Any) -> None:
    """Say so below the error, which IPython shows as ever."""
    shell.set_custom_exc((NameError,), _explain)


def _explain(
    shell: Any, kind: type[NameError], error: NameError, trace: TracebackType, tb_offset: int | None = None
) -> None:
    if error.name == "lab" and "lab" not in shell.user_ns:
        error.add_note(WORDS)
    shell.showtraceback((kind, error, trace), tb_offset=tb_offset)
