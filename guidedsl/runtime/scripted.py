"""Draws that are not left to chance: what stands for a noise and answers for each family itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import wraps
from typing import Any

from torch import Tensor

DrawFunction = Callable[..., tuple[Tensor, Tensor]]


class Scripted(ABC):
    """Passed to a guide as its noise, it is asked for each draw of a family of `distributions`."""

    @abstractmethod
    def draw(self, family: Any, draw: DrawFunction, args: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        """What `draw(noise, *args)` of the family is to give; `args` begin with the shape."""


def scriptable(family: Any) -> DrawFunction:
    """`draw` of a family, which leaves its answer to a noise that is `Scripted`."""
    draw: DrawFunction = family.draw

    @wraps(draw)
    def drawn(noise: Any, *args: Any) -> tuple[Tensor, Tensor]:
        return noise.draw(family, draw, args) if isinstance(noise, Scripted) else draw(noise, *args)

    return drawn
