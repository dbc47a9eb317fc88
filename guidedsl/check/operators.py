"""Operators: shapes unified by dim name, supports by interval arithmetic, literals and sizes folded."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from guidedsl import errors, ir
from guidedsl.check.algebra import arithmetic_kind, stacked_kind, weighed
from guidedsl.check.shapes import as_size, latest, show, unify
from guidedsl.ir import Type
from guidedsl.library import supports as s
from guidedsl.sizes import Size
from guidedsl.source import Span
from guidedsl.syntax import ast

if TYPE_CHECKING:
    from guidedsl.check.expressions import Expressions

_MOST_NESTED = 100
"""A product may hold this many `@`, which nest."""

_LONGEST_SIZE = 200
"""Sizes with more terms and factors than this are plain numbers to the checker."""


class Operators:
    """Types what operators make, for an expression checker."""

    def __init__(self, expressions: Expressions) -> None:
        self.expressions = expressions
        self.report = expressions.report
        self.scope = expressions.scope

    def check(self, node: ast.Negative | ast.Chain | ast.Power | ast.Compare | ast.Vector) -> ir.Expr | None:
        match node:
            case ast.Negative():
                return self._negative(node)
            case ast.Chain():
                return self._chain(node)
            case ast.Power():
                return self._power(node)
            case ast.Compare():
                return self._compare(node)
            case ast.Vector():
                return self._vector(node)

    def _negative(self, node: ast.Negative) -> ir.Expr | None:
        operand = self.expressions.check(node.operand)
        if operand is None:
            return None
        t = operand.type
        if isinstance(operand, ir.Const):
            return ir.Const(
                -operand.value, replace(t, support=s.elementwise(s.negate(t.support.range)), value=-operand.value)
            )
        value = None if t.value is None else -t.value
        return ir.Negative(operand, replace(t, support=s.elementwise(s.negate(t.support.range)), value=value))

    def _chain(self, node: ast.Chain) -> ir.Expr | None:
        if sum(term.operator == "@" for term in node.terms) > _MOST_NESTED:
            self.report.add(errors.nested_too_deep(node.span))
            return None
        operands = self.expressions.all(tuple(term.value for term in node.terms))
        if operands is None:
            return None
        result = operands[0]
        span = node.terms[0].value.span
        for term, operand in zip(node.terms[1:], operands[1:], strict=True):
            here = term.value.span
            joined = (
                self._matmul(result, operand, span, here)
                if term.operator == "@"
                else self._arithmetic(result, term.operator, operand, span, here)
            )
            if joined is None:
                return None
            result = joined
        return result

    def _arithmetic(
        self, left: ir.Expr, operator: str, right: ir.Expr, left_span: Span, right_span: Span
    ) -> ir.Expr | None:
        combined = self.combine(left.type, right.type, left_span, right_span)
        if combined is None:
            return None
        a, b = left.type.support.range, right.type.support.range
        match operator:
            case "+":
                range = s.add(a, b)
            case "-":
                range = s.add(a, s.negate(b))
            case "*":
                range = s.multiply(a, b)
            case _:
                range = s.real_valued(s.multiply(a, s.reciprocal(b)))
        value = _arithmetic(operator, left.type.value, right.type.value)
        if value is not None:
            range = s.point(value)
        size = _size_of(left, operator, right)
        if size is not None:
            return ir.DimValue(size, Type((), s.elementwise(range), number=True))
        first = ("+" if operator in "+-" else "*", left)
        head = left.terms if isinstance(left, ir.Chain) and _same_level(left, operator) else (first,)
        kind = arithmetic_kind(left, operator, right)
        support = s.elementwise(range) if kind is None else s.support(kind)
        if support.structured and range.within(support.range):
            support = replace(support, range=range)
        return ir.Chain((*head, (operator, right)), replace(combined, support=support, value=value))

    def combine(self, left: Type, right: Type, left_span: Span, right_span: Span) -> Type | None:
        """Shape, plates and stage of an element-wise operation; its support is the caller's."""
        event = unify(left.event, right.event)
        if event is None:
            self.report.add(errors.shapes_differ(show(left.event), left_span, show(right.event), right_span))
            return None
        return Type(
            event,
            s.support("real"),
            self.scope.sort((*left.plates, *right.plates)),
            max(left.stage, right.stage),
            left.number and right.number,
        )

    def _power(self, node: ast.Power) -> ir.Expr | None:
        operands = self.expressions.all((node.base, node.exponent))
        if operands is None:
            return None
        base, exponent = operands
        combined = self.combine(base.type, exponent.type, node.base.span, node.exponent.span)
        if combined is None:
            return None
        value = None
        if base.type.value is not None and exponent.type.value is not None:
            value = _power(base.type.value, exponent.type.value)
        range = s.point(value) if value is not None else s.power(base.type.support.range, exponent.type.value)
        return ir.Power(base, exponent, replace(combined, support=s.elementwise(range), value=value))

    def _compare(self, node: ast.Compare) -> ir.Expr | None:
        operands = self.expressions.all((node.left, node.right))
        if operands is None:
            return None
        left, right = operands
        combined = self.combine(left.type, right.type, node.left.span, node.right.span)
        if combined is None:
            return None
        return ir.Compare(node.operator, left, right, replace(combined, support=s.support("bool")))

    def _matmul(self, left: ir.Expr, right: ir.Expr, left_span: Span, right_span: Span) -> ir.Expr | None:
        a, b = left.type.event, right.type.event
        if not a or not b or len(a) > 2 or len(b) > 2:
            wrong, span = (left, left_span) if not a or len(a) > 2 else (right, right_span)
            hint = "`@` multiplies matrices and vectors; for numbers write `*`"
            shape = show(wrong.type.event)
            self.report.add(errors.wrong_shape("an operand of `@`", "[A] or [A, B]", shape, span, hint))
            return None
        if a[-1] != b[0]:
            why = f" under `@`: {a[-1]} is not {b[0]}"
            self.report.add(errors.shapes_differ(show(a), left_span, show(b), right_span, why))
            return None
        plates = self.scope.sort((*left.type.plates, *right.type.plates))
        stage = latest((left.type, right.type))
        return ir.MatMul(left, right, Type((*a[:-1], *b[1:]), weighed(left.type, right.type), plates, stage))

    def _vector(self, node: ast.Vector) -> ir.Expr | None:
        items = self.expressions.all(node.items)
        if items is None:
            return None
        shapes = {item.type.event for item in items}
        if len(shapes) > 1:
            first, second = items[0], next(item for item in items if item.type.event != items[0].type.event)
            spans = node.items[0].span, node.items[items.index(second)].span
            self.report.add(errors.shapes_differ(show(first.type.event), spans[0], show(second.type.event), spans[1]))
            return None
        range = items[0].type.support.range
        for item in items[1:]:
            range = s.union(range, item.type.support.range)
        plates = self.scope.sort(plate for item in items for plate in item.type.plates)
        event = (Size.of(len(items)), *items[0].type.event)
        stack = ir.Stack(tuple(items), Type(event, s.elementwise(range), plates, latest(i.type for i in items)))
        kind = stacked_kind(stack)
        return stack if kind is None else replace(stack, type=replace(stack.type, support=s.Support(kind, range)))


