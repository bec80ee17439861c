"""The four services behind the site, how to ask several of them at once, and how to see what state they are in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import httpx
from pydantic import ValidationError

from movies import telemetry
from movies.clients import Clients
from movies.contracts import Health
from movies.errors import Unavailable

T = TypeVar("T")
State = Literal["ready", "unready", "silent"]
NAMES = ("ingestion", "features", "training", "serving")


@dataclass(frozen=True)
class Others:
    """The services, and how many seconds a page waits for them: all are asked at once, so that is for all."""

    ask: Clients
    seconds: float

    async def attempt(self, call: Awaitable[T]) -> T | Unavailable:
        """The answer, or why there is none in time: what is asked together is not to fail together."""
        try:
            async with asyncio.timeout(self.seconds):
                return await call
        except Unavailable as trouble:
            return trouble
        except TimeoutError:
            return Unavailable(f"No answer came within {self.seconds:g} s.")
        except ValidationError as error:
            return Unavailable(f"The answer cannot be understood: {str(error)[:200]}")


@dataclass(frozen=True)
class Ready:
    """How a service is: ready, unready or silent, and why. `seconds` that it took to say so, None in this process.

    `resting`: calls are kept away from it for now.
    """

    name: str
    state: State
    seconds: float | None
    reasons: tuple[str, ...] = ()
    resting: bool = False


async def readiness(name: str, service: Any, url: str, client: httpx.AsyncClient, seconds: float) -> Ready:
    """Whether a service wants traffic. Asked past the breaker: the status page is to see what is there now."""
    if (peer := getattr(service, "peer", None)) is None:  # in this process, as in the monolith
        reason = service.unready()
        return Ready(name, "unready" if reason else "ready", None, (reason,) if reason else ())
    began = time.perf_counter()
    state, reasons = await _asked(f"{url}/readyz", client, seconds)
    return Ready(name, state, time.perf_counter() - began, reasons, peer.open)


async def _asked(url: str, client: httpx.AsyncClient, seconds: float) -> tuple[State, tuple[str, ...]]:
    try:
        async with asyncio.timeout(seconds):
            answer = await client.get(url, headers=telemetry.headers())
        health = Health.model_validate_json(answer.content)
    except TimeoutError:
        return "silent", (f"did not answer within {seconds:g} s",)
    except ValidationError:
        return "silent", (f"answered with status {answer.status_code}, and nothing that can be understood",)
    except httpx.HTTPError as error:
        return "silent", (f"cannot be reached ({type(error).__name__})",)
    return ("ready", ()) if health.status == "ok" else ("unready", tuple(health.reasons))
