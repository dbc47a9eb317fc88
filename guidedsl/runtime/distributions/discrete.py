"""Families on booleans, counts and other numbers: floating tensors, drawn without a gradient."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from guidedsl.runtime.distributions.bounded import Uniform, within
from guidedsl.runtime.distributions.incomplete import (
    beta_log_cdf,
    beta_log_survival,
    gamma_log_cdf,
    gamma_log_survival,
)
from guidedsl.runtime.distributions.mass import fold_numbers, hazard_mass, is_infinity, nonnegative_bound, whole_mass
from guidedsl.runtime.distributions.special import Value, broadcast_shape, expand, floating, lgamma, log, xlog1py
from guidedsl.runtime.noise import Noise, Shape


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)); torch's default threshold of 20 is too coarse for float64."""
    return F.softplus(x, 1.0, 40.0)


def _tensor(value: Value, like: Tensor) -> Tensor:
    return value if isinstance(value, Tensor) else like.new_tensor(value)


def _exact(value: Value) -> Tensor:
    """A number as a tensor of all its digits."""
    return value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)


def _sigmoid(logits: Value) -> Value:
    if isinstance(logits, Tensor):
        return logits.sigmoid()
    return 0.5 * (1.0 + math.tanh(0.5 * logits))


def _binomial_mass(low: Value, high: Value, total: Value, failure: Value) -> Value:
    """P(X <= k) = I_q(n - k, k + 1) with q the probability of failure (DLMF 8.17.5)."""
    q = _exact(failure)

    def log_cdf(k: Tensor) -> Tensor:
        rest = total - k
        return torch.where(rest > 0.0, beta_log_cdf(q, rest.clamp(min=1.0), k + 1.0), 0.0)

    def log_survival(k: Tensor) -> Tensor:
        rest = total - k
        inside = beta_log_survival(q, rest.clamp(min=1.0), k + 1.0)
        return torch.where(rest > 0.0, inside, -math.inf)

    return whole_mass(log_cdf, log_survival, low, high, total * (1.0 - q))


def _negative_binomial_mass(low: Value, high: Value, total: Value, failure: Value) -> Value:
    """P(X <= k) = I_q(r, k + 1) with q the probability of failure."""
    q = _exact(failure)
    mean = total * (1.0 - q) / q
    return whole_mass(
        lambda k: beta_log_cdf(q, total, k + 1.0), lambda k: beta_log_survival(q, total, k + 1.0), low, high, mean
    )


def _geometric_mass(low: Value, high: Value, log_failure: Value) -> Value:
    low = nonnegative_bound(low)
    return hazard_mass(-low * log_failure, high if is_infinity(high) else nonnegative_bound(high + 1.0) * -log_failure)


def _log_choose(total: Value, x: Tensor) -> Tensor:
    return lgamma(total + 1.0) - (x + 1.0).lgamma() - (total - x + 1.0).lgamma()


class Bernoulli:
    """1 with probability `probs`."""

    @staticmethod
    def log_prob(x: Tensor, probs: Value) -> Tensor:
        x = floating(x, probs)
        if not isinstance(probs, Tensor):
            return torch.where(x > 0, x.new_tensor(log(probs)), x.new_tensor(log(1.0 - probs)))
        return torch.xlogy(x, probs) + xlog1py(1.0 - x, -probs)

    @staticmethod
    def draw(noise: Noise, shape: Shape, probs: Value) -> tuple[Tensor, Tensor]:
        x = noise.bernoulli(probs, shape)
        return x, Bernoulli.log_prob(x, probs)


class BernoulliLogits:
    """1 with probability sigmoid(logits)."""

    @staticmethod
    def log_prob(x: Tensor, logits: Value) -> Tensor:
        x = floating(x, logits)
        return x * logits - softplus(_tensor(logits, x))

    @staticmethod
    def draw(noise: Noise, shape: Shape, logits: Value) -> tuple[Tensor, Tensor]:
        x = noise.bernoulli(_sigmoid(logits), shape)
        return x, BernoulliLogits.log_prob(x, logits)


