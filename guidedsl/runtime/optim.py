"""Optimisers over a param store. Nothing here imports torch.optim, which takes a second (it loads dynamo)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.optim_settings import (
    Optimiser,
    Settings,
    check_clipping,
    check_lr,
    check_names,
    clipped,
    own_rate,
    scaled_rate,
    settings_of,
)
from guidedsl.runtime.optim_torch import Scheduled, Torch

if TYPE_CHECKING:
    from guidedsl.runtime.params import ParamStore

__all__ = ["Adam", "ClippedAdam", "Optimiser", "Scheduled", "Torch"]


FUSED_FROM = 32_768
"""Numbers in a group on a CPU from which the fused operator pays. It starts threads however small its arrays are, and
waits for them: microseconds on an idle machine, milliseconds on a busy one. On a GPU it is one launch for eight."""


@dataclass(frozen=True)
class _Group:
    """Leaves of equal settings that have taken equally many steps, their moments side by side in flat buffers.

    `rate` is their own learning rate, if they have one. `positions` are those of the leaves among a step's leaves;
    `first` and `second` the moments [n], `update` room for what the leaves are divided or moved by, `parts` its views
    in their shapes.
    """

    rate: float | None
    betas: tuple[float, float]
    eps: float
    names: list[str]
    positions: list[int]
    leaves: list[Tensor]
    first: Tensor
    second: Tensor
    update: Tensor
    parts: list[Tensor]


@dataclass(frozen=True)
class _Packed:
    """Moments of leaves side by side, [n], and by leaf."""

    leaves: Sequence[Tensor]
    first: Tensor
    second: Tensor
    parts: list[Tensor]


@dataclass(frozen=True)
class _Held:
    """Options of leaves, for as long as these take their steps together."""

    leaves: Sequence[Tensor]
    version: int
    options: list[tuple[str, LeafOptions]]


def _views(flat: Tensor, leaves: Sequence[Tensor]) -> list[Tensor]:
    """The parts of a flat buffer in the shapes of the leaves."""
    parts = flat.split([leaf.numel() for leaf in leaves])
    return [part.view(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]


def _adam(group: _Group, gradients: list[Tensor], count: int, rate: float) -> None:
    """Adam (Kingma and Ba 2015, algorithm 1) in as few operators as the flat buffers allow."""
    beta1, beta2 = group.betas
    flat = gradients[0].reshape(-1) if len(gradients) == 1 else torch.cat([one.reshape(-1) for one in gradients])
    group.first.lerp_(flat, 1.0 - beta1)
    group.second.mul_(beta2).addcmul_(flat, flat, value=1.0 - beta2)
    torch.sqrt(group.second, out=group.update).mul_(1.0 / math.sqrt(1.0 - beta2**count)).add_(group.eps)
    way = -rate / (1.0 - beta1**count)
    if len(group.leaves) == 1:
        leaf = group.leaves[0]
        leaf.addcdiv_(group.first.view(leaf.shape), group.parts[0], value=way)
    else:
        torch.div(group.first, group.update, out=group.update)
        torch._foreach_add_(group.leaves, group.parts, alpha=way)


def _fused_adam(group: _Group, gradients: list[Tensor], count: int, rate: float) -> bool:
    """The same in one operator, private in torch: the only call of it. False where this torch lacks it."""
    # The operator reads the count that includes this step.
    step = torch.full((), float(count), dtype=torch.float32, device=group.first.device)
    try:
        torch._fused_adam_(
            group.leaves,
            [gradient.contiguous() for gradient in gradients],
            _views(group.first, group.leaves),
            _views(group.second, group.leaves),
            [],
            [step] * len(group.leaves),
            lr=rate,
            beta1=group.betas[0],
            beta2=group.betas[1],
            weight_decay=0.0,
            eps=group.eps,
            amsgrad=False,
            maximize=False,
        )
    except (AttributeError, NotImplementedError, TypeError):
        return False
    return True


class LeafOptions(NamedTuple):
    """Neighbouring leaves' numbers, steps taken, factor of the learning rate, and own options of Adam."""

    size: int
    taken: float
    scale: float
    beta1: float
    beta2: float
    eps: float


class FlatAdam(NamedTuple):
    """The state of Adam over all leaves as vectors [n]: moments, steps taken, and each number's own options.

    `scale` multiplies the learning rate.
    """

    first: Tensor
    second: Tensor
    counts: Tensor
    scale: Tensor
    beta1: Tensor
    beta2: Tensor
    eps: Tensor


