"""Draws of observations and their log densities, against closed forms, scipy and brute force.

Tolerances of moments are five standard errors of the draws; of distribution functions, the Kolmogorov-Smirnov distance
that one sample in a million exceeds.
"""

from __future__ import annotations

import itertools
import math
import sys
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy
import pytest
import torch
from scipy import stats

import guidedsl
from guidedsl.pipeline import compile_source
from guidedsl.runtime import Noise, ParamStore
from guidedsl.runtime import distributions as dist
from guidedsl.runtime.diagnostics import log_weights
from guidedsl.runtime.errors import DataError, InferenceError
from guidedsl.runtime.fit import Fit
from guidedsl.source import Source

N = 20_000


def module(name: str, text: str) -> ModuleType:
    loaded = ModuleType(f"predictive_{name}")
    sys.modules[loaded.__name__] = loaded
    exec(compile(compile_source(Source(f"{name}.guide", text)).python, f"<{name}>", "exec"), vars(loaded))
    return loaded


def fit_as_it_starts(guide: Any, data: Any) -> Fit:
    """A fit whose parameters are the text's own initial values."""
    store = ParamStore()
    guide(data.full, store=store)
    return Fit(guide, data, store, math.nan, math.nan, True, "", 0, 0.0)


def assert_moments(draws: torch.Tensor, mean: float, sd: float) -> None:
    """The mean and sd of draws [n], of a law with no heavier tails than a normal mixture's."""
    n = len(draws)
    assert abs(float(draws.mean()) - mean) < 5 * sd / math.sqrt(n)
    assert abs(float(draws.std()) / sd - 1) < 5 * 1.5 / math.sqrt(n)


SCHOOLS = module(
    "schools",
    """model Schools {
  dim J
  latent mu : real ~ Normal(1, 2)
  plate schools[J] {
    data sigma : positive
    latent theta : real ~ Normal(mu, 3)
    observed y : real ~ Normal(theta, sigma)
  }
}
guide G for Schools {
  mu ~ Normal(5, 0.5)
  plate schools {
    param at : real = 10
    theta ~ Normal(at, 0.1)
  }
}
guide H for Schools { auto mean_field for rest }
""",
)
SIGMA = [1.0, 2.0]


@pytest.fixture(scope="module")
def schools() -> Fit:
    return fit_as_it_starts(SCHOOLS.G, SCHOOLS.Schools.data(y=[0.0, 0.0], sigma=SIGMA))


def test_the_posterior_predictive_of_a_conjugate_normal() -> None:
    conjugate = module(
        "conjugate",
        """model Normals {
  dim N
  latent mu : real ~ Normal(0, 2)
  plate obs[N] { observed y : real ~ Normal(mu, 1) }
}
guide G for Normals { auto mean_field for rest }
""",
    )
    y = [1.0, 2.5, 0.3, 1.7]
    fit = conjugate.G.fit(conjugate.Normals.data(y=y), seed=1)
    precision = 1 / 4 + len(y)
    draws = fit.predictive(N)["y"]
    assert draws.shape == (N, 4)
    # the fit itself is within a few hundredths of an sd
    mean, sd = sum(y) / precision, math.sqrt(1 + 1 / precision)
    for column in draws.unbind(-1):
        assert float(column.mean()) == pytest.approx(mean, abs=5 * sd / math.sqrt(N) + 0.03)
        assert float(column.std()) == pytest.approx(sd, rel=0.03)


def test_prior_predictive_by_hand() -> None:
    draws = SCHOOLS.Schools.prior_predictive({"sigma": SIGMA}, N, seed=3)
    assert {name: tuple(value.shape) for name, value in draws.items()} == {"mu": (N,), "theta": (N, 2), "y": (N, 2)}
    assert_moments(draws["mu"], 1, 2)
    assert_moments(draws["theta"][:, 0], 1, math.sqrt(4 + 9))
    assert_moments(draws["y"][:, 1], 1, math.sqrt(4 + 9 + 4))
    covariance = float(torch.cov(draws["y"].mT)[0, 1])
    assert covariance == pytest.approx(4, abs=5 * 16 / math.sqrt(N))
    again = SCHOOLS.Schools.prior_predictive({"sigma": SIGMA}, N, seed=3)
    assert torch.equal(draws["y"], again["y"])


