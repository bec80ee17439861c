"""Interactions as bytes: an uncompressed .npz, the same for the same rows. Nothing is unpickled."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from movies.data.tables import COLUMNS, Interactions
from movies.errors import DataError

_STAMP = (1980, 1, 1, 0, 0, 0)
_PIECE = 2**20


def write(rows: Interactions) -> bytes:
    """The rows as bytes."""
    return npz({name: getattr(rows, name) for name in COLUMNS})


def pieces(rows: Interactions) -> Iterator[bytes]:
    """What `read` reads, a piece after the other: never a second copy of all rows, of which there may be millions."""
    out = _Pieces()
    with zipfile.ZipFile(out, "w") as archive:
        for name in COLUMNS:
            column = np.ascontiguousarray(getattr(rows, name))
            with archive.open(zipfile.ZipInfo(f"{name}.npy", _STAMP), "w") as inner:
                np.lib.format.write_array_header_1_0(inner, np.lib.format.header_data_from_array_1_0(column))
                data = column.data.cast("B") if len(column) else b""
                for start in range(0, len(data), _PIECE):
                    inner.write(data[start : start + _PIECE])
                    yield out.taken()
    yield out.taken()


class _Pieces(io.RawIOBase):
    """A file that can only be written, and keeps what was written until it is taken."""

    def __init__(self) -> None:
        self._kept = bytearray()

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any) -> int:
        """Keep some bytes."""
        self._kept += data
        return len(data)

    def taken(self) -> bytes:
        """What was written since the last time."""
        taken, self._kept = bytes(self._kept), bytearray()
        return taken


def read(data: bytes) -> Interactions:
    """The rows in `data`; DataError if it is cut short or something else."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            columns = [arrays[name] for name in COLUMNS]
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"These bytes hold no table of interactions: {error}.") from error
    if len({len(column) for column in columns}) != 1:
        raise DataError("The columns of the table are of unequal lengths.")
    return Interactions.of(*columns)


def npz(arrays: dict[str, np.ndarray]) -> bytes:
    """An uncompressed .npz without times in it, which numpy's own has."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, array in sorted(arrays.items()):
            inner = io.BytesIO()
            np.lib.format.write_array(inner, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", _STAMP), inner.getvalue())
    return out.getvalue()
