"""Paths for Python programs in a pod of the plain runtime: volumes, and the image's own files. Standard library only.

A path of the container is translated where Python itself opens, looks at or changes a file. Libraries in C that open
files themselves see the machine's paths.
"""

import builtins
import io
import os

#: Functions of the module os whose first argument is a path, and those whose first two are.
_ONE = (
    *("access", "chdir", "chmod", "chown", "getxattr", "lchown", "listdir", "lstat", "mkdir", "mkfifo"),
    *("open", "pathconf", "readlink", "remove", "rmdir", "scandir", "stat", "statvfs", "truncate", "unlink", "utime"),
)
_TWO = ("rename", "replace", "link")


class Paths:
    """Translates the container's absolute paths."""

    def __init__(self, described):
        #: (path of the container, real path), the longest first.
        self._places = [tuple(place) for place in described["places"]]
        #: What is a real path already; and what programs see of the machine itself.
        self._real, self._machine = tuple(described["real"]), tuple(described["machine"])
        self._root = described["root"]

    def real(self, path):
        """Where a path of the container is on this machine; anything but an absolute path as it is."""
        name = os.fspath(path) if isinstance(path, os.PathLike) else path
        if isinstance(name, bytes):
            return os.fsencode(self.real(os.fsdecode(name)))
        if not isinstance(name, str) or not name.startswith("/"):
            return path
        if any(_within(name, real) for real in self._real):
            return path
        for here, there in self._places:
            if _within(name, here):
                return there + name[len(here) :]
        if any(_within(name, here) for here in self._machine):
            return path
        return self._root + name

    def install(self):
        """Translate for this process from now on."""
        builtins.open = io.open = self._first(io.open)
        for name in _ONE:
            if hasattr(os, name):
                setattr(os, name, self._first(getattr(os, name)))
        for name in _TWO:
            setattr(os, name, self._second(getattr(os, name)))
        symlink = os.symlink
        os.symlink = lambda target, path, *rest, **more: symlink(target, self.real(path), *rest, **more)

    def change_ssl(self, ssl):
        """OpenSSL reads certificates itself: translate the paths that it is given."""
        context = ssl.SSLContext
        chain, locations = context.load_cert_chain, context.load_verify_locations

        def load_cert_chain(made, certfile, keyfile=None, password=None):
            return chain(made, self.real(certfile), keyfile and self.real(keyfile), password)

        def load_verify_locations(made, cafile=None, capath=None, cadata=None):
            return locations(made, cafile and self.real(cafile), capath and self.real(capath), cadata)

        context.load_cert_chain, context.load_verify_locations = load_cert_chain, load_verify_locations

    def _first(self, function):
        def translated(*arguments, **named):
            if arguments:
                arguments = (self.real(arguments[0]), *arguments[1:])
            elif "path" in named:
                named["path"] = self.real(named["path"])
            return function(*arguments, **named)

        return _like(translated, function)

    def _second(self, function):
        def translated(first, second, *rest, **named):
            return function(self.real(first), self.real(second), *rest, **named)

        return _like(translated, function)


def _like(made, function):
    made.__name__ = getattr(function, "__name__", "translated")
    made.__doc__ = function.__doc__
    return made


def _within(path, folder):
    return path == folder or path.startswith(folder + "/")
