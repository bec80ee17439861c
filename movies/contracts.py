"""What the services say to each other and to the world, as types. OpenAPI is made from these.

    ingestion   POST /events                              Rating or Watch -> Accepted, or 422 with Refused
                POST /events/batch                        Batch -> BatchAnswer: each event is judged on its own
                GET  /refused?limit=                      RefusedEvents: what was set aside, latest first
                GET  /status                              IngestionStatus
    features    GET  /users/{user}/history?at_least=      HistoryAnswer
                GET  /users/{user}/features?as_of=        FeaturesAnswer
                GET  /movies                              Catalogue
                GET  /snapshot                            all rows as .npz (movies.snapshot), X-Position says how far
                GET  /status                              FeaturesStatus
    training    GET  /runs                                Runs, latest first
                POST /runs                                Run, 202: one that begins now, or the one under way
    serving     GET  /users/{user}/recommendations?n=&at_least=    Recommendations
                GET  /movies/{movie}/similar?n=           Recommendations, 404 if the model does not know the movie
                GET  /popular?n=                          Recommendations
                GET  /model                               ModelAnswer
    ui          GET  / and its pages                      HTML for people
                GET  /status                              SiteStatus, for who accepts application/json; else a page
    all         GET  /healthz /readyz /startupz           Health, 503 if not
                GET  /metrics /openapi.json
                GET  /faults, PUT /faults                 see movies.faults

The monolith answers the same under /ingestion, /features, /training and /serving, the pages of ui and what all have at
the root. `at_least` is the position of an event that was accepted: the answer waits until it is in it. Errors are
Problem: 408 slow, 413 too large, 422 not understood, 429 too many at once (Retry-After), 503 something that is needed
is away, 507 no room. What services call is typed in movies.clients.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, field_validator

#: Numbers above this are not exact in every client's JSON.
_MOST = 2**53 - 1
Id = Annotated[int, Field(ge=1, le=_MOST, description="number of a user or movie")]
Position = Annotated[int, Field(ge=0, le=_MOST, description="place in the log of events")]
_ExactId = Annotated[int, Field(strict=True, ge=1, le=_MOST, description="number of a user or movie")]


def _text(value: object) -> object:
    if value is not None and not isinstance(value, str | datetime):
        raise ValueError("a time such as 2026-01-31T20:15:00Z was expected")
    return value


Moment = Annotated[AwareDatetime, BeforeValidator(_text)]
_EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
_LATEST = datetime(2200, 1, 1, tzinfo=UTC)


class _Event(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: str = Field(
        min_length=1,
        max_length=100,
        pattern=r"^[A-Za-z0-9._:\-]+$",
        description="chosen by the sender; the same id again is the same event",
    )
    user: _ExactId
    movie: _ExactId
    at: Moment | None = Field(None, description="when it happened, with a time zone; now, if left out")

    @field_validator("at")
    @classmethod
    def _in_range(cls, value: datetime | None) -> datetime | None:
        if value is not None and not _EARLIEST <= value < _LATEST:
            raise ValueError("an event is dated between 1990 and 2200")
        return value


class Rating(_Event):
    """Somebody gave a movie stars."""

    kind: Literal["rating"]
    stars: float = Field(strict=True, ge=0.5, le=5, multiple_of=0.5)


class Watch(_Event):
    """Somebody watched a movie, or a part of it."""

    kind: Literal["watch"]
    watched: float = Field(strict=True, ge=0, le=1, description="share of the movie that was seen")


Event = Annotated[Rating | Watch, Field(discriminator="kind")]
EVENT: TypeAdapter[Rating | Watch] = TypeAdapter(Event)


class Accepted(BaseModel):
    """An event that is kept: it will be found again after any crash."""

    id: str
    position: int = Field(description="place in the log of events")
    duplicate: bool = Field(description="the id was known: nothing changed, the first event of the id counts")
    late: bool = Field(False, description="it happened more than an hour ago; it counts as of then")


class Refused(BaseModel):
    """Why an event is not kept. Sending it again does not help."""

    id: str | None = None
    reason: Literal["malformed", "unknown-movie", "future"]
    detail: str


class RefusedEvent(BaseModel):
    """An event from the stream that was set aside, as it came (the first part of it, if it is long)."""

    position: int
    reason: str
    detail: str
    raw: str


class RefusedEvents(BaseModel):
    """What was set aside, latest first."""

    events: list[RefusedEvent]


class IngestionStatus(BaseModel):
    """What this instance has done since it started, and how long the log is."""

    accepted: int
    duplicates: int
    refused: int
    position: int
    movies: int


class Batch(BaseModel):
    """Several events; each is judged on its own."""

    events: list[Any] = Field(min_length=1, max_length=500)


class BatchAnswer(BaseModel):
    """In the order of the events."""

    accepted: int
    duplicates: int
    refused: int
    results: list[Accepted | Refused]


class Row(BaseModel):
    """What a user did with one movie; `at` in seconds since 1970."""

    movie: int
    stars: float | None
    watched: float | None
    at: int


class HistoryAnswer(BaseModel):
    """Everything that a user has done, a row for each movie, latest first; all events up to `position` are in it."""

    user: int
    position: int
    rows: list[Row]


class MovieAnswer(BaseModel):
    """A movie of the catalogue; `released` in seconds since 1970, 0 if not known."""

    id: int
    title: str
    year: int
    genres: list[str]
    about: str = ""
    released: int = 0


class Catalogue(BaseModel):
    """All movies, and the name of this version of the list."""

    version: str
    movies: list[MovieAnswer]


class FeaturesAnswer(BaseModel):
    """See movies.features.UserFeatures."""

    user: int
    as_of: int
    ratings: int
    watched: int
    mean_stars: float
    days_since_last: float | None
    last_30_days: int
    genres: dict[str, float]


class FeaturesStatus(BaseModel):
    """How much features has stored, and how far behind the log it is."""

    events: int
    users: int
    position: int
    behind: int


class BecauseAnswer(BaseModel):
    """A liked movie that speaks for a recommendation, and its share of all that does."""

    movie: int
    share: float


class Recommended(BaseModel):
    """A recommended movie."""

    movie: int
    score: float
    because: list[BecauseAnswer] = []


class Recommendations(BaseModel):
    """Best first. `basis`: the user's history, the model of the last training only, or what is popular."""

    user: int | None
    basis: Literal["history", "model", "popular", "similar"]
    model: str
    items: list[Recommended]


