"""Many steps of Adam as one compiled graph: a scan over the steps' noise and rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from guidedsl.runtime.engine.evaluate import Eager, rows_of, signature_of, tensors_of, trace
from guidedsl.runtime.noise import Noise
from guidedsl.runtime.optim import Adam, FlatAdam

STEPS = 100
"""Steps of a block: enough that its call costs nothing beside them."""

Block = Callable[..., tuple[Tensor, ...]]


class Blocks:
    """Runs blocks of `STEPS` steps. The graph is made anew as a `Compiled` one is, and raises as it does."""

    def __init__(self, eager: Eager, adam: Adam) -> None:
        self.eager, self.adam = eager, adam
        self._block: Block | None = None
        self._made_for: object = None

    def __call__(self, data: Any, noise: Callable[[], Noise]) -> Tensor:
        """The losses of a block's steps, [STEPS]. The parameters are as after them where all losses are finite.

        Where one is not, nothing has changed but the state of the generator.
        """
        plan, store = self.eager.plan(data), self.eager.store
        drawn, rows = [], []
        for _ in range(STEPS):  # a step's rows first, as in an eager step
            source = noise()
            rows.append(rows_of(data, source))
            drawn.append(plan.drawn(source))
        numbers = [torch.stack([one[kind] for one in drawn]) for kind in plan.kinds]
        picked = [torch.stack(column) for column in zip(*rows, strict=True)]
        leaves = store.trainable()
        with torch.no_grad():
            state = self.adam.flatten(store, list(leaves), list(leaves.values()))
            x = torch.cat([leaf.detach().reshape(-1) for leaf in leaves.values()])
            fields = list(tensors_of(data).values())
            made_for = (store.version, self.adam.options, *signature_of(data))
            if self._block is None or made_for != self._made_for:
                example = [x, *(one[0] for one in (*numbers, *picked)), *fields]
                self._block, self._made_for = self._made(data, example), made_for
            carried = [x, state.first, state.second, state.counts, state.lr]
            x, first, second, _, lr, losses = self._block(carried, [*numbers, *picked], fields, state)
            if not bool(losses.isfinite().all()):
                return losses
            for leaf, part in zip(leaves.values(), x.split([leaf.numel() for leaf in leaves.values()]), strict=True):
                leaf.copy_(part.view(leaf.shape))
            self.adam.unflatten(list(leaves), list(leaves.values()), first, second, STEPS, float(lr))
        return losses

    def _made(self, data: Any, example: Sequence[Tensor]) -> Block:
        from torch._higher_order_ops.scan import scan

        leaves = list(self.eager.store.trainable().values())
        shapes, sizes = [leaf.shape for leaf in leaves], [leaf.numel() for leaf in leaves]

        def parts(x: Tensor) -> list[Tensor]:
            return [part.view(shape) for part, shape in zip(x.split(sizes), shapes, strict=True)]

        graph = trace(self.eager, data, [*parts(example[0]), *example[1:]])
        adam = self.adam

        def block(
            carried: list[Tensor], stepped: list[Tensor], fields: list[Tensor], state: FlatAdam
        ) -> tuple[Tensor, ...]:
            def step(carry: list[Tensor], given: list[Tensor]) -> tuple[list[Tensor], Tensor]:
                x, first, second, counts, lr = carry
                value, *gradients = graph(*parts(x), *given, *fields)
                flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
                moved = adam.flat_step(x, flat, first, second, counts, lr, state)
                return list(moved), value.clone()

            after, losses = scan(step, carried, stepped)
            return *after, losses

        compiled: Block = torch.compile(block, fullgraph=True, dynamic=False)
        return compiled
