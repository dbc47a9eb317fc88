"""One parameter of a store: its leaf, its constraint, how it is read, and what would contradict it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from guidedsl.runtime import constraints
from guidedsl.runtime.constraint_base import Constraint, shorten
from guidedsl.runtime.constraints import as_constraint
from guidedsl.runtime.errors import ParamError
from guidedsl.runtime.param_files import Record
from guidedsl.runtime.param_values import row_picks
from guidedsl.runtime.plates import Plate


class Leaf(nn.Parameter):
    """The unconstrained coordinates of a parameter: what an optimiser changes. Pickles as a plain nn.Parameter."""

    def unconstrained(self) -> Tensor:
        """Itself, so that every value from the store has this method."""
        return self


@dataclass(frozen=True, eq=False, slots=True)
class Entry:
    """A parameter: its leaf, and what it was registered with. `shape` is that of the constrained value, all rows.

    `claimed` is False for a parameter that a file or a state brought and that code has not registered yet.
    """

    name: str
    leaf: Tensor
    constraint: Constraint
    event_dim: int
    shape: tuple[int, ...]
    lr: float | None
    frozen: bool
    claimed: bool = True

    def record(self) -> Record:
        """What is stored of it besides the leaf."""
        return Record(self.constraint, self.event_dim, self.shape, self.lr, self.frozen)


def value_of(entry: Entry, plates: Sequence[Plate]) -> Tensor:
    """The constrained value with its method `unconstrained`; of the rows of `plates`. Raises ParamError for sizes."""
    leaf, constraint = entry.leaf, entry.constraint
    picks = row_picks(entry.name, entry.shape, entry.event_dim, plates) if plates else ()
    if not picks:
        value = constraint.constrain(leaf)
    elif constraint.batched_bounds:
        value = _select(entry.name, constraint.constrain(leaf), picks, 0)
    else:
        # The leaf's batch dims stand elsewhere from the right if the type has fewer free dims than event dims.
        shift = constraint.event_dim - constraint.free_event_dim
        value = constraint.constrain(_select(entry.name, leaf, picks, shift))
    if value is not leaf:
        value.unconstrained = partial(_itself, leaf)  # type: ignore[attr-defined]
    return value


def _select(name: str, tensor: Tensor, picks: Sequence[tuple[int, Tensor]], shift: int) -> Tensor:
    try:
        for dim, rows in picks:
            tensor = tensor.index_select(dim + shift, rows)
    except (IndexError, RuntimeError) as error:
        raise ParamError(f"parameter {name!r}: the rows of its plates do not fit it: {error}") from None
    return tensor


def _itself(leaf: Tensor) -> Tensor:
    return leaf


def new_leaf(free: Tensor, frozen: bool) -> Leaf:
    """A leaf that is a copy of these coordinates."""
    # Not an inference tensor, whoever asks first: it is going to need a gradient.
    with torch.inference_mode(False):
        return Leaf(free.detach().clone(memory_format=torch.contiguous_format), requires_grad=not frozen)


def overwrite(leaf: Tensor, free: Tensor) -> None:
    """New coordinates in the same leaf."""
    with torch.no_grad():
        leaf.copy_(free)


def loaded_entry(name: str, record: Record, free: Tensor, device: torch.device | None) -> Entry:
    """The entry of a parameter that a file or a state brought."""
    leaf = new_leaf(free.to(free.device if device is None else device), record.frozen)
    return Entry(name, leaf, record.constraint, record.event_dim, record.shape, record.lr, record.frozen, claimed=False)


def module_entry(name: str, parameter: nn.Parameter) -> Entry:
    """The entry of a module's parameter, which is the leaf itself."""
    if type(parameter) is nn.Parameter:
        parameter.__class__ = Leaf
    shape, frozen = tuple(parameter.shape), not parameter.requires_grad
    return Entry(name, parameter, constraints.real, len(shape), shape, None, frozen)


def replace_parameter(nn_module: nn.Module, old: nn.Parameter, new: Tensor) -> None:
    """Puts `new` wherever the module has `old`: tied parameters stay tied."""
    for part in nn_module.modules():
        for local, parameter in list(part.named_parameters(recurse=False, remove_duplicate=False)):
            if parameter is old:
                setattr(part, local, new)


