"""Distribution functions that torch lacks, or has without all gradients: gamma, beta and Student's t, in logarithms.

Computed in float64 whatever the arguments' dtype. The derivative with respect to x is the density's; those with respect
to the parameters, which have no closed form, are a five-point difference in float64 (relative error about 1e-9). Second
derivatives are not defined.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from guidedsl.runtime.distributions.special import broadcast_shape, expand

Function = Callable[..., Tensor]

_ITERATIONS = 5000
_TINY = 1e-300


def _gradient(function: Function, x: Tensor, parameters: tuple[Tensor, ...], i: int) -> Tensor:
    """d function / d parameters[i] by the five-point stencil, with a step on the scale that it varies on."""
    p = parameters[i]
    step = 1e-3 * p / (1.0 + p.sqrt())

    def at(k: float) -> Tensor:
        return function(x, *parameters[:i], p + k * step, *parameters[i + 1 :])

    return (8.0 * (at(1.0) - at(-1.0)) - (at(2.0) - at(-2.0))) / (12.0 * step)


class _LogFunction(torch.autograd.Function):
    """log F(x; parameters) with d/dx log F = sign * exp(log_density - log F)."""

    @staticmethod
    def forward(
        ctx: Any, function: Function, log_density: Function, sign: float, x: Tensor, *parameters: Tensor
    ) -> Tensor:
        inputs = tuple(t.detach().double() for t in (x, *parameters))
        value = function(*inputs)
        ctx.functions = (function, log_density, sign)
        ctx.save_for_backward(value, *inputs)
        return value.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        function, log_density, sign = ctx.functions
        value, x, *parameters = ctx.saved_tensors
        grads: list[Tensor | None] = [None, None, None]
        needed = ctx.needs_input_grad[3:]
        slopes: list[Tensor | None] = [sign * torch.exp(log_density(x, *parameters) - value) if needed[0] else None]
        slopes += [
            _gradient(function, x, tuple(parameters), i) if needed[i + 1] else None for i in range(len(parameters))
        ]
        grads += [None if slope is None else (grad * slope).to(grad.dtype) for slope in slopes]
        return tuple(grads)


def _apply(function: Function, log_density: Function, sign: float, x: Tensor, *parameters: Tensor | float) -> Tensor:
    shape = broadcast_shape(x, *parameters)
    tensors = (expand(x, shape, x), *(expand(p, shape, x) for p in parameters))
    result: Tensor = _LogFunction.apply(function, log_density, sign, *tensors)  # type: ignore[no-untyped-call]
    return result


# Gamma(a, 1)


def _gamma_log_density(x: Tensor, a: Tensor) -> Tensor:
    return (a - 1.0) * x.log() - x - a.lgamma()


def _gamma_lower(x: Tensor, a: Tensor) -> Tensor:
    p = torch.special.gammainc(a, x)
    # DLMF 8.7.1, three terms: where P underflows x is far below a
    series = a * x.log() - x - (a + 1.0).lgamma() + torch.log1p(x / (a + 1.0) * (1.0 + x / (a + 2.0)))
    return torch.where(p > _TINY, p.clamp(min=_TINY).log(), series)


def _gamma_upper(x: Tensor, a: Tensor) -> Tensor:
    q = torch.special.gammaincc(a, x)
    # DLMF 8.9.2's continued fraction, three levels: where Q underflows x is far above a
    fraction = x + (1.0 - a) / (1.0 + 1.0 / (x + (2.0 - a) / (1.0 + 2.0 / x)))
    return torch.where(q > _TINY, q.clamp(min=_TINY).log(), a * x.log() - x - a.lgamma() - fraction.abs().log())


def gamma_log_cdf(x: Tensor, a: Tensor | float) -> Tensor:
    """log P(a, x), the regularised lower incomplete gamma function (DLMF 8.2.4)."""
    return _apply(_gamma_lower, _gamma_log_density, 1.0, x, a)


def gamma_log_survival(x: Tensor, a: Tensor | float) -> Tensor:
    """log Q(a, x) = log(1 - P(a, x))."""
    return _apply(_gamma_upper, _gamma_log_density, -1.0, x, a)


# Beta(a, b)


def _log_beta(a: Tensor, b: Tensor) -> Tensor:
    return a.lgamma() + b.lgamma() - (a + b).lgamma()


def _log_betainc(x: Tensor, y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """log I_x(a, b) with y = 1 - x given apart, by Lentz's continued fraction (Numerical Recipes, 6.4)."""
    swapped = x > (a + 1.0) / (a + b + 2.0)
    x, y = torch.where(swapped, y, x), torch.where(swapped, x, y)
    a, b = torch.where(swapped, b, a), torch.where(swapped, a, b)
    c = torch.ones_like(x)
    d = 1.0 / (1.0 - (a + b) * x / (a + 1.0))
    h = d
    for m in range(1, _ITERATIONS):
        even = m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m))
        d = 1.0 / (1.0 + even * d)
        c = 1.0 + even / c
        h = h * d * c
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0))
        d = 1.0 / (1.0 + odd * d)
        c = 1.0 + odd / c
        h = h * d * c
        if m % 8 == 0 and bool(((d * c - 1.0).abs() < 1e-15).all()):
            break
    # x = 0 gives -inf, and so exactly 0 or 1
    log_small = a * x.log() + b * y.log() - a.log() - _log_beta(a, b) + h.log()
    return torch.where(swapped, torch.log1p(-log_small.exp().clamp(max=1.0)), log_small)


def _beta_log_density(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return (a - 1.0) * x.log() + (b - 1.0) * torch.log1p(-x) - _log_beta(a, b)


def _beta_lower(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return _log_betainc(x, 1.0 - x, a, b)


def _beta_upper(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return _log_betainc(1.0 - x, x, b, a)


def beta_log_cdf(x: Tensor, a: Tensor | float, b: Tensor | float) -> Tensor:
    """log I_x(a, b), the regularised incomplete beta function (DLMF 8.17.2)."""
    return _apply(_beta_lower, _beta_log_density, 1.0, x, a, b)


def beta_log_survival(x: Tensor, a: Tensor | float, b: Tensor | float) -> Tensor:
    """log(1 - I_x(a, b)) = log I_{1-x}(b, a)."""
    return _apply(_beta_upper, _beta_log_density, -1.0, x, a, b)


# Student's t


def _student_log_density(t: Tensor, df: Tensor) -> Tensor:
    norm = ((df + 1.0) / 2.0).lgamma() - (df / 2.0).lgamma() - 0.5 * (df.log() + math.log(math.pi))
    return norm - (df + 1.0) / 2.0 * torch.log1p(t.square() / df)


def _student_lower(t: Tensor, df: Tensor) -> Tensor:
    square = t.square()
    half = torch.full_like(df, 0.5)
    both_tails = _log_betainc(df / (df + square), square / (df + square), df / 2.0, half) - math.log(2.0)
    return torch.where(t < 0, both_tails, torch.log1p(-both_tails.exp()))


def student_log_cdf(t: Tensor, df: Tensor | float) -> Tensor:
    """log P(T < t) of the standard t with `df` degrees of freedom (Johnson, Kotz and Balakrishnan 1995, 28.2)."""
    return _apply(_student_lower, _student_log_density, 1.0, t, df)
