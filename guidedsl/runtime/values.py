"""Whether the values of an array are of its type, and which one is not."""

from __future__ import annotations

import torch
from torch import Tensor

from guidedsl.runtime.arrays import number_text, place
from guidedsl.runtime.constraints import Constraint
from guidedsl.runtime.faults import fault


def _not_of_type(constraint: Constraint, at: list[int]) -> str:
    if constraint.batched_bounds or len(constraint.bounds) == 2:
        return f"is not {constraint.meaning.replace('the bounds', _bounds_at(constraint, at))}"
    text = str(constraint)
    return f"is not {text}" if text in {"real", "positive", "nonnegative"} else f"is not {constraint.meaning} ({text})"


def _bounds_at(constraint: Constraint, at: list[int]) -> str:
    """The bounds of one row: `0 and 5`."""
    found = []
    for bound in constraint.bounds:
        if isinstance(bound, Tensor):
            own = zip(at[len(at) - bound.ndim :], bound.shape, strict=True)
            bound = float(bound[tuple(0 if size == 1 else row for row, size in own)])
        found.append(number_text(bound))
    return " and ".join(found)


def _more(bad: Tensor) -> str:
    others = int(bad.sum()) - 1
    return f" ({others} more like it)" if others else ""


def _excuse(name: str, role: str) -> str:
    """What lets an observed value be missing."""
    if role != "observed":
        return ""
    return f"; to leave out what is missing: `data {name}_there : bool`, and `observed {name} : … when {name}_there`"


def _first(bad: Tensor) -> list[int]:
    index: list[int] = bad.nonzero()[0].tolist()
    return index


def value_problems(
    name: str,
    raw: Tensor,
    dtype: torch.dtype,
    constraint: Constraint | None,
    skip_nan: bool = False,
    index_base: int = 0,
    index_size: int | None = None,
    index_of: str | None = None,
    role: str = "data",
) -> list[str]:
    """What is wrong with the values of `raw`, at most one message for each kind of wrong.

    `raw` is as the caller gave it, so that places and numbers in messages are the caller's. With `index_of`, entries
    are positions `index_base` … `index_base + index_size - 1`. Otherwise they are cast to `dtype` and checked against
    `constraint` (None: not yet known).
    """
    if raw.numel() == 0:
        return []
    nan = raw.isnan() if raw.is_floating_point() else torch.zeros_like(raw, dtype=torch.bool)
    problems: list[str] = []
    if not skip_nan and bool(nan.any()):
        problems.append(f"{place(name, _first(nan))} is missing (NaN or null){_more(nan)}{_excuse(name, role)}")
    if index_of is not None:
        return problems + _index_problems(name, raw, nan, index_base, index_size, index_of)
    value = raw.to(dtype)
    infinite = value.isinf()
    if bool(infinite.any()):
        at = _first(infinite)
        shown = number_text(float(raw[tuple(at)]))
        beyond = "" if not bool(raw[tuple(at)].isfinite()) else f" in {str(dtype).removeprefix('torch.')}"
        problems.append(f"{place(name, at)} = {shown} is not finite{beyond}{_more(infinite)}")
    if constraint is None or problems:
        return problems
    ok = constraint.check(value)
    own = constraint.event_dim
    unknown = nan.flatten(nan.ndim - own).any(-1) if own else nan
    bad = ~ok & ~unknown
    if bool(bad.any()):
        at = _first(bad)
        entry = raw[tuple(at)]
        shown = number_text(float(entry)) if entry.ndim == 0 else _row_text(entry)
        why = f": {fault(constraint, entry)}" if entry.ndim and not constraint.discrete else ""
        problems.append(f"{place(name, at)} = {shown} {_not_of_type(constraint, at)}{why}{_more(bad)}")
    return problems


def _row_text(row: Tensor) -> str:
    if row.numel() > 16:
        return f"an array of shape {list(row.shape)}"
    if row.ndim == 1:
        return f"[{', '.join(number_text(float(item)) for item in row)}]"
    return f"[{', '.join(_row_text(item) for item in row)}]"


def _index_problems(name: str, raw: Tensor, nan: Tensor, base: int, size: int | None, of: str) -> list[str]:
    if raw.is_floating_point():
        fraction = ~nan & (raw != raw.floor())
        if bool(fraction.any()):
            at = _first(fraction)
            shown = number_text(float(raw[tuple(at)]))
            return [f"{place(name, at)} = {shown} is not a whole number, so it cannot point into {of}{_more(fraction)}"]
    if size is None:
        return []
    outside = ~nan & ((raw < base) | (raw >= base + size))
    if not bool(outside.any()):
        return []
    at = _first(outside)
    shown = number_text(float(raw[tuple(at)]))
    allowed = f"{base} to {base + size - 1}" if size else f"nothing: {of} is empty"
    message = f"{place(name, at)} = {shown} is outside {of}, which has {size}: allowed is {allowed}{_more(outside)}"
    if base == 0 and bool((raw == size).any()) and not bool((raw == 0).any()):
        message += f"; if the data counts from 1, declare it index({of}, base = 1)"
    return [message]
