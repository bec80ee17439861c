"""Posters as SVG text, drawn from a movie's number, title and first genre. No remote asset, no script."""

from __future__ import annotations

import textwrap
from html import escape

import numpy as np

from movies.data.tables import Movie

#: Genre -> two hues in degrees, ground and figure.
_HUES = {
    "Drama": (215, 35), "Comedy": (45, 330), "Thriller": (200, 5), "Action": (15, 50), "Romance": (340, 20),
    "Adventure": (150, 40), "Crime": (255, 45), "Science Fiction": (190, 280), "Fantasy": (275, 160),
    "Mystery": (235, 60), "Animation": (100, 200), "Horror": (0, 90), "Documentary": (30, 190), "Musical": (310, 50),
    "War": (80, 20), "Western": (28, 205),
}  # fmt: skip
WIDTH, HEIGHT = 240, 360


def _shapes(rng: np.random.Generator, hue: int) -> str:
    """Three to six overlapping figures of one kind: circles, bars, hills or rays."""
    kind, count = int(rng.integers(4)), int(rng.integers(3, 7))
    drawn = []
    for number in range(count):
        x, y = (int(value) for value in rng.integers(10, (WIDTH, HEIGHT - 130)))
        size = int(rng.integers(20, 90))
        light = 45 + 35 * number // count
        paint = f'fill="hsl({(hue + 12 * number) % 360} 65% {light}%)" opacity="0.75"'
        if kind == 0:
            drawn.append(f'<circle cx="{x}" cy="{y}" r="{size}" {paint}/>')
        elif kind == 1:
            drawn.append(f'<rect x="{x - 20}" y="{y}" width="{size // 2 + 8}" height="{HEIGHT - y}" {paint}/>')
        elif kind == 2:
            base = HEIGHT - 90
            drawn.append(f'<path d="M{x - 2 * size} {base} Q{x} {y - 40} {x + 2 * size} {base} Z" {paint}/>')
        else:
            turn = int(rng.integers(360))
            drawn.append(f'<path d="M120 150 L{x} -40 L{x + size} -40 Z" transform="rotate({turn} 120 150)" {paint}/>')
    return "".join(drawn)


def poster(movie: Movie) -> str:
    """The poster of a movie as an SVG document with its title as text."""
    genre = movie.genres[0] if movie.genres else ""
    ground, figure = _HUES.get(genre, (movie.id * 47 % 360, movie.id * 91 % 360))
    rng = np.random.default_rng([movie.id & 0x7FFFFFFF, 7])
    lines = textwrap.wrap(movie.title, 17, max_lines=4, placeholder=" …") or ["Untitled"]
    size = 26 if max(map(len, lines)) <= 11 else 19
    top = HEIGHT - 26 - (len(lines) - 1) * (size + 3)
    text = "".join(
        f'<text x="16" y="{top + number * (size + 3)}">{escape(line)}</text>' for number, line in enumerate(lines)
    )
    small = escape(f"{genre.upper()}  {movie.year or ''}".strip())
    label = f'<text x="16" y="24" font-family="sans-serif" font-size="11" letter-spacing="2" fill="#fff">{small}</text>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
        f"<title>{escape(movie.title)}</title>"
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="hsl({ground} 45% 22%)"/>{_shapes(rng, figure)}'
        f'<rect y="{top - size - 18}" width="{WIDTH}" height="{HEIGHT}" fill="hsl({ground} 50% 12%)" opacity="0.88"/>'
        f'<g font-family="Georgia, serif" font-weight="700" font-size="{size}" fill="#fff">{text}</g>'
        f"{label}</svg>"
    )
