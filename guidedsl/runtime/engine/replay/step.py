"""A step on data of one size, as calls that were prepared once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from guidedsl.runtime.engine.record import record
from guidedsl.runtime.engine.replay.bind import Bound
from guidedsl.runtime.engine.replay.graph import Graph, graph_of
from guidedsl.runtime.noise import Noise

if TYPE_CHECKING:
    from guidedsl.runtime.engine.evaluate import Step


class Replay:
    """Loss and gradient at the parameters `x` [n], as they are, by the operators that `step` was seen to use.

    `numbers` are the step's noise by kind, drawn anew at each call, `rows` those of subsampled plates, `fields` the
    tensors of the data. Data that is the same at every call is read where it lies; other data is copied in. Raises
    Unrecordable where the operators depend on what the numbers are.
    """

    def __init__(
        self,
        step: Step,
        x: Tensor,
        leaves: Sequence[Tensor],
        numbers: dict[str, Tensor],
        rows: Sequence[Tensor],
        fields: Sequence[Tensor],
    ) -> None:
        self.x, self.gradient = x, torch.zeros_like(x)
        self._numbers, self._rows = numbers, [one.clone() for one in rows]
        looks = [part.view(leaf.shape) for part, leaf in zip(_parts(x, leaves), leaves, strict=True)]
        drawn = list(numbers.values())
        recording = record(step, [*looks, *drawn, *rows], fields)
        self._graph: Graph = graph_of(recording, [*looks, *drawn, *[None] * len(rows)])
        slopes = [part.view(leaf.shape) for part, leaf in zip(_parts(self.gradient, leaves), leaves, strict=True)]
        self.gradients = [None if unused else slope for slope, unused in zip(slopes, step.unused, strict=True)]
        self._fields = list(fields)
        self._own = False
        self._bind()

    def _bind(self) -> None:
        self._bound = Bound(self._graph, [*self._rows, *self._fields], self.gradient)
        self._seen = self._versions(self._fields)
        self._given: Sequence[Tensor] = list(self._fields)

    def _versions(self, fields: Sequence[Tensor]) -> list[int]:
        return [one._version for one in fields]

    def __call__(self, noise: Noise, rows: Sequence[Tensor], fields: Sequence[Tensor]) -> Tensor:
        """The loss, a scalar, until the next call; the gradient is in `gradient`, and in `gradients` by leaf."""
        for kind, room in self._numbers.items():
            noise.fill(kind, room)
        for own, given in zip(self._rows, rows, strict=True):
            own.copy_(given)
        self._take(fields)
        for call in self._bound.step:
            call()
        return self._bound.value

    def _take(self, fields: Sequence[Tensor]) -> None:
        """Computes what depends on the data alone, where the data changed."""
        same = all(a is b for a, b in zip(fields, self._given, strict=True))
        versions = self._versions(fields)
        if same and versions == self._seen:
            return
        if not same and not self._own:
            self._fields, self._own = [one.clone() for one in fields], True
            self._bind()
        elif self._own:
            for own, given in zip(self._fields, fields, strict=True):
                own.copy_(given)
        for call in self._bound.prepare:
            call()
        self._given, self._seen = list(fields), versions


def _parts(x: Tensor, leaves: Sequence[Tensor]) -> Sequence[Tensor]:
    parts: Sequence[Tensor] = x.split([leaf.numel() for leaf in leaves])
    return parts
