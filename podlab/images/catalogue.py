"""The bundled images, made on this machine: `podlab/python` and `podlab/toolbox`.

Both are real OCI images with one small layer (/etc/passwd, /tmp, links such as /bin, mount points). What is
large stays where it is: the label `dev.podlab.host-paths` lists the host folders that a node binds read-only.
They are a function of the machine and the Python environment, so they are made anew when either changes.

    podlab/python   tags latest, 3, 3.11, 3.11.7 (this interpreter): python and python3 with the packages
                    of the environment, in /opt/podlab; borrows /usr, the interpreter and site-packages
    podlab/toolbox  tags latest, 1: sh, the machine's commands in /usr, and `fetch` and `lookup`
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podlab.images import host, layers
from podlab.images import layout as oci
from podlab.images.image import architecture
from podlab.images.layers import Entry, folder, link, text
from podlab.images.layout import Descriptor, ImageLayout, canonical_json, digest_of
from podlab.images.reference import Reference

#: Label: which bundled image an image stands on, and what it borrows from the machine (a JSON list of paths).
BASE_LABEL = "dev.podlab.base"
PATHS_LABEL = "dev.podlab.host-paths"
LABEL_PREFIX = "dev.podlab."

HOME = "/opt/podlab"
SEARCH_PATH = f"{HOME}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_TOOLS = Path(__file__).parent / "tools"

_PASSWD = """\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/:/bin/false
user:x:1000:1000:user:/home/user:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/false
"""
_GROUP = """\
root:x:0:
daemon:x:1:
tty:x:5:
user:x:1000:
nogroup:x:65534:
"""
_NSSWITCH = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\n"

#: Folders of every bundled image, with their modes.
_FOLDERS = {
    "dev": 0o755,
    "etc": 0o755,
    "home": 0o755,
    "home/user": 0o755,
    "mnt": 0o755,
    "opt": 0o755,
    "opt/podlab": 0o755,
    "opt/podlab/bin": 0o755,
    "opt/podlab/libexec": 0o755,
    "proc": 0o555,
    "root": 0o755,
    "run": 0o755,
    "srv": 0o755,
    "sys": 0o555,
    "tmp": 0o1777,
    "var": 0o755,
    "var/log": 0o755,
    "var/tmp": 0o1777,
}


@dataclass(frozen=True)
class Bundled:
    """A bundled image of this machine, ready to be stored: its blobs, and the references that mean it."""

    name: str
    references: tuple[Reference, ...]
    borrowed: host.Borrowed
    layer: bytes
    config: bytes
    manifest: bytes

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(oci.MANIFEST, digest_of(self.manifest), len(self.manifest))


def bundled(name: str) -> Bundled | None:
    """The bundled image `docker.io/podlab/python` or `docker.io/podlab/toolbox` of this machine; else None."""
    make = _CATALOGUE.get(name)
    return make() if make else None


def is_bundled_name(name: str) -> bool:
    """Whether a repository (`docker.io/podlab/python`) is one of the bundled images."""
    return name in _CATALOGUE


def store(layout: ImageLayout, image: Bundled) -> Descriptor:
    """Put a bundled image into the store, unless it is there unchanged; returns its descriptor."""
    there = layout.images()
    wanted = image.descriptor
    blobs = (wanted.digest, digest_of(image.config), digest_of(image.layer))
    if not all(map(layout.has, blobs)):
        layout.write_blob(image.layer, oci.LAYER)
        layout.write_blob(image.config, oci.CONFIG)
        layout.write_blob(image.manifest, oci.MANIFEST)
    named = {str(reference) for reference in image.references}
    if any(name not in there or there[name].digest != wanted.digest for name in named):
        layout.tag(dict.fromkeys(image.references, wanted))
    return wanted


def store_all(layout: ImageLayout) -> None:
    """Put every bundled image into the store."""
    for make in _CATALOGUE.values():
        store(layout, make())


def references() -> list[Reference]:
    """The references of all bundled images on this machine."""
    return [reference for make in _CATALOGUE.values() for reference in make().references]


def borrowable() -> set[str]:
    """Every host path that an image may borrow on this machine: nothing outside is ever bound into a pod."""
    return {path for make in _CATALOGUE.values() for path in make().borrowed.paths}


def _python() -> Bundled:
    found = host.interpreter()
    borrowed = _borrowed(found, packages=True)
    major, minor, patch = found.version
    short = f"{major}.{minor}"
    library = f"opt/podlab/lib/python{short}"
    config = (
        f"home = {Path(found.program).parent}\n"
        f"include-system-site-packages = {str(found.system_packages).lower()}\n"
        f"version = {short}.{patch}\n"
        f"executable = {found.program}\n"
    )
    entries = [
        *(folder(path) for path in ("opt/podlab/lib", library, f"{library}/site-packages")),
        link("opt/podlab/lib64", "lib"),
        text("opt/podlab/pyvenv.cfg", config),
        text(f"{library}/site-packages/borrowed.pth", _path_file(found.packages)),
        link(f"opt/podlab/bin/python{short}", found.program),
        link("opt/podlab/bin/python3", f"python{short}"),
        link("opt/podlab/bin/python", "python3"),
    ]
    tags = ("latest", str(major), short, f"{short}.{patch}")
    title, unbuffered = f"Python {short}.{patch}", {"PYTHONUNBUFFERED": "1"}
    return _image("podlab/python", tags, title, found, borrowed, entries, ["python3"], unbuffered)


def _toolbox() -> Bundled:
    found = host.interpreter()
    borrowed = _borrowed(found, packages=False)
    return _image("podlab/toolbox", ("latest", "1"), "Shell toolbox", found, borrowed, [], ["sh"], {})


_CATALOGUE = {"docker.io/podlab/python": _python, "docker.io/podlab/toolbox": _toolbox}


def _borrowed(found: host.Interpreter, *, packages: bool) -> host.Borrowed:
    private = host.private_folders()
    base = host.without(host.system(), private)
    return host.python(found, base, private=private, packages=packages)


#: Makes borrowed folders site folders, whose own .pth files are read too. But not those of editable installs: where
#: they lead to is not in the image, and every start of Python would pay for them.
_SITE_FOLDERS = """
import os, site, sys
for folder in {folders!r}:
    if folder not in sys.path:
        sys.path.append(folder)
        for name in sorted(os.listdir(folder)):
            if name.endswith('.pth') and not name.startswith('__editable__'):
                site.addpackage(folder, name, None)
