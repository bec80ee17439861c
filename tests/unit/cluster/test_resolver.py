from __future__ import annotations

import pytest

from podlab.cluster.embedded.resolver import VARIABLE, resolver
from podlab.errors import UsageError


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("", []),
        ("192.0.2.1", ["192.0.2.1", 53]),
        ("127.0.0.1:5353", ["127.0.0.1", 5353]),
        ("2001:db8::1", ["2001:db8::1", 53]),
        ("[::1]:5353", ["::1", 5353]),
    ],
)
def test_addresses_with_and_without_a_port(given: str, found: list[str | int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, given)
    assert resolver() == found


@pytest.mark.parametrize(
    "given", ["dns.example", "192.0.2.1:dns", "192.0.2.1:65536", "192.0.2.1:0", "[::1", "[::1]x", ":53"]
)
def test_anything_else_is_refused_in_words(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, given)
    with pytest.raises(UsageError, match=VARIABLE) as error:
        resolver()
    assert "127.0.0.1:5353" in (error.value.hint or "")
