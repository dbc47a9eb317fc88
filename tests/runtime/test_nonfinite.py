"""A loss that is not finite names the parameter, or the `.guide` line and the site."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from runtime.handwritten import eight_schools_guide as schools

from guidedsl.modules import load_source
from guidedsl.runtime import ParamStore, optim
from guidedsl.runtime.elbo import ELBO
from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.svi import SVI
from guidedsl.source import Source

Y = [28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]
SIGMA = [15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]


def schools_data() -> Any:
    return schools.EightSchools.data(y=Y, sigma=SIGMA)


def run(store: ParamStore, particles: int = 1) -> SVI:
    loss = ELBO(num_particles=particles)
    return SVI(schools.eight_schools, schools.mean_field, optim.Adam(), loss, store=store, seed=0)


def stored(**values: float) -> ParamStore:
    store = ParamStore()
    schools.mean_field(schools_data(), store=store)
    with torch.no_grad():
        for name, leaf in store.named_parameters():
            if (value := values.get(name.removeprefix("MeanField."))) is not None:
                leaf.fill_(value)
    return store


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_parameter_is_named_first(value: float) -> None:
    with pytest.raises(InferenceError, match=rf"parameter MeanField\.z_loc\[0\] is {value} in unconstrained space"):
        run(stored(z_loc=value)).step(schools_data())


def test_the_line_and_the_site_are_named() -> None:
    store = stored(mu_loc=1e200)
    with pytest.raises(InferenceError, match=r"^eight_schools\.guide:5: at site `mu`, `square` gives inf"):
        run(store).step(schools_data())


def test_a_site_in_a_plate_is_named() -> None:
    store = stored(z_loc=1e160)
    with pytest.raises(InferenceError, match=r"^eight_schools\.guide:8: at site `z`"):
        run(store, particles=3).step(schools_data())


def test_no_parameter_moves() -> None:
    store = stored(mu_loc=1e200)
    before = {name: leaf.detach().clone() for name, leaf in store.named_parameters()}
    with pytest.raises(InferenceError):
        run(store).step(schools_data())
    assert all(torch.equal(before[name], leaf) for name, leaf in store.named_parameters())


def test_fit_says_so_too() -> None:
    with pytest.raises(InferenceError, match=r"eight_schools\.guide:5: at site `mu`"):
        schools.MeanField.fit(schools_data(), store=stored(mu_loc=1e200), steps=100)


PROCESS = """
model Process {
  dim N
  data x : real[N]
  latent rho : real ~ Normal(0, 1)
  let S : cov[N] = exp_quad(x, 1, exp(rho))
  latent f : real[N] ~ MultivariateNormal(loc = zeros(N), covariance = S)
}
guide Wide for Process {
  param rho_loc : real = 6
  rho ~ Normal(rho_loc, 0.1)
  auto mean_field for rest
}
"""


def test_a_matrix_that_cannot_be_factorised() -> None:
    module = load_source(Source("process.guide", PROCESS))
    data = module.Process.data(x=torch.linspace(0, 1, 12), dtype=torch.float32)
    with pytest.raises(InferenceError, match=r"^process\.guide:7: at site `f`, a matrix is not positive definite"):
        SVI(module.Process, module.Wide, optim.Adam(), store=ParamStore(), seed=0).step(data)


@pytest.mark.parametrize(
    "family", ["Bernoulli(0.5 + 0 * log(a))", "Poisson(1 + 0 * log(a))", "Binomial(3, 0.5 + 0 * log(a))"]
)
def test_a_discrete_draw_with_nan(family: str) -> None:
    kind = {"Be": "bool", "Po": "count", "Bi": "int(0, 3)"}[family[:2]]
    text = f"model M {{ latent z : {kind} ~ {family.replace('log(a)', '1')} }}\n"
    text += f"guide G for M {{ param a : real = -1\n z ~ {family.replace('log(a)', 'log_diff_exp(a, 0)')} }}"
    module = load_source(Source("odd.guide", text))
    with pytest.raises(InferenceError, match=r"^odd\.guide:3: .*`z`"):
        SVI(module.M, module.G, optim.Adam(), store=ParamStore(), seed=0).step(module.M.data())
