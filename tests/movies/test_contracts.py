"""Every service against its own OpenAPI: schemathesis makes requests that fit it and requests that do not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from conftest import PATIENCE
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from movies.runner import Running, free_ports, start
from podlab import waiting

#: Bounded: the contract is looked at from all sides, not searched for days.
EXAMPLES = 6
FRAME = {"/healthz", "/startupz", "/readyz", "/metrics", "/faults"}
CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
)
LIAR = """
import sys, uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from movies.contracts import Health
app = FastAPI()
@app.get("/shape", response_model=Health)
async def shape(): return JSONResponse({"status": 5})
uvicorn.run(app, port=int(sys.argv[1]), log_level="error")
"""


@pytest.mark.parametrize("name", ["ingestion", "features", "training", "serving"])
def test_a_service_keeps_its_contract(running: Running, name: str) -> None:
    assert len(judged(running.url(name), frame=name == "training")) >= 2


@pytest.mark.parametrize("accept", ["application/json", "text/html"])
def test_the_site_keeps_its_contract(running: Running, accept: str) -> None:
    assert judged(running.url("ui"), frame=False, accept=accept) == ["/status"]


def test_the_monolith_keeps_the_contracts_of_all_under_their_prefixes(tmp_path: Path) -> None:
    quick = {"MOVIES_DRAIN_SECONDS": "0", "MOVIES_CALL_SECONDS": "30"}
    with start("monolith", tmp_path, ratings=1_000, environment=quick, seconds=PATIENCE) as monolith:
        paths = judged(monolith.address, frame=False)
    assert {path.split("/")[1] for path in paths} == {"ingestion", "features", "training", "serving", "status"}


def test_a_service_that_breaks_its_contract_is_found_out() -> None:
    (port,) = free_ports(1)
    liar = subprocess.Popen([sys.executable, "-c", LIAR, str(port)])
    url = f"http://127.0.0.1:{port}"
    try:
        waiting.until(
            lambda: httpx.get(f"{url}/shape", trust_env=False).status_code == 200,
            "the liar answers", timeout=60, ignore=(httpx.HTTPError,),
        )  # fmt: skip
        with pytest.raises(BaseExceptionGroup) as caught:
            judged(url, frame=False)
    finally:
        liar.kill()
        liar.wait()
    assert "schema" in str(caught.value.exceptions).lower()


def judged(url: str, *, frame: bool, accept: str = "*/*") -> list[str]:
    """Ask operations in many ways, hold each answer against the contract; returns their paths.

    The paths that every service has are asked only with `frame`.
    """
    paths = []
    for found in schemathesis.openapi.from_url(f"{url}/openapi.json").get_all_operations():
        operation = found.ok()
        if operation.path in FRAME and not frame:
            continue
        paths.append(operation.path)

        @given(case=operation.as_strategy())
        @settings(
            max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        def keeps(case: Any) -> None:
            case.call_and_validate(checks=CHECKS, headers={"Accept": accept})

        keeps()
    return paths
