"""A point."""

from __future__ import annotations

import torch
from torch import Tensor

from guidedsl.runtime.distributions.special import Value, expand
from guidedsl.runtime.noise import Noise, Shape


class Point:
    """All mass at `value`; its density is with respect to that point, so log 1 = 0 an element."""

    @staticmethod
    def log_prob(x: Tensor, value: Value) -> Tensor:
        return torch.zeros_like(x)

    @staticmethod
    def draw(noise: Noise, shape: Shape, value: Value) -> tuple[Tensor, Tensor]:
        zero = torch.zeros(tuple(shape), dtype=noise.dtype, device=noise.device)
        return expand(value, shape, zero), zero
