"""Scalar types, continuous and discrete, and the bounds that some have."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from guidedsl.runtime.constraint_base import (
    EXP_LIMITS,
    Bound,
    Constraint,
    Discrete,
    Shape,
    log_sigmoid_slope,
)
from guidedsl.runtime.errors import ParamError

_UNIT_LIMITS = {dtype: (torch.finfo(dtype).tiny, 1.0 - torch.finfo(dtype).eps / 2) for dtype in EXP_LIMITS}
# From here on log1p(exp(x)) is x to the last bit of a float64; torch's own switch at 20 is 2e-9 off.
_SOFTPLUS_IS_IDENTITY = 40.0


class Real(Constraint):
    """Finite numbers; the identity."""

    name = notation = "real"
    meaning = "a finite number"
    transforms = ("identity",)

    def check(self, value: Tensor) -> Tensor:
        return value.isfinite()

    def constrain(self, free: Tensor) -> Tensor:
        return free

    def push(self, free: Tensor) -> tuple[Tensor, Tensor]:
        return free, torch.zeros_like(free)

    def free(self, value: Tensor) -> Tensor:
        return value


class Positive(Constraint):
    """Numbers above 0, by exp or softplus."""

    name = notation = "positive"
    meaning = "greater than 0"
    transforms = ("exp", "softplus")

    def check(self, value: Tensor) -> Tensor:
        return value.isfinite() & (value > 0)

    def constrain(self, free: Tensor) -> Tensor:
        low, high = EXP_LIMITS[free.dtype]
        if self.transform == "exp":
            return free.clamp(low, high).exp()
        return functional.softplus(free.clamp_min(low), threshold=_SOFTPLUS_IS_IDENTITY)

    def push(self, free: Tensor) -> tuple[Tensor, Tensor]:
        return _push_positive(free, self.transform)

    def free(self, value: Tensor) -> Tensor:
        return _free_positive(value, self.transform)


class Nonnegative(Positive):
    """Numbers from 0 on; 0 itself has no finite coordinate. The bijections are those of `positive`."""

    name = notation = "nonnegative"
    meaning = "at least 0"

    def check(self, value: Tensor) -> Tensor:
        return value.isfinite() & (value >= 0)


class Unit(Constraint):
    """Numbers from 0 to 1, by the logit; the end points have no finite coordinate."""

    name = notation = "unit"
    meaning = "between 0 and 1"
    transforms = ("logit",)

    def check(self, value: Tensor) -> Tensor:
        return (value >= 0) & (value <= 1)

    def constrain(self, free: Tensor) -> Tensor:
        low, high = _UNIT_LIMITS[free.dtype]
        return free.sigmoid().clamp(low, high)

    def push(self, free: Tensor) -> tuple[Tensor, Tensor]:
        return self.constrain(free), log_sigmoid_slope(free)

    def free(self, value: Tensor) -> Tensor:
        return value.log() - (-value).log1p()


@dataclass(frozen=True, eq=False, repr=False)
class GreaterThan(Constraint):
    """Numbers above a bound, by exp or softplus."""

    low: Bound

    name = notation = "greater_than"
    meaning = "greater than the bound"
    transforms = ("exp", "softplus")
    bound_names = ("low",)

    def check(self, value: Tensor) -> Tensor:
        return value.isfinite() & (value > _bound_like(self.low, value))

    def push(self, free: Tensor) -> tuple[Tensor, Tensor]:
        low = _bound_like(self.low, free)
        distance, log_det = _push_positive(free, self.transform)
        value = _clamp(distance + low, _next_above(low, free.dtype), torch.finfo(free.dtype).max)
        return value, log_det.expand(value.shape)

    def free(self, value: Tensor) -> Tensor:
        return _free_positive(value - _bound_like(self.low, value), self.transform)

    def free_shape(self, shape: Shape) -> Shape:
        return _bounded_shape(self, shape)


@dataclass(frozen=True, eq=False, repr=False)
class LessThan(Constraint):
    """Numbers below a bound, by exp or softplus of the distance."""

    high: Bound

    name = notation = "less_than"
    meaning = "less than the bound"
    transforms = ("exp", "softplus")
    bound_names = ("high",)

    def check(self, value: Tensor) -> Tensor:
        return value.isfinite() & (value < _bound_like(self.high, value))

    def push(self, free: Tensor) -> tuple[Tensor, Tensor]:
        high = _bound_like(self.high, free)
        distance, log_det = _push_positive(free, self.transform)
        value = _clamp(high - distance, torch.finfo(free.dtype).min, _next_below(high, free.dtype))
        return value, log_det.expand(value.shape)

    def free(self, value: Tensor) -> Tensor:
        return _free_positive(_bound_like(self.high, value) - value, self.transform)

    def free_shape(self, shape: Shape) -> Shape:
        return _bounded_shape(self, shape)


@dataclass(frozen=True, eq=False, repr=False)
class Interval(Constraint):
    """Numbers from `low` to `high`, by the logit; the end points have no finite coordinate."""

    low: Bound
    high: Bound

    name = notation = "interval"
    meaning = "between the bounds"
    transforms = ("logit",)
    bound_names = ("low", "high")

    def check(self, value: Tensor) -> Tensor:
        return (value >= _bound_like(self.low, value)) & (value <= _bound_like(self.high, value))

    def constrain(self, free: Tensor) -> Tensor:
        low, high = _bound_like(self.low, free), _bound_like(self.high, free)
        value = free.sigmoid() * (high - low) + low
        return _clamp(value, _next_above(low, free.dtype), _next_below(high, free.dtype))

    def push(self, free: Tensor) -> tuple[Tensor, Tensor]:
        width = _bound_like(self.high, free) - _bound_like(self.low, free)
        log_width = width.log() if isinstance(width, Tensor) else math.log(width)
        return self.constrain(free), log_sigmoid_slope(free) + log_width

    def free(self, value: Tensor) -> Tensor:
        return (value - _bound_like(self.low, value)).log() - (_bound_like(self.high, value) - value).log()

    def free_shape(self, shape: Shape) -> Shape:
        return _bounded_shape(self, shape)


class Boolean(Discrete):
    """0 or 1."""

    name, notation, meaning = "boolean", "bool", "0 or 1"

    def check(self, value: Tensor) -> Tensor:
        return (value == 0) | (value == 1)


class Count(Discrete):
    """0, 1, 2, …"""

    name, notation, meaning = "count", "count", "a whole number from 0 on"

    def check(self, value: Tensor) -> Tensor:
        return _is_whole(value) & (value >= 0)


class Integer(Discrete):
    """Whole numbers."""

    name, notation, meaning = "integer", "int", "a whole number"

    def check(self, value: Tensor) -> Tensor:
        return _is_whole(value)


@dataclass(frozen=True, eq=False, repr=False)
class IntegerInterval(Discrete):
    """Whole numbers from `low` to `high`, both included."""

    low: float | Tensor
    high: float | Tensor

    name, notation, meaning = "integer_interval", "int", "a whole number between the bounds"
    bound_names = ("low", "high")

    def check(self, value: Tensor) -> Tensor:
        return _is_whole(value) & (value >= self.low) & (value <= self.high)

    def default(self, shape: Shape, dtype: torch.dtype | None = None, device: torch.device | None = None) -> Tensor:
        near = self.high if not isinstance(self.low, Tensor) and self.low == -math.inf else self.low
        if isinstance(near, Tensor):
            return near.to(device, dtype).expand(shape).clone()
        return torch.full(shape, near, dtype=dtype, device=device)


def _push_positive(free: Tensor, transform: str) -> tuple[Tensor, Tensor]:
    """exp or softplus with log of its slope, clamped so that the value is above 0 and finite."""
    low, high = EXP_LIMITS[free.dtype]
    if transform == "exp":
        log_value = free.clamp(low, high)
        return log_value.exp(), log_value
    free = free.clamp_min(low)
    return functional.softplus(free, threshold=_SOFTPLUS_IS_IDENTITY), functional.logsigmoid(free)


def _free_positive(value: Tensor, transform: str) -> Tensor:
    return value.log() if transform == "exp" else value + (-torch.expm1(-value)).log()


def _bounded_shape(constraint: Constraint, shape: Shape) -> Shape:
    for bound in constraint.bounds:
        if isinstance(bound, Tensor):
            sizes = zip(reversed(bound.shape), reversed(shape), strict=False)
            if bound.dim() > len(shape) or any(b not in (1, s) for b, s in sizes):
                raise ParamError(
                    f"a bound of {constraint} has shape {list(bound.shape)}, which does not broadcast to the value's "
                    f"{list(shape)}: give one bound for all, or one for each element."
                )
    return tuple(shape)


def _bound_like(bound: Bound, value: Tensor) -> Bound:
    """The bound in the value's floating-point type, so that both round alike."""
    if not isinstance(bound, Tensor):
        return bound
    return bound.to(value.device, value.dtype if value.is_floating_point() else bound.dtype)


@lru_cache(maxsize=1024)
def _next_number(bound: float, towards: float, dtype: torch.dtype) -> float:
    start = torch.tensor(bound, dtype=dtype)
    return float(torch.nextafter(start, torch.tensor(towards, dtype=dtype)))


def _next_above(bound: Bound, dtype: torch.dtype) -> Bound:
    if not isinstance(bound, Tensor):
        return _next_number(bound, math.inf, dtype)
    return torch.nextafter(bound.detach(), bound.new_tensor(math.inf))


def _next_below(bound: Bound, dtype: torch.dtype) -> Bound:
    if not isinstance(bound, Tensor):
        return _next_number(bound, -math.inf, dtype)
    return torch.nextafter(bound.detach(), bound.new_tensor(-math.inf))


def _clamp(value: Tensor, low: Bound, high: Bound) -> Tensor:
    # torch.clamp takes two numbers or two tensors, not one of each.
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        return value.clamp(min=low).clamp(max=high)
    return value.clamp(low, high)


def _is_whole(value: Tensor) -> Tensor:
    return value.isfinite() & (value == value.round()) if value.is_floating_point() else torch.ones_like(value).bool()
