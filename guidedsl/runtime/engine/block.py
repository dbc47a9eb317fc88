"""Many steps of Adam in one call: as C loops where they can be written, else as a compiled graph that scans."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from guidedsl.runtime.engine.evaluate import Eager, Step, rows_of, trace
from guidedsl.runtime.engine.native.block import NativeSteps, native_steps
from guidedsl.runtime.engine.record import Unrecordable
from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.noise import Noise
from guidedsl.runtime.optim import Adam, FlatAdam, LeafOptions

STEPS = 100
"""Steps of a scan: enough that its call costs nothing beside them."""
NATIVE_STEPS = 1000
MOST_NUMBERS = 2**22
"""Numbers that a scan draws beforehand, and iterates that it keeps."""
PIECE = 2**19
"""Numbers that C loops take at a time; more are drawn in pieces, each beside the steps of the one before."""

Scan = Callable[..., tuple[Tensor, ...]]


class Blocks:
    """Runs blocks of steps. What it runs is made anew as a `Compiled` graph is, and raises as that does.

    With `native_only` it raises Unrecordable where the steps are no C loops. With `beside` loops that take long to make
    are made on a thread; until they are `ready` a call waits for them.
    """

    def __init__(self, eager: Eager, adam: Adam, native_only: bool = False, beside: bool = False) -> None:
        self.eager, self.adam, self.native_only, self.beside = eager, adam, native_only, beside
        self._steps: NativeSteps | Scan | None = None
        self._names: list[str] = []
        self._leaves: list[Tensor] = []
        self._made_for: object = None

    def ready(self, data: Any) -> bool:
        """Whether a block need not wait."""
        made = self._made(data)
        return made.ready if isinstance(made, NativeSteps) else True

    def takes(self, data: Any, steps: int) -> int:
        """How many of these steps the next block takes; 0 where they are too few for one."""
        if isinstance(self._made(data), NativeSteps):
            return min(steps, NATIVE_STEPS)
        most = min(STEPS, max(1, MOST_NUMBERS // self._numbers(data)))
        return most if steps >= most else 0

    def __call__(self, data: Any, noise: Noise, rates: Sequence[float], iterates: Tensor | None = None) -> Tensor:
        """The losses of a block's steps at these learning rates, [steps].

        Fewer where a loss or a gradient is not finite: the parameters, the optimiser and the noise are then as before
        that step, or, of a scan, before the block. `iterates` [steps, n] takes the parameters after each step; only
        native steps give them.
        """
        made, store = self._made(data), self.eager.store
        names, own, flat = self._names, self._leaves, store.packed()
        assert flat is not None
        with torch.no_grad():
            x = flat.clone()
            moments = self.adam.packed(names, own)
            if isinstance(made, NativeSteps):
                options = self.adam.leaf_options(store, names, own)
                # Copies, so that a break in between leaves parameters and moments as they were.
                first, second = (moment.clone() for moment in moments)
                losses = self._looped(made, data, noise, rates, options, (x, first, second), iterates)
            else:
                before = noise.get_state()
                numbers, rows = self._drawn(data, noise, len(rates), self._room(data, noise, len(rates)))
                state = self.adam.flatten(store, names, own)
                carried = [x, state.first, state.second, state.counts]
                lr = torch.tensor(rates, dtype=torch.float64, device=x.device)
                fields = self.eager.fields(data)
                x, first, second, _, losses = made(carried, [lr, *numbers, *rows], fields, state)
                if not bool(losses.isfinite().all()):
                    losses = losses[:0]
                    noise.set_state(before)
            if len(losses):
                flat.copy_(x)
                for moment, after in zip(moments, (first, second), strict=True):
                    moment.copy_(after)
                self.adam.took(names, len(losses), rates[len(losses) - 1])
        return losses

    def _looped(
        self,
        made: NativeSteps,
        data: Any,
        noise: Noise,
        rates: Sequence[float],
        options: Sequence[LeafOptions],
        state: tuple[Tensor, Tensor, Tensor],
        iterates: Tensor | None,
    ) -> Tensor:
        """The losses of steps as C loops; `state` is the parameters and the moments, which change in place."""
        fields = self.eager.fields(data)
        own_rates = torch.tensor(rates, dtype=torch.float64)
        most = max(1, PIECE // self._numbers(data))
        pieces = [(start, min(start + most, len(rates))) for start in range(0, len(rates), most)]
        rooms = [self._room(data, noise, end - start) for start, end in pieces[:2]]
        losses: list[Tensor] = []
        with ThreadPoolExecutor(1) as beside:
            ahead: Any = None
            for n, (start, end) in enumerate(pieces):
                before, numbers, rows = ahead.result() if ahead else self._from(data, noise, end - start, rooms[0])
                if n + 1 < len(pieces):
                    ahead = beside.submit(self._from, data, noise, pieces[n + 1][1] - end, rooms[(n + 1) % 2])
                after = None if iterates is None else iterates[start:end]
                stepped = [*numbers, *rows]
                found = made(self.adam, options, start, *state, stepped, fields, own_rates[start:end], after)
                losses.append(found)
                if len(found) < end - start:
                    if n + 1 < len(pieces):
                        ahead.result()
                    noise.set_state(before)
                    self._drawn(data, noise, len(found), rooms[0])
                    break
        return torch.cat(losses)

    def _from(
        self, data: Any, noise: Noise, steps: int, room: list[Tensor]
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Where the generator is, and the numbers and rows of so many steps."""
        return noise.get_state(), *self._drawn(data, noise, steps, room)

    def _room(self, data: Any, noise: Noise, steps: int) -> list[Tensor]:
        """Where the numbers of so many steps are drawn to, by kind."""
        sizes = self.eager.plan(data).sizes.values()
        return [torch.empty(steps, size, dtype=noise.dtype, device=noise.device) for size in sizes]

    def _numbers(self, data: Any) -> int:
        """How many numbers a step draws."""
        return max(1, sum(self.eager.plan(data).sizes.values()))

    def _drawn(self, data: Any, noise: Noise, steps: int, room: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """The numbers by kind and the rows of so many steps; a step's rows come first, as in an eager step."""
        numbers = [one[:steps] for one in room]
        places = [(kind, one.unbind()) for kind, one in zip(self.eager.plan(data).sizes, numbers, strict=True)]
        picked: list[list[Tensor]] = []
        for step in range(steps):
            if data.batches.rows:
                picked.append(rows_of(data, noise))
            for kind, one in places:
                noise.fill(kind, one[step])
        return numbers, [torch.stack(column) for column in zip(*picked, strict=True)]

    def _made(self, data: Any) -> NativeSteps | Scan:
        made_for = (self.adam.options, *self.eager.made_for(data))
        if self._steps is None or made_for != self._made_for:
            plan = self.eager.plan(data)  # registers the parameters, which may be what changes the version
            made_for = (self.adam.options, *self.eager.made_for(data))
            if self.eager.store.packed() is None:
                raise InferenceError(
                    'engine="compiled" needs parameters, all of one type and on one device; take engine="eager"'
                )
            leaves = [leaf.detach() for leaf in self.eager.store.trainable().values()]
            drawn = list(plan.drawn(Noise(None, data.dtype, data.device)).values())
            rows = rows_of(data, Noise(None, data.dtype, data.device))
            self._steps = self._steps_of(data, leaves, drawn, rows, self.eager.fields(data))
            trainable = self.eager.store.trainable()
            self._names, self._leaves = list(trainable), list(trainable.values())
            self._made_for = made_for
        return self._steps

    def _steps_of(
        self, data: Any, leaves: list[Tensor], drawn: list[Tensor], rows: list[Tensor], fields: list[Tensor]
    ) -> NativeSteps | Scan:
        try:
            return native_steps(Step(self.eager, data), leaves, drawn, rows, fields, self.beside)
        except Unrecordable:
            if self.native_only:
                raise
        return self._scan(data, leaves, [*drawn, *rows], fields)

    def _scan(self, data: Any, leaves: list[Tensor], stepped: list[Tensor], fields: list[Tensor]) -> Scan:
        from torch._higher_order_ops.scan import scan

        shapes, sizes = [leaf.shape for leaf in leaves], [leaf.numel() for leaf in leaves]

        def parts(x: Tensor) -> list[Tensor]:
            return [part.view(shape) for part, shape in zip(x.split(sizes), shapes, strict=True)]

        graph = trace(self.eager, data, [*leaves, *stepped, *fields])
        adam = self.adam

        def block(
            carried: list[Tensor], stepped: list[Tensor], fields: list[Tensor], state: FlatAdam
        ) -> tuple[Tensor, ...]:
            def step(carry: list[Tensor], given: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
                x, first, second, counts = carry
                value, *gradients = graph(*parts(x), *given[1:], *fields)
                flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
                moved = adam.flat_step(x, flat, first, second, counts, given[0], state)
                return list(moved), value.clone()

            after, losses = scan(step, carried, stepped)
            return *after, losses

        compiled: Scan = torch.compile(block, fullgraph=True, dynamic=False)
        return compiled
