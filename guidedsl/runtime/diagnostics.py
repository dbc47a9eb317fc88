"""How near a guide is to the posterior: the Pareto k-hat of its importance weights."""

from __future__ import annotations

import math
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from guidedsl.runtime.model import Guide
    from guidedsl.runtime.params import ParamStore

WITHOUT_EXTRA = "install guidedsl[stats]"
DRAWS = 2000
BUDGET = 2e8
CHUNK = 1e6
GOOD = 0.7


def stats_installed() -> bool:
    """Whether the extra `stats` is there."""
    return find_spec("arviz_stats") is not None


@torch.no_grad()
def log_weights(guide: Guide, data: Any, store: ParamStore, generator: torch.Generator, most: int = DRAWS) -> Tensor:
    """log p − log q of draws of the guide, [draws] in float64, with all rows of `data`, in passes of bounded memory."""
    entries = max([1, *(value.numel() for value in vars(data).values() if isinstance(value, Tensor))])
    draws = int(min(most, max(16, BUDGET / entries)))
    chunk = max(1, int(CHUNK / entries))
    noise = data.noise(generator)
    parts: list[Tensor] = []
    for start in range(0, draws, chunk):
        draw = guide(data, particles=(min(chunk, draws - start),), store=store, noise=noise)
        parts.append((guide.model(data, draw.latents, store=store) - draw.log_q).to(torch.float64).reshape(-1))
    return torch.cat(parts)


def pareto_k(weights: Tensor) -> float | None:
    """k-hat of log weights [draws] (Vehtari et al. 2024; for guides, Yao et al. 2018); None without the extra `stats`.

    NaN where it has no meaning: weights that are all one number, as of a point estimate, or not finite.
    """
    try:
        from arviz_stats.base import array_stats
    except ImportError:
        return None
    if not bool(weights.isfinite().all()) or bool((weights == weights[0]).all()):
        return math.nan
    # It takes log likelihoods, whose importance weights are their inverses.
    _, k = array_stats.psislw(-weights.cpu().numpy())
    return float(k)


def khat_line(k: float | None) -> str:
    """What a summary says of k-hat."""
    if k is None:
        return f"k-hat: {WITHOUT_EXTRA}"
    if not math.isfinite(k):
        return "k-hat: none (the weights of the draws are all one number, or not finite)"
    if k < GOOD:
        return f"k-hat: {k:.2f} (the guide is near the posterior)"
    return f"k-hat: {k:.2f} (WARNING: above {GOOD:g} the guide is far from the posterior, whatever the fit's end)"
