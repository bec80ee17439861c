from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlab.images.words import Malformed, expand, split

VARIABLES = {"A": "one", "EMPTY": "", "PATH": "/bin"}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("$A", "one"),
        ("${A}x", "onex"),
        ("$Ax", ""),
        ("/app:$PATH", "/app:/bin"),
        ("\\$A", "$A"),
        ("'$A'", "$A"),
        ('"$A b"', "one b"),
        ('"a\\"b"', 'a"b'),
        ('"a\\nb"', "a\\nb"),
        ("a\\ b", "a b"),
        ("${NO:-else}", "else"),
        ("${A:-else}", "one"),
        ("${EMPTY:-else}", "else"),
        ("${EMPTY-else}", ""),
        ("${NO-$A}", "one"),
        ("${A:+yes}", "yes"),
        ("${NO:+yes}", ""),
        ("${EMPTY:+yes}", ""),
        ("${EMPTY+yes}", "yes"),
        ("${NO:-${A}}", "one"),
        ("100$", "100$"),
        ("$1", "$1"),
    ],
)
def test_words_are_expanded_as_the_dockerfile_reference_says(word: str, value: str) -> None:
    assert expand(word, VARIABLES) == value


@pytest.mark.parametrize("word", ["${A", "${}", "${A#x}", "'open", '"open', "${A:?error}"])
def test_what_cannot_be_expanded_is_refused(word: str) -> None:
    with pytest.raises(Malformed):
        expand(word, VARIABLES)


def test_words_are_split_outside_quotes() -> None:
    assert split("a=1 b=\"x y\" c='p  q' d=e\\ f") == ["a=1", 'b="x y"', "c='p  q'", "d=e\\ f"]


@given(st.lists(st.from_regex(r"[a-z0-9=/._-]{1,10}", fullmatch=True), max_size=6))
def test_plain_words_survive(words: list[str]) -> None:
    assert split("  ".join(words)) == words
    assert [expand(word, {}) for word in words] == words


@given(st.text())
def test_double_quotes_keep_any_text_whose_special_characters_are_escaped(text: str) -> None:
    quoted = '"' + "".join("\\" + c if c in '"\\$' else c for c in text) + '"'
    assert expand(quoted, {}) == text
    assert split(quoted) == [quoted]
