"""Why a distribution has more axes than what it is the distribution of, and the edit that mends it."""

from __future__ import annotations

from guidedsl import ir
from guidedsl.check.expressions import Expressions
from guidedsl.check.scope import Report
from guidedsl.check.shapes import Event, fits, show
from guidedsl.library.functions import FUNCTIONS
from guidedsl.source import Span
from guidedsl.syntax import ast


def too_wide(at: ast.DistExpr, dist: ir.Dist, wanted: Event, expressions: Expressions) -> tuple[Span, str] | None:
    """The part of an argument that brings axes which `wanted` lacks, and what to write instead; None for no such."""
    nodes = _given(at, dist)
    silent = Expressions(Report(expressions.report.source, expressions.report.skipped), expressions.scope)
    batch = wanted[: len(wanted) - dist.own]
    for argument, value, rank in zip(dist.form.values, dist.arguments, dist.ranks, strict=True):
        event, node = value.type.event[: len(value.type.event) - rank], nodes.get(argument.name)
        if node is not None and not fits(event, batch):
            part = _widest(node, silent)
            return part.span, _mended(part, event, silent)
    return None


def _given(at: ast.DistExpr, dist: ir.Dist) -> dict[str, ast.Expr]:
    """The arguments as they are written, by name."""
    names = [argument.name for argument in dist.form.arguments]
    positional = [argument.value for argument in at.arguments if argument.keyword is None]
    named = {argument.keyword.text: argument.value for argument in at.arguments if argument.keyword is not None}
    return dict(zip(names, positional, strict=False)) | named


def _widest(node: ast.Expr, expressions: Expressions) -> ast.Expr:
    """The smallest part of an element-wise expression that its axes come from: a product of two such is one."""
    if isinstance(node, ast.Ref) and node.name in expressions.scope.lets:
        inner = _widest(expressions.scope.lets[node.name], expressions)
        return inner if _is_product(inner) else node
    parts = [part for part in _operands(node) if _event(part, expressions)]
    if not parts or (_is_product(node) and len(parts) > 1):
        return node
    return _widest(parts[0], expressions)


def _operands(node: ast.Expr) -> tuple[ast.Expr, ...]:
    match node:
        case ast.Chain():
            return tuple(term.value for term in node.terms)
        case ast.Negative():
            return (node.operand,)
        case ast.Power():
            return node.base, node.exponent
        case ast.Call() if node.function.text in FUNCTIONS and FUNCTIONS[node.function.text].shape == "elementwise":
            return tuple(argument.value for argument in node.arguments)
    return ()


def _event(node: ast.Expr, expressions: Expressions) -> Event:
    value = expressions.check(node)
    return value.type.event if value is not None else ()


def _is_product(node: ast.Expr) -> bool:
    return isinstance(node, ast.Chain) and any(term.operator == "*" for term in node.terms[1:])


def _mended(part: ast.Expr, event: Event, expressions: Expressions) -> str:
    scope, report = expressions.scope, expressions.report
    text = report.text(part.span)
    if isinstance(part, ast.Vector) and len(part.items) == 1:
        return f"without its brackets `{report.text(part.items[0].span)}` is one number"
    if isinstance(part, ast.Chain):
        vectors = [term.value for term in part.terms if _event(term.value, expressions)]
        if _is_product(part) and len(vectors) == 2:
            left, right = (report.text(vector.span) for vector in vectors)
            one_by_one = all(len(_event(vector, expressions)) == 1 for vector in vectors)
            total = f"dot({left}, {right})" if one_by_one else f"{left} @ {right}"
            return f"`*` goes entry by entry; the sum of products is `{total}`"
        text = f"({text})"
    plate = next((name for name in scope.enclosing if scope.plates[name].size == event[0]), None)
    if plate is None:
        return f"`{text}` has event shape {show(event)}: take an entry, `{text}[0]`, or reduce it, `sum({text})`"
    symbol = scope.symbols.get(part.name) if isinstance(part, ast.Ref) else None
    row = f"the entry of this row is `{text}[{plate}]`"
    if symbol is not None and symbol.role == "param" and scope.in_guide:
        return (
            f"declare `{text}` in plate `{plate}` without the {event[0]}, one value a row; or write `{text}[{plate}]`"
        )
    return row
