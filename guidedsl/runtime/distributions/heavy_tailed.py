"""More families on the positive half-line, most of them powers and ratios of simpler ones."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from guidedsl.runtime.distributions.bounded import Beta
from guidedsl.runtime.distributions.continuous import Gumbel, Logistic
from guidedsl.runtime.distributions.mass import fold_numbers, hazard_mass, is_infinity, nonnegative_bound
from guidedsl.runtime.distributions.positive import InverseGamma, Weibull, log_bound
from guidedsl.runtime.distributions.special import Value, lgamma, log
from guidedsl.runtime.noise import Noise, Shape


class LogLogistic:
    """Distribution function 1 / (1 + (x / scale)^-concentration)."""

    @staticmethod
    def log_prob(x: Tensor, scale: Value, concentration: Value) -> Tensor:
        y = x.log()
        return Logistic.log_prob(y, log(scale), 1.0 / concentration) - y

    @staticmethod
    def draw(noise: Noise, shape: Shape, scale: Value, concentration: Value) -> tuple[Tensor, Tensor]:
        y, log_q = Logistic.draw(noise, shape, log(scale), 1.0 / concentration)
        return y.exp(), log_q - y

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, scale: Value, concentration: Value) -> Value:
        return Logistic.log_mass(log_bound(low), log_bound(high), log(scale), 1.0 / concentration)


class Frechet:
    """Distribution function exp(-(x / scale)^-concentration)."""

    @staticmethod
    def log_prob(x: Tensor, scale: Value, concentration: Value) -> Tensor:
        y = x.log()
        return Gumbel.log_prob(y, log(scale), 1.0 / concentration) - y

    @staticmethod
    def draw(noise: Noise, shape: Shape, scale: Value, concentration: Value) -> tuple[Tensor, Tensor]:
        y, log_q = Gumbel.draw(noise, shape, log(scale), 1.0 / concentration)
        return y.exp(), log_q - y

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, scale: Value, concentration: Value) -> Value:
        return Gumbel.log_mass(log_bound(low), log_bound(high), log(scale), 1.0 / concentration)


class Rayleigh:
    """Length of a vector of two independent Normal(0, scale)."""

    @staticmethod
    def log_prob(x: Tensor, scale: Value) -> Tensor:
        return Weibull.log_prob(x, scale * math.sqrt(2.0), 2.0)

    @staticmethod
    def draw(noise: Noise, shape: Shape, scale: Value) -> tuple[Tensor, Tensor]:
        return Weibull.draw(noise, shape, scale * math.sqrt(2.0), 2.0)

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, scale: Value) -> Value:
        return Weibull.log_mass(low, high, scale * math.sqrt(2.0), 2.0)


class InverseChi2:
    """1 / x of a Chi2(df)."""

    @staticmethod
    def log_prob(x: Tensor, df: Value) -> Tensor:
        return InverseGamma.log_prob(x, df / 2.0, 0.5)

    @staticmethod
    def draw(noise: Noise, shape: Shape, df: Value) -> tuple[Tensor, Tensor]:
        return InverseGamma.draw(noise, shape, df / 2.0, 0.5)

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, df: Value) -> Value:
        return InverseGamma.log_mass(low, high, df / 2.0, 0.5)


class ScaledInverseChi2:
    """df scale² / x of a Chi2(df)."""

    @staticmethod
    def log_prob(x: Tensor, df: Value, scale: Value) -> Tensor:
        return InverseGamma.log_prob(x, df / 2.0, df / 2.0 * scale**2)

    @staticmethod
    def draw(noise: Noise, shape: Shape, df: Value, scale: Value) -> tuple[Tensor, Tensor]:
        return InverseGamma.draw(noise, shape, df / 2.0, df / 2.0 * scale**2)

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, df: Value, scale: Value) -> Value:
        return InverseGamma.log_mass(low, high, df / 2.0, df / 2.0 * scale**2)


class Lomax:
    """Survival function (1 + x / scale)^-alpha (Pareto of the second kind)."""

    @staticmethod
    def log_prob(x: Tensor, scale: Value, alpha: Value) -> Tensor:
        return log(alpha) - log(scale) - (alpha + 1.0) * (x / scale).log1p()

    @staticmethod
    def draw(noise: Noise, shape: Shape, scale: Value, alpha: Value) -> tuple[Tensor, Tensor]:
        e = noise.exponential(shape)
        log_z = e / alpha
        return log_z.expm1() * scale, (log(alpha) - log(scale)) - e - log_z

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, scale: Value, alpha: Value) -> Value:
        low, high = nonnegative_bound(low), nonnegative_bound(high)
        return hazard_mass(
            _lomax_hazard(low, scale, alpha), high if is_infinity(high) else _lomax_hazard(high, scale, alpha)
        )


def _lomax_hazard(x: Value, scale: Value, alpha: Value) -> Value:
    return alpha * torch.log1p(torch.as_tensor(x / scale))


class GeneralizedPareto:
    """Survival function (1 + concentration x / scale)^(-1 / concentration), exp(-x / scale) at concentration 0."""

    @staticmethod
    def log_prob(x: Tensor, scale: Value, concentration: Value) -> Tensor:
        z = x / scale
        grown = z * concentration
        return -z * _log1p_over(grown) - grown.log1p() - log(scale)

    @staticmethod
    def draw(noise: Noise, shape: Shape, scale: Value, concentration: Value) -> tuple[Tensor, Tensor]:
        e = noise.exponential(shape)
        grown = e * concentration
        return e * _expm1_over(grown) * scale, -e - grown - log(scale)

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, scale: Value, concentration: Value) -> Value:
        low, high = nonnegative_bound(low), nonnegative_bound(high)
        lower = _excess_hazard(low, scale, concentration)
        return hazard_mass(lower, high if is_infinity(high) else _excess_hazard(high, scale, concentration))


def _excess_hazard(x: Value, scale: Value, concentration: Value) -> Value:
    z = torch.as_tensor(x / scale)
    return z * _log1p_over(z * concentration)


_NEAR_0 = 1e-4
"""Below it three terms of a series are exact to rounding, and quotients are not."""


def _log1p_over(u: Tensor) -> Tensor:
    """log(1 + u) / u, 1 at 0, with finite gradients there."""
    near = u.abs() < _NEAR_0
    safe = torch.where(near, 1.0, u)
    return torch.where(near, 1.0 - u / 2.0 + u.square() / 3.0 - u**3 / 4.0, safe.log1p() / safe)


def _expm1_over(u: Tensor) -> Tensor:
    """(exp(u) - 1) / u, 1 at 0, with finite gradients there."""
    near = u.abs() < _NEAR_0
    safe = torch.where(near, 1.0, u)
    return torch.where(near, 1.0 + u / 2.0 + u.square() / 6.0 + u**3 / 24.0, safe.expm1() / safe)


class FisherSnedecor:
    """Ratio of a Chi2(df1) / df1 and an independent Chi2(df2) / df2."""

    @staticmethod
    def log_prob(x: Tensor, df1: Value, df2: Value) -> Tensor:
        a, b = df1 / 2.0, df2 / 2.0
        ratio = log(df1) - log(df2)
        norm = lgamma(a + b) - lgamma(a) - lgamma(b) + a * ratio
        return norm + torch.xlogy(a - 1.0, x) - (a + b) * (x * df1 / df2).log1p()

    @staticmethod
    def draw(noise: Noise, shape: Shape, df1: Value, df2: Value) -> tuple[Tensor, Tensor]:
        y = noise.log_gamma(df1 / 2.0, shape) - noise.log_gamma(df2 / 2.0, shape) - (log(df1) - log(df2))
        x = y.exp()
        return x, FisherSnedecor.log_prob(x, df1, df2)

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, df1: Value, df2: Value) -> Value:
        low, high = nonnegative_bound(low), nonnegative_bound(high)
        below = df1 * low / (df1 * low + df2)
        return Beta.log_mass(below, 1.0 if is_infinity(high) else df1 * high / (df1 * high + df2), df1 / 2.0, df2 / 2.0)
