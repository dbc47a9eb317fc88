"""Type expressions: `simplex[T, K]`, `interval(0, sigma)`, `index(county, base = 1)`."""

from __future__ import annotations

from dataclasses import dataclass

from guidedsl import errors, ir
from guidedsl.check.expressions import Expressions
from guidedsl.check.shapes import show
from guidedsl.check.walk import variables
from guidedsl.ir import Bounds, Stage, Type
from guidedsl.library import supports as s
from guidedsl.library.supports import KINDS, Kind, Support
from guidedsl.sizes import Size
from guidedsl.source import Span
from guidedsl.syntax import ast
from guidedsl.syntax.spell import spell


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


def moving_bound(bounds: Bounds) -> ir.Var | None:
    """A latent or a param that the bounds of a type read."""
    return next((var for var in variables((bounds.low, bounds.high)) if var.type.stage > Stage.DATA), None)


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
    nodes = _bound_nodes(node, kind, expressions)
    if nodes is None:
        return None
    if not nodes:
        return s.support(kind.name), NO_BOUNDS
    values = expressions.all(nodes)
    if values is None:
        return None
    for at, value in zip(nodes, values, strict=True):
        if value.type.event:
            shape = show(value.type.event)
            hint = "a bound is one number a row"
            report.add(errors.wrong_shape("a bound", "[]", shape, at.span, hint))
            return None
        if kind.discrete and not value.type.support.range.within(s.INTEGER):
            text = f"{value.type.value:g}" if value.type.value is not None else str(value.type.support)
            problem = f"needs whole numbers for bounds, not {text}"
            report.add(errors.malformed_type(kind.name, problem, at.span, f"{kind.name}(0, 5)"))
            return None
    texts = tuple(bound_text(v, at) for v, at in zip(values, nodes, strict=True))
    by_name = dict(zip(kind.bounds, values, strict=True))
    low, high = by_name.get("low"), by_name.get("high")
    range = range_between(low, high, kind)
    if low is not None and high is not None:
        least, most = low.type.support.range.low, high.type.support.range.high
        if least > most or (least == most and not kind.discrete):
            report.add(errors.empty_support(f"{kind.name}({', '.join(texts)})", node.span))
            return None
    return Support(kind.name, range, texts), Bounds(low, high)


def _bound_nodes(node: ast.TypeExpr, kind: Kind, expressions: Expressions) -> tuple[ast.Expr, ...] | None:
    """The bounds in order, empty where they are left out, or None after reporting that they do not fit the kind."""
    given: dict[str, ast.Expr] = {}
    usage = f"{kind.name}({', '.join(kind.bounds)})" if kind.bounds else kind.name
    problem = ""
    for position, argument in enumerate(node.arguments):
        name = argument.keyword.text if argument.keyword is not None else None
        if name is None and position < len(kind.bounds):
            name = kind.bounds[position]
        if name is None or name not in kind.bounds or name in given:
            count = len(node.arguments)
            problem = f"takes {_count(len(kind.bounds))}, {count} given" if kind.bounds else "takes no bounds"
            if argument.keyword is not None:
                problem = f"has no bound `{name}`" if name not in kind.bounds else f"gets `{name}` twice"
            break
        given[name] = argument.value
    if not problem and len(given) != len(kind.bounds) and not (kind.discrete and not given):
        problem = f"takes {_count(len(kind.bounds))}, {len(given)} given"
    if problem:
        expressions.report.add(errors.malformed_type(kind.name, problem, node.span, usage))
        return None
    return tuple(given[name] for name in kind.bounds if name in given)


def _count(bounds: int) -> str:
    return "one bound" if bounds == 1 else f"{bounds} bounds"


def range_between(low: ir.Expr | None, high: ir.Expr | None, kind: Kind) -> s.Range:
    """The hull of a kind's values between bounds, as far as the lattice knows these."""
    ends = (
        low.type.support.range.low if low is not None else -s.INF,
        high.type.support.range.high if high is not None else s.INF,
    )
    return s.Range(*ends, kind.discrete, kind.discrete, kind.discrete)


def bound_text(value: ir.Expr, node: ast.Expr) -> str:
    """A bound as types show it: its value where it has one."""
    return s.number_text(value.type.value) if value.type.value is not None else spell(node)


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
    target = targets[0].value if len(targets) == 1 else None
    if isinstance(target, ast.Number) and target.value.is_integer() and target.value >= 1:
        return Declared(event, Support("index", s.COUNT, target=str(int(target.value))), NO_BOUNDS, node.span, base)
    if not isinstance(target, ast.Ref):
        report.add(errors.malformed_type("index", "needs a plate, a dim or a number of positions", node.span, usage))
        return None
    if target.name not in scope.plates and target.name not in scope.dims:
        known = [*scope.plates, *scope.dims]
        report.add(errors.not_declared(target.name, target.span, known, "plate or dim"), target.name)
        return None
    return Declared(event, Support("index", s.COUNT, target=target.name), NO_BOUNDS, node.span, base)