class Binomial:
    """Successes in `total` trials of probability `probs`."""

    @staticmethod
    def log_prob(x: Tensor, total: Value, probs: Value) -> Tensor:
        x = floating(x, probs, total)
        probs = _tensor(probs, x)
        return _log_choose(total, x) + torch.xlogy(x, probs) + xlog1py(total - x, -probs)

    @staticmethod
    def draw(noise: Noise, shape: Shape, total: Value, probs: Value) -> tuple[Tensor, Tensor]:
        x = noise.binomial(total, probs, shape)
        return x, Binomial.log_prob(x, total, probs)

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, total: Value, probs: Value) -> Value:
        return _binomial_mass(low, high, total, 1.0 - probs)


class BinomialLogits:
    """Successes in `total` trials of probability sigmoid(logits)."""

    @staticmethod
    def log_prob(x: Tensor, total: Value, logits: Value) -> Tensor:
        x = floating(x, logits, total)
        return _log_choose(total, x) + x * logits - total * softplus(_tensor(logits, x))

    @staticmethod
    def draw(noise: Noise, shape: Shape, total: Value, logits: Value) -> tuple[Tensor, Tensor]:
        x = noise.binomial(total, _sigmoid(logits), shape)
        return x, BinomialLogits.log_prob(x, total, logits)

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, total: Value, logits: Value) -> Value:
        return _binomial_mass(low, high, total, _sigmoid(-logits))


class BetaBinomial:
    """Successes in `total` trials whose probability is Beta(concentration1, concentration0)."""

    @staticmethod
    def log_prob(x: Tensor, concentration1: Value, concentration0: Value, total: Value) -> Tensor:
        x = floating(x, concentration1, concentration0)
        a, b = concentration1 + x, concentration0 + (total - x)
        prior = lgamma(concentration1) + lgamma(concentration0) - lgamma(concentration1 + concentration0)
        return _log_choose(total, x) + a.lgamma() + b.lgamma() - (a + b).lgamma() - prior

    @staticmethod
    def draw(
        noise: Noise, shape: Shape, concentration1: Value, concentration0: Value, total: Value
    ) -> tuple[Tensor, Tensor]:
        logit = noise.log_gamma(concentration1, shape) - noise.log_gamma(concentration0, shape)
        x = noise.binomial(total, logit.sigmoid(), shape)
        return x, BetaBinomial.log_prob(x, concentration1, concentration0, total)


class Geometric:
    """Failures before the first success of probability `probs`: 0, 1, …"""

    @staticmethod
    def log_prob(x: Tensor, probs: Value) -> Tensor:
        x = floating(x, probs)
        return xlog1py(x, -_tensor(probs, x)) + log(probs)

    @staticmethod
    def draw(noise: Noise, shape: Shape, probs: Value) -> tuple[Tensor, Tensor]:
        e = noise.exponential(shape)
        x = (e / -torch.log1p(-_tensor(probs, e).detach())).floor()
        return x, Geometric.log_prob(x, probs)

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, probs: Value) -> Value:
        return _geometric_mass(low, high, torch.log1p(-_exact(probs)))


class GeometricLogits:
    """Failures before the first success of probability sigmoid(logits)."""

    @staticmethod
    def log_prob(x: Tensor, logits: Value) -> Tensor:
        x = floating(x, logits)
        return logits - (x + 1.0) * softplus(_tensor(logits, x))

    @staticmethod
    def draw(noise: Noise, shape: Shape, logits: Value) -> tuple[Tensor, Tensor]:
        e = noise.exponential(shape)
        x = (e / softplus(_tensor(logits, e).detach())).floor()
        return x, GeometricLogits.log_prob(x, logits)

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, logits: Value) -> Value:
        return _geometric_mass(low, high, -softplus(_exact(logits)))


