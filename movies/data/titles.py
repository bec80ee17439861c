"""Invented titles and one-sentence stories, the same for the same random numbers. Any likeness is chance."""

from __future__ import annotations

import numpy as np

GENRES = (
    "Drama", "Comedy", "Thriller", "Action", "Romance", "Adventure", "Crime", "Science Fiction",
    "Fantasy", "Mystery", "Animation", "Horror", "Documentary", "Musical", "War", "Western",
)  # fmt: skip
#: Share of movies that have each genre as their first.
GENRE_SHARES = (22, 18, 9, 9, 7, 6, 5, 5, 4, 4, 3, 3, 2, 1, 1, 1)

_ADJECTIVES = (
    "Quiet", "Crooked", "Hollow", "Golden", "Last", "Borrowed", "Paper", "Midnight", "Distant", "Broken", "Silver",
    "Restless", "Second", "Forgotten", "Slow", "Burning", "Northern", "Patient", "Invisible", "Salted", "Wandering",
    "Lesser", "Glass", "Unfinished", "Scarlet", "Gentle", "Copper", "Sleepless", "Ordinary", "Electric",
)  # fmt: skip
_NOUNS = (
    "Harbour", "Orchard", "Letter", "Lantern", "Winter", "Bridge", "Garden", "Mirror", "Carousel", "Signal", "River",
    "Cartographer", "Inheritance", "Tide", "Kitchen", "Compass", "Sparrow", "Theatre", "Station", "Umbrella",
    "Machine", "Island", "Clockmaker", "Promise", "Shadow", "Waltz", "Voyage", "Archive", "Lighthouse", "Echo",
    "Neighbour", "Ledger", "Comet", "Violin", "Staircase", "Astronomer", "Market", "Ferry", "Witness", "Apprentice",
)  # fmt: skip
_PLACES = (
    "Marrowgate", "Low Vesper", "Ostrava Street", "Cape Tern", "Halloway", "the Ninth Floor", "Saint Orla",
    "Lindenau", "the Salt Road", "Petrel Bay", "Old Karst", "Amberley", "the Far Bank", "Quillon", "Mount Ravel",
)  # fmt: skip
_NAMES = (
    "Ada", "Ines", "Tomas", "Yuki", "Leonie", "Omar", "Greta", "Ravi", "Noor", "Felix", "Maya", "Ilse", "Jonas",
    "Zoë", "Mateo", "Anouk", "Søren", "Lucía", "Émile", "Kofi",
)  # fmt: skip
_PATTERNS = (
    "The {adjective} {noun}", "{adjective} {noun}", "The {noun} of {place}", "{name} and the {noun}",
    "A {noun} in {place}", "{name}'s {adjective} {noun}", "The {noun} and the {other}", "Goodbye, {place}",
    "{adjective} as the {noun}", "Waiting for {name}", "The {adjective} {noun} of {place}", "{noun} & {other}",
)  # fmt: skip
_PEOPLE = (
    "a retired ferry pilot", "two estranged sisters", "a night-shift nurse", "an honest forger", "a village choir",
    "a runaway accountant", "three apprentices", "a lighthouse keeper", "a travelling cook", "a failed magician",
    "a young cartographer", "an unlucky detective",
)  # fmt: skip
_EVENTS = (
    "inherits a {noun} that nobody else can see", "has one night to cross {place}",
    "finds a letter that was posted forty years late", "must choose between {place} and the truth",
    "returns to {place} and learns who left the {noun}", "builds a {noun} that works only once",
    "takes a wrong train to {place}", "is the only witness when the {noun} disappears",
    "promises {name} something that cannot be kept", "wakes up in {place} on the wrong day",
)  # fmt: skip
_TONES = {
    "Drama": "A quiet story", "Comedy": "A warm farce", "Thriller": "A tight puzzle", "Action": "A breathless chase",
    "Romance": "A love story", "Adventure": "A long journey", "Crime": "A caper", "Science Fiction": "A near future",
    "Fantasy": "A fable", "Mystery": "A riddle", "Animation": "Drawn by hand", "Horror": "Not for the dark",
    "Documentary": "A patient portrait", "Musical": "With eleven songs", "War": "A story of a truce",
    "Western": "Dust and debts",
}  # fmt: skip


def _pick(rng: np.random.Generator, words: tuple[str, ...]) -> str:
    return words[int(rng.integers(len(words)))]


def _words(rng: np.random.Generator) -> dict[str, str]:
    noun, other = (_NOUNS[int(number)] for number in rng.choice(len(_NOUNS), 2, replace=False))
    return {
        "adjective": _pick(rng, _ADJECTIVES),
        "noun": noun,
        "other": other,
        "place": _pick(rng, _PLACES),
        "name": _pick(rng, _NAMES),
    }


def title(rng: np.random.Generator, taken: set[str]) -> str:
    """A title that is not in `taken`; added to it. When words run out, a sequel."""
    text = ""
    for _ in range(8):
        text = _pick(rng, _PATTERNS).format(**_words(rng))
        if text not in taken:
            break
    number, wanted = 2, text
    while wanted in taken:
        wanted, number = f"{text} {number}", number + 1
    taken.add(wanted)
    return wanted


def story(rng: np.random.Generator, genre: str) -> str:
    """What the movie is about, in one sentence."""
    words = _words(rng)
    words["noun"] = words["noun"].lower()
    person = _pick(rng, _PEOPLE)
    event = _pick(rng, _EVENTS).format(**words)
    if person.startswith(("two", "three")):
        verb, _, rest = event.partition(" ")
        plural = {"has": "have", "is": "are", "must": "must", "finds": "find", "promises": "promise"}
        event = f"{plural.get(verb, verb.removesuffix('s'))} {rest}"
    return f"{_TONES[genre]}: {person} {event}."
