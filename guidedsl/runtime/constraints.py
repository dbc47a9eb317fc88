"""Supports and their bijections.

A `Constraint` says where a value lives and, unless it is check-only, carries a bijection from unconstrained
coordinates. Values are immutable and compare by value. Scalars keep their shape; a structured type (vector or matrix)
has one trailing axis of as many unconstrained coordinates as it has degrees of freedom. Everything is batched over
leading axes and differentiable.

Any finite unconstrained coordinates give a value that passes `check`. Where floating point would round it out of the
set (`exp(1e4)`), the coordinates or the value are clamped, and the gradient of what is clamped is zero.

Sources: the transforms are those of the Stan Reference Manual, "Constraint Transforms"; the correlation factor is that
of Lewandowski, Kurowicka and Joe (2009), "Generating random correlation matrices based on vines and extended onion
method".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from guidedsl.runtime.constraint_base import Bound, Constraint, shorten, show_bound
from guidedsl.runtime.constraint_matrices import Corr, CorrCholesky, Cov, LowerCholesky, UnitLowerCholesky
from guidedsl.runtime.constraint_scalars import (
    Boolean,
    Count,
    GreaterThan,
    Integer,
    IntegerInterval,
    Interval,
    LessThan,
    Nonnegative,
    Positive,
    Real,
    Unit,
)
from guidedsl.runtime.constraint_vectors import OneHot, Ordered, PositiveOrdered, Simplex, UnitVector, ZeroSum
from guidedsl.runtime.errors import ParamError

__all__ = [
    "Constraint",
    "as_constraint",
    "boolean",
    "corr",
    "corr_cholesky",
    "count",
    "cov",
    "from_json",
    "greater_than",
    "integer",
    "integer_interval",
    "interval",
    "less_than",
    "lower_cholesky",
    "nonnegative",
    "one_hot",
    "ordered",
    "positive",
    "positive_ordered",
    "real",
    "simplex",
    "unit",
    "unit_lower_cholesky",
    "unit_vector",
    "zero_sum",
]

real = Real()
positive = Positive()
nonnegative = Nonnegative()
unit = Unit()
simplex = Simplex()
ordered = Ordered()
positive_ordered = PositiveOrdered()
zero_sum = ZeroSum()
unit_vector = UnitVector()
lower_cholesky = LowerCholesky()
unit_lower_cholesky = UnitLowerCholesky()
corr_cholesky = CorrCholesky()
corr = Corr()
cov = Cov()
boolean = Boolean()
count = Count()
integer = Integer()
one_hot = OneHot()


def interval(low: Bound, high: Bound) -> Constraint:
    """Between two bounds, numbers or tensors that broadcast from the right. Raises ParamError if it is empty."""
    low, high = _as_bound(low, "interval"), _as_bound(high, "interval")
    if isinstance(low, float) and isinstance(high, float) and not 0 < high - low < math.inf:
        edit = "swap the bounds" if low > high else "give a lower and a higher bound, not too far apart for a float"
        raise ParamError(f"interval({show_bound(low)}, {show_bound(high)}) is empty or too wide: {edit}.")
    return Interval(low, high)


def greater_than(low: Bound) -> Constraint:
    """Above a bound, a number or a tensor that broadcasts from the right."""
    return GreaterThan(_as_bound(low, "greater_than"))


def less_than(high: Bound) -> Constraint:
    """Below a bound, a number or a tensor that broadcasts from the right."""
    return LessThan(_as_bound(high, "less_than"))


def integer_interval(low: float | Tensor, high: float | Tensor) -> Constraint:
    """Whole numbers from `low` to `high`, both included; either may be infinite, and tensors broadcast from the right.

    Raises ParamError where a bound is not whole, or the low one is above the high one.
    """
    for bound in (low, high):
        if isinstance(bound, Tensor) or abs(bound) == math.inf:
            continue
        if isinstance(bound, bool) or not isinstance(bound, int) or abs(bound) >= 2**63:
            raise ParamError(f"the bounds of int(a, b) are whole numbers of 64 bits; got {shorten(bound)}.")
    if not isinstance(low, Tensor) and not isinstance(high, Tensor) and low > high:
        raise ParamError(f"int({low}, {high}) is empty: swap the bounds.")
    return IntegerInterval(low, high)


_NAMED: dict[str, Constraint] = {
    constraint.name: constraint
    for constraint in (
        *(real, positive, nonnegative, unit, simplex, ordered, positive_ordered, zero_sum, unit_vector),
        *(lower_cholesky, unit_lower_cholesky, corr_cholesky, corr, cov, boolean, count, integer, one_hot),
    )
}
_BOUNDED: dict[str, tuple[tuple[str, ...], Callable[..., Constraint]]] = {
    "interval": (("low", "high"), interval),
    "greater_than": (("low",), greater_than),
    "less_than": (("high",), less_than),
    "integer_interval": (("low", "high"), integer_interval),
}
_BOUND_DTYPES = {"float64": torch.float64, "float32": torch.float32}


def from_json(record: object) -> Constraint:
    """The constraint that `to_json` wrote. Strict, and runs nothing; raises ParamError for anything else."""
    if not isinstance(record, Mapping) or not isinstance(record.get("type"), str):
        raise ParamError(f"not a constraint: {shorten(record)}")
    name, transform = record["type"], record.get("transform")
    if name not in _NAMED and name not in _BOUNDED:
        raise ParamError(f"unknown constraint {shorten(name)}; the constraints are {', '.join((*_NAMED, *_BOUNDED))}.")
    keys = _BOUNDED[name][0] if name in _BOUNDED else ()
    if set(record) != {"type", "transform", *keys} or not isinstance(transform, str):
        raise ParamError(f"the constraint {name} has the fields {shorten(sorted(map(str, record)))}.")
    if name in _NAMED:
        constraint = _NAMED[name]
    else:
        bounds = [_bound_from_json(record[key]) for key in keys]
        if name == "integer_interval" and any(isinstance(bound, Tensor) for bound in bounds):
            raise ParamError("a stored int(a, b) has whole numbers as bounds.")  # no parameter has this type
        constraint = _BOUNDED[name][1](*bounds)
    return constraint if transform == constraint.transform else constraint.via(transform)


def _bound_from_json(record: object) -> Bound:
    if isinstance(record, int | float) and not isinstance(record, bool):
        return record
    if isinstance(record, Mapping) and set(record) == {"dtype", "shape", "values"}:
        dtype, shape, values = _BOUND_DTYPES.get(str(record["dtype"])), record["shape"], record["values"]
        sized = isinstance(shape, list) and all(type(size) is int and size > 0 for size in shape)
        numbers = isinstance(values, list) and all(type(v) is float and math.isfinite(v) for v in values)
        if dtype is not None and sized and numbers and math.prod(shape) == len(values):
            return torch.tensor(values, dtype=dtype).reshape(shape)
    raise ParamError(f"not a bound of a constraint: {shorten(record)}")


# By class name: importing torch.distributions costs start-up time that most programs would pay for nothing.
_FOREIGN: dict[str, Constraint] = {
    "_Real": real,
    "_Simplex": simplex,
    "_LowerCholesky": lower_cholesky,
    "_CorrCholesky": corr_cholesky,
    "_PositiveDefinite": cov,
    "_Boolean": boolean,
    "_OneHot": one_hot,
    "_OrderedVector": ordered,
    "_PositiveOrderedVector": positive_ordered,
    "_UnitLowerCholesky": unit_lower_cholesky,
    "_CorrMatrix": corr,
    "_Sphere": unit_vector,
    "_SoftplusPositive": positive.via("softplus"),
}


def as_constraint(constraint: object) -> Constraint:
    """A constraint of ours for one of ours, of torch.distributions or of Pyro.

    `independent(c, n)` and `real_vector` give the scalar constraint: how many axes are event dims is the parameter's
    `event_dim`. Raises ParamError, naming ours, for anything else.
    """
    if isinstance(constraint, Constraint):
        return constraint
    name = type(constraint).__name__
    source: Any = constraint
    if type(constraint).__module__.split(".")[0] in ("torch", "pyro"):
        if name in _FOREIGN:
            return _FOREIGN[name]
        if name == "_IndependentConstraint":
            return as_constraint(source.base_constraint)
        if name in ("_Interval", "_HalfOpenInterval"):
            unit_bounds = _is_number(source.lower_bound, 0) and _is_number(source.upper_bound, 1)
            return unit if unit_bounds else interval(source.lower_bound, source.upper_bound)
        if name in ("_GreaterThan", "_GreaterThanEq"):
            zero = positive if name == "_GreaterThan" else nonnegative
            return zero if _is_number(source.lower_bound, 0) else greater_than(source.lower_bound)
        if name == "_LessThan":
            return less_than(source.upper_bound)
        if name == "_IntegerInterval":
            return integer_interval(int(source.lower_bound), int(source.upper_bound))
        if name == "_IntegerGreaterThan" and _is_number(source.lower_bound, 0):
            return count
    ours = ", ".join((*_NAMED, *_BOUNDED))
    raise ParamError(f"{shorten(constraint)} is not a constraint that we know; use one of guidedsl's: {ours}.")


def _is_number(bound: object, number: float) -> bool:
    return isinstance(bound, int | float) and bound == number


def _as_bound(bound: object, what: str) -> Bound:
    if isinstance(bound, Tensor):
        return bound if bound.is_floating_point() else bound.to(torch.get_default_dtype())
    if isinstance(bound, bool) or not isinstance(bound, int | float):
        raise ParamError(f"a bound of {what} is a number or a tensor; got {shorten(bound)}.")
    if not abs(bound) <= torch.finfo(torch.float64).max:
        raise ParamError(f"a bound of {what} must be finite; got {bound}.")
    return float(bound)
