"""Families on intervals."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from guidedsl.runtime.distributions.continuous import Normal
from guidedsl.runtime.distributions.incomplete import beta_log_cdf, beta_log_survival
from guidedsl.runtime.distributions.mass import (
    fold_numbers,
    hazard_mass,
    log1mexp,
    mirror,
    standard_bound,
    two_sided_mass,
)
from guidedsl.runtime.distributions.special import (
    LOG_SQRT_2PI,
    Value,
    affine,
    broadcast_shape,
    clamp,
    expand,
    lgamma,
    log,
    minus_half_square,
    standardise,
    xlog1py,
)
from guidedsl.runtime.noise import Noise, Shape


def within(x: Tensor, low: Value, high: Value, density: Tensor) -> Tensor:
    """`density` where low <= x <= high, else -inf. Bounds that are numbers are the type system's to keep."""
    if isinstance(low, Tensor):
        density = torch.where(x >= low, density, -math.inf)
    if isinstance(high, Tensor):
        density = torch.where(x <= high, density, -math.inf)
    return density


def _unit_bounds(low: Value, high: Value) -> tuple[Value | None, Value | None]:
    """Bounds inside (0, 1), None for numbers at or beyond its ends."""
    below = inside_unit(low) if isinstance(low, Tensor) else None if low <= 0.0 else low
    return below, inside_unit(high) if isinstance(high, Tensor) else None if high >= 1.0 else high


def _log_beta(a: Value, b: Value) -> Value:
    return lgamma(a) + lgamma(b) - lgamma(a + b)


class Beta:
    """Mean concentration1 / (concentration1 + concentration0)."""

    @staticmethod
    def log_prob(x: Tensor, concentration1: Value, concentration0: Value) -> Tensor:
        rest = xlog1py(concentration0 - 1.0, -x) - _log_beta(concentration1, concentration0)
        return torch.xlogy(concentration1 - 1.0, x) + rest

    @staticmethod
    def draw(noise: Noise, shape: Shape, concentration1: Value, concentration0: Value) -> tuple[Tensor, Tensor]:
        logit = noise.log_gamma(concentration1, shape) - noise.log_gamma(concentration0, shape)
        log_x, log_rest = F.logsigmoid(logit), F.logsigmoid(-logit)
        log_q = (concentration1 - 1.0) * log_x + (concentration0 - 1.0) * log_rest
        return inside_unit(logit.sigmoid()), log_q - _log_beta(concentration1, concentration0)

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, concentration1: Value, concentration0: Value) -> Value:
        return two_sided_mass(
            lambda x: beta_log_cdf(x, concentration1, concentration0),
            lambda x: beta_log_survival(x, concentration1, concentration0),
            *_unit_bounds(low, high),
            concentration1 / (concentration1 + concentration0),
        )


class BetaMean:
    """By mean and total concentration."""

    @staticmethod
    def log_prob(x: Tensor, mean: Value, concentration: Value) -> Tensor:
        return Beta.log_prob(x, mean * concentration, (1.0 - mean) * concentration)

    @staticmethod
    def draw(noise: Noise, shape: Shape, mean: Value, concentration: Value) -> tuple[Tensor, Tensor]:
        return Beta.draw(noise, shape, mean * concentration, (1.0 - mean) * concentration)

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, mean: Value, concentration: Value) -> Value:
        return Beta.log_mass(low, high, mean * concentration, (1.0 - mean) * concentration)


def inside_unit(x: Tensor) -> Tensor:
    """x in [0, 1] moved off the ends, where rounding put it there."""
    finfo = torch.finfo(x.dtype)
    return x.clamp(finfo.tiny, 1.0 - finfo.eps / 2.0)


