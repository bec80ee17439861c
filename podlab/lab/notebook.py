"""The notebook around the lab: its names, its display, a line of progress; plain prints where there is none."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Mapping
from html import escape
from typing import Any


def shell() -> Any:
    """IPython's shell, if there is one."""
    if "IPython" not in sys.modules:
        return None
    from IPython import get_ipython

    return get_ipython()


def user_names() -> Mapping[str, Any]:
    ours = shell()
    return ours.user_ns if ours is not None else vars(sys.modules["__main__"])


def display_it(thing: Any) -> None:
    if shell() is None:
        print(thing)
        return
    from IPython.display import display

    display(thing)


class Bundle:
    def __init__(self, data: Mapping[str, str]) -> None:
        self.data = dict(data)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return self.data

    def __repr__(self) -> str:
        return self.data["text/plain"]


class ProgressLine:
    """One line of progress that replaces itself, in a notebook; nothing elsewhere."""

    def __init__(self) -> None:
        self.handle: Any = None

    def say(self, text: str) -> None:
        """Show `text` in place of what was shown."""
        if shell() is None:
            return
        from IPython.display import HTML, display

        page = HTML(f'<div role="status">{escape(text)}</div>')
        if self.handle is None:
            self.handle = display(page, display_id=f"podlab-{secrets.token_hex(4)}")
        elif self.handle is not None:
            self.handle.update(page)

    def end(self) -> None:
        """Clear the line."""
        if self.handle is not None:
            from IPython.display import HTML

            self.handle.update(HTML(""))
