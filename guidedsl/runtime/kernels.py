"""Covariance functions of Gaussian processes (Rasmussen and Williams 2006, chapter 4).

`x` is [..., N] or, with `rank=2`, [..., N, D]: N points of D coordinates. The matrix is that of x with itself, with
1e-8 amplitude² on its diagonal so that it can be factorised, or that of x with `to`, [..., N, M].
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Value = Tensor | float

_JITTER = 1e-8


def _matrix(value: Value) -> Value:
    return value[..., None, None] if isinstance(value, Tensor) else value


def _squares(x: Tensor, to: Tensor | None, rank: int) -> Tensor:
    """Squared distances, [..., N, M]."""
    other = x if to is None else to
    if rank == 1:
        return (x[..., :, None] - other[..., None, :]).square()
    return (x[..., :, None, :] - other[..., None, :, :]).square().sum(-1)


def _distances(squares: Tensor) -> Tensor:
    """Their roots, with gradient 0 at 0."""
    apart = squares > 0.0
    return torch.where(apart, torch.where(apart, squares, 1.0).sqrt(), 0.0)


def _scaled(shape: Tensor, amplitude: Value, to: Tensor | None) -> Tensor:
    if to is None:
        shape = shape + _JITTER * torch.eye(shape.shape[-1], dtype=shape.dtype, device=shape.device)
    return _matrix(amplitude) ** 2 * shape


def _stationary(
    shape: Callable[[Tensor], Tensor], x: Tensor, amplitude: Value, scale: Value, to: Tensor | None, rank: int
) -> Tensor:
    return _scaled(shape(_distances(_squares(x, to, rank)) / _matrix(scale)), amplitude, to)


def exp_quad(x: Tensor, amplitude: Value, scale: Value, *, to: Tensor | None = None, rank: int = 1) -> Tensor:
    """amplitude² exp(-d² / (2 scale²)) (eq. 4.9)."""
    return _scaled((-0.5 * (_squares(x, to, rank) / _matrix(scale) ** 2)).exp(), amplitude, to)


def matern12(x: Tensor, amplitude: Value, scale: Value, *, to: Tensor | None = None, rank: int = 1) -> Tensor:
    """amplitude² exp(-d / scale) (eq. 4.18)."""
    return _stationary(lambda d: (-d).exp(), x, amplitude, scale, to, rank)


def matern32(x: Tensor, amplitude: Value, scale: Value, *, to: Tensor | None = None, rank: int = 1) -> Tensor:
    """amplitude² (1 + r) exp(-r) with r = √3 d / scale (eq. 4.17)."""
    return _stationary(
        lambda d: (1.0 + math.sqrt(3.0) * d) * (-math.sqrt(3.0) * d).exp(), x, amplitude, scale, to, rank
    )


def matern52(x: Tensor, amplitude: Value, scale: Value, *, to: Tensor | None = None, rank: int = 1) -> Tensor:
    """amplitude² (1 + r + r²/3) exp(-r) with r = √5 d / scale (eq. 4.17)."""

    def shape(d: Tensor) -> Tensor:
        r = math.sqrt(5.0) * d
        return (1.0 + r + r.square() / 3.0) * (-r).exp()

    return _stationary(shape, x, amplitude, scale, to, rank)


def periodic(
    x: Tensor, amplitude: Value, scale: Value, period: Value, *, to: Tensor | None = None, rank: int = 1
) -> Tensor:
    """amplitude² exp(-2 sin²(π d / period) / scale²) (eq. 4.31)."""
    d = _distances(_squares(x, to, rank))
    wave = (math.pi * d / _matrix(period)).sin().square()
    return _scaled((-2.0 * (wave / _matrix(scale) ** 2)).exp(), amplitude, to)


def rational_quadratic(
    x: Tensor, amplitude: Value, scale: Value, mixture: Value, *, to: Tensor | None = None, rank: int = 1
) -> Tensor:
    """amplitude² (1 + d² / (2 mixture scale²))^-mixture (eq. 4.19)."""
    mixture = _matrix(mixture)
    square = _squares(x, to, rank) / (2.0 * mixture * _matrix(scale) ** 2)
    return _scaled((-mixture * square.log1p()).exp(), amplitude, to)


def dot_product(x: Tensor, amplitude: Value, *, to: Tensor | None = None, rank: int = 1) -> Tensor:
    """amplitude² + x · x' (eq. 4.27), and 1e-8 (amplitude² + 1) on the diagonal."""
    other = x if to is None else to
    if rank == 1:
        x, other = x[..., None], other[..., None]
    amplitude = _matrix(amplitude)
    products = amplitude**2 + x @ other.mT
    if to is None:
        products = products + _JITTER * (amplitude**2 + 1.0) * torch.eye(x.shape[-2], dtype=x.dtype, device=x.device)
    return products
