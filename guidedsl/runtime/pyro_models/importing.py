"""The Python function that an interface names, and the arguments that it is called with."""

from __future__ import annotations

import importlib
import inspect
import os
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from guidedsl.runtime import constraints
from guidedsl.runtime.errors import GuidedslError
from guidedsl.runtime.metadata import Field, attribute_of
from guidedsl.runtime.model import Model
from guidedsl.runtime.pyro_models.names import as_written

PyroFunction = Callable[..., object]


def require_pyro(what: str) -> None:
    """Raises GuidedslError where Pyro is not installed."""
    try:
        importlib.import_module("pyro")
    except ImportError as error:
        raise GuidedslError(f"{what} needs Pyro: pip install guidedsl[pyro] ({error})") from None


def imported_model(path: str, what: str) -> PyroFunction:
    """The function, or the module that is called like one, that `package.module:name` names.

    Raises GuidedslError that says why it cannot be had: `what` is what needs it.
    """
    require_pyro(what)
    module, colon, name = path.partition(":")
    if not colon or not module or not name:
        raise GuidedslError(f'{what} comes from "{path}"; write "module:function"')
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:  # a module runs whatever code it has
        raise GuidedslError(f"{what} comes from {path}, which cannot be imported: {_failure(error)}") from error
    for part in name.split("."):
        if not hasattr(found, part):
            where = getattr(found, "__file__", None) or module
            raise GuidedslError(f"{what} comes from {path}, and {where} has no `{part}`")
        found = getattr(found, part)
    if inspect.isclass(found) or not callable(found):
        kind = "a class: name an instance of it" if inspect.isclass(found) else f"{found!r}: it must be a function"
        raise GuidedslError(f"{what} comes from {path}, which is {kind}")
    return found  # type: ignore[no-any-return]


def _failure(error: Exception) -> str:
    """An error of an import with the line that it comes from, if that is not the import itself."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: {error.msg}"
    shown = f"{type(error).__name__}: {error}" if not isinstance(error, ImportError) else str(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    inside = not last.filename.startswith("<frozen") and os.sep + "importlib" + os.sep not in last.filename
    return f"{last.filename}:{last.lineno}: {shown}" if inside else shown


@dataclass(frozen=True)
class Signature:
    """What a function can be called with, by keyword. `open` where it has `**kwargs`."""

    accepted: tuple[str, ...]
    required: tuple[str, ...]
    open: bool

    def takes(self, name: str) -> bool:
        """Whether there is an argument that a program calls so."""
        return self.open or any(as_written(argument, (name,)) == name for argument in self.accepted)

    def __str__(self) -> str:
        shown = [name if name in self.required else f"{name}=…" for name in self.accepted]
        return f"({', '.join([*shown, *(['**'] if self.open else [])])})"


def signature_of(function: PyroFunction) -> Signature:
    """The arguments that go by name; a function that does not tell takes anything."""
    target = function.forward if isinstance(function, nn.Module) else function
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return Signature((), (), True)
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY, p.POSITIONAL_ONLY)]
    return Signature(
        tuple(p.name for p in named),
        tuple(p.name for p in named if p.default is p.empty),
        any(p.kind is p.VAR_KEYWORD for p in parameters),
    )


def arguments(model: Model, signature: Signature, data: Any) -> dict[str, object]:
    """The function's arguments by name: fields as written, with all rows that there are, and dims as numbers."""
    full = data.full
    given: dict[str, object] = {dim.name: getattr(full, attribute_of(dim.name)) for dim in model.dims}
    fields = [field for field in model.fields if field.role != "derived" and field.name not in full.missing]
    given |= {field.name: _as_argument(field, getattr(full, field.attribute)) for field in fields}
    found = {name: given[written] for name in signature.accepted if (written := as_written(name, given)) in given}
    if signature.open:
        left = [
            field.name for field in fields if not any(as_written(name, (field.name,)) == field.name for name in found)
        ]
        found |= {name: given[name] for name in left}
    return found


def _as_argument(field: Field, value: Tensor) -> Tensor:
    """A field with its axes as written; data of type bool as torch's bool, which masks need."""
    if field.order is not None:
        value = value.permute(*_inverse(field.order), *range(len(field.order), value.ndim))
    return value.bool() if field.role == "data" and field.constraint is constraints.boolean else value


def _inverse(order: tuple[int, ...]) -> list[int]:
    return sorted(range(len(order)), key=lambda axis: order[axis])


def read_arguments(fields: Mapping[str, object], names: tuple[str, ...]) -> dict[str, object]:
    """Arrays of a data file as arguments of a model that no program declares yet: numbers that are whole stay so."""
    found: dict[str, object] = {}
    for name in names:
        if name in fields:
            found[name] = _read(fields[name])
    return found


def _read(value: object) -> object:
    if value is None or isinstance(value, str | bool | int | float):
        return value
    try:
        tensor = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        return value
    return tensor.to(torch.get_default_dtype()) if tensor.is_floating_point() else tensor
