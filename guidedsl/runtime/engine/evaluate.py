"""A step's loss and its gradient: eagerly, or as one compiled graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from guidedsl.runtime.elbo import GuideFunction, Loss, Objective, gradients_of
from guidedsl.runtime.engine.plan import NoisePlan, PlannedNoise, planned
from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.functions import checks_deferred
from guidedsl.runtime.model import Guide, LogDensity, Model
from guidedsl.runtime.noise import Noise, Record, ReplayedNoise
from guidedsl.runtime.params import ParamStore

Graph = Callable[..., tuple[Tensor, ...]]


class Evaluation(NamedTuple):
    """The loss, a scalar, and its gradient at each trainable leaf, None where it does not depend on it."""

    value: Tensor
    gradients: Sequence[Tensor | None]


class Eager:
    """Evaluates by running the generated functions under autograd."""

    def __init__(
        self, model: Model | LogDensity, guide: Guide | GuideFunction, loss: Objective, store: ParamStore
    ) -> None:
        self.model, self.guide, self.loss, self.store = model, guide, loss, store
        self._plan: NoisePlan | None = None
        self._planned_for: object = None
        self._last: Any = None

    def plan(self, data: Any) -> NoisePlan:
        """The noise of a step on this data."""
        if self._plan is None or (data is not self._last and signature_of(data) != self._planned_for):
            self._plan = planned(self.model, self.guide, self.loss, data, self.store)
            self._planned_for = signature_of(data)
        self._last = data
        return self._plan

    def estimate(self, data: Any, noise: Noise, loss: Objective | None = None) -> Loss:
        """The loss, or another one instead, at one draw of rows and of latents, for autograd."""
        plan = self.plan(data)
        batch = data.subsample(noise)  # a step's rows come before its noise
        return (loss or self.loss)(self.model, self.guide, batch, self.store, PlannedNoise(plan, noise))

    def __call__(self, data: Any, noise: Noise, loss: Objective | None = None) -> Evaluation:
        """The loss, or another one instead, at one draw of rows and of latents."""
        objective, value = self.estimate(data, noise, loss)
        return Evaluation(value.detach(), gradients_of(objective, list(self.store.trainable().values())))


class Compiled:
    """Evaluates by a graph of tensor operations that torch.compile made one function.

    The graph is made anew when parameters are added or the data has another shape. Raises InferenceError where the
    program cannot be one graph: a guide that draws what depends on parameters other than through arithmetic (gamma and
    discrete families), a `let` that is checked at run time, foreign code that looks at values.
    """

    def __init__(self, eager: Eager) -> None:
        self.eager = eager
        self.store = eager.store
        self._graph: Graph | None = None
        self._made_for: object = None

    def __call__(self, data: Any, noise: Noise, loss: Objective | None = None) -> Evaluation:
        """The loss at one draw of rows and of latents. `loss` is the one that it was made with."""
        plan = self.eager.plan(data)
        rows = rows_of(data, noise)
        inputs = [*self.store.trainable().values(), *plan.drawn(noise).values(), *rows, *tensors_of(data).values()]
        made_for = (self.store.version, *signature_of(data))
        with torch.no_grad():
            if self._graph is None or made_for != self._made_for:
                traced = trace(self.eager, data, inputs)
                self._graph = torch.compile(traced, fullgraph=True, dynamic=False)
                self._made_for = made_for
            value, *gradients = self._graph(*inputs)
        return Evaluation(value, gradients)


def trace(eager: Eager, data: Any, inputs: Sequence[Tensor]) -> Graph:
    """`step_of` as a graph."""
    from torch.fx.experimental.proxy_tensor import make_fx

    step = step_of(eager, data)
    try:
        graph: Graph = make_fx(step)(*(tensor.detach() for tensor in inputs))
    except Exception as error:  # whatever tracing cannot follow
        raise InferenceError(
            f"this program cannot be compiled into one graph ({type(error).__name__}: {error}); take " 'engine="eager"'
        ) from error
    return graph


def step_of(eager: Eager, data: Any) -> Graph:
    """Loss and gradients as a function of (leaves..., a step's numbers by kind..., rows..., data...)."""
    plan = eager.plan(data)
    if plan.others:
        raise InferenceError(
            f"this guide cannot be compiled: it draws {' and '.join(plan.others)} noise, which depends on parameters; "
            'take engine="eager"'
        )
    names, fields = list(eager.store.trainable()), list(tensors_of(data))
    counts = len(names), len(plan.sizes), len(data.batches.rows)

    def step(*inputs: Tensor) -> tuple[Tensor, ...]:
        remaining = iter(inputs)
        leaves, numbers, rows = ([next(remaining) for _ in range(count)] for count in counts)
        given = data.with_fields(dict(zip(fields, remaining, strict=True)))
        parts = plan.parts(dict(zip(plan.sizes, numbers, strict=True)))
        records = tuple(Record(kind, part) for (kind, _), part in zip(plan.draws, parts, strict=True))
        noise = ReplayedNoise(records, data.dtype, data.device)
        with torch.enable_grad(), checks_deferred(), _at(eager.store, names, leaves) as (store, own):
            objective, value = eager.loss(eager.model, eager.guide, given.at_rows(rows), store, noise)
            gradients = gradients_of(objective, own)
        filled = (torch.zeros_like(leaf) if g is None else g for g, leaf in zip(gradients, leaves, strict=True))
        return value.detach(), *filled

    return step


def signature_of(data: Any) -> tuple[object, ...]:
    """What of the data a plan and a graph are made for: the numbers of its tensors may change, its sizes may not."""
    sizes = tuple((name, value) for name, value in vars(data).items() if isinstance(value, int))
    return *sizes, *((name, tensor.shape, tensor.dtype) for name, tensor in tensors_of(data).items())


def tensors_of(data: Any) -> dict[str, Tensor]:
    """The tensors of the data, by attribute."""
    return {name: value for name, value in vars(data).items() if isinstance(value, Tensor)}


def rows_of(data: Any, noise: Noise) -> list[Tensor]:
    """One draw of rows for each subsampled plate. Raises InferenceError for data that is read as it is drawn."""
    if data.unread:
        raise InferenceError('engine="compiled" needs the data in memory; take engine="eager"')
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
