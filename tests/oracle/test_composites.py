"""Distributions made of others: compiled densities against torch's, against sums and integrals, and their gradients."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.distributions as td
from torch import Tensor

from guidedsl.modules import load_source
from guidedsl.runtime import ParamStore
from guidedsl.source import Source

F64 = torch.float64


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    """The oracles' numbers are of double precision too."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(F64)
    yield
    torch.set_default_dtype(before)


def build(text: str) -> Any:
    return load_source(Source("m.guide", text), "composites_guide")


PROGRAM = """
model M {{
  dim N
  latent w  : simplex[3] ~ Flat
  latent l  : real[3] ~ Flat
  latent mu : real[3] ~ Flat
  latent s  : positive[3] ~ Flat
  latent p  : unit ~ Flat
  latent a  : real ~ Flat
  latent b  : greater_than(a) ~ Flat
  plate x[N] {{ {site} }}
}}
"""
SITE = "observed y : {type} ~ {dist}"
ANYWHERE = "data y : real factor log_prob({dist}, y)"
"""The density of any number: binding checks the values of a site against its distribution's support."""


def latents(module: Any, *lead: int) -> Any:
    """Random values, with a particle axis for each of `lead`."""
    g = torch.Generator().manual_seed(7)

    def normal(*shape: int) -> Tensor:
        return torch.randn((*lead, *shape), generator=g, dtype=F64)

    a = normal() * 0.3
    return module.M.latents_type(
        w=normal(3).softmax(-1), l=normal(3), mu=normal(3), s=0.5 + normal(3).exp(), p=normal().sigmoid(), a=a,
        b=a + 1.0 + normal().exp(),
    )  # fmt: skip


def density(dist: str, of: str, y: Tensor, z: Any = None) -> tuple[Tensor, Any]:
    """The compiled log densities, one a row, by a model of one row each."""
    module = build(PROGRAM.format(site=SITE.format(type=of, dist=dist)))
    z = latents(module) if z is None else z
    z = module.M.latents_type(*z)
    return torch.stack([module.M(module.M.data(y=row[None]), z) for row in y]), z


Y = torch.tensor([-2.5, -0.3, 0.4, 1.7, 6.0], dtype=F64)
COUNTS = torch.arange(0.0, 9.0, dtype=F64)


def mix(weights: Tensor, parts: list[Tensor]) -> Tensor:
    return (weights.log() + torch.stack(parts, -1)).logsumexp(-1)


def poisson(z: Any, k: int = 0) -> td.Poisson:
    return td.Poisson(z.s[k])


def positive(log_prob: Tensor, y: Tensor) -> Tensor:
    return torch.where(y > 0, log_prob, -math.inf)