class Poisson:
    """Mean `rate`."""

    @staticmethod
    def log_prob(x: Tensor, rate: Value) -> Tensor:
        x = floating(x, rate)
        return torch.xlogy(x, _tensor(rate, x)) - rate - (x + 1.0).lgamma()

    @staticmethod
    def draw(noise: Noise, shape: Shape, rate: Value) -> tuple[Tensor, Tensor]:
        x = noise.poisson(rate, shape)
        return x, Poisson.log_prob(x, rate)

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, rate: Value) -> Value:
        return whole_mass(
            lambda k: gamma_log_survival(_exact(rate), k + 1.0),
            lambda k: gamma_log_cdf(_exact(rate), k + 1.0),
            low,
            high,
            rate,
        )


class PoissonLog:
    """Mean exp(log_rate)."""

    @staticmethod
    def log_prob(x: Tensor, log_rate: Value) -> Tensor:
        x = floating(x, log_rate)
        rate = log_rate.exp() if isinstance(log_rate, Tensor) else math.exp(log_rate)
        return x * log_rate - rate - (x + 1.0).lgamma()

    @staticmethod
    def draw(noise: Noise, shape: Shape, log_rate: Value) -> tuple[Tensor, Tensor]:
        x = noise.poisson(log_rate.exp() if isinstance(log_rate, Tensor) else math.exp(log_rate), shape)
        return x, PoissonLog.log_prob(x, log_rate)

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, log_rate: Value) -> Value:
        return Poisson.log_mass(low, high, log_rate.exp() if isinstance(log_rate, Tensor) else math.exp(log_rate))


class NegativeBinomial:
    """Successes of probability `probs` before `total` failures (a real number): mean total * probs / (1 - probs)."""

    @staticmethod
    def log_prob(x: Tensor, total: Value, probs: Value) -> Tensor:
        x = floating(x, probs, total)
        probs = _tensor(probs, x)
        choose = (x + total).lgamma() - (x + 1.0).lgamma() - lgamma(total)
        return choose + total * torch.log1p(-probs) + torch.xlogy(x, probs)

    @staticmethod
    def draw(noise: Noise, shape: Shape, total: Value, probs: Value) -> tuple[Tensor, Tensor]:
        x = noise.poisson(noise.gamma(total, shape) * (probs / (1.0 - probs)), shape)
        return x, NegativeBinomial.log_prob(x, total, probs)

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, total: Value, probs: Value) -> Value:
        return _negative_binomial_mass(low, high, total, 1.0 - probs)


class NegativeBinomialLogits:
    """As NegativeBinomial, by log odds: mean total * exp(logits)."""

    @staticmethod
    def log_prob(x: Tensor, total: Value, logits: Value) -> Tensor:
        x = floating(x, logits, total)
        choose = (x + total).lgamma() - (x + 1.0).lgamma() - lgamma(total)
        return choose + x * logits - (x + total) * softplus(_tensor(logits, x))

    @staticmethod
    def draw(noise: Noise, shape: Shape, total: Value, logits: Value) -> tuple[Tensor, Tensor]:
        g = noise.gamma(total, shape)
        x = noise.poisson(g * _tensor(logits, g).exp(), shape)
        return x, NegativeBinomialLogits.log_prob(x, total, logits)

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, total: Value, logits: Value) -> Value:
        return _negative_binomial_mass(low, high, total, _sigmoid(-logits))


class NegativeBinomialMean:
    """Mean `mean`, variance mean + mean² / dispersion (Stan's neg_binomial_2)."""

    @staticmethod
    def log_prob(x: Tensor, mean: Value, dispersion: Value) -> Tensor:
        return NegativeBinomialLogits.log_prob(x, dispersion, log(mean) - log(dispersion))

    @staticmethod
    def draw(noise: Noise, shape: Shape, mean: Value, dispersion: Value) -> tuple[Tensor, Tensor]:
        return NegativeBinomialLogits.draw(noise, shape, dispersion, log(mean) - log(dispersion))

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, mean: Value, dispersion: Value) -> Value:
        return _negative_binomial_mass(low, high, dispersion, dispersion / (dispersion + mean))


