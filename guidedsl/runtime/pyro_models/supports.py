"""Supports of Pyro's laws as constraints of ours, compared and written as types of the language."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from guidedsl.runtime import constraints
from guidedsl.runtime.constraints import Constraint, as_constraint
from guidedsl.runtime.errors import ParamError
from guidedsl.runtime.sizes import evaluate


def constraint_of(law: Any) -> Constraint | None:
    """Where a law's values lie; None where we have no such type, or its bounds differ from row to row."""
    try:
        support = law.support
        while type(support).__name__ == "_IndependentConstraint":
            support = support.base_constraint
        return _constraint(support)
    except (ParamError, NotImplementedError, AttributeError, ValueError, RuntimeError):
        return None


def _constraint(support: Any) -> Constraint | None:
    kind = type(support).__name__
    low, high = (_number(getattr(support, f"{end}_bound", None)) for end in ("lower", "upper"))
    match kind:
        case "_Interval" | "_HalfOpenInterval":
            if low is None or high is None:
                return None
            return constraints.unit if (low, high) == (0, 1) else constraints.interval(low, high)
        case "_GreaterThan" | "_GreaterThanEq":
            if low is None:
                return None
            zero = constraints.positive if kind == "_GreaterThan" else constraints.nonnegative
            return zero if low == 0 else constraints.greater_than(low)
        case "_LessThan":
            return None if high is None else constraints.less_than(high)
        case "_IntegerInterval" if low is not None:
            # How many there may be at most is each row's own business, as with a Binomial's total.
            return _whole(low, math.inf if high is None else high)
        case "_Multinomial":
            return constraints.count
        case "_IntegerGreaterThan" if low is not None:
            return _whole(low, math.inf)
    return as_constraint(support)


def _whole(low: float, high: float) -> Constraint:
    if (low, high) == (0, math.inf):
        return constraints.count
    return constraints.integer_interval(*(end if math.isinf(end) else int(end) for end in (low, high)))


def _number(bound: Any) -> float | None:
    """A bound as one number, or None where there is none or rows differ."""
    if isinstance(bound, Tensor):
        return float(bound.flatten()[0]) if bound.numel() and bool((bound == bound.flatten()[0]).all()) else None
    return float(bound) if isinstance(bound, int | float) else None


@dataclass(frozen=True)
class Hull:
    """The values that an entry may take, end points left out of account, and the structure among entries, if any."""

    low: float
    high: float
    whole: bool
    structure: str = ""

    def same(self, other: Hull) -> bool:
        """Whether they differ in no more than end points and rounding."""
        if self.structure or other.structure:
            return self.structure == other.structure
        ends = ((self.low, other.low), (self.high, other.high))
        return self.whole == other.whole and all(_close(mine, theirs) for mine, theirs in ends)

    def within(self, other: Hull) -> bool:
        """Whether every value here is one there."""
        if self.structure or other.structure:
            return self.structure == other.structure
        low = other.low <= self.low or _close(other.low, self.low)
        high = other.high >= self.high or _close(other.high, self.high)
        return low and high and (self.whole or not other.whole)


def _close(a: float, b: float) -> bool:
    return a == b or math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-12)


_WHOLE: Mapping[str, tuple[float, float]] = {
    "boolean": (0, 1),
    "count": (0, math.inf),
    "integer": (-math.inf, math.inf),
}
_HALVES = {"positive", "nonnegative"}


def hull(constraint: Constraint, positions: tuple[int, int] | None = None) -> Hull | None:
    """The hull of a constraint; of an index, `positions` are its least and greatest. None where bounds are tensors."""
    if positions is not None:
        return Hull(*positions, whole=True)
    if any(isinstance(bound, Tensor) for bound in constraint.bounds):
        return None
    if constraint.event_dim or constraint.name == "one_hot":
        return Hull(-math.inf, math.inf, False, constraint.notation)
    if constraint.name in _WHOLE:
        return Hull(*_WHOLE[constraint.name], whole=True)
    if constraint.name in _HALVES:
        return Hull(0, math.inf, False)
    if constraint.name == "unit":
        return Hull(0, 1, False)
    low, high = (getattr(constraint, end, infinite) for end, infinite in (("low", -math.inf), ("high", math.inf)))
    return Hull(float(low), float(high), constraint.discrete)


def type_text(constraint: Constraint, sizes: Sequence[str]) -> str:
    """A constraint as a type of the language with these event dims: `simplex[3]`, `index(4)`, `interval(0, 2)`."""
    written = sizes[:-1] if constraint.event_dim == 2 else sizes
    brackets = f"[{', '.join(written)}]" if written else ""
    if constraint.name == "integer_interval":
        low, high = constraint.bounds
        assert not isinstance(low, Tensor)
        assert not isinstance(high, Tensor)
        if low == 0 and not math.isinf(high):
            return f"index({int(high) + 1}){brackets}"
        return f"int({int(low)}, {int(high)}){brackets}" if math.isfinite(low + high) else f"int{brackets}"
    if constraint.name == "nonnegative":
        return f"positive{brackets}"  # the same for a density, and what users write
    bounds = ", ".join(f"{float(bound):.10g}" for bound in constraint.bounds)
    return f"{constraint.notation}{f'({bounds})' if bounds else ''}{brackets}"


def positions(classes: str | None, low: int, dims: Mapping[str, int]) -> tuple[int, int] | None:
    """The least and the greatest value of what has `classes` values, a size."""
    return None if classes is None else (low, low + evaluate(classes, dims) - 1)
