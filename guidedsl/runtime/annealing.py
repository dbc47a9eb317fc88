"""KL annealing: the likelihood apart from the rest of the log density, and the weight of the rest as steps go by."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from guidedsl.runtime.elbo import ELBO, Objective
from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.model import LogDensity, Model

if TYPE_CHECKING:
    pass


def check_annealing(what: str, steps: int, loss: Objective, model: Model | LogDensity) -> None:
    """Raises InferenceError where the KL divergence cannot be annealed over so many steps. `what` is the caller."""
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise InferenceError(f"{what}(kl_annealing={steps!r}): a number of steps, 0 for none")
    if not steps:
        return
    if not isinstance(loss, ELBO):
        raise InferenceError(f"{what}(kl_annealing={steps}): {type(loss).__name__} has no KL divergence; use the ELBO")
    if not isinstance(model, Model) or model.log_likelihood is None:
        raise InferenceError(
            f"{what}(kl_annealing={steps}): the likelihood of {getattr(model, 'name', 'this density')} is not known "
            "apart from its prior, so the divergence from that cannot be weighted alone"
        )


def annealed(loss: Objective, step: int, steps: int) -> Objective:
    """The loss of step `step`, counted from 0, where the weight of the KL divergence rises evenly over `steps` to 1."""
    if step >= steps or not isinstance(loss, ELBO):
        return loss
    return replace(loss, kl_weight=(step + 1) / (steps + 1))
