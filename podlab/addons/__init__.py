"""Add-ons of a cluster: monitoring, logging and Spark, made from the real programs.

`enable` brings one into a cluster and returns when it is ready, `disable` takes it away with its data, `status` says
how it is. What is enabled is written in the cluster itself, as a label of its objects, and nowhere else.
"""

from __future__ import annotations

from podlab.addons.catalogue import TABLE, Addon
from podlab.addons.life import Status, disable, enable, status

__all__ = ["TABLE", "Addon", "Status", "disable", "enable", "status"]
