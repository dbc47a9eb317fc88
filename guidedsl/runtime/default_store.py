"""The store of the process, which serves where no other is named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from guidedsl.runtime import constraints
from guidedsl.runtime.params import AnyModule, Init, ParamStore
from guidedsl.runtime.plates import Plate

_GLOBAL = ParamStore()


def get_param_store(store: ParamStore | None = None) -> ParamStore:
    """`store`, or the store of the process if None."""
    return _GLOBAL if store is None else store


def clear_param_store(store: ParamStore | None = None) -> None:
    """Forgets all parameters of `store`, or of the process's store."""
    get_param_store(store).clear()


def param(
    name: str,
    init: Init | None = None,
    constraint: Any = constraints.real,
    event_dim: int | None = None,
    *,
    plates: Sequence[Plate] = (),
    store: ParamStore | None = None,
    lr: float | None = None,
    frozen: bool = False,
) -> Tensor:
    """`ParamStore.param` of `store`, or of the process's store."""
    found = get_param_store(store)
    return found.param(name, init, constraint, event_dim, plates=plates, lr=lr, frozen=frozen)


def module(name: str, nn_module: AnyModule, store: ParamStore | None = None) -> AnyModule:
    """`ParamStore.module` of `store`, or of the process's store."""
    return get_param_store(store).module(name, nn_module)