class NegativeBinomialLogMean:
    """Mean exp(log_mean), variance mean + mean² / dispersion (Stan's neg_binomial_2_log)."""

    @staticmethod
    def log_prob(x: Tensor, log_mean: Value, dispersion: Value) -> Tensor:
        return NegativeBinomialLogits.log_prob(x, dispersion, log_mean - log(dispersion))

    @staticmethod
    def draw(noise: Noise, shape: Shape, log_mean: Value, dispersion: Value) -> tuple[Tensor, Tensor]:
        return NegativeBinomialLogits.draw(noise, shape, dispersion, log_mean - log(dispersion))

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, log_mean: Value, dispersion: Value) -> Value:
        return NegativeBinomialLogits.log_mass(low, high, dispersion, log_mean - log(dispersion))


def _zero_inflated(x: Tensor, gate: Value, log_prob: Tensor) -> Tensor:
    gate = _tensor(gate, log_prob)
    other = torch.log1p(-gate) + log_prob
    return torch.where(x == 0, torch.logaddexp(gate.log(), other), other)


def _opened(noise: Noise, shape: Shape, gate: Value, x: Tensor) -> Tensor:
    return x * noise.bernoulli(1.0 - gate, shape)


class ZeroInflatedPoisson:
    """0 with probability `gate`, else a Poisson(rate)."""

    @staticmethod
    def log_prob(x: Tensor, gate: Value, rate: Value) -> Tensor:
        return _zero_inflated(x, gate, Poisson.log_prob(x, rate))

    @staticmethod
    def draw(noise: Noise, shape: Shape, gate: Value, rate: Value) -> tuple[Tensor, Tensor]:
        x = _opened(noise, shape, gate, noise.poisson(rate, shape))
        return x, ZeroInflatedPoisson.log_prob(x, gate, rate)


class ZeroInflatedNegativeBinomial:
    """0 with probability `gate`, else a NegativeBinomial(total, probs)."""

    @staticmethod
    def log_prob(x: Tensor, gate: Value, total: Value, probs: Value) -> Tensor:
        return _zero_inflated(x, gate, NegativeBinomial.log_prob(x, total, probs))

    @staticmethod
    def draw(noise: Noise, shape: Shape, gate: Value, total: Value, probs: Value) -> tuple[Tensor, Tensor]:
        x = _opened(noise, shape, gate, NegativeBinomial.draw(noise, shape, total, probs)[0])
        return x, ZeroInflatedNegativeBinomial.log_prob(x, gate, total, probs)


class ZeroInflatedNegativeBinomialLogits:
    """0 with probability `gate`, else a NegativeBinomial(total, logits)."""

    @staticmethod
    def log_prob(x: Tensor, gate: Value, total: Value, logits: Value) -> Tensor:
        return _zero_inflated(x, gate, NegativeBinomialLogits.log_prob(x, total, logits))

    @staticmethod
    def draw(noise: Noise, shape: Shape, gate: Value, total: Value, logits: Value) -> tuple[Tensor, Tensor]:
        x = _opened(noise, shape, gate, NegativeBinomialLogits.draw(noise, shape, total, logits)[0])
        return x, ZeroInflatedNegativeBinomialLogits.log_prob(x, gate, total, logits)


class DiscreteUniform:
    """Each whole number from `low` to `high`, both included."""

    @staticmethod
    def log_prob(x: Tensor, low: Value, high: Value) -> Tensor:
        x = floating(x, low, high)
        count = _tensor(high - low + 1.0, x)
        shape = broadcast_shape(x, count)
        return within(x, low, high, expand(-count.to(x.dtype).log(), shape, x))

    @staticmethod
    def draw(noise: Noise, shape: Shape, low: Value, high: Value) -> tuple[Tensor, Tensor]:
        u = noise.uniform(shape)
        x = (low + (u * (high - low + 1.0)).floor()).detach().to(u.dtype)
        return x, DiscreteUniform.log_prob(x, low, high)

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, at_least: Value, at_most: Value) -> Value:
        return Uniform.log_mass(low - 0.5, high + 0.5, at_least - 0.5, at_most + 0.5)
