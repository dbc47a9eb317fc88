"""Importance weighted bounds on the evidence: IWAE, and the variational Rényi bound that contains it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from guidedsl.runtime.data import Data
from guidedsl.runtime.elbo import GuideFunction, Loss
from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.model import Guide, LogDensity, Model
from guidedsl.runtime.noise import Noise
from guidedsl.runtime.plates import Plate

if TYPE_CHECKING:
    from guidedsl.runtime.params import ParamStore


@dataclass(frozen=True)
class Renyi:
    """The variational Rényi bound: −1/(1−α) log mean_k w_k^(1−α) over `num_particles` weights w = p/q.

    Li and Turner 2016, eq. 7. It falls as α grows: α = 0 is IWAE, α → 1 the ELBO (use `ELBO`, which is less noisy);
    below 0 it is no lower bound any more. One weight a particle, for all sites and rows together. The gradient is
    pathwise; at sites that `Draw.score` covers it is that of the score function, where each particle's signal is how
    much the bound owes to it (VIMCO, Mnih and Rezende 2016).

    Raises InferenceError, when called, for a batch of a plate: a logarithm of a mean of weights is not linear in the
    rows, so no rescaling of a batch makes it unbiased.
    """

    alpha: float
    num_particles: int

    def __post_init__(self) -> None:
        if not math.isfinite(self.alpha) or self.alpha == 1:
            raise InferenceError(f"Renyi(alpha={self.alpha}): a finite order other than 1; at 1 it is the ELBO")
        _check_particles("Renyi", self.num_particles)

    def __call__(
        self, model: Model | LogDensity, guide: Guide | GuideFunction, data: Any, store: ParamStore, noise: Noise
    ) -> Loss:
        """The loss at one set of draws from `noise`, on all rows of `data`."""
        return _bound("Renyi", self.alpha, self.num_particles, model, guide, data, store, noise)


@dataclass(frozen=True)
class IWAE:
    """The importance weighted bound: −log mean_k w_k over `num_particles` weights w = p/q (Burda et al. 2016, eq. 8).

    At one particle the ELBO, from below ever nearer to the evidence with more. Otherwise as `Renyi(0, num_particles)`.
    """

    num_particles: int

    def __post_init__(self) -> None:
        _check_particles("IWAE", self.num_particles)

    def __call__(
        self, model: Model | LogDensity, guide: Guide | GuideFunction, data: Any, store: ParamStore, noise: Noise
    ) -> Loss:
        """The loss at one set of draws from `noise`, on all rows of `data`."""
        return _bound("IWAE", 0.0, self.num_particles, model, guide, data, store, noise)


def _check_particles(what: str, num_particles: int) -> None:
    if num_particles < 1:
        raise InferenceError(f"{what}(num_particles={num_particles}): at least one particle is needed")


def _check_rows(what: str, data: Any) -> None:
    if not isinstance(data, Data):
        return
    for plate in vars(data).values():
        if isinstance(plate, Plate) and plate.length < plate.size:
            raise InferenceError(
                f"{what} cannot take {plate.length} of the {plate.size} rows of plate {plate.name!r}: the logarithm of "
                "a mean of weights is biased under subsampling, whatever the scale. Use the ELBO, or all rows "
                "(data.all_rows())"
            )


def _bound(
    what: str,
    alpha: float,
    particles: int,
    model: Model | LogDensity,
    guide: Guide | GuideFunction,
    data: Any,
    store: ParamStore,
    noise: Noise,
) -> Loss:
    _check_rows(what, data)
    draw = guide(data, particles=(particles,), store=store, noise=noise)
    powers = (1.0 - alpha) * (model(data, draw.latents, store=store) - draw.log_q)
    value = -_log_mean(powers) / (1.0 - alpha)
    if draw.score is None:
        return Loss(value, value)
    with torch.no_grad():
        signal = value - _without_each(powers) / (alpha - 1.0)
    return Loss(value + (signal * draw.score).sum(), value)


def _log_mean(powers: Tensor) -> Tensor:
    """log mean exp over the last axis."""
    return torch.logsumexp(powers, -1) - math.log(powers.shape[-1])


def _without_each(powers: Tensor) -> Tensor:
    """[K] → [K]: the log mean exp where entry k is replaced by the mean of the others; zeros for a single one.

    So it does not depend on particle k, and may be subtracted from what that particle's score is multiplied with.
    """
    count = powers.shape[-1]
    if count == 1:
        return torch.zeros_like(powers)
    rows = powers.expand(count, count)
    others = rows.masked_fill(torch.eye(count, dtype=torch.bool, device=powers.device), 0.0).sum(-1) / (count - 1)
    return _log_mean(rows.diagonal_scatter(others))
