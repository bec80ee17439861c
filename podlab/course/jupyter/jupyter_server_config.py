"""What the learner's JupyterLab is told by Jupyter's own configuration: tiles and what they open, and its kernels."""

import json
from pathlib import Path

from jupyter_client.kernelspec import NATIVE_KERNEL_NAME, KernelSpec, KernelSpecManager

from podlab.lab.chapters import tiles


class Kernels(KernelSpecManager):
    """Python's kernels say what to run first: a new one knows nothing, and no cell can tell it what to say of that."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        spec = super().get_kernel_spec(kernel_name)
        if kernel_name == NATIVE_KERNEL_NAME:
            spec.argv = [*spec.argv, "--IPKernelApp.extra_extensions=podlab.course.new_kernel"]
        return spec


c = get_config()  # type: ignore[name-defined] # noqa: F821 (Jupyter puts it there)
c.LabApp.extra_labextensions_path = [str(Path(__file__).with_name("labextensions"))]
c.ServerApp.kernel_spec_manager_class = Kernels
c.ServerApp.tornado_settings = {"page_config_data": {"podlabTiles": json.dumps(tiles())}}
