"""Means and sds of a guide's latents, and how far they moved: convergence is judged by these, not by parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from guidedsl.runtime.model import Guide, drawn

if TYPE_CHECKING:
    from guidedsl.runtime.params import ParamStore

DRAWS = 1000
LARGEST = 5e6


class Moments(NamedTuple):
    """Mean and sd of every scalar latent, [coordinates]."""

    mean: Tensor
    sd: Tensor


@torch.no_grad()
def latent_moments(guide: Guide, data: Any, store: ParamStore, seed: int) -> Moments:
    """From up to 1000 draws at `seed`: the same noise at each call, so that two results differ by the parameters."""
    generator = torch.Generator(data.device)
    generator.manual_seed(seed)
    noise = data.noise(generator)
    size = sum(latent.numel() for latent in drawn(guide(data, particles=(1,), store=store, noise=noise).latents))
    draws = max(50, min(DRAWS, int(LARGEST / max(size, 1))))
    latents = drawn(guide(data, particles=(draws,), store=store, noise=noise).latents)
    values = [latent.reshape(draws, -1).to(torch.float64) for latent in latents]
    if not values:
        return Moments(torch.zeros(0), torch.zeros(0))
    both = torch.cat(values, dim=1)
    return Moments(both.mean(0), both.std(0))


def shift(before: Moments, after: Moments) -> Tensor:
    """The change of every mean, in sds, then of every sd, relative: [2 · coordinates]."""
    sd = after.sd.maximum(before.sd)
    sd = sd.clamp_min(1e-12 * (1.0 + after.mean.abs()))
    return torch.cat([(after.mean - before.mean) / sd, (after.sd - before.sd) / sd])


def movement(before: Moments, after: Moments) -> float:
    """The largest change of a mean, in sds, or of an sd, relative; 0 where there are no latents."""
    return float(shift(before, after).abs().max()) if after.mean.numel() else 0.0