class ModelAnswer(BaseModel):
    """The model in use, and the last one that was refused."""

    version: str
    loaded_at: float
    reloads: int
    refused: str | None
    describe: dict[str, Any]


class Run(BaseModel):
    """A training run."""

    number: int
    started_at: float
    seconds: float | None = None
    state: Literal["running", "published", "unchanged", "outrun", "failed"]
    version: str | None = None
    detail: str = ""
    gain: float | None = Field(None, description="recall of the first 10 against popularity's")


class Runs(BaseModel):
    """The last training runs, latest first."""

    runs: list[Run]


class PartStatus(BaseModel):
    """How one part is, as the site sees it: `facts` are (name, value), `troubles` sentences."""

    name: str
    what: str = Field(description="what it is for")
    state: Literal["ready", "unready", "silent"]
    milliseconds: float | None = Field(description="that it took to say so; none if it is in this process")
    facts: list[tuple[str, str]] = []
    troubles: list[str] = []


class SiteStatus(BaseModel):
    """How every part behind the site is."""

    parts: list[PartStatus]


class Health(BaseModel):
    """Whether the service may live, start or get traffic, and if not, why."""

    status: Literal["ok", "no"]
    reasons: list[str] = []


class Problem(BaseModel):
    """An error: what happened, and what to do."""

    detail: str


class StoredEvent(BaseModel):
    """An accepted event as it is in the log: times in seconds since 1970, `received` by ingestion's clock."""

    id: str = Field(min_length=1, max_length=100)
    kind: Literal["rating", "watch"]
    user: _ExactId
    movie: _ExactId
    stars: float | None = Field(strict=True, ge=0.5, le=5, multiple_of=0.5)
    watched: float | None = Field(strict=True, ge=0, le=1)
    at: int = Field(strict=True, ge=0, lt=int(_LATEST.timestamp()))
    received: int


def stored(event: Rating | Watch, now: float) -> bytes:
    """An accepted event as it is in the log."""
    return (
        StoredEvent(
            id=event.id,
            kind=event.kind,
            user=event.user,
            movie=event.movie,
            stars=event.stars if isinstance(event, Rating) else None,
            watched=event.watched if isinstance(event, Watch) else None,
            at=int(event.at.timestamp()) if event.at else int(now),
            received=int(now),
        )
        .model_dump_json()
        .encode()
    )
