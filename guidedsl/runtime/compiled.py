"""A step's loss and gradient as one compiled graph.

The first step runs eagerly and tells which noise the guide draws. Then guide, model and backward pass are traced once
into a graph of tensor operations, whose inputs are the parameters, the noise, the data and the rows of this step, and
torch.compile makes it one function. Noise is drawn outside of the graph, by the same calls in the same order, so that
a compiled run sees the draws of an eager one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from guidedsl.runtime.elbo import GuideFunction, Objective, gradients_of
from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.model import Guide, LogDensity, Model
from guidedsl.runtime.noise import Noise, Record, RecordedNoise, ReplayedNoise
from guidedsl.runtime.params import ParamStore

DRAWN_BEFORE = ("normal", "uniform", "exponential")
"""Draws that depend on nothing, so that they can be made before the graph runs."""

Gradients = Sequence[Tensor | None]


class Evaluation(NamedTuple):
    """The loss, a scalar, and its gradient at each trainable leaf."""

    value: Tensor
    gradients: Gradients


class Eager:
    """Evaluates by running the generated functions under autograd."""

    def __init__(
        self, model: Model | LogDensity, guide: Guide | GuideFunction, loss: Objective, store: ParamStore
    ) -> None:
        self.model, self.guide, self.loss, self.store = model, guide, loss, store

    def __call__(self, data: Any, noise: Noise) -> Evaluation:
        """The loss at one draw of rows and of latents."""
        objective, value = self.loss(self.model, self.guide, data.subsample(noise), self.store, noise)
        return Evaluation(value.detach(), gradients_of(objective, list(self.store.trainable().values())))


class Compiled:
    """Evaluates by a compiled graph, which is made anew when parameters are added or the data has another shape.

    Raises InferenceError where the program cannot be one graph: a guide that draws what depends on parameters other
    than through arithmetic (gamma and discrete families), a `let` that is checked at run time, foreign code that looks
    at values.
    """

    def __init__(
        self, model: Model | LogDensity, guide: Guide | GuideFunction, loss: Objective, store: ParamStore
    ) -> None:
        self.eager = Eager(model, guide, loss, store)
        self.store = store
        self._plan: tuple[tuple[str, tuple[int, ...]], ...] | None = None
        self._graph: Callable[..., tuple[Tensor, ...]] | None = None
        self._made_for: object = None
        self._used: list[bool] = []

    def __call__(self, data: Any, noise: Noise) -> Evaluation:
        """The loss at one draw of rows and of latents."""
        made_for = (self.store.version, *_signature(data))
        if self._plan is None or made_for != self._made_for:
            return self._first(data, noise)
        rows = _rows(data, noise)
        draws = [getattr(noise, kind)(shape) for kind, shape in self._plan]
        leaves = list(self.store.trainable().values())
        inputs = [*leaves, *draws, *rows, *_tensors(data).values()]
        with torch.no_grad():
            if self._graph is None:
                self._graph = self._compiled(data, inputs, (len(leaves), len(draws), len(rows)))
            value, *found = self._graph(*inputs)
        remaining = iter(found)
        return Evaluation(value, [next(remaining) if used else None for used in self._used])

    def _first(self, data: Any, noise: Noise) -> Evaluation:
        """An eager evaluation that notes what is drawn. Parameters that it registers are in the graph made next."""
        recorded = RecordedNoise(noise.generator, noise.dtype, noise.device)
        eager = self.eager
        batch = data.subsample(noise)
        objective, value = eager.loss(eager.model, eager.guide, batch, self.store, recorded)
        gradients = gradients_of(objective, list(self.store.trainable().values()))
        others = sorted({record.kind for record in recorded.records} - set(DRAWN_BEFORE))
        if others:
            raise InferenceError(
                f"this guide cannot be compiled: it draws {' and '.join(others)} noise, which depends on parameters; "
                'run it with engine="eager"'
            )
        self._plan = tuple((record.kind, tuple(record.value.shape)) for record in recorded.records)
        self._used = [gradient is not None for gradient in gradients]
        self._graph, self._made_for = None, (self.store.version, *_signature(data))
        return Evaluation(value.detach(), gradients)

    def _compiled(
        self, data: Any, inputs: list[Tensor], counts: tuple[int, int, int]
    ) -> Callable[..., tuple[Tensor, ...]]:
        from torch.fx.experimental.proxy_tensor import make_fx

        try:
            graph = make_fx(self._traced(data, counts))(*(tensor.detach() for tensor in inputs))
        except Exception as error:  # whatever tracing cannot follow
            raise InferenceError(
                f"this program cannot be compiled into one graph ({type(error).__name__}: {error}); run it with "
                'engine="eager"'
            ) from error
        compiled: Callable[..., tuple[Tensor, ...]] = torch.compile(graph, fullgraph=True, dynamic=False)
        return compiled

    def _traced(self, data: Any, counts: tuple[int, int, int]) -> Callable[..., tuple[Tensor, ...]]:
        """Loss and gradients as a function of leaves, draws, rows and data."""
        eager, plan, names = self.eager, self._plan, list(self.store.trainable())
        fields = list(_tensors(data))
        assert plan is not None

        def step(*inputs: Tensor) -> tuple[Tensor, ...]:
            remaining = iter(inputs)
            leaves, draws, rows = ([next(remaining) for _ in range(count)] for count in counts)
            given = data.with_fields(dict(zip(fields, remaining, strict=True)))
            records = tuple(Record(kind, draw) for (kind, _), draw in zip(plan, draws, strict=True))
            noise = ReplayedNoise(records, data.dtype, data.device)
            with torch.enable_grad(), _at(self.store, names, leaves) as (store, own):
                objective, value = eager.loss(eager.model, eager.guide, given.at_rows(rows), store, noise)
                gradients = gradients_of(objective, own)
            return value.detach(), *(gradient for gradient in gradients if gradient is not None)

        return step


def _signature(data: Any) -> tuple[object, ...]:
    """What of the data a graph is made for."""
    return tuple((name, tuple(tensor.shape)) for name, tensor in _tensors(data).items())


def _tensors(data: Any) -> dict[str, Tensor]:
    """The tensors of the data, by attribute."""
    return {name: value for name, value in vars(data).items() if isinstance(value, Tensor)}


def _rows(data: Any, noise: Noise) -> list[Tensor]:
    """One draw of rows for each subsampled plate."""
    return [noise.distinct_rows(size, count) for _, _, size, count in data.batches.rows]


@contextmanager
def _at(store: ParamStore, names: Sequence[str], values: Sequence[Tensor]) -> Iterator[tuple[ParamStore, list[Tensor]]]:
    """A store with other leaves, and these; the nets' modules compute with them meanwhile."""
    leaves = [value.detach().requires_grad_() for value in values]
    found = dict(zip(names, leaves, strict=True))
    copy = store.with_leaves(found)
    with ExitStack() as stack:
        for name, module in store.modules.items():
            prefix = f"{name}."
            own = {full.removeprefix(prefix): leaf for full, leaf in found.items() if full.startswith(prefix)}
            stack.enter_context(_computing_with(module, own))
        yield copy, leaves


def _computing_with(module: nn.Module, weights: dict[str, Tensor]) -> Any:
    from torch.nn.utils.stateless import _reparametrize_module

    return _reparametrize_module(module, weights)
