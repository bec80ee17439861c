"""How a file of hidden checks declares them: `CHECKS = Hidden()`, a decorator for each, and `add = CHECKS.add`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from podlab.checks.contract import Check, CheckFunction, Exercise


class Hidden:
    """The hidden checks of one chapter, in the order of their declaration."""

    def __init__(self) -> None:
        self._declared: list[tuple[str, Check]] = []

    def __call__(
        self, exercise: str, id: str, title: str, *, weight: int, needs: Sequence[str] = ()
    ) -> Callable[[CheckFunction], CheckFunction]:
        """Decorator that declares a hidden check of `exercise`; `needs` names visible or earlier checks of it."""

        def declare(function: CheckFunction) -> CheckFunction:
            self._declared.append((exercise, Check(id, title, weight, function, True, tuple(needs))))
            return function

        return declare

    def add(self, exercises: Mapping[str, Exercise]) -> None:
        """Add the checks to the exercises of the chapter; KeyError for an exercise that there is not."""
        for exercise, check in self._declared:
            exercises[exercise].add(check)
