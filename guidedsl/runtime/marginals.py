"""Quantiles of latents whose marginal laws are known: the guide at quantiles of its families instead of draws."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from guidedsl.runtime import distributions as dist
from guidedsl.runtime.distributions.composite import inverse
from guidedsl.runtime.distributions.divergence import gaussian_marginals
from guidedsl.runtime.noise import Noise
from guidedsl.runtime.posterior import site_shape
from guidedsl.runtime.scripted import DrawFunction, Scripted

if TYPE_CHECKING:
    from guidedsl.runtime.model import Guide
    from guidedsl.runtime.params import ParamStore


class Quantiles(dict[str, Tensor]):
    """Quantiles by latent and let, [len(q), plates..., event...]. `exact` names those that are no estimates."""

    def __init__(self, values: dict[str, Tensor], exact: tuple[str, ...]) -> None:
        super().__init__(values)
        self.exact = exact


class _AtQuantiles(Noise, Scripted):
    """Every family gives its quantile at `q` [particles], one that cannot be inverted a draw."""

    def __init__(self, q: Tensor, generator: torch.Generator, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(generator, dtype, device)
        self.q = q

    def draw(self, family: Any, draw: DrawFunction, args: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        shape, *arguments = args
        q = self.q.reshape(-1, *(1,) * (len(shape) - 1)).expand(shape)
        value = self._quantile(family, q, arguments)
        return draw(self, *args) if value is None else (value, family.log_prob(value, *arguments))

    def _quantile(self, family: Any, q: Tensor, arguments: Sequence[Any]) -> Tensor | None:
        normals: Tensor = torch.special.ndtri(q)
        if (marginals := gaussian_marginals(family, normals, arguments)) is not None:
            loc, scale = marginals
            value: Tensor = loc + scale * normals
            return value.exp() if family is dist.LogNormal else value.sigmoid() if family is dist.LogitNormal else value
        if not hasattr(family, "log_mass"):
            return None
        return inverse(
            q.log().double(), lambda x: family.log_mass(-math.inf, x, *arguments), -math.inf, math.inf, self.dtype
        )


@torch.no_grad()
def marginal_quantiles(
    guide: Guide,
    data: Any,
    store: ParamStore,
    q: Sequence[float],
    generator: torch.Generator,
    left_out: Collection[str] = (),
) -> dict[str, Tensor]:
    """Exact quantiles [len(q), plates..., event...] of the latents in `guide.marginals`, for q between 0 and 1.

    Increasing functions take quantiles to quantiles, so those of the families become those of the latents. What is in
    the plates `left_out` is left out.
    """
    noise = _AtQuantiles(
        torch.tensor(list(q), dtype=data.dtype, device=data.device), generator, data.dtype, data.device
    )
    latents = guide(data, particles=(len(q),), store=store, noise=noise).latents
    return {
        site.name: site.to_written(value).expand(len(q), *site_shape(site, data))
        for site, value in zip(guide.model.sites, latents, strict=True)
        if site.name in guide.marginals and not set(site.plates).intersection(left_out)
    }
