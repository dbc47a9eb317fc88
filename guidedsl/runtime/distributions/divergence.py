"""Kullback-Leibler divergences in closed form.

The log density of most families is made of a few functions of the draw: of x and log x for a gamma. So KL(q | p) is
made of the entropy of q and of the means of these functions under q. A law has the means that are known of a family;
`_MEAN_LOG_DENSITIES` has what a prior makes of them. The registry of distributions says which go together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from guidedsl.runtime.distributions import categorical, continuous, discrete, multivariate, positive, simplex
from guidedsl.runtime.distributions.bounded import Beta, BetaMean, LogitNormal, Uniform
from guidedsl.runtime.distributions.multivariate import log_diagonal_sum
from guidedsl.runtime.distributions.special import LOG_2, LOG_PI, LOG_SQRT_2PI, Value, lgamma, log, xlog1py
from guidedsl.runtime.factors import cholesky

EULER = 0.5772156649015329


class _Law:
    """What is known of a law on numbers; `rank` counts the event dims of a draw."""

    rank = 0
    entropy: Tensor
    mean: Tensor
    variance: Tensor

    @property
    def square(self) -> Tensor:
        """E x²."""
        return self.mean.square() + self.variance

    def distance(self, to: Value) -> Tensor:
        """E |x - to|: of a normal law of this mean and variance (the folded normal's mean)."""
        d, sd = self.mean - to, self.variance.sqrt()
        return sd * math.sqrt(2.0 / math.pi) * (-0.5 * (d / sd).square()).exp() + d * (d / (sd * math.sqrt(2.0))).erf()


class _Normal(_Law):
    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        self.mean, self.variance = loc, scale.square()
        self.entropy = scale.log() + (LOG_SQRT_2PI + 0.5)


class _Laplace(_Law):
    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        self.mean, self.scale = loc, scale
        self.variance = 2.0 * scale.square()
        self.entropy = scale.log() + (1.0 + LOG_2)

    def distance(self, to: Value) -> Tensor:
        d = (self.mean - to).abs()
        return d + self.scale * (-d / self.scale).exp()


class _Logistic(_Law):
    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        self.mean, self.variance = loc, scale.square() * (math.pi**2 / 3.0)
        self.entropy = scale.log() + 2.0


class _Gumbel(_Law):
    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        self.mean, self.variance = loc + EULER * scale, scale.square() * (math.pi**2 / 6.0)
        self.entropy = scale.log() + (EULER + 1.0)


class _LogNormal(_Law):
    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        self.log, self.log_variance = loc, scale.square()
        self.entropy = loc + scale.log() + (LOG_SQRT_2PI + 0.5)

    @cached_property
    def mean(self) -> Tensor:  # type: ignore[override]
        return (self.log + 0.5 * self.log_variance).exp()

    @cached_property
    def inverse(self) -> Tensor:
        """E 1/x."""
        return (0.5 * self.log_variance - self.log).exp()

    @cached_property
    def square(self) -> Tensor:
        return (2.0 * (self.log + self.log_variance)).exp()


class _HalfNormal(_Law):
    def __init__(self, scale: Tensor) -> None:
        self.mean, self.variance = scale * math.sqrt(2.0 / math.pi), scale.square() * (1.0 - 2.0 / math.pi)
        self.log = scale.log() - 0.5 * (EULER + LOG_2)
        self.log_variance = torch.full_like(scale, math.pi**2 / 8.0)
        self.entropy = scale.log() + 0.5 * (1.0 + LOG_PI - LOG_2)


class _Gamma(_Law):
    def __init__(self, concentration: Tensor, rate: Tensor) -> None:
        self.concentration, self.rate = concentration, rate
        self.mean = concentration / rate
        self.log = concentration.digamma() - rate.log()
        a = concentration
        self.entropy = a - rate.log() + a.lgamma() + (1.0 - a) * a.digamma()

    @cached_property
    def variance(self) -> Tensor:  # type: ignore[override]
        return self.mean / self.rate

    @cached_property
    def log_variance(self) -> Tensor:
        return self.concentration.polygamma(1)


class _InverseGamma(_Law):
    def __init__(self, concentration: Tensor, rate: Tensor) -> None:
        self.concentration = concentration
        self.log = rate.log() - concentration.digamma()
        self.inverse = concentration / rate
        self.entropy = (
            concentration + rate.log() + concentration.lgamma() - (1.0 + concentration) * (concentration.digamma())
        )

    @cached_property
    def log_variance(self) -> Tensor:
        return self.concentration.polygamma(1)


class _Weibull(_Law):
    def __init__(self, scale: Tensor, concentration: Tensor) -> None:
        self.mean = scale * (1.0 + 1.0 / concentration).lgamma().exp()
        self.log = scale.log() - EULER / concentration
        self.log_variance = (math.pi**2 / 6.0) / concentration.square()
        self.entropy = EULER * (1.0 - 1.0 / concentration) + (scale / concentration).log() + 1.0


class _Beta(_Law):
    def __init__(self, concentration1: Tensor, concentration0: Tensor) -> None:
        a, b = concentration1, concentration0
        psi_a, psi_b, psi_both = a.digamma(), b.digamma(), (a + b).digamma()
        self.log, self.log1m = psi_a - psi_both, psi_b - psi_both
        norm = a.lgamma() + b.lgamma() - (a + b).lgamma()
        self.entropy = norm - (a - 1.0) * psi_a - (b - 1.0) * psi_b + (a + b - 2.0) * psi_both


class _LogitNormal(_Law):
    """The entropy is that of logit x: what it lacks, E log x (1 - x), is in the density of a LogitNormal prior too."""

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        self.logit, self.logit_variance = loc, scale.square()
        self.entropy = scale.log() + (LOG_SQRT_2PI + 0.5)


class _Dirichlet(_Law):
    rank = 1

    def __init__(self, concentration: Tensor) -> None:
        a, total = concentration, concentration.sum(-1)
        psi = a.digamma()
        self.log = psi - total.digamma()[..., None]
        norm = a.lgamma().sum(-1) - total.lgamma()
        self.entropy = norm + (total - float(a.shape[-1])) * total.digamma() - ((a - 1.0) * psi).sum(-1)


class _Bernoulli(_Law):
    def __init__(self, probs: Tensor) -> None:
        self.mean = probs
        self.entropy = -torch.xlogy(probs, probs) - xlog1py(1.0 - probs, -probs)


class _Geometric(_Law):
    def __init__(self, probs: Tensor) -> None:
        self.mean = (1.0 - probs) / probs
        self.entropy = -probs.log() - self.mean * (-probs).log1p()


class _Poisson(_Law):
    """The entropy lacks E log x!, as the mean log density of a Poisson prior does."""

    def __init__(self, rate: Tensor, log_rate: Tensor) -> None:
        self.rate = rate
        self.entropy = rate - rate * log_rate


class _Categorical(_Law):
    def __init__(self, probs: Tensor) -> None:
        self.probs = probs
        self.entropy = -torch.xlogy(probs, probs).sum(-1)


class _OneHot(_Categorical):
    rank = 1


class _MultivariateNormal(_Law):
    """`factor` [..., K, M]: the covariance is factor factorᵀ."""

    rank = 1

    def __init__(self, loc: Tensor, factor: Tensor, log_det: Tensor) -> None:
        self.mean, self.factor = loc, factor
        self.entropy = log_det + (LOG_SQRT_2PI + 0.5) * factor.shape[-2]

    @cached_property
    def variance(self) -> Tensor:  # type: ignore[override]
        return self.factor.square().sum(-1)


class _Independent(_Law):
    """A vector of independent numbers."""

    rank = 1

    def __init__(self, each: _Law, shape: tuple[int, ...]) -> None:
        self.mean = each.mean.expand(shape)
        self.factor = each.variance.sqrt().expand(shape).diag_embed()
        self.entropy = each.entropy.expand(shape).sum(-1)


def _multivariate(loc: Tensor, scale_tril: Tensor) -> _MultivariateNormal:
    return _MultivariateNormal(loc, scale_tril, log_diagonal_sum(scale_tril))


def _unit(loc: Tensor, scale: Tensor, unit_tril: Tensor) -> _MultivariateNormal:
    scale = scale.expand(*scale.shape[:-1], unit_tril.shape[-1])
    return _MultivariateNormal(loc, scale[..., None] * unit_tril, scale.log().sum(-1))


def _precision(loc: Tensor, precision: Tensor) -> _MultivariateNormal:
    tril = cholesky(precision)
    eye = torch.eye(tril.shape[-1], dtype=tril.dtype, device=tril.device)
    return _MultivariateNormal(loc, torch.linalg.solve_triangular(tril.mT, eye, upper=True), -log_diagonal_sum(tril))


def _low_rank(loc: Tensor, factor: Tensor, diag: Tensor) -> _MultivariateNormal:
    scale = diag.sqrt()
    log_det = scale.log().sum(-1) + log_diagonal_sum(multivariate.capacitance(factor / scale[..., None]))
    batch = torch.broadcast_shapes(factor.shape[:-2], diag.shape[:-1])
    parts = [part.expand(*batch, *part.shape[-2:]) for part in (factor, scale.diag_embed())]
    return _MultivariateNormal(loc, torch.cat(parts, -1), log_det)


_LAWS: dict[type, Callable[..., _Law]] = {
    continuous.Normal: _Normal,
    continuous.Laplace: _Laplace,
    continuous.Logistic: _Logistic,
    continuous.Gumbel: _Gumbel,
    positive.LogNormal: _LogNormal,
    positive.HalfNormal: _HalfNormal,
    positive.Exponential: lambda rate: _Gamma(torch.ones_like(rate), rate),
    positive.Gamma: _Gamma,
    positive.GammaScale: lambda concentration, scale: _Gamma(concentration, 1.0 / scale),
    positive.Chi2: lambda df: _Gamma(0.5 * df, torch.full_like(df, 0.5)),
    positive.InverseGamma: _InverseGamma,
    positive.Weibull: _Weibull,
    Beta: _Beta,
    BetaMean: lambda mean, concentration: _Beta(mean * concentration, (1.0 - mean) * concentration),
    LogitNormal: _LogitNormal,
    simplex.Dirichlet: _Dirichlet,
    discrete.Bernoulli: _Bernoulli,
    discrete.BernoulliLogits: lambda logits: _Bernoulli(logits.sigmoid()),
    discrete.Geometric: _Geometric,
    discrete.GeometricLogits: lambda logits: _Geometric(logits.sigmoid()),
    discrete.Poisson: lambda rate: _Poisson(rate, rate.log()),
    discrete.PoissonLog: lambda log_rate: _Poisson(log_rate.exp(), log_rate),
    categorical.Categorical: _Categorical,
    categorical.CategoricalLogits: lambda logits: _Categorical(logits.softmax(-1)),
    categorical.OneHotCategorical: _OneHot,
    categorical.OneHotCategoricalLogits: lambda logits: _OneHot(logits.softmax(-1)),
    multivariate.MultivariateNormal: _multivariate,
    multivariate.MultivariateNormalCovariance: lambda loc, covariance: _multivariate(loc, cholesky(covariance)),
    multivariate.MultivariateNormalPrecision: _precision,
    multivariate.MultivariateNormalUnit: _unit,
    multivariate.LowRankMultivariateNormal: _low_rank,
}


def _log1m(p: Value) -> Value:
    return (-p).log1p() if isinstance(p, Tensor) else math.log1p(-p)


def _normal(mean: Tensor, variance: Tensor, loc: Value, scale: Value) -> Tensor:
    found: Tensor = -0.5 * ((mean - loc).square() + variance) / scale**2 - log(scale) - LOG_SQRT_2PI
    return found


def _gamma(q: Any, concentration: Value, rate: Value) -> Tensor:
    found: Tensor = (concentration - 1.0) * q.log - rate * q.mean + concentration * log(rate) - lgamma(concentration)
    return found


def _beta(q: Any, concentration1: Value, concentration0: Value) -> Tensor:
    norm = lgamma(concentration1) + lgamma(concentration0) - lgamma(concentration1 + concentration0)
    found: Tensor = (concentration1 - 1.0) * q.log + (concentration0 - 1.0) * q.log1m - norm
    return found


def _inverse_gamma(q: Any, concentration: Value, rate: Value) -> Tensor:
    norm = concentration * log(rate) - lgamma(concentration)
    found: Tensor = norm - (concentration + 1.0) * q.log - rate * q.inverse
    return found


def _dirichlet(q: Any, concentration: Tensor) -> Tensor:
    norm = concentration.lgamma().sum(-1) - concentration.sum(-1).lgamma()
    found: Tensor = ((concentration - 1.0) * q.log).sum(-1) - norm
    return found


def _gaussian(q: Any, whitened: Callable[[Tensor], Tensor], log_det: Value, loc: Value) -> Tensor:
    """`whitened` takes columns [..., K, M] to those in which the covariance is the identity."""
    away = whitened((q.mean - loc)[..., None]).square().sum((-2, -1))
    squares = away + whitened(q.factor).square().sum((-2, -1))
    found: Tensor = -0.5 * squares - log_det - LOG_SQRT_2PI * q.mean.shape[-1]
    return found


def _solved(tril: Tensor, unit: bool = False) -> Callable[[Tensor], Tensor]:
    def whitened(columns: Tensor) -> Tensor:
        found: Tensor = torch.linalg.solve_triangular(tril, columns, upper=False, unitriangular=unit)
        return found

    return whitened


def _tril_prior(q: Any, loc: Value, scale_tril: Tensor) -> Tensor:
    return _gaussian(q, _solved(scale_tril), log_diagonal_sum(scale_tril), loc)


def _unit_prior(q: Any, loc: Value, scale: Tensor, unit_tril: Tensor) -> Tensor:
    scale = scale.expand(*scale.shape[:-1], unit_tril.shape[-1])
    return _gaussian(
        q, lambda columns: _solved(unit_tril, unit=True)(columns / scale[..., None]), scale.log().sum(-1), loc
    )


def _precision_prior(q: Any, loc: Value, precision: Tensor) -> Tensor:
    tril = cholesky(precision)
    return _gaussian(q, lambda columns: tril.mT @ columns, -log_diagonal_sum(tril), loc)


def _walk_prior(q: Any, scale: Value) -> Tensor:
    spread = scale[..., None, None] if isinstance(scale, Tensor) else scale

    def steps(columns: Tensor) -> Tensor:
        return columns.diff(dim=-2, prepend=torch.zeros_like(columns[..., :1, :])) / spread

    return _gaussian(q, steps, log(scale) * float(q.mean.shape[-1]), 0.0)


def _poisson(q: Any, rate: Value, log_rate: Value) -> Tensor:
    found: Tensor = q.rate * log_rate - rate
    return found


def _bernoulli_logits(q: Any, logits: Value) -> Tensor:
    logits = logits if isinstance(logits, Tensor) else q.mean.new_tensor(logits)
    found: Tensor = q.mean * logits - discrete.softplus(logits)
    return found


def _geometric(q: Any, probs: Value) -> Tensor:
    found: Tensor = log(probs) + q.mean * _log1m(probs)
    return found


def _geometric_logits(q: Any, logits: Value) -> Tensor:
    logits = logits if isinstance(logits, Tensor) else q.mean.new_tensor(logits)
    found: Tensor = -discrete.softplus(-logits) - q.mean * discrete.softplus(logits)
    return found


def _classes(q: Any, log_probs: Tensor) -> Tensor:
    # a class that the guide never draws counts for nothing, be it impossible in the prior
    found: Tensor = (q.probs * torch.where(q.probs == 0.0, 0.0, log_probs)).sum(-1)
    return found


def _bernoulli(q: Any, probs: Value) -> Tensor:
    found: Tensor = torch.xlogy(q.mean, probs) + torch.special.xlog1py(1.0 - q.mean, -probs)
    return found


_MEAN_LOG_DENSITIES: dict[type, Callable[..., Tensor]] = {
    continuous.Normal: lambda q, loc, scale: _normal(q.mean, q.variance, loc, scale),
    continuous.Laplace: lambda q, loc, scale: -q.distance(loc) / scale - log(scale) - LOG_2,
    positive.LogNormal: lambda q, loc, scale: _normal(q.log, q.log_variance, loc, scale) - q.log,
    positive.HalfNormal: lambda q, scale: -0.5 * q.square / scale**2 - log(scale) + (LOG_2 - LOG_SQRT_2PI),
    positive.Exponential: lambda q, rate: log(rate) - rate * q.mean,
    positive.Gamma: _gamma,
    positive.GammaScale: lambda q, concentration, scale: _gamma(q, concentration, 1.0 / scale),
    positive.Chi2: lambda q, df: _gamma(q, 0.5 * df, 0.5),
    positive.InverseGamma: _inverse_gamma,
    Beta: _beta,
    BetaMean: lambda q, mean, concentration: _beta(q, mean * concentration, (1.0 - mean) * concentration),
    LogitNormal: lambda q, loc, scale: _normal(q.logit, q.logit_variance, loc, scale),
    Uniform: lambda q, low, high: -log(high - low),
    simplex.Dirichlet: _dirichlet,
    discrete.Bernoulli: _bernoulli,
    discrete.BernoulliLogits: _bernoulli_logits,
    discrete.Geometric: _geometric,
    discrete.GeometricLogits: _geometric_logits,
    discrete.Poisson: lambda q, rate: _poisson(q, rate, log(rate)),
    discrete.PoissonLog: lambda q, log_rate: _poisson(
        q, log_rate.exp() if isinstance(log_rate, Tensor) else math.exp(log_rate), log_rate
    ),
    categorical.Categorical: lambda q, probs: _classes(q, probs.log()),
    categorical.CategoricalLogits: lambda q, logits: _classes(q, logits.log_softmax(-1)),
    categorical.OneHotCategorical: lambda q, probs: _classes(q, probs.log()),
    categorical.OneHotCategoricalLogits: lambda q, logits: _classes(q, logits.log_softmax(-1)),
    multivariate.MultivariateNormal: _tril_prior,
    multivariate.MultivariateNormalCovariance: lambda q, loc, covariance: _tril_prior(q, loc, cholesky(covariance)),
    multivariate.MultivariateNormalPrecision: _precision_prior,
    multivariate.MultivariateNormalUnit: _unit_prior,
    multivariate.GaussianRandomWalk: _walk_prior,
}

_VECTORS = frozenset(
    {simplex.Dirichlet, categorical.OneHotCategorical, categorical.OneHotCategoricalLogits}
    | {multivariate.GaussianRandomWalk}
    | {family for family in _MEAN_LOG_DENSITIES if family.__name__.startswith("MultivariateNormal")}
)
"""Priors on vectors."""


def gaussian_marginals(family: Any, like: Tensor, arguments: Sequence[Any]) -> tuple[Value, Value] | None:
    """Mean and standard deviation of each entry of a normal family, univariate (of the normal behind it) or not."""
    if family in (continuous.Normal, positive.LogNormal, LogitNormal):
        loc, scale = arguments
        return loc, scale
    if family.__name__.startswith(("MultivariateNormal", "LowRankMultivariateNormal")):
        law = _LAWS[family](*(a if isinstance(a, Tensor) else like.new_tensor(a) for a in arguments))
        return law.mean, law.variance.sqrt()
    return None


def kl_plus_log_prob(x: Tensor, q: Any, q_args: tuple[Value, ...], p: Any, p_args: tuple[Value, ...]) -> Tensor:
    """KL(q | p) in closed form + log p(x), which has the mean of log q(x) over draws x of q, in a guide's place of it.

    `q` and `p` are families of this package that the registry pairs, x [..., event]. One value for each entry of x, or
    for each vector where q or p is a family on vectors: [...].
    """
    law: Any = _LAWS[q](*(a if isinstance(a, Tensor) else x.new_tensor(a) for a in q_args))
    log_p: Tensor = p.log_prob(x, *p_args)
    vectors = p in _VECTORS
    if vectors and law.rank == 0:
        law = _Independent(law, tuple(x.shape))
    expected = _MEAN_LOG_DENSITIES[p](law, *p_args)
    if law.rank and not vectors:
        expected, log_p = torch.as_tensor(expected).expand(x.shape).sum(-1), log_p.sum(-1)
    found: Tensor = log_p - expected - law.entropy
    return found
