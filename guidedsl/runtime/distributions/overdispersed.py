"""Counts whose probability or rate is itself random, and draws without replacement: floating tensors, no gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from guidedsl.runtime.distributions.categorical import Multinomial, pick
from guidedsl.runtime.distributions.discrete import NegativeBinomial
from guidedsl.runtime.distributions.mass import log_difference
from guidedsl.runtime.distributions.special import Value, floating, lgamma
from guidedsl.runtime.noise import Noise, Shape


class GammaPoisson:
    """A Poisson whose rate is Gamma(concentration, rate)."""

    @staticmethod
    def log_prob(x: Tensor, concentration: Value, rate: Value) -> Tensor:
        return NegativeBinomial.log_prob(x, concentration, 1.0 / (1.0 + rate))

    @staticmethod
    def draw(noise: Noise, shape: Shape, concentration: Value, rate: Value) -> tuple[Tensor, Tensor]:
        return NegativeBinomial.draw(noise, shape, concentration, 1.0 / (1.0 + rate))

    @staticmethod
    def log_mass(low: Value, high: Value, concentration: Value, rate: Value) -> Value:
        return NegativeBinomial.log_mass(low, high, concentration, 1.0 / (1.0 + rate))


def _log_beta(a: Value, b: Value) -> Value:
    return lgamma(a) + lgamma(b) - lgamma(a + b)


class BetaNegativeBinomial:
    """Failures before `total` successes whose common probability is Beta(concentration1, concentration0)."""

    @staticmethod
    def log_prob(x: Tensor, total: Value, concentration1: Value, concentration0: Value) -> Tensor:
        x = floating(x, total, concentration1, concentration0)
        choose = (x + total).lgamma() - (x + 1.0).lgamma() - lgamma(total)
        return (
            choose + _log_beta(concentration1 + total, concentration0 + x) - _log_beta(concentration1, concentration0)
        )

    @staticmethod
    def draw(
        noise: Noise, shape: Shape, total: Value, concentration1: Value, concentration0: Value
    ) -> tuple[Tensor, Tensor]:
        odds = (noise.log_gamma(concentration0, shape) - noise.log_gamma(concentration1, shape)).exp()
        x = noise.poisson(noise.gamma(total, shape) * odds, shape)
        return x, BetaNegativeBinomial.log_prob(x, total, concentration1, concentration0)


class Hypergeometric:
    """Successes among `draws` without replacement from `successes` and `failures`."""

    @staticmethod
    def log_prob(x: Tensor, draws: Value, successes: Value, failures: Value) -> Tensor:
        x = floating(x, draws, successes, failures)
        inside = (x <= successes) & (draws - x <= failures)
        k = torch.where(inside, x, 0.0 * x)
        other = torch.where(inside, draws - x, 0.0 * x)
        chosen = _log_choose(successes, k) + _log_choose(failures, other)
        return torch.where(inside, chosen - _log_choose(successes + failures, draws), -torch.inf)

    @staticmethod
    def draw(noise: Noise, shape: Shape, draws: Value, successes: Value, failures: Value) -> tuple[Tensor, Tensor]:
        """One draw after another: as many steps as the largest `draws`."""
        left, wins = noise.full(draws, shape).clone(), noise.full(successes, shape).clone()
        losses, x = noise.full(failures, shape).clone(), torch.zeros(
            tuple(shape), dtype=noise.dtype, device=noise.device
        )
        for _ in range(int(left.max()) if left.numel() else 0):
            u = noise.uniform(shape)
            drawn = left > 0
            won = drawn & (u * (wins + losses) < wins)
            x, wins = x + won.to(x.dtype), wins - won.to(x.dtype)
            losses, left = losses - (drawn & ~won).to(x.dtype), left - drawn.to(x.dtype)
        return x, Hypergeometric.log_prob(x, draws, successes, failures)


def _log_choose(total: Value, x: Value) -> Value:
    return lgamma(total + 1.0) - lgamma(x + 1.0) - lgamma(total - x + 1.0)


class DirichletMultinomial:
    """Counts [..., K] of `total` draws whose common probabilities are Dirichlet(concentration)."""

    @staticmethod
    def log_prob(x: Tensor, total: Value, concentration: Tensor) -> Tensor:
        x = floating(x, concentration)
        whole = concentration.sum(-1)
        front = lgamma(total + 1.0) + whole.lgamma() - (whole + total).lgamma()
        return front + ((x + concentration).lgamma() - concentration.lgamma() - (x + 1.0).lgamma()).sum(-1)

    @staticmethod
    def draw(noise: Noise, shape: Shape, total: Value, concentration: Tensor) -> tuple[Tensor, Tensor]:
        probs = noise.dirichlet(concentration.expand(tuple(shape))).detach()
        x, _ = Multinomial.draw(noise, shape, total, probs)
        return x, DirichletMultinomial.log_prob(x, total, concentration)


class OrderedProbit:
    """Index of the interval between cutpoints [..., K] that a Normal(predictor, 1) falls into: 0 … K."""

    @staticmethod
    def log_prob(x: Tensor, predictor: Value, cutpoints: Tensor) -> Tensor:
        return pick(OrderedProbit._log_probs(predictor, cutpoints), x)

    @staticmethod
    def draw(noise: Noise, shape: Shape, predictor: Value, cutpoints: Tensor) -> tuple[Tensor, Tensor]:
        log_probs = OrderedProbit._log_probs(predictor, cutpoints)
        x = noise.categorical(shape, logits=log_probs)
        return x.to(log_probs.dtype), pick(log_probs, x)

    @staticmethod
    def _log_probs(predictor: Value, cutpoints: Tensor) -> Tensor:
        """[..., K + 1]; each interval from the tail that it lies in."""
        z = cutpoints - (predictor[..., None] if isinstance(predictor, Tensor) else predictor)
        below, above = torch.special.log_ndtr(z), torch.special.log_ndtr(-z)
        low, high = z[..., :-1], z[..., 1:]
        right = low + high > 0.0
        inner = log_difference(
            torch.where(right, above[..., :-1], below[..., 1:]), torch.where(right, above[..., 1:], below[..., :-1])
        )
        return torch.cat((below[..., :1], inner, above[..., -1:]), -1)
