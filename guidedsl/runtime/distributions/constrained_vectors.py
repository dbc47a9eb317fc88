"""Families on the sphere and on vectors of sum zero. Shapes: [..., K], one log density a vector."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from guidedsl.runtime.distributions.special import LOG_PI, LOG_SQRT_2PI, Value, log
from guidedsl.runtime.noise import Noise, Shape

_STEP = 0.4
_FIRST, _LAST = -70, 26
"""Steps of the trapezoidal rule, in standard deviations of the integrand at its mode."""


class ProjectedNormal:
    """z / |z| of a z ~ Normal(loc, 1) in K dimensions; uniform where loc is 0 (Mardia and Jupp 2000, 9.3.3).

    The density is with respect to the sphere's surface.
    """

    @staticmethod
    def log_prob(x: Tensor, loc: Tensor) -> Tensor:
        size = x.shape[-1]
        along = (x * loc).sum(-1)
        return _log_radial(along, size) - 0.5 * loc.square().sum(-1) - size * LOG_SQRT_2PI

    @staticmethod
    def draw(noise: Noise, shape: Shape, loc: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.nn.functional.normalize(noise.normal(shape) + loc, dim=-1)
        return x, ProjectedNormal.log_prob(x, loc)


def _log_radial(t: Tensor, size: int) -> Tensor:
    """log ∫ r^(size - 1) exp(r t - r²/2) dr over r > 0.

    With r = exp(u) the integrand is analytic and falls off at both ends, so that the trapezoidal rule converges
    geometrically (Trefethen and Weideman 2014). The nodes follow the mode; they carry no gradient.
    """
    with torch.no_grad():
        root = (t.square() + 4.0 * size).sqrt()
        mode = torch.where(t > 0.0, 0.5 * (t + root), 2.0 * size / (root - t))  # of size * u + t r - r²/2
        step = _STEP / (mode.square() + size).sqrt()
        u = mode.log()[..., None] + step[..., None] * torch.arange(_FIRST, _LAST, dtype=t.dtype, device=t.device)
        r = u.exp()
    terms = size * u + r * t[..., None] - 0.5 * r.square()
    return terms.logsumexp(-1) + step.log()


class VonMisesFisher:
    """On the sphere: density proportional to exp(concentration * loc · x), with respect to its surface."""

    @staticmethod
    def log_prob(x: Tensor, loc: Tensor, concentration: Value) -> Tensor:
        kappa = torch.as_tensor(concentration, dtype=loc.dtype, device=loc.device)
        return kappa * ((x * loc).sum(-1) - 1.0) - _log_cap(kappa, x.shape[-1])

    @staticmethod
    def draw(noise: Noise, shape: Shape, loc: Tensor, concentration: Value) -> tuple[Tensor, Tensor]:
        """The angle to `loc` by rejection (Wood 1994), the rest uniform; no gradient through x."""
        *batch, size = shape
        free = size - 1
        with torch.no_grad():
            zero = torch.zeros(tuple(batch), dtype=torch.float64, device=noise.device)
            kappa = zero + concentration
            b = free / (2.0 * kappa + (4.0 * kappa.square() + free**2).sqrt())
            centre = (1.0 - b) / (1.0 + b)
            peak = kappa * centre + free * (1.0 - centre.square()).log()
            along, waiting = zero, torch.ones_like(zero, dtype=torch.bool)
            while bool(waiting.any()):
                left, right = (noise.gamma(0.5 * free, batch).double() for _ in range(2))
                z = left / (left + right)
                w = (1.0 - (1.0 + b) * z) / (1.0 - (1.0 - b) * z)
                accepted = waiting & (
                    kappa * w + free * (1.0 - centre * w).log() - peak >= noise.uniform(batch).double().log()
                )
                along = torch.where(accepted, w, along)
                waiting = waiting & ~accepted
            normal = noise.normal(shape)
            across = torch.nn.functional.normalize(normal - (normal * loc).sum(-1, keepdim=True) * loc, dim=-1)
            aside = (1.0 - along.square()).clamp(min=0.0).sqrt()
            x = along[..., None].to(noise.dtype) * loc + aside[..., None].to(noise.dtype) * across
            x = torch.nn.functional.normalize(x, dim=-1)
        return x, VonMisesFisher.log_prob(x, loc, concentration)


def _log_cap(kappa: Tensor, size: int) -> Tensor:
    """log ∫ exp(κ (loc · x - 1)) over the unit sphere in `size` dimensions, at least 2.

    With loc · x = tanh(u) it is the surface of the sphere of one dimension less times ∫ exp(κ (tanh(u) - 1))
    sech(u)^(size - 1) du, an integrand that is analytic and falls off at both ends: trapezoids, as in `_log_radial`.
    """
    free = size - 1
    with torch.no_grad():
        root = (4.0 * kappa.square() + free**2).sqrt()
        short = (free + free**2 / (root + 2.0 * kappa)) / (free + root)  # 1 - tanh(u) where the integrand is largest
        reach, step = 40.0 / free + 9.0 / math.sqrt(free), 0.15 * math.sqrt(2.0 / size)
        nodes = torch.arange(-reach, reach, step, dtype=kappa.dtype, device=kappa.device)
        u = 0.5 * ((2.0 - short) / short).log()[..., None] + nodes
        fall = 2.0 * (-2.0 * u).sigmoid()  # 1 - tanh(u)
        log_sech = math.log(2.0) - u.abs() - (-2.0 * u.abs()).exp().log1p()
    surface = math.log(2.0) + 0.5 * free * LOG_PI - math.lgamma(0.5 * free)
    return (free * log_sech - kappa[..., None] * fall).logsumexp(-1) + (math.log(step) + surface)


class ZeroSumNormal:
    """Independent Normal(0, scale) entries given that their sum is 0, which lie in K - 1 dimensions."""

    @staticmethod
    def log_prob(x: Tensor, scale: Value) -> Tensor:
        z = x / (scale[..., None] if isinstance(scale, Tensor) else scale)
        return -0.5 * z.square().sum(-1) - (x.shape[-1] - 1.0) * (LOG_SQRT_2PI + log(scale))

    @staticmethod
    def draw(noise: Noise, shape: Shape, scale: Value) -> tuple[Tensor, Tensor]:
        eps = noise.normal(shape)
        centred = eps - eps.mean(-1, keepdim=True)
        log_q = -0.5 * centred.square().sum(-1) - (shape[-1] - 1.0) * (LOG_SQRT_2PI + log(scale))
        return centred * (scale[..., None] if isinstance(scale, Tensor) else scale), log_q


class ZeroSumNormalLoc:
    """As ZeroSumNormal, moved to `loc` of sum 0."""

    @staticmethod
    def log_prob(x: Tensor, loc: Tensor, scale: Value) -> Tensor:
        return ZeroSumNormal.log_prob(x - loc, scale)

    @staticmethod
    def draw(noise: Noise, shape: Shape, loc: Tensor, scale: Value) -> tuple[Tensor, Tensor]:
        x, log_q = ZeroSumNormal.draw(noise, shape, scale)
        return x + loc, log_q
