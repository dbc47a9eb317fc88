"""What a Pyro model and its data have, for a program that declares them: `guidedsl init`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from guidedsl.runtime.constraint_base import shorten
from guidedsl.runtime.errors import GuidedslError
from guidedsl.runtime.params import ParamStore
from guidedsl.runtime.pyro_models.handlers import Params
from guidedsl.runtime.pyro_models.importing import imported_model, read_arguments, signature_of
from guidedsl.runtime.pyro_models.probe import Seen, SeenSite, as_data, probed

_KEEPING = frozenset(
    {"clone", "contiguous", "expand", "flatten", "long", "reshape", "squeeze", "to", "unsqueeze", "view", "__getitem__"}
)


@dataclass(frozen=True)
class Argument:
    """An array that the model is called with. `observed` is the site that observes it, whole; `indexes` is the size of
    the axis that its numbers are positions of."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    observed: SeenSite | None
    indexes: int | None


@dataclass(frozen=True)
class Outline:
    """A model's sites and plates, with all rows, its arrays, and what are whole numbers among its arguments."""

    seen: Seen
    arguments: tuple[Argument, ...]
    sizes: Mapping[str, int]


def outline(path: str, fields: Mapping[str, object]) -> Outline:
    """What the model `package.module:name` has, called once with the fields that its arguments name.

    Raises GuidedslError where it cannot be imported or lacks an argument, InferenceError for what it raises.
    """
    function = imported_model(path, "the program")
    signature = signature_of(function)
    missing = [name for name in signature.required if name not in fields]
    if missing:
        given = f"the data has {', '.join(fields)}" if fields else "no data was given (--data)"
        needed = ", ".join(f"`{name}`" for name in missing)
        raise GuidedslError(f"{path}{signature} needs {needed}, and {given}")
    with as_data(torch.float32, torch.device("cpu")):
        given_arrays = read_arguments(fields, tuple(fields) if signature.open else signature.accepted)
        wrong = [name for name, value in given_arrays.items() if not isinstance(value, Tensor | int | float)]
        if wrong:
            raise GuidedslError(
                f"`{wrong[0]}` is {shorten(given_arrays[wrong[0]])}: a program declares numbers and arrays of numbers; "
                "give the argument a default in Python, and leave it out of the data"
            )
        arrays = {name: value for name, value in given_arrays.items() if isinstance(value, Tensor)}
        watch = _Positions(arrays)
        with ExitStack() as stack:
            stack.enter_context(Params("model", ParamStore(), _Precision()))
            stack.enter_context(watch)
            seen = probed(function, given_arrays, path, None)
    return Outline(
        seen,
        tuple(_argument(name, value, seen, watch) for name, value in given_arrays.items() if _is_array(value)),
        {name: value for name, value in given_arrays.items() if isinstance(value, int) and not isinstance(value, bool)},
    )


class _Precision:
    """As much of bound data as parameters need."""

    dtype = torch.float32
    device = torch.device("cpu")
    generator = None


def _is_array(value: object) -> bool:
    return isinstance(value, Tensor | float | bool)


def _argument(name: str, value: Any, seen: Seen, watch: _Positions) -> Argument:
    array = torch.as_tensor(value)
    whole = [site for site in seen.sites.values() if site.observed and _same(site.value, array)]
    return Argument(name, tuple(array.shape), array.dtype, whole[0] if whole else None, watch.sizes.get(name))


def _same(observed: Tensor, array: Tensor) -> bool:
    return observed is array or (observed.shape == array.shape and bool((observed == array).all()))


class _Positions(TorchFunctionMode):
    """Watches which arrays are used as positions, and of axes of what size."""

    def __init__(self, arrays: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._names = {id(array): name for name, array in arrays.items() if _whole(array)}
        self._kept: list[Tensor] = []  # an id is a tensor's only as long as the tensor lives
        self.sizes: dict[str, int] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name == "__getitem__":
            self._item(args[0], args[1] if isinstance(args[1], tuple) else (args[1],))
        elif name in ("index_select", "gather") and len(args) == 3:
            self._use(args[2], args[0].shape[args[1]])
        elif name == "embedding":
            self._use(args[0], args[1].shape[0])
        if name in _KEEPING and id(args[0]) in self._names and isinstance(result, Tensor) and _whole(result):
            self._names[id(result)] = self._names[id(args[0])]
            self._kept.append(result)
        return result

    def _item(self, base: Tensor, key: tuple[Any, ...]) -> None:
        taken = [part for part in key if part is not None]
        axis = 0
        for position, part in enumerate(taken):
            if part is Ellipsis:
                axis = base.ndim - (len(taken) - 1 - position)
                continue
            if isinstance(part, Tensor) and axis < base.ndim:
                self._use(part, base.shape[axis])
            axis += 1

    def _use(self, index: object, size: int) -> None:
        name = self._names.get(id(index))
        if name is not None:
            self.sizes.setdefault(name, size)


def _whole(array: Tensor) -> bool:
    return not array.is_floating_point() and array.dtype != torch.bool
