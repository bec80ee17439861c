"""Kubernetes' own tests on a cluster of ours: about sixty short ones, wherever `make conformance` has been before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from providers import PROVIDER

SUITE = Path(__file__).resolve().parents[2] / "cluster" / "conformance"


@pytest.mark.cluster
@pytest.mark.slow
def test_the_short_tests_end_as_expected():
    asked = subprocess.run([sys.executable, str(SUITE), "--is-built"], capture_output=True, text=True)
    if asked.returncode == 4:
        pytest.skip("the suite is not in the cache: `make conformance ARGS=--build-only` puts it there")
    assert asked.returncode == 0, asked.stderr
    done = subprocess.run(
        [sys.executable, str(SUITE), "--short", "--provider", PROVIDER], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "As expected." in done.stderr
