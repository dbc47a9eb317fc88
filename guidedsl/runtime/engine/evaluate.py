"""A step's loss and its gradient: eagerly, or as one compiled graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from guidedsl.runtime.elbo import GuideFunction, Loss, Objective, gradients_of
from guidedsl.runtime.engine.plan import NoisePlan, PlannedNoise, planned
from guidedsl.runtime.engine.record import Unrecordable
from guidedsl.runtime.engine.replay.step import Gradients, Replay
from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.functions import checks_deferred
from guidedsl.runtime.model import Guide, LogDensity, Model
from guidedsl.runtime.nets import outside_code
from guidedsl.runtime.noise import Noise, Record, ReplayedNoise
from guidedsl.runtime.params import ParamStore
from guidedsl.runtime.plates import Plate

Graph = Callable[..., tuple[Tensor, ...]]


MOST_REPLAYS = 8
"""Sizes of data whose steps are replayed; data of ever other sizes goes through autograd."""


class Flat(NamedTuple):
    """All trainable leaves side by side, [n], which they are looks at, and the gradient there."""

    x: Tensor
    gradient: Tensor


class Evaluation(NamedTuple):
    """The loss, a scalar, and its gradient at each trainable leaf, None where it does not depend on it.

    `flat` has the same side by side, where that is how it was computed. All hold until the next evaluation.
    """

    value: Tensor
    gradients: Sequence[Tensor | None]
    flat: Flat | None = None


class Eager:
    """Evaluates operator by operator.

    The operators that a generated guide and model call, and those of their gradients, are recorded at the first step
    on data of a size and replayed, fused where they are alike. What cannot be replayed runs under autograd at each
    step, as all does without `replays`: functions that did not come out of a `.guide` file, losses of the caller's own,
    draws that depend on parameters, branches on values.
    """

    def __init__(
        self,
        model: Model | LogDensity,
        guide: Guide | GuideFunction,
        loss: Objective,
        store: ParamStore,
        replays: bool = True,
    ) -> None:
        self.model, self.guide, self.loss, self.store = model, guide, loss, store
        self._plan: NoisePlan | None = None
        self._planned_for: object = None
        self._last: Any = None
        self._signature: tuple[object, ...] = ()
        self._tensors: list[Tensor] = []
        generated = replays and is_generated(model, guide) and type(loss).__module__.startswith("guidedsl.")
        self._replays: dict[tuple[object, ...], Replay | None] | None = {} if generated else None

    def _look_at(self, data: Any) -> None:
        """Notes what is asked of the data at each step, most often of the same."""
        if data is not self._last:
            self._last, self._signature, self._tensors = data, signature_of(data), list(tensors_of(data).values())

    def plan(self, data: Any) -> NoisePlan:
        """The noise of a step on this data."""
        self._look_at(data)
        if self._plan is None or self._signature != self._planned_for:
            self._plan = planned(self.model, self.guide, self.loss, data, self.store)
            self._planned_for = self._signature
        return self._plan

    def estimate(self, data: Any, noise: Noise, loss: Objective | None = None) -> Loss:
        """The loss, or another one instead, at one draw of rows and of latents, for autograd."""
        plan = self.plan(data)
        batch = data.subsample(noise)  # a step's rows come before its noise
        return (loss or self.loss)(self.model, self.guide, batch, self.store, PlannedNoise(plan, noise))

    def __call__(self, data: Any, noise: Noise, loss: Objective | None = None) -> Evaluation:
        """The loss, or another one instead, at one draw of rows and of latents."""
        if loss is None or loss is self.loss:
            replay = self._replay(data)
            if replay is not None:
                with torch.no_grad():
                    rows = rows_of(data, noise)
                    for kind, room in zip(self.plan(data).sizes, replay.noise, strict=True):
                        noise.fill(kind, room)
                    value = replay(rows, self.fields(data))
                return Evaluation(value, replay.gradients, Flat(replay.x, replay.gradient))
        objective, value = self.estimate(data, noise, loss)
        return Evaluation(value.detach(), gradients_of(objective, list(self.store.trainable().values())))

    def _replay(self, data: Any) -> Replay | None:
        """The calls of a step on data of this size, made when the size is new; None where there can be none."""
        if self._replays is None or data.unread:
            return None
        plan = self.plan(data)  # registers the parameters, which changes the version
        x, made_for = self.store.packed(), self.made_for(data)
        replay = self._replays.get(made_for)
        if replay is not None and replay.x is x:
            return replay
        if x is None or plan.others or (made_for in self._replays and replay is None):
            return None
        self._replays = {key: one for key, one in self._replays.items() if key[0] == made_for[0]}
        if len(self._replays) >= MOST_REPLAYS:
            return None
        self._replays[made_for] = self._recorded(data, plan, x)
        return self._replays[made_for]

    def _recorded(self, data: Any, plan: NoisePlan, x: Tensor) -> Replay | None:
        noise = Noise(torch.Generator(data.device), data.dtype, data.device)
        try:
            drawn, rows = list(plan.drawn(noise).values()), rows_of(data, noise)
            return replayed(self.guide, self.store, Step(self, data), x, drawn, rows, self.fields(data))
        except InferenceError:
            return None  # a mistake in the program is met again under autograd, which names its place

    def made_for(self, data: Any) -> tuple[object, ...]:
        """What recorded operators are made for, besides values that may change: the parameters, and sizes."""
        self._look_at(data)
        return self.store.version, self._signature

    def fields(self, data: Any) -> list[Tensor]:
        """What a step is given besides trainable leaves, noise and rows: the data, and the frozen leaves."""
        self._look_at(data)
        return [*self._tensors, *self.store.frozen().values()]


def replayed(
    guide: Guide | GuideFunction,
    store: ParamStore,
    step: Gradients,
    x: Tensor,
    noise: Sequence[Tensor],
    rows: Sequence[Tensor],
    fields: Sequence[Tensor],
) -> Replay | None:
    """A step as calls made once. None where it is no fixed sequence of operators, or runs code from outside."""
    try:
        with outside_code() as ran:
            found = Replay(step, x, list(store.trainable().values()), noise, rows, fields)
    except Unrecordable:
        return None
    return None if ran or not _made_by(guide, store) else found


def is_generated(model: Model | LogDensity, guide: Guide | GuideFunction) -> bool:
    """Whether both came out of a `.guide` file."""
    return isinstance(model, Model) and isinstance(guide, Guide) and model.origin is None


def _made_by(guide: Guide | GuideFunction, store: ParamStore) -> bool:
    """Whether all nets of a store came out of the module that the guide is of: theirs is code without a state."""
    assert isinstance(guide, Guide)
    places = {guide.function.__module__, guide.model.log_density.__module__}
    return all(type(module).__module__ in places for module in store.modules.values())


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
        inputs = [*self.store.trainable().values(), *plan.drawn(noise).values(), *rows, *self.eager.fields(data)]
        made_for = self.eager.made_for(data)
        with torch.no_grad():
            if self._graph is None or made_for != self._made_for:
                traced = trace(self.eager, data, inputs)
                self._graph = torch.compile(traced, fullgraph=True, dynamic=False)
                self._made_for = made_for
            value, *gradients = self._graph(*inputs)
        return Evaluation(value, gradients)


def trace(eager: Eager, data: Any, inputs: Sequence[Tensor]) -> Graph:
    """A step as a graph."""
    from torch.fx.experimental.proxy_tensor import make_fx

    step = Step(eager, data)
    try:
        graph: Graph = make_fx(step)(*(tensor.detach() for tensor in inputs))
    except Exception as error:  # whatever tracing cannot follow
        raise InferenceError(
            f"this program cannot be compiled into one graph ({type(error).__name__}: {error}); take " 'engine="eager"'
        ) from error
    return graph


class Step:
    """Loss and gradients as a function of (leaves..., a step's numbers by kind..., rows..., `Eager.fields`...).

    `unused` tells, after a call, at which leaves the gradient is zero because the loss does not depend on them. Raises
    InferenceError, when made, for a guide whose noise depends on parameters.
    """

    def __init__(self, eager: Eager, data: Any) -> None:
        self.eager, self.data, self.plan = eager, data, eager.plan(data)
        if self.plan.others:
            raise InferenceError(
                f"this guide cannot be compiled: it draws {' and '.join(self.plan.others)} noise, which depends on "
                'parameters; take engine="eager"'
            )
        self.fields = list(tensors_of(data))
        self.unused = [False] * len(eager.store.trainable())

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        eager, data, plan, remaining = self.eager, self.data, self.plan, iter(inputs)
        counts = len(self.unused), len(plan.sizes), len(_batch_rows(data)), len(self.fields)
        leaves, numbers, rows, fields = ([next(remaining) for _ in range(count)] for count in counts)
        given = data.with_fields(dict(zip(self.fields, fields, strict=True)))
        parts = plan.parts(dict(zip(plan.sizes, numbers, strict=True)))
        records = tuple(Record(kind, part) for (kind, _), part in zip(plan.draws, parts, strict=True))
        noise = ReplayedNoise(records, data.dtype, data.device)
        with torch.enable_grad(), checks_deferred(), computing_at(eager.store, leaves, list(remaining)) as (store, own):
            objective, value = eager.loss(eager.model, eager.guide, given.at_rows(rows), store, noise)
            gradients = gradients_of(objective, own)
        self.unused = [gradient is None for gradient in gradients]
        return value.detach(), *filled(gradients, leaves)


def filled(gradients: Sequence[Tensor | None], leaves: Sequence[Tensor]) -> list[Tensor]:
    """Gradients, zeros where there is none."""
    return [torch.zeros_like(leaf) if g is None else g for g, leaf in zip(gradients, leaves, strict=True)]


def _batch_rows(data: Any) -> tuple[tuple[str, str, int, int], ...]:
    """The subsampled plates of which a step has still to draw rows."""
    rows: tuple[tuple[str, str, int, int], ...] = () if data.whole is not None else data.batches.rows
    return rows


def signature_of(data: Any) -> tuple[object, ...]:
    """What of the data a plan and a graph are made for: the numbers of its tensors may change, its sizes may not."""
    sizes = tuple((name, value) for name, value in vars(data).items() if isinstance(value, int))
    plates = tuple((value.name, value.size) for value in vars(data).values() if isinstance(value, Plate))
    return (
        data.dtype,
        data.device,
        data.missing,
        *sizes,
        *plates,
        *((name, tensor.shape, tensor.dtype) for name, tensor in tensors_of(data).items()),
    )


def tensors_of(data: Any) -> dict[str, Tensor]:
    """The tensors of the data, by attribute: fields, and the rows that plates were given."""
    found = {name: value.rows if isinstance(value, Plate) else value for name, value in vars(data).items()}
    return {name: value for name, value in found.items() if isinstance(value, Tensor)}


def rows_of(data: Any, noise: Noise) -> list[Tensor]:
    """One draw of rows for each subsampled plate. Raises InferenceError for data that is read as it is drawn."""
    if data.unread:
        raise InferenceError('engine="compiled" needs the data in memory; take engine="eager"')
    return [noise.distinct_rows(size, count) for _, _, size, count in _batch_rows(data)]


@contextmanager
def computing_at(
    store: ParamStore, trainable: Sequence[Tensor], frozen: Sequence[Tensor]
) -> Iterator[tuple[ParamStore, list[Tensor]]]:
    """A store with other leaves, and the trainable ones; the nets' modules compute with them meanwhile."""
    leaves = [value.detach().requires_grad_() for value in trainable]
    found = dict(zip([*store.trainable(), *store.frozen()], [*leaves, *frozen], strict=True))
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
