"""Continuous relaxations of discrete families (Maddison, Mnih and Teh 2017), and the continuous Bernoulli."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from guidedsl.runtime.distributions.bounded import inside_unit
from guidedsl.runtime.distributions.mass import fold_numbers
from guidedsl.runtime.distributions.special import Value, log
from guidedsl.runtime.noise import Noise, Shape


def _logits(probs: Value) -> Value:
    return probs.logit() if isinstance(probs, Tensor) else math.log(probs / (1.0 - probs))


class RelaxedBernoulli:
    """inv_logit((logit(probs) + a standard logistic) / temperature)."""

    @staticmethod
    def log_prob(x: Tensor, temperature: Value, probs: Value) -> Tensor:
        return RelaxedBernoulliLogits.log_prob(x, temperature, _logits(probs))

    @staticmethod
    def draw(noise: Noise, shape: Shape, temperature: Value, probs: Value) -> tuple[Tensor, Tensor]:
        return RelaxedBernoulliLogits.draw(noise, shape, temperature, _logits(probs))


class RelaxedBernoulliLogits:
    """inv_logit((logits + a standard logistic) / temperature)."""

    @staticmethod
    def log_prob(x: Tensor, temperature: Value, logits: Value) -> Tensor:
        y = x.logit()
        z = y * temperature - logits
        return log(temperature) + torch.add(-z, F.logsigmoid(z), alpha=2.0) + y - 2.0 * F.logsigmoid(y)

    @staticmethod
    def draw(noise: Noise, shape: Shape, temperature: Value, logits: Value) -> tuple[Tensor, Tensor]:
        u = noise.uniform(shape)
        z = u.log() - (-u).log1p()
        y = (z + logits) / temperature
        log_q = log(temperature) + u.log() + (-u).log1p() + y - 2.0 * F.logsigmoid(y)
        return inside_unit(y.sigmoid()), log_q


class RelaxedOneHotCategorical:
    """softmax((log(probs) + Gumbel noise) / temperature)."""

    @staticmethod
    def log_prob(x: Tensor, temperature: Value, probs: Tensor) -> Tensor:
        return RelaxedOneHotCategoricalLogits.log_prob(x, temperature, probs.log())

    @staticmethod
    def draw(noise: Noise, shape: Shape, temperature: Value, probs: Tensor) -> tuple[Tensor, Tensor]:
        return RelaxedOneHotCategoricalLogits.draw(noise, shape, temperature, probs.log())


class RelaxedOneHotCategoricalLogits:
    """softmax((logits + Gumbel noise) / temperature)."""

    @staticmethod
    def log_prob(x: Tensor, temperature: Value, logits: Tensor) -> Tensor:
        return _relaxed(x.log(), temperature, logits)

    @staticmethod
    def draw(noise: Noise, shape: Shape, temperature: Value, logits: Tensor) -> tuple[Tensor, Tensor]:
        scores = logits - noise.exponential(shape).log()
        log_x = (scores / _column(temperature)).log_softmax(-1)
        finfo = torch.finfo(log_x.dtype)
        return log_x.exp().clamp(finfo.tiny, 1.0 - finfo.eps / 2.0), _relaxed(log_x, temperature, logits)


def _column(value: Value) -> Value:
    return value[..., None] if isinstance(value, Tensor) else value


def _relaxed(log_x: Tensor, temperature: Value, logits: Tensor) -> Tensor:
    size = log_x.shape[-1]
    score = logits.log_softmax(-1) - _column(temperature) * log_x
    constant = math.lgamma(size) + (size - 1.0) * log(temperature)
    return constant + (score - log_x).sum(-1) - size * score.logsumexp(-1)


class ContinuousBernoulli:
    """Density proportional to probs^x (1 - probs)^(1 - x) (Loaiza-Ganem and Cunningham 2019)."""

    @staticmethod
    def log_prob(x: Tensor, probs: Value) -> Tensor:
        return ContinuousBernoulliLogits.log_prob(x, _logits(probs))

    @staticmethod
    def draw(noise: Noise, shape: Shape, probs: Value) -> tuple[Tensor, Tensor]:
        return ContinuousBernoulliLogits.draw(noise, shape, _logits(probs))

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, probs: Value) -> Value:
        return ContinuousBernoulliLogits.log_mass(low, high, _logits(probs))


class ContinuousBernoulliLogits:
    """Density proportional to exp(logits * x)."""

    @staticmethod
    def log_prob(x: Tensor, logits: Value) -> Tensor:
        slope = logits if isinstance(logits, Tensor) else x.new_tensor(logits)
        return x * slope - _log_integral(slope)

    @staticmethod
    def draw(noise: Noise, shape: Shape, logits: Value) -> tuple[Tensor, Tensor]:
        u = noise.uniform(shape)
        slope = logits if isinstance(logits, Tensor) else u.new_tensor(logits)
        # from the upper end for a positive slope, so that exp does not overflow
        flip = slope > 0.0
        v = torch.where(flip, 1.0 - u, u)
        steep = -slope.abs()
        near = steep > -1e-3
        safe = torch.where(near, -1.0, steep)
        exact = torch.log1p(v * torch.expm1(safe)) / safe
        series = v + steep * v * (1.0 - v) * 0.5
        y = torch.where(near, series, exact)
        x = inside_unit(torch.where(flip, 1.0 - y, y))
        return x, ContinuousBernoulliLogits.log_prob(x, logits)

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, logits: Value) -> Value:
        slope = logits if isinstance(logits, Tensor) else torch.tensor(logits, dtype=torch.float64)
        a = low.clamp(0.0, 1.0) if isinstance(low, Tensor) else slope.new_tensor(min(max(low, 0.0), 1.0))
        b = high.clamp(0.0, 1.0) if isinstance(high, Tensor) else slope.new_tensor(min(max(high, 0.0), 1.0))
        # ∫ exp(slope x) from a to b is (b - a) exp(slope a) times that from 0 to 1 of slope (b - a)
        return (b - a).log() + slope * a + _log_integral(slope * (b - a)) - _log_integral(slope)


def _log_integral(slope: Tensor) -> Tensor:
    """log ∫ exp(slope x) dx from 0 to 1, by its even part's series near 0."""
    size = slope.abs()
    near = size < 1e-2
    safe = torch.where(near, 1.0, size)
    exact = safe + (-torch.expm1(-safe)).log() - safe.log()
    square = slope.square()
    series = 0.5 * slope + square / 24.0 - square.square() / 2880.0
    return torch.where(near, series, exact + torch.where(slope < 0.0, slope, 0.0))
