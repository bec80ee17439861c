"""Settings from the environment. The table below is all there is; `python -m movies settings` prints it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from movies.errors import ConfigError

PREFIX = "MOVIES_"


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number < 65536:
        raise ValueError("a port is from 0 to 65535")
    return number


def _positive(text: str) -> float:
    number = float(text)
    if not 0 <= number < 1e9:
        raise ValueError("a number from 0 was expected")
    return number


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError("a whole number from 0 was expected")
    return number


def _more_than_none(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """As `read`, but not 0, with which the service would refuse everything."""

    def more(text: str) -> Any:
        if not (number := read(text)):
            raise ValueError("a number above 0 was expected")
        return number

    return more


def _flag(text: str) -> bool:
    known = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False, "": False}
    if text.lower() not in known:
        raise ValueError("1 or 0 was expected")
    return known[text.lower()]


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise ValueError("a URL such as http://serving:8000 was expected")
    return text.rstrip("/")


def _broker(text: str) -> str:
    if not text.startswith(("nats://", "file:")):
        raise ValueError("nats://HOST:PORT or file:FOLDER was expected")
    return text


def _level(text: str) -> str:
    if text.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise ValueError("DEBUG, INFO, WARNING or ERROR was expected")
    return text.upper()


def _setting(default: Any, read: Callable[[str], Any], help_: str) -> Any:
    return field(default=default, metadata={"read": read, "help": help_})


@dataclass(frozen=True)
class Settings:
    """What a service is told from outside."""

    host: str = _setting("127.0.0.1", str, "address to listen on")
    port: int = _setting(8000, _port, "port to listen on")
    broker: str = _setting("nats://127.0.0.1:4222", _broker, "nats://HOST:PORT, or file:FOLDER for a log of its own")
    data: Path = _setting(Path("movies-data"), Path, "folder for what a service derives from the log")  # noqa: RUF009
    ingestion_url: str = _setting("http://127.0.0.1:8001", _url, "where ingestion is")
    features_url: str = _setting("http://127.0.0.1:8002", _url, "where features are")
    training_url: str = _setting("http://127.0.0.1:8003", _url, "where training is")
    serving_url: str = _setting("http://127.0.0.1:8004", _url, "where serving is")
    log_level: str = _setting("INFO", _level, "DEBUG, INFO, WARNING or ERROR")
    drain_seconds: float = _setting(3.0, _positive, "after SIGTERM: unready, but still answering, for so long")
    stop_seconds: float = _setting(20.0, _positive, "after that: how long requests under way may take to end")
    body_bytes: int = _setting(1_000_000, _more_than_none(_count), "the largest request body")
    body_seconds: float = _setting(
        10.0, _more_than_none(_positive), "how long a client may take to send headers, or a body"
    )
    max_in_flight: int = _setting(64, _more_than_none(_count), "requests at once; more get 429")
    call_seconds: float = _setting(1.0, _more_than_none(_positive), "how long a service waits for another")
    stream_bytes: int = _setting(2**30, _more_than_none(_count), "bytes that each stream of the broker may hold")
    duplicate_seconds: float = _setting(3600.0, _positive, "how long the broker remembers the ids of events")
    future_seconds: float = _setting(300.0, _positive, "how far ahead of our clock an event may be dated")
    train_after: int = _setting(200, _count, "train when so many new events came; 0: do not")
    train_every: float = _setting(0.0, _positive, "train every so many seconds; 0: do not")
    profile: bool = _setting(False, _flag, "1: count processor time by part (movies_processor_seconds_total)")
    faults: bool = _setting(False, _flag, "1: allow PUT /faults, which harms the service on purpose")
    fault: str = _setting("", str, "faults from the start, such as slow=0.5,failing=0.1")


def read(environment: Mapping[str, str]) -> Settings:
    """Settings from variables such as MOVIES_PORT; ConfigError names every variable that is wrong."""
    table = {PREFIX + one.name.upper(): one for one in fields(Settings)}
    found: dict[str, Any] = {}
    problems = []
    for name, value in environment.items():
        if not name.startswith(PREFIX):
            continue
        if name not in table:
            problems.append(f"{name} is not known; there are {', '.join(table)}")
            continue
        try:
            found[table[name].name] = table[name].metadata["read"](value)
        except ValueError as error:
            problems.append(f"{name}={value!r}: {error}")
    if problems:
        raise ConfigError("The environment has settings that cannot be used: " + "; ".join(sorted(problems)) + ".")
    return Settings(**found)


def describe() -> list[tuple[str, str, str]]:
    """(variable, default, meaning) of every setting."""
    return [(PREFIX + one.name.upper(), str(one.default), one.metadata["help"]) for one in fields(Settings)]