def _size_of(left: ir.Expr, operator: str, right: ir.Expr) -> Size | None:
    """Arithmetic over dims stays a size where it is one."""
    if not isinstance(left, ir.DimValue) and not isinstance(right, ir.DimValue):
        return None
    a, b = as_size(left), as_size(right)
    if a is None or b is None:
        return None
    result = None
    match operator:
        case "+":
            result = a + b
        case "-":
            result = a - b
        case "*" if a.length * b.length <= _LONGEST_SIZE:
            result = a * b
        case "/" if b.constant is not None:
            result = a.divided(b.constant)
    return result if result is not None and result.length <= _LONGEST_SIZE and result.exact else None


def _same_level(chain: ir.Chain, operator: str) -> bool:
    """Whether `operator` may go on the end of `chain` without brackets."""
    additive = chain.terms[-1][0] in "+-"
    return additive == (operator in "+-")


def _arithmetic(operator: str, a: float | None, b: float | None) -> float | None:
    if a is None or b is None or (operator == "/" and b == 0):
        return None
    match operator:
        case "+":
            result = a + b
        case "-":
            result = a - b
        case "*":
            result = a * b
        case _:
            result = a / b
    return result if math.isfinite(result) else None


def _power(a: float, b: float) -> float | None:
    try:
        result = a**b
    except (OverflowError, ZeroDivisionError):
        return None
    return result if isinstance(result, float) else None