def test_rows_of_the_fit_and_new_rows(schools: Fit) -> None:
    assert_moments(schools.predictive(N)["y"][:, 0], 10, math.sqrt(0.01 + 1))
    other = schools.predictive(N, data={"sigma": [4.0, 4.0]})["y"]  # the same rows, measured otherwise
    assert_moments(other[:, 1], 10, math.sqrt(0.01 + 16))
    new = schools.predictive(N, data={"sigma": [1.0, 2.0, 3.0]})["y"]
    assert new.shape == (N, 3)
    assert_moments(new[:, 2], 5, math.sqrt(0.25 + 9 + 9))
    also_new = schools.predictive(N, new=("schools",))["y"]
    assert_moments(also_new[:, 0], 5, math.sqrt(0.25 + 9 + 1))


def test_what_does_not_fit_is_said(schools: Fit) -> None:
    with pytest.raises(InferenceError, match="at least one draw"):
        schools.predictive(0)
    with pytest.raises(InferenceError, match="has no plate `school`; it has schools"):
        schools.predictive(10, new=("school",))
    with pytest.raises(InferenceError, match='new="schools": a tuple'):
        schools.predictive(10, new="schools")
    with pytest.raises(InferenceError, match="needs data="):
        schools.predictive(10, J=4)
    with pytest.raises(DataError, match="sigma is missing"):
        schools.predictive(10, data={"y": [1.0]})
    with pytest.raises(DataError, match="sigma"):
        schools.predictive(10, data={"sigma": [-1.0]})


REFUSED = module(
    "refused",
    """model Improper {
  latent a : real ~ Flat
  latent o : ordered[3] ~ Normal(0, 1)
  latent f : real ~ Normal(0, 1)
  let g = 2 * f
  factor -g ^ 2
  observed y : real ~ Normal(a + f, 1)
}
guide GI for Improper { auto mean_field for rest }
model Total {
  dim N
  plate obs[N] { latent z : real ~ Normal(0, 1) }
  latent w : real ~ Normal(sum(z[:]), 1)
  plate obs { observed y : real ~ Normal(z + w, 1) }
}
guide GT for Total { auto mean_field for rest }
model Changed {
  latent a : real ~ Normal(0, 1)
  observed y : real ~ Normal(a, 1)
  factor -y ^ 2
}
guide GC for Changed { auto mean_field for rest }
model Elsewhere { latent a : real  observed y : real }
guide GE for Elsewhere { a ~ Normal(0, 1) }
model Unseen { latent a : real ~ Normal(0, 1) }
guide GU for Unseen { a ~ Normal(0, 1) }
""",
)


def test_what_has_no_law_is_refused() -> None:
    with pytest.raises(InferenceError) as caught:
        REFUSED.Improper.prior_predictive(None, 10)
    for words in (
        "`a` cannot be drawn: its prior is Flat",
        "`o` cannot be drawn: its type",
        "`f` cannot be drawn: the",
    ):
        assert words in str(caught.value)
    assert "factor on line 6" in str(caught.value)
    assert REFUSED.Improper.up_to_a_constant
    fit = fit_as_it_starts(REFUSED.GI, REFUSED.Improper.data(y=0.0))
    assert fit.predictive(5)["y"].shape == (5,)  # given the latents it has a law
    assert "up to a constant" in fit.heading()
    total = fit_as_it_starts(REFUSED.GT, REFUSED.Total.data(y=[0.0, 1.0]))
    with pytest.raises(InferenceError, match="prior of `w`, which is known, reads `z`"):
        total.predictive(5, new=("obs",))
    changed = fit_as_it_starts(REFUSED.GC, REFUSED.Changed.data(y=0.0))
    with pytest.raises(InferenceError, match="`y` cannot be drawn: the factor on line 20"):
        changed.predictive(5)
    elsewhere = fit_as_it_starts(REFUSED.GE, REFUSED.Elsewhere.data(y=0.0))
    with pytest.raises(InferenceError, match=r"not in the \.guide file"):
        elsewhere.predictive(5)
    unseen = fit_as_it_starts(REFUSED.GU, REFUSED.Unseen.data())
    with pytest.raises(InferenceError, match="observes nothing"):
        unseen.predictive(5)
    with pytest.raises(InferenceError, match="observes nothing"):
        unseen.log_likelihood(5)


