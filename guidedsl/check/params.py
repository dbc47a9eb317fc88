"""Params: declared type, initial value and options."""

from __future__ import annotations

from dataclasses import replace

from guidedsl import errors, ir
from guidedsl.check.expressions import Expressions
from guidedsl.check.scope import Symbol
from guidedsl.check.shapes import show
from guidedsl.check.types import Declared, check_type
from guidedsl.ir import Stage
from guidedsl.library import supports as s
from guidedsl.syntax import ast

OPTIONS = ("lr", "frozen")


def check_param(node: ast.Param, owner: str, expressions: Expressions) -> tuple[ir.Param, Symbol] | None:
    """A typed param and its symbol, or None after reporting what is wrong with it."""
    report, scope = expressions.report, expressions.scope
    declared = check_type(node.type, expressions)
    if declared is None:
        return None
    plates = scope.enclosing
    for plate in plates:
        if scope.plates[plate].batching == "minibatch":
            where = scope.plates[plate].span
            report.add(errors.local_param_minibatched(node.name.text, plate, node.span, where), node.name.text)
            return None
    if any(b is not None and b.type.stage >= Stage.PARAM for b in (declared.bounds.low, declared.bounds.high)):
        report.add(errors.bounds_on_latent(node.name.text, node.type.span))
        return None
    kind = declared.support.row
    if kind.free is None:
        hint = "a param is optimised by its gradient: give it a continuous type"
        report.add(errors.malformed_type(str(declared.support), "cannot be optimised", node.type.span, hint))
        return None
    transform = _transform(node, declared, expressions)
    init = _init(node, declared, expressions)
    lr, frozen = _options(node, expressions)
    type = declared.type(plates, Stage.PARAM)
    param = ir.Param(
        node.name.text, f"{owner}.{node.name.text}", type, declared.bounds, init, transform, lr, frozen, node.span
    )
    return param, Symbol(node.name.text, "param", type, plates, node.span)


def _transform(node: ast.Param, declared: Declared, expressions: Expressions) -> str | None:
    if node.via is None:
        return None
    known = declared.support.row.transforms
    if node.via.text not in known:
        owner = f"type `{declared.support}`"
        expressions.report.add(errors.unknown_option(node.via.text, owner, node.via.span, known))
        return None
    return node.via.text


def _options(node: ast.Param, expressions: Expressions) -> tuple[float | None, bool]:
    report = expressions.report
    lr: float | None = None
    frozen = False
    for option in node.options:
        name = option.name.text
        if name == "lr":
            value = expressions.check(option.value) if option.value is not None else None
            if value is None or value.type.value is None or not value.type.value >= 0:
                report.add(errors.bad_option("lr", "a number from 0", option.name.span))
                continue
            lr = value.type.value
        elif name == "frozen":
            frozen = True
            if option.value is not None:
                report.add(errors.bad_option("frozen", "nothing after it", option.name.span))
        else:
            report.add(errors.unknown_option(name, "param", option.name.span, OPTIONS))
    return lr, frozen


def _init(node: ast.Param, declared: Declared, expressions: Expressions) -> ir.Expr | None:
    if node.init is None:
        return None
    report = expressions.report
    inner = expressions.within(replace(expressions.scope, in_init=True))
    init = inner.check(node.init)
    if init is None:
        return None
    if init.type.stage > Stage.DATA:
        hint = "an init may use numbers and data: a latent or another param has no value yet"
        report.add(errors.not_a_value(report.text(node.init.span), "known only while sampling", node.init.span, hint))
        return None
    name, event = node.name.text, declared.event
    if init.type.event not in ((), event):
        hint = f"use `full({', '.join(map(str, event))}, …)`" if event else "declare the param with brackets"
        if len(event) == 1 and init.type.value is None:
            hint = f"use `zeros({event[0]})`, or declare it `{declared.support.kind}{show(init.type.event)}`"
        report.add(errors.init_shape(name, show(init.type.event), show(event), node.init.span, hint))
        return None
    if not init_in_support(node.init, init, declared, expressions):
        return None
    return init


