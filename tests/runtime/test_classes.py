"""Fits of guides that sum classes out: what is drawn, what is said of the classes, what is kept."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from guidedsl.modules import load_source
from guidedsl.runtime import ParamStore
from guidedsl.runtime.elbo import ELBO
from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.fit import Fit, fit
from guidedsl.runtime.optim import Adam
from guidedsl.runtime.svi import SVI
from guidedsl.source import Source

TEXT = """
model Mixture {
  dim N, K = 2
  latent w : simplex[K] ~ Dirichlet(5)
  plate cluster[K] {
    data     at : real
    latent   mu : real ~ Normal(at, 1)
  }
  plate obs[N] {
    latent   c : index(cluster) ~ Categorical(w)
    let      centre = mu[c]
    observed y : real ~ Normal(centre, 0.5)
  }
  let gap = mu[1] - mu[0]
}
guide Q for Mixture { auto enumerate for c  auto mean_field for rest }

model Learned {
  dim N, K = 2
  data first : real[K]
  param w  : simplex[K]
  param mu : real[K] = first
  plate obs[N] {
    latent c : int(1, 2) ~ DiscreteUniform(1, 2)
    factor log(w[where(c == 1, 0, 1)])
    observed y : real ~ Normal(where(c == 1, mu[0], mu[1]), 0.5)
  }
}
guide EM for Learned { auto enumerate for rest }
""".replace("    factor log(w[where(c == 1, 0, 1)])\n", "    factor log(where(c == 1, w[0], w[1]))\n")
Y = [-2.1, -1.9, -2.5, 1.8, 2.2, 0.3]


@pytest.fixture(scope="module")
def module() -> ModuleType:
    return load_source(Source("classes.guide", TEXT))


@pytest.fixture(scope="module")
def fitted(module: ModuleType) -> Fit:
    return fit(module.Q, module.Mixture.data({"y": Y, "at": [-2.0, 2.0]}), progress=False)


def test_fixed_noise_serves(fitted: Fit) -> None:
    assert fitted.converged, fitted.reason
    assert "normals" not in fitted.reason


def test_no_draws_of_what_is_summed_out(fitted: Fit) -> None:
    """Nor of the let that reads it."""
    draws = fitted.sample(20)
    assert list(draws) == ["w", "mu", "gap"]
    torch.testing.assert_close(draws["gap"], draws["mu"][:, 1] - draws["mu"][:, 0])
    assert set(fitted.mean(50)) == {"w", "mu", "gap"}


def test_class_probabilities_are_bayes_rule(fitted: Fit) -> None:
    """At each draw p(c) p(y | c) over its sum; the mean over the same draws."""
    draws = fitted.sample(300, seed=8)
    got = fitted.class_probabilities(300, seed=8)["c"]
    y = torch.tensor(Y, dtype=torch.float64)
    log_p = draws["w"].log()[:, None] - 0.5 * ((y[:, None] - draws["mu"][:, None]) / 0.5).square()
    torch.testing.assert_close(got, log_p.softmax(-1).mean(0), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(got.sum(-1), torch.ones(6, dtype=torch.float64))


def test_no_class_probabilities_without_draws(fitted: Fit) -> None:
    with pytest.raises(InferenceError, match="at least one draw"):
        fitted.class_probabilities(0)


def test_summary_shows_the_classes(fitted: Fit) -> None:
    summary = fitted.summary(200)
    text = str(summary)
    assert "P(c = …)" in text
    assert "mean of 6" in text
    row = summary.to_dict()["c[0]"]
    assert row["P(0)"] > 0.99
    assert row["P(0)"] + row["P(1)"] == pytest.approx(1)


def test_particles_and_svi(module: ModuleType) -> None:
    """The plain functions, in a loop of one's own, with and without particles."""
    data = module.Mixture.data({"y": Y, "at": [-2.0, 2.0]})
    for particles in (1, 5):
        svi = SVI(module.mixture, module.q, Adam(lr=0.05), ELBO(num_particles=particles), store=ParamStore(), seed=1)
        losses = [svi.step(data) for _ in range(120)]
        assert sum(losses[-20:]) < sum(losses[:20])


def test_saved_and_loaded(fitted: Fit, module: ModuleType, tmp_path: Path) -> None:
    fitted.save(tmp_path / "q.safetensors")
    again = module.Q.load(tmp_path / "q.safetensors", fitted.data)
    torch.testing.assert_close(again.class_probabilities(10), fitted.class_probabilities(10))


def test_params_alone_are_at_a_fixed_point_of_em(module: ModuleType) -> None:
    """Without continuous latents a fit is maximum likelihood, where one step of EM changes nothing."""
    found = fit(module.EM, module.Learned.data({"y": Y, "first": [-1.0, 1.0]}), progress=False)
    assert found.converged, found.reason
    assert found.sample(5) == {}
    shares: Any = found.class_probabilities(1)["c"]
    y = torch.tensor(Y, dtype=torch.float64)
    mean = (shares * y[:, None]).sum(0) / shares.sum(0)
    # The fit ends where the loss is settled to a twentieth of a standard error, not at the last digit.
    torch.testing.assert_close(found.store["Learned.mu"].detach(), mean, rtol=0.02, atol=0.02)
    torch.testing.assert_close(found.store["Learned.w"].detach(), shares.mean(0), rtol=0.02, atol=0.02)
    assert found.summary(10).classes[0].values == (1, 2)
