"""Type expressions: `simplex[T, K]`, `interval(0, sigma)`, `index(county, base = 1)`."""

from __future__ import annotations

from dataclasses import dataclass

from guidedsl import errors, ir
from guidedsl.check.expressions import Expressions
from guidedsl.check.shapes import show
from guidedsl.ir import Bounds, Stage, Type
from guidedsl.library import supports as s
from guidedsl.library.supports import KINDS, Kind, Support
from guidedsl.sizes import Size
from guidedsl.source import Span
from guidedsl.syntax import ast


@dataclass(frozen=True)
class Declared:
    """A declared type: its event shape, support, and the bounds as expressions."""

    event: tuple[Size, ...]
    support: Support
    bounds: Bounds
    span: Span
    index_base: int = 0

    def type(self, plates: tuple[str, ...], stage: Stage) -> Type:
        return Type(self.event, self.support, plates, stage)


NO_BOUNDS = Bounds(None, None)


def check_type(node: ast.TypeExpr, expressions: Expressions) -> Declared | None:
    """The declared type, or None after reporting what is wrong with it."""
    report = expressions.report
    kind = KINDS.get(node.name.text)
    if kind is None:
        report.add(errors.unknown_type(node.name.text, node.name.span, KINDS), node.name.text)
        return None
    sizes = [expressions.size(dim) for dim in node.dims]
    if any(size is None for size in sizes):
        return None
    dims = tuple(size for size in sizes if size is not None)
    least = 1 if kind.rank else 0
    if len(dims) < least:
        report.add(errors.malformed_type(kind.name, "needs a dim", node.span, f"{kind.name}[K]"))
        return None
    event = (*dims, dims[-1]) if kind.square else dims
    if kind.name == "index":
        return _index(node, event, expressions)
    bounded = _bounds(node, kind, expressions)
    if bounded is None:
        return None
    support, bounds = bounded
    return Declared(event, support, bounds, node.span)


def _bounds(node: ast.TypeExpr, kind: Kind, expressions: Expressions) -> tuple[Support, Bounds] | None:
    report = expressions.report
    usage = f"{kind.name}({', '.join(kind.bounds)})" if kind.bounds else kind.name
    given = len(node.arguments)
    optional = kind.discrete
    if any(argument.keyword for argument in node.arguments) or (
        given != len(kind.bounds) and not (optional and given == 0)
    ):
        problem = f"takes {len(kind.bounds)} bounds, {given} given" if kind.bounds else "takes no bounds"
        report.add(errors.malformed_type(kind.name, problem, node.span, usage))
        return None
    if not given:
        return s.support(kind.name), NO_BOUNDS
    values = expressions.all(tuple(argument.value for argument in node.arguments))
    if values is None:
        return None
    for argument, value in zip(node.arguments, values, strict=True):
        if value.type.event:
            shape = show(value.type.event)
            hint = "a bound is one number a row"
            report.add(errors.wrong_shape("a bound", "[]", shape, argument.value.span, hint))
            return None
    texts = tuple(_text(v, report.text(a.value.span)) for v, a in zip(values, node.arguments, strict=True))
    by_name = dict(zip(kind.bounds, values, strict=True))
    low, high = by_name.get("low"), by_name.get("high")
    range = s.Range(
        low.type.support.range.low if low is not None else -s.INF,
        high.type.support.range.high if high is not None else s.INF,
        kind.discrete,
        kind.discrete,
        kind.discrete,
    )
    literal = all(value.type.value is not None for value in values)
    if literal and (range.low > range.high or (range.low == range.high and not kind.discrete)):
        report.add(errors.empty_support(f"{kind.name}({', '.join(texts)})", node.span))
        return None
    return Support(kind.name, range, texts), Bounds(low, high)


def _text(value: ir.Expr, source: str) -> str:
    return f"{value.type.value:g}" if value.type.value is not None else source


def _index(node: ast.TypeExpr, event: tuple[Size, ...], expressions: Expressions) -> Declared | None:
    report, scope = expressions.report, expressions.scope
    usage = "index(county)` or `index(county, base = 1)"
    base = 0
    targets = [argument for argument in node.arguments if argument.keyword is None]
    for argument in node.arguments:
        if argument.keyword is None:
            continue
        value = argument.value
        if argument.keyword.text != "base" or not isinstance(value, ast.Number) or value.value not in (0, 1):
            report.add(errors.malformed_type("index", "takes `base = 0` or `base = 1`", node.span, usage))
            return None
        base = int(value.value)
    if len(targets) != 1 or not isinstance(targets[0].value, ast.Ref):
        report.add(errors.malformed_type("index", "needs a plate or a dim", node.span, usage))
        return None
    target = targets[0].value
    if target.name not in scope.plates and target.name not in scope.dims:
        known = [*scope.plates, *scope.dims]
        report.add(errors.not_declared(target.name, target.span, known, "plate or dim"), target.name)
        return None
    return Declared(event, Support("index", s.COUNT, target=target.name), NO_BOUNDS, node.span, base)