def test_an_autoregression_is_drawn_step_by_step() -> None:
    found = module(
        "ar",
        """model Ar {
  dim T = 40
  latent phi : real ~ Normal(0.8, 0.000001)
  scan t in T carry (before : real = 0, err : real = 0) {
    let m = phi * before + 0.5 * err
    observed y : real ~ Normal(m, 1)
    next before = y
    next err = y - m
  }
  observed last : real ~ Normal(10 * y[T - 1], 0.1)
}
guide G for Ar { auto mean_field for rest }
""",
    )
    draws = found.Ar.prior_predictive({}, N)
    y = draws["y"]
    # ARMA(1, 1): variance (1 + 2 φθ + θ²) / (1 − φ²), correlation of neighbours (1 + φθ)(φ + θ) / (1 + 2 φθ + θ²)
    phi, theta = 0.8, 0.5
    scale = 1 + 2 * phi * theta + theta**2
    assert_moments(y[:, -1], 0, math.sqrt(scale / (1 - phi**2)))
    correlation = float(torch.corrcoef(y[:, -2:].mT)[0, 1])
    assert correlation == pytest.approx((1 + phi * theta) * (phi + theta) / scale, abs=0.01)
    # what is observed later reads what was drawn, not the data
    assert_moments(draws["last"] - 10 * y[:, -1], 0, 0.1)


CUTS: dict[str, tuple[Any, tuple[float, ...], float, float, Any]] = {
    "half_cauchy": (dist.Cauchy, (0.0, 5.0), 0.0, math.inf, stats.halfcauchy(scale=5)),
    "tail": (dist.Normal, (0.0, 1.0), 6.0, math.inf, stats.truncnorm(6, math.inf)),
    "left_tail": (dist.Normal, (1.0, 2.0), -math.inf, -9.0, stats.truncnorm(-math.inf, -5, 1, 2)),
    "narrow": (dist.Normal, (1.0, 2.0), 0.999, 1.001, stats.truncnorm(-0.0005, 0.0005, 1, 2)),
    "gamma": (dist.Gamma, (2.0, 0.5), 0.0, 3.0, None),
}


@pytest.mark.parametrize("name", sorted(CUTS))
def test_truncated_draws(name: str) -> None:
    family, arguments, low, high, law = CUTS[name]
    noise = Noise(torch.Generator().manual_seed(4), torch.float64)
    total = family.log_mass(low, high, *arguments)
    x = dist.Truncated.sample(noise, (N,), lambda end: family.log_mass(low, end, *arguments), total, low, high)
    assert bool(((x >= low) & (x <= high)).all())
    gamma = stats.gamma(2, scale=2)
    cdf = law.cdf if law is not None else lambda value: gamma.cdf(value) / gamma.cdf(3.0)
    assert stats.kstest(x.numpy(), cdf).statistic < 2.7 / math.sqrt(N)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("low", "high"), [(1.0, math.inf), (0.0, 3.0), (0.0, 4.0), (2.0, 2.0), (5.0, 6.0), (9.0, math.inf)]
)
def test_truncated_counts(low: float, high: float, dtype: torch.dtype) -> None:
    noise = Noise(torch.Generator().manual_seed(5), dtype)
    rate = torch.tensor(1.5, dtype=dtype)
    total = dist.Poisson.log_mass(low, high, rate)
    x = dist.Truncated.sample(
        noise, (N,), lambda end: dist.Poisson.log_mass(low, end, rate), total, low, high, whole=True
    )
    assert x.dtype == dtype
    support = numpy.arange(low, min(high, low + 30) + 1)
    p = stats.poisson(1.5).pmf(support)
    p = p / p.sum()
    for value, probability in zip(support, p, strict=True):
        error = math.sqrt(probability * (1 - probability) / N)
        assert abs(float((x == value).double().mean()) - probability) <= 5 * error + 1 / N


