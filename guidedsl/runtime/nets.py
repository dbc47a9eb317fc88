"""Nets and externs: made or found on first use, called on one batch axis, checked on the first call.

A generated net is a module class of the generated file, whose layers broadcast over any axes in front. A net from
outside sees `[batch, event...]`: particles and plates are flattened to one axis, and what it returns gets them back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from guidedsl.runtime.constraint_base import Constraint, shorten
from guidedsl.runtime.default_store import get_param_store
from guidedsl.runtime.errors import InferenceError
from guidedsl.runtime.metadata import attribute_of
from guidedsl.runtime.params import ParamStore
from guidedsl.runtime.sizes import evaluate

if TYPE_CHECKING:
    from guidedsl.runtime.data import Data

Made = TypeVar("Made")


@dataclass(frozen=True)
class Value:
    """An input or an output of a signature: event dims as size strings, and where values live."""

    name: str
    event: tuple[str, ...]
    constraint: Constraint


@dataclass(frozen=True)
class Extern:
    """A Python function that a `.guide` file names, imported on first use.

    It is called with tensors [batch, event...], particles and plates flattened to one axis, and returns such tensors,
    as many as there are outputs.
    """

    name: str
    origin: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    _calls: dict[tuple[int, ...], _Flattened] = field(default_factory=dict, repr=False, compare=False)

    def __call__(self, data: Data, *arguments: Tensor) -> Any:
        """The outputs, [particles..., plates..., event...].

        Raises InferenceError if the function cannot be imported, or if the first call for these sizes returns what the
        signature does not promise.
        """
        sizes = tuple(_dims(data).values())
        call = self._calls.get(sizes)
        if call is None:
            call = _Flattened(self.name, imported(self.origin, f"extern {self.name}"), self.inputs, self.outputs, data)
            self._calls[sizes] = call
        return call(*arguments)


@dataclass(frozen=True)
class PassedNet:
    """A net that the user passes in: a module, registered under the net's name."""

    name: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]

    def make(self, data: Data) -> nn.Module:
        """Raises InferenceError: there is nothing to make it from."""
        short = self.name.rpartition(".")[2]
        raise InferenceError(
            f"net {self.name} is to be passed in, and was not: give it to the fit, "
            f"`Guide.fit(data, nets={{{short!r}: module}})`, or register it before, "
            f"`guidedsl.module({self.name!r}, module, store=store)`"
        )


@dataclass(frozen=True)
class ImportedNet:
    """A net whose class a `.guide` file names, imported on first use and called with `options` of the data."""

    name: str
    origin: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    options: Callable[[Any], Mapping[str, Any]] = lambda data: {}

    def make(self, data: Data) -> nn.Module:
        """A new module. Raises InferenceError if it cannot be imported or made, or is no module."""
        maker, options = imported(self.origin, f"net {self.name}"), dict(self.options(data))
        try:
            made = maker(**options)
        except Exception as error:
            shown = ", ".join(f"{key} = {value!r}" for key, value in options.items())
            raise InferenceError(f"net {self.name}: {self.origin}({shown}) fails: {error}") from error
        if not isinstance(made, nn.Module):
            raise InferenceError(f"net {self.name}: {self.origin} gives {shorten(made)}, not a torch.nn.Module")
        return made


@dataclass(frozen=True)
class BoundNet:
    """A net of a store as generated code calls it, with the precision and the device that it is for."""

    call: Callable[..., Any]
    dtype: torch.dtype
    device: torch.device


def net(
    store: ParamStore | None, name: str, source: Callable[[], nn.Module] | PassedNet | ImportedNet, data: Any
) -> Callable[..., Any]:
    """The net `name` of `store`, made from `source` on first use, in the data's precision and on its device.

    A new one starts from torch's own initialisation, seeded from the data's generator; torch's global generator stays
    as it was. Weights that the store has already, from a file, are taken over.

    Raises InferenceError if it cannot be made, or is of another precision or on another device than the data,
    ParamError if the store's weights do not fit it.
    """
    store = get_param_store(store)
    bound: BoundNet | None = store.nets.get(name)
    if bound is None or bound.dtype is not data.dtype or bound.device != data.device:
        bound = store.nets[name] = _bind(store, name, source, data)
    return bound.call


def _bind(
    store: ParamStore, name: str, source: Callable[[], nn.Module] | PassedNet | ImportedNet, data: Any
) -> BoundNet:
    module = store.modules.get(name)
    outside = isinstance(source, PassedNet | ImportedNet)
    if module is None:
        # A net that is passed in raises here.
        make = (lambda: source.make(data)) if isinstance(source, PassedNet | ImportedNet) else source
        module = store.module(name, seeded(make, data).to(data.device, data.dtype))
    for local, weight in module.named_parameters():
        if weight.dtype != data.dtype or weight.device != data.device:
            raise InferenceError(
                f"net {name} is {weight.dtype} on {weight.device} ({local}), "
                f"the data is {data.dtype} on {data.device}: "
                "move one of them, `module.to(data.device, data.dtype)` or `data.to(device, dtype)`"
            )
    call: Callable[..., Any] = module
    if outside:
        assert isinstance(source, PassedNet | ImportedNet)
        call = _Flattened(name, module, source.inputs, source.outputs, data)
    return BoundNet(call, data.dtype, data.device)


def seeded(make: Callable[[], Made], data: Any) -> Made:
    """What `make` gives, a module most often, made on the CPU under a seed from the data's generator.

    If that has none, the seed is from torch's global one.
    """
    generator: torch.Generator | None = data.generator
    device = "cpu" if generator is None else generator.device
    seed = int(torch.randint(2**62, (), generator=generator, device=device))
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
        torch.default_generator.manual_seed(seed)
        return make()


