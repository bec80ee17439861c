"""Files of variables in a volume (`valueFrom.fileKeyRef`): NAME='value', as the kubelet reads them. Pure.

Values stand in single quotes, where everything is itself, line breaks too; `#` begins a comment. NAME= 'value' is empty
as in a shell (k8s.io/kubernetes/pkg/kubelet/util/env).
"""

from __future__ import annotations

_BLANK = " \t"


def value(text: str, key: str) -> str:
    """What the file says of `key`, "" if nothing; ValueError names the line, up to there, that cannot be."""
    lines = enumerate((line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")), start=1)
    for number, whole in lines:
        line = whole.lstrip(_BLANK)
        if not line or line.startswith("#"):
            continue
        name, equals, rest = line.partition("=")
        if not equals or not name or name.endswith(tuple(_BLANK)):
            raise ValueError(f"line {number} does not begin with NAME=")
        if rest.startswith(tuple(_BLANK)):
            found = ""
        elif not rest.startswith("'"):
            raise ValueError(f"the value of line {number} is not in single quotes")
        else:
            parts = [rest[1:]]
            while "'" not in parts[-1]:
                _, following = next(lines, (0, None))
                if following is None:
                    raise ValueError(f"the quote of line {number} is not closed")
                parts.append(following)
            found, _, after = "\n".join(parts).partition("'")
            if after.lstrip(_BLANK) and not after.lstrip(_BLANK).startswith("#"):
                raise ValueError(f"something follows the value of line {number}")
        if name == key:
            return found
    return ""