def test_truncated_mixtures_and_hurdles() -> None:
    found = module(
        "cuts",
        """model Cuts {
  dim N
  latent s : positive ~ Cauchy(0, 2)
  latent both : interval(-1, 2) ~ Truncated(mixture([0.3, 0.7], [Normal(-1, 1), Logistic(2, 0.5)]), -1, 2)
  latent v : unit[2] ~ Normal(0, 1)
  plate obs[N] {
    data total : count
    observed hurdle : count ~ ZeroInflated(0.4, Truncated(Poisson(2), low = 1))
    observed b : count ~ Truncated(Binomial(total, 0.5), low = 1, high = total - 1)
  }
}
guide G for Cuts { auto mean_field for rest }
""",
    )
    draws = found.Cuts.prior_predictive({"total": [3, 10]}, N)
    assert stats.kstest(draws["s"].numpy(), stats.halfcauchy(scale=2).cdf).statistic < 2.7 / math.sqrt(N)

    def cdf(x: Any) -> Any:
        whole = 0.3 * stats.norm(-1, 1).cdf(x) + 0.7 * stats.logistic(2, 0.5).cdf(x)
        ends = [0.3 * stats.norm(-1, 1).cdf(e) + 0.7 * stats.logistic(2, 0.5).cdf(e) for e in (-1, 2)]
        return (whole - ends[0]) / (ends[1] - ends[0])

    assert stats.kstest(draws["both"].numpy(), cdf).statistic < 2.7 / math.sqrt(N)
    assert stats.kstest(draws["v"][:, 1].numpy(), stats.truncnorm(0, 1).cdf).statistic < 2.7 / math.sqrt(N)
    assert float((draws["hurdle"] == 0).double().mean()) == pytest.approx(0.4, abs=0.01)
    positive = draws["hurdle"][draws["hurdle"] > 0]
    assert float(positive.mean()) == pytest.approx(2 / (1 - math.exp(-2)), abs=0.05)
    assert float((draws["b"][:, 0] == 1).double().mean()) == pytest.approx(0.5, abs=0.02)


ENUMERATED = """model Hmm {
  dim T, K = 2, N
  latent mu : real ~ Normal(0, 1)
  plate row[N] {
    latent kind : int(0, 1) ~ Bernoulli(0.3)
    scan t in T carry (state : int(0, 1) = 0) {
      latent c : int(0, 1) ~ Bernoulli(0.2 + 0.5 * state)
      observed y : real ~ Normal(mu + c + 0.5 * kind, 0.7)
      next state = c
    }
  }
}
guide G for Hmm {
  mu ~ Normal(0.1, 0.000001)
  auto enumerate for kind, c
}
"""


def test_latents_that_are_summed_out_are_drawn_exactly() -> None:
    from guidedsl.runtime.classes import draw_classes

    found = module("hmm", ENUMERATED)
    y = [[0.2, 1.4, 0.3], [1.9, 0.1, -0.5]]
    data = found.Hmm.data(y=y)
    noise = data.noise(torch.Generator().manual_seed(8))
    store = ParamStore()
    with torch.no_grad():
        latents = found.G(data, particles=(N,), store=store, noise=noise).latents
    assert latents.c is None
    drawn = draw_classes(found.Hmm, data, latents, store, noise)
    for row, seen in enumerate(y):
        weights = {}
        for kind, *path in itertools.product((0, 1), repeat=4):
            weight = 0.3 if kind else 0.7
            for before, c, value in zip((0, *path), path, seen, strict=False):
                p = 0.2 + 0.5 * before
                weight *= (p if c else 1 - p) * stats.norm(0.1 + c + 0.5 * kind, 0.7).pdf(value)
            weights[(kind, *path)] = weight
        every = sum(weights.values())
        both = torch.cat([drawn.kind[:, row, None], drawn.c[:, row]], -1)
        for values, weight in weights.items():
            p = weight / every
            share = float((both == torch.tensor(values, dtype=both.dtype)).all(-1).double().mean())
            assert abs(share - p) < 5 * math.sqrt(p * (1 - p) / N) + 1 / N, values
    fit = fit_as_it_starts(found.G, data)
    assert fit.predictive(20)["y"].shape == (20, 2, 3)
    assert fit.log_likelihood(20)["y"].shape == (20, 2, 3)
    # a longer plate: its classes come from their priors
    assert fit.predictive(20, data={}, N=4)["y"].shape == (20, 4, 3)


def test_the_log_likelihood_is_the_density_less_the_prior(schools: Fit) -> None:
    values = schools.log_likelihood(50)["y"]
    assert values.shape == (50, 2)
    draws = schools.sample(50)
    expected = torch.distributions.Normal(draws["theta"], torch.tensor(SIGMA)).log_prob(torch.zeros(2))
    torch.testing.assert_close(values, expected.to(values.dtype), rtol=1e-9, atol=1e-9)


