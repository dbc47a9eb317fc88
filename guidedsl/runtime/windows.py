"""Windows of stochastic steps: the average iterate, whether iterates are stationary, and how the loss went."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Any

import torch
from torch import Tensor

SEEN = 2.0
"""A change of the mean loss is seen when it is this many of its standard errors."""


@dataclass(frozen=True)
class Gain:
    """By how much a mean loss fell, and the standard error of that."""

    value: float
    error: float

    def matters(self, least: float = 0.0) -> bool:
        """Whether it is more than chance, and more than `least`."""
        return self.value > max(SEEN * self.error, least)

    @staticmethod
    def between(before: list[float], after: list[float]) -> Gain:
        """From the losses of some steps to those of others; without two of each, more than can be told."""
        if len(before) < 2 or len(after) < 2:
            return Gain(math.inf, 0.0)
        error = math.sqrt(variance(before) / len(before) + variance(after) / len(after))
        return Gain(fmean(before) - fmean(after), error)

    def __str__(self) -> str:
        return f"{self.value:.2g} ± {self.error:.2g}"


class Window:
    """Running sums of the iterates [n] of one window from `start` on, its halves apart, and their losses."""

    def __init__(self, start: Tensor, length: int) -> None:
        self.length = length
        self.taken = 0
        self._sums = [torch.zeros_like(start), torch.zeros_like(start)]
        self._squares = [torch.zeros_like(start), torch.zeros_like(start)]
        self._start = start
        self._losses: tuple[list[float], list[float]] = ([], [])

    def add(self, x: Tensor, loss: float) -> None:
        """Takes one iterate, and the loss on the way to it."""
        half = 0 if self.taken < self.length // 2 else 1
        offset = x - self._start  # sums of squares of the iterates themselves would cancel
        self._sums[half] += offset
        self._squares[half].addcmul_(offset, offset)
        if math.isfinite(loss):
            self._losses[half].append(loss)
        self.taken += 1

    def add_many(self, xs: Tensor, losses: list[float]) -> None:
        """Takes the iterates [steps, n] of several steps, and the loss on the way to each."""
        first = max(0, min(len(losses), self.length // 2 - self.taken))
        offsets = xs - self._start
        for half, some in ((0, slice(0, first)), (1, slice(first, len(losses)))):
            self._sums[half] += offsets[some].sum(0)
            self._squares[half] += offsets[some].square().sum(0)
            self._losses[half].extend(loss for loss in losses[some] if math.isfinite(loss))
        self.taken += len(losses)

    @property
    def full(self) -> bool:
        """Whether all its steps were taken."""
        return self.taken >= self.length

    @property
    def later_losses(self) -> list[float]:
        """The finite losses of its second half."""
        return self._losses[1]

    def gain(self) -> Gain:
        """How much lower the loss is in the second half than in the first."""
        return Gain.between(*self._losses)

    def gain_over(self, before: list[float]) -> Gain:
        """How much lower the loss is than `before`, losses of earlier steps."""
        return Gain.between(before, [loss for half in self._losses for loss in half])

    def mean(self) -> Tensor:
        """The average iterate."""
        return self._start + (self._sums[0] + self._sums[1]) / max(self.taken, 1)

    def r_hat(self) -> float:
        """Split R-hat of the window: its 95 % quantile over parameters. 1 where the halves agree."""
        n = self.length // 2
        if not self.full or n < 2:
            return math.inf
        means = torch.stack(self._sums) / n
        within = (torch.stack(self._squares) / n - means.square()).clamp_min(0).mean(0)
        between = means.var(0)
        moving = within > 0
        if not bool(moving.any()):
            return 1.0
        ratio = ((within[moving] + between[moving]) / within[moving]).sqrt()
        return float(ratio.sort().values[int(0.95 * (ratio.numel() - 1))])

    def get_state(self) -> dict[str, Any]:
        """All of it, as a tree for a checkpoint."""
        return {
            "length": self.length,
            "taken": self.taken,
            "start": self._start,
            "sums": self._sums,
            "squares": self._squares,
            "losses": self._losses,
        }

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> Window:
        """The window that gave this state."""
        window = cls(state["start"], state["length"])
        window.taken = state["taken"]
        window._sums, window._squares = list(state["sums"]), list(state["squares"])
        earlier, later = state["losses"]
        window._losses = (list(earlier), list(later))
        return window
