"""A step on data of one size, as calls that were prepared once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from guidedsl.runtime.engine.record import record
from guidedsl.runtime.engine.replay.bind import Bound
from guidedsl.runtime.engine.replay.graph import Graph, graph_of
from guidedsl.runtime.engine.replay.launch import launcher


class Gradients(Protocol):
    """A loss and its gradient at each leaf. `unused` tells, after a call, which of these are zero for good."""

    @property
    def unused(self) -> Sequence[bool]:
        """Whether the loss does not depend on it, by leaf."""

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The loss and the gradients."""


class Replay:
    """Loss and gradient at the parameters `x` [n], as they are, by the operators that `step` was seen to use.

    `step` takes the leaves, of which `x` has the numbers, the noise, rows of subsampled plates and the tensors of the
    data. `noise` is read where it lies, for the caller to change. Data that is the same at every call is read where it
    lies too; other data is copied in. Raises Unrecordable where the operators depend on what the numbers are.
    """

    def __init__(
        self,
        step: Gradients,
        x: Tensor,
        leaves: Sequence[Tensor],
        noise: Sequence[Tensor],
        rows: Sequence[Tensor],
        fields: Sequence[Tensor],
    ) -> None:
        self.x, self.gradient = x, torch.zeros_like(x)
        self.noise, self._rows = noise, [one.clone() for one in rows]
        looks = [part.view(leaf.shape) for part, leaf in zip(_parts(x, leaves), leaves, strict=True)]
        recording = record(step, [*looks, *noise, *rows], fields)
        self._graph: Graph = graph_of(recording, [*looks, *noise, *[None] * len(rows)])
        slopes = [part.view(leaf.shape) for part, leaf in zip(_parts(self.gradient, leaves), leaves, strict=True)]
        self.gradients = [None if unused else slope for slope, unused in zip(slopes, step.unused, strict=True)]
        self._fields = list(fields)
        self._own = False
        self._bind()

    def _bind(self) -> None:
        self._bound = Bound(self._graph, [*self._rows, *self._fields], self.gradient)
        self._launch = launcher(self._bound.step, self.x.device)
        self._seen = self._versions(self._fields)
        self._given: Sequence[Tensor] = list(self._fields)

    def _versions(self, fields: Sequence[Tensor]) -> list[int]:
        return [one._version for one in fields]

    def __call__(self, rows: Sequence[Tensor], fields: Sequence[Tensor]) -> Tensor:
        """The loss, a scalar, until the next call; the gradient is in `gradient`, and in `gradients` by leaf."""
        for own, given in zip(self._rows, rows, strict=True):
            own.copy_(given)
        self._take(fields)
        self._launch()
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
            before = zip(self._given, self._seen, strict=True)
            for own, given, (last, version) in zip(self._fields, fields, before, strict=True):
                if given is not last or given._version != version:
                    own.copy_(given)
        for call in self._bound.prepare:
            call()
        self._given, self._seen = list(fields), versions


def _parts(x: Tensor, leaves: Sequence[Tensor]) -> Sequence[Tensor]:
    parts: Sequence[Tensor] = x.split([leaf.numel() for leaf in leaves])
    return parts
