"""Discrete sites of a Pyro model summed out by Pyro itself, exactly, by tensor variable elimination.

The traces are those of `TraceEnum_ELBO` with a guide that samples nothing, of which the ELBO is the log density.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyro.distributions as law
from pyro import poutine
from pyro.infer.traceenum_elbo import _compute_dice_elbo
from pyro.poutine.enum_messenger import EnumMessenger
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor

from guidedsl.runtime.pyro_models.handlers import is_site


class Summed(Messenger):  # type: ignore[misc]
    """Marks sites to be summed out. `weight` gives the log weights of a site's classes, [batch..., classes], or None,
    and the least class."""

    def __init__(self, names: frozenset[str], weight: Callable[[Any], tuple[Tensor, int] | None]) -> None:
        super().__init__()
        self._names, self._weight = names, weight

    def _pyro_sample(self, message: Any) -> None:
        if is_site(message) and message["name"] in self._names:
            message["infer"] = {**message["infer"], "enumerate": "parallel"}
            weight = self._weight(message)
            if weight is not None:
                message["fn"] = Tilted(message["fn"], *weight)


class Tilted(law.TorchDistribution):  # type: ignore[misc]
    """A finite law with log weights added to its classes, [batch..., classes]; `low` is the least class."""

    arg_constraints: Mapping[str, Any] = {}  # noqa: RUF012

    def __init__(self, base: Any, weight: Tensor, low: int) -> None:
        self.base, self.weight, self.low = base, weight, low
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        return self.base.support

    @property
    def has_enumerate_support(self) -> bool:
        return bool(self.base.has_enumerate_support)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        values: Tensor = self.base.enumerate_support(expand=expand)
        return values

    def log_prob(self, value: Tensor) -> Tensor:
        at = (value.long() - self.low)[..., None]
        log_p: Tensor = self.base.log_prob(value)
        return log_p + self.weight.take_along_dim(at, -1)[..., 0]


def log_sum(call: Callable[[], object], nesting: int) -> Tensor:
    """log Σ p over the sites that `Summed` marks, all others having values. `nesting` is how many dims plates take."""
    with EnumMessenger(first_available_dim=-1 - nesting):
        trace = poutine.trace(call).get_trace()
    trace = prune_subsample_sites(trace)
    trace.compute_log_prob()
    nothing = poutine.Trace()
    nothing.pack_tensors()
    trace.pack_tensors(nothing.plate_to_symbol)
    total: Tensor = _compute_dice_elbo(trace, nothing)
    return total
