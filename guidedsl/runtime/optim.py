"""Optimisers over a param store. Nothing here imports torch.optim, which takes a second (it loads dynamo)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from guidedsl.runtime.errors import InferenceError

if TYPE_CHECKING:
    from guidedsl.runtime.params import ParamStore


class Optimiser(Protocol):
    """What `SVI` needs. `names`, `leaves` and `gradients` go together; a gradient of None leaves its leaf alone."""

    def step(
        self, store: ParamStore, names: Sequence[str], leaves: Sequence[Tensor], gradients: Sequence[Tensor | None]
    ) -> None:
        """Moves the leaves, in place."""

    def set_lr(self, lr: float) -> None:
        """Sets the learning rate, keeping the ratios to it of parameters that have their own."""

    def get_state(self) -> dict[str, Any]:
        """All that a resumed run needs, by parameter name; tensors are copies."""

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes what `get_state` gave."""


FUSED_FROM = 32_768
"""Numbers in a group from which the fused operator pays. It starts threads however small its arrays are, and waits for
them: microseconds on an idle machine, milliseconds on a busy one."""


@dataclass(frozen=True)
class _Group:
    """Leaves of one learning rate that have taken equally many steps, their moments side by side in flat buffers.

    `positions` are those of the leaves among a step's leaves; `first` and `second` the moments [n], `update` room for
    their quotient, with `parts` its views in the leaves' shapes.
    """

    rate: float
    names: list[str]
    positions: list[int]
    leaves: list[Tensor]
    first: Tensor
    second: Tensor
    update: Tensor
    parts: list[Tensor]


