"""Amortised guides against exact posteriors, and generated nets of every type against their supports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import guidedsl

ROOT = Path(__file__).resolve().parent.parent.parent
MU, TAU, SIGMA, K, GROUPS = 1.0, 2.0, 1.5, 4, 300


@pytest.fixture(scope="module")
def readings() -> Any:
    return guidedsl.compile(ROOT / "examples" / "amortised" / "amortised.guide")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_linear_net_finds_the_exact_posterior(readings: Any, dtype: torch.dtype) -> None:
    """The posterior mean is linear in the readings and the sd constant, so the family holds the posterior: the ELBO is
    the evidence, and means and sds are exact within the fit's tolerance of 0.05 sd."""
    generator = torch.Generator().manual_seed(1)
    theta = MU + TAU * torch.randn(GROUPS, 1, generator=generator, dtype=torch.float64)
    y = theta + SIGMA * torch.randn(GROUPS, K, generator=generator, dtype=torch.float64)
    data = readings.Readings.data(y=y, mu=MU, tau=TAU, sigma=SIGMA, dtype=dtype)
    fit = readings.Linear.fit(data, seed=1, progress=False)
    precision = 1 / TAU**2 + K / SIGMA**2
    mean, sd = (MU / TAU**2 + y.sum(-1) / SIGMA**2) / precision, precision**-0.5
    with torch.no_grad():
        loc, scale = (value.double() for value in fit.store.modules["Linear.posterior"](y.to(dtype)))
    assert float((loc - mean).abs().max()) < 0.05 * sd
    assert float((scale / sd).log().abs().max()) < 0.05
    covariance = SIGMA**2 * torch.eye(K, dtype=torch.float64) + TAU**2
    evidence = torch.distributions.MultivariateNormal(torch.full((K,), MU, dtype=torch.float64), covariance)
    # A group's gap is KL(q || p), at most 0.05² for errors as above, and single precision's rounding of 2,500 nats.
    assert abs(fit.elbo - float(evidence.log_prob(y).sum())) < 0.0025 * GROUPS
    assert fit.converged
