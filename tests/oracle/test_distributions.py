"""Every form of every row of the registry, against torch.distributions and pyro.distributions.

Tests are parametrised from the registry, so a row without an oracle fails.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyro.distributions as pd
import pytest
import torch
from scipy import special, stats
from torch import Tensor

from guidedsl.library.distributions import DISTRIBUTIONS, Distribution, Form
from guidedsl.runtime import distributions
from guidedsl.runtime.noise import Noise


def continuous(of: str) -> bool:
    return re.split(r"[\[(]", of)[0] not in ("bool", "count", "int", "one_hot")


K, R = 3, 2
ROWS = 4
SIMPLE = [row for row in DISTRIBUTIONS.values() if row.rule is None]
"""Those made of others: test_composites."""
FORMS = [pytest.param(row, form, id=form.runtime) for row in SIMPLE for form in row.forms]
PATHWISE = [p for p in FORMS if p.values[0].reparameterised and p.values[0].name != "Point"]  # type: ignore[union-attr]
MASSES = [p for p in FORMS if p.values[0].has_mass and continuous(p.values[0].support)]  # type: ignore[union-attr]
WHOLE_MASSES = [p for p in FORMS if p.values[0].has_mass and not continuous(p.values[0].support)]  # type: ignore[union-attr]

# The event of a draw, by the support's own type name; K - 1 and such stand for other sizes of the same rank.
_RANKS = {
    "corr_cholesky": (K, K),
    "corr": (K, K),
    "cov": (K, K),
    "simplex": (K,),
    "one_hot": (K,),
    "zero_sum": (K,),
    "unit_vector": (K,),
}


def event_of(row: Distribution) -> tuple[int, ...]:
    name, _, dims = row.support.partition("[")
    return _RANKS.get(name, (K,)) if dims else ()


@dataclass
class Oracle:
    """A density and draws for families that torch and pyro lack."""

    density: Callable[[Tensor], Tensor]
    draws: Callable[[tuple[int, ...]], Tensor]

    def log_prob(self, x: Tensor) -> Tensor:
        return self.density(x)

    def sample(self, shape: tuple[int, ...]) -> Tensor:
        return self.draws(shape)


def half_student(df: Tensor, scale: Tensor) -> Oracle:
    whole = pd.StudentT(df, torch.zeros_like(scale), scale)
    return Oracle(lambda x: whole.log_prob(x) + math.log(2.0), lambda shape: whole.sample(shape).abs())


def truncated_normal(loc: Tensor, scale: Tensor, low: Tensor, high: Tensor) -> Oracle:
    normal = pd.Normal(loc, scale)
    mass = normal.cdf(high) - normal.cdf(low)

    def draws(shape: tuple[int, ...]) -> Tensor:
        x = normal.sample(shape)
        while bool(((x < low) | (x > high)).any()):
            x = torch.where((x < low) | (x > high), normal.sample(shape), x)
        return x

    return Oracle(lambda x: normal.log_prob(x) - mass.log(), draws)


def discrete_uniform(low: Tensor, high: Tensor) -> Oracle:
    count = high - low + 1.0

    def draws(shape: tuple[int, ...]) -> Tensor:
        return low + (torch.rand((*shape, *low.shape), dtype=low.dtype) * count).floor()

    return Oracle(lambda x: (-count.log()).expand(x.shape), draws)


def von_mises(loc: Tensor, concentration: Tensor) -> Oracle:
    """torch's log_prob has a Bessel function of eight digits."""
    norm = math.log(2.0 * math.pi) + torch.special.i0(concentration).log()
    return Oracle(lambda x: concentration * (x - loc).cos() - norm, pd.VonMises(loc, concentration).sample)