def _views(flat: Tensor, leaves: Sequence[Tensor]) -> list[Tensor]:
    """The parts of a flat buffer in the shapes of the leaves."""
    parts = flat.split([leaf.numel() for leaf in leaves])
    return [part.view(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]


def _adam(group: _Group, gradients: list[Tensor], count: int, betas: tuple[float, float], eps: float) -> None:
    """Adam (Kingma and Ba 2015, algorithm 1) in as few operators as the flat buffers allow."""
    beta1, beta2 = betas
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    group.first.lerp_(flat, 1.0 - beta1)
    group.second.mul_(beta2).addcmul_(flat, flat, value=1.0 - beta2)
    denominator = group.second.sqrt().mul_(1.0 / math.sqrt(1.0 - beta2**count)).add_(eps)
    torch.div(group.first, denominator, out=group.update)
    torch._foreach_add_(group.leaves, group.parts, alpha=-group.rate / (1.0 - beta1**count))


def _fused_adam(group: _Group, gradients: list[Tensor], count: int, betas: tuple[float, float], eps: float) -> bool:
    """The same in one operator, private in torch: the only call of it. False where this torch lacks it."""
    # The operator reads the count that includes this step.
    step = torch.full((), float(count), dtype=torch.float32, device=group.first.device)
    try:
        torch._fused_adam_(
            group.leaves,
            gradients,
            _views(group.first, group.leaves),
            _views(group.second, group.leaves),
            [],
            [step] * len(group.leaves),
            lr=group.rate,
            beta1=betas[0],
            beta2=betas[1],
            weight_decay=0.0,
            eps=eps,
            amsgrad=False,
            maximize=False,
        )
    except (AttributeError, NotImplementedError, TypeError):
        return False
    return True


class Adam:
    """Adam (Kingma and Ba 2015). A parameter's own `lr` in the store replaces `lr`.

    `clip_norm` scales all gradients together so that their joint norm is at most this. Moments belong to names: a
    parameter that appears later starts its own, one that is deleted and made again keeps the old ones only if its shape
    is the same.
    """

    def __init__(
        self,
        lr: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        clip_norm: float | None = None,
    ) -> None:
        if not (math.isfinite(lr) and lr >= 0):
            raise InferenceError(f"Adam(lr={lr}): the learning rate must be a finite number, 0 or more")
        if not all(0 <= beta < 1 for beta in betas):
            raise InferenceError(f"Adam(betas={betas}): both must lie in [0, 1)")
        if clip_norm is not None and not clip_norm > 0:
            raise InferenceError(f"Adam(clip_norm={clip_norm}): must be positive, or None for no clipping")
        self.lr = lr
        self.betas = betas
        self.eps = eps
        self.clip_norm = clip_norm
        self._scale = 1.0  # of parameters' own rates, moved by set_lr
        self._first: dict[str, Tensor] = {}
        self._second: dict[str, Tensor] = {}
        self._steps: dict[str, int] = {}
        self._groups: list[_Group] = []
        self._planned_for: Sequence[Tensor] | None = None
        self._used: list[int] = []
        self._version = -1

    def set_lr(self, lr: float) -> None:
        """Sets the learning rate; parameters' own rates are scaled by the same factor."""
        if self.lr > 0:
            self._scale *= lr / self.lr
        self.lr = lr
        self._planned_for = None

    def _moments(self, name: str, leaf: Tensor) -> None:
        """Makes the moments of a leaf that is new, or not like the one that had its name."""
        first = self._first.get(name)
        if first is None or first.shape != leaf.shape or first.device != leaf.device or first.dtype != leaf.dtype:
            self._first[name] = torch.zeros_like(leaf, requires_grad=False)
            self._second[name] = torch.zeros_like(leaf, requires_grad=False)
            self._steps[name] = 0

    def _plan(self, store: ParamStore, names: Sequence[str], leaves: Sequence[Tensor], used: list[int]) -> list[_Group]:
        """The groups of the leaves at the positions `used`, whose moments move into the groups' buffers."""
        members: dict[tuple[float, int, torch.dtype, torch.device], list[int]] = {}
        for position in used:
            name, leaf = names[position], leaves[position]
            self._moments(name, leaf)
            own = store.lr(name)
            rate = self.lr if own is None else own * self._scale
            members.setdefault((rate, self._steps[name], leaf.dtype, leaf.device), []).append(position)
        groups: list[_Group] = []
        for (rate, *_), positions in members.items():
            some = [leaves[position] for position in positions]
            called = [names[position] for position in positions]
            first = torch.cat([self._first[name].reshape(-1) for name in called])
            second = torch.cat([self._second[name].reshape(-1) for name in called])
            self._first.update(zip(called, _views(first, some), strict=True))
            self._second.update(zip(called, _views(second, some), strict=True))
            update = torch.zeros_like(first)
            groups.append(_Group(rate, called, positions, some, first, second, update, _views(update, some)))
        return groups

    def step(
        self, store: ParamStore, names: Sequence[str], leaves: Sequence[Tensor], gradients: Sequence[Tensor | None]
    ) -> None:
        """One step, in place, on each leaf that has a gradient."""
        used = [position for position, gradient in enumerate(gradients) if gradient is not None]
        with torch.no_grad():
            if self._planned_for is not leaves or self._used != used or self._version != store.version:
                self._groups = self._plan(store, names, leaves, used)
                self._planned_for, self._used, self._version = leaves, used, store.version
            if self.clip_norm is not None and used:
                _clip([gradient for gradient in gradients if gradient is not None], self.clip_norm)
            for group in self._groups:
                own = [gradient for position in group.positions if (gradient := gradients[position]) is not None]
                count = self._steps[group.names[0]] + 1
                for name in group.names:
                    self._steps[name] = count
                large = len(group.first) >= FUSED_FROM
                if not (large and _fused_adam(group, own, count, self.betas, self.eps)):
                    _adam(group, own, count, self.betas, self.eps)

    def get_state(self) -> dict[str, Any]:
        """Learning rate and moments by parameter name; tensors are copies."""
        return {
            "lr": self.lr,
            "scale": self._scale,
            "first": {name: value.clone() for name, value in self._first.items()},
            "second": {name: value.clone() for name, value in self._second.items()},
            "steps": dict(self._steps),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes what `get_state` gave; the tensors are copied."""
        self.lr, self._scale = float(state["lr"]), float(state["scale"])
        self._first = {name: value.clone() for name, value in state["first"].items()}
        self._second = {name: value.clone() for name, value in state["second"].items()}
        self._steps = {name: int(count) for name, count in state["steps"].items()}
        self._planned_for = None


def _clip(gradients: list[Tensor], clip_norm: float) -> None:
    """Scales the gradients in place to a joint norm of at most `clip_norm`."""
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    torch._foreach_mul_(gradients, (clip_norm / (norm + 1e-12)).clamp(max=1.0))


class Torch:
    """Any `torch.optim` class: `optim.Torch(torch.optim.RMSprop, lr=0.01)`.

    One torch optimiser holds a parameter group for each parameter, so a parameter's own `lr` in the store counts, and
    `torch_optimiser` can be given to a torch scheduler after the first step.
    """

    def __init__(self, optimiser_class: type[Any], **options: Any) -> None:
        self._class = optimiser_class
        self._options = options
        self._names: dict[str, Tensor] = {}
        self._waiting: dict[str, Any] = {}
        self._scale = 1.0
        self.torch_optimiser: Any = None

    def step(
        self, store: ParamStore, names: Sequence[str], leaves: Sequence[Tensor], gradients: Sequence[Tensor | None]
    ) -> None:
        """One step of the torch optimiser on each leaf that has a gradient."""
        for name, leaf, gradient in zip(names, leaves, gradients, strict=True):
            if gradient is not None and self._names.get(name) is not leaf:
                self._add(store, name, leaf)
            leaf.grad = gradient
        if self.torch_optimiser is not None:
            self.torch_optimiser.step()
        for leaf in leaves:
            leaf.grad = None

    def _add(self, store: ParamStore, name: str, leaf: Tensor) -> None:
        old = self._names.pop(name, None)
        if old is not None:  # the parameter was deleted and made again
            self.torch_optimiser.state.pop(old, None)
            groups = self.torch_optimiser.param_groups
            groups[:] = [group for group in groups if group["params"][0] is not old]
        own = store.lr(name)
        group: dict[str, Any] = {"params": [leaf]}
        if own is not None:
            group["lr"] = own * self._scale
        if self.torch_optimiser is None:
            self.torch_optimiser = self._class([group], **self._options)
        else:
            default = self.torch_optimiser.defaults.get("lr")
            if own is None and default is not None:
                group["lr"] = default * self._scale
            self.torch_optimiser.add_param_group(group)
        self._names[name] = leaf
        saved = self._waiting.pop(name, None)
        if saved is not None:
            self.torch_optimiser.state[leaf].update(
                {key: value.clone() if isinstance(value, Tensor) else value for key, value in saved.items()}
            )

    def set_lr(self, lr: float) -> None:
        """Scales every group's rate by one factor, so that parameters without a rate of their own get `lr`."""
        if self.torch_optimiser is None:
            default = self._options.get("lr")
            if default is None:
                raise InferenceError(f"{self._class.__name__} was made without lr=…; give it one to schedule it")
            self._scale = lr / default
            self._options = {**self._options, "lr": lr}
            return
        factor = lr / (self.torch_optimiser.defaults["lr"] * self._scale)
        self._scale *= factor
        for group in self.torch_optimiser.param_groups:
            group["lr"] *= factor

    def get_state(self) -> dict[str, Any]:
        """The torch optimiser's state by parameter name; tensors are copies."""
        state = {} if self.torch_optimiser is None else self.torch_optimiser.state
        moments = {
            name: {key: value.clone() if isinstance(value, Tensor) else value for key, value in state[leaf].items()}
            for name, leaf in self._names.items()
            if leaf in state
        }
        return {"class": self._class.__name__, "scale": self._scale, "moments": moments}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes what `get_state` gave; each parameter's part is used when it next appears."""
        if state["class"] != self._class.__name__:
            raise InferenceError(f"the state is of {state['class']}, this optimiser is {self._class.__name__}")
        self._scale = float(state["scale"])
        self._waiting = dict(state["moments"])
        self._names.clear()
        self.torch_optimiser = None
