"""Many steps of Adam in one call: as C loops where they can be written, else as a compiled graph that scans."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from guidedsl.runtime.engine.evaluate import Eager, rows_of, signature_of, step_of, tensors_of, trace
from guidedsl.runtime.engine.native.block import NativeSteps, native_steps
from guidedsl.runtime.engine.native.values import NotNative
from guidedsl.runtime.noise import Noise
from guidedsl.runtime.optim import Adam, FlatAdam

STEPS = 100
"""Steps of a scan: enough that its call costs nothing beside them."""
NATIVE_STEPS = 1000
MOST_NUMBERS = 2**22
"""Numbers that a block draws beforehand, and iterates that it keeps."""

Scan = Callable[..., tuple[Tensor, ...]]


class Blocks:
    """Runs blocks of steps. What it runs is made anew as a `Compiled` graph is, and raises as that does.

    With `native_only` it raises NotNative where the steps are no C loops.
    """

    def __init__(self, eager: Eager, adam: Adam, native_only: bool = False) -> None:
        self.eager, self.adam, self.native_only = eager, adam, native_only
        self._steps: NativeSteps | Scan | None = None
        self._made_for: object = None

    def takes(self, data: Any, steps: int) -> int:
        """How many of these steps the next block takes; 0 where they are too few for one."""
        plan = self.eager.plan(data)
        most = max(1, MOST_NUMBERS // max(1, sum(plan.size(kind) for kind in plan.kinds)))
        if isinstance(self._made(data), NativeSteps):
            return min(steps, NATIVE_STEPS, most)
        return min(STEPS, most) if steps >= min(STEPS, most) else 0

    def __call__(self, data: Any, noise: Noise, rates: Sequence[float], iterates: Tensor | None = None) -> Tensor:
        """The losses of a block's steps at these learning rates, [steps].

        Fewer where a loss or a gradient is not finite: the parameters, the optimiser and the noise are then as before
        that step, or, of a scan, before the block. `iterates` [steps, n] takes the parameters after each step; only
        native steps give them.
        """
        made, store = self._made(data), self.eager.store
        before = noise.get_state()
        numbers, rows = self._drawn(data, noise, len(rates))
        leaves = store.trainable()
        names, own = list(leaves), list(leaves.values())
        fields = list(tensors_of(data).values())
        with torch.no_grad():
            x = torch.cat([leaf.detach().reshape(-1) for leaf in own])
            if isinstance(made, NativeSteps):
                options = self.adam.leaf_options(store, names, own)
                first, second = self.adam.flat_moments(names)
                own_rates = torch.tensor(rates, dtype=torch.float64)
                stepped = [*numbers, *rows]
                losses = made(self.adam, options, x, first, second, stepped, fields, own_rates, iterates)
            else:
                state = self.adam.flatten(store, names, own)
                carried = [x, state.first, state.second, state.counts]
                lr = torch.tensor(rates, dtype=torch.float64, device=x.device)
                x, first, second, _, losses = made(carried, [lr, *numbers, *rows], fields, state)
                losses = losses if bool(losses.isfinite().all()) else losses[:0]
            if len(losses):
                for leaf, part in zip(own, x.split([leaf.numel() for leaf in own]), strict=True):
                    leaf.copy_(part.view(leaf.shape))
                self.adam.unflatten(names, own, first, second, len(losses), rates[len(losses) - 1])
        if len(losses) < len(rates):
            noise.set_state(before)
            self._drawn(data, noise, len(losses))
        return losses

    def _drawn(self, data: Any, noise: Noise, steps: int) -> tuple[list[Tensor], list[Tensor]]:
        """The numbers by kind and the rows of so many steps; a step's rows come first, as in an eager step."""
        plan = self.eager.plan(data)
        numbers = [torch.empty(steps, plan.size(kind), dtype=noise.dtype, device=noise.device) for kind in plan.kinds]
        places = [(kind, room.unbind()) for kind, room in zip(plan.kinds, numbers, strict=True)]
        picked: list[list[Tensor]] = []
        for step in range(steps):
            if data.batches.rows:
                picked.append(rows_of(data, noise))
            for kind, room in places:
                noise.fill(kind, room[step])
        return numbers, [torch.stack(column) for column in zip(*picked, strict=True)]

    def _made(self, data: Any) -> NativeSteps | Scan:
        made_for = (self.eager.store.version, self.adam.options, *signature_of(data))
        if self._steps is None or made_for != self._made_for:
            plan = self.eager.plan(data)  # registers the parameters, which may be what changes the version
            made_for = (self.eager.store.version, self.adam.options, *signature_of(data))
            leaves = [leaf.detach() for leaf in self.eager.store.trainable().values()]
            drawn = list(plan.drawn(Noise(None, data.dtype, data.device)).values())
            rows = rows_of(data, Noise(None, data.dtype, data.device))
            self._steps = self._steps_of(data, leaves, drawn, rows, list(tensors_of(data).values()))
            self._made_for = made_for
        return self._steps

    def _steps_of(
        self, data: Any, leaves: list[Tensor], drawn: list[Tensor], rows: list[Tensor], fields: list[Tensor]
    ) -> NativeSteps | Scan:
        try:
            return native_steps(step_of(self.eager, data), leaves, drawn, rows, fields)
        except NotNative:
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
