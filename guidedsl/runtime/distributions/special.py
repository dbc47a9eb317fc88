"""Functions that the families share: of tensors or Python numbers, numbers at no tensor operator's cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import overload

import torch
from torch import Tensor

Value = Tensor | float

LOG_2 = math.log(2.0)
LOG_PI = math.log(math.pi)
LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)


@overload
def log(x: Tensor) -> Tensor: ...
@overload
def log(x: float) -> float: ...
def log(x: Value) -> Value:
    """Natural logarithm, -inf at 0."""
    if isinstance(x, Tensor):
        return x.log()
    return math.log(x) if x != 0 else -math.inf


@overload
def lgamma(x: Tensor) -> Tensor: ...
@overload
def lgamma(x: float) -> float: ...
def lgamma(x: Value) -> Value:
    """log |Γ(x)|."""
    return x.lgamma() if isinstance(x, Tensor) else math.lgamma(x)


def xlog1py(x: Value, y: Tensor) -> Tensor:
    """x log(1 + y), 0 where x is 0."""
    result: Tensor = torch.special.xlog1py(x, y)
    return result


def affine(loc: Value, scale: Value, eps: Tensor) -> Tensor:
    """loc + scale * eps in as few operators as the arguments allow."""
    if isinstance(loc, Tensor) and isinstance(scale, Tensor):
        return torch.addcmul(loc, scale, eps)
    if isinstance(loc, Tensor) and not isinstance(scale, Tensor):
        return torch.add(loc, eps, alpha=scale)
    scaled = eps if not isinstance(scale, Tensor) and scale == 1 else eps * scale
    return scaled if loc == 0 else scaled + loc


def standardise(x: Tensor, loc: Value, scale: Value) -> Tensor:
    """(x - loc) / scale; an argument that is the number 0 or 1 costs nothing."""
    centred = x if not isinstance(loc, Tensor) and loc == 0 else x - loc
    return centred if not isinstance(scale, Tensor) and scale == 1 else centred / scale


def minus_half_square(base: Value, z: Tensor) -> Tensor:
    """base - z²/2."""
    if isinstance(base, Tensor):
        return torch.addcmul(base, z, z, value=-0.5)
    return z.square().mul(-0.5) + base


def expand(value: Value, shape: Sequence[int], like: Tensor) -> Tensor:
    """`value` broadcast to `shape`, a number with the dtype and device of `like`."""
    if isinstance(value, Tensor):
        return value.expand(tuple(shape))
    return like.new_full(tuple(shape), value)


def floating(x: Tensor, *arguments: Value) -> Tensor:
    """`x` as it is where floating, else in the dtype of the first tensor argument (default dtype without one)."""
    if x.is_floating_point():
        return x
    dtypes = (a.dtype for a in arguments if isinstance(a, Tensor) and a.is_floating_point())
    return x.to(next(dtypes, torch.get_default_dtype()))


def clamp(x: Tensor, low: Value, high: Value) -> Tensor:
    """x moved between bounds; infinite numbers cost nothing."""
    if isinstance(low, Tensor) or low > -math.inf:
        x = x.clamp(min=low)
    if isinstance(high, Tensor) or high < math.inf:
        x = x.clamp(max=high)
    return x


def broadcast_shape(*values: Value | Sequence[int]) -> tuple[int, ...]:
    """The common shape of tensors, numbers and shapes."""
    shapes = [v.shape if isinstance(v, Tensor) else () if isinstance(v, (int, float)) else tuple(v) for v in values]
    return tuple(torch.broadcast_shapes(*shapes))
