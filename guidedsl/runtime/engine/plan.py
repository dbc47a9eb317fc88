"""What noise a step draws, known beforehand, so that it is drawn in one call for each kind.

A dry run of the guide tells the draws of a step. All engines draw a step's noise by the same plan, and so see the same
numbers.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from guidedsl.runtime.elbo import Objective
from guidedsl.runtime.noise import Noise, RecordedNoise, Shape
from guidedsl.runtime.params import ParamStore

KINDS = ("normal", "uniform", "exponential")
"""Draws that depend on nothing, so that they can be made before the guide runs."""


@dataclass(frozen=True)
class NoisePlan:
    """The draws of a step in order: kind and shape. `others` are kinds that depend on parameters."""

    draws: tuple[tuple[str, tuple[int, ...]], ...]
    others: tuple[str, ...]

    @functools.cached_property
    def sizes(self) -> dict[str, int]:
        """How many numbers of each kind a step draws."""
        found = {kind: sum(math.prod(shape) for one, shape in self.draws if one == kind) for kind in KINDS}
        return {kind: size for kind, size in found.items() if size}

    def drawn(self, noise: Noise) -> dict[str, Tensor]:
        """A step's numbers by kind, [size] each."""
        return {kind: getattr(noise, kind)((size,)) for kind, size in self.sizes.items()}

    def parts(self, numbers: Mapping[str, Tensor]) -> list[Tensor]:
        """The draws, cut from a step's numbers."""
        cut = {kind: iter(self._cut(kind, flat)) for kind, flat in numbers.items()}
        return [next(cut[kind]) for kind, _ in self.draws]

    def _cut(self, kind: str, flat: Tensor) -> list[Tensor]:
        shapes = [shape for one, shape in self.draws if one == kind]
        parts = flat.split([math.prod(shape) for shape in shapes])
        return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


def planned(model: Any, guide: Any, loss: Objective, data: Any, store: ParamStore) -> NoisePlan:
    """The plan of a step, from a dry run with a generator of its own. It registers the parameters."""
    generator = torch.Generator(data.device)
    generator.manual_seed(0)
    with torch.no_grad():
        batch = data.subsample(data.noise(generator))
        recorded = RecordedNoise(generator, data.dtype, data.device)
        loss(model, guide, batch, store, recorded)
    others = sorted({record.kind for record in recorded.records} - set(KINDS))
    draws = tuple((r.kind, tuple(r.value.shape)) for r in recorded.records if r.kind in KINDS)
    return NoisePlan(draws, tuple(others))


class PlannedNoise(Noise):
    """A step's noise, its planned draws made in one call for each kind; what is not planned is drawn on its own."""

    def __init__(self, plan: NoisePlan, noise: Noise) -> None:
        super().__init__(noise.generator, noise.dtype, noise.device)
        self._plan = iter(zip(plan.draws, plan.parts(plan.drawn(noise)), strict=True))

    def _next(self, kind: str, shape: Shape) -> Tensor | None:
        entry = next(self._plan, None)
        return entry[1] if entry is not None and entry[0] == (kind, tuple(shape)) else None

    def normal(self, shape: Shape) -> Tensor:
        made = self._next("normal", shape)
        return super().normal(shape) if made is None else made

    def uniform(self, shape: Shape) -> Tensor:
        made = self._next("uniform", shape)
        return super().uniform(shape) if made is None else made

    def exponential(self, shape: Shape) -> Tensor:
        made = self._next("exponential", shape)
        return super().exponential(shape) if made is None else made
