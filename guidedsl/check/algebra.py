"""Which sums, products, quotients and vectors are of a structured type, and where what a simplex weighs lies."""

from __future__ import annotations

from guidedsl import ir
from guidedsl.check.structured import is_literal, problem_of
from guidedsl.ir import Type
from guidedsl.library import supports as s


def arithmetic_kind(left: ir.Expr, operator: str, right: ir.Expr) -> str | None:
    """The structured kind of a sum, a product or a quotient; None where it has none, or that is not known.

    `simplex` for the shares `x / sum(x)` and for the mix `p * a + (1 - p) * b` of two; `cov` for the sum of two; what a
    positive number scales stays a cov or a factor of one.
    """
    a, b = left.type, right.type
    if operator == "/":
        return "simplex" if _is_share(left, right) else None
    if operator == "*":
        scaled = a if not b.event and b.support.range.within(s.POSITIVE) else b
        scale = b if scaled is a else a
        scales = not scale.event and scale.support.range.within(s.POSITIVE)
        return next((kind for kind in _SCALED if scales and scaled.support.within(s.support(kind))), None)
    if operator != "+" or a.event != b.event:
        return None
    if a.support.within(s.support("cov")) and b.support.within(s.support("cov")):
        return "cov"
    weights = _weighted(left), _weighted(right)
    if len(a.event) != 1 or weights[0] is None or weights[1] is None:
        return None
    return "simplex" if _sum_to_one(weights[0], weights[1]) else None


_SCALED = ("cov", "lower_cholesky")


def stacked_kind(stack: ir.Stack) -> str | None:
    """The structured kind of a vector: that of each of its rows, or `simplex` for numbers that add up to 1."""
    kinds = {item.type.support.kind if item.type.support.structured else None for item in stack.items}
    if len(stack.type.event) > 1:
        return kinds.pop() if len(kinds) == 1 else None
    if is_literal(stack) and not problem_of("simplex", stack):
        return "simplex"
    in_unit = [item.type.support.range.within(s.UNIT) and not item.type.event for item in stack.items]
    return "simplex" if len(stack.items) == 2 and in_unit[0] and _is_rest(stack.items[1], stack.items[0]) else None


def weighed(left: Type, right: Type) -> s.Support:
    """Where sums of products along a dim lie: what a simplex weighs stays in the hull of what it weighs."""
    a, b = left.support.range, right.support.range
    if left.support.kind == "simplex":
        if right.support.kind == "simplex" and len(right.event) > 1:
            return right.support
        return s.elementwise(s.real_valued(b))
    if right.support.kind == "simplex" and len(right.event) == 1:
        return s.elementwise(s.real_valued(a))
    for least in (s.POSITIVE, s.NONNEGATIVE):
        if a.within(least) and b.within(least):
            return s.elementwise(least)
    return s.support("real")


def _is_share(value: ir.Expr, total: ir.Expr) -> bool:
    """Whether a positive vector is divided by its sum."""
    if len(value.type.event) != 1 or not value.type.support.range.within(s.POSITIVE):
        return False
    return isinstance(total, ir.Apply) and total.function.name == "sum" and total.arguments == (value,)


def _weighted(value: ir.Expr) -> ir.Expr | None:
    """p of `p * a`, where p is a number from 0 to 1 and `a` a simplex."""
    match value:
        case ir.Chain(terms=((_, one), ("*", other))):
            for weight, part in ((one, other), (other, one)):
                weighs = not weight.type.event and weight.type.support.range.within(s.CLOSED_UNIT)
                if weighs and part.type.support.kind == "simplex":
                    return weight
    return None


def _sum_to_one(one: ir.Expr, other: ir.Expr) -> bool:
    if one.type.value is not None and other.type.value is not None:
        return abs(one.type.value + other.type.value - 1) < 1e-12
    return _is_rest(one, other) or _is_rest(other, one)


def _is_rest(value: ir.Expr, part: ir.Expr) -> bool:
    """Whether a value is `1 - part`."""
    match value:
        case ir.Chain(terms=(("+", ir.Const(value=1.0)), ("-", other))):
            return other == part
    return False