class Kumaraswamy:
    """Distribution function 1 - (1 - x^concentration1)^concentration0 (Kumaraswamy 1980)."""

    @staticmethod
    def log_prob(x: Tensor, concentration1: Value, concentration0: Value) -> Tensor:
        log_x = x.log()
        log_rest = (-torch.expm1(concentration1 * log_x)).log()
        constant = log(concentration1) + log(concentration0)
        return (concentration1 - 1.0) * log_x + (concentration0 - 1.0) * log_rest + constant

    @staticmethod
    def draw(noise: Noise, shape: Shape, concentration1: Value, concentration0: Value) -> tuple[Tensor, Tensor]:
        e = noise.exponential(shape) / concentration0
        log_x = (-torch.expm1(-e)).log() / concentration1
        constant = log(concentration1) + log(concentration0)
        log_q = (concentration1 - 1.0) * log_x - (concentration0 - 1.0) * e + constant
        return inside_unit(log_x.exp()), log_q

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, concentration1: Value, concentration0: Value) -> Value:
        below, above = _unit_bounds(low, high)

        def hazard(x: Value) -> Tensor:
            return -concentration0 * log1mexp(-torch.as_tensor(log(x) * concentration1))

        return hazard_mass(0.0 if below is None else hazard(below), math.inf if above is None else hazard(above))


class LogitNormal:
    """sigmoid of a Normal(loc, scale)."""

    @staticmethod
    def log_prob(x: Tensor, loc: Value, scale: Value) -> Tensor:
        y = x.logit()
        return minus_half_square(-LOG_SQRT_2PI - log(scale), standardise(y, loc, scale)) - (x * (1.0 - x)).log()

    @staticmethod
    def draw(noise: Noise, shape: Shape, loc: Value, scale: Value) -> tuple[Tensor, Tensor]:
        eps = noise.normal(shape)
        y = affine(loc, scale, eps)
        log_q = minus_half_square(-LOG_SQRT_2PI - log(scale), eps) + y
        return inside_unit(y.sigmoid()), torch.add(log_q, F.logsigmoid(y), alpha=-2.0)

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, loc: Value, scale: Value) -> Value:
        below, above = _unit_bounds(low, high)
        return Normal.log_mass(
            -math.inf if below is None else _logit(below), math.inf if above is None else _logit(above), loc, scale
        )


def _logit(p: Value) -> Value:
    return p.logit() if isinstance(p, Tensor) else math.log(p / (1.0 - p))


class Uniform:
    """Constant density from `low` to `high`."""

    @staticmethod
    def log_prob(x: Tensor, low: Value, high: Value) -> Tensor:
        return within(x, low, high, expand(-log(high - low), broadcast_shape(x, low, high), x))

    @staticmethod
    def draw(noise: Noise, shape: Shape, low: Value, high: Value) -> tuple[Tensor, Tensor]:
        u = noise.uniform(shape)
        return affine(low, high - low, u), expand(-log(high - low), shape, u)

    @staticmethod
    @fold_numbers
    def log_mass(low: Value, high: Value, at_least: Value, at_most: Value) -> Value:
        if isinstance(low, Tensor) or isinstance(at_least, Tensor):
            low = torch.maximum(*_pair(low, at_least, at_most))
        else:
            low = max(low, at_least)
        if isinstance(high, Tensor) or isinstance(at_most, Tensor):
            high = torch.minimum(*_pair(high, at_most, at_least))
        else:
            high = min(high, at_most)
        return log(high - low) - log(at_most - at_least)


def _pair(a: Value, b: Value, other: Value) -> tuple[Tensor, Tensor]:
    like = next(t for t in (a, b, other) if isinstance(t, Tensor))
    return torch.as_tensor(a, dtype=like.dtype, device=like.device), torch.as_tensor(
        b, dtype=like.dtype, device=like.device
    )


