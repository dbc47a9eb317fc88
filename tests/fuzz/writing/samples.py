"""Values that lie in a type, for data files."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from guidedsl.library.supports import KINDS
from guidedsl.runtime import constraints
from guidedsl.runtime.constraint_base import Constraint

COUNTS = (3, 5)
"""The least and the greatest count in data: a count may be the total of another one's distribution."""


def constraint_of(kind: str, bounds: tuple[float, ...] = ()) -> Constraint:
    """The runtime's constraint for a type of the language."""
    if kind == "int" and bounds:
        return constraints.integer_interval(int(bounds[0]), int(bounds[1]))
    found: Any = getattr(constraints, KINDS[kind].constraint or kind)
    constraint: Constraint = found(*bounds) if KINDS[kind].bounds and bounds else found
    return constraint


def sample(kind: str, shape: tuple[int, ...], seed: int, bounds: tuple[float, ...] = ()) -> Tensor:
    """Values of a type, `shape` with the type's own event dims, neither tiny nor huge."""
    generator = torch.Generator().manual_seed(seed)
    row = KINDS[kind]

    def whole(low: int, high: int) -> Tensor:
        return torch.randint(low, high + 1, shape, generator=generator)

    if kind == "bool":
        return whole(0, 1)
    if kind == "count":
        return whole(*COUNTS)
    if kind == "int":
        return whole(int(bounds[0]), int(bounds[1])) if bounds else whole(-2, 3)
    if kind == "index":
        return whole(0, int(bounds[0]) - 1)
    if kind == "one_hot":
        labels = torch.randint(0, shape[-1], shape[:-1], generator=generator)
        return torch.nn.functional.one_hot(labels, shape[-1])
    if kind == "unit_vector":
        return torch.nn.functional.normalize(
            torch.randn(shape, generator=generator, dtype=torch.float64), dim=-1, eps=1e-6
        )
    constraint = constraint_of(kind, bounds)
    if not constraint.has_bijection:  # a type that this file has not heard of
        return constraint.default(shape, torch.float64)
    spread = 0.5 if row.rank else 0.7
    free = torch.randn(constraint.free_shape(shape), generator=generator, dtype=torch.float64)
    return constraint.constrain(spread * free)
