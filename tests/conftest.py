"""For all tests: what a test decides never depends on how busy the machine is."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from podlab import paths

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
AXE = "axe-core@4.10.3"

# Hypothesis fails an example that takes longer than 200 ms unless told otherwise: a verdict on the machine.
settings.register_profile("podlab", deadline=None)
settings.load_profile("podlab")


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    """Chromium, headless; the tests are skipped, with the reason, where it is not installed."""
    if not CHROMIUM:
        pytest.skip("chromium is not installed: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def axe() -> str:
    """The text of axe-core, fetched once with npm into the cache; skipped where there is no npm or no network."""
    folder = paths.private(paths.cache() / "tests" / "axe")
    file = folder / "node_modules" / "axe-core" / "axe.min.js"
    if not file.is_file():
        npm = shutil.which("npm")
        if not npm:
            pytest.skip("npm is not installed, so that axe-core cannot be had")
        got = subprocess.run(
            [npm, "install", "--no-audit", "--no-fund", "--silent", "--prefix", str(folder), AXE],
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        if got.returncode:
            pytest.skip(f"axe-core could not be fetched: {got.stderr.strip()[:200]}")
    return Path(file).read_text()
