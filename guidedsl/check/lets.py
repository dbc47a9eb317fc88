"""Lets: their values typed, their types asserted, and themselves written out where they are not seen."""

from __future__ import annotations

from dataclasses import replace

from guidedsl import errors, ir
from guidedsl.check.expressions import Expressions
from guidedsl.check.scope import Symbol
from guidedsl.check.shapes import NEW, fits, show
from guidedsl.check.structured import is_literal, problem_of
from guidedsl.check.types import check_type
from guidedsl.check.walk import substitute, variables
from guidedsl.ir import Stage
from guidedsl.syntax import ast

_MOST_INLINED = 200
"""A bound may be made of lets that read this many values in all."""


def check_let(node: ast.Let | ast.Emit, expressions: Expressions) -> tuple[ir.Let, Symbol] | None:
    """A typed let and its symbol. An asserted type that the lattice cannot prove is left to a check at run time."""
    value = expressions.check(node.value)
    declared = check_type(node.type, expressions) if node.type is not None else None
    if value is None or (node.type is not None and declared is None):
        return None
    enclosing = expressions.scope.enclosing
    if declared is None and NEW in value.type.event:
        expressions.report.add(errors.axis_without_size(node.name.text, show(value.type.event), node.value.span))
        return None
    asserted = None
    event, support = value.type.event, value.type.support
    if declared is not None:
        if not fits(event, declared.event):
            shapes = show(declared.event), show(event)
            assert node.type is not None
            expressions.report.add(errors.shapes_differ(shapes[0], node.type.span, shapes[1], node.value.span))
            return None
        proven = support.within(declared.support)
        if not proven and declared.support.structured and is_literal(value):
            problem = problem_of(declared.support.kind, value)
            if problem:
                finding = errors.let_not_in_set(declared.support.kind, problem, node.value.span, declared.span)
                expressions.report.add(finding)
                return None
        if not proven and value.type.value is not None:
            text, shown = f"{value.type.value:g}", str(declared.support)
            expressions.report.add(errors.let_outside(text, shown, node.value.span, declared.span))
            return None
        asserted = None if proven else declared.support
        event, support = declared.event, declared.support if not proven else support
    type = replace(value.type, event=event, support=support, plates=enclosing, number=False, value=None)
    if not enclosing and not event and value.type.number:
        type = replace(type, number=True)
    bounds = declared.bounds if declared is not None else ir.Bounds(None, None)
    let = ir.Let(node.name.text, value, asserted, bounds, enclosing, event, node.span)
    return let, Symbol(
        node.name.text, "derived" if type.stage <= Stage.DATA else "let", type, enclosing, node.name.span
    )


def written_out(bounds: ir.Bounds, statements: list[ir.ModelStatement]) -> ir.Bounds | None:
    """Bounds with the model's lets replaced by their values, since guides do not see those; None when that is long."""
    if not any(var.role == "let" for var in variables((bounds.low, bounds.high))):
        return bounds
    lets = {s.name: s.value for s in statements if isinstance(s, ir.Let) and s.value.type.stage > Stage.DATA}
    reads: dict[str, int] = {}
    for name, value in lets.items():
        reads[name] = 1 + sum(reads.get(var.name, 1) for var in variables(value))
    if sum(reads.get(var.name, 1) for var in variables((bounds.low, bounds.high))) > _MOST_INLINED:
        return None
    low, high = (substitute(bound, lets) if bound is not None else None for bound in (bounds.low, bounds.high))
    return ir.Bounds(low, high)