def test_axes_and_positions_as_written() -> None:
    """Plates in another order than they are declared in, one-based positions, missing observations, events."""
    found = module(
        "axes",
        """model Axes {
  dim A, B, K = 3
  data p : simplex[K]
  plate a[A] { latent u : real ~ Normal(0, 1) }
  plate b[B] { latent v : real ~ Normal(0, 1) }
  plate b, a {
    data there : bool
    observed y : real ~ Normal(u + 10 * v, 0.001) when there
    observed k : index(K, base = 1) ~ Categorical(p)
    observed w : real[K] ~ Normal(u, 1)
  }
}
guide G for Axes { auto mean_field for rest }
""",
    )
    p = [0.2, 0.5, 0.3]
    there = [[1.0, 0.0, 1.0], [1.0, 1.0, 1.0]]
    draws = found.Axes.prior_predictive({"there": there, "p": p}, 200)
    assert draws["y"].shape == (200, 2, 3)
    torch.testing.assert_close(draws["y"], draws["u"][:, None, :] + 10 * draws["v"][:, :, None], atol=0.01, rtol=0)
    assert draws["k"].unique().tolist() == [1, 2, 3]
    data = found.Axes.data(
        p=p, there=there, y=[[1.0, math.nan, 2.0], [3.0, 4.0, 5.0]], k=[[2, 3, 2], [3, 2, 3]], w=torch.zeros(2, 3, 3)
    )
    fit = fit_as_it_starts(found.G, data)
    values = fit.log_likelihood(7)
    assert {name: tuple(value.shape) for name, value in values.items()} == dict.fromkeys("ykw", (7, 2, 3))
    assert bool((values["y"][:, 0, 1] == 0).all())
    assert fit.predictive(7)["y"].shape == (7, 2, 3)


def test_batches_of_rows() -> None:
    found = module(
        "fed",
        """model Fed {
  dim N
  latent m : real ~ Normal(0, 1)
  plate obs[N] minibatch(2) {
    data x : real
    latent z : real ~ Normal(m, 0.5)
    observed y : real ~ Normal(z + x, 0.1)
  }
}
guide G for Fed {
  m ~ Normal(2, 0.1)
  plate obs { z ~ Normal(y, 0.01) }
}
""",
    )
    data = found.Fed.data(x=[0.0, 0.0], y=[5.0, 6.0], N=100)
    fit = fit_as_it_starts(found.G, data)
    with pytest.raises(InferenceError, match=r"fed in batches: pass data="):
        fit.predictive(10)
    seen = fit.predictive(2000, data={"x": [0.0, 1.0, 1.0], "y": [1.0, 2.0, 3.0]})["y"]
    torch.testing.assert_close(seen.mean(0), torch.tensor([1.0, 3.0, 4.0], dtype=seen.dtype), atol=0.05, rtol=0)
    unseen = fit.predictive(N, data={"x": [0.0, 1.0, 1.0]})["y"]
    assert_moments(unseen[:, 0], 2, math.sqrt(0.01 + 0.25 + 0.01))


def test_quantiles(schools: Fit) -> None:
    draws, found = schools.sample(4000), schools.quantiles((0.1, 0.5))
    for name, value in found.items():
        of_draws = draws[name].quantile(torch.tensor([0.1, 0.5]).double(), 0)
        # a quantile of 4,000 draws is 0.03 sd off
        away = 0.15 * draws[name].std(0) if name in found.exact else torch.tensor(1e-12)
        assert bool(((value - of_draws).abs() <= away).all()), name
    assert "theta" in found.exact
    with pytest.raises(InferenceError, match="between 0 and 1"):
        schools.quantiles((1.5,))


# Packages that may not be there stand behind stubs: these tests are about what they are handed


