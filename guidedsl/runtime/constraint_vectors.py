"""Vector types."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from guidedsl.runtime.constraint_base import (
    EXP_LIMITS,
    Constraint,
    Discrete,
    Shape,
    Structured,
    first_axis,
    tolerance,
)


class Simplex(Structured):
    """K nonnegative numbers that sum to 1, by stick-breaking (Stan's, where coordinates 0 give 1/K each)."""

    name = notation = "simplex"
    meaning = "nonnegative with sum 1"
    transforms = ("stick_breaking",)

    def check(self, value: Tensor) -> Tensor:
        self._event_shape(value.shape)
        return (value >= 0).all(-1) & ((value.sum(-1) - 1).abs() <= tolerance(value.dtype))

    def push(self, free: Tensor) -> tuple[Tensor, Tensor]:
        logits = free - self._offset(free)
        log_taken = functional.logsigmoid(logits)
        log_left = functional.logsigmoid(-logits)
        log_stick = functional.pad(log_left.cumsum(-1), (1, 0))
        log_value = functional.pad(log_taken, (0, 1)) + log_stick
        log_det = log_value[..., :-1].sum(-1) + log_left.sum(-1)
        # The rest of the range keeps the quotient by a large sum above 0. Softmax, not exp: it sums to 1 for large K.
        low = EXP_LIMITS[free.dtype][0] * 0.9
        return log_value.clamp_min(low).softmax(-1), log_det

    def free(self, value: Tensor) -> Tensor:
        rest = value.flip(-1).cumsum(-1).flip(-1)[..., 1:]
        taken = value[..., :-1]
        return taken.log() - rest.log() + self._offset(taken)

    def _offset(self, free: Tensor) -> Tensor:
        return torch.arange(free.shape[-1], 0, -1, dtype=free.dtype, device=free.device).log()

    def _free_size(self, size: int) -> int:
        return size - 1


class Ordered(Structured):
    """K strictly increasing numbers: the first, then logs of the differences."""

    name = notation = "ordered"
    meaning = "strictly increasing"
    transforms = ("log_differences",)

    def check(self, value: Tensor) -> Tensor:
        self._event_shape(value.shape)
        return value.isfinite().all(-1) & (value[..., 1:] > value[..., :-1]).all(-1)

    def push(self, free: Tensor) -> tuple[Tensor, Tensor]:
        log_gaps = _clamp_for_sum(free[..., 1:], free.shape[-1])
        return _accumulate(free[..., :1], log_gaps), log_gaps.sum(-1)

    def free(self, value: Tensor) -> Tensor:
        return torch.cat((value[..., :1], value.diff(dim=-1).log()), -1)

    def _free_size(self, size: int) -> int:
        return size


class PositiveOrdered(Structured):
    """K strictly increasing positive numbers: log of the first, then logs of the differences."""

    name = notation = "positive_ordered"
    meaning = "strictly increasing and greater than 0"
    transforms = ("log_differences",)

    def check(self, value: Tensor) -> Tensor:
        self._event_shape(value.shape)
        increasing = (value[..., 1:] > value[..., :-1]).all(-1)
        return value.isfinite().all(-1) & increasing & (value[..., 0] > 0)

    def push(self, free: Tensor) -> tuple[Tensor, Tensor]:
        logs = _clamp_for_sum(free, free.shape[-1])
        return _accumulate(logs[..., :1].exp(), logs[..., 1:]), logs.sum(-1)

    def free(self, value: Tensor) -> Tensor:
        return torch.cat((value[..., :1], value.diff(dim=-1)), -1).log()

    def _free_size(self, size: int) -> int:
        return size


class ZeroSum(Structured):
    """K numbers with sum 0, in the orthonormal Helmert basis: K - 1 coordinates, an isometry, log_det 0."""

    name = notation = "zero_sum"
    meaning = "finite with sum 0"
    transforms = ("helmert",)

    def check(self, value: Tensor) -> Tensor:
        self._event_shape(value.shape)
        return value.sum(-1).abs() <= tolerance(value.dtype) * (1 + value.abs().sum(-1))

    def push(self, free: Tensor) -> tuple[Tensor, Tensor]:
        n = self._counts(free)
        weights = free * (n * (n + 1)).rsqrt()
        later = weights.flip(-1).cumsum(-1).flip(-1)
        value = functional.pad(later, (0, 1)) - functional.pad(n * weights, (1, 0))
        return value, free.new_zeros(free.shape[:-1])

    def free(self, value: Tensor) -> Tensor:
        n = self._counts(value[..., 1:])
        return (value.cumsum(-1)[..., :-1] - n * value[..., 1:]) * (n * (n + 1)).rsqrt()

    def _counts(self, free: Tensor) -> Tensor:
        return torch.arange(1, free.shape[-1] + 1, dtype=free.dtype, device=free.device)

    def _free_size(self, size: int) -> int:
        return size - 1


class UnitVector(Constraint):
    """K numbers of Euclidean norm 1. Check-only: the sphere has no bijection from a Euclidean space."""

    name = notation = "unit_vector"
    meaning = "of Euclidean norm 1"
    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        self._event_shape(value.shape)
        return (value.square().sum(-1) - 1).abs() <= tolerance(value.dtype)

    def default(self, shape: Shape, dtype: torch.dtype | None = None, device: torch.device | None = None) -> Tensor:
        self._event_shape(shape)
        return first_axis(shape, dtype, device)


class OneHot(Discrete):
    """K numbers, one of them 1 and the others 0."""

    name, notation, meaning = "one_hot", "one_hot", "one 1 and else 0"
    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        self._event_shape(value.shape)
        return ((value == 0) | (value == 1)).all(-1) & (value.sum(-1) == 1)

    def default(self, shape: Shape, dtype: torch.dtype | None = None, device: torch.device | None = None) -> Tensor:
        self._event_shape(shape)
        return first_axis(shape, dtype, device)


def _clamp_for_sum(logs: Tensor, terms: int) -> Tensor:
    """Logs whose exponentials, so many of them, have a finite sum and are above 0."""
    low, high = EXP_LIMITS[logs.dtype]
    return logs.clamp(low, high - 1 - math.log(max(terms, 1)))


def _accumulate(first: Tensor, log_gaps: Tensor) -> Tensor:
    """first, first + gap, …; a gap that rounding would swallow is widened to a few units in the last place."""
    gaps = log_gaps.exp()
    scale = (first.abs() + gaps.sum(-1, keepdim=True)).detach()
    gaps = torch.maximum(gaps, 4 * torch.finfo(gaps.dtype).eps * scale)
    return torch.cat((first, first + gaps.cumsum(-1)), -1)