CASES: dict[str, tuple[str, str, Tensor, Any]] = {
    "same_family": (
        "mixture(w, Normal(mu, s))",
        "real",
        Y,
        lambda y, z: td.MixtureSameFamily(td.Categorical(z.w), td.Normal(z.mu, z.s)).log_prob(y),
    ),
    "logits": (
        "mixture(logits = l, components = Normal(mu, 2))",
        "real",
        Y,
        lambda y, z: td.MixtureSameFamily(td.Categorical(logits=z.l), td.Normal(z.mu, 2.0)).log_prob(y),
    ),
    "families": (
        "mixture(w, [Normal(a, 1), StudentT(3, mu[0], s[0]), Cauchy(0, 1)])",
        "real",
        Y,
        lambda y, z: mix(
            z.w,
            [
                td.Normal(z.a, 1.0).log_prob(y),
                td.StudentT(3.0, z.mu[0], z.s[0]).log_prob(y),
                td.Cauchy(0.0, 1.0).log_prob(y),
            ],
        ),
    ),
    "two_of_a_unit": (
        "mixture([p, 1 - p], [Normal(a, 1), Laplace(0, 2)])",
        "real",
        Y,
        lambda y, z: mix(
            torch.stack([z.p, 1 - z.p]), [td.Normal(z.a, 1.0).log_prob(y), td.Laplace(0.0, 2.0).log_prob(y)]
        ),
    ),
    "supports_differ": (
        "mixture(w, [LogNormal(a, 1), Normal(0, 1), Uniform(0, 1)])",
        "real",
        Y,
        lambda y, z: mix(
            z.w,
            [
                positive(td.LogNormal(z.a, 1.0).log_prob(y.abs()), y),
                td.Normal(0.0, 1.0).log_prob(y),
                torch.where((y > 0) & (y < 1), 0.0, -math.inf).to(F64),
            ],
        ),
    ),
    "nested": (
        "mixture([0.3, 0.7], [mixture(w, Normal(mu, s)), Gamma(2, s[1])])",
        "real",
        Y,
        lambda y, z: mix(
            torch.tensor([0.3, 0.7], dtype=F64),
            [
                td.MixtureSameFamily(td.Categorical(z.w), td.Normal(z.mu, z.s)).log_prob(y),
                positive(td.Gamma(2.0, z.s[1]).log_prob(y.abs()), y),
            ],
        ),
    ),
    "zero_inflated": (
        "ZeroInflated(p, Poisson(s[0]))",
        "count",
        COUNTS,
        lambda y, z: ((y == 0) * z.p + (1 - z.p) * poisson(z).log_prob(y).exp()).log(),
    ),
    "zero_inflated_mixture": (
        "ZeroInflated(p, mixture(w, Poisson(s)))",
        "count",
        COUNTS,
        lambda y, z: (
            (y == 0) * z.p + (1 - z.p) * td.MixtureSameFamily(td.Categorical(z.w), td.Poisson(z.s)).log_prob(y).exp()
        ).log(),
    ),
    "hurdle": (
        "ZeroInflated(p, Truncated(Poisson(s[0]), low = 1))",
        "count",
        COUNTS,
        lambda y, z: torch.where(
            y == 0, z.p.log(), (1 - z.p).log() + poisson(z).log_prob(y) - (-torch.expm1(-z.s[0])).log()
        ),
    ),
    "truncated": (
        "Truncated(Normal(mu[0], s[0]), low = 0)",
        "positive",
        Y[2:],
        lambda y, z: td.Normal(z.mu[0], z.s[0]).log_prob(y) - td.Normal(z.mu[0], z.s[0]).cdf(-z.a * 0).neg().log1p(),
    ),
    "truncated_by_latents": (
        "Truncated(Normal(mu[0], s[0]), a, b)",
        "real",
        Y,
        lambda y, z: torch.where(
            (y >= z.a) & (y <= z.b),
            td.Normal(z.mu[0], z.s[0]).log_prob(y)
            - (td.Normal(z.mu[0], z.s[0]).cdf(z.b) - td.Normal(z.mu[0], z.s[0]).cdf(z.a)).log(),
            -math.inf,
        ),
    ),
    "mixture_of_truncated": (
        "mixture(w, Truncated(Normal(mu, s), high = 2))",
        "real",
        Y[:4],
        lambda y, z: mix(
            z.w,
            [
                td.Normal(z.mu[k], z.s[k]).log_prob(y)
                - td.Normal(z.mu[k], z.s[k]).cdf(torch.tensor(2.0, dtype=F64)).log()
                for k in range(3)
            ],
        ),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_density(name: str) -> None:
    dist, of, y, oracle = CASES[name]
    ours, z = density(dist, of, y)
    torch.testing.assert_close(ours, oracle(y, z).to(F64), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_finite_and_right(name: str) -> None:
    """Against the oracle's where that is finite; in any case finite, where a component's density is zero too."""
    dist, of, y, oracle = CASES[name]
    leaves = [v.clone().requires_grad_() for v in latents(build(PROGRAM.format(site=SITE.format(type=of, dist=dist))))]
    ours, z = density(dist, of, y, leaves)
    theirs = oracle(y, z)
    some = theirs.isfinite()
    for a, b in zip(
        torch.autograd.grad(ours[some].sum(), leaves, allow_unused=True, retain_graph=True),
        torch.autograd.grad(theirs[some].sum(), leaves, allow_unused=True),
        strict=True,
    ):
        assert (a is None) == (b is None) or bool((a if b is None else b).abs().max() == 0)  # type: ignore[union-attr]
        if a is not None and b is not None:
            assert bool(a.isfinite().all())
            # supports_differ and nested take log(0 * …) apart differently: NaN in the oracle, never in ours
            right = b.isfinite()
            if a.shape == (3,):  # along a simplex; torch normalises weights, which turns the gradient's normal part
                a, b = a - a.mean(), b - b.mean()
            torch.testing.assert_close(a[right], b[right], rtol=1e-8, atol=1e-8)
    whole = torch.autograd.grad(ours.sum(), leaves, allow_unused=True)
    assert all(g is None or bool(g.isfinite().all()) for g in whole)


CONTINUOUS = [
    "mixture(w, [LogNormal(a, 1), Normal(0, 1), Uniform(0, 1)])",
    "mixture(w, Truncated(Normal(mu, s), low = mu - 1, high = mu + 1))",
    "Truncated(mixture(w, Normal(mu, s)), low = -1, high = 1.5)",
    "Truncated(mixture([p, 1 - p], [Exponential(s[0]), Logistic(a, 1)]), low = -0.5)",
    "Truncated(Truncated(StudentT(4, a, 1), low = -1), high = 2)",
    "Truncated(Truncated(Gumbel(a, 1), low = a - 1, high = 3), low = a, high = b)",
    "Truncated(Gamma(2, s[0]), low = a - 3, high = b)",
    "Truncated(Beta(2, 3), low = a - 3, high = b + 3)",
]


@pytest.mark.parametrize("dist", CONTINUOUS)
def test_integrates_to_one(dist: str) -> None:
    """By a sum over cells of 1e-3: at a jump, of which there are up to six of height 1, it is off by half a cell."""
    module = build(PROGRAM.format(site=ANYWHERE.format(dist=dist)))
    z = latents(module)
    x = torch.arange(-40.0, 40.0, 1e-3, dtype=F64) + 0.37e-3
    data = replace(module.M.data(y=[0.5]), y=x[:, None])  # a particle each is a point of the integral
    total = float(module.M(data, z).exp().sum()) * 1e-3
    assert total == pytest.approx(1.0, abs=3e-3)


DISCRETE = [
    "ZeroInflated(p, Poisson(s[0]))",
    "ZeroInflated(p, Truncated(NegativeBinomial(mean = s[0], dispersion = 2), low = 1))",
    "Truncated(Poisson(s[0]), low = 2, high = 5)",
    "Truncated(Geometric(p), high = 4)",
    "Truncated(Binomial(9, p), low = 3)",
    "Truncated(ZeroInflated(p, Poisson(s[0])), high = 3)",
    "Truncated(ZeroInflated(p, Poisson(s[0])), low = 1)",
    "Truncated(mixture(w, Poisson(s)), low = 1, high = 6)",
    "mixture(w, [Poisson(s[0]), Binomial(4, p), DiscreteUniform(2, 6)])",
]


@pytest.mark.parametrize("dist", DISCRETE)
def test_sums_to_one(dist: str) -> None:
    module = build(PROGRAM.format(site=ANYWHERE.format(dist=dist)))
    z = latents(module)
    x = torch.arange(0.0, 150.0, 0.5)  # halves have no mass
    density = module.M(replace(module.M.data(y=[0.5]), y=x[:, None]), z).exp()
    assert float(density[1::2].sum()) == 0.0
    assert float(density.sum()) == pytest.approx(1.0, abs=1e-9)


def test_particles_and_plates() -> None:
    """A particle is what it is alone, for weights and components that differ from row to row too."""
    text = """
    model M { dim N, K = 2, D = 2
      latent w : simplex[K] ~ Flat
      plate row[N] {
        data d : real
        latent mu : real[K, D] ~ mixture([0.5, 0.5], [Normal(0, 1), Normal(3, 1)])
        latent L : lower_cholesky[D] ~ Flat
        observed y : real[D] ~ mixture(w, MultivariateNormal(mu + d, scale_tril = L))
        observed e : real[D] ~ mixture(w, Normal(transpose(mu), 1))
      } }
    """
    module = build(text)
    g = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=g, dtype=F64)

    y, e, d = normal(3, 2), normal(3, 2), normal(3)
    data = module.M.data(y=y, d=d, e=e)
    z = module.M.latents_type(normal(5, 2).softmax(-1), normal(5, 3, 2, 2), normal(5, 3, 2, 2).tril(-1) + torch.eye(2))
    found = module.M(data, z)
    assert found.shape == (5,)
    for particle in range(5):
        w, mu, L = (v[particle] for v in z)
        halves = torch.tensor([0.5, 0.5], dtype=F64)
        expected = mix(halves, [td.Normal(m, 1.0).log_prob(mu) for m in (0.0, 3.0)]).sum()
        for row in range(3):
            of_y = td.MultivariateNormal(mu[row] + d[row], scale_tril=L[row])
            of_e = td.Normal(mu[row].T, 1.0)
            expected = expected + td.MixtureSameFamily(td.Categorical(w), of_y).log_prob(y[row])
            expected = expected + td.MixtureSameFamily(td.Categorical(w.expand(2, 2)), of_e).log_prob(e[row]).sum()
        torch.testing.assert_close(found[particle], expected, rtol=1e-10, atol=1e-10)


GUIDE = """
model M {{ latent z : {type} ~ {prior} }}
guide G for M {{
  param l : real = 0.3
  param m : real[2] = [-1, 2]
  param r : positive = 1.5
  z ~ {dist}
}}
"""


@pytest.mark.parametrize(
    ("type", "prior", "dist", "moment"),
    [
        (
            "real",
            "Normal(0, 1)",
            "mixture([inv_logit(l), 1 - inv_logit(l)], Normal(m, 0.5))",
            lambda of, m, r: (of.sigmoid() * m[0].square() + (1 - of.sigmoid()) * m[1].square()) + 0.25,
        ),
        (
            "real",
            "Normal(0, 1)",
            "mixture(logits = [l, 0], components = [Normal(m[0], 1), Normal(m[1], r)])",
            lambda of, m, r: of.sigmoid() * (m[0].square() + 1) + (1 - of.sigmoid()) * (m[1].square() + r.square()),
        ),
        (
            "count",
            "Poisson(1)",
            "ZeroInflated(inv_logit(l), Poisson(r))",
            lambda of, m, r: (1 - of.sigmoid()) * (r.square() + r),
        ),
    ],
)
def test_draws_of_a_guide(type: str, prior: str, dist: str, moment: Any) -> None:
    """E[z²] and its score-function gradient against the closed form, five standard errors apart at most."""
    module = build(GUIDE.format(type=type, prior=prior, dist=dist))
    store = ParamStore()
    data = module.M.data().with_generator(torch.Generator().manual_seed(3))
    count = 200_000
    draw = module.G(data, particles=(count,), store=store)
    z = draw.latents.z
    assert not z.requires_grad
    leaves = [store.trainable()[name] for name in ("G.l", "G.m", "G.r") if name in store.trainable()]
    f = z.square()
    exact = moment(*_values(store))
    error = f.std() / math.sqrt(count)
    assert abs(float((f.mean() - exact).detach())) < 5 * float(error)
    assert draw.score is not None
    estimate = torch.autograd.grad((f.detach() * draw.score).mean(), leaves, allow_unused=True, retain_graph=True)
    right = torch.autograd.grad(moment(*_values(store)), leaves, allow_unused=True)
    for a, b in zip(estimate, right, strict=True):
        if a is not None and b is not None:
            torch.testing.assert_close(a, b, rtol=0.05, atol=0.05)


def _values(store: ParamStore) -> list[Tensor]:
    """l, m and r, with their gradients; a value that the guide does not read is 0."""
    names = ("G.l", "G.m", "G.r")
    return [store[name] if name in store else torch.zeros(2, dtype=F64) for name in names]


def test_draws_of_vectors() -> None:
    """A mixture of multivariate normals, rows in a plate: the mean of each row is the mixture's."""
    text = """
    model M { dim N = 2, D = 3
      plate row[N] { latent z : real[D] ~ Normal(0, 1) } }
    guide G for M {
      param w : simplex[2] = [0.25, 0.75]
      plate row { param m : real[2, D] = normal(0, 1)
        z ~ mixture(w, MultivariateNormal(m, scale_tril = full(2, eye(D)))) } }
    """
    module = build(text)
    store = ParamStore()
    data = module.M.data().with_generator(torch.Generator().manual_seed(3))
    draw = module.G(data, particles=(60_000,), store=store)
    assert draw.latents.z.shape == (60_000, 2, 3)
    m = store["G.m"]
    expected = 0.25 * m[:, 0] + 0.75 * m[:, 1]
    torch.testing.assert_close(draw.latents.z.mean(0), expected.detach(), rtol=0.0, atol=0.05)
    k = td.MixtureSameFamily(td.Categorical(store["G.w"].expand(2, 2)), td.MultivariateNormal(m, torch.eye(3).double()))
    torch.testing.assert_close(draw.log_q, k.log_prob(draw.latents.z).sum(-1), rtol=1e-9, atol=1e-9)


def test_zero_weight_has_a_gradient() -> None:
    from guidedsl.runtime.distributions import Mixture

    weights = torch.tensor([0.0, 1.0], dtype=F64, requires_grad=True)
    parts = torch.tensor([[-math.inf, -math.inf], [-1.0, -2.0]], dtype=F64, requires_grad=True)
    found = Mixture.log_prob(parts, weights)
    assert found[0] == -math.inf
    assert found[1] == -2.0
    assert all(bool(g.isfinite().all()) for g in torch.autograd.grad(found[1] + found[0], (weights, parts)))
