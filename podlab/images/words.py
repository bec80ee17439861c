"""Words of a Dockerfile: quotes, escapes and variables, as the Dockerfile reference has them.

`$NAME`, `${NAME}`, `${NAME:-default}` and `${NAME:+instead}` are replaced outside single quotes; a backslash
takes the meaning from the next character. An unknown variable is empty.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
#: Characters that a backslash escapes within double quotes; before others it stays.
_ESCAPED_IN_QUOTES = '"$\\'


class Malformed(ValueError):
    """A word has an unclosed quote or a substitution that is not supported."""


def split(text: str) -> list[str]:
    """`text` cut at white space outside quotes; quotes and escapes stay in the words."""
    words, word, quote, i = [], "", "", 0
    while i < len(text):
        character = text[i]
        if character == "\\" and quote != "'" and i + 1 < len(text):
            word += text[i : i + 2]
            i += 2
            continue
        if quote:
            quote = "" if character == quote else quote
            word += character
        elif character.isspace():
            if word:
                words.append(word)
            word = ""
        else:
            quote = character if character in "\"'" else ""
            word += character
        i += 1
    if quote:
        raise Malformed(f"a quote ({quote}) is not closed")
    return [*words, word] if word else words


def expand(word: str, variables: Mapping[str, str]) -> str:
    """`word` with quotes and escapes resolved and variables replaced; Malformed if it cannot be read."""
    out, i, quote = [], 0, ""
    while i < len(word):
        character = word[i]
        if quote == "'":
            if character == "'":
                quote = ""
            else:
                out.append(character)
            i += 1
        elif character == "\\" and i + 1 < len(word):
            kept = quote and word[i + 1] not in _ESCAPED_IN_QUOTES
            out.append(word[i : i + 2] if kept else word[i + 1])
            i += 2
        elif character == "$":
            value, i = _variable(word, i + 1, variables)
            out.append(value)
        elif character == quote:
            quote = ""
            i += 1
        elif character in "\"'" and not quote:
            quote = character
            i += 1
        else:
            out.append(character)
            i += 1
    if quote:
        raise Malformed(f"a quote ({quote}) is not closed")
    return "".join(out)


def _variable(word: str, start: int, variables: Mapping[str, str]) -> tuple[str, int]:
    """(value, index after) of the variable whose `$` stands before `start`."""
    if not word.startswith("{", start):
        found = _VARIABLE.match(word, start)
        return (variables.get(found[0], ""), found.end()) if found else ("$", start)
    end = _closing(word, start)
    inside = word[start + 1 : end]
    name = _VARIABLE.match(inside)
    if not name:
        raise Malformed(f"${{{inside}}} names no variable")
    value, operator = variables.get(name[0]), inside[name.end() :]
    if not operator:
        return value or "", end + 1
    colon, sign = operator.startswith(":"), operator.removeprefix(":")[:1]
    given = bool(value) if colon else value is not None
    if sign not in ("-", "+"):
        raise Malformed(f"${{{inside}}} is not supported: only ${{NAME}}, ${{NAME:-default}}, ${{NAME:+instead}}")
    other = operator.removeprefix(":")[1:]
    if sign == "-":
        return (value or "") if given else expand(other, variables), end + 1
    return expand(other, variables) if given else "", end + 1


def _closing(word: str, start: int) -> int:
    depth = 0
    for i in range(start, len(word)):
        depth += {"{": 1, "}": -1}.get(word[i], 0)
        if depth == 0:
            return i
    raise Malformed("a substitution (${) is not closed")
