"""Families on the simplex. Shapes: [..., K], one log density a vector."""

from __future__ import annotations

import torch
from torch import Tensor

from guidedsl.runtime.constraint_vectors import Simplex
from guidedsl.runtime.distributions.continuous import Normal
from guidedsl.runtime.distributions.special import Value
from guidedsl.runtime.noise import Noise, Shape

_SIMPLEX = Simplex()


class Dirichlet:
    """Mean concentration / Σ concentration."""

    @staticmethod
    def log_prob(x: Tensor, concentration: Tensor) -> Tensor:
        return torch.xlogy(concentration - 1.0, x).sum(-1) + _log_norm(concentration)

    @staticmethod
    def draw(noise: Noise, shape: Shape, concentration: Tensor) -> tuple[Tensor, Tensor]:
        log_x = noise.log_gamma(concentration, shape).log_softmax(-1)
        log_q = torch.linalg.vecdot(concentration - 1.0, log_x) + _log_norm(concentration)
        finfo = torch.finfo(log_x.dtype)
        return log_x.exp().clamp(finfo.tiny, 1.0 - finfo.eps / 2.0), log_q


class LogisticNormal:
    """The stick-breaking logits of `simplex`'s own bijection are Normal(loc, scale), K - 1 of them."""

    @staticmethod
    def log_prob(x: Tensor, loc: Value, scale: Value) -> Tensor:
        free = _SIMPLEX.free(x)
        return Normal.log_prob(free, loc, scale).sum(-1) - _SIMPLEX.push(free)[1]

    @staticmethod
    def draw(noise: Noise, shape: Shape, loc: Value, scale: Value) -> tuple[Tensor, Tensor]:
        free, log_q = Normal.draw(noise, (*shape[:-1], shape[-1] - 1), loc, scale)
        x, log_det = _SIMPLEX.push(free)
        return x, log_q.sum(-1) - log_det


def _log_norm(concentration: Tensor) -> Tensor:
    return concentration.sum(-1).lgamma() - concentration.lgamma().sum(-1)
