"""`$(VAR)` references in commands, arguments and environment values, as Kubernetes expands them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_REFERENCE = re.compile(r"\$(?:\$|\(([^)]*)\))")


def expand(text: str, *variables: Mapping[str, str]) -> str:
    """`text` with each `$(NAME)` replaced by the first mapping's value that has NAME.

    An unknown name stays as written, `$$` stands for one dollar sign (so that `$$(NAME)` is never expanded),
    and any other `$` is itself. Values are not expanded again.
    """

    def replace(found: re.Match[str]) -> str:
        name = found[1]
        if name is None:
            return "$"
        for mapping in variables:
            if name in mapping:
                return mapping[name]
        return found[0]

    return _REFERENCE.sub(replace, text)


def missing(text: str, variables: Mapping[str, str]) -> list[str]:
    """The names that `text` refers to and `variables` does not have."""
    return [name for name in _REFERENCE.findall(text) if name and name not in variables]


def command_line(
    container: Mapping[str, object],
    variables: Mapping[str, str],
    entrypoint: Sequence[str],
    command: Sequence[str],
) -> list[str]:
    """What a container runs: `command` of the pod replaces the image's entrypoint and command, `args` its command."""
    own_command: Sequence[str] = container.get("command") or ()  # type: ignore[assignment]
    own_args: Sequence[str] = container.get("args") or ()  # type: ignore[assignment]
    first = [expand(word, variables) for word in own_command] or list(entrypoint)
    rest = [expand(word, variables) for word in own_args]
    if not rest and not own_command:
        rest = list(command)
    return [*first, *rest]
