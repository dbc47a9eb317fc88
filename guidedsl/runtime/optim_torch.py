"""Optimisers and schedulers of torch. Nothing here imports torch.optim before it is asked for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from guidedsl.runtime.params import ParamStore


class Torch:
    """Any `torch.optim` class: `optim.Torch(torch.optim.RMSprop, lr=0.01)`.

    One torch optimiser holds a parameter group for each parameter, so that a parameter's own `lr` in the store counts,
    and `settings` by name may replace any option of the class. Clipping is that of `Adam`, unless the class has an
    option of that name, which then gets it. Raises InferenceError for a class that evaluates the loss itself (LBFGS).
    """

    def __init__(
        self,
        optimiser_class: type[Any],
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        settings: Settings | None = None,
        **options: Any,
    ) -> None:
        name = self._name = optimiser_class.__name__
        check_clipping(name, clip_norm, clip_value)
        closure = inspect.signature(optimiser_class.step).parameters.get("closure")
        if closure is not None and closure.default is inspect.Parameter.empty:
            raise InferenceError(f"{name} evaluates the loss itself, many times a step; guidedsl.fit has L-BFGS")
        own = inspect.signature(optimiser_class).parameters
        if "clip_norm" in own and clip_norm is not None:
            options["clip_norm"], clip_norm = clip_norm, None
        if "clip_value" in own and clip_value is not None:
            options["clip_value"], clip_value = clip_value, None
        # torch wants a parameter at once; the real ones come with the first step.
        self.torch_optimiser = optimiser_class([torch.zeros((), requires_grad=True)], **options)
        self.torch_optimiser.param_groups.clear()
        self.clip_norm, self.clip_value, self.settings = clip_norm, clip_value, settings
        lr = self.torch_optimiser.defaults.get("lr")
        self.lr = self._initial_lr = float("nan") if lr is None else float(lr)
        self._leaves: dict[str, Tensor] = {}
        self._own: dict[str, float | None] = {}
        self._waiting: dict[str, Any] = {}
        self._version = -1

    def step(
        self, store: ParamStore, names: Sequence[str], leaves: Sequence[Tensor], gradients: Sequence[Tensor | None]
    ) -> None:
        """One step of the torch optimiser on each leaf that has a gradient."""
        if self._version != store.version:
            check_names(self._name, self.settings, store)
            self._version = store.version
        gradients = clipped(gradients, self.clip_norm, self.clip_value)
        for name, leaf, gradient in zip(names, leaves, gradients, strict=True):
            if gradient is None:
                continue
            if self._leaves.get(name) is not leaf:
                self._add(store, name, leaf)
            # A copy: autograd may hand out one tensor for two leaves, and some optimisers write into it.
            leaf.grad = gradient.clone(memory_format=torch.contiguous_format)
        self.torch_optimiser.step()
        for leaf in leaves:
            leaf.grad = None

    def _add(self, store: ParamStore, name: str, leaf: Tensor) -> None:
        old = self._leaves.pop(name, None)
        if old is not None:  # the parameter was deleted and made again
            self.torch_optimiser.state.pop(old, None)
            groups = self.torch_optimiser.param_groups
            groups[:] = [group for group in groups if group["params"][0] is not old]
        options = settings_of(self._name, name, self.settings, self.torch_optimiser.defaults)
        own = self._own[name] = own_rate(store, name, options)
        saved = self._waiting.pop(name, None)
        if "lr" in self.torch_optimiser.defaults:
            options["lr"] = scaled_rate(own, self.lr, self._initial_lr) if saved is None else saved["lr"]
        self.torch_optimiser.add_param_group({"params": [leaf], **options})
        self._leaves[name] = leaf
        if saved is not None:
            self.torch_optimiser.state[leaf] = {
                # torch counts steps on the CPU, wherever the parameter is.
                key: value.to(leaf.device, copy=True) if isinstance(value, Tensor) and key != "step" else _copy(value)
                for key, value in saved["moments"].items()
            }

    def set_lr(self, lr: float) -> None:
        """Sets the learning rate; parameters' own rates are scaled by the same factor."""
        if "lr" not in self.torch_optimiser.defaults:
            raise InferenceError(f"{self._name} has no learning rate")
        check_lr(self._name, lr)
        self.lr = float(lr)
        names = {leaf: name for name, leaf in self._leaves.items()}
        for group in self.torch_optimiser.param_groups:
            group["lr"] = scaled_rate(self._own[names[group["params"][0]]], self.lr, self._initial_lr)
        for saved in self._waiting.values():
            saved["lr"] = scaled_rate(saved["own"], self.lr, self._initial_lr)

    def get_state(self) -> dict[str, Any]:
        """Learning rates and the torch optimiser's state by parameter name; tensors are copies."""
        groups = {group["params"][0]: group for group in self.torch_optimiser.param_groups}
        params = {
            name: {
                "lr": groups[leaf].get("lr"),
                "own": self._own[name],
                "moments": {key: _copy(value) for key, value in self.torch_optimiser.state.get(leaf, {}).items()},
            }
            for name, leaf in self._leaves.items()
        }
        return {
            "class": self._name,
            "lr": self.lr,
            "initial_lr": self._initial_lr,
            "params": {**_copied(self._waiting), **params},
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes what `get_state` gave; each parameter's part is used when it next appears."""
        if state.get("class") != self._name:
            raise InferenceError(f"the state is of {state.get('class')}, this optimiser is {self._name}")
        try:
            lr, initial, waiting = float(state["lr"]), float(state["initial_lr"]), _copied(state["params"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InferenceError(f"not a state of {self._name}: {type(error).__name__} {error}") from None
        self.lr, self._initial_lr, self._waiting = lr, initial, waiting
        self._leaves.clear()
        self._own.clear()
        self.torch_optimiser.state.clear()
        self.torch_optimiser.param_groups.clear()


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _copied(params: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "lr": saved["lr"],
            "own": saved["own"],
            "moments": {key: _copy(value) for key, value in saved["moments"].items()},
        }
        for name, saved in params.items()
    }


class Scheduled:
    """An optimiser whose learning rate follows a scheduler of torch, one `advance()` at a time and never by itself.

    `optim.Scheduled(optim.Adam(lr=0.1), torch.optim.lr_scheduler.StepLR, step_size=10, gamma=0.5)`. The scheduler moves
    the optimiser's rate; parameters that have their own keep their ratio to it. `scheduler` may be any callable that
    takes a torch optimiser, such as `lambda o: SequentialLR(o, …)`. Raises InferenceError for a scheduler that cycles
    momentum, which would act on nothing.
    """

    def __init__(self, optimiser: Optimiser, scheduler: Callable[..., Any], **options: Any) -> None:
        from torch.optim import SGD

        self.optimiser = optimiser
        # torch's schedulers move the rates of a torch optimiser; this one has nothing else to do.
        self._carrier = SGD([torch.zeros(())], lr=optimiser.lr)
        self._rate = optimiser.lr
        self.scheduler = scheduler(self._carrier, **options)
        self._follow()

    @property
    def lr(self) -> float:
        """The learning rate now."""
        return self.optimiser.lr

    def advance(self, metric: float | None = None) -> None:
        """One step of the scheduler. `metric` is the loss, for those that follow it (ReduceLROnPlateau)."""
        wanted = "metrics" in inspect.signature(self.scheduler.step).parameters
        if wanted != (metric is not None):
            name = type(self.scheduler).__name__
            raise InferenceError(f"{name} follows the loss: advance(loss)" if wanted else f"{name}: advance() alone")
        self._carrier.step()  # torch warns of a scheduler that goes ahead of its optimiser
        self.scheduler.step(*(() if metric is None else (metric,)))
        self._follow()

    def _follow(self) -> None:
        group = self._carrier.param_groups[0]
        if group["momentum"] != 0:
            name = type(self.scheduler).__name__
            raise InferenceError(f"{name} cycles momentum, which is not scheduled here; pass cycle_momentum=False")
        before, self._rate = self._rate, float(group["lr"])
        if self._rate == before:
            return
        # What else moves the rate (lr_decay, set_lr) is kept as a factor.
        alone = self.optimiser.lr == before or before == 0
        self.optimiser.set_lr(self._rate if alone else self.optimiser.lr * (self._rate / before))

    def step(
        self, store: ParamStore, names: Sequence[str], leaves: Sequence[Tensor], gradients: Sequence[Tensor | None]
    ) -> None:
        """One step of the optimiser."""
        self.optimiser.step(store, names, leaves, gradients)

    def set_lr(self, lr: float) -> None:
        """Sets the optimiser's learning rate; the scheduler goes on from there in its own proportions."""
        self.optimiser.set_lr(lr)

    def get_state(self) -> dict[str, Any]:
        """The states of the optimiser and of the scheduler."""
        group = self._carrier.param_groups[0]
        return {
            "class": f"Scheduled {type(self.scheduler).__name__}",
            "optimiser": self.optimiser.get_state(),
            "scheduler": dict(self.scheduler.state_dict()),
            "group": {key: value for key, value in group.items() if key != "params"},
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes what `get_state` gave."""
        own = f"Scheduled {type(self.scheduler).__name__}"
        if state.get("class") != own:
            raise InferenceError(f"the state is of {state.get('class')}, this optimiser is {own}")
        try:
            group, scheduler, inner = dict(state["group"]), dict(state["scheduler"]), state["optimiser"]
            rate = float(group["lr"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InferenceError(f"not a state of {own}: {type(error).__name__} {error}") from None
        self.optimiser.set_state(inner)
        self.scheduler.load_state_dict(scheduler)
        self._carrier.param_groups[0].update(group)
        self._rate = rate
