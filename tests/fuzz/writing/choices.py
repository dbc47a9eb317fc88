"""Where the choices of a random program come from: a seed, or hypothesis, which can shrink them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hypothesis import strategies as st

T = TypeVar("T")


class Choices:
    """Everything that is chosen at random is made of whole numbers; 0 is the simplest choice."""

    def __init__(self, number: Callable[[int, int], int]) -> None:
        self._number = number

    @staticmethod
    def seeded(seed: int) -> Choices:
        return Choices(random.Random(seed).randint)

    @staticmethod
    def drawn(draw: Callable[..., Any]) -> Choices:
        return Choices(lambda low, high: int(draw(st.integers(low, high))))

    def number(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        return self._number(low, high) if high > low else low

    def pick(self, options: Sequence[T]) -> T:
        return options[self.number(0, len(options) - 1)]

    def text(self, *options: str) -> str:
        return self.pick(options)

    def chance(self, percent: int) -> bool:
        """True in so many of a hundred cases, which are the least simple ones."""
        return self.number(0, 99) >= 100 - percent

    def some(self, options: Sequence[T], most: int) -> tuple[T, ...]:
        """Up to `most` different ones, in any order."""
        left, found = list(options), list[T]()
        for _ in range(self.number(0, min(most, len(left)))):
            found.append(left.pop(self.number(0, len(left) - 1)))
        return tuple(found)
