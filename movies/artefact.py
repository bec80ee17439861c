"""A model as bytes: a first line that names the format, a line of JSON, and an .npz with the arrays.

The JSON holds the length and the SHA-256 of what follows, so that a file that is cut short, damaged or of another
version is refused before any of it is used. Damage in the JSON itself shows in the model's name, the hash of all bytes,
which `movies.models.fetch` compares. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import asdict
from typing import Any

import numpy as np
import scipy.sparse as sparse

from movies.errors import ModelRefused
from movies.snapshot import npz
from movies.training import Evaluation, Model, Recipe

FORMAT = "movies-model"
VERSION = 1
_FIRST = f"{FORMAT} {VERSION}\n".encode()
_ARRAYS = ("movies", "movie_factors", "users", "user_factors", "popularity")


def write(model: Model) -> bytes:
    """The model as bytes; equal models give equal bytes."""
    payload = npz({name: getattr(model, name) for name in _ARRAYS} | _parts(model.seen))
    header = {
        "length": len(payload),
        "sha256": hashlib.sha256(payload).hexdigest(),
        "recipe": asdict(model.recipe),
        "as_of": model.as_of,
        "rows": model.rows,
        "evaluation": asdict(model.evaluation) if model.evaluation else None,
    }
    return _FIRST + json.dumps(header, sort_keys=True).encode() + b"\n" + payload


def version(data: bytes) -> str:
    """The name of a model: 12 digits of the hash of its bytes."""
    return hashlib.sha256(data).hexdigest()[:12]


def read(data: bytes) -> Model:
    """The model in `data`; ModelRefused says what is wrong with it."""
    header, payload = _opened(data)
    try:
        with np.load(io.BytesIO(payload), allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
        seen = sparse.csr_matrix(
            (np.ones(len(found["indices"]), np.float32), found["indices"], found["indptr"]),
            (len(found["users"]), len(found["movies"])),
        )
        evaluation = Evaluation(**header["evaluation"]) if header["evaluation"] else None
        model = Model(
            **{name: found[name] for name in _ARRAYS},
            seen=seen,
            recipe=Recipe(**header["recipe"]),
            as_of=header["as_of"],
            rows=header["rows"],
            evaluation=evaluation,
        )
    except (KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ModelRefused(f"The model's contents do not fit together: {error}.") from error
    _check(model)
    return model


def _opened(data: bytes) -> tuple[dict[str, Any], bytes]:
    first, _, rest = data.partition(b"\n")
    words = first.decode("ascii", "replace").split()
    if len(words) != 2 or words[0] != FORMAT:
        raise ModelRefused(f"This is no model: its first line is {first[:40]!r}.")
    if words[1] != str(VERSION):
        raise ModelRefused(f"The model has format version {words[1][:20]}; version {VERSION} is what can be read.")
    line, newline, payload = rest.partition(b"\n")
    try:
        header = json.loads(line)
        length, digest = int(header["length"]), str(header["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelRefused("The model's header is cut short or damaged.") from error
    if not newline or len(payload) != length:
        raise ModelRefused(f"The model is cut short: {len(payload)} of {length} bytes are there.")
    if hashlib.sha256(payload).hexdigest() != digest:
        raise ModelRefused("The model is damaged: its bytes are not those that were published.")
    return header, payload


def _check(model: Model) -> None:
    movies, users = len(model.movies), len(model.users)
    shapes = (
        model.movie_factors.shape[:1] == (movies,)
        and model.user_factors.shape == (users, *model.movie_factors.shape[1:])
        and model.popularity.shape == (movies,)
    )
    finite = all(np.isfinite(part).all() for part in (model.movie_factors, model.user_factors, model.popularity))
    if not shapes or not finite or not movies:
        raise ModelRefused("The model's arrays are of unequal sizes or hold values that are no numbers.")


def _parts(seen: sparse.csr_matrix) -> dict[str, np.ndarray]:
    seen = seen.sorted_indices()
    return {"indices": seen.indices.astype(np.int32), "indptr": seen.indptr.astype(np.int64)}