def imported(origin: str, what: str) -> Callable[..., Any]:
    """What `package.module:name` names. Raises InferenceError if it cannot be imported or called."""
    module, _, path = origin.partition(":")
    try:
        found: Any = import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except Exception as error:  # a module runs whatever code it has
        raise InferenceError(f"{what} comes from {origin}, which cannot be imported: {error}") from error
    if not callable(found):
        raise InferenceError(f"{what} comes from {origin}, which is {shorten(found)} and cannot be called")
    return found  # type: ignore[no-any-return]


def register(store: ParamStore, nets: Mapping[str, nn.Module], wanted: Sequence[str], data: Any, guide: str) -> None:
    """Makes modules the nets of their names: `decoder` or, where two are called so, `VAE.decoder`.

    They are moved to the data's device and precision. Raises InferenceError for a name that is no passed-in net of the
    guide or its model, for one that two have, and for what is no module.
    """
    for key, module in nets.items():
        found = [name for name in wanted if key in (name, name.rpartition(".")[2])]
        if len(found) != 1:
            known = ", ".join(wanted) if wanted else "none"
            problem = "two nets have this name" if found else "there is no such net to pass in"
            raise InferenceError(f"nets={{{key!r}: …}}: {problem}; those of {guide} are {known}")
        if not isinstance(module, nn.Module):
            raise InferenceError(f"nets={{{key!r}: …}} is {shorten(module)}, not a torch.nn.Module")
        store.module(found[0], module.to(data.device, data.dtype))


# Calls from outside

_ran: ContextVar[list[str] | None] = ContextVar("ran", default=None)


@contextmanager
def outside_code() -> Iterator[list[str]]:
    """The names of the nets and externs, of code that no `.guide` file wrote, that are called in here."""
    ran: list[str] = []
    token = _ran.set(ran)
    try:
        yield ran
    finally:
        _ran.reset(token)


def _dims(data: Any) -> dict[str, int]:
    return {dim.name: getattr(data, attribute_of(dim.name)) for dim in data.schema.dims}


class _Flattened:
    """A function of tensors [batch, event...] as one of [particles..., plates..., event...]; its first call checked."""

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        inputs: tuple[Value, ...],
        outputs: tuple[Value, ...],
        data: Any,
    ) -> None:
        self.name, self.function, self.outputs = name, function, outputs
        self.ranks = [len(value.event) for value in inputs]
        self.dims, self.dtype = _dims(data), data.dtype
        self.trusted = False

    def __call__(self, *arguments: Tensor) -> Any:
        ran = _ran.get()
        if ran is not None:
            ran.append(self.name)
        splits = [value.ndim - rank for value, rank in zip(arguments, self.ranks, strict=True)]
        batch = torch.broadcast_shapes(*(value.shape[:split] for value, split in zip(arguments, splits, strict=True)))
        rows = math.prod(batch)
        flat = []
        for value, split in zip(arguments, splits, strict=True):
            event = value.shape[split:]
            flat.append(value.expand((*batch, *event)).reshape((rows, *event)))
        returned = self.function(*flat)
        results = returned if len(self.outputs) > 1 else (returned,)
        if not self.trusted:
            self._check(returned, results, (rows,) if arguments else ())
            self.trusted = True
        if not arguments:
            return returned
        shaped = [result.reshape((*batch, *result.shape[1:])) for result in results]
        return tuple(shaped) if len(shaped) > 1 else shaped[0]

    def _check(self, returned: Any, results: Any, batch: tuple[int, ...]) -> None:
        """Raises InferenceError if the results are not what the signature promises."""
        count = len(self.outputs)
        if count > 1 and (not isinstance(returned, tuple | list) or len(returned) != count):
            got = f"{len(returned)} values" if isinstance(returned, tuple | list) else shorten(returned)
            names = ", ".join(value.name for value in self.outputs)
            raise InferenceError(f"{self.name} returned {got}, declared {count}: ({names})")
        for value, result in zip(self.outputs, results, strict=True):
            problem = self._problem(value, result, batch)
            if problem is not None:
                at = f" for `{value.name}`" if value.name else ""
                raise InferenceError(f"{self.name} returned {problem}{at}, declared {self._declared(value)}")

    def _declared(self, value: Value) -> str:
        """`real[D] with D = 20`, and how particles and plates come in front."""
        written = f"{value.constraint}[{', '.join(value.event)}]" if value.event else str(value.constraint)
        sizes = [f"{size} = {evaluate(size, self.dims)}" for size in value.event if not size.isdecimal()]
        bound = f" with {', '.join(dict.fromkeys(sizes))}" if sizes else ""
        return f"{written}{bound}; a net or an extern gets and returns [batch, event...]"

    def _problem(self, value: Value, result: Any, batch: tuple[int, ...]) -> str | None:
        if not isinstance(result, Tensor):
            return shorten(result)
        event = tuple(evaluate(size, self.dims) for size in value.event)
        if tuple(result.shape) != (*batch, *event):
            return f"{list(result.shape)}, not {[*batch, *event]}"
        if result.is_floating_point() and result.dtype != self.dtype:
            return f"{result.dtype} where the data is {self.dtype}"
        inside = value.constraint.check(result.detach())
        if not bool(inside.all()):
            return f"values outside {value.constraint}, {int((~inside).sum())} of {inside.numel()}"
        return None
