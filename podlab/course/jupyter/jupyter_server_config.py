"""What the learner's JupyterLab is told by Jupyter's own configuration: where the tiles are, and what they open."""

import json
from pathlib import Path

from podlab.lab.chapters import tiles

c = get_config()  # type: ignore[name-defined] # noqa: F821 (Jupyter puts it there)
c.LabApp.extra_labextensions_path = [str(Path(__file__).with_name("labextensions"))]
c.ServerApp.tornado_settings = {"page_config_data": {"podlabTiles": json.dumps(tiles())}}
