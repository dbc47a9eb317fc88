"""From what a caller gives to a parameter's coordinates, and which rows of them a step sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Real

import torch
from torch import Tensor

from guidedsl.runtime.constraint_base import Constraint, shorten
from guidedsl.runtime.errors import ParamError
from guidedsl.runtime.plates import Plate

_SHOWN = 8


def initial_tensor(name: str, init: object, dtype: torch.dtype | None = None) -> Tensor:
    """The floating-point tensor of an init: a number, a tensor, or a callable that gives one. Not a copy.

    Numbers and integer tensors get `dtype`, the default dtype if None. Raises ParamError for anything else; what a
    callable raises passes through, with a note.
    """
    if callable(init) and not isinstance(init, Tensor):
        init = _called(name, init)
    dtype = torch.get_default_dtype() if dtype is None else dtype
    if isinstance(init, Tensor):
        if init.is_complex():
            raise ParamError(f"parameter {name!r}: the init is {init.dtype}; give a real tensor.")
        return init.detach() if init.is_floating_point() else init.to(dtype)
    if isinstance(init, Real):
        try:
            return torch.tensor(float(init), dtype=dtype)
        except OverflowError:
            raise ParamError(f"parameter {name!r}: {shorten(init)} is too large for a float.") from None
    raise ParamError(
        f"parameter {name!r}: the init is a number, a tensor, or a callable that gives one, got {shorten(init)}; "
        "wrap it in torch.tensor(…)."
    )


def _called(name: str, init: Callable[[], object]) -> object:
    try:
        return init()
    except Exception as error:
        error.add_note(f"in the init of parameter {name!r}")
        raise


def free_coordinates(name: str, value: Tensor, constraint: Constraint, what: str) -> Tensor:
    """The unconstrained coordinates of a value, checked. `what` names the value in messages.

    Raises ParamError for a value that is not finite, outside the constraint or on its boundary, or of a shape that the
    constraint cannot have.
    """
    with torch.no_grad():
        try:
            expected = constraint.free_shape(tuple(value.shape))
            finite = value.isfinite()
            if not bool(finite.all()):
                shown = _first(value, finite, 0)
                raise ParamError(f"the {what} {shown} is not finite as {value.dtype}; give finite numbers.")
            inside = constraint.check(value)
            if not bool(inside.all()):
                shown = _first(value, inside, constraint.event_dim)
                raise ParamError(
                    f"the {what} {shown} is not {constraint}; start inside the support: {constraint.meaning}."
                )
        except ParamError as error:
            raise ParamError(f"parameter {name!r}: {error}") from None
        free = constraint.free(value)
        reached = free.isfinite()
        if not bool(reached.all()):
            reached = reached.all(-1) if constraint.event_dim else reached
            shown = _first(value, reached, constraint.event_dim)
            raise ParamError(
                f"parameter {name!r}: the {what} {shown} is on the boundary of {constraint}, which no finite "
                "unconstrained coordinates reach; move it a little inside."
            )
        return free.expand(expected)


def _first(value: Tensor, ok: Tensor, event_dim: int) -> str:
    """The first bad event of a value, and where it is."""
    at = tuple((~ok).nonzero()[0].tolist())
    event = value[at]
    if event.numel() > _SHOWN * _SHOWN or max(event.shape, default=0) > _SHOWN:
        shown = f"of shape {list(event.shape)}"
    else:
        shown = str(_tidy(event.tolist()))
    return f"{shown} at {list(at)}" if at else shown


def _tidy(value: object) -> object:
    """Numbers with the digits that a person wrote, not those of the binary fraction."""
    if isinstance(value, list):
        return [_tidy(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def row_picks(name: str, shape: tuple[int, ...], event_dim: int, plates: Sequence[Plate]) -> list[tuple[int, Tensor]]:
    """Which dims (from the right, of the constrained value) to take which rows of, for a parameter in `plates`.

    Plates without a `dim` stand outermost first, the last one on batch dim -1. A dim that is absent or of size 1 is
    shared by all rows. Raises ParamError for any other size than the plate's, or two plates on one dim.
    """
    picks: list[tuple[int, Tensor]] = []
    taken: dict[int, Plate] = {}
    for position, plate in enumerate(plates, start=-len(plates)):
        batch_dim = position if plate.dim is None else plate.dim
        other = taken.setdefault(batch_dim, plate)
        if other is not plate:
            raise ParamError(
                f"parameter {name!r}: plates {other.name!r} and {plate.name!r} are both on dim {batch_dim}; "
                "give each its own dim, or none to either."
            )
        dim = batch_dim - event_dim
        if -dim > len(shape):
            continue
        size = shape[dim]
        if size != plate.size:
            if size == 1:
                continue
            raise ParamError(_wrong_size(name, shape, event_dim, dim, plate))
        if plate.rows is not None:
            picks.append((dim, plate.rows))
    return picks


def _wrong_size(name: str, shape: tuple[int, ...], event_dim: int, dim: int, plate: Plate) -> str:
    message = (
        f"parameter {name!r} of shape {list(shape)} has size {shape[dim]} on dim {dim}, "
        f"but plate {plate.name!r} there has size {plate.size}"
    )
    if plate.rows is not None and shape[dim] == plate.length:
        message += f": that is the size of one batch of it, which other batches would share; make it {plate.size} long"
    else:
        message += f"; make it {plate.size} long, or 1 to share one value"
    if event_dim < len(shape):
        message += f"; or, if that dim is not the plate's, pass another event_dim (it is {event_dim})"
    return message + "."
