"""What all optimisers share: clipping, and settings of single parameters by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import torch
from torch import Tensor

from guidedsl.runtime.errors import InferenceError

if TYPE_CHECKING:
    from guidedsl.runtime.params import ParamStore

Settings: TypeAlias = Mapping[str, Mapping[str, Any]] | Callable[[str], Mapping[str, Any] | None]
"""Options of single parameters: by name, or a function of the name (None or {} for none)."""


class Optimiser(Protocol):
    """What `SVI` needs. `names`, `leaves` and `gradients` go together; a gradient of None leaves its leaf alone."""

    @property
    def lr(self) -> float:
        """The learning rate of parameters that have none of their own."""

    def step(
        self, store: ParamStore, names: Sequence[str], leaves: Sequence[Tensor], gradients: Sequence[Tensor | None]
    ) -> None:
        """Moves the leaves, in place."""

    def set_lr(self, lr: float) -> None:
        """Sets the learning rate, keeping the ratios to it of parameters that have their own."""

    def get_state(self) -> dict[str, Any]:
        """All that a resumed run needs, by parameter name; tensors are copies."""

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes what `get_state` gave. Raises InferenceError, with nothing changed, for anything else."""


def check_lr(what: str, lr: object) -> None:
    """Raises InferenceError for what is not a learning rate. `what` names the optimiser in the message."""
    if isinstance(lr, bool) or not isinstance(lr, int | float) or not (math.isfinite(lr) and lr >= 0):
        raise InferenceError(f"{what}(lr={lr}): the learning rate must be a finite number, 0 or more")


def check_clipping(what: str, clip_norm: float | None, clip_value: float | None) -> None:
    """Raises InferenceError for a bound that is not positive."""
    for name, bound in (("clip_norm", clip_norm), ("clip_value", clip_value)):
        if bound is not None and not bound > 0:
            raise InferenceError(f"{what}({name}={bound}): must be positive, or None for no clipping")


def clipped(
    gradients: Sequence[Tensor | None], clip_norm: float | None, clip_value: float | None
) -> Sequence[Tensor | None]:
    """The gradients, each element within ±`clip_value`, then scaled together to a joint norm of at most `clip_norm`.

    New tensors where anything is clipped: autograd may hand out one tensor for two leaves.
    """
    if clip_norm is None and clip_value is None:
        return gradients
    found = [gradient for gradient in gradients if gradient is not None]
    if not found:
        return gradients
    if clip_value is not None:
        found = [gradient.clamp(-clip_value, clip_value) for gradient in found]
    if clip_norm is not None:
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(found)))
        found = list(torch._foreach_mul(found, (clip_norm / norm).clamp(max=1.0)))
    remaining = iter(found)
    return [None if gradient is None else next(remaining) for gradient in gradients]


def check_names(what: str, settings: Settings | None, store: ParamStore) -> None:
    """Raises InferenceError for settings of names that the store does not have."""
    if not isinstance(settings, Mapping):
        return
    unknown = [name for name in settings if name not in store]
    if unknown:
        from difflib import get_close_matches

        close = get_close_matches(unknown[0], list(store), n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"the store has {', '.join(map(repr, store))}"
        raise InferenceError(
            f"{what} has settings for {', '.join(map(repr, unknown))}, which the store does not hold; {hint}"
        )


def settings_of(what: str, name: str, settings: Settings | None, known: Collection[str]) -> dict[str, Any]:
    """The options of parameter `name`. Raises InferenceError for options that are not `known`."""
    if settings is None:
        return {}
    found = settings.get(name) if isinstance(settings, Mapping) else settings(name)
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise InferenceError(f"{what}: the settings of {name!r} are a mapping such as {{'lr': 0.001}}, got {found!r}")
    unknown = [option for option in found if option not in known]
    if unknown:
        raise InferenceError(
            f"{what}: {name!r} has the setting {unknown[0]!r}; the options of a single parameter are "
            f"{', '.join(sorted(known))}"
        )
    if "lr" in found:
        check_lr(f"{what}, settings of {name!r}", found["lr"])
    return dict(found)


def own_rate(store: ParamStore, name: str, settings: Mapping[str, Any]) -> float | None:
    """A parameter's own learning rate: from the settings by name, else from the store, else None."""
    given = settings.get("lr")
    return store.lr(name) if given is None else float(given)


def scaled_rate(own: float | None, lr: float, initial: float) -> float:
    """The rate that counts now: `lr`, or an own rate moved by as much as `lr` was from where it started."""
    if own is None:
        return lr
    return own * (lr / initial) if initial > 0 else own
