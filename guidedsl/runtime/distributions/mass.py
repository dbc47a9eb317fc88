"""Logarithms of P(low < x < high), written so that intervals far in a tail keep their precision."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec

import torch
from torch import Tensor

from guidedsl.runtime.distributions.special import LOG_2, Value

P = ParamSpec("P")


def fold_numbers(function: Callable[P, Value]) -> Callable[P, Value]:
    """Where every argument is a number, compute once, in float64, and return a number."""

    @lru_cache(maxsize=1024)
    def of_numbers(*numbers: float) -> float:
        arguments = (n if math.isinf(n) else torch.tensor(float(n), dtype=torch.float64) for n in numbers)
        return float(function(*arguments))  # type: ignore[arg-type, call-arg]

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Value:
        if kwargs or any(isinstance(a, Tensor) for a in args):
            return function(*args, **kwargs)
        return of_numbers(*args)

    return wrapper


def is_minus_infinity(bound: Value) -> bool:
    """Whether a bound is the number -inf (tensors of bounds are finite)."""
    return not isinstance(bound, Tensor) and bound == -math.inf


def is_infinity(bound: Value) -> bool:
    """Whether a bound is the number inf."""
    return not isinstance(bound, Tensor) and bound == math.inf


def as_tensors(a: Value, b: Value) -> tuple[Tensor, Tensor]:
    """Both as tensors, a number with the other's dtype and device."""
    if isinstance(a, Tensor):
        return a, b if isinstance(b, Tensor) else a.new_tensor(b)
    if isinstance(b, Tensor):
        return b.new_tensor(a), b
    return torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)


def log1mexp(d: Tensor) -> Tensor:
    """log(1 - exp(-d)) for d >= 0, to full relative precision (Mächler 2012)."""
    near = d < LOG_2
    # each branch sees only its own values: at the other's its gradient may be infinite
    return torch.where(near, (-torch.expm1(-d)).log(), torch.log1p(-torch.exp(-torch.where(near, LOG_2, d))))


def log_difference(larger: Tensor, smaller: Tensor) -> Tensor:
    """log(exp(larger) - exp(smaller))."""
    return larger + log1mexp(larger - smaller)


def standard_bound(bound: Value, loc: Value, scale: Value) -> Value:
    """(bound - loc) / scale; an infinite number stays one."""
    return bound if is_infinity(bound) or is_minus_infinity(bound) else (bound - loc) / scale


def nonnegative_bound(bound: Value) -> Value:
    """A bound of a law on the positive half-line; below 0 it becomes 0, or as a tensor the least above 0."""
    return bound.clamp(min=torch.finfo(bound.dtype).tiny) if isinstance(bound, Tensor) else max(bound, 0.0)


def mirror(low: Value, high: Value) -> tuple[Value, Value, Value]:
    """(sign, below, above): the interval, mirrored if it lies mostly above 0, so that a tail is a left one."""
    if is_infinity(high):
        return -1.0, -math.inf, -low
    if is_minus_infinity(low):
        return 1.0, low, high
    low, high = as_tensors(low, high)
    mirrored = low + high > 0
    sign = torch.where(mirrored, -1.0, 1.0).to(low.dtype)
    return sign, torch.where(mirrored, -high, low), torch.where(mirrored, -low, high)


def symmetric_mass(log_cdf: Callable[[Tensor], Tensor], low: Value, high: Value) -> Value:
    """Of a law symmetric about 0."""
    _, below, above = mirror(low, high)
    if not isinstance(above, Tensor):
        return 0.0 if above == math.inf else log_cdf(torch.tensor(above, dtype=torch.float64))
    if not isinstance(below, Tensor):
        return log_cdf(above)
    return log_difference(log_cdf(above), log_cdf(below))


def two_sided_mass(
    log_cdf: Callable[[Tensor], Tensor],
    log_survival: Callable[[Tensor], Tensor],
    low: Value | None,
    high: Value | None,
    middle: Value,
) -> Value:
    """From the distribution function, or above `middle` from the survival function; None is an end of the support."""
    if low is None and high is None:
        return 0.0
    if low is None:
        return log_cdf(as_tensors(high, middle)[0])  # type: ignore[arg-type]
    if high is None:
        return log_survival(as_tensors(low, middle)[0])
    low, high = as_tensors(low, high)
    right = low > middle
    return log_difference(
        torch.where(right, log_survival(low), log_cdf(high)), torch.where(right, log_survival(high), log_cdf(low))
    )


def whole_mass(
    log_cdf: Callable[[Tensor], Tensor],
    log_survival: Callable[[Tensor], Tensor],
    low: Value,
    high: Value,
    middle: Value,
) -> Value:
    """log P(low <= X <= high) of a law on 0, 1, …, by log P(X <= k) and log P(X > k) for k from 0 on."""
    first = low if isinstance(low, Tensor) else torch.tensor(max(low, 0.0), dtype=torch.float64)
    end = high if isinstance(high, Tensor) else torch.tensor(high, dtype=torch.float64)
    last = None if is_infinity(high) else end.clamp(min=0.0)
    below = two_sided_mass(log_cdf, log_survival, None, last, middle)
    between = two_sided_mass(log_cdf, log_survival, (first - 1.0).clamp(min=0.0), last, middle)
    below, between = as_tensors(below, between)
    mass = torch.where(first <= 0.0, below, between)
    return mass if is_infinity(high) else torch.where((end >= 0.0) & (end >= first), mass, -math.inf)


def hazard_mass(low: Value, high: Value) -> Value:
    """Of a law with survival function exp(-H), by H(low) and H(high), both at least 0."""
    if is_infinity(high):
        return -low
    return -low + log1mexp(torch.as_tensor(high - low))