def init_in_support(node: ast.Expr, init: ir.Expr, declared: Declared, expressions: Expressions) -> bool:
    """Whether the initial value may lie in the declared support; literals are decided here, the rest at run time."""
    report, support = expressions.report, declared.support
    if support.structured:
        return _structured(node, init, declared, expressions)
    values = _literals(init)
    symbolic = any(b is not None and b.type.value is None for b in (declared.bounds.low, declared.bounds.high))
    for value in values:
        if not symbolic and not s.point(value).within(support.range):
            report.add(errors.init_outside(f"{value:g}", str(support), node.span, declared.span))
            return False
    range = init.type.support.range
    apart = range.high < support.range.low or range.low > support.range.high
    if not values and not symbolic and apart:
        text = f"`{report.text(node.span)}` ({init.type.support})"
        report.add(errors.init_outside(text, str(support), node.span, declared.span))
        return False
    return True


def _literals(expr: ir.Expr) -> list[float]:
    """The numbers of a literal or of a vector of literals."""
    if expr.type.value is not None:
        return [expr.type.value]
    if isinstance(expr, ir.Stack):
        return [value for item in expr.items for value in _literals(item)]
    if isinstance(expr, ir.Apply) and expr.function.shape == "construct":
        if expr.arguments and expr.function.parameters[-1] == "value":
            return _literals(expr.arguments[-1])
        if expr.function.name in ("zeros", "ones"):
            return [0.0 if expr.function.name == "zeros" else 1.0]
    return []


def _structured(node: ast.Expr, init: ir.Expr, declared: Declared, expressions: Expressions) -> bool:
    kind = declared.support.kind
    if init.type.support.within(declared.support):
        return True
    problem = _problem(kind, init)
    if problem:
        expressions.report.add(errors.init_not_in_set(kind, problem, node.span, declared.span))
        return False
    return True


def _problem(kind: str, init: ir.Expr) -> str:
    """What keeps a literal from being of a structured kind, or nothing."""
    if not init.type.event:
        return f"one number is not a {kind}"
    values = _literals(init)
    rows = _matrix(init)
    if kind == "simplex" and values:
        if min(values) <= 0:
            return f"{min(values):g} is not above 0"
        if isinstance(init, ir.Stack) and len(init.type.event) == 1 and abs(sum(values) - 1) > 1e-6:
            return f"its entries sum to {sum(values):g}, not 1"
    if kind in ("ordered", "positive_ordered") and values:
        if kind == "positive_ordered" and min(values) <= 0:
            return f"{min(values):g} is not above 0"
        for before, after in zip(values, values[1:], strict=False):
            if before >= after:
                return f"{after:g} does not come after {before:g}"
        if not isinstance(init, ir.Stack):
            return "its entries are all equal"
    if rows and kind in ("lower_cholesky", "unit_lower_cholesky", "corr_cholesky"):
        return _triangular(kind, rows)
    if rows and kind in ("cov", "corr"):
        return _symmetric(kind, rows)
    if values and not rows and s.KINDS[kind].rank == 2:
        return "its entries are all equal"
    return ""


def _matrix(init: ir.Expr) -> list[list[float]]:
    if not isinstance(init, ir.Stack) or len(init.type.event) != 2:
        return []
    rows = [_literals(item) for item in init.items]
    return rows if all(len(row) == len(rows) for row in rows) else []


def _triangular(kind: str, rows: list[list[float]]) -> str:
    for i, row in enumerate(rows):
        for j, value in enumerate(row):
            if j > i and value != 0:
                return f"{value:g} stands above the diagonal"
        if row[i] <= 0:
            return f"{row[i]:g} on the diagonal is not above 0"
        if kind == "unit_lower_cholesky" and row[i] != 1:
            return f"{row[i]:g} on the diagonal is not 1"
        if kind == "corr_cholesky" and abs(sum(value * value for value in row) - 1) > 1e-6:
            return f"row {i} does not have length 1"
    return ""


def _symmetric(kind: str, rows: list[list[float]]) -> str:
    for i, row in enumerate(rows):
        for j, value in enumerate(row):
            if value != rows[j][i]:
                return f"entry {i}, {j} is {value:g}, entry {j}, {i} is {rows[j][i]:g}"
        if row[i] <= 0:
            return f"{row[i]:g} on the diagonal is not above 0"
        if kind == "corr" and row[i] != 1:
            return f"{row[i]:g} on the diagonal is not 1"
    return ""
