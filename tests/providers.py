"""The provider under test: `make test-kind` runs the same tests on a kind cluster."""

from __future__ import annotations

import os

PROVIDER = os.environ.get("PODLAB_TEST_PROVIDER", "embedded")
