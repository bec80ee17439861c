"""The errors of the recommender. Each says what happened, to what, and what to do next."""

from __future__ import annotations


class MoviesError(Exception):
    """Base of all errors meant for people; `exit_status` is how a process ends because of one."""

    exit_status = 1


class DataError(MoviesError):
    """A file of ratings or movies cannot be used; names the file and up to ten lines with their faults."""


class ModelRefused(MoviesError):
    """A model file is cut short, damaged or of another version; the model in use is not touched."""


class NotEnoughData(MoviesError):
    """There are too few interactions to train on."""


class Unavailable(MoviesError):
    """A service or the broker did not answer as it should; the message says which and why. Try again later."""


class BrokerError(Unavailable):
    """The broker cannot be reached or refused a message; nothing was acknowledged."""


class StorageFull(BrokerError):
    """There is no room for what should be kept; nothing was acknowledged."""


class ConfigError(MoviesError):
    """A variable of the environment has a value that cannot be used; names all such variables."""

    exit_status = 2


class ServiceFailed(MoviesError):
    """A service did not start or ended by itself; shows its last lines."""
