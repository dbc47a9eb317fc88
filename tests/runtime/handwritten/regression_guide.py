"""Linear regression with improper priors on the coefficients, with a full-rank and a mean-field guide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from guidedsl.runtime import (
    Data,
    Dim,
    Draw,
    Field,
    Guide,
    Model,
    Noise,
    ParamStore,
    Plate,
    PlateSpec,
    Site,
    constraints,
    get_param_store,
)
from guidedsl.runtime import distributions as dist


@dataclass(frozen=True, kw_only=True)
class RegressionData(Data):
    """Inputs of Regression.

    x: [obs, P] real
    y: [obs] real, observed
    """

    N: int
    P: int
    obs: Plate
    x: Tensor
    y: Tensor


class RegressionLatents(NamedTuple):
    beta: Tensor
    sigma: Tensor


def regression(data: RegressionData, latents: RegressionLatents, *, store: ParamStore | None = None) -> Tensor:
    """Log joint density: one value a particle."""
    beta, sigma = latents
    log_p = dist.HalfCauchy.log_prob(sigma, 2.5)
    mean = beta @ data.x.mT
    log_p = log_p + dist.Normal.log_prob(data.y, mean, sigma[..., None]).sum(-1)
    return log_p


def full_rank(
    data: RegressionData,
    *,
    particles: tuple[int, ...] = (),
    store: ParamStore | None = None,
    noise: Noise | None = None,
) -> Draw[RegressionLatents]:
    """One normal of all unconstrained coordinates."""
    param = get_param_store(store).param
    noise = noise or data.noise()
    P = data.P
    size = P + 1
    loc = param("FullRank.loc", lambda: data.new_full((size,), 0.0), constraint=constraints.real, event_dim=1)
    scale = param("FullRank.scale", lambda: data.new_full((size,), 1.0), constraint=constraints.positive, event_dim=1)
    tril = param("FullRank.tril", lambda: data.new_eye(size), constraint=constraints.unit_lower_cholesky, event_dim=2)
    free, log_q = dist.MultivariateNormalUnit.draw(noise, (*particles, size), loc, scale, tril)
    sigma, log_det_sigma = constraints.positive.push(free[..., P])
    return Draw(RegressionLatents(free[..., :P], sigma), log_q - log_det_sigma)


def mean_field(
    data: RegressionData,
    *,
    particles: tuple[int, ...] = (),
    store: ParamStore | None = None,
    noise: Noise | None = None,
) -> Draw[RegressionLatents]:
    """One normal a coordinate."""
    param = get_param_store(store).param
    noise = noise or data.noise()
    P = data.P
    beta_loc = param("MeanField.beta_loc", lambda: data.new_full((P,), 0.0), constraint=constraints.real, event_dim=1)
    beta_scale = param(
        "MeanField.beta_scale", lambda: data.new_full((P,), 1.0), constraint=constraints.positive, event_dim=1
    )
    sigma_loc = param("MeanField.sigma_loc", lambda: data.new_full((), 0.0), constraint=constraints.real, event_dim=0)
    sigma_scale = param(
        "MeanField.sigma_scale", lambda: data.new_full((), 1.0), constraint=constraints.positive, event_dim=0
    )
    beta, log_q_beta = dist.Normal.draw(noise, (*particles, P), beta_loc, beta_scale)
    sigma, log_q_sigma = dist.LogNormal.draw(noise, particles, sigma_loc, sigma_scale)
    return Draw(RegressionLatents(beta, sigma), log_q_beta.sum(-1) + log_q_sigma)


Regression = Model(
    name="Regression",
    data_type=RegressionData,
    latents_type=RegressionLatents,
    log_density=regression,
    dims=(Dim("N"), Dim("P")),
    plates=(PlateSpec("obs", size="N"),),
    fields=(
        Field("x", role="data", plates=("obs",), event=("P",), constraint=constraints.real),
        Field("y", role="observed", plates=("obs",), event=(), constraint=constraints.real),
    ),
    sites=(
        Site("beta", plates=(), event=("P",), constraint=constraints.real),
        Site("sigma", plates=(), event=(), constraint=constraints.positive),
    ),
    source="regression.guide",
    source_sha256="1" * 64,
    lines=((51, 4), (52, 6), (53, 7)),
)
FullRank = Guide(name="FullRank", function=full_rank, model=Regression)
MeanField = Guide(name="MeanField", function=mean_field, model=Regression)
