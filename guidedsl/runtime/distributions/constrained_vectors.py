"""Families on the sphere and on vectors of sum zero. Shapes: [..., K], one log density a vector."""

from __future__ import annotations

import torch
from torch import Tensor

from guidedsl.runtime.distributions.special import LOG_SQRT_2PI, Value, log
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
