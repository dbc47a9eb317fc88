"""Families on the real line."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from guidedsl.runtime.distributions.incomplete import student_log_cdf
from guidedsl.runtime.distributions.mass import (
    fold_numbers,
    is_infinity,
    is_minus_infinity,
    log1mexp,
    log_difference,
    standard_bound,
    symmetric_mass,
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


class Normal:
    """Mean `loc`, standard deviation `scale`."""

    @staticmethod
    def log_prob(x: Tensor, loc: Value, scale: Value) -> Tensor:
        return minus_half_square(-LOG_SQRT_2PI - log(scale), standardise(x, loc, scale))

    @staticmethod
    def draw(noise: Noise, shape: Shape, loc: Value, scale: Value) -> tuple[Tensor, Tensor]:
        eps = noise.normal(shape)
        return affine(loc, scale, eps), minus_half_square(-LOG_SQRT_2PI - log(scale), eps)

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, loc: Value, scale: Value) -> Value:
        return symmetric_mass(torch.special.log_ndtr, standard_bound(low, loc, scale), standard_bound(high, loc, scale))


class Cauchy:
    """Median `loc`, half width at half maximum `scale`."""

    @staticmethod
    def log_prob(x: Tensor, loc: Value, scale: Value) -> Tensor:
        return -LOG_PI - log(scale) - standardise(x, loc, scale).square().log1p()

    @staticmethod
    def draw(noise: Noise, shape: Shape, loc: Value, scale: Value) -> tuple[Tensor, Tensor]:
        t = ((noise.uniform(shape) - 0.5) * math.pi).tan()
        return affine(loc, scale, t), -LOG_PI - log(scale) - t.square().log1p()

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, loc: Value, scale: Value) -> Value:
        return symmetric_mass(_cauchy_log_cdf, standard_bound(low, loc, scale), standard_bound(high, loc, scale))


def _cauchy_log_cdf(z: Tensor) -> Tensor:
    # 1/2 + atan(z)/π = atan2(1, -z)/π, which below 0 is atan(1/|z|)/π and so keeps the tail
    return torch.atan2(torch.ones_like(z), -z).log() - LOG_PI


class StudentT:
    """`df` degrees of freedom, moved to `loc` and scaled by `scale`."""

    @staticmethod
    def log_prob(x: Tensor, df: Value, loc: Value, scale: Value) -> Tensor:
        square = standardise(x, loc, scale).square()
        return student_log_norm(df) - log(scale) - (df + 1.0) / 2.0 * (square / df).log1p()

    @staticmethod
    def draw(noise: Noise, shape: Shape, df: Value, loc: Value, scale: Value) -> tuple[Tensor, Tensor]:
        t, square_over_df = student_noise(noise, shape, df)
        return affine(loc, scale, t), student_log_norm(df) - log(scale) - (df + 1.0) / 2.0 * square_over_df.log1p()

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, df: Value, loc: Value, scale: Value) -> Value:
        return symmetric_mass(
            lambda t: student_log_cdf(t, df), standard_bound(low, loc, scale), standard_bound(high, loc, scale)
        )


def student_log_norm(df: Value, dim: int = 1) -> Value:
    """log of the standard t's density at 0, in `dim` dimensions (Kotz and Nadarajah 2004, eq. 1.1)."""
    return lgamma((df + float(dim)) / 2.0) - lgamma(df / 2.0) - 0.5 * dim * (log(df) + LOG_PI)


def student_noise(noise: Noise, shape: Shape, df: Value) -> tuple[Tensor, Tensor]:
    """(t, t²/df) for a standard t of `shape`: a normal over the root of an independent chi-square."""
    eps = noise.normal(shape)
    halves = 0.5 / noise.gamma(df / 2.0, shape)
    return eps * (df * halves).sqrt(), eps.square() * halves


class Laplace:
    """Mean `loc`, mean absolute deviation `scale`."""

    @staticmethod
    def log_prob(x: Tensor, loc: Value, scale: Value) -> Tensor:
        return -LOG_2 - log(scale) - standardise(x, loc, scale).abs()

    @staticmethod
    def draw(noise: Noise, shape: Shape, loc: Value, scale: Value) -> tuple[Tensor, Tensor]:
        v = noise.uniform(shape) * 2.0 - 1.0
        minus_abs = (-v.abs()).log1p()
        return affine(loc, scale, torch.copysign(minus_abs, v)), minus_abs - (log(scale) + LOG_2)

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, loc: Value, scale: Value) -> Value:
        return symmetric_mass(_laplace_log_cdf, standard_bound(low, loc, scale), standard_bound(high, loc, scale))


def _laplace_log_cdf(z: Tensor) -> Tensor:
    return torch.where(z < 0, z - LOG_2, torch.log1p(-0.5 * torch.exp(-z.abs())))


class AsymmetricLaplace:
    """An exponential of mean scale * asymmetry to the left of `loc`, of mean scale / asymmetry to the right."""

    @staticmethod
    def log_prob(x: Tensor, loc: Value, scale: Value, asymmetry: Value) -> Tensor:
        left, right = scale * asymmetry, scale / asymmetry
        z = standardise(x, loc, 1.0)
        return torch.where(z < 0, z / left, -z / right) - log(left + right)

    @staticmethod
    def draw(noise: Noise, shape: Shape, loc: Value, scale: Value, asymmetry: Value) -> tuple[Tensor, Tensor]:
        left, right = scale * asymmetry, scale / asymmetry
        z = noise.exponential(shape) * right - noise.exponential(shape) * left
        return z + loc, torch.where(z < 0, z / left, -z / right) - log(left + right)


