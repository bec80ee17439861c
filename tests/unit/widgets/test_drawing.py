"""Pictures are well-formed XML whatever is written in them."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from podlab.widgets.drawing import Page

SVG = "{http://www.w3.org/2000/svg}"


def drawn(words: str) -> ET.Element:
    page = Page()
    page.text(1, 1, words)
    page.rect(1, 1, 1, 1, title=f"x{words}")
    return ET.fromstring(page.document(10, words).encode())


@given(st.text(st.characters(codec=None)))
def test_any_words_can_be_drawn(words: str) -> None:
    drawn(words)


def test_what_xml_cannot_hold_is_left_out_and_the_rest_stays() -> None:
    picture = drawn("\x1b[31mred\ud83d \x00<&>\t\U0001f600\ufffe")
    expected = "[31mred <&>\t\U0001f600"
    text, title = picture.find(f"{SVG}text"), picture.find(f"{SVG}rect/{SVG}title")
    assert text is not None and title is not None
    assert (text.text, title.text, picture.get("aria-label")) == (expected, f"x{expected}", expected)
