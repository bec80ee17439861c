"""What every Python program in a pod of the plain runtime loads first: the pod's addresses, names and paths.

PODLAB_PLAIN names a JSON file (podlab.node.runtime.plain.places.describe). Sockets and files are translated when
their modules are imported, so that a program without a network pays nothing. Standard library only.
"""

import json
import os
import sys


def _load(name, path):
    import importlib.util

    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class _Hook:
    """Changes a module right after its import; `changes` maps names to what is done to the module."""

    def __init__(self, changes):
        self._changes = changes

    def find_spec(self, name, path=None, target=None):
        if name == "uvloop":
            # Its sockets are made in C, where no address is translated; programs fall back to asyncio's own loop.
            raise ModuleNotFoundError("uvloop cannot be used in pods of the plain runtime", name=name)
        change = self._changes.pop(name, None)
        if change is None:
            return None
        from importlib.machinery import PathFinder

        spec = PathFinder.find_spec(name, path)
        if spec and spec.loader:
            execute = spec.loader.exec_module

            def exec_module(module):
                execute(module)
                change(module)

            spec.loader.exec_module = exec_module
        return spec


def _begin():
    with open(os.environ["PODLAB_PLAIN"], encoding="utf-8") as file:
        described = json.load(file)
    files = _load("podlab_plain_files", os.path.join(os.path.dirname(__file__), "podlab_plain_files.py"))
    paths = files.Paths(described)

    def sockets(module):
        names = _load("podlab_plain_names", os.path.join(os.path.dirname(__file__), "podlab_plain_names.py"))
        names.install(module, _load("podlab_plain_fiction", described["fiction"]), described)

    changes = {"socket": sockets, "ssl": paths.change_ssl}
    for name in [name for name in changes if name in sys.modules]:
        changes.pop(name)(sys.modules[name])
    sys.meta_path.insert(0, _Hook(changes))
    paths.install()


if "PODLAB_PLAIN" in os.environ:
    try:
        _begin()
    except BaseException as error:
        # Without the translation a program would speak to this machine's network in the belief that it is the pod's.
        sys.stderr.write(f"podlab: this program cannot be a pod's: {error!r}\n")
        sys.stderr.flush()
        os._exit(128)
