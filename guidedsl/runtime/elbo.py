"""The evidence lower bound, estimated with vectorised particles."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor

from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.held import held_log_q
from guidedsl.runtime.metadata import attribute_of
from guidedsl.runtime.model import Draw, Guide, LogDensity, Model, drawn, find_model
from guidedsl.runtime.noise import Noise

if TYPE_CHECKING:
    from guidedsl.runtime.params import ParamStore

GuideFunction = Callable[..., Draw[Any]]


def gradients_of(objective: Tensor, leaves: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    """The gradient at each leaf, shaped like it; None where the objective does not depend on it."""
    if not objective.requires_grad:
        return (None,) * len(leaves)
    return torch.autograd.grad(objective, leaves, allow_unused=True)


class Loss(NamedTuple):
    """`objective` has the gradient estimate; `value` is the loss itself. Scalars; the same tensor where they agree."""

    objective: Tensor
    value: Tensor


class Objective(Protocol):
    """What `SVI` minimises: `ELBO`, `IWAE`, `Renyi`."""

    def __call__(
        self, model: Model | LogDensity, guide: Guide | GuideFunction, data: Any, store: ParamStore, noise: Noise
    ) -> Loss:
        """The loss at one set of draws from `noise`, on `data` as it is: subsample it first."""


@dataclass(frozen=True)
class ELBO:
    """−E_q[log p − log q] by Monte Carlo over `num_particles` draws, all in one pass.

    The gradient is pathwise; at sites that `Draw.score` covers it is that of the score function, with the mean over
    the other particles as control variate where there is more than one (leave-one-out, Kool et al. 2019). With `stl`
    the gradient of log q through its parameters, whose mean is zero, is dropped (sticking the landing, Roeder et al.
    2017): the gradient's variance vanishes as q nears the posterior, at the price of a second pass of the guide. With
    `analytic_kl` the sites in `Guide.kl` have their divergence from the prior in closed form, given what both read
    (Kingma and Welling 2014, eq. 10), the others by Monte Carlo.

    `kl_weight` between 0 and 1 lowers the weight of KL(q | prior) in what is minimised, not in what is reported: the
    likelihood of what is observed keeps its weight (KL annealing, Bowman et al. 2016). It costs a second evaluation of
    that likelihood.

    Raises InferenceError, when called, for `analytic_kl` with a guide that has no closed form at any site.
    """

    num_particles: int = 1
    stl: bool = False
    analytic_kl: bool = False
    kl_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.num_particles < 1:
            raise InferenceError(f"ELBO(num_particles={self.num_particles}): at least one particle is needed")
        if self.stl and self.analytic_kl:
            raise InferenceError(
                "ELBO(stl=True, analytic_kl=True): choose one; sticking the landing leaves out what the closed form has"
            )
        if not 0.0 <= self.kl_weight <= 1.0:
            raise InferenceError(f"ELBO(kl_weight={self.kl_weight}): a weight is between 0 and 1")

    @property
    def particles(self) -> tuple[int, ...]:
        """The particle axes: none for a single particle, which spares a mean."""
        return () if self.num_particles == 1 else (self.num_particles,)

    def __call__(
        self, model: Model | LogDensity, guide: Guide | GuideFunction, data: Any, store: ParamStore, noise: Noise
    ) -> Loss:
        """The loss at one set of draws from `noise`, on `data` as it is: subsample it first."""
        if self.stl:
            draw, log_q = held_log_q(guide, data, self.particles, store, noise)
        else:
            options = {"kl": True} if self.analytic_kl and _has_closed_form(guide, model) else {}
            draw = guide(data, particles=self.particles, store=store, noise=noise, **options)
            log_q = draw.log_q
        losses = log_q - model(data, draw.latents, store=store)
        value = objective = self._mean(losses)
        if self.kl_weight < 1.0:
            likelihood = _log_likelihood(model, data, draw.latents, store, losses.shape)
            losses = self.kl_weight * losses - (1.0 - self.kl_weight) * likelihood
            objective = self._mean(losses)
        if draw.score is None:
            return Loss(objective, value)
        learned = losses.detach()
        if self.num_particles > 1:
            learned = (learned - learned.mean()) * (self.num_particles / (self.num_particles - 1))
        return Loss(objective + self._mean(learned * draw.score), value)

    def _mean(self, values: Tensor) -> Tensor:
        return values.mean() if self.num_particles > 1 else values


def _has_closed_form(guide: Guide | GuideFunction, model: Model | LogDensity) -> bool:
    if not isinstance(guide, Guide):
        raise InferenceError("ELBO(analytic_kl=True) needs a guide of a generated module, which knows its closed forms")
    if not guide.kl:
        raise InferenceError(
            f"ELBO(analytic_kl=True): no latent of {guide.model.name} has a closed form of its KL divergence under "
            f"{guide.name}: use ELBO()"
        )
    if find_model(model) is not guide.model:
        raise InferenceError(
            f"ELBO(analytic_kl=True): {guide.name} knows its divergence from the priors of {guide.model.name}, and the "
            "density given is another one"
        )
    return True


def _log_likelihood(
    model: Model | LogDensity, data: Any, latents: Any, store: ParamStore, particles: torch.Size
) -> Tensor:
    """log p(observed | latents), [particles...], the rows at hand standing for all."""
    if not isinstance(model, Model) or model.log_likelihood is None:
        raise InferenceError("ELBO(kl_weight=…): the likelihood of this density is not known apart from its prior")
    if len(drawn(latents)) < len(latents):
        raise InferenceError(
            f"ELBO(kl_weight=…): latents of {model.name} are summed out, so that its likelihood is not known apart"
        )
    plates = {entry.name: entry.plates for entry in model.fields if entry.role == "observed"}
    total: Tensor = data.new_full(particles, 0.0)
    for name, value in model.evaluate_log_likelihood(data, latents, store=store).items():
        rows = [getattr(data, attribute_of(plate)) for plate in plates[name]]
        scale = math.prod(plate.scale for plate in rows)
        # What depends on no latent has no particle axis.
        many = value.ndim > len(rows) and value.shape[:1] == particles
        total = total + scale * (value.reshape(len(value), -1).sum(-1) if many else value.sum())
    return total
