"""Quantiles: exact where a marginal law is known, else from draws."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import guidedsl
from guidedsl.library.distributions import DISTRIBUTIONS
from guidedsl.modules import load_source
from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.fit import Fit
from guidedsl.source import Source

LEVELS = (0.001, 0.05, 0.3, 0.5, 0.95, 0.999)


def build(text: str) -> Any:
    return load_source(Source("program.guide", text), "marginals_guide")


def fitted(module: Any, **data: Any) -> Fit:
    """A fit whose parameters are somewhere, off their initial values."""
    bound, store = module.M.data(**data), guidedsl.ParamStore()
    generator = torch.Generator().manual_seed(3)
    module.G(bound, store=store, noise=bound.noise(generator))
    with torch.no_grad():
        for _, leaf in store.named_parameters():
            leaf += 0.3 * torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype)
    return Fit(module.G, bound, store, 0.0, 0.0, True, "", 0, 0.0)


def share_below(fit: Fit, values: Tensor, name: str, draws: int = 40_000) -> Tensor:
    """The share of draws below each of `values` [levels, ...]."""
    drawn = fit.sample(draws, seed=9)[name]
    return torch.stack([(drawn < value).double().mean(0) for value in values])


def check_levels(fit: Fit, name: str, levels: tuple[float, ...] = LEVELS) -> None:
    """Draws fall below each quantile as often as its level says: within five standard errors."""
    found = fit.quantiles(levels, num_draws=10)[name]
    shares = share_below(fit, found, name)
    wanted = torch.tensor(levels, dtype=torch.float64).reshape(-1, *(1,) * (shares.ndim - 1))
    error = (wanted * (1 - wanted) / 40_000).sqrt()
    assert bool(((shares - wanted).abs() < 5 * error + 1e-12).all()), shares


WITH_MASS = [
    row
    for row in DISTRIBUTIONS.values()
    if row.has_mass and row.rule is None and row.support.split("(")[0] in ("real", "positive", "unit")
]


@pytest.mark.parametrize("row", WITH_MASS, ids=[row.name for row in WITH_MASS])
def test_every_family_with_a_distribution_function(row: Any) -> None:
    values = {"real": "0.4", "positive": "1.7", "unit": "0.3", "nonnegative": "0.2"}
    for form in row.forms:
        arguments = ", ".join(f"{a.name} = {values[a.type]}" for a in form.arguments)
        prior = {"real": "Normal(0, 1)", "positive": "Gamma(2, 1)", "unit": "Beta(2, 2)"}[row.support]
        module = build(
            f"model M {{ latent z : {row.support} ~ {prior} }} guide G for M {{ z ~ {row.name}({arguments}) }}"
        )
        assert module.G.marginals == ("z",)
        fit = fitted(module)
        assert fit.quantiles(LEVELS, 10).exact == ("z",)
        check_levels(fit, "z")


PROGRAM = """
model M {
  dim J, K = 2
  latent mu    : real ~ Normal(0, 5)
  latent tau   : positive ~ HalfCauchy(5)
  latent p     : unit ~ Beta(2, 2)
  latent width : interval(-1, 4) ~ Uniform(-1, 4)
  latent below : less_than(2) ~ Normal(0, 1)
  latent above : greater_than(1) ~ Pareto(1, 2)
  latent w     : simplex[3] ~ Dirichlet([1, 1, 1])
  latent far   : real[K] ~ Normal(0, 1)
  let double = 2 * mu
  plate schools[J] {
    data     sigma : positive
    latent   theta : real ~ Normal(mu, tau)
    latent   x     : positive[K] ~ HalfNormal(1)
    observed y     : real ~ Normal(theta + sum(x), sigma)
  }
}
"""


@pytest.mark.parametrize(
    ("guide", "known"),
    [
        ("auto mean_field for rest", ("mu", "tau", "p", "width", "above", "far", "theta", "x")),
        ("auto full_rank for rest", ("mu", "tau", "p", "width", "above", "far", "theta", "x")),
        ("auto low_rank(rank = 3) for rest", ("mu", "tau", "p", "width", "above", "far", "theta", "x")),
        ("auto mean_field for mu, tau, p, width, below, above, w, far, x "
         "plate schools { param a : real = 1  theta ~ Normal(a + mu, 1) }",
         ("mu", "tau", "p", "width", "above", "far", "x")),
        ("auto mean_field for mu, tau, p, width, below, above, w, far, x "
         "aux e : real ~ Normal(0, 1) let b = e + 1 plate schools { param a : real = 1  theta ~ Normal(a * b, 1) }",
         ("mu", "tau", "p", "width", "above", "far", "x")),
        ("auto structured for rest", ("mu", "tau", "p", "width", "above", "far", "x")),
        ("auto map for tau auto mean_field for rest", ("mu", "p", "width", "above", "far", "theta", "x")),
    ],
)  # fmt: skip
def test_which_marginals_are_known(guide: str, known: tuple[str, ...]) -> None:
    module = build(f"{PROGRAM} guide G for M {{ {guide} }}")
    assert set(module.G.marginals) == set(known)
    fit = fitted(module, J=3, sigma=[1.0, 2.0, 3.0], y=[0.5, 1.0, 2.0])
    found = fit.quantiles(LEVELS, num_draws=500)
    assert set(found.exact) == set(known)
    draws = fit.sample(500)
    assert set(found) == set(draws)
    for name, value in found.items():
        assert value.shape == (len(LEVELS), *draws[name].shape[1:]), name
        assert bool((value.diff(dim=0) >= 0).all()), name
    for name in known:
        check_levels(fit, name)


def test_of_a_normal_to_the_last_digit() -> None:
    """By hand, at levels that draws never reach."""
    module = build(
        "model M { latent a : real ~ Normal(0, 1) latent b : positive ~ Gamma(2, 1) } "
        "guide G for M { a ~ Normal(1.5, 0.3) b ~ LogNormal(0.2, 0.4) }"
    )
    levels = (1e-12, 0.05, 0.5, 0.95)
    found = fitted(module).quantiles(levels, 10)
    z = torch.special.ndtri(torch.tensor(levels, dtype=torch.float64))
    torch.testing.assert_close(found["a"], 1.5 + 0.3 * z, rtol=1e-14, atol=0)
    torch.testing.assert_close(found["b"], (0.2 + 0.4 * z).exp(), rtol=1e-14, atol=0)
    assert found["a"][2].item() == 1.5


def test_plates_in_another_order() -> None:
    """Axes as written, as those of draws: the model re-enters its plates the other way round."""
    module = build("""
    model M { dim A = 2, B = 3 plate a[A] { observed u : real ~ Normal(0, 1) }
      plate b[B] { observed v : real ~ Normal(0, 1) } plate b, a { latent z : real ~ Normal(0, 1) } }
    guide G for M { auto mean_field for rest }
    """)
    fit = fitted(module, u=[0.0, 1.0], v=[0.0, 1.0, 2.0])
    assert fit.quantiles((0.5,), 10)["z"].shape == (1, 3, 2)
    check_levels(fit, "z", (0.1, 0.5))


def test_the_ends_are_those_of_the_draws() -> None:
    module = build("model M { latent a : real ~ Normal(0, 1) } guide G for M { auto mean_field for rest }")
    fit = fitted(module)
    found = fit.quantiles((0.0, 0.5, 1.0), 100)
    draws = fit.sample(100)["a"]
    assert found.exact == ()
    assert (found["a"][0], found["a"][2]) == (draws.min(), draws.max())
    assert found["a"][1].item() == fit.quantiles((0.5,), 10)["a"].item()
    with pytest.raises(InferenceError, match=r"quantiles\(1\.5\)"):
        fit.quantiles((0.5, 1.5))


def test_rows_that_are_fed_are_left_out() -> None:
    module = build("""
    model M { dim N latent m : real ~ Normal(0, 1)
      plate rows[N] minibatch(2) { latent z : real ~ Normal(m, 1) observed y : real ~ Normal(z, 1) } }
    guide G for M { auto mean_field for m  net f(y: real) -> (a: real, s: positive) = mlp(2)
      plate rows { let (a, s) = f(y) z ~ Normal(a, s) } }
    """)
    fit = fitted(module, y=[0.0, 1.0], N=10)
    found = fit.quantiles((0.5,), 10)
    assert set(found) == {"m"}
    assert found.exact == ("m",)


def test_single_precision_and_no_gradient() -> None:
    module = build("model M { latent a : positive ~ Gamma(2, 1) } guide G for M { a ~ Gamma(2, 3) }")
    bound = module.M.data(dtype=torch.float32)
    fit = Fit(module.G, bound, guidedsl.ParamStore(), 0.0, 0.0, True, "", 0, 0.0)
    value = fit.quantiles((0.5,), 10)["a"]
    assert value.dtype == torch.float32
    assert not value.requires_grad
    below = torch.special.gammainc(torch.tensor(2.0), 3 * value)
    assert float(below) == pytest.approx(0.5, abs=math.sqrt(torch.finfo(torch.float32).eps))