def module_problem(name: str, parameter: nn.Parameter, entry: Entry | None) -> str | None:
    """Why a module's parameter cannot be registered under a name that has this entry, or None."""
    if not is_name(name):
        return f"{shorten(name)} is not a name of a parameter: give the module a printable name."
    if isinstance(parameter, nn.parameter.UninitializedParameter):
        return f"parameter {name!r} has no shape yet: run the lazy module once before registering it."
    if not parameter.is_floating_point():
        return f"parameter {name!r} is {parameter.dtype}, which cannot be learned: use a floating-point type."
    if entry is None:
        finite = bool(parameter.detach().isfinite().all())
        return None if finite else f"parameter {name!r} of the module is NaN or infinite: initialise it again."
    if entry.constraint != constraints.real:
        return str(conflict(name, "constraint", entry.constraint, constraints.real))
    if entry.shape != tuple(parameter.shape):
        return str(conflict(name, "shape", list(entry.shape), list(parameter.shape)))
    if not entry.claimed:
        fits = bool(entry.leaf.detach().to(parameter.dtype).isfinite().all())
        return None if fits else f"parameter {name!r}: the loaded values are too large for {parameter.dtype}."
    if entry.leaf.dtype != parameter.dtype or entry.leaf.device != parameter.device:
        mine, theirs = (f"{p.dtype} on {p.device}" for p in (entry.leaf, parameter))
        return str(conflict(name, "type", mine, theirs))
    return None


def mismatches(entry: Entry, record: Record, free: Tensor) -> list[str]:
    """What differs between a parameter and what a file has under its name."""
    pairs = (
        ("constraint", entry.constraint, record.constraint),
        ("event_dim", entry.event_dim, record.event_dim),
        ("shape", list(entry.shape), list(record.shape)),
    )
    problems = [
        f"{entry.name!r}: {what} is {mine} here, {theirs} there" for what, mine, theirs in pairs if mine != theirs
    ]
    if not bool(free.to(entry.leaf.dtype).isfinite().all()):
        problems.append(f"{entry.name!r}: its values are too large for {entry.leaf.dtype}")
    return problems


def conflict(name: str, what: str, old: object, new: object) -> ParamError:
    """The error of a second registration that differs from the first."""
    return ParamError(
        f"parameter {name!r} is registered with {what} {old}, and now with {new}; "
        "give one of them another name, make them agree, or delete the old one (store.clear())."
    )


def constraint_and_event_dim(name: str, constraint: Any, event_dim: int | None) -> tuple[Constraint, int]:
    """Our constraint for any accepted one, and the event_dim that a caller means. Raises ParamError."""
    try:
        ours = as_constraint(constraint)
        if not ours.has_bijection:
            ours.free_shape(())
    except ParamError as error:
        raise ParamError(f"parameter {name!r}: {error}") from None
    if event_dim is None:
        # torch's independent(c, n) says how many event dims there are; ours leave that to event_dim.
        return ours, int(constraint.event_dim)
    if isinstance(event_dim, bool) or not isinstance(event_dim, int):
        raise ParamError(f"parameter {name!r}: event_dim is a whole number or None, got {shorten(event_dim)}.")
    return ours, event_dim


def check_lr(name: str, lr: object) -> None:
    """Raises ParamError for a learning rate that cannot be one."""
    if lr is None or (isinstance(lr, int | float) and not isinstance(lr, bool) and 0 <= lr <= sys.float_info.max):
        return
    raise ParamError(f"parameter {name!r}: lr is a number from 0 on, or None for the optimiser's, got {shorten(lr)}.")


def is_name(name: object) -> bool:
    """Whether a parameter may be called this: safetensors keeps one name for itself."""
    return isinstance(name, str) and name.isprintable() and name not in ("", "__metadata__")


def check_name(name: object) -> None:
    """Raises ParamError for what is not a name."""
    if not is_name(name):
        raise ParamError(f"the name of a parameter is a printable string, got {shorten(name)}.")
