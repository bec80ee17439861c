"""Interactions as bytes: an uncompressed .npz, the same for the same rows. Nothing is unpickled."""

from __future__ import annotations

import io
import zipfile

import numpy as np

from movies.data.tables import COLUMNS, Interactions
from movies.errors import DataError

_STAMP = (1980, 1, 1, 0, 0, 0)


def write(rows: Interactions) -> bytes:
    """The rows as bytes."""
    return npz({name: getattr(rows, name) for name in COLUMNS})


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