class Adam:
    """Adam (Kingma and Ba 2015), in a few operators for all parameters together.

    A parameter's own `lr` in the store replaces `lr`, and `settings` by name (`lr`, `betas`, `eps`) replace both.
    `clip_value` bounds each element of the gradients, then `clip_norm` the joint norm of all of them; each step first
    multiplies the learning rate by `lr_decay`. Moments belong to names: a parameter that appears later starts its own,
    one that is deleted and made again keeps the old ones only if its shape is the same.
    """

    def __init__(
        self,
        lr: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        clip_norm: float | None = None,
        *,
        clip_value: float | None = None,
        lr_decay: float = 1.0,
        settings: Settings | None = None,
    ) -> None:
        check_lr("Adam", lr)
        _check_betas(betas)
        check_clipping("Adam", clip_norm, clip_value)
        if not 0 < lr_decay <= 1:
            raise InferenceError(f"Adam(lr_decay={lr_decay}): a factor above 0, at most 1, a step")
        self.lr = float(lr)
        self.betas = betas
        self.eps = eps
        self.clip_norm = clip_norm
        self.clip_value = clip_value
        self.lr_decay = lr_decay
        self.settings = settings
        self._initial_lr = self.lr
        self._first: dict[str, Tensor] = {}
        self._second: dict[str, Tensor] = {}
        self._steps: dict[str, int] = {}
        self._packed: _Packed | None = None
        self._held: _Held | None = None
        self._groups: list[_Group] = []
        self._planned_for: Sequence[Tensor] | None = None
        self._used: list[int] = []
        self._version = -1
        self._flat_groups: list[tuple[int, _Group]] = []
        self._flat_for: Sequence[Tensor] | None = None
        self._flat_in: Tensor | None = None
        self._flat_used: list[bool] = []
        self._flat_version = -1

    def set_lr(self, lr: float) -> None:
        """Sets the learning rate; parameters' own rates are scaled by the same factor."""
        check_lr("Adam", lr)
        self.lr = float(lr)

    def _moments(self, name: str, leaf: Tensor) -> None:
        """Makes the moments of a leaf that is new, or not like the one that had its name."""
        first = self._first.get(name)
        if first is None or first.shape != leaf.shape:
            self._first[name] = torch.zeros_like(leaf, requires_grad=False)
            self._second[name] = torch.zeros_like(leaf, requires_grad=False)
            self._steps[name] = 0
        elif (first.device, first.dtype) != (leaf.device, leaf.dtype):
            self._first[name] = first.to(leaf.device, leaf.dtype)
            self._second[name] = self._second[name].to(leaf.device, leaf.dtype)

    def _plan(self, store: ParamStore, names: Sequence[str], leaves: Sequence[Tensor], used: list[int]) -> list[_Group]:
        """The groups of the leaves at the positions `used`, whose moments move into the groups' buffers."""
        check_names("Adam", self.settings, store)
        members: dict[tuple[Any, ...], list[int]] = {}
        for position in used:
            name, leaf = names[position], leaves[position]
            self._moments(name, leaf)
            own = settings_of("Adam", name, self.settings, ("betas", "eps", "lr"))
            betas = tuple(own.get("betas", self.betas))
            _check_betas(betas)
            alike = (own_rate(store, name, own), betas, own.get("eps", self.eps))
            members.setdefault((*alike, self._steps[name], leaf.dtype, leaf.device), []).append(position)
        groups: list[_Group] = []
        for (rate, betas, eps, *_), positions in members.items():
            some = [leaves[position] for position in positions]
            called = [names[position] for position in positions]
            first = torch.cat([self._first[name].reshape(-1) for name in called])
            second = torch.cat([self._second[name].reshape(-1) for name in called])
            self._first.update(zip(called, _views(first, some), strict=True))
            self._second.update(zip(called, _views(second, some), strict=True))
            update = torch.zeros_like(first)
            parts = _views(update, some)
            groups.append(_Group(rate, betas, eps, called, positions, some, first, second, update, parts))
        return groups

    def step(
        self, store: ParamStore, names: Sequence[str], leaves: Sequence[Tensor], gradients: Sequence[Tensor | None]
    ) -> None:
        """One step, in place, on each leaf that has a gradient."""
        used = [position for position, gradient in enumerate(gradients) if gradient is not None]
        self._held = None
        self.lr *= self.lr_decay
        with torch.no_grad():
            if self._planned_for is not leaves or self._used != used or self._version != store.version:
                self._groups = self._plan(store, names, leaves, used)
                self._flat_for = self._packed = None  # the moments lie elsewhere now
                self._planned_for, self._used, self._version = leaves, used, store.version
            gradients = clipped(gradients, self.clip_norm, self.clip_value)
            for group in self._groups:
                own = [gradient for position in group.positions if (gradient := gradients[position]) is not None]
                self._move(group, own)

    def _move(self, group: _Group, gradients: list[Tensor]) -> None:
        """One step of a group's leaves."""
        count = self._steps[group.names[0]] + 1
        self._steps.update(dict.fromkeys(group.names, count))
        rate = scaled_rate(group.rate, self.lr, self._initial_lr)
        large = group.first.is_cuda or len(group.first) >= FUSED_FROM
        if not (large and _fused_adam(group, gradients, count, rate)):
            _adam(group, gradients, count, rate)

    def step_flat(
        self,
        store: ParamStore,
        names: Sequence[str],
        leaves: Sequence[Tensor],
        gradients: Sequence[Tensor | None],
        x: Tensor,
        gradient: Tensor,
    ) -> None:
        """The same step where leaves and gradients are looks at x [n] and `gradient` [n], in order."""
        self._held = None
        self.lr *= self.lr_decay
        with torch.no_grad():
            used = [gradient is not None for gradient in gradients]
            same = self._flat_for is leaves and self._flat_in is x and self._flat_used == used
            if not same or self._flat_version != store.version:
                self._flat_groups = self._flat_plan(store, names, leaves, gradients, x)
                self._flat_for, self._flat_in, self._flat_version = leaves, x, store.version
                self._flat_used = used
            (clipped_gradient,) = clipped([gradient], self.clip_norm, self.clip_value)
            assert clipped_gradient is not None
            for start, group in self._flat_groups:
                self._move(group, [clipped_gradient[start : start + len(group.first)]])

    def _flat_plan(
        self,
        store: ParamStore,
        names: Sequence[str],
        leaves: Sequence[Tensor],
        gradients: Sequence[Tensor | None],
        x: Tensor,
    ) -> list[tuple[int, _Group]]:
        """Neighbours of equal settings, with the place in x where each group starts; no group for unused leaves."""
        first, second = self.packed(names, leaves)
        options = self._each_option(store, names, leaves)
        known = ("betas", "eps", "lr")
        rates = [own_rate(store, name, settings_of("Adam", name, self.settings, known)) for name in names]
        groups: list[tuple[int, _Group]] = []
        end = 0
        for (_, _, b1, b2, eps, rate, used), members in itertools.groupby(
            zip(names, options, rates, gradients, strict=True),
            key=lambda one: (*one[1][1:], one[2], one[3] is not None),
        ):
            own = list(members)
            start, end = end, end + sum(option.size for _, option, _, _ in own)
            if used:
                update = torch.zeros_like(first[start:end])
                part, called = x[start:end], [name for name, *_ in own]
                moments = first[start:end], second[start:end]
                groups.append((start, _Group(rate, (b1, b2), eps, called, [], [part], *moments, update, [update])))
        return groups

    # Many steps at once, in a compiled graph

    @property
    def options(self) -> tuple[object, ...]:
        """What a compiled graph has written into it."""
        return self.clip_norm, self.clip_value

    def rates(self, steps: int) -> list[float]:
        """The learning rates of the next steps."""
        found, rate = [], self.lr
        for _ in range(steps):
            rate *= self.lr_decay
            found.append(rate)
        return found

    def leaf_options(self, store: ParamStore, names: Sequence[str], leaves: Sequence[Tensor]) -> list[LeafOptions]:
        """What a step depends on, besides the moments, which are there: in order, neighbours that are alike as one."""
        held = self._held
        if held is None or held.leaves is not leaves or held.version != store.version or self.settings is not None:
            held = self._held = _Held(leaves, store.version, self._options(store, names, leaves))
        return [one._replace(taken=float(self._steps[name])) for name, one in held.options]

    def _options(
        self, store: ParamStore, names: Sequence[str], leaves: Sequence[Tensor]
    ) -> list[tuple[str, LeafOptions]]:
        """The options of neighbours that are alike, with the name of the first."""
        found: list[tuple[str, LeafOptions]] = []
        for name, one in zip(names, self._each_option(store, names, leaves), strict=True):
            if found and found[-1][1][1:] == one[1:]:
                first, before = found[-1]
                found[-1] = first, before._replace(size=before.size + one.size)
            else:
                found.append((name, one))
        return found

    def _each_option(self, store: ParamStore, names: Sequence[str], leaves: Sequence[Tensor]) -> list[LeafOptions]:
        """The options of each leaf, whose moments are there."""
        check_names("Adam", self.settings, store)
        found = []
        for name, leaf in zip(names, leaves, strict=True):
            own = settings_of("Adam", name, self.settings, ("betas", "eps", "lr")) if self.settings else {}
            rate = own_rate(store, name, own)
            beta1, beta2 = own.get("betas", self.betas) if own else self.betas
            scale = 1.0 if rate is None else rate / self._initial_lr
            taken = float(self._steps[name])
            found.append(LeafOptions(leaf.numel(), taken, scale, beta1, beta2, own.get("eps", self.eps)))
        return found

    def packed(self, names: Sequence[str], leaves: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Both moments of these leaves, [n] each: Adam's own, to be changed in place, made where they are new."""
        held = self._packed
        if held is not None and held.leaves is leaves:
            return held.first, held.second
        if held is None or not _same(held.leaves, leaves) or not _same(held.parts, map(self._first.get, names)):
            for name, leaf in zip(names, leaves, strict=True):
                self._moments(name, leaf)
            first, second = (
                torch.cat([moments[name].reshape(-1) for name in names]) for moments in (self._first, self._second)
            )
            held = self._packed = _Packed(leaves, first, second, _views(first, leaves))
            self._first.update(zip(names, held.parts, strict=True))
            self._second.update(zip(names, _views(second, leaves), strict=True))
            self._planned_for = self._flat_for = self._held = None
        return held.first, held.second

    def flatten(self, store: ParamStore, names: Sequence[str], leaves: Sequence[Tensor]) -> FlatAdam:
        """The state over these leaves, side by side."""
        first, second = self.packed(names, leaves)
        options = self.leaf_options(store, names, leaves)

        def spread(column: int) -> Tensor:
            return torch.cat([first.new_full((one.size,), one[column]) for one in options])

        return FlatAdam(first, second, *(spread(column) for column in range(1, 6)))

    def flat_step(
        self, x: Tensor, gradient: Tensor, first: Tensor, second: Tensor, counts: Tensor, lr: Tensor, state: FlatAdam
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One step of all numbers [n] at a learning rate: x, both moments and the counts after it."""
        if self.clip_value is not None:
            gradient = gradient.clamp(-self.clip_value, self.clip_value)
        if self.clip_norm is not None:
            gradient = gradient * (self.clip_norm / torch.linalg.vector_norm(gradient)).clamp(max=1.0)
        counts = counts + 1.0
        first = first + (gradient - first) * (1.0 - state.beta1)
        second = second * state.beta2 + gradient * gradient * (1.0 - state.beta2)
        denominator = second.sqrt() * (1.0 - state.beta2**counts).rsqrt() + state.eps
        rate = lr.to(x.dtype) * state.scale / (1.0 - state.beta1**counts)
        return x - rate * first / denominator, first, second, counts

    def took(self, names: Sequence[str], steps: int, lr: float) -> None:
        """Counts so many steps of all leaves, the last one at this learning rate."""
        for name in names:
            self._steps[name] += steps
        self.lr = lr

    def get_state(self) -> dict[str, Any]:
        """Learning rate and moments by parameter name; tensors are copies."""
        return {
            "class": "Adam",
            "lr": self.lr,
            "initial_lr": self._initial_lr,
            "first": {name: value.clone() for name, value in self._first.items()},
            "second": {name: value.clone() for name, value in self._second.items()},
            "steps": dict(self._steps),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes what `get_state` gave; the tensors are copied. Raises InferenceError, with nothing changed."""
        if state.get("class") != "Adam":
            raise InferenceError(f"the state is of {state.get('class')}, this optimiser is Adam")
        try:
            lr, initial = float(state["lr"]), float(state["initial_lr"])
            first = {name: value.clone() for name, value in state["first"].items()}
            second = {name: state["second"][name].clone() for name in first}
            steps = {name: int(state["steps"][name]) for name in first}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InferenceError(f"not a state of Adam: {type(error).__name__} {error}") from None
        self.lr, self._initial_lr = lr, initial
        self._first, self._second, self._steps = first, second, steps
        self._planned_for = self._flat_for = self._packed = self._held = None


def _same(held: Iterable[object], now: Iterable[object]) -> bool:
    """Whether both are the very same objects."""
    return all(one is other for one, other in zip_longest(held, now))


def _check_betas(betas: Sequence[float]) -> None:
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise InferenceError(f"Adam(betas={betas}): both must lie in [0, 1)")


def ClippedAdam(
    lr: float = 0.01,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    *,
    clip_value: float = 10.0,
    lr_decay: float = 1.0,
    settings: Settings | None = None,
) -> Adam:
    """Adam with each element of the gradients clipped and a learning rate that decays at each step, as in Pyro."""
    return Adam(lr, betas, eps, clip_value=clip_value, lr_decay=lr_decay, settings=settings)
