"""Row effects around a mean, the rows subsampled: mu ~ N(0, 10), u_i ~ N(mu, 1), y_i ~ N(u_i, s_i)."""

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
class EffectsData(Data):
    """Inputs of Effects.

    s: [rows] positive
    y: [rows] real, observed
    """

    N: int
    rows: Plate
    s: Tensor
    y: Tensor


class EffectsLatents(NamedTuple):
    mu: Tensor
    u: Tensor


def effects(data: EffectsData, latents: EffectsLatents, *, store: ParamStore | None = None) -> Tensor:
    """Log joint density: one value a particle."""
    mu, u = latents
    log_p = dist.Normal.log_prob(mu, 0.0, 10.0)
    log_p = log_p + data.rows.scale * dist.Normal.log_prob(u, mu[..., None], 1.0).sum(-1)
    log_p = log_p + data.rows.scale * dist.Normal.log_prob(data.y, u, data.s).sum(-1)
    return log_p


def mean_field(
    data: EffectsData,
    *,
    particles: tuple[int, ...] = (),
    store: ParamStore | None = None,
    noise: Noise | None = None,
) -> Draw[EffectsLatents]:
    """One normal a coordinate; the rows' parameters are stored for all rows."""
    param = get_param_store(store).param
    noise = noise or data.noise()
    N = data.N
    rows = (data.rows,)
    mu_loc = param("MeanField.mu_loc", lambda: data.new_full((), 0.0), constraint=constraints.real, event_dim=0)
    mu_scale = param("MeanField.mu_scale", lambda: data.new_full((), 1.0), constraint=constraints.positive, event_dim=0)
    u_loc = param(
        "MeanField.u_loc", lambda: data.new_full((N,), 0.0), constraint=constraints.real, event_dim=0, plates=rows
    )
    u_scale = param(
        "MeanField.u_scale", lambda: data.new_full((N,), 1.0), constraint=constraints.positive, event_dim=0, plates=rows
    )
    mu, log_q_mu = dist.Normal.draw(noise, particles, mu_loc, mu_scale)
    u, log_q_u = dist.Normal.draw(noise, (*particles, data.rows.length), u_loc, u_scale)
    return Draw(EffectsLatents(mu, u), log_q_mu + data.rows.scale * log_q_u.sum(-1))


Effects = Model(
    name="Effects",
    data_type=EffectsData,
    latents_type=EffectsLatents,
    log_density=effects,
    dims=(Dim("N"),),
    plates=(PlateSpec("rows", size="N", subsample=5),),
    fields=(
        Field("s", role="data", plates=("rows",), event=(), constraint=constraints.positive),
        Field("y", role="observed", plates=("rows",), event=(), constraint=constraints.real),
    ),
    sites=(
        Site("mu", plates=(), event=(), constraint=constraints.real),
        Site("u", plates=("rows",), event=(), constraint=constraints.real),
    ),
    source="effects.guide",
    source_sha256="2" * 64,
    lines=((50, 3), (51, 5), (52, 6)),
)
MeanField = Guide(name="MeanField", function=mean_field, model=Effects)
