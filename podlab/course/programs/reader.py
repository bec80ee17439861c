"""The reader of exercise 10.3: finds out what stands under the name of the model, whoever publishes it and however.

Each publishing is a process of its own, in an interpreter of its own; what became of it, and what happened to the name
meanwhile, is seen here, by the kernel's word. Standard library only.
"""

import contextlib
import ctypes
import json
import os
import resource
import socket
import struct
import subprocess
import sys
import tempfile

import outside  # noqa: F401 - nobody looks into this process

NAME = "model"
#: `python -c _PUBLISHER SOCKET FOLDER`: publishes what it is given, with the function of the source that comes first.
_PUBLISHER = r"""
import json, signal, socket, sys, types

link = socket.socket(fileno=int(sys.argv[1]))
lines = link.makefile("rb")
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
module = sys.modules["answer"] = types.ModuleType("answer")
told = {}
try:
    exec(compile(json.loads(next(lines)), "<answer>", "exec"), vars(module))
    link.sendall(b"made\n")
    module.publish(sys.argv[2], lines.read(int(next(lines))))
except Exception as error:
    told["error"] = type(error).__name__ + (": " + str(error)[:150] if str(error) else "")
link.sendall(json.dumps(told).encode() + b"\n")
"""
# What the kernel tells of the names in a folder: see inotify(7).
IN_MODIFY, IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE = 0x2, 0x40, 0x80, 0x100, 0x200
IN_DELETE_SELF, IN_MOVE_SELF = 0x400, 0x800

#: Number of a model -> its bytes.
MODELS: dict = {}
STATE: dict = {"folder": "", "held": None, "begun": b""}


def begin(models, times):
    """Models by number, as (text, repeated so many times), to be published in a new folder."""
    MODELS.update({int(number): (text * times).encode() for number, text in models.items()})
    STATE["folder"] = tempfile.mkdtemp(dir=os.getcwd())  # noqa: PTH109


def publish(source, number, most, patience):
    """Have a model published; None if that took longer than `patience` seconds.

    `most`: bytes after which the kernel cuts a write short and ends the process; 0: none. What is said: `error`, what
    was raised; `died`, the signal that ended the process; `happened`, what became of a model that stood there before.
    """
    stood = os.path.lexists(os.path.join(STATE["folder"], NAME))  # noqa: PTH118
    with _watched(STATE["folder"]) as events:
        told = _published(source, MODELS[number], most, patience)
        return told if told is None else told | {"happened": _happened(events()) if stood else []}


def _published(source, model, most, patience):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(patience)
        process = subprocess.Popen(
            [sys.executable, "-c", _PUBLISHER, str(theirs.fileno()), STATE["folder"]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        line = b""
        try:
            with ours.makefile("rb") as lines:
                ours.sendall(json.dumps(source).encode() + b"\n")
                line = lines.readline()
                if line == b"made\n":
                    if most:
                        # The soft limit and the hard one: who has no rights cannot lift it.
                        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (most, most))
                    ours.sendall(b"%d\n%b" % (len(model), model))
                    line = lines.readline()
        except TimeoutError:
            return None
        except OSError:  # it has ended
            line = b""
        finally:
            with contextlib.suppress(subprocess.TimeoutExpired):
                if not line.endswith(b"\n"):
                    process.wait(patience)
            process.kill()
            process.wait()
    return _said(line) if line.endswith(b"\n") else {"died": max(0, -process.returncode)}


def _said(line):
    try:
        error = json.loads(line).get("error", "")
    except (ValueError, AttributeError):
        error = "what is no answer"
    return {"error": str(error)[:200]} if error else {}


@contextlib.contextmanager
def _watched(folder):
    """A function that gives what has happened to names in the folder so far: [(mask, name)]."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "inotify_init1")
    try:
        mask = IN_MODIFY | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF
        if libc.inotify_add_watch(descriptor, os.fsencode(folder), mask) < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch")
        yield lambda: list(_events(descriptor))
    finally:
        os.close(descriptor)


def _events(descriptor):
    with contextlib.suppress(BlockingIOError):
        while data := os.read(descriptor, 65536):
            while data:
                _, mask, _, length = struct.unpack_from("iIII", data)
                yield mask, os.fsdecode(data[16 : 16 + length].rstrip(b"\0"))
                data = data[16 + length :]


def _happened(events):
    """What became of a model that stood there: "away", "written"; nothing where another took its name in one step."""
    found, moved = set(), False
    for mask, name in events:
        if mask & (IN_DELETE_SELF | IN_MOVE_SELF):
            found.add("away")
        if name != NAME:
            continue
        # Who exchanges two names moves it away, too; then it does not come again.
        if mask & IN_DELETE or (moved and mask & (IN_CREATE | IN_MOVED_TO)):
            found.add("away")
        if mask & IN_MODIFY:
            found.add("written")
        moved = moved or bool(mask & IN_MOVED_FROM)
    return sorted(found)


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
    descriptor = os.open(os.path.join(STATE["folder"], NAME), os.O_RDONLY | os.O_NONBLOCK)  # noqa: PTH118
    return os.fdopen(descriptor, "rb", buffering=0)


def _most():
    return 2 * max(map(len, MODELS.values()))


def _which(data):
    data = data or b""
    found = [number for number, model in MODELS.items() if data == model]
    return found[0] if found else f"{len(data)} bytes that are no whole model"