def vine(concentration: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Correlation matrices from partial correlations (Lewandowski et al. 2009, section 2.4), for K = 3.

    torch 2.13's LKJCholesky.sample, which pyro's uses too, gives the three correlations unequal laws.
    """
    eta = concentration.detach()
    r = 2.0 * pd.Beta(eta + 0.5, eta + 0.5).sample((*shape, 2)).movedim(len(shape), 0) - 1.0
    partial = 2.0 * pd.Beta(eta, eta).sample(shape) - 1.0
    last = partial * ((1.0 - r[0].square()) * (1.0 - r[1].square())).sqrt() + r[0] * r[1]
    one = torch.ones_like(last)
    rows = [torch.stack(v, -1) for v in ((one, r[0], r[1]), (r[0], one, last), (r[1], last, one))]
    return torch.stack(rows, -2)


def inverse_wishart(df: Tensor, scale: Tensor) -> Oracle:
    """By the law of the inverse, with the Jacobian |x|^-(K + 1) of the inversion of a symmetric matrix."""
    inverse = pd.Wishart(df, precision_matrix=scale)
    return Oracle(
        lambda x: inverse.log_prob(torch.linalg.inv(x)) - (K + 1.0) * torch.logdet(x),
        lambda shape: torch.linalg.inv(inverse.sample(shape)),
    )


def fisher(loc: Tensor, concentration: Tensor) -> Oracle:
    """On the sphere in three dimensions, where heights have an inverse distribution function (Fisher 1953)."""

    def density(x: Tensor) -> Tensor:
        norm = concentration.log() - math.log(4.0 * math.pi) - concentration.sinh().log()
        return norm + concentration * (x * loc).sum(-1)

    def draws(shape: tuple[int, ...]) -> Tensor:
        u = torch.rand((*shape, *concentration.shape), dtype=loc.dtype)
        height = 1.0 + (u + (1.0 - u) * (-2.0 * concentration).exp()).log() / concentration
        normal = torch.randn((*u.shape, 3), dtype=loc.dtype)
        across = torch.nn.functional.normalize(normal - (normal * loc).sum(-1, keepdim=True) * loc, dim=-1)
        return height[..., None] * loc + (1.0 - height.square()).sqrt()[..., None] * across

    return Oracle(density, draws)


def random_walk(scale: Tensor) -> object:
    times = torch.arange(1.0, K + 1, dtype=scale.dtype)
    covariance = scale[..., None, None].square() * torch.minimum(times[:, None], times)
    return pd.MultivariateNormal(torch.zeros(K, dtype=scale.dtype), covariance)


def multinomial(total: Tensor, *, probs: Tensor | None = None, logits: Tensor | None = None) -> Oracle:
    categories = pd.Categorical(probs=probs, logits=logits)
    log_probs = probs.log() if probs is not None else logits.log_softmax(-1) if logits is not None else torch.zeros(())

    def density(x: Tensor) -> Tensor:
        return (total + 1.0).lgamma() - (x + 1.0).lgamma().sum(-1) + (x * log_probs).sum(-1)

    def draws(shape: tuple[int, ...]) -> Tensor:
        index = categories.sample((*shape, int(total.max())))
        ones = torch.nn.functional.one_hot(index, K).movedim(len(shape), 0).to(total.dtype)
        kept = torch.arange(int(total.max())).reshape(-1, *(1,) * (ones.dim() - 2)) < total
        return (ones * kept[..., None]).sum(0)

    return Oracle(density, draws)


def standard_cdf(x: Tensor) -> Tensor:
    return 0.5 * torch.erfc(-x / math.sqrt(2.0))


def scipy_draws(law: Any, shape: tuple[int, ...], like: Tensor) -> Tensor:
    seed = int(torch.randint(2**31, ()))
    return torch.as_tensor(law.rvs((*shape, *like.shape), random_state=seed)).to(like.dtype)


def log_beta(a: Tensor, b: Tensor) -> Tensor:
    return a.lgamma() + b.lgamma() - (a + b).lgamma()


def continuous_bernoulli(logits: Tensor) -> Oracle:
    """torch's is cut off around probs = 1/2."""

    def draws(shape: tuple[int, ...]) -> Tensor:
        u = torch.rand((*shape, *logits.shape), dtype=logits.dtype)
        return torch.log1p(u * logits.expm1()) / logits

    return Oracle(lambda x: x * logits - (logits.expm1() / logits).log(), draws)


def relaxed_bernoulli(temperature: Tensor, logits: Tensor) -> Oracle:
    """The density by the change of variables; torch's takes one temperature."""
    logistic = pd.Logistic(logits / temperature, 1.0 / temperature)
    return Oracle(
        lambda x: logistic.log_prob(x.logit()) - x.log() - (-x).log1p(), lambda shape: logistic.sample(shape).sigmoid()
    )


def relaxed_categorical(temperature: Tensor, logits: Tensor) -> Oracle:
    """torch's takes one temperature for all rows."""
    size, t = logits.shape[-1], temperature[..., None]

    def density(x: Tensor) -> Tensor:
        tilted = logits.exp() * x ** (-t)
        top = (logits.exp() * x ** (-t - 1.0)).log().sum(-1)
        return math.lgamma(size) + (size - 1.0) * temperature.log() + top - size * tilted.sum(-1).log()

    def draws(shape: tuple[int, ...]) -> Tensor:
        return ((pd.Gumbel(torch.zeros_like(logits), 1.0).sample(shape) + logits) / t).softmax(-1)

    return Oracle(density, draws)


def ordered_probit(predictor: Tensor, cutpoints: Tensor) -> object:
    below = standard_cdf(cutpoints - predictor[..., None])
    ends = torch.zeros_like(below[..., :1])
    return pd.Categorical(probs=torch.cat((below, ends + 1.0), -1) - torch.cat((ends, below), -1))


def zero_sum_normal(loc: Tensor, scale: Tensor) -> Oracle:
    """K - 1 independent normals in an orthonormal basis of the plane."""
    basis = torch.linalg.qr(torch.eye(K, dtype=scale.dtype) - 1.0 / K)[0][:, : K - 1]

    def density(x: Tensor) -> Tensor:
        return pd.Normal(0.0, scale[..., None]).log_prob((x - loc) @ basis).sum(-1)

    def draws(shape: tuple[int, ...]) -> Tensor:
        z = torch.randn((*shape, *scale.shape, K - 1), dtype=scale.dtype)
        return loc + scale[..., None] * (z @ basis.mT)

    return Oracle(density, draws)


ORACLES: dict[str, Callable[..., Any]] = {
    "SkewNormal": lambda loc, scale, skew: Oracle(
        lambda x: math.log(2.0) + pd.Normal(loc, scale).log_prob(x) + standard_cdf(skew * (x - loc) / scale).log(),
        lambda shape: scipy_draws(stats.skewnorm(*(v.detach().numpy() for v in (skew, loc, scale))), shape, loc),
    ),
    "ExponentiallyModifiedNormal": lambda loc, scale, rate: Oracle(
        lambda x: rate.log()
        + rate * (loc - x)
        + 0.5 * (rate * scale).square()
        + standard_cdf((x - loc) / scale - rate * scale).log(),
        lambda shape: pd.Normal(loc, scale).sample(shape) + pd.Exponential(rate).sample(shape),
    ),
    "LogLogistic": lambda scale, concentration: pd.TransformedDistribution(
        pd.Logistic(scale.log(), 1.0 / concentration), [torch.distributions.ExpTransform()]
    ),
    "Frechet": lambda scale, concentration: pd.TransformedDistribution(
        pd.Gumbel(scale.log(), 1.0 / concentration), [torch.distributions.ExpTransform()]
    ),
    "Rayleigh": lambda scale: Oracle(
        lambda x: x.log() - 2.0 * scale.log() - 0.5 * (x / scale).square(),
        lambda shape: pd.Normal(0.0, scale).sample((2, *shape)).norm(dim=0),
    ),
    "InverseChi2": lambda df: Oracle(
        lambda x: pd.Chi2(df).log_prob(1.0 / x) - 2.0 * x.log(), lambda shape: 1.0 / pd.Chi2(df).sample(shape)
    ),
    "ScaledInverseChi2": lambda df, scale: Oracle(
        lambda x: pd.Chi2(df).log_prob(df * scale.square() / x) + (df * scale.square()).log() - 2.0 * x.log(),
        lambda shape: df * scale.square() / pd.Chi2(df).sample(shape),
    ),
    "Lomax": lambda scale, alpha: Oracle(
        lambda x: pd.Pareto(scale, alpha).log_prob(x + scale),
        lambda shape: pd.Pareto(scale, alpha).sample(shape) - scale,
    ),
    "GeneralizedPareto": lambda scale, concentration: Oracle(
        lambda x: -scale.log() - (1.0 / concentration + 1.0) * (concentration * x / scale).log1p(),
        lambda shape: scale
        / concentration
        * (pd.Exponential(torch.ones_like(scale)).sample(shape) * concentration).expm1(),
    ),
    "FisherSnedecor": pd.FisherSnedecor,
    "BetaMean": lambda mean, concentration: pd.Beta(mean * concentration, (1.0 - mean) * concentration),
    "ContinuousBernoulli": lambda probs: continuous_bernoulli(probs.logit()),
    "ContinuousBernoulliLogits": lambda logits: continuous_bernoulli(logits),
    "RelaxedBernoulli": lambda temperature, probs: relaxed_bernoulli(temperature, probs.logit()),
    "RelaxedBernoulliLogits": lambda temperature, logits: relaxed_bernoulli(temperature, logits),
    "GammaPoisson": pd.GammaPoisson,
    "BetaNegativeBinomial": lambda total, a, b: Oracle(
        lambda x: (x + total).lgamma()
        - (x + 1.0).lgamma()
        - total.lgamma()
        + log_beta(a + total, b + x)
        - log_beta(a, b),
        lambda shape: pd.NegativeBinomial(total, probs=1.0 - pd.Beta(a, b).sample(shape)).sample(),
    ),
    "Hypergeometric": lambda draws, successes, failures: Oracle(
        lambda x: torch.as_tensor(stats.hypergeom.logpmf(x.detach(), successes + failures, successes, draws)),
        lambda shape: scipy_draws(
            stats.hypergeom(*(v.long().numpy() for v in (successes + failures, successes, draws))), shape, draws
        ),
    ),
    "OrderedProbit": ordered_probit,
    "DirichletMultinomial": lambda total, concentration: Oracle(
        lambda x: pd.DirichletMultinomial(concentration, total, is_sparse=False, validate_args=False).log_prob(x),
        lambda shape: multinomial(
            total.expand(*shape, *total.shape), probs=pd.Dirichlet(concentration).sample(shape)
        ).sample(()),
    ),
    "RelaxedOneHotCategorical": lambda temperature, probs: relaxed_categorical(temperature, probs.log()),
    "RelaxedOneHotCategoricalLogits": lambda temperature, logits: relaxed_categorical(temperature, logits),
    "ProjectedNormal": pd.ProjectedNormal,
    "ZeroSumNormal": lambda scale: zero_sum_normal(torch.zeros((), dtype=scale.dtype), scale),
    "ZeroSumNormalLoc": lambda loc, scale: zero_sum_normal(loc, scale),
    "Normal": pd.Normal,
    "Cauchy": pd.Cauchy,
    "StudentT": pd.StudentT,
    "Laplace": pd.Laplace,
    "AsymmetricLaplace": pd.AsymmetricLaplace,
    "SoftLaplace": pd.SoftLaplace,
    "Logistic": pd.Logistic,
    "Gumbel": pd.Gumbel,
    "Point": lambda value: Oracle(torch.zeros_like, lambda shape: value.expand(*shape, *value.shape)),
    "LogNormal": pd.LogNormal,
    "HalfNormal": pd.HalfNormal,
    "HalfCauchy": pd.HalfCauchy,
    "HalfStudentT": half_student,
    "Exponential": pd.Exponential,
    "Gamma": pd.Gamma,
    "GammaScale": lambda concentration, scale: pd.Gamma(concentration, 1.0 / scale),
    "InverseGamma": pd.InverseGamma,
    "Chi2": pd.Chi2,
    "Weibull": pd.Weibull,
    "Pareto": pd.Pareto,
    "Beta": pd.Beta,
    "Kumaraswamy": pd.Kumaraswamy,
    "LogitNormal": lambda loc, scale: pd.TransformedDistribution(
        pd.Normal(loc, scale), [torch.distributions.SigmoidTransform()]
    ),
    "Uniform": pd.Uniform,
    "TruncatedNormal": truncated_normal,
    "VonMises": von_mises,
    "Bernoulli": lambda probs: pd.Bernoulli(probs=probs),
    "BernoulliLogits": lambda logits: pd.Bernoulli(logits=logits),
    "Binomial": lambda total, probs: pd.Binomial(total, probs=probs),
    "BinomialLogits": lambda total, logits: pd.Binomial(total, logits=logits),
    "BetaBinomial": pd.BetaBinomial,
    "Geometric": lambda probs: pd.Geometric(probs=probs),
    "GeometricLogits": lambda logits: pd.Geometric(logits=logits),
    "Poisson": pd.Poisson,
    "PoissonLog": lambda log_rate: pd.Poisson(log_rate.exp()),
    "NegativeBinomial": lambda total, probs: pd.NegativeBinomial(total, probs=probs),
    "NegativeBinomialLogits": lambda total, logits: pd.NegativeBinomial(total, logits=logits),
    "NegativeBinomialMean": lambda mean, dispersion: pd.NegativeBinomial(dispersion, probs=mean / (mean + dispersion)),
    "NegativeBinomialLogMean": lambda log_mean, dispersion: pd.NegativeBinomial(
        dispersion, probs=log_mean.exp() / (log_mean.exp() + dispersion)
    ),
    "ZeroInflatedPoisson": lambda gate, rate: pd.ZeroInflatedPoisson(rate, gate=gate),
    "ZeroInflatedNegativeBinomial": lambda gate, total, probs: pd.ZeroInflatedNegativeBinomial(
        total, probs=probs, gate=gate
    ),
    "ZeroInflatedNegativeBinomialLogits": lambda gate, total, logits: pd.ZeroInflatedNegativeBinomial(
        total, logits=logits, gate=gate
    ),
    "DiscreteUniform": discrete_uniform,
    "Categorical": lambda probs: pd.Categorical(probs=probs),
    "CategoricalLogits": lambda logits: pd.Categorical(logits=logits),
    "OrderedLogistic": pd.OrderedLogistic,
    "OneHotCategorical": lambda probs: pd.OneHotCategorical(probs=probs),
    "OneHotCategoricalLogits": lambda logits: pd.OneHotCategorical(logits=logits),
    "Multinomial": lambda total, probs: multinomial(total, probs=probs),
    "MultinomialLogits": lambda total, logits: multinomial(total, logits=logits),
    "MultivariateNormal": lambda loc, scale_tril: pd.MultivariateNormal(loc, scale_tril=scale_tril),
    "MultivariateNormalCovariance": lambda loc, covariance: pd.MultivariateNormal(loc, covariance_matrix=covariance),
    "MultivariateNormalPrecision": lambda loc, precision: pd.MultivariateNormal(loc, precision_matrix=precision),
    "MultivariateNormalUnit": lambda loc, scale, unit_tril: pd.MultivariateNormal(
        loc, scale_tril=scale[..., None] * unit_tril
    ),
    "LowRankMultivariateNormal": pd.LowRankMultivariateNormal,
    "MultivariateStudentT": pd.MultivariateStudentT,
    "GaussianRandomWalk": random_walk,
    "Dirichlet": pd.Dirichlet,
    "LKJCholesky": lambda concentration: Oracle(
        pd.LKJCholesky(K, concentration).log_prob, lambda shape: torch.linalg.cholesky(vine(concentration, shape))
    ),
    "LKJ": lambda concentration: Oracle(pd.LKJ(K, concentration).log_prob, lambda shape: vine(concentration, shape)),
    "Wishart": lambda df, scale_tril: pd.Wishart(df, scale_tril=scale_tril),
    "WishartCovariance": lambda df, covariance: pd.Wishart(df, covariance_matrix=covariance),
    "InverseWishart": lambda df, scale_tril: inverse_wishart(df, scale_tril @ scale_tril.mT),
    "InverseWishartScale": lambda df, scale: inverse_wishart(df, scale),
    "LogisticNormal": pd.LogisticNormal,
    "VonMisesFisher": fisher,
}


def oracle(form: Form, arguments: list[Tensor]) -> Oracle:
    law: Oracle = ORACLES[form.runtime](*arguments)
    return law


def arguments_of(form: Form, batch: tuple[int, ...], generator: torch.Generator) -> list[Tensor]:
    """Random arguments inside their types, float64, `batch` in front of each one's event dims."""

    def uniform(low: float, high: float, *event: int) -> Tensor:
        return low + (high - low) * torch.rand((*batch, *event), generator=generator, dtype=torch.float64)

    def factor() -> Tensor:
        return uniform(-0.5, 0.5, K, K).tril(-1) + torch.diag_embed(uniform(0.5, 1.5, K))

    makers: dict[str, Callable[[], Tensor]] = {
        "real": lambda: uniform(-1.0, 1.0),
        "positive": lambda: uniform(0.7, 2.5),
        "greater_than(K - 1)": lambda: uniform(K + 1.0, K + 4.0),
        "unit": lambda: uniform(0.2, 0.8),
        "count": lambda: uniform(3.0, 9.0).floor(),
        "nonnegative": lambda: uniform(0.1, 0.9),
        "real[K]": lambda: uniform(-1.0, 1.0, K),
        "unit_vector[K]": lambda: torch.nn.functional.normalize(uniform(-1.0, 1.0, K), dim=-1),
        "real[K - 1]": lambda: uniform(-1.0, 1.0, K - 1),
        "positive[K - 1]": lambda: uniform(0.7, 1.5, K - 1),
        "positive[K]": lambda: uniform(0.7, 2.5, K),
        "real[K, R]": lambda: uniform(-1.0, 1.0, K, R),
        "simplex[K]": lambda: uniform(-1.0, 1.0, K).softmax(-1),
        "zero_sum[K]": lambda: (lambda v: v - v.mean(-1, keepdim=True))(uniform(-1.0, 1.0, K)),
        "ordered[K]": lambda: uniform(0.4, 1.5, K).cumsum(-1) - 1.5,
        "lower_cholesky[K]": factor,
        "cov[K]": lambda: (lambda f: f @ f.mT)(factor()),
        "unit_lower_cholesky[K]": lambda: uniform(-0.5, 0.5, K, K).tril(-1) + torch.eye(K, dtype=torch.float64),
    }
    by_name = {"low": lambda: uniform(-2.0, -0.5), "high": lambda: uniform(0.5, 2.0)}
    whole = {"low": lambda: uniform(-3.0, 0.0).floor(), "high": lambda: uniform(2.0, 5.0).floor()}

    def make(name: str, of: str) -> Tensor:
        return whole[name]() if of == "int" else by_name.get(name, makers[of])()

    return [make(a.name, a.type) for a in form.arguments]


@pytest.fixture
def generator(request: pytest.FixtureRequest) -> torch.Generator:
    seed = zlib.crc32(request.node.name.encode())
    torch.manual_seed(seed)
    return torch.Generator().manual_seed(seed)


def runtime(form: Form) -> type:
    cls: type = getattr(distributions, form.runtime)
    return cls


def noise_of(generator: torch.Generator, dtype: torch.dtype = torch.float64) -> Noise:
    return Noise(generator, dtype)


def free(arguments: list[Tensor]) -> list[Tensor]:
    return [a.clone().requires_grad_() for a in arguments]


def free_arguments(form: Form, arguments: list[Tensor]) -> list[Tensor]:
    """Leaves for a gradient, but for whole numbers."""
    return [a.clone().requires_grad_(continuous(of.type)) for a, of in zip(arguments, form.arguments, strict=True)]


def grads(value: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    if not value.requires_grad:
        return [torch.zeros_like(i) for i in inputs]
    leaves = [i for i in inputs if i.requires_grad]
    found = iter(torch.autograd.grad(value.sum(), leaves, allow_unused=True, retain_graph=True))
    every = [next(found) if i.requires_grad else None for i in inputs]
    return [torch.zeros_like(i) if g is None else g for g, i in zip(every, inputs, strict=True)]


def within_type(gradient: Tensor, of: str) -> Tensor:
    """The part of a gradient along the type: below the diagonal of a factor, symmetric for a covariance."""
    if of == "lower_cholesky[K]":
        return gradient.tril()
    if of == "unit_lower_cholesky[K]":
        return gradient.tril(-1)
    if of == "corr[K]":
        return (gradient + gradient.mT).tril(-1)
    if of == "cov[K]":
        return 0.5 * (gradient + gradient.mT)
    if of in ("simplex[K]", "zero_sum[K]"):
        return gradient - gradient.mean(-1, keepdim=True)
    return gradient


def test_registry_and_runtime_agree() -> None:
    runtimes = {form.runtime for row in DISTRIBUTIONS.values() for form in row.forms}
    assert runtimes == {name for name in distributions.__all__ if isinstance(getattr(distributions, name), type)}
    for row in DISTRIBUTIONS.values():
        assert not row.pyro or hasattr(pd, row.pyro), row.name
    for row in SIMPLE:
        for form in row.forms:
            assert hasattr(runtime(form), "log_mass") == row.has_mass, form.runtime


@pytest.mark.parametrize(("row", "form"), FORMS)
def test_log_prob_and_gradients(row: Distribution, form: Form, generator: torch.Generator) -> None:
    arguments = free_arguments(form, arguments_of(form, (ROWS,), generator))
    law = oracle(form, arguments)
    x = law.sample((5,)).detach().requires_grad_(continuous(row.support))
    ours, theirs = runtime(form).log_prob(x, *arguments), law.log_prob(x)
    assert ours.shape == (5, ROWS)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    inputs, types = [x, *arguments], [row.support, *(a.type for a in form.arguments)]
    for a, b, of in zip(grads(ours, inputs), grads(theirs, inputs), types, strict=True):
        torch.testing.assert_close(within_type(a, of), within_type(b, of), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("row", "form"), FORMS)
def test_log_prob_float32(row: Distribution, form: Form, generator: torch.Generator) -> None:
    # float32 carries 1.2e-7 relative; terms of up to about 30 (lgamma, squared distances) cancel in a log density
    arguments = arguments_of(form, (ROWS,), generator)
    x = oracle(form, arguments).sample((5,))
    single = x.float() if x.is_floating_point() else x
    exact = runtime(form).log_prob(x, *arguments)
    rounded = runtime(form).log_prob(single, *[a.float() for a in arguments])
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded.double(), exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(("row", "form"), FORMS)
def test_draw_has_its_log_prob(row: Distribution, form: Form, dtype: torch.dtype, generator: torch.Generator) -> None:
    arguments = [a.to(dtype) for a in arguments_of(form, (ROWS,), generator)]
    shape = (7, ROWS, *event_of(row))
    x, log_q = runtime(form).draw(noise_of(generator, dtype), shape, *arguments)
    assert x.shape == shape
    assert log_q.shape == (7, ROWS)
    assert log_q.dtype == dtype
    assert x.dtype == (torch.int64 if row.name == "Categorical" else dtype)
    # float32: as above, and x rounds near an end of its support, where log_q in the noise does not
    tolerance = 1e-8 if dtype == torch.float64 else 2e-3
    exact = runtime(form).log_prob(x.double(), *[a.double() for a in arguments])
    torch.testing.assert_close(log_q.double(), exact, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("row", "form"), FORMS)
def test_arguments_with_particles(row: Distribution, form: Form, generator: torch.Generator) -> None:
    """Arguments may have the particle axis too, or a size-1 plate axis, and each row is as if alone."""
    arguments = arguments_of(form, (6, 1), generator)
    shape = (6, ROWS, *event_of(row))
    x, log_q = runtime(form).draw(noise_of(generator), shape, *arguments)
    assert x.shape == shape
    log_prob = runtime(form).log_prob(x, *arguments)
    assert log_prob.shape == log_q.shape == (6, ROWS)
    alone = torch.stack(
        [
            torch.stack([runtime(form).log_prob(x[p, i], *[a[p, 0] for a in arguments]) for i in range(ROWS)])
            for p in range(6)
        ]
    )
    torch.testing.assert_close(log_prob, alone, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("row", "form"), FORMS)
def test_numbers_are_tensors(row: Distribution, form: Form, generator: torch.Generator) -> None:
    arguments = arguments_of(form, (), generator)
    numbers = [a.item() if a.dim() == 0 else a for a in arguments]
    shape = (5, *event_of(row))
    seed = generator.get_state()
    x, log_q = runtime(form).draw(noise_of(generator), shape, *arguments)
    generator.set_state(seed)
    y, log_r = runtime(form).draw(noise_of(generator), shape, *numbers)
    torch.testing.assert_close(x, y)
    torch.testing.assert_close(log_q, log_r)
    torch.testing.assert_close(runtime(form).log_prob(x, *arguments), runtime(form).log_prob(x, *numbers))
    alone, _ = runtime(form).draw(noise_of(generator), event_of(row), *numbers)
    assert alone.shape == event_of(row)


def features(x: Tensor, event: tuple[int, ...]) -> Tensor:
    """Bounded test functions of a draw [N, event]: [N, F]."""
    flat = x.double().reshape(x.shape[0], -1)
    mixed = flat @ torch.linspace(0.3, 1.1, flat.shape[1], dtype=torch.float64)
    return torch.cat((flat.cos(), flat.sin(), mixed.cos()[:, None], flat.tanh()), dim=-1)


@pytest.mark.parametrize(("row", "form"), FORMS)
def test_draws_follow_the_law(row: Distribution, form: Form, generator: torch.Generator) -> None:
    arguments = arguments_of(form, (), generator)
    event, count = event_of(row), 20_000
    ours, _ = runtime(form).draw(noise_of(generator), (count, *event), *arguments)
    a = features(ours, event)
    b = features(oracle(form, arguments).sample((count,)), event)
    error = ((a.var(0) + b.var(0)) / count).sqrt()
    assert bool(((a.mean(0) - b.mean(0)).abs() <= 5.0 * error + 1e-12).all())


@pytest.mark.parametrize(("row", "form"), FORMS)
def test_gradient_of_log_q_is_whole(row: Distribution, form: Form, generator: torch.Generator) -> None:
    """d log_q / d arguments equals d log_prob(x(arguments), arguments): through the sample and directly."""
    arguments = free_arguments(form, arguments_of(form, (ROWS,), generator))
    x, log_q = runtime(form).draw(noise_of(generator), (7, ROWS, *event_of(row)), *arguments)
    assert x.requires_grad == row.reparameterised
    log_prob = runtime(form).log_prob(x, *arguments)
    for a, b, argument in zip(grads(log_q, arguments), grads(log_prob, arguments), form.arguments, strict=True):
        a, b = within_type(a, argument.type), within_type(b, argument.type)
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("row", "form"), PATHWISE)
def test_pathwise_gradient(row: Distribution, form: Form, generator: torch.Generator) -> None:
    """d E[f(x)] / d argument through the sample agrees with the oracle's score-function estimate E[f ∇ log p]."""
    count = 40_000
    arguments = arguments_of(form, (), generator)
    event = event_of(row)
    # one copy of the arguments a draw gives a gradient a draw, and so a standard error
    copies = free([a.expand(count, *a.shape) for a in arguments])
    x, _ = runtime(form).draw(noise_of(generator), (count, *event), *copies)
    path = grads(features(x, event).sum(-1), copies)
    others = free([a.expand(count, *a.shape) for a in arguments])
    law = oracle(form, others)
    y = law.sample(()).detach()
    weight = features(y, event).sum(-1)
    score = grads(law.log_prob(y) * (weight - weight.mean()), others)
    for a, b, argument in zip(path, score, form.arguments, strict=True):
        if row.support.startswith("interval") and argument.name in ("low", "high"):
            continue  # the score does not see a moving support: test_moving_bounds
        if row.name == "Pareto" and argument.name == "scale":
            continue
        a, b = within_type(a, argument.type), within_type(b, argument.type)
        error = ((a.var(0) + b.var(0)) / count).sqrt()
        assert bool(((a.mean(0) - b.mean(0)).abs() <= 5.0 * error + 1e-9).all()), argument.name


@pytest.mark.parametrize("name", ["Uniform", "TruncatedNormal", "Pareto"])
def test_moving_bounds(name: str, generator: torch.Generator) -> None:
    """Gradients through the sample against differences on the same noise."""
    form = DISTRIBUTIONS[name].forms[0]
    arguments = free(arguments_of(form, (), generator))
    state = generator.get_state()

    def mean(*values: Tensor) -> Tensor:
        generator.set_state(state)
        return runtime(form).draw(noise_of(generator), (100,), *values)[0].tanh().mean()

    exact = grads(mean(*arguments), arguments)
    for i, gradient in enumerate(exact):
        moved = [[a.detach() + (k * 1e-6 if i == j else 0.0) for j, a in enumerate(arguments)] for k in (1.0, -1.0)]
        difference = (mean(*moved[0]) - mean(*moved[1])) / 2e-6
        torch.testing.assert_close(gradient, difference, rtol=1e-6, atol=1e-8)


def integral(row: Distribution, form: Form, low: float, high: float, arguments: list[Tensor]) -> Tensor:
    """log ∫ exp(log_prob) from low to high, by Gauss-Legendre on pieces, in logarithms: no underflow."""
    nodes, weights = legendre(40)
    edges = torch.linspace(low, high, 2049, dtype=torch.float64)
    half = 0.5 * edges.diff()
    x = ((edges[:-1] + half)[:, None] + half[:, None] * nodes).reshape(-1)
    log_weights = (half[:, None] * weights).reshape(-1).log()
    return (runtime(form).log_prob(x, *arguments) + log_weights).logsumexp(0)


def legendre(count: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights on (-1, 1) (Golub and Welsch 1969)."""
    i = torch.arange(1.0, count, dtype=torch.float64)
    off = i / (4.0 * i.square() - 1.0).sqrt()
    nodes, vectors = torch.linalg.eigh(torch.diag(off, 1) + torch.diag(off, -1))
    return nodes, 2.0 * vectors[0].square()


def intervals(row: Distribution) -> list[tuple[float, float]]:
    """Inside, and in both tails, for the arguments of arguments_of."""
    if row.support == "unit":
        return [(0.2, 0.7), (1e-4, 2e-4), (0.999, 0.9995), (0.6, 0.600001)]
    if row.name == "Gumbel":  # its left tail is exp(-exp(-x))
        return [(-0.5, 1.5), (-4.0, -3.5), (40.0, 43.0), (0.4, 0.400001)]
    if row.name == "Frechet":  # and so is this one's
        return [(0.5, 2.0), (0.3, 0.4), (60.0, 70.0), (0.8, 0.800001)]
    if row.support == "real":
        return [(-0.5, 1.5), (-41.0, -40.0), (40.0, 43.0), (0.4, 0.400001)]
    if row.support == "positive":
        return [(0.5, 2.0), (0.01, 0.02), (60.0, 70.0), (0.8, 0.800001)]
    if row.name == "Pareto":
        return [(3.0, 4.0), (100.0, 200.0), (3.0, 30.0), (3.0, 3.000001)]
    return [(-0.4, 0.3), (0.1, 0.2), (-0.3, -0.1), (0.2, 0.200001)]


@pytest.mark.parametrize(("row", "form"), MASSES)
def test_log_mass_is_the_integral(row: Distribution, form: Form, generator: torch.Generator) -> None:
    arguments = arguments_of(form, (), generator)
    numbers = [a.item() for a in arguments]
    for low, high in intervals(row):
        exact = integral(row, form, low, high, arguments)
        mass = runtime(form).log_mass(low, high, *arguments)
        # a narrow interval of relative width 1e-6 loses six digits of a difference of distribution functions
        tolerance = 1e-8 if high - low > 1e-4 * abs(high) else 1e-4
        torch.testing.assert_close(mass, exact, rtol=tolerance, atol=tolerance)
        folded = runtime(form).log_mass(low, high, *numbers)
        assert isinstance(folded, float)
        assert folded == pytest.approx(mass.item(), rel=1e-9, abs=1e-9)
        bounds = [torch.tensor(b, dtype=torch.float64) for b in (low, high)]
        torch.testing.assert_close(runtime(form).log_mass(*bounds, *arguments), mass)
        torch.testing.assert_close(runtime(form).log_mass(*bounds, *numbers), mass)


@pytest.mark.parametrize(("row", "form"), MASSES)
def test_log_mass_adds_up(row: Distribution, form: Form, generator: torch.Generator) -> None:
    arguments = arguments_of(form, (ROWS,), generator)
    low, high = intervals(row)[0]
    pieces = [(-math.inf, low), (low, high), (high, math.inf)]
    masses = [torch.as_tensor(runtime(form).log_mass(a, b, *arguments)) for a, b in pieces]
    total = torch.stack([m.double().expand(ROWS) for m in masses]).logsumexp(0)
    torch.testing.assert_close(total, torch.zeros(ROWS, dtype=torch.float64), rtol=0.0, atol=1e-12)
    whole = torch.as_tensor(runtime(form).log_mass(-math.inf, math.inf, *arguments)).double()
    torch.testing.assert_close(whole.expand(ROWS), torch.zeros(ROWS, dtype=torch.float64), rtol=0.0, atol=1e-12)
    single = runtime(form).log_mass(low, high, *[a.float() for a in arguments])
    torch.testing.assert_close(single.double(), masses[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("row", "form"), MASSES)
def test_log_mass_gradients(row: Distribution, form: Form, generator: torch.Generator) -> None:
    arguments = arguments_of(form, (), generator)
    for low, high in [*intervals(row)[:3], (intervals(row)[0][0], math.inf), (-math.inf, intervals(row)[0][1])]:
        inputs = free([*(torch.tensor(b, dtype=torch.float64) for b in (low, high)), *arguments])

        def mass(*values: Tensor, low: float = low, high: float = high) -> Tensor:
            bounds = [v if math.isfinite(b) else b for v, b in zip(values[:2], (low, high), strict=True)]
            return torch.as_tensor(runtime(form).log_mass(*bounds, *values[2:]))

        for i, gradient in enumerate(grads(mass(*inputs), inputs)):
            step = 1e-6 * max(1e-2, abs(inputs[i].item())) if math.isfinite(inputs[i].item()) else 0.0
            if step == 0.0:
                continue
            at = [
                mass(*(v.detach() + (k * step if i == j else 0.0) for j, v in enumerate(inputs)))
                for k in (-2.0, -1.0, 1.0, 2.0)
            ]
            difference = (at[0] - 8.0 * at[1] + 8.0 * at[2] - at[3]) / (12.0 * step)
            torch.testing.assert_close(gradient, difference, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("row", "form"), WHOLE_MASSES)
def test_log_mass_is_the_sum(row: Distribution, form: Form, generator: torch.Generator) -> None:
    """Both ends are included; an end may lie beyond the support, or be a tensor."""
    arguments = arguments_of(form, (ROWS,), generator)
    low, high = (0.0, 400.0) if row.name != "DiscreteUniform" else (-3.0, 4.0)
    x = torch.arange(low, high + 1.0, dtype=torch.float64)[:, None]
    density = runtime(form).log_prob(x, *arguments)
    if row.support == "int(0, total)":
        density = torch.where(x <= arguments[0], density, -math.inf)
    for a, b in [
        (1.0, 4.0),
        (0.0, 2.0),
        (-2.0, 1.0),
        (3.0, math.inf),
        (-math.inf, 2.0),
        (-math.inf, math.inf),
        (2.0, 2.0),
    ]:
        exact = torch.where((x >= a) & (x <= b), density, -math.inf).logsumexp(0)
        mass = torch.as_tensor(runtime(form).log_mass(a, b, *arguments)).double().expand(ROWS)
        torch.testing.assert_close(mass, exact, rtol=1e-9, atol=1e-9)
        ends = [torch.tensor(end, dtype=torch.float64) if math.isfinite(end) else end for end in (a, b)]
        torch.testing.assert_close(
            torch.as_tensor(runtime(form).log_mass(*ends, *arguments)).double().expand(ROWS), mass
        )
        numbers = [v[0].item() for v in arguments]
        folded = runtime(form).log_mass(a, b, *numbers)
        assert isinstance(folded, float)
        assert folded == pytest.approx(float(mass[0]), rel=1e-9, abs=1e-9)
        single = torch.as_tensor(runtime(form).log_mass(a, b, *[v.float() for v in arguments]))
        torch.testing.assert_close(single.double().expand(ROWS), mass, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("row", "form"), WHOLE_MASSES)
def test_whole_log_mass_gradients(row: Distribution, form: Form, generator: torch.Generator) -> None:
    arguments = free_arguments(form, arguments_of(form, (), generator))
    for low, high in [(1.0, 3.0), (1.0, math.inf), (-math.inf, 2.0)]:
        mass = torch.as_tensor(runtime(form).log_mass(low, high, *arguments))
        for i, gradient in enumerate(grads(mass, arguments)):
            if not arguments[i].requires_grad:
                continue
            at = [
                torch.as_tensor(
                    runtime(form).log_mass(
                        low, high, *(v.detach() + (k * 1e-5 if i == j else 0.0) for j, v in enumerate(arguments))
                    )
                )
                for k in (-1.0, 1.0)
            ]
            torch.testing.assert_close(gradient, (at[1] - at[0]) / 2e-5, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("row", "form"), [p for p in MASSES if p.values[0].support in ("positive", "unit")])  # type: ignore[union-attr]
def test_a_moving_end_may_leave_the_support(row: Distribution, form: Form, generator: torch.Generator) -> None:
    arguments = arguments_of(form, (), generator)
    end = torch.tensor([-1.0, 0.5, 3.0], dtype=torch.float64, requires_grad=True)
    for k, number in enumerate(end.tolist()):
        for pair, of in (((end, math.inf), (number, math.inf)), ((-math.inf, end), (-math.inf, number))):
            mass = runtime(form).log_mass(*pair, *arguments).detach()
            if number == 0.5 or (row.support == "positive" and number > 0):
                torch.testing.assert_close(mass[k], torch.as_tensor(runtime(form).log_mass(*of, *arguments)).double())
            elif (pair[0] is end) == (number < 0):
                assert float(mass[k]) == pytest.approx(0.0, abs=1e-9)
            else:
                assert float(mass[k]) < -30.0 or number > 1.0


def test_student_mass_by_closed_forms() -> None:
    """df = 1 is the Cauchy; df = 2 has distribution function 1/2 + t / (2 √(2 + t²))."""
    t = torch.tensor([-1e6, -30.0, -0.1, 0.0, 2.0, 50.0], dtype=torch.float64)
    of_one = distributions.StudentT.log_mass(-math.inf, t, 1.0, 0.0, 1.0)
    torch.testing.assert_close(of_one, distributions.Cauchy.log_mass(-math.inf, t, 0.0, 1.0), rtol=1e-12, atol=1e-15)
    root = (2.0 + t.square()).sqrt()
    lower = torch.where(t < 0, 1.0 / (root * (root - t)), 0.5 + t / (2.0 * root))
    of_two = distributions.StudentT.log_mass(-math.inf, t, 2.0, 0.0, 1.0)
    torch.testing.assert_close(of_two, lower.log(), rtol=1e-12, atol=1e-15)
    huge = distributions.StudentT.log_mass(-math.inf, -2.0, 1e7, 0.0, 1.0)
    assert huge == pytest.approx(distributions.Normal.log_mass(-math.inf, -2.0, 0.0, 1.0), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_truncated_normal_far_tail(dtype: torch.dtype, generator: torch.Generator) -> None:
    """60 standard deviations out, where every distribution function underflows: x - low is about Exponential(60)."""
    bound = torch.tensor(60.0, dtype=dtype, requires_grad=True)
    for low, high in [(bound, math.inf), (bound, 90.0), (bound, bound + 5.0)]:
        x, log_q = distributions.TruncatedNormal.draw(noise_of(generator, dtype), (4000,), 0.0, 1.0, low, high)
        assert bool(((x >= 60.0) & (x.isfinite())).all())
        assert (x - 60.0).mean().item() == pytest.approx(1.0 / 60.0, rel=0.1)
        assert bool(log_q.isfinite().all())
        (gradient,) = torch.autograd.grad(x.mean() + log_q.mean(), bound)
        assert bool(gradient.isfinite())


def test_outside_a_moving_support() -> None:
    x = torch.tensor([-1.0, 0.5, 2.0])
    low, high = torch.tensor(0.0, requires_grad=True), torch.tensor(1.0, requires_grad=True)
    for log_prob in (
        distributions.Uniform.log_prob(x, low, high),
        distributions.TruncatedNormal.log_prob(x, 0.0, 1.0, low, high),
        distributions.DiscreteUniform.log_prob(x, low, high),
    ):
        assert log_prob.isinf().tolist() == [True, False, True]
        inside = torch.autograd.grad(log_prob[1], (low, high))
        assert all(bool(g.isfinite()) for g in inside)
    scale = torch.tensor(1.0, requires_grad=True)
    assert distributions.Pareto.log_prob(x, scale, 2.0).tolist()[:2] == [-math.inf, -math.inf]


def test_data_may_be_of_another_dtype() -> None:
    probs = torch.tensor(0.3)
    as_float = distributions.Bernoulli.log_prob(torch.tensor([0.0, 1.0]), probs)
    torch.testing.assert_close(distributions.Bernoulli.log_prob(torch.tensor([False, True]), probs), as_float)
    logits = torch.tensor([0.1, 0.2, -0.3])
    index = torch.tensor([2, 0])
    torch.testing.assert_close(
        distributions.CategoricalLogits.log_prob(index.float(), logits),
        distributions.CategoricalLogits.log_prob(index, logits),
    )
    rate = torch.tensor(2.5)
    torch.testing.assert_close(
        distributions.Poisson.log_prob(index, rate), distributions.Poisson.log_prob(index.float(), rate)
    )


def test_unit_factor_is_a_scaled_factor(generator: torch.Generator) -> None:
    """Both forms of a full-rank normal are the same law on the same noise."""
    scale = torch.tensor([0.5, 2.0, 3.0], dtype=torch.float64)
    unit = torch.eye(3, dtype=torch.float64) + torch.ones(3, 3, dtype=torch.float64).tril(-1)
    state = generator.get_state()
    x, log_q = distributions.MultivariateNormalUnit.draw(noise_of(generator), (5, 3), 0.0, scale, unit)
    generator.set_state(state)
    y, log_r = distributions.MultivariateNormal.draw(noise_of(generator), (5, 3), 0.0, scale[:, None] * unit)
    torch.testing.assert_close(x, y)
    torch.testing.assert_close(log_q, log_r)


def test_low_rank_stays_exact_when_the_diagonal_vanishes(generator: torch.Generator) -> None:
    """In float32, with factors 1e5 times the diagonal's scale, where the textbook Woodbury form loses everything."""
    factor = torch.tensor([[1.0, 0.5], [-0.5, 2.0], [0.3, 1.0]])
    diag = torch.full((3,), 1e-10)
    _, log_q = distributions.LowRankMultivariateNormal.draw(Noise(generator), (1000, 3), 0.0, factor, diag)
    entropy = torch.distributions.LowRankMultivariateNormal(
        torch.zeros(3).double(), factor.double(), diag.double()
    ).entropy()
    assert -log_q.mean().item() == pytest.approx(entropy.item(), abs=0.3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_an_excess_is_exponential_at_concentration_0(dtype: torch.dtype, generator: torch.Generator) -> None:
    """At 0, and continuously near it, where quotients of logarithms would lose their digits."""
    x = torch.tensor([0.01, 0.5, 3.0, 40.0], dtype=dtype)
    law = distributions.GeneralizedPareto
    exact = torch.distributions.Exponential(torch.tensor(0.5, dtype=dtype)).log_prob(x)
    torch.testing.assert_close(law.log_prob(x, 2.0, 0.0), exact)
    near = torch.tensor(1e-9, dtype=dtype, requires_grad=True)
    torch.testing.assert_close(law.log_prob(x, 2.0, near), exact, rtol=1e-6, atol=1e-6)
    draw, log_q = law.draw(noise_of(generator, dtype), (4,), 2.0, near)
    for value in (law.log_prob(x, 2.0, near), draw, log_q):
        assert bool(torch.autograd.grad(value.sum(), near, retain_graph=True)[0].isfinite())
    # d log p / d concentration at 0 is z²/2 - z, z = x / scale
    slope = torch.autograd.grad(law.log_prob(x, 2.0, near).sum(), near)[0]
    z = x / 2.0
    torch.testing.assert_close(slope, (z.square() / 2.0 - z).sum(), rtol=1e-4, atol=1e-4)
    assert law.log_mass(1.0, math.inf, 2.0, 0.0) == pytest.approx(-0.5)


@pytest.mark.parametrize("size", [2, 3, 4, 10, 100])
def test_the_norm_on_spheres_of_all_sizes(size: int) -> None:
    """Against Bessel functions, from nearly uniform to nearly a point, with its slope -A(κ) = -I_{v+1} / I_v."""
    kappa = torch.tensor([1e-4, 0.1, 1.0, 7.0, 100.0, 1e4], dtype=torch.float64, requires_grad=True)
    loc = torch.zeros(size, dtype=torch.float64)
    loc[0] = 1.0
    ours = distributions.VonMisesFisher.log_prob(loc.expand(6, size), loc, kappa)
    k, v = kappa.detach().numpy(), size / 2.0 - 1.0
    log_bessel = torch.as_tensor(special.ive(v, k)).log() + kappa.detach()
    exact = v * kappa.detach().log() - size / 2.0 * math.log(2.0 * math.pi) - log_bessel + kappa.detach()
    known = exact.isfinite()
    torch.testing.assert_close(ours.detach()[known], exact[known], rtol=1e-10, atol=1e-10)
    slope = torch.autograd.grad(ours.sum(), kappa)[0]
    ratio = torch.as_tensor(special.ive(v + 1.0, k) / special.ive(v, k))
    torch.testing.assert_close(slope[known], (1.0 - ratio)[known], rtol=1e-6, atol=1e-9)
    assert int(known.sum()) >= 4
