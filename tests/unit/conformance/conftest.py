"""The suite's own modules are scripts beside their data; tests find them there."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[3] / "cluster" / "conformance"))
