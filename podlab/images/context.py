"""The build context: a folder, what .dockerignore leaves of it, and what a COPY source means in it."""

from __future__ import annotations

import os
import posixpath
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from podlab.errors import ImageError

_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Found:
    """A file, folder or link of the context: `path` relative to it, `status` of the thing itself.

    `name` is the last part as it was asked for (of a link, the link's own name).
    """

    path: str
    status: os.stat_result
    name: str

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)


class Context:
    """The folder that a build may copy from; nothing outside is ever read, whatever links lead there."""

    def __init__(self, folder: Path, ignored: Sequence[str] = ()) -> None:
        self.folder = folder.resolve()
        self._rules = [rule for line in ignored if (rule := _rule(line))]

    @classmethod
    def read(cls, folder: Path, dockerfile: Path) -> Context:
        """The context in `folder`, with `DOCKERFILE.dockerignore` or `.dockerignore` applied.

        ImageError if that file cannot be read: without it secrets could get into the image.
        """
        for file in (dockerfile.with_name(dockerfile.name + ".dockerignore"), folder / ".dockerignore"):
            try:
                if file.is_file():
                    return cls(folder, file.read_text(errors="surrogateescape").splitlines())
            except OSError as error:
                raise ImageError(f"{file} cannot be read: {error.strerror}.", hint="Change its rights.") from error
        return cls(folder)

    def ignored(self, path: str) -> bool:
        """Whether .dockerignore leaves out `path` (relative): the last rule that matches it or a parent decides."""
        out = False
        for pattern, exception in self._rules:
            if out == exception and _matches_path_or_parent(pattern, path):
                out = not exception
        return out

    def sources(self, word: str) -> list[Found]:
        """What a COPY source names: one thing, or with wildcards any number; ImageError if nothing or outside."""
        path = posixpath.normpath(word.lstrip("/") or ".")
        if path == ".." or path.startswith("../"):
            raise ImageError(
                f"COPY {word}: the source lies outside the build context {self.folder}.",
                hint="Copy the file into that folder, or give a higher folder to `podlab image build`.",
            )
        if _WILD.search(path):
            names = list(self._glob(path))
        else:
            names = [path] if not self.ignored(path) or self._has_exceptions(path) else []
        found = [thing for name in names if (thing := self._look(name, word))]
        if not found:
            raise self._nothing(word, path)
        return found

    def below(self, folder: str) -> Iterator[Found]:
        """Everything in a folder of the context, at any depth, sorted, links not followed."""
        for name in sorted(os.listdir(self.folder / folder)):  # noqa: PTH208 - names, not paths, are wanted
            path = posixpath.normpath(posixpath.join(folder, name))
            status = (self.folder / path).lstat()
            left_out = self.ignored(path)
            if not left_out:
                yield Found(path, status, name)
            if stat.S_ISDIR(status.st_mode) and (not left_out or self._has_exceptions(path)):
                yield from self.below(path)

    def _has_exceptions(self, folder: str) -> bool:
        """Whether something below an ignored folder may be kept by a `!` rule."""
        return any(exception for _, exception in self._rules) and (self.folder / folder).is_dir()

    def _look(self, path: str, word: str) -> Found | None:
        """The thing at `path`, links followed as long as they stay inside the context."""
        real = Path(os.path.realpath(self.folder / path))
        if real != self.folder and self.folder not in real.parents:
            raise ImageError(
                f"COPY {word}: {path} is a link that leads out of the build context, to {real}.",
                hint="Copy the file itself into the context.",
            )
        try:
            inside = real.relative_to(self.folder).as_posix()
            return Found(inside, real.lstat(), posixpath.basename(path))
        except FileNotFoundError:
            return None

    def _glob(self, pattern: str) -> Iterator[str]:
        """Paths that match, part by part: a wildcard does not match a slash."""
        found = [""]
        for part in pattern.split("/"):
            matcher = re.compile(_translate(part))
            names = (
                (folder, name)
                for folder in found
                if (self.folder / folder).is_dir()
                for name in sorted(os.listdir(self.folder / folder))  # noqa: PTH208
            )
            found = [posixpath.join(folder, name) for folder, name in names if matcher.fullmatch(name)]
        return (path for path in found if not self.ignored(path))

    def _nothing(self, word: str, path: str) -> ImageError:
        folder = self.folder / posixpath.dirname(path)
        there = sorted(entry.name for entry in folder.iterdir())[:12] if folder.is_dir() else []
        if (self.folder / path).exists():
            return ImageError(
                f"COPY {word}: .dockerignore leaves it out of the build context.",
                hint="Remove the pattern from .dockerignore, or add an exception with '!'.",
            )
        listed = f"{folder} has: {', '.join(there)}." if there else f"There is no folder {folder}."
        return ImageError(f"COPY {word}: no such file in the build context {self.folder}.", hint=listed)


def _rule(line: str) -> tuple[re.Pattern[str], bool] | None:
    """(pattern, whether it is an exception) of a line of .dockerignore; None for comments and empty lines."""
    if line.startswith("#") or not line.strip():
        return None
    text = line.strip()
    exception = text.startswith("!")
    cleaned = posixpath.normpath(text.removeprefix("!").strip()).lstrip("/")
    return (re.compile(_translate(cleaned)), exception) if cleaned not in ("", ".") else None


def _matches_path_or_parent(pattern: re.Pattern[str], path: str) -> bool:
    parts = path.split("/")
    return any(pattern.fullmatch("/".join(parts[:count])) for count in range(len(parts), 0, -1))


def _translate(pattern: str) -> str:
    """A regular expression for Go's filepath.Match with `**` for any number of folders."""
    out, i = "", 0
    while i < len(pattern):
        character = pattern[i]
        if pattern.startswith("**", i):
            i += 2
            if pattern.startswith("/", i):
                i += 1
                out += "(?:.*/)?"
            else:
                out += ".*"
        elif character == "*":
            out, i = out + "[^/]*", i + 1
        elif character == "?":
            out, i = out + "[^/]", i + 1
        elif character == "[" and (end := pattern.find("]", i + 2)) > 0:
            inside = pattern[i + 1 : end]
            negated = "^" if inside.startswith("^") else ""
            out += f"[{negated}{re.escape(inside.removeprefix('^')).replace(chr(92) + '-', '-')}]"
            i = end + 1
        elif character == "\\" and i + 1 < len(pattern):
            out, i = out + re.escape(pattern[i + 1]), i + 2
        else:
            out, i = out + re.escape(character), i + 1
    return out
