"""The learner's surface. `from podlab.lab import start`, then `lab = start("15")`; everything else hangs on `lab`."""

from podlab.lab.connection import LabError
from podlab.lab.lab import Lab, start

__all__ = ["Lab", "LabError", "start"]
