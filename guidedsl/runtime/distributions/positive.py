"""Families on the positive half-line."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from guidedsl.runtime.distributions.continuous import Cauchy, Normal, StudentT, student_log_norm, student_noise
from guidedsl.runtime.distributions.incomplete import gamma_log_cdf, gamma_log_survival
from guidedsl.runtime.distributions.mass import (
    fold_numbers,
    hazard_mass,
    is_infinity,
    nonnegative_bound,
    two_sided_mass,
)
from guidedsl.runtime.distributions.special import (
    LOG_2,
    LOG_PI,
    LOG_SQRT_2PI,
    Value,
    affine,
    lgamma,
    log,
    minus_half_square,
    standardise,
)
from guidedsl.runtime.noise import Noise, Shape


def _is_zero(bound: Value) -> bool:
    return not isinstance(bound, Tensor) and bound <= 0.0


def log_bound(bound: Value) -> Value:
    """log of a bound, -inf for a number that is not positive."""
    if isinstance(bound, Tensor):
        return bound.clamp(min=torch.finfo(bound.dtype).tiny).log()
    return math.log(bound) if bound > 0.0 else -math.inf


class LogNormal:
    """exp of a Normal(loc, scale)."""

    @staticmethod
    def log_prob(x: Tensor, loc: Value, scale: Value) -> Tensor:
        y = x.log()
        return minus_half_square(-LOG_SQRT_2PI - log(scale), standardise(y, loc, scale)) - y

    @staticmethod
    def draw(noise: Noise, shape: Shape, loc: Value, scale: Value) -> tuple[Tensor, Tensor]:
        eps = noise.normal(shape)
        y = affine(loc, scale, eps)
        return y.exp(), minus_half_square(-LOG_SQRT_2PI - log(scale), eps) - y

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, loc: Value, scale: Value) -> Value:
        return Normal.log_mass(log_bound(low), log_bound(high), loc, scale)


class HalfNormal:
    """|x| of a Normal(0, scale)."""

    @staticmethod
    def log_prob(x: Tensor, scale: Value) -> Tensor:
        return minus_half_square((LOG_2 - LOG_SQRT_2PI) - log(scale), standardise(x, 0.0, scale))

    @staticmethod
    def draw(noise: Noise, shape: Shape, scale: Value) -> tuple[Tensor, Tensor]:
        eps = noise.normal(shape)
        return eps.abs() * scale, minus_half_square((LOG_2 - LOG_SQRT_2PI) - log(scale), eps)

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, scale: Value) -> Value:
        return LOG_2 + Normal.log_mass(nonnegative_bound(low), nonnegative_bound(high), 0.0, scale)


class HalfCauchy:
    """|x| of a Cauchy(0, scale)."""

    @staticmethod
    def log_prob(x: Tensor, scale: Value) -> Tensor:
        return LOG_2 - LOG_PI - log(scale) - standardise(x, 0.0, scale).square().log1p()

    @staticmethod
    def draw(noise: Noise, shape: Shape, scale: Value) -> tuple[Tensor, Tensor]:
        t = (noise.uniform(shape) * (0.5 * math.pi)).tan()
        return t * scale, LOG_2 - LOG_PI - log(scale) - t.square().log1p()

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, scale: Value) -> Value:
        return LOG_2 + Cauchy.log_mass(nonnegative_bound(low), nonnegative_bound(high), 0.0, scale)


class HalfStudentT:
    """|x| of a StudentT(df, 0, scale)."""

    @staticmethod
    def log_prob(x: Tensor, df: Value, scale: Value) -> Tensor:
        return StudentT.log_prob(x, df, 0.0, scale) + LOG_2

    @staticmethod
    def draw(noise: Noise, shape: Shape, df: Value, scale: Value) -> tuple[Tensor, Tensor]:
        t, square_over_df = student_noise(noise, shape, df)
        log_norm = student_log_norm(df) + LOG_2 - log(scale)
        return t.abs() * scale, log_norm - (df + 1.0) / 2.0 * square_over_df.log1p()

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, df: Value, scale: Value) -> Value:
        return LOG_2 + StudentT.log_mass(nonnegative_bound(low), nonnegative_bound(high), df, 0.0, scale)


class Exponential:
    """Mean 1 / rate."""

    @staticmethod
    def log_prob(x: Tensor, rate: Value) -> Tensor:
        return log(rate) - x * rate

    @staticmethod
    def draw(noise: Noise, shape: Shape, rate: Value) -> tuple[Tensor, Tensor]:
        e = noise.exponential(shape)
        return e / rate, log(rate) - e

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, rate: Value) -> Value:
        low, high = nonnegative_bound(low), nonnegative_bound(high)
        return hazard_mass(low * rate, high if is_infinity(high) else high * rate)


class Gamma:
    """Mean concentration / rate."""

    @staticmethod
    def log_prob(x: Tensor, concentration: Value, rate: Value) -> Tensor:
        constant = concentration * log(rate) - lgamma(concentration)
        return torch.xlogy(concentration - 1.0, x) - x * rate + constant

    @staticmethod
    def draw(noise: Noise, shape: Shape, concentration: Value, rate: Value) -> tuple[Tensor, Tensor]:
        g = noise.gamma(concentration, shape)
        return g / rate, _standard_gamma_log_prob(g, concentration) + log(rate)

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, concentration: Value, rate: Value) -> Value:
        return two_sided_mass(
            lambda x: gamma_log_cdf(x, concentration),
            lambda x: gamma_log_survival(x, concentration),
            None if _is_zero(low) else nonnegative_bound(low) * rate,
            None if is_infinity(high) else nonnegative_bound(high) * rate,
            concentration,
        )


def _standard_gamma_log_prob(g: Tensor, concentration: Value) -> Tensor:
    return torch.xlogy(concentration - 1.0, g) - g - lgamma(concentration)


class GammaScale:
    """Mean concentration * scale."""

    @staticmethod
    def log_prob(x: Tensor, concentration: Value, scale: Value) -> Tensor:
        constant = concentration * log(scale) + lgamma(concentration)
        return torch.xlogy(concentration - 1.0, x) - x / scale - constant

    @staticmethod
    def draw(noise: Noise, shape: Shape, concentration: Value, scale: Value) -> tuple[Tensor, Tensor]:
        g = noise.gamma(concentration, shape)
        return g * scale, _standard_gamma_log_prob(g, concentration) - log(scale)

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, concentration: Value, scale: Value) -> Value:
        return Gamma.log_mass(low, high, concentration, 1.0 / scale)


class InverseGamma:
    """1 / x of a Gamma(concentration, rate): mean rate / (concentration - 1)."""

    @staticmethod
    def log_prob(x: Tensor, concentration: Value, rate: Value) -> Tensor:
        constant = concentration * log(rate) - lgamma(concentration)
        return constant - torch.xlogy(concentration + 1.0, x) - rate / x

    @staticmethod
    def draw(noise: Noise, shape: Shape, concentration: Value, rate: Value) -> tuple[Tensor, Tensor]:
        g = noise.gamma(concentration, shape)
        log_q = torch.xlogy(concentration + 1.0, g) - g - (lgamma(concentration) + log(rate))
        return rate / g, log_q

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, concentration: Value, rate: Value) -> Value:
        low, high = nonnegative_bound(low), nonnegative_bound(high)
        least = 0.0 if is_infinity(high) else 1.0 / high
        return Gamma.log_mass(least, math.inf if _is_zero(low) else 1.0 / low, concentration, rate)


class Chi2:
    """Sum of `df` squared standard normals: Gamma(df/2, 1/2)."""

    @staticmethod
    def log_prob(x: Tensor, df: Value) -> Tensor:
        return Gamma.log_prob(x, df / 2.0, 0.5)

    @staticmethod
    def draw(noise: Noise, shape: Shape, df: Value) -> tuple[Tensor, Tensor]:
        return Gamma.draw(noise, shape, df / 2.0, 0.5)

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, df: Value) -> Value:
        return Gamma.log_mass(low, high, df / 2.0, 0.5)


class Weibull:
    """Survival function exp(-(x/scale)^concentration)."""

    @staticmethod
    def log_prob(x: Tensor, scale: Value, concentration: Value) -> Tensor:
        log_z = x.log() - log(scale)
        powered = log_z * concentration
        return powered - log_z - powered.exp() + (log(concentration) - log(scale))

    @staticmethod
    def draw(noise: Noise, shape: Shape, scale: Value, concentration: Value) -> tuple[Tensor, Tensor]:
        e = noise.exponential(shape)
        log_e = e.log()
        log_z = log_e / concentration
        return log_z.exp() * scale, log_e - log_z - e + (log(concentration) - log(scale))

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, scale: Value, concentration: Value) -> Value:
        low, high = nonnegative_bound(low), nonnegative_bound(high)
        lower = 0.0 if _is_zero(low) else (low / scale) ** concentration
        return hazard_mass(lower, high if is_infinity(high) else (high / scale) ** concentration)


class Pareto:
    """Survival function (scale/x)^alpha above `scale`."""

    @staticmethod
    def log_prob(x: Tensor, scale: Value, alpha: Value) -> Tensor:
        density = (log(alpha) + alpha * log(scale)) - torch.xlogy(alpha + 1.0, x)
        return torch.where(x >= scale, density, -math.inf) if isinstance(scale, Tensor) else density

    @staticmethod
    def draw(noise: Noise, shape: Shape, scale: Value, alpha: Value) -> tuple[Tensor, Tensor]:
        e = noise.exponential(shape)
        log_z = e / alpha
        return log_z.exp() * scale, (log(alpha) - log(scale)) - e - log_z

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, scale: Value, alpha: Value) -> Value:
        lower = 0.0 if _is_zero(low) else _pareto_hazard(low, scale, alpha)
        return hazard_mass(lower, high if is_infinity(high) else _pareto_hazard(high, scale, alpha))


def _pareto_hazard(x: Value, scale: Value, alpha: Value) -> Value:
    log_z = log(x / scale)
    return alpha * (log_z.clamp(min=0.0) if isinstance(log_z, Tensor) else max(log_z, 0.0))
