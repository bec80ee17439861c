"""The errors that a user may see. Each says what happened, to what, and what to do next."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path


class PodlabError(Exception):
    """Base of all errors meant for people: `message` is what happened to what, `hint` is what to do next."""

    exit_status = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback: the message, which says all that a learner can use."""
        return [str(self)]


class UsageError(PodlabError):
    """What was asked for cannot be meant: a name, a path or a combination of options is wrong."""

    exit_status = 2


class EnvironmentUnsuitable(PodlabError):
    """The machine lacks something that the task needs (kernel feature, version, space, permission)."""

    exit_status = 3


#: The disk is full; what is there may not be changed.
_FULL, _REFUSED = (errno.ENOSPC, errno.EDQUOT), (errno.EACCES, errno.EPERM, errno.EROFS)


def of_a_file(error: OSError) -> EnvironmentUnsuitable | None:
    """An error of the system about a file or a disk, in words; None if it is about something else (a socket, say)."""
    return None if error.filename is None and error.errno not in _FULL else _in_words(error)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Raise EnvironmentUnsuitable where `path`, podlab's own, cannot be written to; other errors stay what they are."""
    try:
        yield
    except OSError as error:
        if error.errno not in (*_FULL, *_REFUSED):
            raise
        error.filename = error.filename or str(path)
        said = _in_words(error)
        said.hint = f"{said.hint} PODLAB_HOME moves podlab's own files."
        raise said from error


def _in_words(error: OSError) -> EnvironmentUnsuitable:
    name = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename
    what = "A file cannot be written" if name is None else f"{name} cannot be used"
    hint = "Give a place of which you may read and write the files, or change its rights, and try again."
    if error.errno in _FULL:
        hint = "Make room there (`df -h` shows which disk is full), then try again."
    elif error.errno not in _REFUSED:
        hint = "Is it the right place? PODLAB_DEBUG=1 shows what podlab was doing."
    return EnvironmentUnsuitable(f"{what}: {error.strerror}.", hint=hint)


class BinaryError(PodlabError):
    """A Kubernetes binary could not be found, fetched, verified or built."""


class ClusterError(PodlabError):
    """A cluster operation failed; the cluster's own state is untouched unless the message says otherwise."""


class AddonError(PodlabError):
    """An add-on could not be brought into a cluster or be asked; names the part and its own words."""


class ClusterNotFound(ClusterError):
    """No cluster of that name exists."""


class ClusterExists(ClusterError):
    """A cluster of that name exists already."""


class StepFailed(ClusterError):
    """One named step of bring-up or shut-down failed; what had been started was ended again."""


class WaitTimeout(PodlabError):
    """A named condition did not come true before its deadline; the message shows the last state seen."""


class ImageError(PodlabError):
    """An image could not be built, found, read or unpacked."""


class DockerfileError(ImageError):
    """A Dockerfile has an instruction that is unknown, unsupported or malformed; names the line."""


class BlobCorrupted(ImageError):
    """A stored blob is not what its digest says; names the file, the digest wanted and the one found."""


class ImagePullError(ImageError):
    """An image cannot be given to a container; `reason` is the word that goes into the pod's status.

    Reasons: ErrImagePull, ErrImageNeverPull, InvalidImageName.
    """

    def __init__(self, message: str, *, reason: str = "ErrImagePull", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class RuntimeRefused(PodlabError):
    """The container runtime refused a request; `reason` is the word that goes into the pod's status."""

    def __init__(self, message: str, *, reason: str = "RunContainerError", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class GradingError(PodlabError):
    """Grading could not be done; no score was changed."""


class LaboratoryError(PodlabError):
    """A laboratory of distributed computing could not do what was asked; names the node, worker or message."""


class NodeFailed(LaboratoryError):
    """A node's code raised an exception; the message says what it was handling, and the run's seed and time."""


class WorkerFailed(LaboratoryError):
    """A worker process ended otherwise than it should; shows its exit status and its last lines."""
