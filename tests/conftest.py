"""For all tests: what a test decides never depends on how busy the machine is."""

from __future__ import annotations

from hypothesis import settings

# Hypothesis fails an example that takes longer than 200 ms unless told otherwise: a verdict on the machine.
settings.register_profile("podlab", deadline=None)
settings.load_profile("podlab")
