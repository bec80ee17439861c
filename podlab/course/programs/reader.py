"""The reader of exercise 10.3: finds out what stands under the name of the model, whoever publishes it and however."""

import os
import tempfile

import outside  # noqa: F401 - nobody looks into this process

#: Number of a model -> its bytes.
MODELS: dict = {}
STATE: dict = {"folder": "", "held": None, "begun": b""}


def begin(models, times):
    """Models by number, as (text, repeated so many times); the new folder in which they are published."""
    MODELS.update({int(number): (text * times).encode() for number, text in models.items()})
    STATE["folder"] = tempfile.mkdtemp(dir=os.getcwd())  # noqa: PTH109
    return STATE["folder"]


def read():
    """The number of the model that a reader finds now; in words what else there is."""
    try:
        with _opened() as file:
            return _which(file.read(_most()))
    except OSError as error:
        return type(error).__name__


def begin_to_read():
    """Read the first half of it, and keep the file open."""
    try:
        STATE["held"] = _opened()
        STATE["begun"] = STATE["held"].read(_most() // 4)
    except OSError:
        STATE["held"] = None


def read_on():
    """What it was, with the rest of what was begun."""
    if STATE["held"] is None:
        return "nothing"
    with STATE["held"] as file:
        return _which(STATE["begun"] + file.read(_most()))


def _opened():
    descriptor = os.open(os.path.join(STATE["folder"], "model"), os.O_RDONLY | os.O_NONBLOCK)  # noqa: PTH118
    return os.fdopen(descriptor, "rb", buffering=0)


def _most():
    return 2 * max(map(len, MODELS.values()))


def _which(data):
    data = data or b""
    found = [number for number, model in MODELS.items() if data == model]
    return found[0] if found else f"{len(data)} bytes that are no whole model"