"""


def _path_file(packages: tuple[str, ...]) -> str:
    """A .pth file that adds the borrowed folders. Its lines have no names of their own, so the program gets some."""
    return f"import site; exec({_SITE_FOLDERS.format(folders=packages)!r}, {{}})\n"


def _image(
    name: str,
    tags: tuple[str, ...],
    title: str,
    found: host.Interpreter,
    borrowed: host.Borrowed,
    own: list[Entry],
    command: list[str],
    environment: Mapping[str, str],
) -> Bundled:
    layer = layers.tar_bytes(_entries(name, found, borrowed, own))
    labels = {
        BASE_LABEL: name.removeprefix("podlab/"),
        PATHS_LABEL: json.dumps(list(borrowed.paths)),
        "org.opencontainers.image.title": title,
    }
    variables = {"PATH": SEARCH_PATH, "LANG": "C.UTF-8", **environment}
    config: dict[str, Any] = {
        "architecture": architecture(),
        "os": "linux",
        "created": layers.FIXED_DATE,
        "config": {
            "Env": [f"{key}={value}" for key, value in variables.items()],
            "Cmd": command,
            "WorkingDir": "/",
            "Labels": labels,
        },
        "rootfs": {"type": "layers", "diff_ids": [digest_of(layer)]},
        "history": [{"created": layers.FIXED_DATE, "created_by": f"podlab: {name} of this machine"}],
    }
    config_blob = canonical_json(config)
    manifest = {
        "schemaVersion": 2,
        "mediaType": oci.MANIFEST,
        "config": Descriptor(oci.CONFIG, digest_of(config_blob), len(config_blob)).write(),
        "layers": [Descriptor(oci.LAYER, digest_of(layer), len(layer)).write()],
    }
    references = tuple(Reference.parse(f"{name}:{tag}") for tag in tags)
    return Bundled(name, references, borrowed, layer, config_blob, canonical_json(manifest))


def _entries(name: str, found: host.Interpreter, borrowed: host.Borrowed, own: list[Entry]) -> list[Entry]:
    release = f'NAME="{name}"\nID=podlab\nPRETTY_NAME="{name} (borrows /usr of its machine)"\n'
    entries = [
        *(folder(path, mode) for path, mode in _FOLDERS.items()),
        text("etc/passwd", _PASSWD),
        text("etc/group", _GROUP),
        text("etc/nsswitch.conf", _NSSWITCH),
        text("etc/os-release", release),
        link("var/run", "/run"),
        link("opt/podlab/libexec/python3", found.program),
        *(_tool(tool) for tool in ("fetch", "lookup")),
        *own,
    ]
    table = {entry.path: entry for entry in entries}
    for path, target in borrowed.links.items():
        _add_parents(table, path.lstrip("/"))
        table.setdefault(path.lstrip("/"), link(path.lstrip("/"), target))
    for path in borrowed.paths:
        _add_parents(table, path.lstrip("/"))
        here = path.lstrip("/")
        table.setdefault(here, folder(here) if Path(path).is_dir() else text(here, ""))
    return list(table.values())


def _add_parents(table: dict[str, Entry], path: str) -> None:
    """Folders above a mount point, open to read for every user of the container."""
    parts = path.split("/")[:-1]
    for count in range(1, len(parts) + 1):
        above = "/".join(parts[:count])
        table.setdefault(above, folder(above))


def _tool(name: str) -> Entry:
    source = (_TOOLS / f"{name}.py").read_text()
    return text(f"opt/podlab/bin/{name}", f"#!{HOME}/libexec/python3 -IS\n{source}", 0o755)