class SoftLaplace:
    """A smooth Laplace: log density -log cosh((x - loc)/scale) up to a constant (the hyperbolic secant law)."""

    @staticmethod
    def log_prob(x: Tensor, loc: Value, scale: Value) -> Tensor:
        z = standardise(x, loc, scale)
        return LOG_2 - LOG_PI - log(scale) - torch.logaddexp(z, -z)

    @staticmethod
    def draw(noise: Noise, shape: Shape, loc: Value, scale: Value) -> tuple[Tensor, Tensor]:
        z = (noise.uniform(shape) * (0.5 * math.pi)).tan().log()
        return affine(loc, scale, z), LOG_2 - LOG_PI - log(scale) - torch.logaddexp(z, -z)

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, loc: Value, scale: Value) -> Value:
        return symmetric_mass(_soft_log_cdf, standard_bound(low, loc, scale), standard_bound(high, loc, scale))


def _soft_log_cdf(z: Tensor) -> Tensor:
    # atan(exp(z)) ~ exp(z) far below, where the exponential would underflow
    far = z < -30.0
    return torch.where(far, z, torch.where(far, 0.0, z).exp().atan().log()) + (LOG_2 - LOG_PI)


class Logistic:
    """Mean `loc`, scale `scale`: its distribution function is a sigmoid."""

    @staticmethod
    def log_prob(x: Tensor, loc: Value, scale: Value) -> Tensor:
        z = standardise(x, loc, scale)
        return torch.add(-z, F.logsigmoid(z), alpha=2.0) - log(scale)

    @staticmethod
    def draw(noise: Noise, shape: Shape, loc: Value, scale: Value) -> tuple[Tensor, Tensor]:
        u = noise.uniform(shape)
        log_u, log_v = u.log(), (-u).log1p()
        return affine(loc, scale, log_u - log_v), log_u + log_v - log(scale)

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, loc: Value, scale: Value) -> Value:
        return symmetric_mass(F.logsigmoid, standard_bound(low, loc, scale), standard_bound(high, loc, scale))


class Gumbel:
    """Largest values: mode `loc`, distribution function exp(-exp(-(x - loc)/scale))."""

    @staticmethod
    def log_prob(x: Tensor, loc: Value, scale: Value) -> Tensor:
        z = standardise(x, loc, scale)
        return -z - (-z).exp() - log(scale)

    @staticmethod
    def draw(noise: Noise, shape: Shape, loc: Value, scale: Value) -> tuple[Tensor, Tensor]:
        e = noise.exponential(shape)
        log_e = e.log()
        return affine(loc, scale, -log_e), log_e - e - log(scale)

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, loc: Value, scale: Value) -> Value:
        low, high = standard_bound(low, loc, scale), standard_bound(high, loc, scale)
        # log Φ = -exp(-z), so both tails keep their precision in differences of it
        log_below = None if is_minus_infinity(low) else -torch.exp(-torch.as_tensor(low))
        log_above = None if is_infinity(high) else -torch.exp(-torch.as_tensor(high))
        if log_below is None:
            return 0.0 if log_above is None else log_above
        return log1mexp(-log_below) if log_above is None else log_difference(log_above, log_below)


class SkewNormal:
    """Density 2 φ(z) Φ(skew z) / scale with z = (x - loc) / scale (Azzalini 1985)."""

    @staticmethod
    def log_prob(x: Tensor, loc: Value, scale: Value, skew: Value) -> Tensor:
        z = standardise(x, loc, scale)
        tail: Tensor = torch.special.log_ndtr(z * skew)
        return minus_half_square(LOG_2 - LOG_SQRT_2PI - log(scale), z) + tail

    @staticmethod
    def draw(noise: Noise, shape: Shape, loc: Value, scale: Value, skew: Value) -> tuple[Tensor, Tensor]:
        half, eps = noise.normal(shape).abs(), noise.normal(shape)
        x = affine(loc, scale, (half * skew + eps) / (skew**2 + 1.0) ** 0.5)
        return x, SkewNormal.log_prob(x, loc, scale, skew)


class ExponentiallyModifiedNormal:
    """A Normal(loc, scale) plus an independent exponential of mean 1 / rate (Grushka 1972)."""

    @staticmethod
    def log_prob(x: Tensor, loc: Value, scale: Value, rate: Value) -> Tensor:
        steep = scale * rate
        z = standardise(x, loc, scale)
        tail: Tensor = torch.special.log_ndtr(z - steep)
        return log(rate) + steep * (0.5 * steep - z) + tail

    @staticmethod
    def draw(noise: Noise, shape: Shape, loc: Value, scale: Value, rate: Value) -> tuple[Tensor, Tensor]:
        x = affine(loc, scale, noise.normal(shape)) + noise.exponential(shape) / rate
        return x, ExponentiallyModifiedNormal.log_prob(x, loc, scale, rate)