def test_k_hat(schools: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[Any] = []

    class Stats:
        def psislw(self, log_likelihoods: Any) -> tuple[Any, Any]:
            handed.append(log_likelihoods)
            return log_likelihoods, numpy.float64(0.31)

    monkeypatch.setattr("guidedsl.runtime.diagnostics.stats_installed", lambda: True)
    monkeypatch.setattr("guidedsl.runtime.fit.stats_installed", lambda: True)
    monkeypatch.setitem(sys.modules, "arviz_stats", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "arviz_stats.base", SimpleNamespace(array_stats=Stats()))
    assert schools.khat() == 0.31
    weights = log_weights(schools.guide, schools.data.full, schools.store, schools._generator(None))
    assert handed[0].shape == (2000,)
    assert (handed[0] == -weights.numpy()).all()
    assert "k-hat: 0.31 (the guide is near the posterior)" in str(schools.summary(100))
    from guidedsl.runtime.diagnostics import khat_line, pareto_k

    assert "WARNING" in khat_line(0.71)
    assert math.isnan(pareto_k(torch.ones(10)) or 0.0)
    assert "far" in khat_line(0.9)
    assert "none" in khat_line(math.nan)


@pytest.mark.skipif(find_spec("arviz_stats") is None, reason="the extra `stats` is not installed")
@pytest.mark.parametrize("k", [0.2, 0.5, 0.9])
def test_k_hat_of_known_tails(k: float) -> None:
    """Weights of a Pareto law of that shape; those of its inverse have none. The real package, where it is there."""
    from guidedsl.runtime.diagnostics import pareto_k

    noise = torch.empty(200_000, dtype=torch.float64).exponential_(generator=torch.Generator().manual_seed(1))
    assert pareto_k(k * noise) == pytest.approx(k, abs=0.1)
    assert (pareto_k(-k * noise) or 0.0) < 0.1


def test_without_the_extra(schools: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guidedsl.runtime.fit.stats_installed", lambda: False)
    monkeypatch.setitem(sys.modules, "arviz_base", None)
    assert schools.khat() is None
    assert "k-hat: install guidedsl[stats]" in str(schools.summary(100))
    with pytest.raises(InferenceError, match=r"pip install guidedsl\[stats\]"):
        schools.to_arviz()


@pytest.mark.skipif(find_spec("arviz_base") is None, reason="the extra `stats` is not installed")
def test_to_arviz_itself(schools: Fit) -> None:
    """The real package: groups, dims by plate, row numbers."""
    tree = schools.to_arviz(50)
    assert tree["posterior"]["theta"].dims == ("chain", "draw", "schools")
    assert tree["posterior"]["theta"].shape == (1, 50, 2)
    assert tree["posterior"].coords["schools"].values.tolist() == [0, 1]
    assert tree["log_likelihood"]["y"].shape == (1, 50, 2)
    assert tree["posterior_predictive"]["y"].shape == (1, 50, 2)
    assert tree["observed_data"]["y"].shape == (2,)


def test_to_arviz(schools: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    def from_dict(groups: Any, *, dims: Any, coords: Any) -> Any:
        return groups, dims, coords

    monkeypatch.setitem(sys.modules, "arviz_base", SimpleNamespace(from_dict=from_dict))
    groups, dims, coords = schools.to_arviz(30)
    assert sorted(groups) == ["log_likelihood", "observed_data", "posterior", "posterior_predictive"]
    assert groups["posterior"]["theta"].shape == (1, 30, 2)
    assert groups["posterior_predictive"]["y"].shape == groups["log_likelihood"]["y"].shape == (1, 30, 2)
    assert groups["observed_data"]["y"].tolist() == [0.0, 0.0]
    assert dims == {"mu": [], "theta": ["schools"], "y": ["schools"]}
    assert coords == {"schools": [0, 1]}


def test_compare(schools: Fit) -> None:
    data = SCHOOLS.Schools.data(y=[0.0, 0.0], sigma=SIGMA)
    other = SCHOOLS.H.fit(data, seed=0)
    found = guidedsl.compare(schools, other)
    assert [row.name for row in found.rows] == ["H", "G"]
    best, worse = found.rows
    assert best.difference == best.difference_error == 0
    assert worse.difference == pytest.approx(worse.elbo - best.elbo, rel=1e-9)
    assert (best.parameters, worse.parameters) == (6, 2)
    assert abs(best.elbo - other.elbo) < 5 * math.hypot(best.elbo_error, other.elbo_error)
    same = guidedsl.compare(other, other)
    assert [row.name for row in same.rows] == ["H 1", "H 2"]
    assert same.rows[1].difference == same.rows[1].difference_error == 0  # the same noise
    assert "difference" in str(found)
    with pytest.raises(InferenceError, match="two fits or more"):
        guidedsl.compare(other)
    elsewhere = fit_as_it_starts(SCHOOLS.G, SCHOOLS.Schools.data(y=[0.0, 0.5], sigma=SIGMA))
    with pytest.raises(InferenceError, match="different data"):
        guidedsl.compare(other, elsewhere)
    improper = fit_as_it_starts(REFUSED.GI, REFUSED.Improper.data(y=0.0))
    with pytest.raises(InferenceError, match="of Improper: their ELBOs do not compare"):
        guidedsl.compare(other, improper)
    assert "up to a constant" in str(guidedsl.compare(improper, improper))
