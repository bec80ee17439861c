"""Tokens in volumes: renewed in time, and no sooner."""

from __future__ import annotations

from typing import Any

import pytest
from pods import NOW, made

from podlab.node import credentials
from podlab.node.clock import timestamp
from podlab.node.credentials import TOKEN_LONGEST, TOKEN_PART, PodCredentials
from podlab.node.volume_files import Token


class Issuer:
    """Stands for the API server and for time: numbers its tokens, and gives each the life that it was asked for."""

    def __init__(self) -> None:
        self.now = NOW
        self.asked: list[dict[str, Any]] = []

    def time(self) -> float:
        return self.now

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        assert path == "/api/v1/namespaces/shop/serviceaccounts/default/token"
        self.asked.append(body["spec"])
        expires = timestamp(self.now + body["spec"]["expirationSeconds"])
        return {"status": {"token": f"token-{len(self.asked)}", "expirationTimestamp": expires}}


@pytest.mark.parametrize(("life", "renewed_after"), [(3600, 3600 * TOKEN_PART), (10 * 24 * 3600, TOKEN_LONGEST)])
async def test_a_token_is_renewed_before_it_expires(
    life: int, renewed_after: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer = Issuer()
    monkeypatch.setattr(credentials, "time", issuer)
    kept, wanted = PodCredentials(issuer, "node-1"), Token("vault", life)  # type: ignore[arg-type]

    async def token() -> str:
        return (await kept.tokens(made(), [wanted]))[wanted]

    assert await token() == "token-1"
    issuer.now += renewed_after - 2
    assert await token() == "token-1"
    issuer.now += 4
    assert await token() == "token-2"
    assert issuer.asked[0]["audiences"] == ["vault"] and issuer.asked[0]["boundObjectRef"]["uid"] == "u-1"
    assert renewed_after < life
