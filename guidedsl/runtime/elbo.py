"""The evidence lower bound, estimated with vectorised particles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor

from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.held import held_log_q
from guidedsl.runtime.model import Draw, Guide, LogDensity, Model
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
    2017): the gradient's variance vanishes as q nears the posterior, at the price of a second pass of the guide.
    """

    num_particles: int = 1
    stl: bool = False

    def __post_init__(self) -> None:
        if self.num_particles < 1:
            raise InferenceError(f"ELBO(num_particles={self.num_particles}): at least one particle is needed")

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
            draw = guide(data, particles=self.particles, store=store, noise=noise)
            log_q = draw.log_q
        losses = log_q - model(data, draw.latents, store=store)
        many = self.num_particles > 1
        value = losses.mean() if many else losses
        if draw.score is None:
            return Loss(value, value)
        learned = losses.detach()
        if many:
            learned = (learned - learned.mean()) * (self.num_particles / (self.num_particles - 1))
        term = learned * draw.score
        return Loss(value + (term.mean() if many else term), value)
