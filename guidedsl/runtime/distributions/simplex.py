"""Families on the simplex. Shapes: [..., K], one log density a vector."""

from __future__ import annotations

import torch
from torch import Tensor

from guidedsl.runtime.noise import Noise, Shape


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


def _log_norm(concentration: Tensor) -> Tensor:
    return concentration.sum(-1).lgamma() - concentration.lgamma().sum(-1)
