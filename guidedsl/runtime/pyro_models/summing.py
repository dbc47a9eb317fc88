"""Discrete sites of a Pyro model summed out by Pyro itself, exactly, by tensor variable elimination.

The trace and the factors are those of `TraceEnum_ELBO` with a guide that samples nothing: its ELBO is the log density.
The sums are ours, since Pyro's use an operation that torch cannot map over draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import pyro.distributions as law
import torch
from pyro import poutine
from pyro.infer.traceenum_elbo import _compute_model_factors
from pyro.ops.contract import contract_tensor_tree
from pyro.ops.rings import LogRing
from pyro.poutine.enum_messenger import EnumMessenger
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor

from guidedsl.runtime.pyro_models.handlers import is_site


class Summed(Messenger):
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


class Tilted(law.TorchDistribution):
    """A finite law with log weights added to its classes, [batch..., classes]; `low` is the least class."""

    arg_constraints: ClassVar[dict[str, Any]] = {}

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
        at = value.long() - self.low
        batch = torch.broadcast_shapes(at.shape, self.weight.shape[:-1])
        weight = self.weight.expand(*batch, self.weight.shape[-1])
        log_p: Tensor = self.base.log_prob(value)
        return log_p + weight.take_along_dim(at.expand(batch)[..., None], -1)[..., 0]


class _Enumerating(EnumMessenger):
    """Pyro's, which reads the shapes of values from `value.data`: a tensor under vmap has none."""

    def _pyro_post_sample(self, message: Any) -> None:
        if message["value"] is not None:
            super()._pyro_post_sample({**message, "value": torch.empty(message["value"].shape, device="meta")})


class _Logs(LogRing):
    """Sums of products in log space, one dim after another, of operations that torch can map over draws."""

    def sumproduct(self, terms: Iterable[Tensor], dims: Iterable[str]) -> Tensor:
        """log Σ exp over `dims` of the sum of all terms, each with the names of its dims in `_pyro_dims`."""
        waiting, left = list(terms), set(dims)
        while left:
            dim = min(sorted(left), key=lambda one: len(_dims([term for term in waiting if one in _named(term)])))
            read = [term for term in waiting if dim in _named(term)]
            waiting = [term for term in waiting if dim not in _named(term)]
            if read:
                total = _added(read)
                kept = _named(total).replace(dim, "")
                waiting.append(_with_dims(total.logsumexp(_named(total).index(dim)), kept))
            left.remove(dim)
        return _added(waiting)


def _named(term: Any) -> str:
    return str(term._pyro_dims)


def _dims(terms: Iterable[Tensor]) -> str:
    return "".join(sorted({dim for term in terms for dim in _named(term)}))


def _with_dims(term: Tensor, dims: str) -> Tensor:
    term._pyro_dims = dims  # type: ignore[attr-defined]
    return term


def _added(terms: Sequence[Tensor]) -> Tensor:
    """The sum of terms, each repeated along the dims that it lacks."""
    dims = _dims(terms)
    total: Tensor = torch.zeros(())
    for term in terms:
        own = _named(term)
        order = sorted(range(len(own)), key=lambda axis: own[axis])
        sizes = iter(term.permute(order).shape)
        total = total + term.permute(order).reshape([next(sizes) if dim in own else 1 for dim in dims])
    return _with_dims(total, dims)


def log_sum(call: Callable[[], object], marked: Summed, nesting: int) -> Tensor:
    """log Σ p over the sites that are marked, all others having values. `nesting` is how many dims plates take."""
    with _Enumerating(first_available_dim=-1 - nesting), marked:
        trace = poutine.trace(call).get_trace()
    trace = prune_subsample_sites(trace)
    trace.compute_log_prob()
    nothing = poutine.Trace()
    nothing.pack_tensors()
    trace.pack_tensors(nothing.plate_to_symbol)
    costs, factors, _, dims, scale = _compute_model_factors(trace, nothing)
    total: Tensor = torch.zeros(())
    for terms in costs.values():
        for term in terms:
            total = total + term.sum()
    if factors:
        sizes = {dim: size for terms in factors.values() for term in terms for dim, size in _sizes(term)}
        left = contract_tensor_tree(factors, dims, ring=_Logs(dim_to_size=sizes))
        total = total + scale * sum(term.sum() for terms in left.values() for term in terms)
    return total


def _sizes(term: Tensor) -> Iterable[tuple[str, int]]:
    return zip(_named(term), term.shape, strict=True)
