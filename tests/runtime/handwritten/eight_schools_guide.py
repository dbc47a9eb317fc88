"""Eight schools, non-centred, with a mean-field and a full-rank guide."""

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
class EightSchoolsData(Data):
    """Inputs of EightSchools.

    sigma: [schools] positive
    y: [schools] real, observed
    """

    J: int
    schools: Plate
    sigma: Tensor
    y: Tensor


class EightSchoolsLatents(NamedTuple):
    mu: Tensor
    tau: Tensor
    z: Tensor


def eight_schools(data: EightSchoolsData, latents: EightSchoolsLatents, *, store: ParamStore | None = None) -> Tensor:
    """Log joint density: one value a particle."""
    mu, tau, z = latents
    log_p = dist.Normal.log_prob(mu, 0.0, 5.0)
    log_p = log_p + dist.HalfCauchy.log_prob(tau, 5.0)
    log_p = log_p + dist.Normal.log_prob(z, 0.0, 1.0).sum(-1)
    theta = mu[..., None] + tau[..., None] * z
    log_p = log_p + dist.Normal.log_prob(data.y, theta, data.sigma).sum(-1)
    return log_p


def quantities(data: EightSchoolsData, latents: EightSchoolsLatents) -> dict[str, Tensor]:
    """The model's lets."""
    mu, tau, z = latents
    return {"theta": mu[..., None] + tau[..., None] * z}


def mean_field(
    data: EightSchoolsData,
    *,
    particles: tuple[int, ...] = (),
    store: ParamStore | None = None,
    noise: Noise | None = None,
) -> Draw[EightSchoolsLatents]:
    """One normal a coordinate."""
    param = get_param_store(store).param
    noise = noise or data.noise()
    J = data.J
    schools = (data.schools,)
    mu_loc = param("MeanField.mu_loc", lambda: data.new_full((), 0.0), constraint=constraints.real, event_dim=0)
    mu_scale = param("MeanField.mu_scale", lambda: data.new_full((), 1.0), constraint=constraints.positive, event_dim=0)
    tau_loc = param("MeanField.tau_loc", lambda: data.new_full((), 0.0), constraint=constraints.real, event_dim=0)
    tau_scale = param(
        "MeanField.tau_scale", lambda: data.new_full((), 0.5), constraint=constraints.positive, event_dim=0
    )
    z_loc = param(
        "MeanField.z_loc", lambda: data.new_full((J,), 0.0), constraint=constraints.real, event_dim=0, plates=schools
    )
    z_scale = param(
        "MeanField.z_scale",
        lambda: data.new_full((J,), 1.0),
        constraint=constraints.positive,
        event_dim=0,
        plates=schools,
    )
    mu, log_q_mu = dist.Normal.draw(noise, particles, mu_loc, mu_scale)
    tau, log_q_tau = dist.LogNormal.draw(noise, particles, tau_loc, tau_scale)
    z, log_q_z = dist.Normal.draw(noise, (*particles, J), z_loc, z_scale)
    log_q = log_q_mu + log_q_tau + log_q_z.sum(-1)
    return Draw(EightSchoolsLatents(mu, tau, z), log_q)


def full_rank(
    data: EightSchoolsData,
    *,
    particles: tuple[int, ...] = (),
    store: ParamStore | None = None,
    noise: Noise | None = None,
) -> Draw[EightSchoolsLatents]:
    """One normal of all unconstrained coordinates."""
    param = get_param_store(store).param
    noise = noise or data.noise()
    J = data.J
    size = J + 2
    loc = param("FullRank.loc", lambda: data.new_full((size,), 0.0), constraint=constraints.real, event_dim=1)
    scale = param("FullRank.scale", lambda: data.new_full((size,), 1.0), constraint=constraints.positive, event_dim=1)
    tril = param(
        "FullRank.tril", lambda: data.new_eye(size), constraint=constraints.unit_lower_cholesky, event_dim=2
    )
    free, log_q = dist.MultivariateNormalUnit.draw(noise, (*particles, size), loc, scale, tril)
    tau, log_det_tau = constraints.positive.push(free[..., 1])
    log_q = log_q - log_det_tau
    return Draw(EightSchoolsLatents(free[..., 0], tau, free[..., 2:]), log_q)


EightSchools = Model(
    name="EightSchools",
    data_type=EightSchoolsData,
    latents_type=EightSchoolsLatents,
    log_density=eight_schools,
    dims=(Dim("J"),),
    plates=(PlateSpec("schools", size="J"),),
    fields=(
        Field("sigma", role="data", plates=("schools",), event=(), constraint=constraints.positive),
        Field("y", role="observed", plates=("schools",), event=(), constraint=constraints.real),
    ),
    sites=(
        Site("mu", plates=(), event=(), constraint=constraints.real),
        Site("tau", plates=(), event=(), constraint=constraints.positive),
        Site("z", plates=("schools",), event=(), constraint=constraints.real),
    ),
    quantities=quantities,
    quantity_sites=(Site("theta", plates=("schools",), event=(), constraint=constraints.real),),
    derive=None,
    source="eight_schools.guide",
    source_sha256="0" * 64,
    lines=((51, 5), (52, 6), (53, 8), (54, 9), (55, 10), (93, 20), (94, 21), (95, 22), (117, 27)),
)
MeanField = Guide(name="MeanField", function=mean_field, model=EightSchools)
FullRank = Guide(name="FullRank", function=full_rank, model=EightSchools)