class TruncatedNormal:
    """A Normal(loc, scale) given that it lies between `low` and `high` (numbers may be infinite)."""

    @staticmethod
    def log_prob(x: Tensor, loc: Value, scale: Value, low: Value, high: Value) -> Tensor:
        return within(x, low, high, Normal.log_prob(x, loc, scale) - Normal.log_mass(low, high, loc, scale))

    @staticmethod
    def draw(noise: Noise, shape: Shape, loc: Value, scale: Value, low: Value, high: Value) -> tuple[Tensor, Tensor]:
        sign, z = _truncated(noise.uniform(shape), standard_bound(low, loc, scale), standard_bound(high, loc, scale))
        log_q = minus_half_square(-LOG_SQRT_2PI - log(scale), z) - Normal.log_mass(low, high, loc, scale)
        return clamp(affine(loc, scale, z * sign), low, high), log_q


def _truncated(u: Tensor, low: Value, high: Value) -> tuple[Value, Tensor]:
    """(sign, z): sign * z is the standard normal between low and high whose distribution function is at u or 1 - u."""
    sign, below, above = mirror(low, high)
    if not isinstance(above, Tensor):
        if above == math.inf:
            return sign, torch.special.ndtri(u)
        above = u.new_tensor(above)
    upper = torch.special.ndtr(above)
    lower = torch.special.ndtr(below) if isinstance(below, Tensor) else 0.0
    p = lower + u * (upper - lower)
    tiny = torch.finfo(u.dtype).tiny
    z = torch.special.ndtri(p.clamp(min=tiny))
    # Where even the left tail underflows, x² is exponential beyond the bound (Mills' ratio, leading term).
    span = torch.exp(0.5 * (above.square() - below.square())) if isinstance(below, Tensor) else 0.0
    far = -(above.square() - 2.0 * torch.log(span + u * (1.0 - span))).clamp(min=tiny).sqrt()
    return sign, torch.where(p > tiny, z, far)


class VonMises:
    """On the circle, from -π to π: density proportional to exp(concentration * cos(x - loc))."""

    @staticmethod
    def log_prob(x: Tensor, loc: Value, concentration: Value) -> Tensor:
        kappa = concentration if isinstance(concentration, Tensor) else x.new_tensor(concentration)
        # log I₀ = κ + log(exp(-κ) I₀), and cos - 1 in the half angle keeps a large κ's precision
        half = ((x - loc) * 0.5).sin().square()
        log_i0e: Tensor = torch.special.i0e(kappa).log()
        return torch.addcmul(-log_i0e - math.log(2.0 * math.pi), kappa, half, value=-2.0)

    @staticmethod
    def draw(noise: Noise, shape: Shape, loc: Value, concentration: Value) -> tuple[Tensor, Tensor]:
        """Rejection from a wrapped Cauchy (Best and Fisher 1979); no gradient through x."""
        with torch.no_grad():
            zero = torch.zeros(tuple(shape), dtype=noise.dtype, device=noise.device)
            kappa = (zero + concentration).clamp(min=1e-4).double()
            tau = 1.0 + (1.0 + 4.0 * kappa.square()).sqrt()
            rho = (tau - (2.0 * tau).sqrt()) / (2.0 * kappa)
            r = (1.0 + rho.square()) / (2.0 * rho)
            angle, waiting = zero.double(), torch.ones_like(zero, dtype=torch.bool)
            while bool(waiting.any()):
                z = (noise.uniform(shape).double() * math.pi).cos()
                f = (1.0 + r * z) / (r + z)
                c = kappa * (r - f)
                v = noise.uniform(shape).double()
                accepted = waiting & ((c * (2.0 - c) > v) | ((c / v).log() + 1.0 - c >= 0.0))
                side = torch.where(noise.uniform(shape) < 0.5, -1.0, 1.0)
                angle = torch.where(accepted, side * f.clamp(-1.0, 1.0).acos(), angle)
                waiting = waiting & ~accepted
            x = torch.remainder(angle + loc + math.pi, 2.0 * math.pi) - math.pi
            x = x.to(noise.dtype)
        return x, VonMises.log_prob(x, loc, concentration)
